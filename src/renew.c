/*
 * renew.c: resident programs that have become too old or too large, and
 * listeners that one of them has broken.
 *
 * Called by the master's loop, for pools whose programs accept by themselves.
 * Age and memory are the master's to judge, so that programs leave one after
 * another, each when its successor is ready, and the others serve meanwhile.
 * Memory is read from /proc, every few seconds and only when it is limited;
 * the pid is what a worker says, and nothing but the figure of its own child
 * is believed.  Nobody but the worker itself is signalled.
 */

#include <poll.h>

#include "preforkd.h"

#define WEIGH_EVERY	2000	/* ms between looks at their memory */
#define REVIVE_EVERY	200	/* a listener that is broken again and again */
#define STAGGER		16	/* parts of the last quarter of max-age */

static void
weigh(struct master *m, int n)
{
	const struct conf_service *conf = m->child[n].pool->service->conf;
	struct child *c = &m->child[n];
	struct usage u;

	if (usage_of(atomic_load(&m->board.commons->slot[n].program), &u) ==
	    -1 || u.parent != m->pid[n])
		return;
	c->memory = u.memory;
	if (conf->max_memory_hard != -1 && u.memory > conf->max_memory_hard &&
	    c->state != CHILD_KILLED) {
		log_warnx("killing a resident program pid=%d slot=%d "
		    "service=%s bytes=%lld why=\"max-memory-hard passed\"",
		    atomic_load(&m->board.commons->slot[n].program), n,
		    conf->name, (long long)u.memory);
		spawn_quit(m, n);
	}
}

static void
weigh_pool(struct master *m, struct pool *p)
{
	const struct conf_service *conf = p->service->conf;
	int i;

	if (conf->max_memory == -1 && conf->max_memory_hard == -1)
		return;
	if (m->now >= p->weigh_at) {
		p->weigh_at = m->now + WEIGH_EVERY;
		for (i = 0; i < m->board.nslots; i++)
			if (m->pid[i] != 0 && m->child[i].pool == p)
				weigh(m, i);
	}
	master_wake_at(m, p->weigh_at);
}

/* When a program has its age: by slot, so that no two fall due together. */
static int64_t
of_age(const struct child *c, int n)
{
	const int64_t age = c->pool->service->conf->max_age;

	return c->born + age - age / 4 / STAGGER * (n % STAGGER);
}

/* A worker whose program should be replaced, and why; or -1. */
static int
find_due(struct master *m, const struct pool *p, const char **why)
{
	const struct conf_service *conf = p->service->conf;
	const struct child *c;
	int i;

	for (i = 0; i < m->board.nslots; i++) {
		c = &m->child[i];
		if (m->pid[i] == 0 || c->pool != p || c->state != CHILD_READY)
			continue;
		*why = "max-memory";
		if (conf->max_memory != -1 && c->memory > conf->max_memory)
			return i;
		*why = "max-age";
		if (conf->max_age == 0)
			continue;
		if (m->now >= of_age(c, i))
			return i;
		master_wake_at(m, of_age(c, i));
	}
	return -1;
}

static void
retire(struct master *m, const struct pool *p, int n, const char *why)
{
	const struct conf_service *conf = p->service->conf;

	log_info("renewing a resident program pid=%d slot=%d service=%s "
	    "why=\"%s\"", atomic_load(&m->board.commons->slot[n].program), n,
	    conf->name, why);
	spawn_retire(m, n, m->now + conf->drain_timeout + program_grace(conf),
	    "drain-timeout passed");
}

/*
 * First a successor, beyond workers-max if need be; when that is ready the one
 * that is due leaves.  One at a time: nothing while others come and go.
 */
void
renew(struct master *m, struct pool *p)
{
	const struct conf_service *conf = p->service->conf;
	const char *why;
	int n;

	if (conf->kind != CONF_RESIDENT)
		return;
	weigh_pool(m, p);
	if ((n = find_due(m, p, &why)) == -1)
		p->successor = 0;
	if (n == -1 || p->counts.starting > 0 || p->counts.draining > 0)
		return;
	if (p->successor != 0 && p->been_ready >= p->successor) {
		p->successor = 0;
		retire(m, p, n, why);
		return;
	}
	p->successor = 0;	/* it has died */
	if (look_room(m, p, conf->workers_max + 1) <= 0)
		retire(m, p, n, why);
	else if (spawn_allowed(m, p->service) && spawn_worker(m, p) == 0)
		p->successor = p->been_ready + 1;
}

/* Whether there are programs that accept on it, and could shut it down. */
static bool
watched(const struct master *m, const struct listener *l)
{
	const struct pool *p;

	TAILQ_FOREACH(p, &m->pools, entry)
		if (p->listener == l && p->service->conf->kind == CONF_RESIDENT)
			return !l->broken && l->state != LISTENER_CLOSED;
	return false;
}

/* What was in its queue is lost; a Unix socket cannot listen again. */
static void
revive(struct master *m, struct listener *l)
{
	const struct pool *p;

	TAILQ_FOREACH(p, &m->pools, entry)
		if (p->listener == l)
			break;
	if (p == NULL)
		return;
	l->revive_at = m->now + REVIVE_EVERY;
	if (listen_again(l, p->service->conf->backlog) == 0) {
		log_warnx("a program had shut down the listener, which listens "
		    "again address=%s service=%s", l->name, l->service);
		return;
	}
	log_errorx("a program has shut down the listener for good, restart "
	    "the server address=%s service=%s", l->name, l->service);
	l->broken = true;
}

void
renew_listeners(struct master *m)
{
	struct listener *l;

	TAILQ_FOREACH(l, &m->listeners, entry) {
		if (!watched(m, l))
			continue;
		if (m->now >= l->revive_at && listen_is_shut(l))
			revive(m, l);
		if (m->now < l->revive_at)
			master_wake_at(m, l->revive_at);
	}
}

unsigned int
renew_watch(const struct master *m, struct pollfd *fds)
{
	const struct listener *l;
	unsigned int n = 0;

	TAILQ_FOREACH(l, &m->listeners, entry)
		if (watched(m, l) && l->revive_at <= m->now)
			fds[n++] = (struct pollfd){ .fd = l->fd,
			    .events = POLLRDHUP };
	return n;
}
