/*
 * fcgi.c: a FastCGI program and its clients, for the benchmark.
 *
 *	fcgi serve
 *	fcgi load [-c CLIENTS] [-t SECONDS] ADDRESS:PORT
 *
 * Serve accepts on descriptor 0 and answers one request a connection with a
 * short page: the least that such a program can do, so that what is measured
 * is how clients get to it.  Load makes requests one after another in each of
 * its processes and prints a line of key=value when the time is up.  Records
 * are those of the FastCGI specification 1.0; what is sent is always the same.
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <err.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BEGIN = 1, END = 3, PARAMS = 4, STDIN = 5, STDOUT = 6 };
#define HEAD	8

static const char page[] = "Content-Type: text/plain\r\n\r\nhello\n";

/* Append a record of request 1; returns the new length. */
static size_t
put(unsigned char *buf, size_t at, int type, const void *data, size_t size)
{
	const unsigned char head[HEAD] = { 1, (unsigned char)type, 0, 1,
	    (unsigned char)(size >> 8), (unsigned char)size, 0, 0 };

	memcpy(buf + at, head, HEAD);
	memcpy(buf + at + HEAD, data, size);
	return at + HEAD + size;
}

/* Whether they hold a whole record of this type, END or without content. */
static int
has_end(const unsigned char *buf, size_t size, int type)
{
	size_t at, len;

	for (at = 0; at + HEAD <= size; at += HEAD + len + buf[at + 6]) {
		len = (size_t)buf[at + 4] << 8 | buf[at + 5];
		if (buf[at + 1] == type && (len == 0 || type == END) &&
		    at + HEAD + len <= size)
			return 1;
	}
	return 0;
}

/* Read until that record is there; 0, or -1 when the peer ends before. */
static int
read_until(int fd, int type)
{
	unsigned char buf[8192];
	size_t used = 0;
	ssize_t n;

	while (!has_end(buf, used, type)) {
		n = read(fd, buf + used, sizeof(buf) - used);
		if (n <= 0)
			return -1;
		used += (size_t)n;
	}
	return 0;
}

__attribute__((__noreturn__))
static void
serve(void)
{
	static const unsigned char ended[8];
	unsigned char reply[256];
	size_t size;
	int fd;

	size = put(reply, 0, STDOUT, page, sizeof(page) - 1);
	size = put(reply, size, STDOUT, "", 0);
	size = put(reply, size, END, ended, sizeof(ended));
	for (;;) {
		if ((fd = accept(STDIN_FILENO, NULL, NULL)) == -1)
			continue;
		if (read_until(fd, STDIN) == 0 &&
		    write(fd, reply, size) != (ssize_t)size)
			warnx("short write");
		close(fd);
	}
}

static int
request(const struct sockaddr_in *to, const unsigned char *buf, size_t size)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rv = -1;

	if (fd != -1 && connect(fd, (const struct sockaddr *)to,
	    sizeof(*to)) == 0 && write(fd, buf, size) == (ssize_t)size)
		rv = read_until(fd, END);
	close(fd);
	return rv;
}

/* One client, in a process of its own. */
__attribute__((__noreturn__))
static void
client(const struct sockaddr_in *to, _Atomic unsigned long *count)
{
	static const unsigned char responder[8] = { 0, 1 };
	static const char method[] = "\016\003REQUEST_METHODGET";
	unsigned char buf[256];
	size_t size;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	size = put(buf, 0, BEGIN, responder, sizeof(responder));
	size = put(buf, size, PARAMS, method, sizeof(method) - 1);
	size = put(buf, size, PARAMS, "", 0);
	size = put(buf, size, STDIN, "", 0);
	for (;;)
		atomic_fetch_add(&count[request(to, buf, size) == 0 ? 0 : 1],
		    1);
}

static void
load(const struct sockaddr_in *to, int clients, unsigned int seconds)
{
	_Atomic unsigned long *count;
	pid_t *pid = calloc((size_t)clients, sizeof(*pid));
	struct rusage used;
	int i;

	count = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (count == MAP_FAILED || pid == NULL)
		err(2, "memory");
	for (i = 0; i < clients; i++)
		if ((pid[i] = fork()) == 0)
			client(to, count);
	sleep(seconds);
	for (i = 0; i < clients; i++)
		kill(pid[i], SIGKILL);
	while (wait(NULL) > 0)
		continue;
	getrusage(RUSAGE_CHILDREN, &used);
	printf("ok=%lu failed=%lu rate=%lu cpu=%.2f\n", count[0], count[1],
	    count[0] / seconds, ((double)(used.ru_utime.tv_sec +
	    used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec +
	    used.ru_stime.tv_usec) / 1e6) / seconds);
	free(pid);
}

int
main(int argc, char *argv[])
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	unsigned int seconds = 2;
	int ch, clients = 16;
	char *port;

	if (argc == 2 && strcmp(argv[1], "serve") == 0)
		serve();
	while ((ch = getopt(argc - 1, argv + 1, "c:t:")) != -1) {
		if (ch == 'c')
			clients = atoi(optarg);
		else
			seconds = (unsigned int)atoi(optarg);
	}
	if (optind + 2 != argc || (port = strchr(argv[argc - 1], ':')) == NULL)
		errx(2, "see the top of tests/bench/fcgi.c");
	*port++ = '\0';
	to.sin_port = htons((in_port_t)atoi(port));
	inet_pton(AF_INET, argv[argc - 1], &to.sin_addr);
	load(&to, clients, seconds);
	return 0;
}
