/*
 * storm.c: many clients, one after another and side by side.
 *
 *	storm [-egru] [-a sources[+first]] [-c concurrency] [-j jobs]
 *	    [-l lines] [-n total] [-s string] [-T ms] [-t seconds] [-x bytes]
 *	    target
 *
 * Each client connects, waits for the lines of the greeting, sends a string
 * and reads to the end.  What became of each is counted in exactly one class,
 * enum fate; the result is one line of key=value, times in microseconds from
 * connect(2).  SIGTERM and SIGINT end it as -t does: nothing new is begun.
 * One process and one epoll per job: it must cost less than what it measures.
 *
 * Linux tells a reset before the handshake as a refusal, so `reset' always
 * means a connection that was established as the client sees it;
 * reset_unserved of these had not been sent a byte.
 */
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/wait.h>

#include <netinet/tcp.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "client.h"

#define NUMBERS_MAX	(32U << 20)	/* client numbers remembered by -u */
#define BUCKETS		2048
#define REPLY_MAX	512
#define JOBS_MAX	64

enum fate {
	FATE_OK,
	FATE_REFUSED,
	FATE_RESET,
	FATE_RESET_UNSERVED,
	FATE_SHORT,		/* end before the expected bytes */
	FATE_WRONG,		/* other bytes than expected */
	FATE_TIMEOUT,
	FATE_TIMEOUT_UNCONNECTED,
	FATE_ERROR,		/* trouble of our own: ports, descriptors */
	FATE_COUNT
};

struct histogram {
	uint64_t	bucket[BUCKETS];
	uint64_t	count;
	int64_t		max;
};

struct result {
	uint64_t	fate[FATE_COUNT];
	struct histogram first, total;
	int64_t		cpu_us;
};

/* Client numbers of all jobs. */
struct numbers {
	_Atomic uint32_t count;
	uint64_t	 number[NUMBERS_MAX];
};

struct client {
	TAILQ_ENTRY(client) entry;	/* oldest first, or spare */
	int		 fd;
	int64_t		 started;
	int64_t		 first;		/* arrival of the first byte, or 0 */
	size_t		 got;
	unsigned int	 lines;
	bool		 sent;
	char		 reply[REPLY_MAX];
};
TAILQ_HEAD(clients, client);

struct options {
	struct target	 target;
	unsigned int	 concurrency, jobs, lines, sources, first_source;
	uint64_t	 total;		/* 0: no end but time */
	int64_t		 seconds;	/* 0: no end but total */
	int64_t		 timeout_us;
	long long	 bytes;		/* of the whole reply; -1: any */
	const char	*string;
	size_t		 string_len;
	bool		 check, collect, half_close, until_refused;
	char		 welcome[256];	/* greeting up to the number */
};

struct storm {
	const struct options *options;
	struct target	 target;
	struct result	*result;
	struct numbers	*numbers;
	struct client	*client;	/* room for all of them */
	struct clients	 active, spare;
	int		 epoll;
	uint64_t	 left;		/* to be begun */
	int64_t		 end_at;	/* 0: none */
	bool		 full;		/* a Unix queue has no room now, ... */
	int64_t		 full_since;	/* ... and for how long, or 0 */
};

static const char *const fate_names[FATE_COUNT] = {
	"ok", "refused", "reset", "reset_unserved", "short", "wrong",
	"timeout", "timeout_unconnected", "error"
};

static const char after_number[] = " to connect to this server !\r\n"
    "Please press any key in your console, after that this server socket "
    "will close\r\n";

static volatile sig_atomic_t stopping;
static pid_t jobs[JOBS_MAX];		/* living ones; else 0 */

/* Latencies: 32 buckets to each doubling, so about 3 % apart. */

static unsigned int
bucket_of(int64_t us)
{
	uint64_t v = us < 0 ? 0 : (uint64_t)us;
	unsigned int shift = 0;

	if (v >= 64)
		shift = 63 - (unsigned int)__builtin_clzll(v) - 5;
	return 32 * shift + (unsigned int)(v >> shift);
}

static int64_t
bucket_value(unsigned int i)
{
	if (i < 64)
		return i;
	return (int64_t)(i % 32 + 32) << (i / 32 - 1);
}

static void
histogram_add(struct histogram *h, int64_t us)
{
	h->bucket[bucket_of(us)]++;
	h->count++;
	if (us > h->max)
		h->max = us;
}

static void
histogram_merge(struct histogram *h, const struct histogram *other)
{
	int i;

	for (i = 0; i < BUCKETS; i++)
		h->bucket[i] += other->bucket[i];
	h->count += other->count;
	if (other->max > h->max)
		h->max = other->max;
}

