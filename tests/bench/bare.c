/*
 * bare.c: the peer of the benchmark: the least a prefork server can do.
 *
 *	bare [-p PROCESSES] [ADDRESS:PORT [PROGRAM [ARGUMENT ...]]]
 *
 * Each process accepts, sends a greeting of greet's size, receives once and
 * closes: no lingering, no count of clients, no log, no supervision.  With a
 * program, it starts that with the connection instead, waits for it, and
 * closes.  Prints the bound ADDRESS:PORT when clients may come.  The processes
 * end with the first one.
 */
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char greeting[] =
    "Welcome ! You have connected to 127.0.0.1 on port 8001\r\n"
    "You are client #100000 to connect to this server !\r\n"
    "Please press any key in your console, after that this server socket "
    "will close\r\n";

static void
greet(int fd)
{
	char byte[64];

	if (send(fd, greeting, sizeof(greeting) - 1, MSG_NOSIGNAL) > 0)
		(void)recv(fd, byte, sizeof(byte), 0);
}

static void
run(char *program[], int fd)
{
	pid_t pid = vfork();

	if (pid == -1)
		err(1, "vfork");
	if (pid == 0) {
		if (dup2(fd, 0) == 0 && dup2(fd, 1) == 1)
			execv(program[0], program);
		_exit(127);
	}
	if (waitpid(pid, NULL, 0) == -1)
		err(1, "waitpid");
}

__attribute__((__noreturn__))
static void
serve(int listener, char *program[])
{
	int fd;

	for (;;) {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd == -1)
			continue;
		if (program[0] == NULL)
			greet(fd);
		else
			run(program, fd);
		close(fd);
	}
}

static int
listen_on(struct sockaddr_in *sin)
{
	socklen_t len = sizeof(*sin);
	int fd, on = 1;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		err(1, "socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1)
		err(1, "setsockopt SO_REUSEADDR");
	if (bind(fd, (struct sockaddr *)sin, sizeof(*sin)) == -1)
		err(1, "bind");
	if (listen(fd, 4096) == -1)
		err(1, "listen");
	if (getsockname(fd, (struct sockaddr *)sin, &len) == -1)
		err(1, "getsockname");
	return fd;
}

static void
address(struct sockaddr_in *sin, const char *text)
{
	char host[INET_ADDRSTRLEN];
	unsigned short port;

	sin->sin_family = AF_INET;
	if (sscanf(text, "%15[0-9.]:%hu", host, &port) != 2 ||
	    inet_pton(AF_INET, host, &sin->sin_addr) != 1)
		errx(1, "%s: want ADDRESS:PORT", text);
	sin->sin_port = htons(port);
}

static void
spawn(int listener, char *program[])
{
	pid_t parent = getpid();

	switch (fork()) {
	case -1:
		err(1, "fork");
	case 0:
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		serve(listener, program);
	}
}

__attribute__((__noreturn__))
static void
usage(void)
{
	fprintf(stderr, "usage: bare [-p processes] "
	    "[address:port [program [argument ...]]]\n");
	exit(64);
}

int
main(int argc, char *argv[])
{
	struct sockaddr_in sin = { 0 };
	int ch, i, listener, processes = 1;

	while ((ch = getopt(argc, argv, "+p:")) != -1) {
		if (ch != 'p')
			usage();
		processes = atoi(optarg);
	}
	argv += optind;
	address(&sin, argv[0] != NULL ? *argv++ : "127.0.0.1:0");
	listener = listen_on(&sin);
	for (i = 1; i < processes; i++)
		spawn(listener, argv);
	printf("%s:%d\n", inet_ntoa(sin.sin_addr), ntohs(sin.sin_port));
	fflush(stdout);
	serve(listener, argv);
}
