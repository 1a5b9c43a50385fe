/*
 * master.c: the loop, and how it all stops.
 *
 * Owns struct master.  One pass: empty the wake-up pipe, bury the dead, then
 * stop, reload, look at the pools and plan, listeners that leave.  Signals are
 * blocked but for ppoll(2), so that no news slips between looking and
 * sleeping.  It never serves a client, never waits for a worker, and takes
 * from the shared map only numbers, for sizing and statistics (look.c).
 */

#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <poll.h>
#include <sysexits.h>
#include <unistd.h>

#include "preforkd.h"

#define LISTENER_EVERY	20	/* ms between looks at a listener that leaves */
#define PULLED_EVERY	100	/* ... whose workers are finishing */
#define LOGGER_BEGINS	5	/* ms between looks at one that starts */
#define LOGGER_EVERY	1000	/* a dead logger is replaced */
#define LOGGER_TIME	2000	/* for its last line */
#define VAIN_PASSES	16	/* in a row, for the wake-up pipe alone */
#define VAIN_PAUSE	10	/* ms without it then */
#define START_FORKS	400	/* ms of delay: 4 failures end a start */

/*
 * Memory that no child inherits: what the master knows is none of a worker's
 * business, and a worker born between two of its changes would keep a copy of
 * the page for itself.
 */
static void *
private_table(size_t n, size_t size)
{
	void *p;

	p = mmap(NULL, n * size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || madvise(p, n * size, MADV_DONTFORK) == -1)
		fatal("mmap of the table of workers");
	return p;
}

void
master_allocate(struct master *m)
{
	int n = m->board.nslots;

	m->child = private_table((size_t)n, sizeof(*m->child));
	m->pid = private_table((size_t)n, sizeof(*m->pid));
	m->unused = private_table((size_t)n, sizeof(*m->unused));
	while (n > 0)
		m->unused[m->nunused++] = --n;
	m->reload.fd = m->reload.rules = -1;
	m->upgrade.binary = m->upgrade.state = -1;
	TAILQ_INIT(&m->generations);
	TAILQ_INIT(&m->pools);
	TAILQ_INIT(&m->listeners);
}

void
master_wake_at(struct master *m, int64_t when)
{
	if (m->wake_at == 0 || when < m->wake_at)
		m->wake_at = when;
}

/* What the master gives a worker that leaves, who keeps drain-timeout. */
static int64_t
drain_time(const struct pool *p)
{
	const struct conf_service *conf = p->service->conf;

	return conf->drain_timeout + program_grace(conf);
}

void
master_pull(struct master *m, struct pool *p)
{
	const struct generation *g = p->service->generation;
	int64_t from = g->leave_from;
	int i;

	if (from == 0)
		from = m->stop_from != 0 ? m->stop_from : m->now;
	p->leaving = true;
	for (i = 0; i < m->board.nslots; i++)
		if (m->pid[i] != 0 && m->child[i].pool == p)
			spawn_retire(m, i, from + drain_time(p),
			    "drain-timeout passed");
}

void
master_farewell(struct master *m, struct listener *l)
{
	const struct pool *p;
	int64_t longest = 0;

	if (l->state > LISTENER_OPEN)
		return;
	TAILQ_FOREACH(p, &m->pools, entry)
		if (p->listener == l &&
		    p->service->conf->drain_timeout > longest)
			longest = p->service->conf->drain_timeout;
	listen_refuse(l);
	l->leave_by = m->now + longest;
	master_wake_at(m, m->now);
}

/* All workers dead: nothing holds the port but the master. */
static void
close_all(struct master *m)
{
	struct listener *l;
	struct pool *p;
	int alive = 0;

	TAILQ_FOREACH(p, &m->pools, entry) {
		p->leaving = true;
		alive += p->alive;
	}
	TAILQ_FOREACH(l, &m->listeners, entry)
		if (alive == 0)
			l->state = LISTENER_CLOSED;
}

/* A pool of a generation that is coming up: a farewell is not for it. */
static bool
coming(const struct master *m, const struct pool *p)
{
	return m->state == MASTER_RUNNING && !p->service->generation->ready;
}

/* Its workers are due as well; who is queued has waited too long. */
static void
cut_queue(struct master *m, struct listener *l)
{
	struct pool *p;

	listen_measure(l);
	log_warnx("clients in the queue are cut, drain-timeout passed "
	    "address=%s queued=%d", l->name, l->waiting);
	TAILQ_FOREACH(p, &m->pools, entry)
		if (p->listener == l)
			master_pull(m, p);
	l->state = LISTENER_CLOSED;
	master_wake_at(m, m->now);
}

