/*
 * look.c: what the master sees of its workers, and what it does about it.
 *
 * Once a pass it reads every live worker's slot, counts each pool, kills
 * workers that are past a deadline, and has pool_plan() say how many to start
 * or to retire.  It decides who may be signalled from the private table; the
 * shared map gives numbers for sizing and nothing else: a lie moves the pool
 * between its configured bounds.
 *
 * It is also what decides when to look again.  While clients come, once a
 * second; when none came since the last look, it writes look = 0, looks once
 * more, and leaves it to the next client's worker to poke.
 */

#include <string.h>

#include "preforkd.h"

#define LOOK_EVERY	1000	/* ms, while there are clients */
#define KILL_GRACE	500	/* for a worker past connection-timeout */
#define BATCH		64	/* workers started in one pass */
#define PRESSED_EVERY	100	/* ms, while clients of programs wait */
#define ROOM_EVERY	50	/* ms between looks at a full pool */

bool
look_serving(const struct slot *slot)
{
	uint32_t state = atomic_load(&slot->state);

	return state == SLOT_BUSY || state == SLOT_DRAINING;
}

static void
kill_late(struct master *m, int n)
{
	const struct child *c = &m->child[n];

	log_warnx("killing a worker pid=%ld slot=%d service=%s client=%llu "
	    "why=\"%s\"", (long)m->pid[n], n, c->pool->service->conf->name,
	    (unsigned long long)c->client, c->kill_why);
	if (m->state > MASTER_RUNNING && c->state != CHILD_KILLED &&
	    look_serving(&m->board.commons->slot[n]))
		m->cut++;
	spawn_kill(m, n);
}

/*
 * A worker keeps connection-timeout itself; one that does not is stuck, or its
 * slot lies.  So it is told to leave first, which costs an idle one nothing.
 */
static void
watch_client(struct master *m, int n)
{
	const struct slot *slot = &m->board.commons->slot[n];
	struct child *c = &m->child[n];
	const struct conf_service *conf = c->pool->service->conf;
	int64_t limit = conf->connection_timeout + program_grace(conf);
	uint64_t number = atomic_load(&slot->client);

	if (c->client_seen == 0 || c->client != number) {
		c->client = number;
		c->client_seen = m->now;
	}
	if (conf->connection_timeout == 0 || c->state == CHILD_KILLED)
		return;
	if (m->now - c->client_seen >= limit + KILL_GRACE)
		spawn_retire(m, n, m->now + KILL_GRACE,
		    "connection-timeout passed");
	else
		master_wake_at(m, c->client_seen + limit + KILL_GRACE);
}

static void
count_child(struct pool_counts *n, enum child_state state, uint32_t shown)
{
	switch (state) {
	case CHILD_FREE:
		break;
	case CHILD_STARTING:
		n->starting++;
		break;
	case CHILD_READY:
		if (shown == SLOT_IDLE)
			n->idle++;
		else if (shown == SLOT_DRAINING || shown == SLOT_LEAVING)
			n->draining++;
		else
			n->busy++;
		break;
	case CHILD_LEAVING:
	case CHILD_KILLED:
		n->draining++;
		break;
	}
}

/*
 * A worker that idles over connections that linger is nudged when they are
 * due, and again each second until it has looked after them.
 */
static void
watch_lingering(struct master *m, int n)
{
	const struct slot *slot = &m->board.commons->slot[n];
	struct child *c = &m->child[n];

	if (atomic_load_explicit(&slot->lingering, memory_order_relaxed) == 0)
		return;
	m->lingering++;
	if (atomic_load(&slot->since) <= m->now - LINGER_IDLE &&
	    m->now - c->nudged >= LOOK_EVERY)
		spawn_nudge(m, n);
}

