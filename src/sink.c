/*
 * sink.c: where log lines end up: standard error, a file, or syslogd.
 *
 * Owns the descriptor of it.  The logger's alone; a start opens it once to
 * know that it can be.  It may block: the logger is the process for that.  It
 * must not log.
 *
 * A file opened by root is a way to write anywhere for whoever can put another
 * file in its place (CVE-2016-1247), so the directory must belong to root
 * alone; /tmp is no place for it.  What a user starts may log where the user
 * may write.
 *
 * syslogd gets datagrams as syslog(3) would write them (RFC 3164), by hand:
 * syslog(3) does not tell that a line is lost, and waits for ever for a
 * syslogd that is stuck.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "preforkd.h"

#define SYSLOG_WAIT	500000	/* us, for a syslogd that takes nothing */
#define STAMP		25	/* bytes of `2026-11-23T14:50:01.123Z ' */
#define SYSLOG_HEAD	64

static int
check_place(const char *path, char error[CONF_ERROR_MAX])
{
	char copy[PATH_MAX], dir[PATH_MAX];
	const char *why;

	strlcpy(copy, path, sizeof(copy));
	why = privs_directory(dirname(copy), dir);
	return why == NULL ? 0 : error_at(error, "log directory", dir, why);
}

static const char *
bad_file(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == -1)
		return strerror(errno);
	if (!S_ISREG(st.st_mode))
		return "must be a regular file";
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return "must belong to root or to the user of the server";
	return NULL;
}

/* A line cut by the death of its writer must not spoil the next one. */
static void
end_last_line(int fd)
{
	struct stat st;
	char last;

	if (fstat(fd, &st) == -1 || st.st_size == 0 ||
	    pread(fd, &last, 1, st.st_size - 1) != 1 || last == '\n')
		return;
	while (write(fd, "\n", 1) == -1 && errno == EINTR)
		continue;
}

/* O_NONBLOCK: a FIFO or a device is refused, not waited for. */
static int
open_file(const char *path, char error[CONF_ERROR_MAX])
{
	const char *why;
	int fd;

	if (geteuid() == 0 && check_place(path, error) == -1)
		return -1;
	fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC |
	    O_NOCTTY | O_NONBLOCK, 0640);
	if (fd == -1)
		return error_at(error, "log file", path, errno == ELOOP ?
		    "must not be a symbolic link" : strerror(errno));
	if ((why = bad_file(fd)) != NULL) {
		close(fd);
		return error_at(error, "log file", path, why);
	}
	end_last_line(fd);
	return fd;
}

int
sink_open(struct sink *s, char error[CONF_ERROR_MAX])
{
	int fd;

	switch (s->conf->kind) {
	case CONF_LOG_STDERR:
		s->fd = STDERR_FILENO;
		break;
	case CONF_LOG_SYSLOG:
		tzset();	/* connects with the first line */
		break;
	case CONF_LOG_FILE:
		if ((fd = open_file(s->conf->path, error)) == -1)
			return -1;
		sink_close(s);
		s->fd = fd;
		break;
	}
	return 0;
}

void
sink_close(struct sink *s)
{
	if (s->fd != -1 && s->fd != STDERR_FILENO)
		close(s->fd);
	s->fd = -1;
}

static size_t
write_stream(const struct sink *s, const char *lines, size_t size)
{
	struct pollfd pfd = { .fd = s->fd, .events = POLLOUT };
	size_t done = 0;
	ssize_t n;

	while (done < size) {
		n = write(s->fd, lines + done, size - done);
		if (n > 0)
			done += (size_t)n;
		else if (n == -1 && errno == EAGAIN)
			poll(&pfd, 1, -1);
		else if (n == 0 || errno != EINTR)
			break;
	}
	return done;
}

