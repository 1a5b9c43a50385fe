/*
 * conn.c: one connection, as a service sees it: timed reads and writes, the
 * line reader, the addresses of both ends, and how it all ended.
 *
 * Owns struct conn but not its descriptor: the worker accepts it and hands it
 * to linger.c afterwards.  Calls address.c and clock.c only.  Keeps to as few
 * system calls as there can be: without a timeout a call just blocks; with
 * one it is tried first, and poll(2) follows only when it would block.
 * Works on a descriptor of either mode, since a service may have changed it,
 * and whatever signals arrive.
 */

#include <sys/socket.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>

#include "preforkd.h"

/* Of one recv(2) or send(2): what to wait for, until when, and then? */
struct wait {
	short		 events;
	int64_t		 until;		/* 0: for ever */
	enum conn_end	 late;
};

const char *
conn_end_name(enum conn_end end)
{
	static const char *const names[] = {
		[CONN_SERVED] = "served",
		[CONN_CLIENT_CLOSED] = "client-closed",
		[CONN_FIRST_BYTE_TIMEOUT] = "first-byte-timeout",
		[CONN_IDLE_TIMEOUT] = "idle-timeout",
		[CONN_TOTAL_TIMEOUT] = "connection-timeout",
		[CONN_DRAIN_TIMEOUT] = "drain-timeout",
		[CONN_TOO_SLOW] = "too-slow",
		[CONN_MADE_ROOM] = "made-room",
		[CONN_RESET] = "reset",
		[CONN_FAILED] = "failed"
	};

	return names[end];
}

/* Field by field: clearing the line buffer would cost more than the rest. */
void
conn_open(struct conn *c, int fd, const struct address *peer,
    const struct conf_service *conf)
{
	c->fd = fd;
	c->number = 0;
	c->peer = *peer;
	address_unmap(&c->peer);
	c->local_known = false;
	c->peer_text[0] = c->local_text[0] = '\0';
	c->started_us = clock_us();
	c->started = c->started_us / 1000;
	c->first_byte_at = c->total_at = 0;
	if (conf->first_byte_timeout != 0)
		c->first_byte_at = c->started + conf->first_byte_timeout;
	if (conf->connection_timeout != 0)
		c->total_at = c->started + conf->connection_timeout;
	c->idle_timeout = conf->idle_timeout;
	c->min_rate = conf->min_rate;
	c->heard = NULL;
	c->bytes_in = c->bytes_out = c->header = 0;
	c->end = CONN_SERVED;
	c->nfirst = 0;
	c->note[0] = '\0';
	c->line_start = c->line_end = 0;
}

/* Let the earlier deadline win; of two at once, the one tried first. */
static void
wait_until(struct wait *w, int64_t until, enum conn_end late)
{
	if (until != 0 && (w->until == 0 || until < w->until)) {
		w->until = until;
		w->late = late;
	}
}

static int
timed_out(struct conn *c, enum conn_end late)
{
	c->end = late;
	errno = ETIMEDOUT;
	return -1;
}

/* One time is free; then what has gone either way must have kept pace. */
int64_t
conn_slow_at(const struct conn *c)
{
	const uint64_t bytes = c->bytes_in + c->bytes_out;

	return c->started + c->min_rate.per + (int64_t)(bytes *
	    (uint64_t)c->min_rate.per / (uint64_t)c->min_rate.count);
}

/*
 * Prepare for a call.  The total is checked here as well, or a client that
 * never lets a call block would never meet it.
 */
