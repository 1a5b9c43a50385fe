/*
 * log.c: one line per message, stamped by the process that says it.
 *
 * Owns the destination, the level, the cached head of a line and the count of
 * lines dropped.  Everybody may call it but signal handlers; it calls nothing
 * of preforkd.  A line is built on the stack and leaves with one write(2):
 * no stdio, no malloc, little static data, because every worker has a copy
 * and the connection log runs at full speed.  errno is preserved.
 *
 * Must not wait for more than 20 ms, so lines can be lost; they are counted.
 * The process must survive SIGPIPE by itself.  log_quote() does not use
 * vis(3): that one depends on the locale, calls malloc for every string and
 * knows no C1; what it writes here unvis(3) and C compilers can read.
 */
#include <sys/types.h>
#include <sys/uio.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hot.h"
#include "log.h"

#define WAIT_MS		20	/* for room in the pipe */
#define STAMP		19	/* bytes of 2026-11-23T14:50:01 */

const char *const log_levels[] = {
	[LOG_LEVEL_ALERT] = "alert",
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_NOTICE] = "notice",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
	NULL
};

static const char *name = "preforkd";
static HOT enum log_level level_max = LOG_LEVEL_INFO;
static HOT int pipe_fd = -1;
static HOT _Atomic unsigned long long *shared_drops;
static HOT unsigned long long dropped;	/* by this process, not yet said */
static HOT bool forked;
static HOT bool echo;

/* `TIME preforkd[PID] ', made anew when the second changes. */
static HOT char head[64];
static HOT size_t head_size;
static HOT time_t head_second = -1;

static void	say(enum log_level, int, const char *, va_list)
		    __attribute__((__format__(printf, 3, 0)));

void
log_init(const char *progname)
{
	name = progname;
	head_second = -1;
}

void
log_to_pipe(int fd, _Atomic unsigned long long *drops)
{
	pipe_fd = fd;
	shared_drops = drops;
	dropped = 0;
	head_second = -1;
}

void
log_echo(bool on)
{
	echo = on;
}

void
log_forked(void)
{
	forked = true;
	dropped = 0;		/* the parent will say them */
	head_second = -1;	/* has the parent's pid */
}

void
log_set_level(enum log_level level)
{
	level_max = level;
}

int
log_wants(enum log_level level)
{
	return level <= level_max;
}

int
log_level_parse(const char *text)
{
	int i;

	for (i = 0; log_levels[i] != NULL; i++)
		if (strcmp(text, log_levels[i]) == 0)
			return i;
	return -1;
}

/* gmtime_r(3) and getpid(2) once a second; the rest is a copy. */
static void
head_renew(time_t second)
{
	struct tm tm;
	int n;

	memset(&tm, 0, sizeof(tm));
	gmtime_r(&second, &tm);
	if (strftime(head, sizeof(head), "%Y-%m-%dT%H:%M:%S", &tm) != STAMP)
		memcpy(head, "0000-00-00T00:00:00", STAMP);
	n = snprintf(head + STAMP, sizeof(head) - STAMP, ".000Z %s[%ld] ",
	    name, (long)getpid());
	head_size = STAMP + (size_t)n;
	if (head_size >= sizeof(head))
		head_size = sizeof(head) - 1;
	head_second = second;
}

/* Begin a line: `TIME preforkd[PID] LEVEL: '; returns its length. */
static size_t
line_head(char *line, enum log_level level)
{
	struct timespec now;
	char *p = line;
	long ms;

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != head_second)
		head_renew(now.tv_sec);
	memcpy(p, head, head_size);
	ms = now.tv_nsec / 1000000;
	p[STAMP + 1] = (char)('0' + ms / 100);
	p[STAMP + 2] = (char)('0' + ms / 10 % 10);
	p[STAMP + 3] = (char)('0' + ms % 10);
	p = stpcpy(p + head_size, log_levels[level]);
	*p++ = ':';
	*p++ = ' ';
	return (size_t)(p - line);
}