static int64_t
percentile(const struct histogram *h, unsigned int percent)
{
	uint64_t seen = 0, want = (h->count * percent + 99) / 100;
	unsigned int i;

	for (i = 0; i < BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= want)
			return bucket_value(i);
	}
	return h->max;
}

/* The greeting, byte for byte. */

static void
greeting_prepare(struct options *o)
{
	snprintf(o->welcome, sizeof(o->welcome),
	    "Welcome ! You have connected to %s on port %u\r\n"
	    "You are client #", o->target.host, o->target.port);
}

/* FATE_OK with the client's number, FATE_SHORT for a prefix, FATE_WRONG. */
static enum fate
greeting_check(const struct options *o, const struct client *c, uint64_t *n)
{
	size_t at = 0, len = strlen(o->welcome), digits = 0;

	if (c->got > sizeof(c->reply))
		return FATE_WRONG;
	if (memcmp(c->reply, o->welcome, c->got < len ? c->got : len) != 0)
		return FATE_WRONG;
	*n = 0;
	for (at = len; at < c->got && c->reply[at] >= '0' &&
	    c->reply[at] <= '9' && digits < 20; at++, digits++)
		*n = *n * 10 + (uint64_t)(c->reply[at] - '0');
	if (at >= c->got)
		return FATE_SHORT;
	if (digits == 0 || c->reply[len] == '0')
		return FATE_WRONG;
	len = sizeof(after_number) - 1;
	if (c->got - at > len ||
	    memcmp(c->reply + at, after_number, c->got - at) != 0)
		return FATE_WRONG;
	return c->got - at < len ? FATE_SHORT : FATE_OK;
}

static void
number_collect(struct numbers *numbers, uint64_t n)
{
	uint32_t at = atomic_fetch_add(&numbers->count, 1);

	if (at >= NUMBERS_MAX)
		errx(EXIT_TROUBLE, "-u: more than %u clients", NUMBERS_MAX);
	numbers->number[at] = n;
}

/* The reply has ended in an orderly way: was it all? */
static enum fate
judge(struct storm *s, const struct client *c)
{
	const struct options *o = s->options;
	enum fate fate;
	uint64_t n;

	if (o->check) {
		fate = greeting_check(o, c, &n);
		if (fate == FATE_OK && o->collect)
			number_collect(s->numbers, n);
		return fate;
	}
	if (o->bytes >= 0 && c->got > (uint64_t)o->bytes)
		return FATE_WRONG;
	if (o->bytes >= 0 && c->got < (uint64_t)o->bytes)
		return FATE_SHORT;
	return c->lines < o->lines ? FATE_SHORT : FATE_OK;
}

static enum fate
fate_of_errno(struct storm *s, const struct client *c, int error)
{
	switch (error) {
	case ECONNREFUSED:
	case ENOENT:
		if (s->options->until_refused)
			s->left = 0;
		return FATE_REFUSED;
	case ECONNRESET:
	case EPIPE:
		return c->got == 0 ? FATE_RESET_UNSERVED : FATE_RESET;
	case ETIMEDOUT:
		return FATE_TIMEOUT_UNCONNECTED;
	default:
		if (s->result->fate[FATE_ERROR] == 0)
			warnc(error, "client");
		return FATE_ERROR;
	}
}

static void
client_end(struct storm *s, struct client *c, enum fate fate)
{
	s->result->fate[fate]++;
	if (fate == FATE_OK) {
		histogram_add(&s->result->first, c->first - c->started);
		histogram_add(&s->result->total, now_us() - c->started);
	}
	if (c->fd != -1)
		close(c->fd);
	TAILQ_REMOVE(&s->active, c, entry);
	TAILQ_INSERT_HEAD(&s->spare, c, entry);
}

/* Returns 0, or -1 when the connection is over. */
static int
client_speak(struct storm *s, struct client *c)
{
	const struct options *o = s->options;

	c->sent = true;
	if (o->string_len > 0 &&
	    send(c->fd, o->string, o->string_len, MSG_NOSIGNAL) == -1) {
		client_end(s, c, fate_of_errno(s, c, errno));
		return -1;
	}
	if (o->half_close)
		shutdown(c->fd, SHUT_WR);
	return 0;
}

static void
client_take(struct client *c, const char *chunk, size_t n)
{
	size_t i;

	if (c->got == 0)
		c->first = now_us();
	if (c->got < sizeof(c->reply))
		memcpy(c->reply + c->got, chunk,
		    n < sizeof(c->reply) - c->got ? n :
		    sizeof(c->reply) - c->got);
	for (i = 0; i < n; i++)
		c->lines += chunk[i] == '\n';
	c->got += n;
}

