/*
 * conn.c: the unit test of src/conn.c: reads, lines, writes and addresses of
 * a connection, how it ends, and that each timeout ends it, never too early.
 * Each case prints `ok NAME' or `FAIL NAME: why'.
 */

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "preforkd.h"
#include "check.h"

#define LIMIT	300	/* ms, of a timeout under test */

#define GIVE_UP	60	/* s: a test that hangs has failed */

static struct conf_service conf;
static struct conn c;
static int client;		/* the other end of c */
static double began;

/* Finer than what is tested, or `not too early' could not be seen. */
static double
ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* Open c on a socketpair with what is set in conf. */
static void
open_pair(void)
{
	struct address peer = { .len = sizeof(sa_family_t),
	    .ss.ss_family = AF_UNIX };
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == -1)
		abort();
	client = fds[1];
	began = ms();
	conn_open(&c, fds[0], &peer, &conf);
}

static void
close_pair(void)
{
	close(c.fd);
	if (client != -1)
		close(client);
	memset(&conf, 0, sizeof(conf));
}

static void
say(const char *text)
{
	CHECK(write(client, text, strlen(text)) == (ssize_t)strlen(text));
}

/* It has ended as it should, after LIMIT and not long after. */
static void
check_late(ssize_t n, enum conn_end end, double since)
{
	double took = ms() - since;

	CHECK(n == -1 && errno == ETIMEDOUT);
	CHECK(c.end == end);
	CHECK(took >= LIMIT);
	CHECK(took < LIMIT + 2000);
}

/* In a process of its own: a byte every 20 ms, until the other end closes. */
static pid_t
drip(void)
{
	struct timespec pause = { .tv_nsec = 20000000 };
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	close(c.fd);
	while (send(client, "x", 1, MSG_NOSIGNAL) == 1)
		nanosleep(&pause, NULL);
	_exit(0);
}

static void
end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

static void
test_read(void)
{
	char buf[8];

	open_pair();
	say("hello, world");
	CHECK(conn_read(&c, buf, sizeof(buf)) == 8);
	CHECK(memcmp(buf, "hello, w", 8) == 0);
	CHECK(conn_read(&c, buf, sizeof(buf)) == 4);
	CHECK(c.bytes_in == 12 && c.end == CONN_SERVED);
	CHECK(c.nfirst == 12 && memcmp(c.first, "hello, world", 12) == 0);
	shutdown(client, SHUT_WR);
	CHECK(conn_read(&c, buf, sizeof(buf)) == 0);
	CHECK(c.end == CONN_CLIENT_CLOSED);
	close_pair();
}

static void
test_first_bytes(void)
{
	char sent[CONN_FIRST + 10], buf[20];
	int i;

	for (i = 0; i < (int)sizeof(sent); i++)
		sent[i] = (char)i;
	open_pair();
	CHECK(write(client, sent, sizeof(sent)) == sizeof(sent));
	while (c.bytes_in < sizeof(sent) &&
	    conn_read(&c, buf, sizeof(buf)) > 0)
		continue;
	CHECK(c.nfirst == CONN_FIRST);
	CHECK(memcmp(c.first, sent, CONN_FIRST) == 0);
	close_pair();
}

static void
test_lines(void)
{
	char line[16], rest[16];

	open_pair();
	say("one\r\ntwo\n\r\nthr");
	CHECK(conn_line(&c, line, sizeof(line)) == 3);
	CHECK(strcmp(line, "one") == 0);
	CHECK(conn_line(&c, line, sizeof(line)) == 3);
	CHECK(strcmp(line, "two") == 0);
	CHECK(conn_line(&c, line, sizeof(line)) == 0);
	say("ee\r\nbinary");
	CHECK(conn_line(&c, line, sizeof(line)) == 5);
	CHECK(strcmp(line, "three") == 0);
	CHECK(conn_read(&c, rest, 3) == 3 && memcmp(rest, "bin", 3) == 0);
	CHECK(conn_read(&c, rest, sizeof(rest)) == 3);
	CHECK(memcmp(rest, "ary", 3) == 0);
	say("cut");
	shutdown(client, SHUT_WR);
	errno = 0;
	CHECK(conn_line(&c, line, sizeof(line)) == -1 && errno == EPIPE);
	CHECK(c.end == CONN_CLIENT_CLOSED);
	CHECK(conn_read(&c, rest, sizeof(rest)) == 3);
	close_pair();
}

