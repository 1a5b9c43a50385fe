/*
 * linger.c: connections that are over but for the client's end.
 *
 * Closing while the client still sends, or before what it sent was read,
 * answers with a reset, which can destroy the reply on its way.  So each
 * connection is shut for writing, its input is thrown away, and it is closed
 * when the client has closed too: mostly after the next connection, so that
 * nobody waits for a round trip.  A client that sends in earnest is drained
 * in place instead, or it would be stuck before it reads a byte.
 *
 * Owns the descriptors it was given.  Calls clock.c only.  No client is kept
 * longer than 2 s without a byte from it, or 30 s in all.
 */

#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "preforkd.h"

#define LINGER_TOTAL	30000
/* A sweep stays with a client of which it found this much. */
#define LINGER_BULK	4096

/*
 * With MSG_TRUNC, TCP on Linux throws data away without copying it: half the
 * time, and as nothing is written here, 10,000 workers have no page of it.
 */
static char sink[65536];

static int64_t
deadline(const struct lingering *l)
{
	int64_t idle = l->heard + LINGER_IDLE, total = l->since + LINGER_TOTAL;

	return idle < total ? idle : total;
}

/* The clock drops fractions: a deadline has passed a millisecond later. */
static int
time_left(const struct lingering *l)
{
	int64_t left = deadline(l) - clock_now() + 1;

	return left > 0 ? (int)left : 0;
}

/*
 * Throw away what the client has sent; once it is `bulk' bytes, what is yet
 * to come as well.  Returns whether the connection is to be closed: the
 * client has ended it, or its time has passed.
 */
static bool
drain(struct lingering *l, size_t bulk)
{
	struct pollfd pfd = { .fd = l->fd, .events = POLLIN };
	size_t taken = 0;
	ssize_t n;

	for (;;) {
		n = recv(l->fd, sink, sizeof(sink), MSG_DONTWAIT | MSG_TRUNC);
		if (n == 0 || (n == -1 && errno != EAGAIN))
			return true;
		if (n > 0) {
			taken += (size_t)n;
			l->heard = clock_now();
		}
		if (time_left(l) == 0)
			return true;
		if (n > 0)
			continue;
		if (taken < bulk)
			return false;
		poll(&pfd, 1, time_left(l));
	}
}

/* Look after all of them; `wait': until one needs it. */
static void
look(struct linger_ring *ring, bool wait)
{
	struct pollfd pfd[LINGER_MAX];
	struct lingering *l;
	int i, kept, left, first = LINGER_TOTAL;

	for (i = 0; i < ring->count; i++) {
		l = &ring->entry[i];
		/* One alone is simply tried. */
		pfd[i] = (struct pollfd){ .fd = l->fd, .events = POLLIN,
		    .revents = POLLIN };
		if (wait && (left = time_left(l)) < first)
			first = left;
	}
	if (wait || ring->count > 1)
		poll(pfd, (nfds_t)ring->count, wait ? first : 0);
	for (i = kept = 0; i < ring->count; i++) {
		l = &ring->entry[i];
		if (pfd[i].revents != 0 ? drain(l, LINGER_BULK) :
		    time_left(l) == 0)
			close(l->fd);
		else
			ring->entry[kept++] = *l;
	}
	ring->count = kept;
}

void
linger_end(struct linger_ring *ring, int fd)
{
	struct lingering l = { .fd = fd };

	/* It fails when the client has reset the connection. */
	if (shutdown(fd, SHUT_WR) == -1) {
		close(fd);
		return;
	}
	l.since = l.heard = clock_now();
	if (drain(&l, 1)) {
		close(fd);
		return;
	}
	while (ring->count == LINGER_MAX)
		look(ring, true);
	ring->entry[ring->count++] = l;
}

void
linger_sweep(struct linger_ring *ring)
{
	if (ring->count > 0)
		look(ring, false);
}

void
linger_finish(struct linger_ring *ring)
{
	while (ring->count > 0)
		look(ring, true);
}
