/*
 * resident.c: a program that accepts by itself, and does what clients say.
 *
 *	resident [-f fd] [-g] [-t]
 *
 * Accepts on descriptor 0, or fd.  Each client sends a line and gets a line,
 * which is `PID REPLY'; then its connection is closed.  The lines are:
 *
 *	pid			nothing more
 *	env NAME		the variable, or -
 *	sleep MS		then it replies
 *	hold			replies only when the client has finished
 *	say TEXT		on standard error
 *	write N			N bytes on standard error, without a newline
 *	eat MB			of memory, and keeps it
 *	exit N, signal N	how it ends, after the reply
 *	shut			shutdown(2) of the listening socket
 *	nonblock		O_NONBLOCK on it
 *	spoil			working directory, umask, limits, signals, fds
 *	audit			what of these it finds
 *	child			one in its session that stays: its pid
 *
 * SIGTERM ends it; with -g after the client that it serves; with -t never.
 */
#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int listener, null;
static volatile sig_atomic_t leaving;

/* Pulls the listener away, so that no accept(2) can be missed. */
static void
leave(int sig)
{
	(void)sig;
	leaving = 1;
	dup2(null, listener);
}

static void
leave_on_term(void)
{
	struct sigaction sa = { .sa_handler = leave, .sa_flags = SA_RESTART };

	if ((null = open("/dev/null", O_RDWR | O_CLOEXEC)) == -1)
		err(1, "/dev/null");
	sigaction(SIGTERM, &sa, NULL);
}

static void
spoil(void)
{
	const struct rlimit rl = { 20, 20 };
	sigset_t all;

	if (chdir("/tmp") == -1)
		warn("chdir");
	umask(0777);
	setrlimit(RLIMIT_NOFILE, &rl);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	closefrom(3);
}

static void
audit(int client)
{
	const mode_t mask = umask(0);
	struct rlimit rl;
	sigset_t blocked;
	int i, n = 0;
	char dir[256];

	umask(mask);
	getrlimit(RLIMIT_NOFILE, &rl);
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	for (i = 1; i < NSIG; i++)
		n += sigismember(&blocked, i) == 1;
	dprintf(client, " cwd=%s umask=%03o nofile=%llu blocked=%d fd3=%d",
	    getcwd(dir, sizeof(dir)), (unsigned int)mask,
	    (unsigned long long)rl.rlim_cur, n, fcntl(3, F_GETFD) != -1);
}

static void
put_bytes(int n)
{
	char block[4096];
	ssize_t done;

	memset(block, 'x', sizeof(block));
	for (; n > 0; n -= (int)done) {
		done = write(STDERR_FILENO, block,
		    n < (int)sizeof(block) ? (size_t)n : sizeof(block));
		if (done == -1)
			err(1, "write");
	}
}

static void
eat(size_t bytes)
{
	static char *volatile kept;

	if ((kept = malloc(bytes)) == NULL)
		err(1, "malloc");
	memset(kept, 1, bytes);
}

static void
make_child(int client)
{
	pid_t pid = fork();

	if (pid == 0) {
		close(client);
		signal(SIGTERM, SIG_IGN);
		for (;;)
			pause();
	}
	dprintf(client, " %ld", (long)pid);
}

/* Until the client has finished. */
static void
hold(int client)
{
	char byte;

	while (read(client, &byte, 1) > 0)
		continue;
}

/* What can be done before the reply. */
static void
obey(int client, const char *verb, char *rest)
{
	const int n = atoi(rest);

	if (strcmp(verb, "env") == 0)
		dprintf(client, " %s", getenv(rest) ? getenv(rest) : "-");
	else if (strcmp(verb, "sleep") == 0)
		poll(NULL, 0, n);
	else if (strcmp(verb, "hold") == 0)
		hold(client);
	else if (strcmp(verb, "say") == 0)
		fprintf(stderr, "%s\n", rest);
	else if (strcmp(verb, "write") == 0)
		put_bytes(n);
	else if (strcmp(verb, "eat") == 0)
		eat((size_t)n << 20);
	else if (strcmp(verb, "shut") == 0)
		shutdown(listener, SHUT_RDWR);
	else if (strcmp(verb, "nonblock") == 0)
		fcntl(listener, F_SETFL, O_NONBLOCK);
	else if (strcmp(verb, "spoil") == 0)
		spoil();
	else if (strcmp(verb, "audit") == 0)
		audit(client);
	else if (strcmp(verb, "child") == 0)
		make_child(client);
}

/* Byte by byte: the line is short. */
static void
read_line(int client, char *line, size_t size)
{
	size_t n = 0;

	while (n < size - 1 && read(client, line + n, 1) == 1 &&
	    line[n] != '\n')
		n++;
	line[n] = '\0';
}

static void
serve(int client)
{
	char line[4096], *rest;

	read_line(client, line, sizeof(line));
	rest = line + strcspn(line, " ");
	if (*rest != '\0')
		*rest++ = '\0';
	dprintf(client, "%ld", (long)getpid());
	obey(client, line, rest);
	dprintf(client, "\n");
	close(client);
	if (strcmp(line, "exit") == 0)
		exit(atoi(rest));
	if (strcmp(line, "signal") == 0)
		raise(atoi(rest));
}

int
main(int argc, char *argv[])
{
	struct pollfd pfd = { .events = POLLIN };
	int ch, fd;

	while ((ch = getopt(argc, argv, "f:gt")) != -1) {
		switch (ch) {
		case 'f':
			listener = atoi(optarg);
			break;
		case 'g':
			leave_on_term();
			break;
		case 't':
			signal(SIGTERM, SIG_IGN);
			break;
		default:
			errx(2, "see the top of tests/tools/resident.c");
		}
	}
	pfd.fd = listener;
	while (!leaving) {
		if ((fd = accept(listener, NULL, NULL)) != -1)
			serve(fd);
		else if (errno == EAGAIN)
			poll(&pfd, 1, -1);
		else if (errno != EINTR)
			poll(NULL, 0, 20);
	}
	return 0;
}