static void
test_long_lines(void)
{
	char line[6], big[CONN_LINE + 2], buf[8];

	open_pair();
	say("12345\r\n12345\n123456\n");
	CHECK(conn_line(&c, line, sizeof(line)) == 5);
	CHECK(conn_line(&c, line, sizeof(line)) == 5);
	errno = 0;
	CHECK(conn_line(&c, line, sizeof(line)) == -1 && errno == EMSGSIZE);
	CHECK(conn_read(&c, buf, sizeof(buf)) == 7);
	say("1234567");		/* known without its end */
	errno = 0;
	CHECK(conn_line(&c, line, sizeof(line)) == -1 && errno == EMSGSIZE);
	CHECK(conn_read(&c, buf, sizeof(buf)) == 7);
	memset(big, 'x', CONN_LINE);
	big[CONN_LINE] = '\n';
	big[CONN_LINE + 1] = '\0';
	say(big);
	errno = 0;
	CHECK(conn_line(&c, big, sizeof(big)) == -1 && errno == EMSGSIZE);
	close_pair();
}

/* Lines that lie across the end of the read-ahead buffer, all pipelined. */
static void
test_many_lines(void)
{
	char line[1000], sent[1000];
	pid_t pid;
	int i;

	open_pair();
	if ((pid = fork()) == 0) {
		for (i = 0; i < 500; i++) {
			memset(sent, 'a' + i % 26, sizeof(sent));
			sent[i] = '\n';
			send(client, sent, (size_t)i + 1, MSG_NOSIGNAL);
		}
		_exit(0);
	}
	for (i = 0; i < 500; i++) {
		CHECK(conn_line(&c, line, sizeof(line)) == i);
		CHECK(i == 0 || (line[0] == 'a' + i % 26 &&
		    line[i - 1] == line[0]));
	}
	CHECK(c.bytes_in == 500 * 501 / 2);
	end_child(pid);
	close_pair();
}

static void
test_write(void)
{
	char buf[2048];

	open_pair();
	CHECK(conn_printf(&c, "%s %d\r\n", "number", 7) == 0);
	CHECK(read(client, buf, sizeof(buf)) == 10);
	CHECK(memcmp(buf, "number 7\r\n", 10) == 0);
	CHECK(conn_printf(&c, "%1023s", "") == 0);
	CHECK(read(client, buf, sizeof(buf)) == 1023);
	errno = 0;
	CHECK(conn_printf(&c, "%1024s", "") == -1 && errno == EMSGSIZE);
	CHECK(recv(client, buf, sizeof(buf), MSG_DONTWAIT) == -1);
	CHECK(c.bytes_out == 1033 && c.end == CONN_SERVED);
	close(client);
	client = -1;
	errno = 0;
	CHECK(conn_write(&c, "x", 1) == -1 && errno == EPIPE);
	CHECK(c.end == CONN_CLIENT_CLOSED);
	close_pair();
}

/* More than the socket holds, to a slow reader, on a non-blocking socket. */
static void
test_big_write(int flags, int64_t idle)
{
	static char big[4 << 20], buf[30000];
	size_t got = 0;
	pid_t pid;
	int status = 0;
	ssize_t n;

	conf.idle_timeout = idle;
	open_pair();
	CHECK(fcntl(c.fd, F_SETFL, flags) == 0);
	memset(big, 'y', sizeof(big));
	if ((pid = fork()) == 0) {
		close(c.fd);
		while ((n = read(client, buf, sizeof(buf))) > 0)
			got += (size_t)n;
		_exit(got == sizeof(big) ? 0 : 1);
	}
	CHECK(conn_write(&c, big, sizeof(big)) == 0);
	CHECK(c.bytes_out == sizeof(big));
	shutdown(c.fd, SHUT_WR);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	close_pair();
}

static void
test_big_writes(void)
{
	test_big_write(0, 0);
	test_big_write(O_NONBLOCK, 0);
	test_big_write(0, 5000);
}

/* A read without a timeout waits, also when somebody set O_NONBLOCK. */
static void
test_nonblocking_read(void)
{
	char buf[8];
	pid_t pid;

	open_pair();
	CHECK(fcntl(c.fd, F_SETFL, O_NONBLOCK) == 0);
	pid = drip();
	/* One byte each, or more when this process was not there in time. */
	CHECK(conn_read(&c, buf, sizeof(buf)) > 0);
	CHECK(conn_read(&c, buf, sizeof(buf)) > 0);
	end_child(pid);
	close_pair();
}

