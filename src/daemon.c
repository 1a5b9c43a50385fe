/*
 * daemon.c: the process as an administrator meets it: descriptors, background
 * with readiness, pid file.
 *
 * The command that starts a server in the background ends when it is known
 * whether it serves: its child, the master to be, writes a byte into a pipe
 * when the workers are ready and the pid file is written; a child that ends
 * before has said why.  Until then errors go to the caller's standard
 * error, too; then every process lets go of it.
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
static bool keep_stderr;

/* fd -1: none.  The lock is the descriptor's, and outlives an exec(2). */
static struct {
	char	*path;
	int	 fd;
} pidfile = { NULL, -1 };

void
daemon_descriptors(int n)
{
	int fd;

	do {
		if ((fd = open("/dev/null", O_RDWR)) == -1)
			fatal("open /dev/null");
	} while (fd < FD_LOG);
	closefrom(FD_LOG + n);
}

/* Whether a signal came that is to end the start. */
static bool
told_to_stop(void)
{
	bool told = handler_pending[SIGTERM] || handler_pending[SIGINT] ||
	    handler_pending[SIGQUIT];

	handler_pending[SIGTERM] = handler_pending[SIGINT] =
	    handler_pending[SIGQUIT] = 0;
	return told;
}

/* The caller's process: wait, pass on signals, end as the child says. */
__attribute__((__noreturn__))
static void
wait_for_child(pid_t child, int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char byte;
	int status;

	sig_master();
	while (sig_poll(&pfd, 1, -1) == -1 && errno == EINTR)
		if (told_to_stop())
			kill(child, SIGTERM);
	if (read(fd, &byte, 1) == 1)
		_exit(0);
	while (waitpid(child, &status, 0) == -1 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		log_errorx("the server died while it started: %s",
		    sig_name(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != 1)	/* else it has said why */
		log_errorx("the server was told to stop while it started");
	_exit(1);
}

void
daemon_background(bool log_is_stderr)
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
	keep_stderr = log_is_stderr;
	if (setsid() == -1)
		fatal("setsid");
	/* Out of the way of the numbers that workers share. */
	ready_fd = fcntl(fds[1], F_DUPFD_CLOEXEC, FD_FIRST_FREE);
	if (ready_fd == -1)
		fatal("fcntl F_DUPFD_CLOEXEC");
	close(fds[1]);
}

/* Whoever reads what the command says must see its end. */
void
daemon_let_go(void)
{
	log_echo(false);
	if (ready_fd == -1)
		return;
	if (dup2(FD_NULL, STDIN_FILENO) == -1 ||
	    dup2(FD_NULL, STDOUT_FILENO) == -1 ||
	    (!keep_stderr && dup2(FD_NULL, STDERR_FILENO) == -1))
		log_error("dup2 of /dev/null");
}

void
daemon_ready(void)
{
	daemon_let_go();
	if (ready_fd == -1)
		return;
	if (write(ready_fd, "", 1) == -1)
		log_warn("write to the command that started the server");
	close(ready_fd);
	ready_fd = -1;
}

static int
refuse(char error[CONF_ERROR_MAX], const char *path, const char *why)
{
	return error_at(error, "pidfile", path, why);
}

/*
 * The file is written by root, perhaps: nobody else may have put it there, or
 * be able to put another in its place.
 */
static int
check_place(const char *path, char error[CONF_ERROR_MAX])
{
	char copy[PATH_MAX], dir[PATH_MAX];
	const char *why;
	struct stat st;

	strlcpy(copy, path, sizeof(copy));
	if ((why = privs_directory(dirname(copy), dir)) != NULL)
		return refuse(error, dir, why);
	if (lstat(path, &st) == -1)
		return errno == ENOENT ? 0 :
		    refuse(error, path, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return refuse(error, path, "must be a regular file");
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return refuse(error, path, "must not belong to another user");
	return 0;
}

/* One that has not written its pid yet is about to serve, or to end. */
static int
in_use(char error[CONF_ERROR_MAX], const char *path, pid_t other)
{
	char why[64];

	if (other <= 0)
		return refuse(error, path, "another preforkd is starting");
	snprintf(why, sizeof(why), "preforkd is running already, pid %ld",
	    (long)other);
	return refuse(error, path, why);
}

/* The pid in a file that another process has locked; 0: none yet. */
static pid_t
pid_in(const char *path)
{
	char text[16];
	ssize_t n;
	int fd;

	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) == -1)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return (pid_t)strtonum(text, 1, INT_MAX, NULL);
}

int
daemon_lock(const char *path, char error[CONF_ERROR_MAX])
{
	int fd, i;

	if (check_place(path, error) == -1)
		return -1;
	for (i = 0; i < LOCK_TRIES; i++) {
		fd = flopen(path, O_WRONLY | O_CREAT | O_NONBLOCK | O_CLOEXEC,
		    0644);
		if (fd != -1)
			break;
		if (errno != EWOULDBLOCK)
			return refuse(error, path, strerror(errno));
		poll(NULL, 0, 50);
	}
	if (fd == -1)
		return in_use(error, path, pid_in(path));
	if (ftruncate(fd, 0) == -1) {
		close(fd);
		return refuse(error, path, strerror(errno));
	}
	return daemon_keep_pid_file(path, fd) == 0 ? 0 :
	    refuse(error, path, strerror(errno));
}

int
daemon_keep_pid_file(const char *path, int fd)
{
	pidfile.fd = fd;
	pidfile.path = strdup(path);
	return pidfile.path != NULL ? 0 : -1;
}

const char *
daemon_pid_file(int *fd)
{
	*fd = pidfile.fd;
	return pidfile.path;
}

int
daemon_write_pid(void)
{
	char text[16];
	int size = snprintf(text, sizeof(text), "%ld", (long)getpid());
	ssize_t n;

	if (pidfile.fd == -1)
		return 0;
	n = pwrite(pidfile.fd, text, (size_t)size, 0);
	if (n >= 0 && n < size)
		errno = ENOSPC;
	return n == size ? 0 : -1;
}

/* Only what we have locked: another may have its place by now. */
void
daemon_remove_pid(void)
{
	struct stat ours, named;

	if (pidfile.fd == -1)
		return;
	if (fstat(pidfile.fd, &ours) == 0 &&
	    lstat(pidfile.path, &named) == 0 &&
	    ours.st_dev == named.st_dev && ours.st_ino == named.st_ino)
		unlink(pidfile.path);
	close(pidfile.fd);
	pidfile.fd = -1;
}
