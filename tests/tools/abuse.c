/*
 * abuse.c: clients that do not play by the rules, one kind to a subcommand.
 *
 *	abuse [-l lines] [-s string] [-T ms] kind [argument] target
 *
 * Each prints what it saw as a line of key=value; the status is 0 whenever
 * there is something to print, the verdict belongs to the test.
 *
 *	end=eof		the server finished in an orderly way
 *	end=reset	it broke the connection
 *	end=timeout	-T milliseconds have passed first
 *	ms=N		from the start of the connection to that end
 *
 * One connection at a time, but for queue.  Sockets are non-blocking and
 * every wait is a poll(2) with the same deadline.
 */
#include <poll.h>
#include <stdbool.h>

#include "client.h"

struct abuse {
	struct target	 target;
	const char	*string;	/* what a request is */
	unsigned int	 lines;		/* of a complete reply */
	long long	 argument;
	const char	*word;
	int64_t		 timeout_us;
	int64_t		 started, deadline;
	long long	 sent, received;
	unsigned int	 received_lines;
	const char	*end;		/* NULL: not yet */
};

struct kind {
	const char	*name;
	const char	*argument;	/* for usage; NULL: none */
	bool		 word;		/* the argument is no number */
	const char	*string;	/* sent unless -s says another */
	void		(*run)(struct abuse *);
};

static void
begin(struct abuse *a)
{
	a->started = now_us();
	a->deadline = a->started + a->timeout_us;
	a->sent = a->received = 0;
	a->received_lines = 0;
	a->end = NULL;
}

static int
elapsed_ms(const struct abuse *a)
{
	return (int)((now_us() - a->started) / 1000);
}

/* Wait at most until the deadline, or ms if not -1; returns revents or 0. */
static short
wait_for(const struct abuse *a, int fd, short events, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	int64_t left = (a->deadline - now_us() + 999) / 1000;

	if (left < 0)
		left = 0;
	if (ms == -1 || ms > left)
		ms = (int)left;
	return poll(&pfd, 1, ms) == 1 ? pfd.revents : 0;
}

static int
open_client(struct abuse *a)
{
	int error = 0, fd;
	socklen_t len = sizeof(error);

	while ((fd = target_connect(&a->target, SOCK_NONBLOCK)) == -1 &&
	    errno == EAGAIN && now_us() < a->deadline)
		poll(NULL, 0, 1);
	if (fd == -1)
		return -1;
	if (wait_for(a, fd, POLLOUT, -1) == 0)
		error = ETIMEDOUT;
	else
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error == 0)
		return fd;
	close(fd);
	errno = error;
	return -1;
}

static int
must_open(struct abuse *a)
{
	int fd;

	begin(a);
	fd = open_client(a);
	if (fd == -1)
		err(EXIT_TROUBLE, "connect");
	return fd;
}

static void
reset(int fd)
{
	struct linger linger = { .l_onoff = 1 };

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger,
	    sizeof(linger)) == -1)
		err(EXIT_TROUBLE, "setsockopt SO_LINGER");
	close(fd);
}

static void
saw_error(struct abuse *a, int error)
{
	a->end = error == ECONNRESET || error == EPIPE ? "reset" : "error";
}

/* Send size bytes, waiting for room; stops when the server has broken off. */
static void
send_all(struct abuse *a, int fd, const char *p, size_t size)
{
	ssize_t n;

	while (size > 0) {
		n = send(fd, p, size, MSG_NOSIGNAL);
		if (n > 0) {
			a->sent += n;
			p += n;
			size -= (size_t)n;
			continue;
		}
		if (errno != EAGAIN) {
			saw_error(a, errno);
			return;
		}
		if (wait_for(a, fd, POLLOUT, -1) == 0) {
			a->end = "timeout";
			return;
		}
	}
}

/* Take some of what is there; sets the end when it is that. */
static void
take(struct abuse *a, int fd)
{
	char chunk[65536];
	ssize_t i, n;

	n = recv(fd, chunk, sizeof(chunk), 0);
	if (n == 0)
		a->end = "eof";
	else if (n == -1 && errno != EAGAIN)
		saw_error(a, errno);
	for (i = 0; i < n; i++)
		a->received_lines += chunk[i] == '\n';
	if (n > 0)
		a->received += n;
}

/* A reset is told once: one that a send has met stays the end. */
static void
read_all(struct abuse *a, int fd)
{
	const char *met = a->end;

	a->end = NULL;
	while (a->end == NULL && now_us() < a->deadline)
		if (wait_for(a, fd, POLLIN, -1) != 0)
			take(a, fd);
	if (a->end == NULL)
		a->end = "timeout";
	if (met != NULL)
		a->end = met;
}

static void
report(const struct abuse *a)
{
	printf("sent=%lld received=%lld lines=%u end=%s ms=%d\n", a->sent,
	    a->received, a->received_lines, a->end, elapsed_ms(a));
}

/* Connect, and break off before the server can have accepted. */
static void
abuse_rst(struct abuse *a)
{
	long long done = 0, failed = 0;
	int fd;

	while (done + failed < a->argument) {
		begin(a);
		fd = open_client(a);
		if (fd == -1) {
			failed++;
		} else {
			reset(fd);
			done++;
		}
	}
	printf("rst=%lld failed=%lld\n", done, failed);
}