static void
test_first_byte_timeout(void)
{
	char buf[8];

	conf.first_byte_timeout = LIMIT;
	open_pair();
	CHECK(conn_write(&c, "hello", 5) == 0);
	check_late(conn_read(&c, buf, sizeof(buf)), CONN_FIRST_BYTE_TIMEOUT,
	    began);
	close_pair();
}

/* One byte disarms it: the total ends this one, later. */
static void
test_first_byte_disarmed(void)
{
	char buf[8];

	conf.first_byte_timeout = LIMIT / 3;
	conf.connection_timeout = LIMIT;
	open_pair();
	say("x");
	CHECK(conn_read(&c, buf, sizeof(buf)) == 1);
	check_late(conn_read(&c, buf, sizeof(buf)), CONN_TOTAL_TIMEOUT, began);
	close_pair();
}

/* What has arrived in time is read, however late the service asks. */
static void
test_first_byte_in_time(void)
{
	struct timespec pause = { .tv_nsec = 30000000 };
	char buf[8];

	conf.first_byte_timeout = 10;
	open_pair();
	say("x");
	nanosleep(&pause, NULL);
	CHECK(conn_read(&c, buf, sizeof(buf)) == 1);
	close_pair();
}

/* Bytes put it off; the silence after them does not. */
static void
test_idle_timeout_read(void)
{
	char buf[8];
	double since;
	pid_t pid;
	int i;

	conf.idle_timeout = LIMIT;
	open_pair();
	pid = drip();
	for (i = 0; i < 20; i++)
		CHECK(conn_read(&c, buf, sizeof(buf)) >= 1);
	CHECK(ms() - began > LIMIT);
	end_child(pid);
	while (recv(c.fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		continue;
	since = ms();
	check_late(conn_read(&c, buf, sizeof(buf)), CONN_IDLE_TIMEOUT, since);
	close_pair();
}

static void
test_idle_timeout_write(void)
{
	static char big[4 << 20];

	conf.idle_timeout = LIMIT;
	open_pair();
	check_late(conn_write(&c, big, sizeof(big)), CONN_IDLE_TIMEOUT, began);
	CHECK(c.bytes_out > 0 && c.bytes_out < sizeof(big));
	close_pair();
}

static void
test_total_timeout_drip(void)
{
	char buf[8];
	ssize_t n;
	pid_t pid;

	conf.connection_timeout = LIMIT;
	conf.idle_timeout = 10 * LIMIT;
	open_pair();
	pid = drip();
	while ((n = conn_read(&c, buf, sizeof(buf))) > 0)
		continue;
	check_late(n, CONN_TOTAL_TIMEOUT, began);
	end_child(pid);
	close_pair();
}

/* A client that never makes a call block does not escape it. */
static void
test_total_timeout_at_hand(void)
{
	struct timespec pause = { .tv_nsec = (LIMIT + 2) * 1000000L };
	char buf[8];

	conf.connection_timeout = LIMIT;
	open_pair();
	say("xyz");
	CHECK(conn_read(&c, buf, 1) == 1);
	nanosleep(&pause, NULL);
	check_late(conn_read(&c, buf, 1), CONN_TOTAL_TIMEOUT, began);
	check_late(conn_write(&c, "x", 1), CONN_TOTAL_TIMEOUT, began);
	close_pair();
}

static void
test_total_timeout_write(void)
{
	static char big[4 << 20];

	conf.connection_timeout = LIMIT;
	open_pair();
	check_late(conn_write(&c, big, sizeof(big)), CONN_TOTAL_TIMEOUT, began);
	errno = 0;
	CHECK(conn_write(&c, big, 1) == -1 && errno == ETIMEDOUT);
	close_pair();
}

static void
nothing(int sig)
{
	(void)sig;
}

/* Signals neither end a call nor put its deadline off. */
static void
test_signals(void)
{
	struct itimerval often = { { 0, 3000 }, { 0, 3000 } }, never = { 0 };
	struct sigaction sa = { .sa_handler = nothing };
	struct timespec pause = { .tv_nsec = 2000000 };
	char buf[8];
	pid_t pid;

	sigaction(SIGALRM, &sa, NULL);
	open_pair();
	if ((pid = fork()) == 0) {
		int i;

		for (i = 0; i < 30; i++)
			nanosleep(&pause, NULL);
		_exit(send(client, "x", 1, 0) == 1 ? 0 : 1);
	}
	setitimer(ITIMER_REAL, &often, NULL);
	CHECK(conn_read(&c, buf, sizeof(buf)) == 1);
	setitimer(ITIMER_REAL, &never, NULL);
	CHECK(waitpid(pid, NULL, 0) == pid);
	close_pair();

	conf.idle_timeout = LIMIT;
	open_pair();
	setitimer(ITIMER_REAL, &often, NULL);
	check_late(conn_read(&c, buf, sizeof(buf)), CONN_IDLE_TIMEOUT, began);
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_DFL);
	alarm(GIVE_UP);
	close_pair();
}

/* Opens c on a TCP connection from loopback; returns the listener's port. */
static in_port_t
open_tcp(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	struct address peer = { .len = sizeof(peer.ss) };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;

	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&sin, len) == -1 ||
	    getsockname(listener, (struct sockaddr *)&sin, &len) == -1 ||
	    listen(listener, 1) == -1 ||
	    connect(client, (struct sockaddr *)&sin, len) == -1 ||
	    (fd = accept(listener, (struct sockaddr *)&peer.ss,
	    &peer.len)) == -1)
		abort();
	close(listener);
	conn_open(&c, fd, &peer, &conf);
	return ntohs(sin.sin_port);
}