/* A client was queued after all. */
static void
ask_back(struct master *m, struct listener *l)
{
	struct pool *p;

	TAILQ_FOREACH(p, &m->pools, entry)
		if (p->listener == l && !coming(m, p))
			break;
	if (p != NULL)
		p->leaving = false;
	l->state = LISTENER_LEAVING;
	l->empty_since = 0;
	master_wake_at(m, m->now);
}

/* Pull its workers; how many there are, those of a coming pool not counted. */
static int
pull_all(struct master *m, struct listener *l, bool *kept)
{
	struct pool *p;
	int alive = 0;

	*kept = false;
	TAILQ_FOREACH(p, &m->pools, entry) {
		if (p->listener != l)
			continue;
		if (coming(m, p)) {
			*kept = true;
			continue;
		}
		if (l->state != LISTENER_PULLED)
			master_pull(m, p);
		alive += p->alive;
	}
	l->state = LISTENER_PULLED;
	return alive;
}

/*
 * The workers of a listener that leaves: told to go when its queue has been
 * empty for a while, asked back when a client was queued all the same.  A
 * reload that runs may want it back; then it is not closed.
 */
static void
farewell(struct master *m, struct listener *l)
{
	bool pulled = l->state == LISTENER_PULLED, kept;
	bool over = m->state == MASTER_RUNNING && m->now >= l->leave_by;
	int alive;

	if (!pulled && !over && !listen_quiet(l, m->now)) {
		master_wake_at(m, m->now + LISTENER_EVERY);
		return;
	}
	if (pulled && !over && listen_pending(l)) {
		ask_back(m, l);
		return;
	}
	alive = pull_all(m, l, &kept);
	if (!kept && over && listen_pending(l))
		cut_queue(m, l);
	else if (!kept && pulled && alive == 0)
		l->state = LISTENER_CLOSED;
	master_wake_at(m, m->now + (alive == 0 && !kept ? 0 : PULLED_EVERY));
}

static bool
tells(const struct master *m, const struct listener *l)
{
	const struct pool *p;

	TAILQ_FOREACH(p, &m->pools, entry)
		if (p->listener == l)
			return conf_tells(p->service->conf);
	return false;
}

/* In a stop; those that tell of it go when there is nothing else any more. */
static void
begin_farewells(struct master *m)
{
	const struct pool *p;
	struct listener *l;

	TAILQ_FOREACH(p, &m->pools, entry)
		if (!conf_tells(p->service->conf))
			break;
	TAILQ_FOREACH(l, &m->listeners, entry)
		if (p == NULL || !tells(m, l))
			master_farewell(m, l);
}

static void
farewells(struct master *m)
{
	struct listener *l;

	if (m->state == MASTER_KILLING) {
		close_all(m);
		return;
	}
	if (m->state == MASTER_DRAINING)
		begin_farewells(m);
	TAILQ_FOREACH(l, &m->listeners, entry)
		if (l->state == LISTENER_LEAVING ||
		    l->state == LISTENER_PULLED)
			farewell(m, l);
}

/* Those in a queue are cut as well: nobody will accept them. */
static void
count_queued(struct master *m)
{
	struct listener *l;

	TAILQ_FOREACH(l, &m->listeners, entry) {
		listen_measure(l);
		if (!l->inherited)
			m->cut += (uint64_t)l->waiting;
	}
}

static void
stop_at_once(struct master *m, const char *why)
{
	int i;

	if (m->state == MASTER_KILLING)
		return;
	log_notice("stopping at once why=\"%s\"", why);
	m->state = MASTER_KILLING;
	reload_cancel(m);
	count_queued(m);
	for (i = 0; i < m->board.nslots; i++) {
		if (m->pid[i] == 0)
			continue;
		if (m->child[i].state != CHILD_KILLED &&
		    look_serving(&m->board.commons->slot[i]))
			m->cut++;
		spawn_quit(m, i);
	}
}

static int64_t
longest_drain(const struct master *m)
{
	const struct pool *p;
	int64_t longest = 0;

	TAILQ_FOREACH(p, &m->pools, entry)
		if (drain_time(p) > longest)
			longest = drain_time(p);
	return longest;
}

static void
stop_gracefully(struct master *m)
{
	log_notice("stopping, clients finish");
	m->state = MASTER_DRAINING;
	m->stop_from = m->now;
	atomic_store(&m->board.status->stop_from, m->now);
	m->stop_by = m->now + longest_drain(m);
	reload_cancel(m);
}

/* Whether the signal came; the flag is cleared before anything is done. */
static bool
taken(int number)
{
	bool pending = handler_pending[number] != 0;

	handler_pending[number] = 0;
	return pending;
}

