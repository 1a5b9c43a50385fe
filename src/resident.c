/*
 * resident.c: a program that accepts by itself, and the worker that watches it.
 *
 * The program has the listening socket of its worker, and is all that serves;
 * the worker has set itself up as any other does, starts it, and stays: it
 * says when the program is ready, passes on what it is told, writes the log
 * for it, and at the end kills what is left of the program's session.  So the
 * master sees a worker like any other, and no process of a stranger.
 *
 * Called by worker.c in a process of its own.  Every signal is blocked but
 * while it waits in ppoll(2), and it does not wait anywhere else.
 */

#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <unistd.h>

#include "preforkd.h"

/* One program. */
static struct {
	const struct worker *self;
	const char	*path;
	pid_t		 pid;
	int64_t		 born;
	int64_t		 ready_at;	/* 0: it is */
	int64_t		 kill_at;	/* 0: not told to leave */
	bool		 killed;
	int		 fd;		/* what it says; -1: no more */
	struct says	 says;
} watch;
static _Alignas(4096) struct program_env env;	/* a page, mostly */

int
resident_start(const struct worker *w)
{
	const struct conf_service *conf = w->conf;
	const char *why, *name = conf->command[CONF_RESIDENT][0];
	static char room[PATH_MAX];

	watch.self = w;
	if ((why = program_find(name, room, &watch.path)) != NULL) {
		log_errorx("resident %s: %s", name, why);
		return -1;
	}
	program_env_start(&env, conf);
	program_env_put(&env, "LISTEN_FDS", "1");
	program_env_put(&env, "LISTEN_FDNAMES", "%s", conf->name);
	sig_block(NULL);
	return 0;
}

/* With all that is set aside for it; 0, or -1 with errno. */
static int
start_program(struct program *p)
{
	int fds[2], saved;

	if (pipe2(fds, O_CLOEXEC) == -1)
		return -1;
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	p->fd[1] = p->fd[2] = fds[1];
	watch.pid = program_start(p);
	saved = errno;
	close(fds[1]);
	watch.fd = fds[0];
	errno = saved;
	return watch.pid == -1 ? -1 : 0;
}

/* The listening socket twice: for FastCGI, and for LISTEN_FDS. */
static int
start(void)
{
	const struct conf_service *conf = watch.self->conf;
	struct program p = { .path = watch.path, .env = env.variable,
	    .argv = conf->command[CONF_RESIDENT], .fd = { FD_LISTENER,
	    -1, -1, FD_LISTENER } };
	struct slot *slot = watch.self->slot;

	p.pid_text = program_env_pid(&env, "LISTEN_PID");
	if (start_program(&p) == -1) {
		log_error("resident %s service=%s", watch.path, conf->name);
		return -1;
	}
	watch.says.service = conf->name;
	says_begin(&watch.says, 0, watch.pid);
	watch.born = clock_now();
	watch.ready_at = watch.born + conf->ready_time;
	slot_begin(slot);
	atomic_store_explicit(&slot->program, watch.pid, memory_order_relaxed);
	slot_end(slot);
	return 0;
}

/* All of its session, so that nothing of it holds the socket. */
static void
kill_program(const char *why)
{
	if (why != NULL)
		log_warnx("killing a resident program pid=%ld slot=%d "
		    "service=%s why=\"%s\"", (long)watch.pid,
		    watch.self->number, watch.self->conf->name, why);
	kill(-watch.pid, SIGKILL);
	watch.killed = true;
}

/*
 * The master has gone, perhaps: then SIGALRM would end this process before it
 * has kept the drain time of the program.
 */
static void
tell_to_leave(void)
{
	const struct conf_service *conf = watch.self->conf;

	alarm(0);
	watch.kill_at = clock_now() + conf->drain_timeout;
	kill(-watch.pid, value_stop_signal(conf));
	/* One that was stopped would not hear it. */
	kill(-watch.pid, SIGCONT);
}

/* What there is to do now; returns when there will be more, 0: unknown. */
static int64_t
act(void (*ready)(void))
{
	const int64_t now = clock_now();

	if (handler_pending[SIGQUIT] && !watch.killed)
		kill_program(NULL);
	if (handler_retired && watch.kill_at == 0)
		tell_to_leave();
	if (watch.killed)
		return 0;
	if (watch.kill_at != 0) {
		if (now >= watch.kill_at)
			kill_program("drain-timeout passed");
		return watch.kill_at;
	}
	if (watch.ready_at != 0 && now >= watch.ready_at) {
		watch.ready_at = 0;
		ready();
	}
	return watch.ready_at;
}

/* What it has said, or some of it. */
static void
hear(void)
{
	char buf[16384];
	ssize_t n;

	if ((n = read(watch.fd, buf, sizeof(buf))) > 0)
		says_feed(&watch.says, clock_now(), buf, (size_t)n);
	if (n != 0)
		return;
	close(watch.fd);
	watch.fd = -1;
}

/* It has ended: no more than a pipe holds, for others may write on. */
static void
hear_last(void)
{
	int i;

	for (i = 0; i < 8 && watch.fd != -1; i++)
		hear();
	says_finish(&watch.says, clock_now());
}

/* Until then, 0 for ever; or it says something, or a signal comes. */
static void
wait_until(int64_t when)
{
	struct pollfd pfd = { .fd = watch.fd, .events = POLLIN };
	const int64_t due = says_due(&watch.says);
	int64_t ms = -1;

	if (due != 0 && (when == 0 || due < when))
		when = due;
	if (when != 0)
		ms = when > clock_now() ? when - clock_now() : 0;
	if (sig_poll(&pfd, 1, ms) == -1 && errno != EINTR)
		log_error("ppoll");
	if (pfd.revents != 0)
		hear();
	else if (due != 0 && clock_now() >= due)
		says_feed(&watch.says, clock_now(), "", 0);
}

/* What its end means for the worker. */
static int
judge(int status)
{
	struct slot *slot = watch.self->slot;
	const int64_t age = clock_now() - watch.born;

	if (watch.killed || watch.kill_at != 0)
		return WORKER_LEFT;
	if (watch.ready_at == 0 && WIFEXITED(status) &&
	    WEXITSTATUS(status) == 0) {
		log_info("resident program left pid=%ld slot=%d service=%s "
		    "age=%lld.%03d", (long)watch.pid, watch.self->number,
		    watch.self->conf->name, (long long)(age / 1000),
		    (int)(age % 1000));
		return WORKER_LEFT;
	}
	slot_begin(slot);
	atomic_store_explicit(&slot->program_status, status,
	    memory_order_relaxed);
	slot_end(slot);
	return WORKER_PROGRAM_ENDED;
}

int
resident_watch(void (*ready)(void))
{
	int status;

	if (handler_retired)
		return WORKER_LEFT;
	if (start() == -1)
		return WORKER_SERVICE_FAILED;
	while (!program_ended(watch.pid, &status))
		wait_until(act(ready));
	hear_last();
	return judge(status);
}
