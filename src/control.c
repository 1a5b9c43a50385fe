/*
 * control.c: a signal to the master, and what becomes of it.
 *
 * A signal goes only to the process that holds the lock of the status file
 * and wrote it, looked up once more when a pidfd has pinned that process (or
 * as late as can be, where there are none): never to a stranger that has
 * inherited a pid (RULES R34).  Process 1 is the master of a container: it
 * needs no refusal of its own, as no other process 1 holds the lock.
 *
 * The outcome is read in the scoreboard.  Reloads fold, and one may be under
 * way: the one to wait for is the first that begins after the signal.  Of an
 * upgrade only what is the same in every layout is read, for the new program
 * may have another, and then a new status file.
 */

#include <sys/types.h>
#ifdef HAVE_PIDFD
#include <sys/pidfd.h>
#endif

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define LOOK_EVERY	20	/* ms */

enum outcome { WAITING, DONE, FAILED };

/* The counters before the signal. */
struct before {
	uint32_t	 reloads_begun, upgrades_begun;
	uint32_t	 log_reopened, log_reopen_failed;
};

struct request {
	const char	*name;
	int		 signal;
	/* Says what came of it, once that is known. */
	enum outcome	(*judge)(struct snapshot *, const struct before *);
};

/* How many are served; by generations that leave only. */
static unsigned int
clients(struct snapshot *s, bool old)
{
	char error[CONF_ERROR_MAX];
	const struct slot *c;
	unsigned int n = 0;

	if (s->nslots == 0 || snapshot_read_slots(s, error) == -1)
		return 0;
	for (c = s->slot; c < s->slot + s->nslots; c++)
		if (look_serving(c))
			n += !old || c->generation != s->status.generation;
	return n;
}

static enum outcome
no_master(const struct snapshot *s)
{
	log_warnx("the master has %s", s->status.state == MASTER_STOPPED ?
	    "stopped" : "died");
	return FAILED;
}

/* No outcome so far; will there be one? */
static enum outcome
not_yet(const struct snapshot *s)
{
	if (!s->alive)
		return no_master(s);
	if (s->status.state >= MASTER_DRAINING) {
		log_warnx("the server is being stopped");
		return FAILED;
	}
	return WAITING;
}

/* Once for each generation that is waited for. */
static void
say_waits(const struct status *s)
{
	static uint32_t said;

	if (s->reload_waits == said || s->reload_waits == 0)
		return;
	said = s->reload_waits;
	printf("the reload waits for %u old connections of generation %u\n",
	    s->reload_waits_for, said);
	fflush(stdout);
}

static enum outcome
judge_reload(struct snapshot *s, const struct before *before)
{
	static char why[4 * sizeof(s->status.reload_why)];

	if (s->status.reloaded > before->reloads_begun) {
		printf("reloaded, generation %u, %u old clients finish\n",
		    s->status.generation, clients(s, true));
		return DONE;
	}
	if (s->status.reloads > before->reloads_begun) {
		log_warnx("reload failed: %s", log_quoted(why, sizeof(why),
		    s->status.reload_why));
		return FAILED;
	}
	say_waits(&s->status);
	return not_yet(s);
}

static enum outcome
judge_upgrade(struct snapshot *s, const struct before *before)
{
	static char from[4 * STATUS_PRODUCT], to[4 * STATUS_PRODUCT];
	static char why[4 * sizeof(s->status.upgrade.why)];
	const struct status_upgrade *u = &s->status.upgrade;

	log_quote(from, sizeof(from), u->from, strlen(u->from));
	log_quote(to, sizeof(to), s->status.product, strlen(s->status.product));
	log_quote(why, sizeof(why), u->why, strlen(u->why));
	if (u->done > before->upgrades_begun) {
		printf("upgraded from %s to %s\n", from, to);
		return DONE;
	}
	if (u->ended > before->upgrades_begun) {
		if (u->from[0] == '\0')
			log_warnx("upgrade failed: %s", why);
		else
			log_warnx("upgraded from %s to %s, but the old "
			    "workers go on: %s", from, to, why);
		return FAILED;
	}
	return not_yet(s);
}

static enum outcome
judge_reopen(struct snapshot *s, const struct before *before)
{
	if (s->log_reopen_failed != before->log_reopen_failed) {
		log_warnx("the log could not be reopened and goes on in the "
		    "old file, where the reason is");
		return FAILED;
	}
	if (s->log_reopened != before->log_reopened) {
		printf("reopened\n");
		return DONE;
	}
	return s->alive ? WAITING : no_master(s);
}