/*
 * Edge-triggered: after a short read nothing can be left but an end that the
 * event has told already, or that will be an event of its own.
 */
static void
client_event(struct storm *s, struct client *c, uint32_t events)
{
	char chunk[4096];
	ssize_t n;

	if ((events & EPOLLOUT) != 0 && !c->sent && s->options->lines == 0 &&
	    (events & EPOLLERR) == 0 && client_speak(s, c) == -1)
		return;
	for (;;) {
		n = recv(c->fd, chunk, sizeof(chunk), 0);
		if (n == 0) {
			client_end(s, c, judge(s, c));
			return;
		}
		if (n == -1) {
			if (errno != EAGAIN)
				client_end(s, c, fate_of_errno(s, c, errno));
			return;
		}
		client_take(c, chunk, (size_t)n);
		if (!c->sent && c->lines >= s->options->lines &&
		    client_speak(s, c) == -1)
			return;
		if ((size_t)n < sizeof(chunk) &&
		    (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0)
			return;
	}
}

static struct client *
client_new(struct storm *s)
{
	struct client *c = TAILQ_FIRST(&s->spare);

	TAILQ_REMOVE(&s->spare, c, entry);
	TAILQ_INSERT_TAIL(&s->active, c, entry);
	c->started = now_us();
	c->first = 0;
	c->got = 0;
	c->lines = 0;
	c->sent = false;
	c->fd = target_connect(&s->target, SOCK_NONBLOCK);
	return c;
}

/* It is tried again, but not longer than a client may take. */
static void
client_put_off(struct storm *s, struct client *c)
{
	s->full = true;
	if (s->full_since == 0)
		s->full_since = c->started;
	if (c->started - s->full_since >= s->options->timeout_us) {
		s->left--;
		client_end(s, c, FATE_TIMEOUT_UNCONNECTED);
		return;
	}
	TAILQ_REMOVE(&s->active, c, entry);
	TAILQ_INSERT_HEAD(&s->spare, c, entry);
}

static void
client_begin(struct storm *s)
{
	struct epoll_event event;
	struct client *c = client_new(s);

	if (c->fd == -1 && errno == EAGAIN) {
		client_put_off(s, c);
		return;
	}
	s->full_since = 0;
	s->left--;
	if (c->fd == -1) {
		client_end(s, c, fate_of_errno(s, c, errno));
		return;
	}
	event.events = EPOLLIN | EPOLLRDHUP | EPOLLET |
	    (s->options->lines == 0 ? EPOLLOUT : 0);
	event.data.ptr = c;
	if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, c->fd, &event) == -1)
		err(EXIT_TROUBLE, "epoll_ctl");
}

static bool
client_connected(const struct client *c)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	return getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == -1 ||
	    info.tcpi_state != TCP_SYN_SENT;
}

/* All clients have the same time, so the oldest is due first. */
static void
storm_expire(struct storm *s)
{
	struct client *c;
	int64_t limit = now_us() - s->options->timeout_us;

	while ((c = TAILQ_FIRST(&s->active)) != NULL && c->started <= limit)
		client_end(s, c, client_connected(c) ? FATE_TIMEOUT :
		    FATE_TIMEOUT_UNCONNECTED);
}

static void
storm_fill(struct storm *s)
{
	if (stopping || (s->end_at != 0 && now_us() >= s->end_at))
		s->left = 0;
	s->full = false;
	while (s->left > 0 && !s->full && !TAILQ_EMPTY(&s->spare))
		client_begin(s);
}

static int
storm_wait_ms(const struct storm *s)
{
	const struct client *c = TAILQ_FIRST(&s->active);
	int64_t us;

	if (s->full || c == NULL)
		return 1;
	us = c->started + s->options->timeout_us - now_us();
	if (s->left > 0 && s->end_at != 0 && us > s->end_at - now_us())
		us = s->end_at - now_us();
	return us < 0 ? 0 : (int)(us / 1000 + 1);
}

static void
storm_run(struct storm *s)
{
	struct epoll_event event[64];
	int i, n;

	storm_fill(s);
	while (s->left > 0 || !TAILQ_EMPTY(&s->active)) {
		n = epoll_wait(s->epoll, event, 64, storm_wait_ms(s));
		if (n == -1 && errno != EINTR)
			err(EXIT_TROUBLE, "epoll_wait");
		for (i = 0; i < n; i++)
			client_event(s, event[i].data.ptr, event[i].events);
		storm_expire(s);
		storm_fill(s);
	}
}