static void
act_on_stop(struct master *m)
{
	if (taken(SIGINT) || taken(SIGQUIT))
		stop_at_once(m, "SIGINT or SIGQUIT");
	if (taken(SIGTERM)) {
		if (m->state < MASTER_DRAINING)
			stop_gracefully(m);
		else
			stop_at_once(m, "a second SIGTERM");
	}
	if (m->state != MASTER_DRAINING)
		return;
	if (m->now >= m->stop_by)
		stop_at_once(m, "drain-timeout passed");
	else
		master_wake_at(m, m->stop_by);
}

/* A reload or upgrade asked for while one runs waits in its flag. */
static void
act_on_reload(struct master *m)
{
	reload_continue(m);
	if (m->state == MASTER_RUNNING && m->reload.state == RELOAD_IDLE &&
	    taken(SIGHUP))
		reload_begin(m);
	if (taken(SIGUSR1) && m->logger != 0)
		kill(m->logger, SIGUSR1);
	if (m->state == MASTER_RUNNING && m->reload.state == RELOAD_IDLE &&
	    taken(SIGUSR2))
		reload_begin_upgrade(m);
}

/* For whoever started it; a pipe that is full is not waited for. */
static void
print_addresses(const struct master *m)
{
	struct pollfd pfd = { .fd = STDOUT_FILENO, .events = POLLOUT };
	const struct listener *l;

	if (poll(&pfd, 1, 0) == 0) {
		log_warnx("nobody reads the addresses of -1");
		return;
	}

	TAILQ_FOREACH(l, &m->listeners, entry)
		dprintf(STDOUT_FILENO, "%s\n", l->name);
}

static void
ready(struct master *m, struct generation *g)
{
	const struct listener *l;

	g->ready = true;
	if (m->state == MASTER_RUNNING) {
		reload_commit(m);
		return;
	}
	if (m->state != MASTER_STARTING)
		return;
	m->state = MASTER_RUNNING;
	TAILQ_FOREACH(l, &m->listeners, entry)
		log_notice("serving %s service=%s", l->name, l->service);
	if (daemon_write_pid() == -1) {
		log_error("write of the pid file");
		m->failed = true;
		stop_at_once(m, "no pid file");
		return;
	}
	if (m->print_ready)
		print_addresses(m);
	notify(m);	/* before the command that started the server ends */
	daemon_ready();
}

static void
not_ready(struct master *m, struct generation *g, const char *why)
{
	g->ready = true;
	if (m->state == MASTER_RUNNING) {
		reload_roll_back(m, why);
		return;
	}
	log_errorx("cannot start: %s", why);
	m->failed = true;
	stop_at_once(m, why);
}

/* As many as the generation begins with have been ready once. */
static bool
workers_ready(const struct master *m, const struct generation *g)
{
	const struct pool *p;

	TAILQ_FOREACH(p, &m->pools, entry)
		if (p->service->generation == g && p->been_ready < p->first)
			return false;
	return true;
}

/* The first logger: there is no server without a log. */
static bool
logger_ready(struct master *m)
{
	if (m->state != MASTER_STARTING ||
	    atomic_load(&m->board.commons->log_begun) > 0)
		return true;
	master_wake_at(m, m->now + LOGGER_BEGINS);
	return false;
}

static void
judge_readiness(struct master *m)
{
	struct generation *g = TAILQ_FIRST(&m->generations);
	const struct service *s;
	char why[CONF_NAME_MAX + 40];

	if (g->ready || m->state > MASTER_RUNNING)
		return;
	if (m->state == MASTER_STARTING && m->logger == 0) {
		not_ready(m, g, "the logger died");
		return;
	}
	if (workers_ready(m, g) && logger_ready(m)) {
		ready(m, g);
		return;
	}
	TAILQ_FOREACH(s, &g->services, entry)
		if (s->delay != 0) {
			snprintf(why, sizeof(why),
			    "its workers die (service %s)", s->conf->name);
			not_ready(m, g, why);
			return;
		}
	if (m->state == MASTER_STARTING && m->fork_delay > START_FORKS)
		not_ready(m, g, "no process can be started");
	else if (m->state == MASTER_RUNNING && reload_waits(m))
		return;
	else if (m->now >= g->ready_by)
		not_ready(m, g, "its workers are not ready in time");
	else
		master_wake_at(m, g->ready_by);
}

static void
keep_logger(struct master *m)
{
	const struct generation *g = TAILQ_FIRST(&m->generations);
	const struct conf *conf = g != NULL ? g->conf : m->last;

	if (m->logger != 0 || m->failed)
		return;
	if (m->now < m->logger_retry_at) {
		master_wake_at(m, m->logger_retry_at);
		return;
	}
	m->logger_retry_at = m->now + LOGGER_EVERY;
	m->logger = logger_start(m->log_fd, &conf->log, &m->board);
	if (m->logger == -1) {
		m->logger = 0;
		master_wake_at(m, m->logger_retry_at);
	} else if (m->logger_leaves)
		m->logger_leaves = false;	/* asked to, after an upgrade */
	else
		log_errorx("the logger died and was replaced, lines that it "
		    "had read are lost");
}

