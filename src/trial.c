/*
 * trial.c: whether a service could serve, before it is told to: a child
 * becomes what its workers will be, in their root directory and without
 * privileges, looks for the program, or loads and starts the module, and is
 * thrown away.
 *
 * Called where a configuration is read: at the start, by `preforkd -n', and by
 * the check child of a reload; never by the master's loop, for it waits.
 *
 * What a module says is shown, after it was escaped, and not believed.  It may
 * have a user's rights while the caller has root's, so the child has none of
 * the caller's descriptors, the one that the master reads a configuration from
 * above all.
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

#define TRIAL_TIME	8000	/* ms; less than the check of a reload has */

/* What the worker of such a service begins with; NULL, or what is wrong. */
static const char *
try(const struct conf_service *conf)
{
	static char text[CONF_ROOT_MAX + 80];
	const struct preforkd_service *service;
	char room[PATH_MAX];
	const char *path, *why;

	if (privs_settle(conf) == -1) {
		snprintf(text, sizeof(text), "chdir %s: %s", conf->chdir,
		    strerror(errno));
		return text;
	}
	switch (conf->kind) {
	case CONF_RUN:
		return NULL;
	case CONF_EXEC:
	case CONF_RESIDENT:
		return program_find(conf->command[conf->kind][0], room,
		    &path);
	case CONF_MODULE:
		if ((why = module_enter(conf, &service)) == NULL)
			module_leave(service, TRIAL_TIME / 1000);
		return why;
	}
	return NULL;
}

/* In the child: the text of a verdict, with its NUL. */
static void
work(void *arg, int fd)
{
	const struct conf_service *conf = arg;
	const pid_t parent = getppid();
	const char *why;

	privs_drop(conf, false);
	prctl(PR_SET_PDEATHSIG, SIGKILL);	/* again */
	if (getppid() != parent)
		_exit(1);
	log_to_pipe(-1, NULL);
	if (dup3(fd, FD_LOG, O_CLOEXEC) == -1 && fd != FD_LOG)
		_exit(1);
	closefrom(FD_LOG + 1);
	if ((why = try(conf)) == NULL)
		why = "";
	_exit(write(FD_LOG, why, strlen(why) + 1) == -1 ? 1 : 0);
}

__attribute__((__noreturn__))
static void
child(void (*task)(void *, int), void *arg, int fd, pid_t parent)
{
	log_forked();
	log_set_level(LOG_LEVEL_ALERT);
	signal(SIGPIPE, SIG_IGN);	/* it ends no worker either */
	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	task(arg, fd);
	_exit(0);
}

/* Until it has spoken, has ended or is late; not for whom it leaves behind. */
static enum verdict
listen_to(int fd, int64_t until, char *text, size_t size)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	size_t used = 0;
	ssize_t n;
	int64_t left;

	while ((left = until - clock_now()) > 0) {
		if (poll(&pfd, 1, (int)left) != 1)
			continue;
		n = read(fd, text + used, size - used);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			return VERDICT_DIED;
		used += (size_t)n;
		if (memchr(text, '\0', used) != NULL)
			return VERDICT_SAID;
	}
	return VERDICT_LATE;
}

/* How it ended, when it did so without a word. */
static void
tell_death(int status, char *text, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(text, size, "the trial of it died of %s",
		    sig_name(WTERMSIG(status)));
	else
		snprintf(text, size, "the trial of it ended with exit %d",
		    WEXITSTATUS(status));
}

/* One that has closed the pipe may live on. */
static bool
ends(pid_t pid, int64_t until, int *status)
{
	while (!program_ended(pid, status)) {
		if (clock_now() >= until)
			return false;
		poll(NULL, 0, 10);
	}
	return true;
}

/* The child, and whom it has started in its session, end. */
static enum verdict
judge(pid_t pid, int fd, char *text, size_t size)
{
	const int64_t until = clock_now() + TRIAL_TIME;
	enum verdict verdict = listen_to(fd, until, text, size);
	int status;

	if (verdict == VERDICT_DIED && ends(pid, until, &status)) {
		tell_death(status, text, size);
		return verdict;
	}
	kill(-pid, SIGKILL);
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		continue;
	if (verdict == VERDICT_SAID)
		return verdict;
	snprintf(text, size, "the trial of it took too long: must be over "
	    "within %d seconds", TRIAL_TIME / 1000);
	return VERDICT_LATE;
}

enum verdict
trial_child(void (*task)(void *, int), void *arg, char *text, size_t size)
{
	enum verdict verdict = VERDICT_NONE;
	const pid_t self = getpid();
	int error, fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) == -1)
		return verdict;
	if ((pid = fork()) == 0)
		child(task, arg, fds[1], self);
	error = errno;
	close(fds[1]);
	if (pid != -1)
		verdict = judge(pid, fds[0], text, size);
	close(fds[0]);
	errno = error;
	return verdict;
}

int
trial(const struct conf_service *conf, char error[CONF_ERROR_MAX])
{
	const char *kind = conf_kind_name(conf->kind);
	const char *what = conf->kind == CONF_RUN ? conf->run.service->name :
	    conf->command[conf->kind][0];
	char why[CONF_ERROR_MAX / 2], text[CONF_ERROR_MAX / 2];
	char word[CONF_ERROR_MAX / 4];
	struct conf_service tried = *conf;

	if (conf->kind == CONF_RUN && strcmp(conf->chdir, "/") == 0)
		return 0;
	if (trial_child(work, &tried, why, sizeof(why)) == VERDICT_NONE)
		return error_say(error, "%s: no child for the trial of it: "
		    "%s", kind, strerror(errno));
	if (why[0] == '\0')
		return 0;
	log_quote(text, sizeof(text), why, strlen(why));
	log_quote(word, sizeof(word), what, strlen(what));
	return error_say(error, "%s %s: %s", kind, word, text);
}