/* Send it all before reading anything. */
static void
abuse_unread(struct abuse *a)
{
	char chunk[10000];
	int fd = must_open(a);

	memset(chunk, 'x', sizeof(chunk));
	while (a->end == NULL && a->sent < a->argument)
		send_all(a, fd, chunk, a->argument - a->sent <
		    (long long)sizeof(chunk) ?
		    (size_t)(a->argument - a->sent) : sizeof(chunk));
	read_all(a, fd);
	report(a);
	close(fd);
}

static void
abuse_halfclose(struct abuse *a)
{
	int fd = must_open(a);

	send_all(a, fd, a->string, strlen(a->string));
	shutdown(fd, SHUT_WR);
	read_all(a, fd);
	report(a);
	close(fd);
}

/* Never read: what the server has in flight stays in flight. */
static void
abuse_zerowindow(struct abuse *a)
{
	int fd = must_open(a), size = 4096;
	short events;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	send_all(a, fd, a->string, strlen(a->string));
	events = wait_for(a, fd, POLLRDHUP, -1);
	if (events == 0)
		a->end = "timeout";
	else
		a->end = (events & POLLERR) != 0 ? "reset" : "eof";
	report(a);
	close(fd);
}

/* Some bytes of one kind: all alike, any, text with what printf(3) minds. */
static size_t
noise_fill(char *p, size_t size)
{
	static const char text[] = "%n%s%x/../\\\"'\r\n\033[2J\xc2\x9b\xff";
	size_t i, n = (size_t)random() % size + 1;
	const long same = random() % 256, kind = random() % 5;

	for (i = 0; i < n; i++)
		p[i] = (char)(kind == 0 ? 0 : kind == 1 ? 0xff :
		    kind == 2 ? same : kind == 3 ? random() % 256 :
		    text[(size_t)random() % sizeof(text)]);
	return n;
}

/*
 * What the seed makes of a client: bytes in pieces, read in between or not,
 * urgent or not; then it finishes and reads on for a moment, or just closes,
 * or breaks off.
 */
static void
abuse_noise(struct abuse *a)
{
	char piece[16384];
	int fd = must_open(a), pieces;
	size_t n;

	srandom((unsigned int)a->argument);
	for (pieces = (int)(random() % 30); pieces > 0 && a->end == NULL;
	    pieces--) {
		n = noise_fill(piece, sizeof(piece));
		if (random() % 8 == 0)
			send(fd, piece, 1, MSG_OOB | MSG_NOSIGNAL);
		while (wait_for(a, fd, POLLIN, 0) != 0 && a->end == NULL &&
		    random() % 4 != 0)
			take(a, fd);
		if (a->end == NULL && wait_for(a, fd, POLLOUT, 20) != 0 &&
		    (n = (size_t)send(fd, piece, n, MSG_NOSIGNAL)) !=
		    (size_t)-1)
			a->sent += (long long)n;
	}
	if (random() % 2 == 0)
		shutdown(fd, SHUT_WR);
	a->deadline = now_us() + 50000;
	read_all(a, fd);
	report(a);
	if (random() % 3 == 0)
		reset(fd);
	else
		close(fd);
}

/* A byte each interval, until the server ends it. */
static void
abuse_drip(struct abuse *a)
{
	int fd = must_open(a);
	int64_t left, next = a->started + a->argument * 1000;

	while (a->end == NULL && now_us() < a->deadline) {
		left = (next - now_us() + 999) / 1000;
		if (wait_for(a, fd, POLLIN, left < 0 ? 0 : (int)left) != 0)
			take(a, fd);
		if (a->end == NULL && now_us() >= next) {
			next += a->argument * 1000;
			send_all(a, fd, "d", 1);
		}
	}
	if (a->end == NULL)
		a->end = "timeout";
	report(a);
	close(fd);
}

/* Urgent data, then: read on, break off, finish and break off. */
static void
abuse_oob(struct abuse *a)
{
	int fd = must_open(a);

	if (send(fd, "!", 1, MSG_OOB | MSG_NOSIGNAL) == -1)
		err(EXIT_TROUBLE, "send MSG_OOB");
	send_all(a, fd, a->string, strlen(a->string));
	if (strcmp(a->word, "read") == 0) {
		read_all(a, fd);
		report(a);
		close(fd);
		return;
	}
	if (wait_for(a, fd, POLLIN, -1) != 0)
		take(a, fd);
	if (strcmp(a->word, "finrst") == 0)
		shutdown(fd, SHUT_WR);
	else if (strcmp(a->word, "rst") != 0)
		errx(EXIT_TROUBLE, "oob: %s: want read, rst or finrst",
		    a->word);
	reset(fd);
	a->end = "ours";
	report(a);
}

/*
 * Take the whole reply, never close.  That the server's end has gone shows
 * only when something is written, and what is written keeps a lingering end
 * alive: the interval decides which of its bounds is met.
 */
