/*
 * launch.c: programs of an exec service: found, started, and heard.
 *
 * In a worker, for exec.c and prespawn.c: the file of the program is looked
 * for once, its standard error is a pipe of its own, its session is known to
 * session.c.  What it says becomes lines of the log, of one program at a time.
 * That a program cannot be started is said once in a second, by all workers of
 * the service together.
 */

#include <sys/types.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define FAILURES_EVERY	1000	/* ms between lines about exec that fails */
#define LAST_READS	32	/* a pipe holds no more, unless it is fed */

static HOT const struct conf_service *service;
static HOT struct commons_service *commons;
static HOT const char *path;		/* NULL: not found yet */
static HOT struct says says;
static char words[65536];

void
launch_setup(const struct worker *w)
{
	service = w->conf;
	commons = &w->board->commons->service[w->service];
	says.service = service->name;
}

void
launch_failed(const char *why)
{
	int64_t now = clock_now(), told = atomic_load(&commons->told);
	unsigned int n = atomic_fetch_add(&commons->failures, 1) + 1;

	if (told != 0 && now >= told && now < told + FAILURES_EVERY)
		return;
	if (!atomic_compare_exchange_strong(&commons->told, &told, now))
		return;
	atomic_store(&commons->failures, 0);
	log_errorx("exec %s service=%s failures=%u: %s",
	    service->command[CONF_EXEC][0], service->name, n, why);
}

static void
close_words(struct launch *l)
{
	if (l->words[0] == -1)
		return;
	close(l->words[0]);
	close(l->words[1]);
	l->words[0] = -1;
}

/*
 * Its standard error, for the program.  Both ends of the pipe stay open, or
 * the program would wake this worker when it closes its own, just before the
 * end that it waits for.
 */
static int
open_words(struct launch *l, int fd)
{
	l->words[0] = -1;
	if (service->exec_stderr == CONF_STDERR_SOCKET)
		return fd;
	if (pipe2(l->words, O_CLOEXEC) == -1)
		return -1;
	/* The program could read from its own end, and leave nothing here. */
	if (fcntl(l->words[0], F_SETFL, O_NONBLOCK) == -1) {
		close_words(l);
		return -1;
	}
	return l->words[1];
}

/*
 * Looked for by the first one, and then not again unless it was not found.
 * Returns NULL, or what is wrong.
 */
static const char *
find(void)
{
	static char room[PATH_MAX];
	const char *why;

	if (path != NULL)
		return NULL;
	why = program_find(service->command[CONF_EXEC][0], room, &path);
	if (why != NULL)
		path = NULL;
	return why;
}

const char *
launch(struct launch *l, int fd, char *const *env)
{
	struct program p = { .env = env,
	    .argv = service->command[CONF_EXEC], .fd = { fd, fd, -1, -1 } };
	const char *why;
	pid_t pid = -1;
	int error;

	if ((why = find()) != NULL)
		return why;
	p.path = path;
	if ((p.fd[2] = open_words(l, fd)) != -1)
		pid = program_start(&p);
	if (pid == -1) {
		error = errno;
		close_words(l);
		return strerror(error);
	}
	session_begin(&l->session, pid);
	return NULL;
}

void
launch_listen(const struct launch *l, uint64_t client)
{
	says_begin(&says, client, l->session.pid);
}

void
launch_hear(struct launch *l, int64_t now)
{
	ssize_t n = read(l->words[0], words, sizeof(words));

	if (n > 0)
		says_feed(&says, now, words, (size_t)n);
	else if (n == 0 || (errno != EINTR && errno != EAGAIN))
		close_words(l);
}

void
launch_hear_last(struct launch *l, int64_t now)
{
	int i, size;

	for (i = 0; i < LAST_READS && l->words[0] != -1; i++) {
		if (ioctl(l->words[0], FIONREAD, &size) == -1 || size == 0)
			break;
		launch_hear(l, now);
	}
	close_words(l);
	says_end(&says, now);
}

int64_t
launch_due(void)
{
	return says_due(&says);
}

void
launch_tell(int64_t now)
{
	if (says_due(&says) != 0 && now >= says_due(&says))
		says_feed(&says, now, "", 0);
}

void
launch_stop(void)
{
	says_finish(&says, clock_now());
}

char *
launch_status(const struct launch *l, char *buf, size_t size)
{
	const int status = l->session.status;

	if (WIFSIGNALED(status))
		snprintf(buf, size, "signal=%s", sig_name(WTERMSIG(status)));
	else
		snprintf(buf, size, "exit=%d", WEXITSTATUS(status));
	return buf;
}
