/*
 * relay.c: bytes between a client and a program that have no socket in common.
 *
 * Two ways, each with room for RELAY_ROOM bytes: what cannot be sent on is not
 * followed by more, so whoever is slow slows the other down.  The end of one
 * way is passed on when all before it has been, by shutdown(2), and the other
 * way goes on.  A client that has reset the connection is the end of both.
 *
 * Never waits: the caller polls for what relay_events() says.  Owns neither
 * descriptor, and works whatever their mode.  Calls clock.c only.  One relay
 * at a time in a process, for the room is shared.
 */

#include <sys/ioctl.h>
#include <sys/socket.h>

#include <errno.h>
#include <limits.h>

#include "preforkd.h"

/* Of one way, before signals and deadlines have a turn. */
#define TURNS	8

static char room[2][RELAY_ROOM];

void
relay_begin(struct relay *r, int client, int program)
{
	*r = (struct relay){ .moved_at = clock_now(),
	    .in = { .from = client, .to = program, .room = room[0],
	    .left = UINT64_MAX },
	    .out = { .from = program, .to = client, .room = room[1],
	    .left = UINT64_MAX } };
}

static bool
is_empty(const struct relay_way *w)
{
	return w->start == w->end;
}

static short
reads(const struct relay_way *w)
{
	return !w->over && is_empty(w) ? POLLIN : 0;
}

static short
writes(const struct relay_way *w)
{
	return !w->over && !is_empty(w) ? POLLOUT : 0;
}

/* A descriptor that nothing is asked of would still report its end, always. */
void
relay_events(const struct relay *r, struct pollfd pfd[2])
{
	pfd[0].events = reads(&r->in) | writes(&r->out);
	pfd[1].events = reads(&r->out) | writes(&r->in);
	pfd[0].fd = pfd[0].events != 0 ? r->in.from : -1;
	pfd[1].fd = pfd[1].events != 0 ? r->out.from : -1;
	pfd[0].revents = pfd[1].revents = 0;
}

/* Both return whether to go on; else errno says why, or 0: it is the end. */
static bool
take(struct relay_way *w)
{
	const size_t most = w->left < RELAY_ROOM ? (size_t)w->left :
	    RELAY_ROOM;
	ssize_t n = 0;

	if (most > 0)
		n = recv(w->from, w->room, most, MSG_DONTWAIT);
	w->start = 0;
	w->end = n > 0 ? (size_t)n : 0;
	if (n == 0)
		errno = 0;
	if (w->left != UINT64_MAX)
		w->left -= w->end;
	return n > 0;
}

static bool
give(struct relay_way *w)
{
	ssize_t n = send(w->to, w->room + w->start, w->end - w->start,
	    MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n == -1)
		return false;
	w->start += (size_t)n;
	w->moved += (uint64_t)n;
	return true;
}

static void
give_up(struct relay_way *w)
{
	w->over = true;
	w->start = w->end = 0;
}

static void
was_reset(struct relay *r)
{
	r->reset = true;
	give_up(&r->in);
	give_up(&r->out);
	shutdown(r->in.to, SHUT_RDWR);
}

/* The client takes nothing more; what it has sent goes on to the program. */
static void
takes_nothing(struct relay *r)
{
	r->reset = true;
	give_up(&r->out);
	shutdown(r->out.from, SHUT_RD);
}

static bool
is_later(int error)
{
	return error == EAGAIN || error == EINTR;
}

/* Reading has failed, or come to the end. */
static void
read_end(struct relay *r, struct relay_way *w, int error)
{
	if (error != 0 && w == &r->in) {
		was_reset(r);
		return;
	}
	/* A program that left without having read all: its end, too. */
	w->over = true;
	shutdown(w->to, SHUT_WR);
}

static void
move(struct relay *r, struct relay_way *w)
{
	int i;

	for (i = 0; i < TURNS && !w->over; i++) {
		if (is_empty(w) && !take(w)) {
			if (!is_later(errno))
				read_end(r, w, errno);
			else if (w->left != UINT64_MAX)
				read_end(r, w, 0);
			break;
		}
		if (!give(w)) {
			if (is_later(errno))
				break;
			if (w == &r->out)
				takes_nothing(r);
			else
				give_up(w);
			break;
		}
		r->moved_at = clock_now();
	}
	if (!w->over && is_empty(w) && w->left == 0)
		read_end(r, w, 0);
}

void
relay_move(struct relay *r)
{
	move(r, &r->out);
	move(r, &r->in);
}

void
relay_last(struct relay *r)
{
	int n = 0;

	give_up(&r->in);
	if (ioctl(r->out.from, FIONREAD, &n) == -1)
		n = 0;
	r->out.left = (uint64_t)n;
}

bool
relay_is_over(const struct relay *r)
{
	return r->in.over && r->out.over;
}

void
relay_traffic(const struct relay *r, struct traffic *t)
{
	t->in = r->in.moved;
	t->out = r->out.moved;
	if (t->moved > 0)
		return;
	t->moved = t->in + t->out;
	t->quiet = clock_now() - r->moved_at;
}
