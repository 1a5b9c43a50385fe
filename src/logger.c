/*
 * logger.c: the one process that writes the log, and may block on it.
 *
 * Owns the log pipe and the logger: takes the lines that log.c has stamped,
 * escapes what must not reach a terminal (backslashes stay, the writers have
 * escaped their values), and hands them to the sink, each batch at once.
 * Lines that cannot be written are counted, and said before the next one that
 * can.  SIGUSR1 opens the file anew, between two batches.  Ends when all write
 * ends are closed, or at SIGUSR2; an idle logger makes no system call.  It must
 * not log through log.c: it would wait for itself.
 *
 * Limit: half a line that a full disk took stays so when the file is rotated
 * before there is room.
 *
 * Repeats: only warnings are limited.  Those with the same words, up to the
 * first word with a `=', count as one key; more than 10 of a key within 10 s
 * are counted instead, and the window ends with `suppressed N more: KEY'.
 * After such a window one line passes in each next one, until one passes
 * without a suppressed line.  A full table gives up its oldest key.
 */
#include <sys/types.h>

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define LOGGER_PIPE	(1024 * 1024)
#define LOGGER_LINE	PIPE_BUF	/* longer lines are broken in pieces */
#define RETRY		1000		/* ms, to open the file */
#define REPEAT_KEYS	32
#define REPEAT_KEY	120		/* bytes of it that count */
#define REPEAT_LINES	10
#define REPEAT_WINDOW	10000		/* ms */

struct repeat {
	int64_t		 ends;		/* of its window; 0: unused */
	int		 left;		/* lines that may still pass */
	unsigned long long suppressed;
	size_t		 size;
	char		 key[REPEAT_KEY];
};

struct logger {
	struct sink	 sink;
	struct commons	*commons;		/* for the status */
	int64_t		 now;
	unsigned long long lost;	/* not yet said */
	unsigned long long notice;	/* as out says it, at ... */
	size_t		 notice_at;
	bool		 torn;		/* out begins in the middle of a line */
	size_t		 insize, outsize;
	struct repeat	 repeat[REPEAT_KEYS];
	/* A read takes all there is, so no record is half read. */
	char		 in[LOGGER_PIPE + LOGGER_LINE];
	char		 out[LOGGER_PIPE];
};

/*
 * After out was written up to done, and no further: keep the rest of a line
 * that has begun, so that the next writing ends it; the others are lost.
 */
static void
out_lose(struct logger *l, size_t done)
{
	char *p = l->out + done, *end = l->out + l->outsize, *q;
	unsigned long long lost = 0;
	size_t keep = 0;

	if (done > 0 ? p[-1] != '\n' : l->torn)
		keep = (size_t)((char *)memchr(p, '\n', (size_t)(end - p)) -
		    p) + 1;
	for (q = p + keep; q < end; lost++)
		q = (char *)memchr(q, '\n', (size_t)(end - q)) + 1;
	if (l->notice > 0 && done <= l->notice_at)
		lost--;		/* the notice itself; it is said later */
	else
		l->lost -= l->notice;
	l->notice = 0;
	l->lost += lost;
	atomic_fetch_add(&l->commons->log_dropped, lost);
	memmove(l->out, p, keep);
	l->outsize = keep;
	l->torn = keep > 0;
}

static void
out_flush(struct logger *l)
{
	size_t done = sink_write(&l->sink, l->out, l->outsize);

	if (done < l->outsize) {
		out_lose(l, done);
		return;
	}
	l->lost -= l->notice;
	l->notice = 0;
	l->torn = false;
	l->outsize = 0;
}

/* Bytes at p that need no look at what they mean. */
static size_t
plain(const char *p, size_t size)
{
	size_t i;

	for (i = 0; i < size && p[i] >= ' ' && p[i] <= '~'; i++)
		continue;
	return i;
}

