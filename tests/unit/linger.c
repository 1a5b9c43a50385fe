/*
 * linger.c: the unit test of src/linger.c: whatever a client sends, it gets
 * the whole reply and an orderly end; and its bounds and those of the ring.
 * The clock can be made to run faster, and entries of the ring to look older,
 * so that nothing waits for 30 s.  Each case prints `ok NAME' or
 * `FAIL NAME: why'.
 */

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

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

#define GIVE_UP	100	/* s: a test that hangs has failed */
#define REPLY	20000	/* bytes */

static struct linger_ring ring;
static int listener;
static int client[LINGER_MAX + 1];
static pid_t dropper;
static int speed = 1;		/* of the clock that src sees */

/* In place of the C library's. */
int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	int n = (int)syscall(SYS_clock_gettime, clock, ts);
	long ns = ts->tv_nsec * speed;

	ts->tv_sec = ts->tv_sec * speed + ns / 1000000000;
	ts->tv_nsec = ns % 1000000000;
	return n;
}

/* Finer than what is tested, or `not too early' could not be seen. */
static double
ms(void)
{
	struct timespec ts;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void
pause_ms(int n)
{
	struct timespec ts = { n / 1000, n % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

static void
open_listener(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&sin, sizeof(sin)) == -1 ||
	    listen(listener, 64) == -1)
		abort();
}

static int
connect_client(void)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (getsockname(listener, (struct sockaddr *)&sin, &len) == -1 ||
	    connect(fd, (struct sockaddr *)&sin, len) == -1)
		abort();
	return fd;
}

static int
accept_client(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd == -1)
		abort();
	return fd;
}

/* Put n connections into the ring; their clients are client[0..n-1]. */
static void
fill(int n)
{
	int i;

	for (i = 0; i < n; i++) {
		client[i] = connect_client();
		linger_end(&ring, accept_client());
	}
	CHECK(ring.count == n);
}

static void
age(int i, int since, int heard)
{
	ring.entry[i].since -= since;
	ring.entry[i].heard -= heard;
}

/* Whether the client has been left for good: what it sends is reset. */
static bool
is_gone(int fd)
{
	int i;

	for (i = 0; i < 100; i++) {
		if (send(fd, "x", 1, MSG_NOSIGNAL) == -1)
			return true;
		pause_ms(5);
	}
	return false;
}

/* A client that sends so much before it reads; exits 0 if all is well. */
static pid_t
eager_client(size_t size, bool close_first)
{
	static char buf[30000];
	size_t got = 0, n;
	ssize_t r;
	pid_t pid;
	int fd;

	if ((pid = fork()) != 0)
		return pid;
	fd = connect_client();
	for (; size > 0; size -= n) {
		n = size < sizeof(buf) ? size : sizeof(buf);
		if (send(fd, buf, n, MSG_NOSIGNAL) != (ssize_t)n)
			_exit(1);
	}
	if (close_first)
		shutdown(fd, SHUT_WR);
	while ((r = recv(fd, buf, sizeof(buf), 0)) > 0)
		got += (size_t)r;
	_exit(r == 0 && got == REPLY ? 0 : 2);
}

/* One connection of a service that reads a little and replies. */
static void
serve(void)
{
	static char reply[REPLY];
	char key[16];
	int fd = accept_client();

	CHECK(recv(fd, key, sizeof(key), 0) > 0);
	CHECK(send(fd, reply, sizeof(reply), MSG_NOSIGNAL) == sizeof(reply));
	linger_end(&ring, fd);
}