static void
abuse_noclose(struct abuse *a)
{
	struct pollfd quiet = { .events = 0 };
	int fd = must_open(a), eof_ms;

	send_all(a, fd, a->string, strlen(a->string));
	read_all(a, fd);
	report(a);
	eof_ms = elapsed_ms(a);
	if (strcmp(a->end, "eof") != 0)
		return;
	quiet.fd = fd;
	a->end = NULL;
	while (a->end == NULL && now_us() < a->deadline) {
		if (poll(&quiet, 1, (int)a->argument) > 0)
			a->end = "reset";
		else
			send_all(a, fd, "n", 1);
	}
	printf("gone=%s gone_ms=%d\n", a->end == NULL ? "timeout" : a->end,
	    elapsed_ms(a) - eof_ms);
	close(fd);
}

static void
abuse_silent(struct abuse *a)
{
	int fd = must_open(a);

	read_all(a, fd);
	report(a);
	close(fd);
}

struct tally {
	long long ok, refused, reset, cut, timeout;
};

static int
queue_open(struct abuse *a, struct tally *tally)
{
	int fd = open_client(a);

	if (fd == -1) {
		tally->refused++;
		return -1;
	}
	a->end = NULL;
	send_all(a, fd, a->string, strlen(a->string));
	if (a->end == NULL)
		return fd;
	tally->reset++;
	close(fd);
	return -1;
}

static void
queue_read(struct abuse *a, int fd, struct tally *tally)
{
	a->end = NULL;
	a->received_lines = 0;
	read_all(a, fd);
	if (strcmp(a->end, "timeout") == 0)
		tally->timeout++;
	else if (strcmp(a->end, "eof") != 0)
		tally->reset++;
	else if (a->received_lines < a->lines)
		tally->cut++;
	else
		tally->ok++;
	close(fd);
}

/* Complete requests wait in the queue until standard input says to read. */
static void
abuse_queue(struct abuse *a)
{
	struct tally tally = { 0 };
	int *fds = calloc((size_t)a->argument, sizeof(*fds));
	long long i;
	char go[64];

	if (fds == NULL)
		err(EXIT_TROUBLE, NULL);
	room_for((rlim_t)a->argument);
	begin(a);
	for (i = 0; i < a->argument; i++)
		fds[i] = queue_open(a, &tally);
	printf("queued=%lld refused=%lld\n",
	    a->argument - tally.refused - tally.reset, tally.refused);
	if (fgets(go, sizeof(go), stdin) == NULL)
		clearerr(stdin);
	begin(a);
	for (i = 0; i < a->argument; i++)
		if (fds[i] != -1)
			queue_read(a, fds[i], &tally);
	printf("ok=%lld refused=%lld reset=%lld short=%lld timeout=%lld\n",
	    tally.ok, tally.refused, tally.reset, tally.cut, tally.timeout);
	free(fds);
}

static const struct kind kinds[] = {
	{ "drip", "interval-ms", false, "", abuse_drip },
	{ "halfclose", NULL, false, "", abuse_halfclose },
	{ "noclose", "interval-ms", false, "l", abuse_noclose },
	{ "noise", "seed", false, "", abuse_noise },
	{ "oob", "read|rst|finrst", true, "l", abuse_oob },
	{ "queue", "clients", false, "l", abuse_queue },
	{ "rst", "times", false, "", abuse_rst },
	{ "silent", NULL, false, "", abuse_silent },
	{ "unread", "bytes", false, "", abuse_unread },
	{ "zerowindow", NULL, false, "", abuse_zerowindow },
};
#define NKINDS	(sizeof(kinds) / sizeof(kinds[0]))

__attribute__((__noreturn__))
static void
usage(void)
{
	size_t i;

	fprintf(stderr, "usage: abuse [-l lines] [-s string] [-T ms] "
	    "kind [argument] target\n");
	for (i = 0; i < NKINDS; i++)
		fprintf(stderr, "\t%s %s\n", kinds[i].name,
		    kinds[i].argument == NULL ? "" : kinds[i].argument);
	exit(EXIT_TROUBLE);
}

static const struct kind *
kind_find(const char *name)
{
	size_t i;

	for (i = 0; i < NKINDS; i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	usage();
}

int
main(int argc, char *argv[])
{
	struct abuse a = { .lines = 3, .timeout_us = 10000000 };
	const struct kind *kind;
	int ch;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((ch = getopt(argc, argv, "+l:s:T:")) != -1) {
		if (ch == 'l')
			a.lines = (unsigned int)number(optarg, 0, 1000000);
		else if (ch == 's')
			a.string = optarg;
		else if (ch == 'T')
			a.timeout_us = number(optarg, 1, 3600000) * 1000;
		else
			usage();
	}
	argc -= optind;
	argv += optind;
	if (argc < 2)
		usage();
	kind = kind_find(argv[0]);
	if (argc != (kind->argument == NULL ? 2 : 3))
		usage();
	if (kind->word)
		a.word = argv[1];
	else if (kind->argument != NULL)
		a.argument = number(argv[1], 1, 1LL << 40);
	if (a.string == NULL)
		a.string = kind->string;
	target_parse(&a.target, argv[argc - 1]);
	kind->run(&a);
	return 0;
}