static int
wait_begin(struct conn *c, struct wait *w, short events)
{
	int64_t now;

	w->events = events;
	w->until = 0;
	if (c->total_at == 0 && c->idle_timeout == 0 &&
	    c->first_byte_at == 0 && c->min_rate.count == 0)
		return 0;
	now = clock_now();
	if (c->total_at != 0 && now > c->total_at)
		return timed_out(c, CONN_TOTAL_TIMEOUT);
	if (events == POLLIN)
		wait_until(w, c->first_byte_at, CONN_FIRST_BYTE_TIMEOUT);
	wait_until(w, c->total_at, CONN_TOTAL_TIMEOUT);
	if (c->idle_timeout != 0)
		wait_until(w, now + c->idle_timeout, CONN_IDLE_TIMEOUT);
	if (c->min_rate.count != 0)
		wait_until(w, conn_slow_at(c), CONN_TOO_SLOW);
	return 0;
}

/* Whether a signal has come to make room for another, and it has to. */
static bool
made_room(struct conn *c)
{
	return handler_pending[SIGQUIT] != 0 ||
	    (handler_room != 0 && c->bytes_in == 0 &&
	    clock_now() - c->started >= CONN_SILENT);
}

/* The clock drops fractions: a deadline has passed a millisecond later. */
static int
wait_ready(struct conn *c, const struct wait *w)
{
	struct pollfd pfd = { .fd = c->fd, .events = w->events };
	int64_t left = -1;
	int n;

	for (;;) {
		if (made_room(c))
			return timed_out(c, CONN_MADE_ROOM);
		if (w->until != 0) {
			left = w->until - clock_now() + 1;
			if (left <= 0)
				return timed_out(c, w->late);
			if (left > INT_MAX)
				left = INT_MAX;
		}
		n = poll(&pfd, 1, (int)left);
		if (n > 0)
			return 0;
		if (n == -1 && errno != EINTR) {
			c->end = CONN_FAILED;
			return -1;
		}
	}
}

/* After a call that failed: 0 to try again, or -1 when it is over. */
static int
wait_again(struct conn *c, const struct wait *w)
{
	switch (errno) {
	case EINTR:
		return made_room(c) ? timed_out(c, CONN_MADE_ROOM) : 0;
	case EAGAIN:
		return wait_ready(c, w);
	case EPIPE:		/* it had finished, and now has closed */
		c->end = CONN_CLIENT_CLOSED;
		return -1;
	case ECONNRESET:
		c->end = CONN_RESET;
		return -1;
	default:
		c->end = CONN_FAILED;
		return -1;
	}
}

int
conn_wait(struct conn *c, int64_t until)
{
	struct wait w;

	if (wait_begin(c, &w, POLLIN) == -1)
		return -1;
	wait_until(&w, until, CONN_FIRST_BYTE_TIMEOUT);
	return wait_ready(c, &w);
}

static void
count_in(struct conn *c, const void *buf, size_t size)
{
	size_t room = sizeof(c->first) - (size_t)c->nfirst;

	if (size < room)
		room = size;
	memcpy(c->first + c->nfirst, buf, room);
	c->nfirst += (int)room;
	c->bytes_in += size;
	c->first_byte_at = 0;
	if (c->heard != NULL)
		atomic_store_explicit(c->heard, 1, memory_order_relaxed);
	c->heard = NULL;
}

static ssize_t
receive(struct conn *c, void *buf, size_t size)
{
	struct wait w;
	ssize_t n;

	if (wait_begin(c, &w, POLLIN) == -1)
		return -1;
	for (;;) {
		n = recv(c->fd, buf, size, w.until == 0 ? 0 : MSG_DONTWAIT);
		if (n > 0) {
			count_in(c, buf, (size_t)n);
			return n;
		}
		if (n == 0) {
			c->end = CONN_CLIENT_CLOSED;
			return 0;
		}
		if (wait_again(c, &w) == -1)
			return -1;
	}
}

ssize_t
conn_read(struct conn *c, void *buf, size_t size)
{
	size_t ahead = c->line_end - c->line_start;

	if (size == 0)
		return 0;
	if (ahead == 0)
		return receive(c, buf, size);
	if (size > ahead)
		size = ahead;
	memcpy(buf, c->line + c->line_start, size);
	c->line_start += size;
	return (ssize_t)size;
}

