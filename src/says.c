/*
 * says.c: what a program says on its standard error, as lines of the log.
 *
 * Is fed the bytes that came out of the program's pipe and cuts them into
 * lines, each of them one quoted value of one record, so that no program can
 * forge a line.  A line of more than SAYS_TEXT bytes is split.  No more than
 * SAYS_LINES are said in SAYS_WINDOW; the others are counted, and their number
 * is said when the window or the program ends, about once in SAYS_WINDOW.
 *
 * Owns nothing but its struct, and knows no descriptor and no clock, so that
 * whoever watches a program can use it.  Calls log.c only.
 */

#include <string.h>

#include "preforkd.h"

static void
say_suppressed(struct says *s, int64_t now)
{
	if (s->suppressed == 0)
		return;
	log_notice("programs say too much service=%s suppressed=%llu",
	    s->service, s->suppressed);
	s->suppressed = 0;
	s->told = now;
}

static void
say_line(struct says *s, bool goes_on)
{
	char text[SAYS_TEXT * LOG_UNIT_MAX + 1];
	const size_t size = s->size;

	s->size = 0;
	if (s->left == 0) {
		s->suppressed++;
		return;
	}
	s->left--;
	log_notice("program says service=%s client=%llu pid=%ld text=\"%s\"%s",
	    s->service, (unsigned long long)s->client, (long)s->pid,
	    log_quote(text, sizeof(text), s->text, size),
	    goes_on ? " split=yes" : "");
}

/* A line, or what there is of it; returns how many bytes that took. */
static size_t
take(struct says *s, const char *data, size_t size)
{
	const size_t room = SAYS_TEXT - s->size;
	const char *lf;
	size_t n;

	if (room == 0 && data[0] != '\n') {
		say_line(s, true);
		return 0;
	}
	lf = memchr(data, '\n', size <= room ? size : room + 1);
	n = lf != NULL ? (size_t)(lf - data) : size < room ? size : room;
	memcpy(s->text + s->size, data, n);
	s->size += n;
	if (lf == NULL)
		return n;
	say_line(s, false);
	return n + 1;
}

void
says_begin(struct says *s, uint64_t client, pid_t pid)
{
	s->client = client;
	s->pid = pid;
	s->size = 0;
}

void
says_feed(struct says *s, int64_t now, const char *data, size_t size)
{
	size_t n;

	if (now >= s->window_end) {
		say_suppressed(s, now);
		s->window_end = now + SAYS_WINDOW;
		s->left = SAYS_LINES;
	}
	for (; size > 0; data += n, size -= n)
		n = take(s, data, size);
}

int64_t
says_due(const struct says *s)
{
	return s->suppressed > 0 ? s->window_end : 0;
}

void
says_end(struct says *s, int64_t now)
{
	if (s->size > 0)
		say_line(s, false);
	if (s->told == 0 || now - s->told >= SAYS_WINDOW)
		say_suppressed(s, now);
}

void
says_finish(struct says *s, int64_t now)
{
	says_end(s, now);
	say_suppressed(s, now);
}