static enum outcome
judge_stop(struct snapshot *s, const struct before *before)
{
	(void)before;
	if (s->alive)
		return WAITING;
	if (s->status.state != MASTER_STOPPED)
		return no_master(s);
	printf("stopped, %llu clients cut\n",
	    (unsigned long long)s->status.cut);
	return DONE;
}

/* A descriptor of the process in *fd, or -1 where there are none. */
static int
pin(pid_t pid, int *fd)
{
	*fd = -1;
#ifdef HAVE_PIDFD
	*fd = pidfd_open(pid, 0);
	if (*fd == -1 && errno != ENOSYS && errno != EPERM)
		return -1;
#else
	(void)pid;
#endif
	return 0;
}

static int
send_signal(int pidfd, pid_t pid, int number)
{
#ifdef HAVE_PIDFD
	if (pidfd != -1)
		return pidfd_send_signal(pidfd, number, NULL, 0);
#endif
	(void)pidfd;
	return kill(pid, number);
}

/* What the master was asked for has come about, or not in time. */
static int
wait_for(struct server *server, const struct request *r,
    const struct before *before, int pidfd)
{
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	int64_t until = clock_now() + server->timeout * 1000LL;
	char error[CONF_ERROR_MAX];
	enum outcome outcome;

	for (;;) {
		/* Unstable for now, perhaps. */
		outcome = server->read(&server->now, error) == -1 ? WAITING :
		    r->judge(&server->now, before);
		if (outcome != WAITING)
			return outcome == DONE ? CTL_OK : CTL_BAD;
		if (server->timeout != 0 && clock_now() >= until)
			break;
		if (poll(&pfd, 1, LOOK_EVERY) == 1)
			pfd.fd = -1;		/* it is gone: look again */
	}
	log_warnx("%s: no outcome within %d s, but it goes on: state %s, "
	    "%u clients", r->name, server->timeout,
	    master_state_name(server->now.status.state),
	    clients(&server->now, false));
	return CTL_BAD;
}

/* Whoever holds the lock now that its pid is pinned is the master. */
static int
signal_and_wait(struct server *server, const struct request *r, int pidfd)
{
	struct snapshot *s = &server->now;
	pid_t pid = s->status.pid;
	char error[CONF_ERROR_MAX];
	struct before before;

	if (server->read(s, error) == -1 ||
	    server_identify(server, true, error) == -1) {
		log_warnx("%s: nothing sent: %s", r->name, error);
		return CTL_UNKNOWN;
	}
	before.reloads_begun = s->status.reloads_begun;
	before.upgrades_begun = s->status.upgrade.begun;
	before.log_reopened = s->log_reopened;
	before.log_reopen_failed = s->log_reopen_failed;
	/* A second SIGTERM would cut the clients that the first one spares. */
	if (r->signal == SIGTERM && s->status.state >= MASTER_DRAINING)
		log_warnx("the server is being stopped already");
	else if (send_signal(pidfd, pid, r->signal) == -1) {
		log_warn("%s: process %d", r->name, pid);
		return CTL_BAD;
	}
	return wait_for(server, r, &before, pidfd);
}

static int
request(struct server *server, const struct request *r)
{
	char error[CONF_ERROR_MAX];
	int code, pidfd;

	if (!server->now.alive) {
		log_warnx("%s: no master is alive", r->name);
		return CTL_DOWN;
	}
	if (server_identify(server, true, error) == -1) {
		log_warnx("%s: nothing sent: %s", r->name, error);
		return CTL_UNKNOWN;
	}
	if (pin(server->now.status.pid, &pidfd) == -1) {
		log_warn("%s: process %d", r->name, server->now.status.pid);
		return CTL_BAD;
	}
	code = signal_and_wait(server, r, pidfd);
	if (pidfd != -1)
		close(pidfd);
	return code;
}

int
control_reload(struct server *server)
{
	static const struct request r = { "reload", SIGHUP, judge_reload };

	return request(server, &r);
}

int
control_reopen(struct server *server)
{
	static const struct request r = { "reopen", SIGUSR1, judge_reopen };

	return request(server, &r);
}

int
control_stop(struct server *server)
{
	static const struct request r = { "stop", SIGTERM, judge_stop };

	return request(server, &r);
}

int
control_upgrade(struct server *server)
{
	static const struct request r = { "upgrade", SIGUSR2, judge_upgrade };

	return request(server, &r);
}
