/*
 * accounting.c: what it costs to count a connection.
 *
 * All that a worker does for it in its slot, by the same functions: readings of
 * the clock, clients, bytes, service time, and the wait, first as when other
 * workers are idle, then asked of the kernel, on a connection of the loopback
 * interface.  Prints `counted_ns=N asked_ns=N clock_ns=N', medians of a
 * connection; the last is one reading of the clock, of which there are two.
 */

#include <arpa/inet.h>
#include <netinet/in.h>

#include <err.h>
#include <stdlib.h>
#include <unistd.h>

#include "preforkd.h"

#define ROUNDS		101
#define CLIENTS		10000		/* of a round */

static struct slot slot;
static volatile int64_t sink;

static void
count(int fd)
{
	static uint64_t accepted;
	int64_t began = clock_us(), ms = 0;

	slot_begin(&slot);
	numbers_accepted(&slot, ++accepted);
	slot_end(&slot);
	if (fd != -1)
		ms = traffic_silence(fd);
	numbers_waited(&slot, ms * 1000);
	numbers_served(&slot, 1, 187, clock_us() - began);
}

static void
look(int fd)
{
	(void)fd;
	sink = clock_us();
}

static int
compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double
median_ns(void (*work)(int), int fd)
{
	double ns[ROUNDS];
	int64_t began;
	int i, n;

	for (i = 0; i < ROUNDS; i++) {
		began = clock_us();
		for (n = 0; n < CLIENTS; n++)
			work(fd);
		ns[i] = (double)(clock_us() - began) * 1000 / CLIENTS;
	}
	qsort(ns, ROUNDS, sizeof(ns[0]), compare);
	return ns[ROUNDS / 2];
}

/* As accept(2) returns it. */
static int
connection(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	int l = socket(AF_INET, SOCK_STREAM, 0), fd;
	int client = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(l, (struct sockaddr *)&sin, len) == -1 ||
	    listen(l, 1) == -1 ||
	    getsockname(l, (struct sockaddr *)&sin, &len) == -1 ||
	    connect(client, (struct sockaddr *)&sin, len) == -1 ||
	    (fd = accept(l, NULL, NULL)) == -1)
		err(1, "a connection");
	return fd;
}

int
main(void)
{
	int fd = connection();

	printf("counted_ns=%.0f asked_ns=%.0f clock_ns=%.0f\n",
	    median_ns(count, -1), median_ns(count, fd), median_ns(look, -1));
	return 0;
}