/* What one worker does now, by its slot. */
static void
look_at(struct master *m, int n)
{
	const struct slot *slot = &m->board.commons->slot[n];
	struct child *c = &m->child[n];
	uint32_t shown = atomic_load(&slot->state);
	uint64_t served = atomic_load_explicit(&slot->number[NUMBER_SERVED],
	    memory_order_relaxed);

	if (c->state == CHILD_STARTING && shown != SLOT_FREE &&
	    shown != SLOT_STARTING) {
		c->state = CHILD_READY;
		c->kill_at = 0;
		c->was_ready = true;
		c->pool->been_ready++;
		if (c->pool->service->conf->kind == CONF_RESIDENT)
			spawn_succeeded(c->pool->service);
	}
	if (served > c->served)
		spawn_succeeded(c->pool->service);
	c->served = served;
	/* Until those that shall replace it are there, it needs no other. */
	count_child(&c->pool->counts, c->state, c->blind &&
	    m->reload.state == RELOAD_STARTING ? SLOT_IDLE : shown);
	if (look_serving(slot)) {
		m->busy++;
		c->pool->serving++;
		watch_client(m, n);
	} else {
		c->client_seen = 0;
		if (shown == SLOT_CLOSING || shown == SLOT_LEAVING)
			m->busy++;
		else if (c->state == CHILD_READY)
			watch_lingering(m, n);
	}
	if (c->kill_at == 0)
		return;
	if (m->now >= c->kill_at)
		kill_late(m, n);
	else
		master_wake_at(m, c->kill_at);
}

void
look_at_workers(struct master *m)
{
	struct pool *p;
	int i;

	m->busy = m->lingering = 0;
	TAILQ_FOREACH(p, &m->pools, entry) {
		memset(&p->counts, 0, sizeof(p->counts));
		p->serving = 0;
	}
	for (i = 0; i < m->board.nslots; i++)
		if (m->pid[i] != 0)
			look_at(m, i);
}

/* A worker that was taken over may have written where none has a slot. */
static void
repair_free_slots(struct master *m)
{
	struct slot *slot = m->board.commons->slot;
	int i;

	for (i = 0; i < m->board.nslots; i++)
		if (m->pid[i] == 0 && atomic_load(&slot[i].state) != SLOT_FREE)
			memset(&slot[i], 0, sizeof(slot[i]));
}

/* Hints drift when workers die; once a second they are put right. */
static void
repair_hints(struct master *m)
{
	const struct listener *l;
	const struct pool *p;
	int idle;

	TAILQ_FOREACH(l, &m->listeners, entry) {
		idle = 0;
		TAILQ_FOREACH(p, &m->pools, entry)
			if (p->listener == l)
				idle += p->counts.idle;
		atomic_store(&m->board.commons->listener[l->index].idle, idle);
	}
}

/* What is shown stays readable, and what workers hint at useful. */
static void
repair(struct master *m)
{
	scoreboard_head(&m->board);
	repair_free_slots(m);
	repair_hints(m);
	sources_repair(m->board.commons->source, m->pid, m->board.nslots);
}

/*
 * Workers that the other pools of its service must leave to this one: what it
 * begins with, until its generation is ready, then one.
 */
static int
claim(const struct pool *p)
{
	int due = p->service->generation->ready ? 1 : p->first;

	return p->alive < due ? due - p->alive : 0;
}

/* While a reload makes it smaller, the surge comes on top of what it was. */
int
look_room(const struct master *m, const struct pool *pool, int limit)
{
	const struct conf_service *conf = pool->service->conf;
	const struct pool *p;
	int here = 0, everywhere = 0, reserved = 0, most = 0;

	TAILQ_FOREACH(p, &m->pools, entry) {
		if (p->service->index != pool->service->index)
			continue;
		everywhere += p->alive;
		if (p->service->conf->workers_max > most)
			most = p->service->conf->workers_max;
		if (p->service != pool->service)
			continue;
		here += p->alive - p->counts.draining;
		if (p != pool)
			reserved += claim(p);
	}
	here = limit - reserved - here;
	everywhere = most + conf_surge(conf) - everywhere;
	if (everywhere > m->nunused)
		everywhere = m->nunused;
	return here < everywhere ? here : everywhere;
}