/* Bytes of the character or the escape at p, which may end too early. */
static size_t
unit_size(const char *p)
{
	unsigned char c = (unsigned char)*p;

	if (c == '\\')
		return p[1] >= '0' && p[1] <= '7' ? 4 : 2;
	if (c < 0xc0)
		return 1;
	return c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/*
 * Take the broken end off a message that was cut at size: half a character,
 * half an escape; and close its quotes, so that the line still parses.
 */
static size_t
line_mend(char *text, size_t size)
{
	bool quoted = false;
	size_t i, step;

	for (i = 0; i < size; i += step) {
		step = unit_size(text + i);
		if (i + step > size)
			break;
		if (text[i] == '"')
			quoted = !quoted;
	}
	if (quoted)
		text[i++] = '"';
	return i;
}

/*
 * End a line with the text of error, if that is not 0, and a newline.  The
 * message is at text as vsnprintf(3) left it, given room for size - 1 bytes
 * with NUL, and len is what that returned.  Returns the length.
 */
static size_t
line_end(char *text, size_t size, int len, int error)
{
	size_t room = size - 2;		/* for a quote and the newline */
	size_t n = len < 0 ? 0 : (size_t)len;
	char *p;

	if (error != 0 && n < room)
		n += (size_t)snprintf(text + n, room + 1 - n, ": %s",
		    strerror(error));
	if (n > room)
		n = line_mend(text, room);
	/* Callers escape what is not theirs; this is for one that forgot. */
	while ((p = memchr(text, '\n', n)) != NULL)
		*p = ' ';
	text[n++] = '\n';
	return n;
}

size_t
log_line(char *line, size_t size, enum log_level level, const char *fmt, ...)
{
	va_list ap;
	size_t n;
	int len;

	n = line_head(line, level);
	va_start(ap, fmt);
	len = vsnprintf(line + n, size - n - 1, fmt, ap);
	va_end(ap);
	return n + line_end(line + n, size - n, len, 0);
}

/* Wait for room in the pipe; *until is 0 at first.  True: try again. */
static bool
pipe_wait(int64_t *until)
{
	struct pollfd pfd = { .fd = pipe_fd, .events = POLLOUT };
	struct timespec ts;
	int64_t now;
	int n;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
	if (*until == 0)
		*until = now + WAIT_MS;
	if (now >= *until)
		return false;
	n = poll(&pfd, 1, (int)(*until - now));
	return n == 1 || (n == -1 && errno == EINTR);
}

/*
 * While lines are being dropped nobody waits: the reader is stuck, and each
 * connection would be 20 ms late.
 */
static void
pipe_send(const char *line, size_t size)
{
	int64_t until = 0;

	for (;;) {
		if (write(pipe_fd, line, size) != -1) {
			dropped = 0;
			return;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN || dropped > 0 || !pipe_wait(&until))
			break;
	}
	dropped++;
	if (shared_drops != NULL)
		atomic_fetch_add_explicit(shared_drops, 1,
		    memory_order_relaxed);
}

/* `preforkd: MESSAGE', with one write, for a person. */
static void
tell(char *text, size_t size)
{
	char start[40];
	struct iovec iov[2] = { { start, 0 }, { text, size } };

	iov[0].iov_len = (size_t)snprintf(start, sizeof(start), "%.32s: ",
	    name);
	while (writev(STDERR_FILENO, iov, 2) == -1 && errno == EINTR)
		continue;
}

/* The head of the next line, with what must be said before. */
static size_t
say_head(char *line, size_t size, enum log_level level)
{
	size_t n = 0;

	if (pipe_fd == -1)
		return 0;
	/* In the same record: the pipe takes both lines or none. */
	if (dropped > 0)
		n = log_line(line, size, LOG_LEVEL_WARNING,
		    "log lines dropped count=%llu", dropped);
	return n + line_head(line + n, level);
}

static void
say(enum log_level level, int error, const char *fmt, va_list ap)
{
	char line[PIPE_BUF];
	size_t head_end, n;
	int len;

	n = head_end = say_head(line, sizeof(line), level);
	len = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	n += line_end(line + n, sizeof(line) - n, len, error);
	if (pipe_fd != -1)
		pipe_send(line, n);
	if (pipe_fd == -1 || (echo && level <= LOG_LEVEL_ERROR))
		tell(line + head_end, n - head_end);
}

#define SAY(level, error) do {						\
	int saved_ = errno;						\
	va_list ap_;							\
									\
	if (log_wants(level)) {						\
		va_start(ap_, fmt);					\
		say((level), (error), fmt, ap_);			\
		va_end(ap_);						\
		errno = saved_;						\
	}								\
} while (0)

