/*
 * relay.c: the unit test of src/relay.c: every byte arrives, in order, and so
 * does each end, however slow, rude or dead the two are.  All is done in one
 * process: the client is at the other end of a TCP connection, the program at
 * that of a pair of sockets, and nothing happens between two calls.  Those of
 * the relay block, and SIGPIPE is as the system has it: a call of the relay
 * that waits, or dies, fails here.
 */

#include <sys/ioctl.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"
#include "check.h"

#define GIVE_UP	60	/* s: a test that hangs has failed */
#define BULK	(16 << 20)

static struct relay relay;
static struct pollfd pfd[2];
static int ours[2];		/* the ends of the relay: client, program */
static int client, program;	/* the other ones */

static void
connect_client(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	client = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(fd, (struct sockaddr *)&sin, len) == -1 ||
	    listen(fd, 1) == -1 ||
	    getsockname(fd, (struct sockaddr *)&sin, &len) == -1 ||
	    connect(client, (struct sockaddr *)&sin, len) == -1 ||
	    (ours[0] = accept(fd, NULL, NULL)) == -1)
		abort();
	close(fd);
}

static void
begin(void)
{
	int fds[2];

	connect_client();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == -1)
		abort();
	ours[1] = fds[0];
	program = fds[1];
	relay_begin(&relay, ours[0], ours[1]);
}

static void
end(void)
{
	close(ours[0]);
	close(ours[1]);
	if (client != -1)
		close(client);
	if (program != -1)
		close(program);
}

/* Let it move what there is, until nothing is to be moved; loopback is fast. */
static void
run(void)
{
	int i;

	for (i = 0; i < 10000 && !relay_is_over(&relay); i++) {
		relay_events(&relay, pfd);
		if (poll(pfd, 2, 20) <= 0)
			return;
		relay_move(&relay);
	}
	CHECK(i < 10000);
}

/* Whether this, and no more, comes to be read; "" for the end. */
static bool
reads(int fd, const char *text)
{
	struct pollfd here = { .fd = fd, .events = POLLIN };
	char buf[100];
	ssize_t n;
	int i;

	for (i = 0; i < 500 && poll(&here, 1, 10) == 0; i++)
		run();
	n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	return n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}

static bool
reads_nothing(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN;
}

static bool
says(int fd, const char *text)
{
	return send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) ==
	    (ssize_t)strlen(text);
}

/* The n-th byte of what is sent by somebody. */
static char
letter(size_t n)
{
	return (char)(n * 2654435761u >> 13);
}

/* As much as goes, up to so much in all; returns whether any did. */
static bool
send_more(int fd, size_t *sent, size_t all)
{
	static char buf[70001];
	size_t i, size = all - *sent < sizeof(buf) ? all - *sent : sizeof(buf);
	ssize_t n;

	for (i = 0; i < size; i++)
		buf[i] = letter(*sent + i);
	n = send(fd, buf, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0)
		*sent += (size_t)n;
	return n > 0;
}

static bool
take_more(int fd, size_t *got, size_t most)
{
	static char buf[90001];
	ssize_t i, n = recv(fd, buf, most < sizeof(buf) ? most : sizeof(buf),
	    MSG_DONTWAIT);

	for (i = 0; i < n && buf[i] == letter(*got + (size_t)i); i++)
		continue;
	CHECK(i >= n);
	if (n > 0)
		*got += (size_t)n;
	return n > 0;
}

static void
test_both_ways(void)
{
	struct traffic t = { 0 };

	relay_move(&relay);		/* and there is nothing yet */
	CHECK(!relay_is_over(&relay) && !relay.reset);
	relay_events(&relay, pfd);
	CHECK(pfd[0].fd == ours[0] && pfd[0].events == POLLIN);
	CHECK(pfd[1].fd == ours[1] && pfd[1].events == POLLIN);
	CHECK(says(client, "question") && says(program, "word"));
	run();
	CHECK(reads(program, "question") && reads(client, "word"));
	relay_traffic(&relay, &t);
	CHECK(t.in == 8 && t.out == 4 && t.moved == 12);
	CHECK(t.quiet >= 0 && t.quiet < 20000);
	t.moved = 1000;			/* the kernel has told */
	t.quiet = 7;
	relay_traffic(&relay, &t);
	CHECK(t.moved == 1000 && t.quiet == 7);
}