/* The least number idle over a whole workers-idle-time, else -1. */
static int
quietest(struct master *m, struct pool *p)
{
	const struct conf_service *conf = p->service->conf;
	int least;

	if (p->counts.idle < p->window_least)
		p->window_least = p->counts.idle;
	least = p->window_least;
	if (m->now < p->window_end) {
		if (p->counts.idle > conf->workers_spare &&
		    p->alive - p->counts.draining > p->min)
			master_wake_at(m, p->window_end);
		return -1;
	}
	p->window_least = p->counts.idle;
	p->window_end = m->now + conf->workers_idle_time;
	return least;
}

static void
retire_idle(struct master *m, const struct pool *p, int n)
{
	int i;

	for (i = m->board.nslots - 1; i >= 0 && n > 0; i--) {
		if (m->pid[i] == 0 || m->child[i].pool != p ||
		    m->child[i].state != CHILD_READY || atomic_load(
		    &m->board.commons->slot[i].state) != SLOT_IDLE)
			continue;
		spawn_retire(m, i, 0, NULL);
		n--;
	}
}

/*
 * The queue of programs that accept by themselves, which tells whether they
 * are enough: looked at once a second, and more often while clients wait.
 */
static void
watch_queue(struct master *m, struct pool *p)
{
	struct listener *l = p->listener;

	if (m->now >= p->look_at) {
		listen_measure(l);
		if (l->waiting == 0 && listen_pending(l))
			l->waiting = 1;	/* who knows how many */
		p->pressed = l->waiting > 0 ? p->pressed + 1 : 0;
		p->look_at = m->now +
		    (l->waiting > 0 ? PRESSED_EVERY : LOOK_EVERY);
	}
	master_wake_at(m, p->look_at);
	p->counts.queued = l->waiting;
	p->counts.pressed = p->pressed;
	if (p->pressed > 0)
		p->window_end = m->now + p->service->conf->workers_idle_time;
	p->counts.calm = m->now >= p->window_end;
	if (p->counts.calm)
		p->window_end = m->now + p->service->conf->workers_idle_time;
}

/* How busy a pool is; what pool_plan() asks for. */
static void
measure(struct master *m, struct pool *p)
{
	if (p->service->conf->kind == CONF_RESIDENT) {
		watch_queue(m, p);
		return;
	}
	if (p->counts.idle == 0)
		listen_measure(p->listener);
	else
		p->listener->waiting = 0;
	p->counts.queued = p->listener->waiting;
	p->counts.least_idle = quietest(m, p);
}

static void
say_full(struct pool *p, int room)
{
	struct service *s = p->service;
	const bool resident = s->conf->kind == CONF_RESIDENT;
	const bool busy = resident ? p->pressed >= POOL_PRESSED :
	    p->counts.idle == 0 && p->counts.busy > 0;

	if (resident ? p->pressed == 0 : p->counts.idle > 0)
		s->full_said = false;
	else if (room <= 0 && p->counts.starting == 0 && busy &&
	    !s->full_said) {
		log_warnx("all workers are busy and workers-max is reached "
		    "service=%s workers-max=%d queued=%d", s->conf->name,
		    s->conf->workers_max, p->counts.queued);
		s->full_said = true;
	}
}

/* The one of a pool that has been silent for longest, or -1. */
static int
most_silent(const struct master *m, const struct pool *p)
{
	const struct slot *slot = m->board.commons->slot;
	int64_t since, oldest = m->now - CONN_SILENT;
	int i, found = -1;

	for (i = 0; i < m->board.nslots; i++) {
		if (m->pid[i] == 0 || m->child[i].pool != p ||
		    m->child[i].nudged > m->now - CONN_SILENT ||
		    atomic_load(&slot[i].state) != SLOT_BUSY ||
		    atomic_load(&slot[i].heard) != 0)
			continue;
		since = atomic_load(&slot[i].since);
		if (since <= oldest) {
			oldest = since;
			found = i;
		}
	}
	return found;
}

