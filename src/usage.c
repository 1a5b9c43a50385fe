/*
 * usage.c: what another process uses, from /proc.
 *
 * For the master, which keeps max-memory of programs that are its workers'
 * children, and for preforkctl(8).  The pid comes from a slot, so that it may
 * be anybody's: the caller compares the parent before it believes the rest.
 * It opens nothing but /proc/PID/stat, which everybody may read, and which
 * does not wait for the process.
 */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

int
usage_of(pid_t pid, struct usage *u)
{
	unsigned long long user, kernel;
	char path[64], buf[1024], *p;
	long long pages;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	if (pid <= 0 || (fd = open(path, O_RDONLY | O_CLOEXEC)) == -1)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	buf[n] = '\0';
	/* The name of the program, in brackets, may hold anything. */
	if ((p = strrchr(buf, ')')) == NULL ||
	    sscanf(p, ") %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu "
	    "%*d %*d %*d %*d %*d %*d %*u %*u %lld", &u->state, &u->parent,
	    &user, &kernel, &pages) != 5)
		return -1;
	u->cpu = (int64_t)((user + kernel) * 1000 /
	    (unsigned long long)sysconf(_SC_CLK_TCK));
	u->memory = pages * sysconf(_SC_PAGESIZE);
	return 0;
}