/* Add a line, given without its newline, to what goes out. */
static void
out_line(struct logger *l, const char *line, size_t size)
{
	char *out;
	size_t n, used;

	if (sizeof(l->out) - l->outsize < (size + 1) * LOG_UNIT_MAX +
	    LOGGER_LINE)
		out_flush(l);
	if (l->lost > 0 && l->notice == 0) {
		l->notice = l->lost;
		l->notice_at = l->outsize;
		l->outsize += log_line(l->out + l->outsize, LOGGER_LINE,
		    LOG_LEVEL_WARNING, "log lines dropped count=%llu", l->lost);
	}
	for (out = l->out + l->outsize; size > 0; line += used, size -= used) {
		n = used = plain(line, size);
		if (n > 0)
			memcpy(out, line, n);
		else
			n = log_unit(out, line, size, &used);
		out += n;
	}
	*out++ = '\n';
	l->outsize = (size_t)(out - l->out);
}

/* The window is over, or the logger is: say what it kept back. */
static void
repeat_end(struct logger *l, struct repeat *r)
{
	char line[LOGGER_LINE];
	size_t n;

	if (r->suppressed == 0) {
		r->ends = 0;
		return;
	}
	n = log_line(line, sizeof(line), LOG_LEVEL_WARNING,
	    "suppressed %llu more: %.*s", r->suppressed, (int)r->size,
	    r->key);
	out_line(l, line, n - 1);
	r->suppressed = 0;
	r->left = 1;
	r->ends = l->now + REPEAT_WINDOW;
}

static void
repeat_end_due(struct logger *l)
{
	struct repeat *r;

	for (r = l->repeat; r < l->repeat + REPEAT_KEYS; r++) {
		if (r->ends != 0 && r->ends <= l->now)
			repeat_end(l, r);
	}
}

/* Milliseconds until something must be said; -1 for never. */
static int64_t
repeat_timeout(struct logger *l)
{
	struct repeat *r;
	int64_t least = INT64_MAX;

	for (r = l->repeat; r < l->repeat + REPEAT_KEYS; r++) {
		if (r->suppressed > 0 && r->ends < least)
			least = r->ends;
	}
	if (least == INT64_MAX)
		return -1;
	l->now = clock_now();
	return least > l->now ? least - l->now : 0;
}

/* The entry of a key: its own, or a new one for which the oldest goes. */
static struct repeat *
repeat_find(struct logger *l, const char *key, size_t size)
{
	struct repeat *r, *oldest = l->repeat;

	for (r = l->repeat; r < l->repeat + REPEAT_KEYS; r++) {
		if (r->ends != 0 && r->size == size &&
		    memcmp(r->key, key, size) == 0)
			return r;
		if (r->ends < oldest->ends)
			oldest = r;
	}
	if (oldest->ends != 0)
		repeat_end(l, oldest);
	oldest->ends = l->now + REPEAT_WINDOW;
	oldest->left = REPEAT_LINES;
	oldest->suppressed = 0;
	oldest->size = size;
	memcpy(oldest->key, key, size);
	return oldest;
}

/* The words of a warning, without values; NULL for any other line. */
static const char *
repeat_key(const char *line, size_t size, size_t *keysize)
{
	static const char level[] = "warning: ";
	const char *end = line + size, *p = line, *key;
	int i;

	for (i = 0; i < 2; i++) {	/* time, program */
		p = memchr(p, ' ', (size_t)(end - p));
		if (p == NULL)
			return NULL;
		p++;
	}
	if ((size_t)(end - p) < sizeof(level) - 1 ||
	    memcmp(p, level, sizeof(level) - 1) != 0)
		return NULL;
	key = p + sizeof(level) - 1;
	p = memchr(key, '=', (size_t)(end - key));
	if (p != NULL) {
		while (p > key && *p != ' ')
			p--;
		end = p;
	}
	*keysize = (size_t)(end - key);
	if (*keysize > REPEAT_KEY)
		*keysize = REPEAT_KEY;
	return key;
}

