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
 * Owns the descriptors it was given.  Calls clock.c only, and who limits the
 * sources of clients, before it waits for one.  No client is kept longer than
 * 2 s without a byte from it, or 30 s in all.  One that was refused is never
 * waited for, has 2 s in all, and makes room for any other.
 */

#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define LINGER_TOTAL	30000
/* A sweep stays with a client of which it found this much. */
#define LINGER_BULK	4096
#define LINGER_FREE	262144	/* bytes taken without waiting */

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

/*
 * The clock drops fractions: a deadline has passed a millisecond later.  A
 * worker that is to leave at once, for its programs, has no time for anybody.
 */
static int
time_left(const struct lingering *l)
{
	int64_t left = deadline(l) - clock_now() + 1;

	return left > 0 && handler_pending[SIGQUIT] == 0 ? (int)left : 0;
}

/* To wait for a client that sends is to serve it: within its limit. */
static bool
may_wait(const struct linger_ring *ring, struct lingering *l, bool ending)
{
	if (l->refused || !ending || !ring->hold())
		return false;
	l->heard = clock_now();
	return true;
}

/*
 * Throw away what the client has sent; once it is a byte at the end of its
 * connection, or 4 kB later on, what is yet to come as well, if somebody may
 * wait for it.  Returns whether the connection is to be closed: the client has
 * ended it, or its time has passed.
 */
static bool
drain(const struct linger_ring *ring, struct lingering *l, bool ending)
{
	struct pollfd pfd = { .fd = l->fd, .events = POLLIN };
	const size_t bulk = ending ? 1 : LINGER_BULK;
	bool waits = !l->refused && ring->hold == NULL;
	size_t taken = 0;
	ssize_t n;

	for (;;) {
		n = recv(l->fd, sink, sizeof(sink), MSG_DONTWAIT | MSG_TRUNC);
		if (n == 0 || (n == -1 && errno != EAGAIN))
			return true;
		if (n > 0) {
			taken += (size_t)n;
			if (waits)
				l->heard = clock_now();
		}
		if (time_left(l) == 0)
			return true;
		if (n > 0 && (waits || taken < LINGER_FREE))
			continue;
		if (taken < bulk)
			return false;
		if (!waits && !(waits = may_wait(ring, l, ending)))
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
		if (pfd[i].revents != 0 ? drain(ring, l, false) :
		    time_left(l) == 0)
			close(l->fd);
		else
			ring->entry[kept++] = *l;
	}
	ring->count = kept;
}

/* The oldest of those that were refused goes; false when there is none. */
static bool
drop_refused(struct linger_ring *ring)
{
	int i;

	for (i = 0; i < ring->count && !ring->entry[i].refused; i++)
		continue;
	if (i == ring->count)
		return false;
	close(ring->entry[i].fd);
	ring->count--;
	memmove(&ring->entry[i], &ring->entry[i + 1],
	    (size_t)(ring->count - i) * sizeof(ring->entry[0]));
	return true;
}

static void
end(struct linger_ring *ring, int fd, bool refused)
{
	struct lingering l = { .fd = fd, .refused = refused };

	/* It fails when the connection was reset, or is over on both sides. */
	if (shutdown(fd, SHUT_WR) == -1) {
		close(fd);
		return;
	}
	l.since = l.heard = clock_now();
	if (drain(ring, &l, true)) {
		close(fd);
		return;
	}
	while (ring->count == LINGER_MAX && !drop_refused(ring)) {
		if (refused) {
			close(fd);
			return;
		}
		look(ring, true);
	}
	ring->entry[ring->count++] = l;
}

void
linger_end(struct linger_ring *ring, int fd)
{
	end(ring, fd, false);
}

void
linger_refuse(struct linger_ring *ring, int fd)
{
	end(ring, fd, true);
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