/* A child must not run what the parent registered with atexit(3). */
__attribute__((__noreturn__))
static void
leave(void)
{
	if (forked)
		_exit(EXIT_FAILURE);
	exit(EXIT_FAILURE);
}

void
fatal(const char *fmt, ...)
{
	SAY(LOG_LEVEL_ALERT, saved_);
	leave();
}

void
fatalx(const char *fmt, ...)
{
	SAY(LOG_LEVEL_ALERT, 0);
	leave();
}

void
log_error(const char *fmt, ...)
{
	SAY(LOG_LEVEL_ERROR, saved_);
}

void
log_errorx(const char *fmt, ...)
{
	SAY(LOG_LEVEL_ERROR, 0);
}

void
log_warn(const char *fmt, ...)
{
	SAY(LOG_LEVEL_WARNING, saved_);
}

void
log_warnx(const char *fmt, ...)
{
	SAY(LOG_LEVEL_WARNING, 0);
}

void
log_notice(const char *fmt, ...)
{
	SAY(LOG_LEVEL_NOTICE, 0);
}

void
log_info(const char *fmt, ...)
{
	SAY(LOG_LEVEL_INFO, 0);
}

void
log_debug(const char *fmt, ...)
{
	SAY(LOG_LEVEL_DEBUG, 0);
}

/*
 * The length of the character at s if it is well-formed UTF-8 (RFC 3629) and
 * no control character, else 0.
 */
static size_t
printable(const unsigned char *s, size_t size)
{
	size_t i, n;

	if (s[0] < 0x80)
		return s[0] >= ' ' && s[0] != 0x7f;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (s[0] < 0xc2 || s[0] > 0xf4 || n > size)
		return 0;
	for (i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((s[0] == 0xc2 && s[1] < 0xa0) ||	/* C1 */
	    (s[0] == 0xe0 && s[1] < 0xa0) ||	/* longer than need be */
	    (s[0] == 0xed && s[1] > 0x9f) ||	/* surrogates */
	    (s[0] == 0xf0 && s[1] < 0x90) ||	/* longer than need be */
	    (s[0] == 0xf4 && s[1] > 0x8f))	/* beyond U+10FFFF */
		return 0;
	return n;
}

static size_t
escape(char dst[LOG_UNIT_MAX], unsigned char c)
{
	static const char controls[] = "\a\b\t\n\v\f\r", letters[] = "abtnvfr";
	const char *p;

	dst[0] = '\\';
	if (c == '\\' || c == '"') {
		dst[1] = (char)c;
		return 2;
	}
	if (c != '\0' && (p = strchr(controls, c)) != NULL) {
		dst[1] = letters[p - controls];
		return 2;
	}
	dst[1] = (char)('0' + (c >> 6));
	dst[2] = (char)('0' + (c >> 3 & 7));
	dst[3] = (char)('0' + (c & 7));
	return 4;
}

size_t
log_unit(char dst[LOG_UNIT_MAX], const void *src, size_t size, size_t *used)
{
	const unsigned char *s = src;
	size_t n;

	n = printable(s, size);
	*used = n > 0 ? n : 1;
	if (n == 0)
		return escape(dst, s[0]);
	memcpy(dst, s, n);
	return n;
}

struct bytes {
	const unsigned char *first, *end;
};

/* With these marks escaped, too. */
static char *
escape_all(char *dst, size_t dstsize, struct bytes src, const char *marks)
{
	const unsigned char *s, *end = src.end;
	char unit[LOG_UNIT_MAX], *d = dst;
	size_t n, used;

	if (dstsize == 0)
		return dst;
	for (s = src.first; s < end; s += used) {
		if (*s != '\0' && strchr(marks, *s) != NULL) {
			used = 1;
			n = escape(unit, *s);
		} else
			n = log_unit(unit, s, (size_t)(end - s), &used);
		if (n >= dstsize)
			break;
		memcpy(d, unit, n);
		d += n;
		dstsize -= n;
	}
	*d = '\0';
	return dst;
}

char *
log_quote(char *dst, size_t dstsize, const void *src, size_t size)
{
	const unsigned char *s = src;

	return escape_all(dst, dstsize, (struct bytes){ s, s + size }, "\\\"");
}

char *
log_quoted(char *dst, size_t dstsize, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	return escape_all(dst, dstsize, (struct bytes){ s, s + strlen(text) },
	    "");
}