/* The end of one way is passed on behind its last byte; the other goes on. */
static void
half_close(int first, int second)
{
	const int fd = first == client ? ours[0] : ours[1];
	int i;

	CHECK(says(first, "last"));
	shutdown(first, SHUT_WR);
	run();
	CHECK(reads(second, "last") && reads(second, ""));
	CHECK(!relay_is_over(&relay) && !relay.reset);
	relay_events(&relay, pfd);	/* or it would be told for ever */
	for (i = 0; i < 2; i++)
		CHECK((pfd[i].fd == -1) == (pfd[i].fd != ours[i]) &&
		    (ours[i] == fd) == (pfd[i].fd == -1));
	CHECK(says(second, "answer"));
	run();
	CHECK(reads(first, "answer") && reads_nothing(first));
	shutdown(second, SHUT_WR);
	run();
	CHECK(reads(first, ""));
	CHECK(relay_is_over(&relay) && !relay.reset);
}

static void
test_client_ends(void)
{
	half_close(client, program);
}

static void
test_program_ends(void)
{
	half_close(program, client);
}

/* Whoever is slow slows the other down, and nothing else. */
static void
slow(int slow, int fast)
{
	const int to = slow == client ? 0 : 1;
	const size_t all = BULK;
	size_t sent = 0, got = 0, before;

	do {
		before = sent;
		while (send_more(fast, &sent, all))
			continue;
		run();
	} while (sent > before);
	CHECK(sent > RELAY_ROOM && sent < all);
	relay_events(&relay, pfd);
	CHECK(pfd[to].fd == ours[to]);
	CHECK(pfd[to].events == (POLLIN | POLLOUT));
	CHECK(pfd[1 - to].fd == -1);
	CHECK(says(slow, "slow"));
	run();
	CHECK(reads(fast, "slow"));
	shutdown(fast, SHUT_WR);
	do {
		before = got;
		while (take_more(slow, &got, 1000))
			continue;
		run();
	} while (got > before);
	CHECK(got == sent && reads(slow, ""));
	CHECK(!relay_is_over(&relay));
}

static void
test_slow_client(void)
{
	slow(client, program);
}

static void
test_slow_program(void)
{
	slow(program, client);
}

/* In pieces of all sizes, each end after its last byte. */
static void
test_bulk(void)
{
	size_t sent[2] = { 0, 0 }, got[2] = { 0, 0 };
	int turn;

	for (turn = 0; turn < 1000000 && !relay_is_over(&relay); turn++) {
		send_more(client, &sent[0], BULK - 1);
		send_more(program, &sent[1], BULK + 1);
		if (sent[0] == BULK - 1)
			shutdown(client, SHUT_WR);
		if (sent[1] == BULK + 1)
			shutdown(program, SHUT_WR);
		relay_move(&relay);
		if (turn % 3 != 0)
			take_more(client, &got[1], (size_t)turn % 90000 + 1);
		if (turn % 5 != 0)
			take_more(program, &got[0], (size_t)turn % 70000 + 1);
	}
	while (take_more(client, &got[1], BULK) ||
	    take_more(program, &got[0], BULK))
		continue;
	CHECK(got[0] == BULK - 1 && got[1] == BULK + 1);
	CHECK(relay.in.moved == got[0] && relay.out.moved == got[1]);
	CHECK(relay_is_over(&relay) && !relay.reset);
}