/* In the generation at work; its throttle has tried for long enough. */
static void
judge_crash_loop(struct master *m)
{
	const struct generation *g;
	const struct service *s;

	TAILQ_FOREACH(g, &m->generations, entry)
		if (g->ready)
			break;
	if (g == NULL || m->state != MASTER_RUNNING)
		return;
	TAILQ_FOREACH(s, &g->services, entry) {
		if (!spawn_crash_loop(s))
			continue;
		spawn_tell_crash_loop(m, s);
		m->crash_loop = true;
		stop_gracefully(m);
		return;
	}
}

/* One read: honest workers write a byte a pass, a hostile one no end. */
static void
empty_poke_pipe(struct master *m)
{
	char buf[4096];

	if (read(m->poke_fd, buf, sizeof(buf)) == -1 && errno != EAGAIN)
		log_error("read of the wake-up pipe");
}

/* Milliseconds until then, as sig_poll() has it; 0 is for ever. */
static int64_t
left(int64_t until)
{
	const int64_t ms = until - clock_now();

	return until == 0 ? -1 : ms < 0 ? 0 : ms;
}

/*
 * A worker that floods the wake-up pipe must not keep the master busy: when
 * many passes in a row were for nothing, the pipe is left alone for a while.
 */
static void
wait_for_news(struct master *m)
{
	static struct pollfd fds[2 + CONF_LISTENERS_MAX];
	int64_t began = clock_now(), until = began + VAIN_PAUSE;
	bool vain = m->forks == m->forks_seen;
	nfds_t nfds;

	fds[0] = (struct pollfd){ .fd = m->poke_fd, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = m->reload.fd, .events = POLLIN };
	nfds = 2 + renew_watch(m, fds + 2);
	m->forks_seen = m->forks;
	if (m->wake_at != 0 && m->wake_at < until)
		until = m->wake_at;
	if (m->vain >= VAIN_PASSES &&
	    sig_poll(&fds[1], nfds - 1, left(until)) != 0)
		return;
	began = clock_now();
	if (sig_poll(fds, nfds, left(m->wake_at)) == -1 && errno != EINTR)
		log_error("ppoll");
	vain = vain && fds[0].revents != 0 && clock_now() < began + VAIN_PAUSE;
	m->vain = vain ? m->vain + 1 : 0;
}

static void
pass(struct master *m)
{
	m->now = clock_now();
	m->wake_at = 0;
	empty_poke_pipe(m);
	if (taken(SIGCHLD))
		spawn_reap(m);
	renew_listeners(m);
	act_on_stop(m);
	act_on_reload(m);
	look_at_workers(m);
	if (m->state != MASTER_KILLING)
		look_plan(m);
	judge_readiness(m);
	judge_crash_loop(m);
	if ((handler_pending[SIGHUP] || handler_pending[SIGUSR2]) &&
	    m->state == MASTER_RUNNING && m->reload.state == RELOAD_IDLE)
		master_wake_at(m, m->now);
	farewells(m);
	reload_bury(m);
	keep_logger(m);
	status_publish(m);
	notify(m);
	look_next(m);
}

/*
 * The log ends after the last line; a stuck logger is not waited for.  One that
 * leaves after an upgrade leaves the rest to another.
 */
static void
end_log(struct master *m)
{
	int64_t until = clock_now() + LOGGER_TIME;

	m->logger_retry_at = 0;
	keep_logger(m);
	dup2(FD_NULL, FD_LOG);
	while (m->logger != 0) {
		if (waitpid(m->logger, NULL, WNOHANG) == 0) {
			if (clock_now() >= until)
				kill(m->logger, SIGKILL);
			sig_poll(NULL, 0, 50);
			continue;
		}
		m->logger = 0;
		if (m->logger_leaves)
			keep_logger(m);
	}
}

static int
finish(struct master *m)
{
	m->state = MASTER_STOPPED;
	status_publish(m);
	log_notice("stopped clients-cut=%llu clients=%llu",
	    (unsigned long long)m->cut,
	    (unsigned long long)atomic_load(m->board.counter));
	end_log(m);
	daemon_remove_pid();
	return m->failed ? 1 : m->crash_loop ? EX_SOFTWARE :
	    m->cut > 0 ? 2 : 0;
}

int
master_run(struct master *m)
{
	sig_master();
	for (;;) {
		pass(m);
		if (m->state >= MASTER_DRAINING && TAILQ_EMPTY(&m->pools))
			break;
		wait_for_news(m);
	}
	return finish(m);
}