static void
test_eager(size_t size, bool close_first, int times)
{
	int status = 0;
	pid_t pid;

	while (times-- > 0) {
		pid = eager_client(size, close_first);
		serve();
		linger_finish(&ring);
		CHECK(ring.count == 0);
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
}

static void
test_eager_clients(void)
{
	test_eager(1, false, 20);
	test_eager(30000, false, 50);
	test_eager(30000, true, 20);
	test_eager(10000000, false, 10);
}

/* The reply needs no byte from the client; a sweep meets its 10 MB. */
static void
test_sweep_bulk(void)
{
	double began;
	int status = 0;
	pid_t pid;

	fill(2);
	close(client[1]);
	if ((pid = fork()) == 0) {
		static char big[10000000];

		_exit(send(client[0], big, sizeof(big), MSG_NOSIGNAL) ==
		    sizeof(big) ? 0 : 1);
	}
	close(client[0]);
	pause_ms(100);
	began = ms();
	linger_sweep(&ring);
	CHECK(ring.count == 0);
	CHECK(ms() - began < 1500);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

/* Nobody waits for a client that has nothing to say, not even its end. */
static void
test_does_not_wait(void)
{
	double began = ms();

	fill(LINGER_MAX);
	linger_sweep(&ring);
	CHECK(ms() - began < 1000);
	CHECK(ring.count == LINGER_MAX);
	while (ring.count > 0) {
		close(client[--ring.count]);
		close(ring.entry[ring.count].fd);
	}
}

static void
test_sweep_closes_ended(void)
{
	char byte;

	fill(1);
	linger_sweep(&ring);
	CHECK(ring.count == 1);
	CHECK(recv(client[0], &byte, 1, 0) == 0);
	close(client[0]);
	linger_sweep(&ring);
	CHECK(ring.count == 0);

	fill(3);
	close(client[1]);
	linger_sweep(&ring);
	CHECK(ring.count == 2);
	close(client[0]);
	close(client[2]);
	linger_sweep(&ring);
	CHECK(ring.count == 0);
}

/* A sweep takes a little input along, and that counts as a sign of life. */
static void
test_sweep_keeps_living(void)
{
	double began;

	fill(2);
	age(0, 1900, 1900);
	age(1, 1900, 1900);
	CHECK(send(client[0], "x", 1, 0) == 1);
	pause_ms(150);
	began = ms();
	linger_sweep(&ring);
	CHECK(ms() - began < 1000);
	CHECK(ring.count == 1);
	CHECK(is_gone(client[1]));
	age(0, 27000, 0);
	CHECK(send(client[0], "x", 1, 0) == 1);
	linger_sweep(&ring);
	CHECK(ring.count == 1);
	age(0, 2000, 0);
	CHECK(send(client[0], "x", 1, 0) == 1);
	linger_sweep(&ring);
	CHECK(ring.count == 0);
	close(client[0]);
	close(client[1]);
}

static void
test_idle_bound(void)
{
	double began = ms(), took;

	fill(2);
	linger_finish(&ring);
	took = ms() - began;
	CHECK(took >= 2000 && took < 3500);
	CHECK(is_gone(client[0]) && is_gone(client[1]));
	close(client[0]);
	close(client[1]);
}

/* A byte every 50 ms, for ever: seen as one in 0.8 s of 30. */
static void
test_drip_in_place(void)
{
	double began, took;
	pid_t pid;
	int fd;

	if ((pid = fork()) == 0) {
		fd = connect_client();
		while (send(fd, "x", 1, MSG_NOSIGNAL) == 1)
			pause_ms(50);
		_exit(0);
	}
	fd = accept_client();
	pause_ms(20);
	speed = 16;
	began = ms();
	linger_end(&ring, fd);
	took = ms() - began;
	speed = 1;
	CHECK(ring.count == 0);
	CHECK(took >= 30000 / 16 && took < 30000 / 16 + 1500);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/*
 * A client so fast that there is always more to take does not escape the
 * bound: with a clock on which 30 s are 3 us, not all of this is taken, and
 * the client is reset.
 */
static void
test_flood_in_place(void)
{
	static char buf[100000];
	socklen_t len = sizeof(int);
	int fd, error = 0;

	client[0] = connect_client();
	fd = accept_client();
	CHECK(send(client[0], buf, sizeof(buf), 0) == sizeof(buf));
	speed = 10000000;
	linger_end(&ring, fd);
	speed = 1;
	CHECK(ring.count == 0);
	CHECK(getsockopt(client[0], SOL_SOCKET, SO_ERROR, &error, &len) == 0);
	CHECK(error == EPIPE || error == ECONNRESET);
	close(client[0]);
}

/* Have client[5] closed in 200 ms, by another process. */
static void
drop_soon(void)
{
	if ((dropper = fork()) == 0) {
		pause_ms(200);
		_exit(0);
	}
	close(client[5]);
	client[5] = -1;
}

static void
empty(void)
{
	int i;

	for (i = 0; i <= LINGER_MAX; i++)
		close(client[i]);
	linger_finish(&ring);
	if (dropper != 0)
		waitpid(dropper, NULL, 0);
	dropper = 0;
}

/* A full ring waits until a client has gone, whichever it is ... */
static void
test_full_ring_end(void)
{
	double began;

	fill(LINGER_MAX);
	client[LINGER_MAX] = connect_client();
	began = ms();
	drop_soon();
	linger_end(&ring, accept_client());
	CHECK(ms() - began >= 200 && ms() - began < 1500);
	CHECK(ring.count == LINGER_MAX);
	empty();
}

/* ... or the oldest is past its time. */
static void
test_full_ring_time(void)
{
	double began = ms();

	fill(LINGER_MAX);
	age(0, 1700, 1700);
	client[LINGER_MAX] = connect_client();
	linger_end(&ring, accept_client());
	CHECK(ms() - began >= 300 && ms() - began < 1500);
	CHECK(ring.count == LINGER_MAX);
	CHECK(is_gone(client[0]));
	empty();
}

/* All at once, not one after another. */
static void
test_finish(void)
{
	double began = ms();
	int i;

	fill(8);
	for (i = 0; i < 8; i++)
		if (i != 5)
			age(i, 1500, 1500);
	drop_soon();
	linger_finish(&ring);
	CHECK(ms() - began >= 500 && ms() - began < 1500);
	CHECK(ring.count == 0);
	empty();
}

static int asked;
static bool answer;

static bool
hold(void)
{
	asked++;
	return answer;
}

/* Where sources are limited, it is asked before a client is waited for. */
static void
test_hold(void)
{
	double began = ms();
	static char big[300000];

	ring.hold = hold;
	asked = 0;
	fill(1);
	CHECK(asked == 0);
	CHECK(send(client[0], big, 5000, 0) == 5000);
	linger_sweep(&ring);		/* in bulk, and no longer waited for */
	CHECK(ring.count == 1 && asked == 0);
	age(0, 1990, 1990);
	pause_ms(20);
	linger_sweep(&ring);		/* what it sent gave it no time */
	CHECK(ring.count == 0);
	close(client[0]);
	client[0] = connect_client();
	CHECK(send(client[0], "x", 1, 0) == 1);
	pause_ms(20);
	answer = false;
	linger_end(&ring, accept_client());
	CHECK(asked == 1 && ring.count == 1);
	client[1] = connect_client();
	CHECK(send(client[1], "x", 1, 0) == 1);
	pause_ms(20);
	answer = true;
	CHECK(ms() - began < 1000);
	linger_end(&ring, accept_client());	/* 2 s without a byte */
	CHECK(ms() - began >= 2000 && asked == 2 && ring.count == 1);
	ring.hold = NULL;
	linger_finish(&ring);
	close(client[0]);
	close(client[1]);
}

/* A client that floods, is refused, and gives way when the ring is full. */
static void
test_refused(void)
{
	double began = ms();
	pid_t pid;
	int fd;

	if ((pid = fork()) == 0) {
		static char big[100000];

		fd = connect_client();
		while (send(fd, big, sizeof(big), MSG_NOSIGNAL) > 0)
			continue;
		_exit(0);
	}
	fd = accept_client();
	pause_ms(20);
	linger_refuse(&ring, fd);
	linger_sweep(&ring);
	CHECK(ms() - began < 1000 && ring.count == 1);
	age(0, 2010, 2010);
	linger_sweep(&ring);
	CHECK(ring.count == 0);
	CHECK(waitpid(pid, NULL, 0) == pid);
	fill(LINGER_MAX - 1);
	client[LINGER_MAX - 1] = connect_client();
	linger_refuse(&ring, accept_client());
	client[LINGER_MAX] = connect_client();
	linger_end(&ring, accept_client());
	CHECK(ring.count == LINGER_MAX && is_gone(client[LINGER_MAX - 1]));
	fd = connect_client();
	linger_refuse(&ring, accept_client());
	CHECK(ring.count == LINGER_MAX && is_gone(fd));
	close(fd);
	CHECK(ms() - began < 2000);
	empty();
}

static void
test_reset(void)
{
	struct linger now = { 1, 0 };
	int fd;

	client[0] = connect_client();
	fd = accept_client();
	setsockopt(client[0], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(client[0]);
	linger_end(&ring, fd);
	CHECK(ring.count == 0);
	CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);

	fill(1);
	setsockopt(client[0], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(client[0]);
	linger_sweep(&ring);
	CHECK(ring.count == 0);
}

static void
test_unix(void)
{
	static char big[100000];
	int fds[2], status = 0;
	pid_t pid;
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == -1)
		abort();
	if ((pid = fork()) == 0) {
		close(fds[0]);
		if (send(fds[1], big, sizeof(big), MSG_NOSIGNAL) !=
		    sizeof(big))
			_exit(1);
		_exit(recv(fds[1], &byte, 1, 0) == 1 &&
		    recv(fds[1], &byte, 1, 0) == 0 ? 0 : 2);
	}
	close(fds[1]);
	CHECK(recv(fds[0], &byte, 1, 0) == 1);
	CHECK(send(fds[0], "x", 1, 0) == 1);
	linger_end(&ring, fds[0]);
	linger_finish(&ring);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static const struct test tests[] = {
	{ "eager clients", test_eager_clients },
	{ "sweep takes bulk", test_sweep_bulk },
	{ "does not wait", test_does_not_wait },
	{ "sweep closes the ended", test_sweep_closes_ended },
	{ "sweep keeps the living", test_sweep_keeps_living },
	{ "idle bound", test_idle_bound },
	{ "drip in place", test_drip_in_place },
	{ "flood in place", test_flood_in_place },
	{ "full ring, an end", test_full_ring_end },
	{ "full ring, time", test_full_ring_time },
	{ "finish", test_finish },
	{ "hold", test_hold },
	{ "refused", test_refused },
	{ "reset", test_reset },
	{ "unix", test_unix }
};

int
main(void)
{
	alarm(GIVE_UP);
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IONBF, 0);
	open_listener();
	run_all(tests, sizeof(tests) / sizeof(tests[0]));
	return failures != 0;
}