/*
 * What a writer says of its own drops joins ours, or the count would go with
 * a line that is suppressed.  Each batch has room for one notice.
 */
static bool
drops_join(struct logger *l, const char *key, const char *end)
{
	static const char words[] = "log lines dropped count=";
	const size_t size = sizeof(words) - 1;
	unsigned long long n = 0;
	const char *p;

	if ((size_t)(end - key) < size || memcmp(key, words, size) != 0)
		return false;
	for (p = key + size; p < end && *p >= '0' && *p <= '9'; p++)
		n = n * 10 + (unsigned long long)(*p - '0');
	if (l->notice > 0)
		out_flush(l);
	l->lost += n;
	return true;
}

static void
logger_line(struct logger *l, const char *line, size_t size)
{
	struct repeat *r;
	const char *key;
	size_t keysize;

	key = repeat_key(line, size, &keysize);
	if (key != NULL && drops_join(l, key, line + size))
		return;
	if (key != NULL) {
		r = repeat_find(l, key, keysize);
		if (r->left == 0) {
			r->suppressed++;
			return;
		}
		r->left--;
	}
	out_line(l, line, size);
}

/* Take the lines that have come; the start of one stays. */
static void
logger_take(struct logger *l)
{
	char *p = l->in, *end = l->in + l->insize, *nl;
	size_t size;

	while (p < end) {
		size = (size_t)(end - p);
		if (size > LOGGER_LINE)
			size = LOGGER_LINE;
		nl = memchr(p, '\n', size);
		if (nl == NULL && size < LOGGER_LINE)
			break;
		if (nl != NULL)
			size = (size_t)(nl - p);
		if (size > 0)
			logger_line(l, p, size);
		p += size + (nl != NULL);
	}
	l->insize = (size_t)(end - p);
	memmove(l->in, p, l->insize);
}

/* A line of the logger itself. */
static void
logger_say(struct logger *l, enum log_level level, const char *words)
{
	char line[LOGGER_LINE];

	out_line(l, line, log_line(line, sizeof(line), level, "%s", words) - 1);
}

/* The rest of a line stays out of the new file. */
static void
forget_torn(struct logger *l)
{
	if (!l->torn)
		return;
	l->torn = false;
	l->outsize = 0;
	l->lost++;
	atomic_fetch_add(&l->commons->log_dropped, 1);
}

/*
 * SIGUSR1.  What came before it goes into the old file, if that takes it; what
 * is no file is as good as reopened.
 */
static void
logger_reopen(struct logger *l)
{
	_Atomic uint32_t *outcome = &l->commons->log_reopened;
	char error[CONF_ERROR_MAX];

	handler_pending[SIGUSR1] = 0;
	out_flush(l);
	if (sink_open(&l->sink, error) == -1) {
		outcome = &l->commons->log_reopen_failed;
		logger_say(l, LOG_LEVEL_ERROR, "log not reopened, the old file "
		    "goes on");
		logger_say(l, LOG_LEVEL_ERROR, error);
	} else if (l->sink.conf->kind == CONF_LOG_FILE) {
		forget_torn(l);
		logger_say(l, LOG_LEVEL_NOTICE, "log reopened");
	}
	out_flush(l);
	atomic_fetch_add(outcome, 1);
}

/*
 * The start has seen that it can be opened, so this is the successor of a
 * logger that died: its lines wait in the pipe, for as long as there is
 * somebody who writes any.
 */
static void
logger_open(struct logger *l)
{
	struct pollfd hangup = { .fd = STDIN_FILENO };
	char error[CONF_ERROR_MAX] = "";

	while (sink_open(&l->sink, error) == -1) {
		if (sig_poll(&hangup, 1, RETRY) == 1)
			_exit(EXIT_FAILURE);
	}
	if (error[0] != '\0')
		logger_say(l, LOG_LEVEL_ERROR, error);
}

