/*
 * hold.c: many silent clients at once.
 *
 *	hold [-a sources[+first]] [-k seconds] [-l lines] [-T ms] clients target
 *
 * Opens all connections as fast as it can, waits until each has its whole
 * greeting, and holds them: for -k seconds, else until standard input says
 * something or ends; SIGTERM and SIGINT end the holding too.  Then it sends a
 * byte on each and waits for the orderly ends.  Prints a line of key=value
 * after each stage, at once, so that a test can wait for it:
 *
 *	greeted=N failed=N connected_ms=N greeted_ms=N
 *	closed=N early=N reset=N unended=N close_ms=N
 *
 * failed: no connection or no greeting in the time of -T; early: ended by the
 * server while held.  The status is 0 when all were greeted and closed.
 */
#include <sys/epoll.h>

#include <poll.h>
#include <signal.h>
#include <stdbool.h>

#include "client.h"

struct client {
	int		 fd;		/* -1: over */
	unsigned int	 lines;
	bool		 connected;
};

struct hold {
	struct target	 target;
	struct client	*client;
	unsigned int	 count, sources, first_source, lines;
	int		 epoll;
	int		 hold_ms;	/* -1: until told */
	int64_t		 timeout_us;
	int64_t		 started, connected_at;
	bool		 asked;		/* the byte has been sent */
	unsigned int	 connected, greeted, failed;
	unsigned int	 closed, early, reset, unended;
};

static volatile sig_atomic_t stopping;

static void
client_end(struct hold *h, struct client *c, int error)
{
	close(c->fd);
	c->fd = -1;
	if (c->lines < h->lines)
		h->failed++;
	else if (error != 0)
		h->reset++;
	else if (!h->asked)
		h->early++;
	else
		h->closed++;
}

static void
client_take(struct hold *h, struct client *c, const char *chunk, ssize_t n)
{
	ssize_t i;

	for (i = 0; i < n; i++) {
		if (chunk[i] == '\n' && ++c->lines == h->lines)
			h->greeted++;
	}
}

static void
client_event(struct hold *h, struct client *c, uint32_t events)
{
	char chunk[4096];
	ssize_t n;

	if (c->fd == -1)
		return;
	if ((events & EPOLLOUT) != 0 && (events & EPOLLERR) == 0 &&
	    !c->connected) {
		c->connected = true;
		if (++h->connected == h->count)
			h->connected_at = now_us();
	}
	while ((n = recv(c->fd, chunk, sizeof(chunk), 0)) > 0)
		client_take(h, c, chunk, n);
	if (n == 0)
		client_end(h, c, 0);
	else if (errno != EAGAIN)
		client_end(h, c, errno);
}

static void
hold_events(struct hold *h, int timeout_ms)
{
	struct epoll_event event[256];
	int i, n;

	n = epoll_wait(h->epoll, event, 256, timeout_ms);
	if (n == -1 && errno != EINTR)
		err(EXIT_TROUBLE, "epoll_wait");
	for (i = 0; i < n; i++)
		client_event(h, event[i].data.ptr, event[i].events);
}

static void
client_open(struct hold *h, struct client *c)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET };

	/* Only a Unix socket says EAGAIN: its queue is full. */
	while ((c->fd = target_connect(&h->target, SOCK_NONBLOCK)) == -1 &&
	    errno == EAGAIN && now_us() < h->started + h->timeout_us)
		hold_events(h, 1);
	if (c->fd == -1) {
		if (h->failed++ == 0)
			warn("connect");
		return;
	}
	event.data.ptr = c;
	if (epoll_ctl(h->epoll, EPOLL_CTL_ADD, c->fd, &event) == -1)
		err(EXIT_TROUBLE, "epoll_ctl");
}

/* -1 when it has not happened. */
static double
ms_until(const struct hold *h, int64_t at)
{
	return at == 0 ? -1 : (double)(at - h->started) / 1000;
}

