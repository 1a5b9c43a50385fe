/*
 * holder.c: who holds the lock of a file, without taking it.
 *
 * The kernel's table of locks names the process that took each one.  It must
 * not be asked by trying: a server that starts meanwhile would find the lock
 * taken.  This is what lets preforkctl be certain of whom it signals (RULES
 * R34), so whatever is not seen to be right is refused.
 *
 * Limits: Linux with /proc; elsewhere no holder is ever seen.  Locks of other
 * pid namespaces are not shown, and some file systems (btrfs) go by another
 * device number there than stat(2) tells.
 */

#include <sys/types.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

/* Lines as `1: FLOCK  ADVISORY  WRITE 815 00:1b:840 0 EOF'. */
static pid_t
find_holder(FILE *locks, const struct stat *st)
{
	unsigned int major, minor;
	char line[256];
	uintmax_t ino;
	int pid;

	while (fgets(line, sizeof(line), locks) != NULL)
		if (sscanf(line, "%*u: FLOCK %*s WRITE %d %x:%x:%ju", &pid,
		    &major, &minor, &ino) == 4 && ino == st->st_ino &&
		    makedev(major, minor) == st->st_dev)
			return pid > 0 ? pid : 0;
	return -1;
}

pid_t
holder_of(int fd)
{
	struct stat st;
	pid_t pid;
	FILE *f;

	if (fstat(fd, &st) == -1 || (f = fopen("/proc/locks", "re")) == NULL)
		return -1;
	pid = find_holder(f, &st);
	fclose(f);
	return pid;
}

bool
holder_is_gone(pid_t pid)
{
	struct usage u;

	if (pid <= 0)
		return false;
	if (usage_of(pid, &u) == 0)
		return u.state == 'Z';
	return kill(pid, 0) == -1 && errno == ESRCH;
}

static int
check_content(int fd, const char *path, pid_t pid, char *error)
{
	const char *wrong;
	char text[32];
	ssize_t n;
	pid_t says;

	if ((n = pread(fd, text, sizeof(text) - 1, 0)) == -1)
		return error_say(error, "%s: %s", path, strerror(errno));
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	says = (pid_t)strtonum(text, 1, INT_MAX, &wrong);
	if (wrong != NULL)
		return error_say(error, "%s: the pid in it is %s", path, wrong);
	if (says != pid)
		return error_say(error, "%s: names process %d, the status "
		    "file process %d", path, says, pid);
	return 0;
}

static int
check_file(int fd, const char *path, pid_t pid, char *error)
{
	struct stat st;
	pid_t holder;

	if (fstat(fd, &st) == -1)
		return error_say(error, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_say(error, "%s: not a regular file", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return error_say(error, "%s: file of another user", path);
	if (check_content(fd, path, pid, error) == -1)
		return -1;
	if ((holder = holder_of(fd)) > 0 && holder != pid)
		return error_say(error, "%s: locked by process %d", path,
		    holder);
	return holder == pid ? 0 :
	    error_say(error, "%s: not seen to be locked", path);
}

int
holder_check_pid_file(const char *path, pid_t pid, char error[CONF_ERROR_MAX])
{
	int fd, result;

	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW |
	    O_CLOEXEC);
	if (fd == -1)
		return error_say(error, "%s: %s", path, strerror(errno));
	result = check_file(fd, path, pid, error);
	close(fd);
	return result;
}