/*
 * Take a line out of what was read ahead.  Returns its length, -1 when there
 * is no whole line yet, or -2 when it cannot fit any more.
 */
static ssize_t
line_take(struct conn *c, char *buf, size_t size)
{
	const char *start = c->line + c->line_start, *lf;
	size_t ahead = c->line_end - c->line_start, length;

	if ((lf = memchr(start, '\n', ahead)) == NULL) {
		/* `size' bytes may still be size - 1 and a CR. */
		return ahead > size || ahead == sizeof(c->line) ? -2 : -1;
	}
	length = (size_t)(lf - start);
	if (length > 0 && start[length - 1] == '\r')
		length--;
	if (length >= size)
		return -2;
	memcpy(buf, start, length);
	buf[length] = '\0';
	c->line_start += (size_t)(lf - start) + 1;
	return (ssize_t)length;
}

/* Read more behind what is there.  Returns as conn_read(). */
static ssize_t
line_fill(struct conn *c)
{
	ssize_t n;

	if (c->line_start > 0) {
		c->line_end -= c->line_start;
		memmove(c->line, c->line + c->line_start, c->line_end);
		c->line_start = 0;
	}
	n = receive(c, c->line + c->line_end, sizeof(c->line) - c->line_end);
	if (n > 0)
		c->line_end += (size_t)n;
	return n;
}

ssize_t
conn_line(struct conn *c, char *buf, size_t size)
{
	ssize_t n;

	while ((n = line_take(c, buf, size)) == -1) {
		if ((n = line_fill(c)) == -1)
			return -1;
		if (n == 0) {
			errno = EPIPE;
			return -1;
		}
	}
	if (n == -2) {
		errno = EMSGSIZE;
		return -1;
	}
	return n;
}

int
conn_write(struct conn *c, const void *buf, size_t size)
{
	const char *p = buf;
	struct wait w;
	ssize_t n;
	int flags;

	while (size > 0) {
		if (wait_begin(c, &w, POLLOUT) == -1)
			return -1;
		flags = MSG_NOSIGNAL | (w.until == 0 ? 0 : MSG_DONTWAIT);
		while ((n = send(c->fd, p, size, flags)) == -1)
			if (wait_again(c, &w) == -1)
				return -1;
		c->bytes_out += (uint64_t)n;
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

int
conn_printf(struct conn *c, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n == -1)
		return -1;
	if ((size_t)n >= sizeof(text)) {
		errno = EMSGSIZE;
		return -1;
	}
	return conn_write(c, text, (size_t)n);
}

uint64_t
conn_number(const struct conn *c)
{
	return c->number;
}

/* The listener's address says it, unless it stands for every address. */
static const struct address *
local_address(struct conn *c)
{
	if (!c->local_known) {
		c->local.len = sizeof(c->local.ss);
		if (getsockname(c->fd, (struct sockaddr *)&c->local.ss,
		    &c->local.len) == -1) {
			/* As good as a socket without a name. */
			c->local.ss.ss_family = AF_UNIX;
			c->local.len = sizeof(sa_family_t);
		}
		address_unmap(&c->local);
		c->local_known = true;
	}
	return &c->local;
}

const char *
conn_local_address(struct conn *c)
{
	if (c->local_text[0] == '\0')
		address_host(local_address(c), c->local_text,
		    sizeof(c->local_text));
	return c->local_text;
}

unsigned int
conn_local_port(struct conn *c)
{
	return address_port(local_address(c));
}

const char *
conn_peer_address(struct conn *c)
{
	if (c->peer_text[0] == '\0')
		address_host(&c->peer, c->peer_text, sizeof(c->peer_text));
	return c->peer_text;
}

unsigned int
conn_peer_port(struct conn *c)
{
	return address_port(&c->peer);
}

int
conn_fd(const struct conn *c)
{
	return c->fd;
}
