/*
 * daemon.c: the process as an administrator meets it: descriptors, background
 * with readiness, pid file.
 *
 * The command that starts a server in the background ends when it is known
 * whether it serves: its child, the master to be, writes a byte into a pipe
 * when the workers are ready and the pid file is written; a child that ends
 * before passes on its exit status.  Until then the child's messages go to the
 * caller's standard error.
 *
 * The pid file is a locked file: the lock, held by the master alone for life,
 * says that the server lives; a file that is left over means nothing.  Workers
 * close the descriptor first thing (worker.c).
 */

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <libutil.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define LOCK_TRIES	20		/* of 50 ms: one second */

static int ready_fd = -1;		/* the caller waits at the other end */
static struct pidfh *pidfile;

void
daemon_descriptors(void)
{
	int fd;

	do {
		if ((fd = open("/dev/null", O_RDWR)) == -1)
			fatal("open /dev/null");
	} while (fd < FD_LOG);
	closefrom(FD_LOG);
}

/* The caller's process: wait, pass on signals, end as the child says. */
__attribute__((__noreturn__))
static void
wait_for_child(pid_t child, int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	sigset_t none;
	char byte;
	int status;

	sig_master();
	sigemptyset(&none);
	while (ppoll(&pfd, 1, NULL, &none) == -1 && errno == EINTR)
		if (handler_pending[SIGTERM] || handler_pending[SIGINT] ||
		    handler_pending[SIGQUIT])
			kill(child, SIGTERM);
	if (read(fd, &byte, 1) == 1)
		_exit(0);
	while (waitpid(child, &status, 0) == -1 && errno == EINTR)
		;
	_exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ?
	    WEXITSTATUS(status) : 1);
}

void
daemon_background(void)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) == -1)
		fatal("pipe");
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid != 0) {
		close(fds[1]);
		wait_for_child(pid, fds[0]);
	}
	close(fds[0]);
	if (setsid() == -1)
		fatal("setsid");
	/* Out of the way of the numbers that workers share. */
	ready_fd = fcntl(fds[1], F_DUPFD_CLOEXEC, FD_FIRST_FREE);
	if (ready_fd == -1)
		fatal("fcntl F_DUPFD_CLOEXEC");
	close(fds[1]);
}

void
daemon_ready(void)
{
	if (ready_fd == -1)
		return;
	if (dup2(FD_NULL, STDIN_FILENO) == -1 ||
	    dup2(FD_NULL, STDOUT_FILENO) == -1 ||
	    dup2(FD_NULL, STDERR_FILENO) == -1)
		log_error("dup2 of /dev/null");
	if (write(ready_fd, "", 1) == -1)
		log_warn("write to the command that started the server");
	close(ready_fd);
	ready_fd = -1;
}

void
daemon_tell(const char *why)
{
	if (ready_fd != -1)
		dprintf(STDERR_FILENO, "preforkd: cannot start: %s\n", why);
}

/*
 * The file would be written by root: nobody else may have put it there, or be
 * able to put another in its place.
 */
static int
check_place(const char *path, char error[CONF_ERROR_MAX])
{
	char copy[PATH_MAX];
	const char *dir;
	struct stat st;

	strlcpy(copy, path, sizeof(copy));
	dir = dirname(copy);
	if (stat(dir, &st) == -1) {
		snprintf(error, CONF_ERROR_MAX, "pidfile %s: %s", path,
		    strerror(errno));
		return -1;
	}
	if ((st.st_uid != 0 && st.st_uid != geteuid()) ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		snprintf(error, CONF_ERROR_MAX, "pidfile %s: its directory "
		    "must belong to this user or root and be writable by no "
		    "other", path);
		return -1;
	}
	if (lstat(path, &st) == -1 && errno == ENOENT)
		return 0;
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1 ||
	    (st.st_uid != 0 && st.st_uid != geteuid())) {
		snprintf(error, CONF_ERROR_MAX, "pidfile %s: must be a "
		    "regular file of this user or root", path);
		return -1;
	}
	return 0;
}

int
daemon_lock(const char *path, char error[CONF_ERROR_MAX])
{
	pid_t other = 0;
	int i;

	if (check_place(path, error) == -1)
		return -1;
	for (i = 0; i < LOCK_TRIES; i++) {
		if ((pidfile = pidfile_open(path, 0644, &other)) != NULL)
			return 0;
		if (errno != EEXIST && errno != EAGAIN)
			break;
		poll(NULL, 0, 50);
	}
	if (errno == EEXIST)
		snprintf(error, CONF_ERROR_MAX, "pidfile %s: preforkd is "
		    "running already, pid %ld", path, (long)other);
	else
		snprintf(error, CONF_ERROR_MAX, "pidfile %s: %s", path,
		    strerror(errno));
	return -1;
}

int
daemon_write_pid(void)
{
	if (pidfile == NULL)
		return 0;
	return pidfile_write(pidfile);
}

void
daemon_remove_pid(void)
{
	if (pidfile != NULL)
		pidfile_remove(pidfile);
	pidfile = NULL;
}