static void
storm_init(struct storm *s, const struct options *o, unsigned int job)
{
	unsigned int i;

	TAILQ_INIT(&s->active);
	TAILQ_INIT(&s->spare);
	s->options = o;
	s->target = o->target;
	s->target.next_source = job;
	s->client = calloc(o->concurrency, sizeof(*s->client));
	if (s->client == NULL)
		err(EXIT_TROUBLE, NULL);
	for (i = 0; i < o->concurrency; i++)
		TAILQ_INSERT_TAIL(&s->spare, &s->client[i], entry);
	s->left = UINT64_MAX;
	if (o->total != 0)
		s->left = o->total / o->jobs + (job < o->total % o->jobs);
	if (o->seconds != 0)
		s->end_at = now_us() + o->seconds * 1000000;
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll == -1)
		err(EXIT_TROUBLE, "epoll_create1");
}

static int64_t
cpu_us(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000 +
	    ru.ru_utime.tv_usec + ru.ru_stime.tv_usec;
}

static void
job_run(const struct options *o, struct result *result,
    struct numbers *numbers, unsigned int job)
{
	struct storm s = { .result = result, .numbers = numbers };

	storm_init(&s, o, job);
	storm_run(&s);
	result->cpu_us = cpu_us();
	close(s.epoll);
	free(s.client);
}

static pid_t
job_start(const struct options *o, struct result *result,
    struct numbers *numbers, unsigned int job)
{
	pid_t parent = getpid(), pid = fork();
	sigset_t none;

	if (pid == -1)
		err(EXIT_TROUBLE, "fork");
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_TROUBLE);
	memset(jobs, 0, sizeof(jobs));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	job_run(o, result, numbers, job);
	_exit(0);
}

static void
job_wait(pid_t *pid)
{
	int status;

	while (waitpid(*pid, &status, 0) == -1)
		if (errno != EINTR)
			err(EXIT_TROUBLE, "waitpid");
	*pid = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		errx(EXIT_TROUBLE, "a job failed");
}

/* The parent passes it on. */
static void
on_stop(int sig)
{
	int i;

	stopping = 1;
	for (i = 0; i < JOBS_MAX; i++)
		if (jobs[i] > 0)
			kill(jobs[i], sig);
}

static void
run_jobs(const struct options *o, struct result *results,
    struct numbers *numbers)
{
	struct sigaction action = { .sa_handler = on_stop };
	sigset_t stops;
	unsigned int i;

	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	sigprocmask(SIG_BLOCK, &stops, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	for (i = 0; i < o->jobs; i++)
		jobs[i] = job_start(o, &results[i], numbers, i);
	sigprocmask(SIG_UNBLOCK, &stops, NULL);
	for (i = 0; i < o->jobs; i++)
		job_wait(&jobs[i]);
}

/* The report. */

static void
result_merge(struct result *sum, const struct result *r)
{
	int i;

	for (i = 0; i < FATE_COUNT; i++)
		sum->fate[i] += r->fate[i];
	/* The wider class has the narrower one in it. */
	sum->fate[FATE_RESET] += r->fate[FATE_RESET_UNSERVED];
	sum->fate[FATE_TIMEOUT] += r->fate[FATE_TIMEOUT_UNCONNECTED];
	histogram_merge(&sum->first, &r->first);
	histogram_merge(&sum->total, &r->total);
	sum->cpu_us += r->cpu_us;
}

static void
print_latency(const char *name, const struct histogram *h)
{
	printf(" %s_p50=%lld %s_p90=%lld %s_p99=%lld %s_max=%lld",
	    name, (long long)percentile(h, 50),
	    name, (long long)percentile(h, 90),
	    name, (long long)percentile(h, 99), name, (long long)h->max);
}

static void
print_result(const struct options *o, const struct result *r, int64_t us)
{
	double seconds = (double)us / 1e6;
	int i;

	for (i = 0; i < FATE_COUNT; i++)
		printf("%s=%llu ", fate_names[i],
		    (unsigned long long)r->fate[i]);
	printf("seconds=%.3f rate=%.0f cpu=%.2f", seconds,
	    (double)r->fate[FATE_OK] / seconds,
	    (double)r->cpu_us / (double)us / o->jobs);
	print_latency("first", &r->first);
	print_latency("total", &r->total);
}

static int
compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Returns the number of duplicates. */
static uint64_t
print_numbers(struct numbers *numbers)
{
	uint32_t i, count = atomic_load(&numbers->count);
	uint64_t *number = numbers->number, duplicates = 0, gaps = 0;

	if (count == 0) {
		printf(" numbers=0");
		return 0;
	}
	qsort(number, count, sizeof(*number), compare);
	for (i = 1; i < count; i++) {
		if (number[i] == number[i - 1])
			duplicates++;
		else
			gaps += number[i] - number[i - 1] - 1;
	}
	printf(" numbers=%u duplicates=%llu min=%llu max=%llu gaps=%llu",
	    count, (unsigned long long)duplicates,
	    (unsigned long long)number[0],
	    (unsigned long long)number[count - 1], (unsigned long long)gaps);
	return duplicates;
}

static int
verdict(const struct options *o, const struct result *r, uint64_t duplicates)
{
	uint64_t failed = duplicates;
	int i;

	for (i = FATE_OK + 1; i < FATE_COUNT; i++)
		if (i != FATE_REFUSED || !o->until_refused)
			failed += r->fate[i];
	return failed != 0;
}

static void *
shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		err(EXIT_TROUBLE, "mmap");
	return p;
}

