/*
 * trial.c: whether a service could serve, before it is told to: a child
 * becomes what its workers will be, in their root directory and without
 * privileges, looks for the program or the module, and is thrown away.
 *
 * Called where a configuration is read: at the start, by `preforkd -n', and by
 * the check child of a reload; never by the master's loop, for it waits.
 */

#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define TRIAL_TIME	10000		/* ms */

/* What the worker of such a service begins with; NULL, or what is wrong. */
static const char *
try(const struct conf_service *conf)
{
	char path[PATH_MAX];

	switch (conf->kind) {
	case CONF_RUN:
		return NULL;
	case CONF_EXEC:
		return program_find(conf->command[conf->kind][0], path);
	case CONF_RESIDENT:
	case CONF_MODULE:
		return "not in this version";
	}
	return NULL;
}

/* In the child: nothing into the pipe means that all is well. */
__attribute__((__noreturn__))
static void
child(const struct conf_service *conf, int fd)
{
	const char *why;

	log_forked();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	privs_drop(conf, true);
	if ((why = try(conf)) != NULL &&
	    write(fd, why, strlen(why)) == -1)
		_exit(1);
	_exit(why == NULL ? 0 : 1);
}

/* Its words until it ends or is late; returns how many bytes. */
static size_t
listen_to(int fd, char *text, size_t size)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	const int64_t until = clock_now() + TRIAL_TIME;
	size_t used = 0;
	ssize_t n = -1;
	int64_t left;

	while ((left = until - clock_now()) > 0 && n != 0) {
		if (poll(&pfd, 1, (int)left) != 1)
			continue;
		n = read(fd, text + used, size - 1 - used);
		if (n == -1 && errno != EINTR)
			break;
		used += n > 0 ? (size_t)n : 0;
	}
	text[used] = '\0';
	return used;
}

int
trial(const struct conf_service *conf, char error[CONF_ERROR_MAX])
{
	const char *kind = conf_kind_name(conf->kind);
	char why[CONF_ERROR_MAX / 2], word[CONF_ERROR_MAX / 4];
	int fds[2], status;
	pid_t pid;

	if (conf->kind == CONF_RUN)
		return 0;
	if (pipe2(fds, O_CLOEXEC) == -1)
		return error_say(error, "%s: pipe: %s", kind, strerror(errno));
	if ((pid = fork()) == 0)
		child(conf, fds[1]);
	close(fds[1]);
	if (pid == -1) {
		close(fds[0]);
		return error_say(error, "%s: fork: %s", kind, strerror(errno));
	}
	if (listen_to(fds[0], why, sizeof(why)) == 0)
		strlcpy(why, "the trial of it failed", sizeof(why));
	close(fds[0]);
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		continue;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	log_quote(word, sizeof(word), conf->command[conf->kind][0],
	    strlen(conf->command[conf->kind][0]));
	return error_say(error, "%s %s: %s", kind, word, why);
}