/* Its wait is bounded by the socket itself, so send is all there is. */
static bool
syslog_connect(struct sink *s)
{
	const struct timeval wait = { .tv_usec = SYSLOG_WAIT };
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s->fd == -1)
		return false;
	strlcpy(sun.sun_path, _PATH_LOG, sizeof(sun.sun_path));
	if (setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &wait,
	    sizeof(wait)) == 0 &&
	    connect(s->fd, (struct sockaddr *)&sun, sizeof(sun)) == 0)
		return true;
	sink_close(s);
	return false;
}

/*
 * A syslogd that was restarted is another peer: connect anew.  Not at once
 * after it took nothing for the whole wait; the next lines will.
 */
static bool
syslog_send(struct sink *s, struct iovec iov[2])
{
	const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	bool stuck;

	if (s->fd == -1 && !syslog_connect(s))
		return false;
	if (sendmsg(s->fd, &msg, MSG_NOSIGNAL) != -1)
		return true;
	stuck = errno == EAGAIN;
	sink_close(s);
	return !stuck && syslog_connect(s) &&
	    sendmsg(s->fd, &msg, MSG_NOSIGNAL) != -1;
}

/* The severity of a level: the same words, but for two that we do without. */
static int
severity(int level)
{
	return level == LOG_LEVEL_ALERT ? LOG_ALERT :
	    level - LOG_LEVEL_ERROR + LOG_ERR;
}

/*
 * A line begins with `TIME preforkd[PID] LEVEL: '.  Sets *level and returns
 * the length of `preforkd[PID]', or 0 when it begins otherwise: a worker that
 * was taken over may write what it likes, but not as another program.
 */
static size_t
parse_head(const char *line, size_t size, int *level)
{
	static const char name[] = "preforkd[";
	const char *tag = line + STAMP, *end = line + size, *p, *colon;
	char word[16] = "";

	if (size < STAMP + sizeof(name) ||
	    memcmp(tag, name, sizeof(name) - 1) != 0)
		return 0;
	p = tag + sizeof(name) - 1;
	while (p < end && isdigit((unsigned char)*p))
		p++;
	if (end - p < 2 || p[0] != ']' || p[1] != ' ')
		return 0;
	p += 2;
	colon = memchr(p, ':', (size_t)(end - p));
	if (colon == NULL || (size_t)(colon - p) >= sizeof(word))
		return 0;
	memcpy(word, p, (size_t)(colon - p));
	*level = log_level_parse(word);
	return *level == -1 ? 0 : (size_t)(p - 1 - tag);
}

static bool
syslog_line(struct sink *s, char *line, size_t size)
{
	char head[SYSLOG_HEAD], when[20];
	int level, n;
	time_t now = time(NULL);
	struct iovec iov[2];
	struct tm tm;
	size_t tag;

	if ((tag = parse_head(line, size, &level)) == 0)
		level = LOG_LEVEL_NOTICE;
	localtime_r(&now, &tm);
	strftime(when, sizeof(when), "%b %e %H:%M:%S", &tm);
	n = snprintf(head, sizeof(head), "<%d>%s %.*s: ",
	    s->conf->facility | severity(level), when,
	    tag > 0 && tag < 24 ? (int)tag : 8, tag > 0 ? line + STAMP :
	    "preforkd");
	iov[0] = (struct iovec){ head, (size_t)n };
	if (tag > 0)
		tag += STAMP + 1;
	iov[1] = (struct iovec){ line + tag, size - tag };
	return syslog_send(s, iov);
}

static size_t
write_syslog(struct sink *s, char *lines, size_t size)
{
	char *p, *nl;

	for (p = lines; p < lines + size; p = nl + 1) {
		nl = memchr(p, '\n', (size_t)(lines + size - p));
		if (!syslog_line(s, p, (size_t)(nl - p)))
			break;
	}
	return (size_t)(p - lines);
}

size_t
sink_write(struct sink *s, char *lines, size_t size)
{
	if (s->conf->kind == CONF_LOG_SYSLOG)
		return write_syslog(s, lines, size);
	return write_stream(s, lines, size);
}