static void
test_addresses(void)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	in_port_t port = open_tcp();

	CHECK(getsockname(client, (struct sockaddr *)&sin, &len) == 0);
	CHECK(strcmp(conn_peer_address(&c), "127.0.0.1") == 0);
	CHECK(conn_peer_port(&c) == ntohs(sin.sin_port));
	CHECK(conn_local_port(&c) == port);
	CHECK(strcmp(conn_local_address(&c), "127.0.0.1") == 0);
	CHECK(conn_fd(&c) == c.fd);
	close_pair();

	/* A known one is not asked for. */
	open_tcp();
	memset(&sin, 0, sizeof(sin));
	sin.sin_family = AF_INET;
	sin.sin_port = htons(7);
	sin.sin_addr.s_addr = htonl(0xc0000201);
	memcpy(&c.local.ss, &sin, sizeof(sin));
	c.local.len = sizeof(sin);
	c.local_known = true;
	CHECK(conn_local_port(&c) == 7);
	CHECK(strcmp(conn_local_address(&c), "192.0.2.1") == 0);
	close_pair();

	open_pair();
	CHECK(strcmp(conn_peer_address(&c), "-") == 0);
	CHECK(strcmp(conn_local_address(&c), "-") == 0);
	CHECK(conn_peer_port(&c) == 0 && conn_local_port(&c) == 0);
	close_pair();
}

static void
test_reset(void)
{
	struct linger now = { 1, 0 };
	char buf[8];

	open_tcp();
	setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(client);
	client = -1;
	errno = 0;
	CHECK(conn_read(&c, buf, sizeof(buf)) == -1 && errno == ECONNRESET);
	CHECK(c.end == CONN_RESET);
	close_pair();
}

static void
test_end_names(void)
{
	CHECK(strcmp(conn_end_name(CONN_SERVED), "served") == 0);
	CHECK(strcmp(conn_end_name(CONN_FAILED), "failed") == 0);
	CHECK(strcmp(conn_end_name(CONN_TOTAL_TIMEOUT),
	    "connection-timeout") == 0);
}

static const struct test tests[] = {
	{ "read", test_read },
	{ "first bytes are kept", test_first_bytes },
	{ "lines", test_lines },
	{ "long lines", test_long_lines },
	{ "many lines", test_many_lines },
	{ "write", test_write },
	{ "big writes", test_big_writes },
	{ "non-blocking read", test_nonblocking_read },
	{ "first-byte timeout", test_first_byte_timeout },
	{ "first-byte timeout disarmed", test_first_byte_disarmed },
	{ "first byte in time", test_first_byte_in_time },
	{ "idle timeout, read", test_idle_timeout_read },
	{ "idle timeout, write", test_idle_timeout_write },
	{ "total timeout, drip", test_total_timeout_drip },
	{ "total timeout, data at hand", test_total_timeout_at_hand },
	{ "total timeout, write", test_total_timeout_write },
	{ "signals", test_signals },
	{ "addresses", test_addresses },
	{ "reset", test_reset },
	{ "end names", test_end_names }
};

int
main(void)
{
	alarm(GIVE_UP);
	setvbuf(stdout, NULL, _IONBF, 0);
	run_all(tests, sizeof(tests) / sizeof(tests[0]));
	return failures != 0;
}