/* A program that reads no more still has something to say. */
static void
test_program_deaf(void)
{
	shutdown(program, SHUT_RD);
	CHECK(says(client, "into the void"));
	run();
	CHECK(relay.in.over && !relay.out.over && !relay.reset);
	CHECK(says(program, "word"));
	run();
	CHECK(reads(client, "word"));
	shutdown(program, SHUT_WR);
	run();
	CHECK(reads(client, "") && relay_is_over(&relay));
}

/* One that has left without reading all has left, and what it said counts. */
static void
test_program_gone(void)
{
	CHECK(says(client, "unread"));
	run();
	CHECK(says(program, "word"));
	close(program);
	program = -1;
	run();
	CHECK(reads(client, "word") && reads(client, ""));
	CHECK(!relay.reset && !relay_is_over(&relay));
	CHECK(says(client, "more"));
	run();
	CHECK(relay_is_over(&relay) && !relay.reset);
}

/* Have the client reset the connection. */
static void
reset_by_client(void)
{
	const struct linger now = { 1, 0 };

	setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(client);
	client = -1;
}

static void
test_client_resets(void)
{
	CHECK(says(client, "word"));
	run();
	reset_by_client();
	run();
	CHECK(relay.reset && relay_is_over(&relay));
	CHECK(reads(program, "word") && reads(program, ""));
	CHECK(!says(program, "answer") && errno == EPIPE);
}

/* What it had sent before is still the program's. */
static void
test_client_takes_nothing(void)
{
	struct pollfd is_reset = { .fd = ours[0] };

	CHECK(says(client, "last"));
	CHECK(says(program, "word"));
	reset_by_client();
	CHECK(poll(&is_reset, 1, 10000) == 1);
	relay_move(&relay);
	CHECK(relay.reset && relay.out.over);
	CHECK(!says(program, "more") && errno == EPIPE);
	run();
	CHECK(reads(program, "last") && reads(program, ""));
	CHECK(relay_is_over(&relay));
}

/* The program has ended; somebody else has its socket, and writes on. */
static void
test_last(void)
{
	CHECK(says(client, "for nobody"));
	run();
	CHECK(says(program, "last words"));
	relay_last(&relay);
	CHECK(!relay_is_over(&relay));
	CHECK(says(program, " and a stray's"));
	run();
	CHECK(relay_is_over(&relay) && !relay.reset);
	CHECK(reads(client, "last words") && reads(client, ""));
}

static void
test_last_of_nothing(void)
{
	CHECK(says(client, "for nobody"));
	relay_last(&relay);
	relay_move(&relay);
	CHECK(relay_is_over(&relay) && reads(client, ""));
	CHECK(reads_nothing(program));
}

/* Some of it is with the relay, some with the kernel. */
static void
test_last_for_slow(void)
{
	size_t sent = 0, got = 0, before;

	do {
		before = sent;
		while (send_more(program, &sent, BULK))
			continue;
		run();
	} while (sent > before);
	CHECK(relay.out.end > relay.out.start);
	relay_last(&relay);
	run();
	CHECK(!relay_is_over(&relay));
	do {
		before = got;
		while (take_more(client, &got, BULK))
			continue;
		run();
	} while (got > before);
	CHECK(got == sent && relay_is_over(&relay) && reads(client, ""));
}

static const struct test tests[] = {
	{ "both ways", test_both_ways },
	{ "client ends", test_client_ends },
	{ "program ends", test_program_ends },
	{ "slow client", test_slow_client },
	{ "slow program", test_slow_program },
	{ "bulk", test_bulk },
	{ "deaf program", test_program_deaf },
	{ "program gone", test_program_gone },
	{ "client resets", test_client_resets },
	{ "client takes nothing", test_client_takes_nothing },
	{ "last words", test_last },
	{ "no last words", test_last_of_nothing },
	{ "last words, slow client", test_last_for_slow }
};

int
main(void)
{
	size_t i;

	alarm(GIVE_UP);
	setvbuf(stdout, NULL, _IONBF, 0);
	for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		begin();
		run_all(&tests[i], 1);
		end();
	}
	return failures != 0;
}