/* In a full pool, silent clients make room for those that wait. */
static void
make_room(struct master *m, const struct pool *p)
{
	int n = p->counts.queued < BATCH ? p->counts.queued : BATCH, slot;

	if (n == 0)
		return;
	master_wake_at(m, m->now + ROOM_EVERY);
	for (; n > 0 && (slot = most_silent(m, p)) != -1; n--)
		spawn_make_room(m, slot);
}

static void
carry_out(struct master *m, struct pool *p, const struct pool_plan *plan)
{
	int i;

	for (i = 0; i < plan->start; i++)
		if (spawn_worker(m, p) == -1)
			break;
	if (plan->start == BATCH)
		master_wake_at(m, m->now);
	if (plan->retire > 0)
		retire_idle(m, p, plan->retire);
}

/* Workers poke when fewer are idle than this; 0 when that would be vain. */
static void
set_low(struct master *m, const struct pool *p, int room)
{
	struct status_listener *row;
	int spare = p->service->conf->workers_spare;

	if (p->service->conf->kind == CONF_RESIDENT)
		spare = room = 0;
	row = &m->board.status->listener[p->listener->index];
	atomic_store(&row->low, room > 0 && m->fork_delay == 0 &&
	    p->service->delay == 0 ? (spare + 1) / 2 : 0);
}

static void
plan_pool(struct master *m, struct pool *p)
{
	struct service *s = p->service;
	struct pool_limits limit = { .min = p->min,
	    .spare = s->conf->workers_spare,
	    .room = look_room(m, p, s->conf->workers_max),
	    .batch = BATCH, .throttled = s->delay != 0 };
	struct pool_plan plan;
	int room = limit.room;

	measure(m, p);
	p->no_room = room <= 0 && p->counts.starting == 0 &&
	    p->been_ready < p->first;
	say_full(p, room);
	if (room <= 0 && p->counts.idle == 0 && p->counts.starting == 0 &&
	    s->conf->when_full == CONF_FULL_DROP_SILENT)
		make_room(m, p);
	plan = s->conf->kind == CONF_RESIDENT ?
	    pool_plan_resident(&p->counts, &limit) :
	    pool_plan(&p->counts, &limit);
	if (plan.start > 0 && !spawn_allowed(m, s)) {
		s->delayed += plan.start;
		plan.start = 0;
	}
	carry_out(m, p, &plan);
	if (plan.start > 0)
		p->pressed = 0;
	else if (plan.retire == 0)
		renew(m, p);
	set_low(m, p, room - plan.start);
}

void
look_plan(struct master *m)
{
	struct pool *p;

	TAILQ_FOREACH(p, &m->pools, entry)
		p->service->delayed = 0;
	TAILQ_FOREACH(p, &m->pools, entry)
		if (!p->leaving)
			plan_pool(m, p);
}

static bool
any_work(const struct master *m)
{
	const struct slot *slot = m->board.commons->slot;
	int i;

	for (i = 0; i < m->board.nslots; i++)
		if (m->pid[i] != 0 && (atomic_load(&slot[i].state) >
		    SLOT_IDLE || atomic_load(&slot[i].lingering) > 0))
			return true;
	return false;
}

/*
 * Look again in a second while there are clients, or were since the last
 * look; else only when poked.
 */
void
look_next(struct master *m)
{
	_Atomic uint32_t *flag = &m->board.status->look;
	uint64_t accepted = atomic_load(m->board.counter);

	if (m->now >= m->look_at)
		repair(m);
	if (m->busy + m->lingering > 0 || m->now < m->look_at) {
		atomic_store(flag, 1);
		if (m->now >= m->look_at)
			m->look_at = m->now + LOOK_EVERY;
	} else if (accepted != m->accepted_seen) {
		atomic_store(flag, 1);
		m->accepted_seen = accepted;
		m->look_at = m->now + LOOK_EVERY;
	} else {
		atomic_store(flag, 0);
		if (!any_work(m))
			return;
		atomic_store(flag, 1);
		m->look_at = m->now + LOOK_EVERY;
	}
	master_wake_at(m, m->look_at);
}