static void
hold_open(struct hold *h)
{
	unsigned int i;

	h->started = now_us();
	for (i = 0; i < h->count; i++)
		client_open(h, &h->client[i]);
	while (h->greeted + h->failed < h->count &&
	    now_us() < h->started + h->timeout_us)
		hold_events(h, 100);
	printf("greeted=%u failed=%u connected_ms=%.1f greeted_ms=%.1f\n",
	    h->greeted, h->count - h->greeted,
	    ms_until(h, h->connected_at), ms_until(h, now_us()));
}

static void
hold_keep(struct hold *h)
{
	struct pollfd pfd[2] = {
		{ .fd = h->epoll, .events = POLLIN },
		{ .fd = STDIN_FILENO, .events = POLLIN },
	};
	int64_t end_at = now_us() + (int64_t)h->hold_ms * 1000;
	int left = -1;

	while (!stopping) {
		if (h->hold_ms != -1)
			left = (int)((end_at - now_us()) / 1000);
		if (h->hold_ms != -1 && left <= 0)
			return;
		if (poll(pfd, h->hold_ms == -1 ? 2 : 1, left) == -1)
			continue;
		if (pfd[0].revents != 0)
			hold_events(h, 0);
		if (h->hold_ms == -1 && pfd[1].revents != 0)
			return;
	}
}

static void
hold_close(struct hold *h)
{
	int64_t started = now_us();
	struct client *c;

	h->asked = true;
	for (c = h->client; c < h->client + h->count; c++) {
		if (c->fd != -1 && send(c->fd, "l", 1, MSG_NOSIGNAL) == -1)
			client_end(h, c, errno);
	}
	while (h->closed + h->early + h->reset < h->greeted &&
	    now_us() < started + h->timeout_us)
		hold_events(h, 100);
	h->unended = h->greeted - h->closed - h->early - h->reset;
	printf("closed=%u early=%u reset=%u unended=%u close_ms=%.1f\n",
	    h->closed, h->early, h->reset, h->unended,
	    (double)(now_us() - started) / 1000);
}

static void
on_stop(int sig)
{
	(void)sig;
	stopping = 1;
}

static void
hold_init(struct hold *h, const char *count, const char *target)
{
	struct sigaction action = { .sa_handler = on_stop };

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	h->count = (unsigned int)number(count, 1, 1000000);
	target_parse(&h->target, target);
	h->target.sources = h->sources;
	h->target.first_source = h->first_source;
	/* Some 28,000 ports to an address, not all of them free. */
	if (h->sources == 0)
		h->target.sources = 1 + h->count / 5000;
	room_for(h->count);
	h->client = calloc(h->count, sizeof(*h->client));
	if (h->client == NULL)
		err(EXIT_TROUBLE, NULL);
	h->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (h->epoll == -1)
		err(EXIT_TROUBLE, "epoll_create1");
}

__attribute__((__noreturn__))
static void
usage(void)
{
	fprintf(stderr, "usage: hold [-a sources[+first]] [-k seconds]\n"
	    "	[-l lines] [-T ms] clients target\n");
	exit(EXIT_TROUBLE);
}

static void
option(struct hold *h, int ch, const char *arg)
{
	switch (ch) {
	case 'a':
		sources_parse(arg, &h->sources, &h->first_source);
		break;
	case 'k':
		h->hold_ms = (int)number(arg, 0, 86400) * 1000;
		break;
	case 'l':
		h->lines = (unsigned int)number(arg, 1, 1000000);
		break;
	case 'T':
		h->timeout_us = number(arg, 1, 3600000) * 1000;
		break;
	default:
		usage();
	}
}

int
main(int argc, char *argv[])
{
	struct hold h = { .hold_ms = -1, .lines = 3,
	    .timeout_us = 60000000 };
	int ch;

	while ((ch = getopt(argc, argv, "a:k:l:T:")) != -1)
		option(&h, ch, optarg);
	if (argc - optind != 2)
		usage();
	hold_init(&h, argv[optind], argv[optind + 1]);
	hold_open(&h);
	hold_keep(&h);
	hold_close(&h);
	free(h.client);
	return h.closed != h.count;
}