static int
storm(const struct options *o)
{
	struct result *results = shared(o->jobs * sizeof(*results));
	struct numbers *numbers = shared(sizeof(*numbers));
	struct result sum = { 0 };
	uint64_t duplicates = 0;
	int64_t started = now_us();
	unsigned int i;

	run_jobs(o, results, numbers);
	for (i = 0; i < o->jobs; i++)
		result_merge(&sum, &results[i]);
	print_result(o, &sum, now_us() - started);
	if (o->collect)
		duplicates = print_numbers(numbers);
	printf("\n");
	return verdict(o, &sum, duplicates);
}

/* Options. */

__attribute__((__noreturn__))
static void
usage(void)
{
	fprintf(stderr,
	    "usage: storm [-egru] [-a sources[+first]] [-c concurrency]\n"
	    "	[-j jobs] [-l lines] [-n total] [-s string] [-T ms]\n"
	    "	[-t seconds] [-x bytes] target\n"
	    "-a N+F so many source addresses, from 127.0.0.1 + F on; of IPv6,\n"
	    "       from 2001:db8::1, each of a /64 of its own\n"
	    "-e     end: shut down for writing after the string\n"
	    "-g     check the greeting byte for byte\n"
	    "-l N   lines to wait for before the string is sent (3)\n"
	    "-r     the first refusal ends the storm and is no failure\n"
	    "-s S   string to send (l); may be empty\n"
	    "-T MS  time for one connection (10000)\n"
	    "-u     greeting numbers must be unique (and checked as by -g)\n"
	    "-x N   bytes of a whole reply\n");
	exit(EXIT_TROUBLE);
}

static void
option(struct options *o, int ch, const char *arg)
{
	switch (ch) {
	case 'a':
		sources_parse(arg, &o->sources, &o->first_source);
		break;
	case 'c':
		o->concurrency = (unsigned int)number(arg, 1, 100000);
		break;
	case 'e':
		o->half_close = true;
		break;
	case 'g':
		o->check = true;
		break;
	case 'j':
		o->jobs = (unsigned int)number(arg, 1, JOBS_MAX);
		break;
	case 'l':
		o->lines = (unsigned int)number(arg, 0, 1000000);
		break;
	case 'n':
		o->total = (uint64_t)number(arg, 1, INT64_MAX);
		break;
	case 'r':
		o->until_refused = true;
		break;
	case 's':
		o->string = arg;
		break;
	case 'T':
		o->timeout_us = number(arg, 1, 3600000) * 1000;
		break;
	case 't':
		o->seconds = number(arg, 1, 86400);
		break;
	case 'u':
		o->check = o->collect = true;
		break;
	case 'x':
		o->bytes = number(arg, 0, INT64_MAX);
		break;
	default:
		usage();
	}
}

int
main(int argc, char *argv[])
{
	struct options o = { .concurrency = 16, .jobs = 1, .lines = 3,
	    .sources = 1, .timeout_us = 10000000, .bytes = -1,
	    .string = "l" };
	int ch;

	while ((ch = getopt(argc, argv, "a:c:egj:l:n:rs:T:t:ux:")) != -1)
		option(&o, ch, optarg);
	if (argc - optind != 1)
		usage();
	target_parse(&o.target, argv[optind]);
	o.target.sources = o.sources;
	o.target.first_source = o.first_source;
	o.string_len = strlen(o.string);
	greeting_prepare(&o);
	room_for(o.concurrency);
	return storm(&o);
}