/*
 * Wait for lines; 0 at the end of all writers, or when told to leave: what has
 * been read is written then, and the pipe keeps the rest for another.
 */
static ssize_t
logger_read(struct logger *l)
{
	struct pollfd pfd = { .fd = STDIN_FILENO, .events = POLLIN };

	for (;;) {
		if (handler_pending[SIGUSR1] != 0)
			logger_reopen(l);
		if (handler_pending[SIGUSR2] != 0)
			return 0;
		if (sig_poll(&pfd, 1, repeat_timeout(l)) == 1)
			break;
		l->now = clock_now();
		repeat_end_due(l);
		out_flush(l);
	}
	return read(STDIN_FILENO, l->in + l->insize, sizeof(l->in) - l->insize);
}

__attribute__((__noreturn__))
static void
logger_main(struct logger *l)
{
	/*
	 * While it naps nobody has to wake it, and lines gather for one write:
	 * at one line in 25 us a writer pays 0.6 us for each, else 4 to 5.
	 */
	const int nap = 1;
	struct repeat *r;
	ssize_t n;

	logger_open(l);
	atomic_fetch_add(&l->commons->log_begun, 1);
	while ((n = logger_read(l)) > 0) {
		l->insize += (size_t)n;
		l->now = clock_now();
		repeat_end_due(l);
		logger_take(l);
		out_flush(l);
		sig_poll(NULL, 0, nap);
	}
	if (l->insize > 0)
		logger_line(l, l->in, l->insize);
	for (r = l->repeat; r < l->repeat + REPEAT_KEYS; r++)
		repeat_end(l, r);
	out_flush(l);
	_exit(n == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/*
 * In the child, which needs nothing but the pipe and perhaps standard error.
 * A file it opens again and again, in a directory that is root's: so it stays
 * root when the server is.
 */
__attribute__((__noreturn__))
static void
logger_child(int readfd, const struct conf_log *conf, struct scoreboard *board)
{
	struct logger *l;

	log_forked();
	sig_logger();
	if (scoreboard_confine(board) == -1)
		fatal("logger: munmap");
	l = calloc(1, sizeof(*l));
	if (l == NULL)
		fatal("logger: calloc");
	l->sink = (struct sink){ .conf = conf, .fd = -1 };
	l->commons = board->commons;
	privs_drop_logger(conf->kind == CONF_LOG_FILE);
	daemon_let_go();
	if (readfd != STDIN_FILENO &&
	    dup3(readfd, STDIN_FILENO, O_CLOEXEC) == -1)
		fatal("logger: dup3");
	close(STDOUT_FILENO);
	/* Nobody is to wait for the end of one that is not used. */
	if (conf->kind != CONF_LOG_STDERR &&
	    dup2(FD_NULL, STDERR_FILENO) == -1)
		fatal("logger: dup2");
	closefrom(STDERR_FILENO + 1);
	setproctitle("logger");
	logger_main(l);
}

pid_t
logger_start(int readfd, const struct conf_log *conf, struct scoreboard *board)
{
	sigset_t old;
	pid_t pid;

	sig_block(&old);
	pid = fork();
	if (pid == 0)
		logger_child(readfd, conf, board);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return pid;
}

int
logger_pipe(int fds[2])
{
	if (pipe2(fds, O_CLOEXEC) == -1)
		return -1;
	if (fcntl(fds[1], F_SETFL, O_NONBLOCK) == -1) {
		close(fds[0]);
		close(fds[1]);
		return -1;
	}
#ifdef F_SETPIPE_SZ
	/* A user may have only so much: fs.pipe-max-size, pipe(7). */
	for (int size = LOGGER_PIPE; size > 65536; size /= 2) {
		if (fcntl(fds[1], F_SETPIPE_SZ, size) != -1)
			break;
	}
#endif
	return 0;
}
