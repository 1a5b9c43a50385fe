/*
 * faults.c: services that misbehave as they are told.
 *
 *	abort	aborts in its start function while the file named by
 *		FAULT_FILE exists; sleeps there while its .slow does, for 2 s at
 *		most, and while its .hang does; greets
 *	big	writes 1 MB, whatever the client sends
 *	slow	writes 1 MB in 100 pieces over about two seconds
 *	command	does what the client's line says: exit N, signal N, spin,
 *		hang, poke (flood the wake-up pipe), block N (make this pipe
 *		blocking, and fill it), descriptors, signals, root (become that
 *		in every way there is)
 */

#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../src/preforkd.h"

extern const struct preforkd_service abort_service, big_service,
    command_service, slow_service;

#define PIECE	10486
#define PIECES	100		/* 1,048,600 bytes */

static void
pause_for(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) == -1 && errno == EINTR)
		;
}

static bool
is_there(const char *file, const char *suffix)
{
	char path[512];

	snprintf(path, sizeof(path), "%s%s", file, suffix);
	return access(path, F_OK) == 0;
}

static int
abort_start(void)
{
	const char *file = getenv("FAULT_FILE");
	int ms;

	if (file == NULL)
		return -1;
	for (ms = 0; ms < 2000 && is_there(file, ".slow"); ms += 10)
		pause_for(10);
	while (is_there(file, ".hang"))
		pause_for(10);
	if (is_there(file, ".fail"))
		return -1;
	if (is_there(file, ""))
		abort();
	return 0;
}

static void
greet(struct conn *c)
{
	conn_printf(c, "hello %llu\n", (unsigned long long)conn_number(c));
}

static void
write_pieces(struct conn *c, long ms)
{
	char piece[PIECE];
	int i;

	memset(piece, 'x', sizeof(piece));
	for (i = 0; i < PIECES; i++) {
		if (conn_write(c, piece, sizeof(piece)) == -1)
			return;
		if (ms > 0)
			pause_for(ms);
	}
}

static void
serve_big(struct conn *c)
{
	write_pieces(c, 0);
}

static void
serve_slow(struct conn *c)
{
	write_pieces(c, 20);
}

static void
say_descriptors(struct conn *c)
{
	struct dirent *entry;
	char path[300], target[256];
	ssize_t n;
	DIR *dir;

	if ((dir = opendir("/proc/self/fd")) == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		snprintf(path, sizeof(path), "/proc/self/fd/%s",
		    entry->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		if (n == -1)
			continue;
		target[n] = '\0';
		conn_printf(c, "%s %s\n", entry->d_name, target);
	}
	closedir(dir);
}

/* Its own view of /proc: who may look into others differs by system. */
static void
say_signals(struct conn *c)
{
	char line[256];
	FILE *status;

	if ((status = fopen("/proc/self/status", "r")) == NULL)
		return;
	while (fgets(line, sizeof(line), status) != NULL)
		if (strncmp(line, "Sig", 3) == 0)
			conn_printf(c, "%s", line);
	fclose(status);
}

/* As a worker that has been taken over might; it ends when killed. */
__attribute__((__noreturn__))
static void
flood_pipe(void)
{
	static const char noise[4096];

	/* So much that the reader never finds the end of it. */
	fcntl(FD_POKE, F_SETPIPE_SZ, 1024 * 1024);
	for (;;)
		if (write(FD_POKE, noise, sizeof(noise)) == -1)
			continue;
}

/* With lines, for the log is to stay one. */
__attribute__((__noreturn__))
static void
block_pipe(int fd)
{
	char line[256];
	size_t n;

	n = log_line(line, sizeof(line), LOG_LEVEL_WARNING, "noise");
	for (;;)
		if (fcntl(fd, F_SETFL, 0) == -1 || write(fd, line, n) == -1)
			continue;
}

static void
say_if(struct conn *c, int rv, const char *what)
{
	if (rv != -1)
		conn_printf(c, "could %s\n", what);
}

/* Each is refused to whoever has come down for good. */
static void
become_root(struct conn *c)
{
	const gid_t zero = 0;

	say_if(c, setgroups(1, &zero), "setgroups");
	say_if(c, setgid(0), "setgid");
	say_if(c, setresgid((gid_t)-1, 0, (gid_t)-1), "setresgid");
	say_if(c, setuid(0), "setuid");
	say_if(c, seteuid(0), "seteuid");
	say_if(c, setresuid((uid_t)-1, (uid_t)-1, 0), "setresuid");
	say_if(c, chroot("/"), "chroot");
	say_if(c, kill(getppid(), 0), "kill the master");
	conn_printf(c, "uid %d euid %d gid %d\n", (int)getuid(),
	    (int)geteuid(), (int)getgid());
}

static void
obey(struct conn *c, const char *line)
{
	if (strncmp(line, "exit ", 5) == 0)
		exit(atoi(line + 5));
	if (strncmp(line, "signal ", 7) == 0) {
		raise(atoi(line + 7));
		pause_for(1000);
	}
	while (strcmp(line, "spin") == 0)
		;
	while (strcmp(line, "hang") == 0)
		pause_for(60000);
	if (strcmp(line, "poke") == 0)
		flood_pipe();
	if (strncmp(line, "block ", 6) == 0)
		block_pipe(atoi(line + 6));
	if (strcmp(line, "root") == 0)
		become_root(c);
	if (strcmp(line, "signals") == 0)
		say_signals(c);
	if (strcmp(line, "descriptors") == 0)
		say_descriptors(c);
}

static void
serve_command(struct conn *c)
{
	char line[128];

	conn_printf(c, "pid %ld\n", (long)getpid());
	if (conn_line(c, line, sizeof(line)) >= 0)
		obey(c, line);
	conn_printf(c, "done\n");
}

const struct preforkd_service abort_service = {
	.abi = PREFORKD_ABI,
	.name = "abort",
	.summary = "abort at the start while a file exists",
	.start = abort_start,
	.serve = greet,
};

const struct preforkd_service big_service = {
	.abi = PREFORKD_ABI,
	.name = "big",
	.summary = "a reply of 1 MB",
	.serve = serve_big,
};

const struct preforkd_service slow_service = {
	.abi = PREFORKD_ABI,
	.name = "slow",
	.summary = "a reply of 1 MB in two seconds",
	.serve = serve_slow,
};

const struct preforkd_service command_service = {
	.abi = PREFORKD_ABI,
	.name = "command",
	.summary = "do what the client says",
	.serve = serve_command,
};
