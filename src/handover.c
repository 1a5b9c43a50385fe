/*
 * handover.c: a master as a state, and back.
 *
 * Owns the correspondence of struct master with the records of state.c, and
 * nothing else.  Saving reads the master and changes but the numbers by which
 * records name each other; restoring is done twice by a new program, in the
 * check child with a scoreboard that is only memory, and in the master: what
 * cannot be restored is found by the former.
 *
 * With a scoreboard of another layout the old workers are blind: they write
 * where nobody reads.  They are shown as draining, known by their pids alone,
 * and end as any others do; the totals have what they had counted before, and
 * what they serve from then on is not known.
 */

#include <stdlib.h>
#include <string.h>

#include "preforkd.h"

/* What was made of the records that others name. */
struct made {
	struct listener	**listener;
	struct generation **generation;
	struct service	**service;
	struct pool	**pool;
};

static const char no_memory[] = "out of memory";

/* What a worker wrote may be any number. */
static int64_t
positive(uint64_t n)
{
	return n > INT64_MAX ? INT64_MAX : (int64_t)n;
}

static int
copy(char **to, const char *from)
{
	if (from == NULL)
		return 0;
	*to = strdup(from);
	return *to != NULL ? 0 : -1;
}

static int
save_user(const struct conf_user *user, char **text)
{
	size_t size;
	FILE *out;

	if (user == NULL)
		return 0;
	if ((out = open_memstream(text, &size)) == NULL)
		return -1;
	dump_user(out, user);
	return fclose(out) == EOF ? -1 : 0;
}

static int
save_master(const struct master *m, struct state *s)
{
	struct state_master *r = state_add(s, STATE_MASTER);
	const char *pid_file;
	int pid_fd, score;

	if (r == NULL || save_user(privs_logger_user(), &r->logger_user) == -1)
		return -1;
	pid_file = daemon_pid_file(&pid_fd);
	r->pid_fd = pid_fd;
	r->log_fd = m->log_fd;
	r->poke_fd = m->poke_fd;
	r->logger = m->logger;
	r->generation = m->generation;
	r->forks = positive(m->forks);
	r->cut = positive(m->cut);
	r->shielded = privs_shielded(&score);
	r->oom_score = score;
	return copy(&r->version, PACKAGE_VERSION) == -1 ||
	    copy(&r->config, m->source->path) == -1 ||
	    copy(&r->pid_file, pid_file) == -1 ? -1 : 0;
}

static int
save_board(const struct master *m, struct state *s)
{
	const struct scoreboard *b = &m->board;
	struct state_board *r = state_add(s, STATE_BOARD);

	if (r == NULL)
		return -1;
	r->layout = SCOREBOARD_VERSION;
	r->status_size = sizeof(struct status);
	r->slots_size = (int64_t)scoreboard_slots_size(b->nslots);
	r->nslots = b->nslots;
	r->lock = b->lock;
	r->status = b->fd[0];
	r->slots = b->fd[1];
	r->counter = b->fd[2];
	return copy(&r->file, b->path);
}

/* Bytes that a record cannot hold are none of a reason's. */
static int
copy_reason(char **to, const char *from)
{
	char *p;

	if (copy(to, from) == -1)
		return -1;
	for (p = *to; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	return 0;
}

static int
save_past(const struct master *m, struct state *s)
{
	const struct status *status = m->board.status;
	struct state_past *r = state_add(s, STATE_PAST);

	if (r == NULL)
		return -1;
	r->started = status->started;
	r->started_at = status->started_at;
	r->reload = status->reload;
	r->reloads = status->reloads;
	r->reloads_begun = status->reloads_begun;
	r->reloaded = status->reloaded;
	r->reload_at = status->reload_at;
	r->upgrades = status->upgrade.ended;
	r->upgrades_begun = status->upgrade.begun;
	r->upgraded = status->upgrade.done;
	r->reloads_failed = status->reloads_failed;
	r->upgrades_failed = status->upgrades_failed;
	r->deaths = positive(status->ndeaths);
	r->log_dropped = positive(atomic_load(&m->board.commons->log_dropped));
	return copy_reason(&r->reload_why, status->reload_why);
}

static int
save_deaths(const struct master *m, struct state *s)
{
	const struct status *status = m->board.status;
	const struct status_death *d;
	struct state_death *r;
	uint64_t i = 0;

	if (status->ndeaths > SCOREBOARD_DEATHS)
		i = status->ndeaths - SCOREBOARD_DEATHS;
	for (; i < status->ndeaths; i++) {
		d = &status->death[i % SCOREBOARD_DEATHS];
		if ((r = state_add(s, STATE_DEATH)) == NULL)
			return -1;
		r->at = d->at;
		r->pid = d->pid;
		r->wait_status = d->wait_status;
		r->slot = d->slot;
		r->generation = d->generation;
		r->killed = d->killed != 0;
		r->age = d->age;
		r->served = positive(d->served);
		r->client = positive(d->client);
		if (copy(&r->service, d->service) == -1)
			return -1;
	}
	return 0;
}

/* The dead and the living. */
static void
total(const struct master *m, int row, struct state_total *r)
{
	const struct status_service *service = &m->board.status->service[row];
	uint64_t number[NUMBERS];
	int i;

	memcpy(number, service->number, sizeof(number));
	for (i = 0; i < m->board.nslots; i++)
		if (m->pid[i] != 0 && m->child[i].pool->service->index == row)
			numbers_add(number, &m->board.commons->slot[i]);
	for (i = 0; i < NUMBERS; i++)
		r->number[i] = positive(number[i]);
	for (i = 0; i < DEATH_CAUSES; i++)
		r->deaths[i] = positive(service->deaths[i]);
}

static int
save_totals(const struct master *m, struct state *s)
{
	const struct status_service *row = m->board.status->service;
	struct state_total *r;
	int i;

	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		if (!row[i].used)
			continue;
		if ((r = state_add(s, STATE_TOTAL)) == NULL ||
		    copy(&r->service, row[i].name) == -1)
			return -1;
		total(m, i, r);
	}
	return 0;
}

static int
save_listeners(struct master *m, struct state *s)
{
	struct state_listener *r;
	struct listener *l;
	int n = 0;

	TAILQ_FOREACH(l, &m->listeners, entry) {
		if ((r = state_add(s, STATE_LISTENER)) == NULL)
			return -1;
		l->number = n++;
		r->part = l->part;
		r->fd = l->fd;
		r->dev = positive(l->dev);
		r->ino = positive(l->ino);
		r->row = l->index;
		r->state = (int64_t)l->state;
		r->empty_since = l->empty_since;
		r->leave_by = l->leave_by;
		r->inherited = l->inherited;
		r->broken = l->broken;
		r->backlog = l->backlog;
		if (copy(&r->service, l->service) == -1 ||
		    copy(&r->text, l->text) == -1 ||
		    copy(&r->name, l->name) == -1)
			return -1;
	}
	return 0;
}

static int
save_unused(struct state *s)
{
	struct state_unused *r;
	const char *name;
	int at = 0, fd;

	while ((name = listen_unused(&at, &fd)) != NULL) {
		if ((r = state_add(s, STATE_UNUSED)) == NULL ||
		    copy(&r->name, name) == -1)
			return -1;
		r->fd = fd;
	}
	return 0;
}

static int
save_services(const struct generation *g, int number, struct state *s)
{
	struct state_service *r;
	struct service *v;

	TAILQ_FOREACH(v, &g->services, entry) {
		v->number = s->list[STATE_SERVICE].n;
		if ((r = state_add(s, STATE_SERVICE)) == NULL)
			return -1;
		r->generation = number;
		r->early_deaths = v->early_deaths;
		r->delay = v->delay;
		r->retry_at = v->retry_at;
		if (copy(&r->name, v->conf->name) == -1)
			return -1;
	}
	return 0;
}

static int
save_generations(const struct master *m, struct state *s)
{
	const struct generation *g;
	struct state_generation *r;
	size_t size;
	FILE *out;

	TAILQ_FOREACH(g, &m->generations, entry) {
		if ((r = state_add(s, STATE_GENERATION)) == NULL)
			return -1;
		r->number = g->number;
		r->since = g->since;
		r->leave_from = g->leave_from;
		r->rules = g->conf->rules == -1 ? 0 : g->conf->rules;
		if ((out = open_memstream(&r->text, &size)) == NULL)
			return -1;
		dump_conf(g->conf, out);
		if (fclose(out) == EOF || save_services(g,
		    s->list[STATE_GENERATION].n - 1, s) == -1)
			return -1;
	}
	return 0;
}

static int
save_pools(struct master *m, struct state *s)
{
	struct state_pool *r;
	struct pool *p;
	int n = 0;

	TAILQ_FOREACH(p, &m->pools, entry) {
		if ((r = state_add(s, STATE_POOL)) == NULL)
			return -1;
		p->number = n++;
		r->service = p->service->number;
		r->listener = p->listener->number;
		r->leaving = p->leaving;
		r->been_ready = p->been_ready;
	}
	return 0;
}

static int
save_children(const struct master *m, struct state *s)
{
	const struct child *c;
	struct state_child *r;
	int i;

	for (i = 0; i < m->board.nslots; i++) {
		if (m->pid[i] == 0)
			continue;
		if ((r = state_add(s, STATE_CHILD)) == NULL)
			return -1;
		c = &m->child[i];
		r->pool = c->pool->number;
		r->slot = i;
		r->pid = m->pid[i];
		r->epoch = c->epoch;
		r->state = (int64_t)c->state;
		r->born = c->born;
		r->kill_at = c->kill_at;
		r->was_ready = c->was_ready;
		r->trial = c->trial;
		r->blind = c->blind;
		r->served = positive(c->served);
		r->client = positive(c->client);
		r->client_seen = c->client_seen;
	}
	return 0;
}

int
handover_save(struct master *m, struct state *s)
{
	return save_master(m, s) == -1 || save_board(m, s) == -1 ||
	    save_past(m, s) == -1 || save_deaths(m, s) == -1 ||
	    save_totals(m, s) == -1 || save_listeners(m, s) == -1 ||
	    save_unused(s) == -1 || save_generations(m, s) == -1 ||
	    save_pools(m, s) == -1 || save_children(m, s) == -1 ? -1 : 0;
}

bool
handover_same_layout(const struct state *s)
{
	const struct state_board *b = s->list[STATE_BOARD].item;

	return b->layout == SCOREBOARD_VERSION &&
	    b->status_size == sizeof(struct status) &&
	    b->slots_size == (int64_t)scoreboard_slots_size((int)b->nslots);
}

static int
restore_listener(struct master *m, const struct state_listener *r,
    struct listener **made, bool same)
{
	struct address address[2];
	struct listener *l;
	const char *why;
	int row;

	if ((*made = l = calloc(1, sizeof(*l))) == NULL)
		return -1;
	if (address_parse(r->name, address, &why) != 1 ||
	    (l->service = strdup(r->service)) == NULL ||
	    (l->text = strdup(r->text)) == NULL ||
	    (row = status_service_row(m, r->service)) == -1)
		return -1;
	l->address = address[0];
	address_text(&l->address, l->name, sizeof(l->name));
	l->part = (int)r->part;
	l->fd = (int)r->fd;
	l->dev = (dev_t)r->dev;
	l->ino = (ino_t)r->ino;
	l->state = (enum listener_state)r->state;
	l->empty_since = r->empty_since;
	l->leave_by = r->leave_by;
	l->broken = r->broken != 0;
	l->backlog = (int)r->backlog;
	l->inherited = r->inherited != 0;
	if (l->inherited && listen_keep(l->name, l->fd, true) == -1)
		return -1;
	l->index = same ? (int)r->row : status_listener_row(m, l->name, row);
	TAILQ_INSERT_TAIL(&m->listeners, l, entry);
	return l->index == -1 ? -1 : 0;
}

static int
restore_generation(struct master *m, const struct state_generation *r,
    struct generation **made, char error[CONF_ERROR_MAX])
{
	char name[32], why[CONF_ERROR_MAX - 32];
	struct conf *conf;

	snprintf(name, sizeof(name), "generation %lld", (long long)r->number);
	conf = conf_load_text(name, r->text, strlen(r->text), error);
	if (conf == NULL) {
		strlcpy(why, error, sizeof(why));
		return error_say(error, "settings in force: %s", why);
	}
	if (r->rules != 0)
		conf->rules = (int)r->rules;
	*made = reload_adopt(m, conf, (uint32_t)r->number);
	if (*made == NULL)
		return error_say(error, no_memory);
	(*made)->since = r->since;
	(*made)->leave_from = r->leave_from;
	return 0;
}

static int
restore_service(const struct state_service *r, const struct generation *g,
    struct service **made)
{
	struct service *v;

	TAILQ_FOREACH(v, &g->services, entry)
		if (strcmp(v->conf->name, r->name) == 0)
			break;
	if ((*made = v) == NULL)
		return -1;
	v->early_deaths = (int)r->early_deaths;
	v->delay = r->delay;
	v->retry_at = r->retry_at;
	return 0;
}

/* All that is known of a blind worker is what we know ourselves. */
static void
show_blind(struct master *m, int n)
{
	struct slot *slot = &m->board.commons->slot[n];
	const struct child *c = &m->child[n];

	atomic_store(&slot->epoch, c->epoch);
	atomic_store(&slot->pid, m->pid[n]);
	atomic_store(&slot->generation, c->pool->service->generation->number);
	atomic_store(&slot->service, (uint16_t)c->pool->service->index);
	atomic_store(&slot->listener, (uint16_t)c->pool->listener->index);
	atomic_store(&slot->born, c->born);
	atomic_store(&slot->since, m->now);
	atomic_store(&slot->client, c->client);
	atomic_store(&slot->state, SLOT_DRAINING);
}

static int
restore_child(struct master *m, const struct state_child *r, struct pool *p)
{
	const int n = (int)r->slot;
	struct child *c = &m->child[n];

	if (m->pid[n] != 0)
		return -1;
	m->pid[n] = (pid_t)r->pid;
	*c = (struct child){ .pool = p, .epoch = (uint32_t)r->epoch,
	    .state = (enum child_state)r->state, .born = r->born,
	    .kill_at = r->kill_at, .was_ready = r->was_ready != 0,
	    .trial = r->trial != 0, .blind = r->blind != 0,
	    .served = (uint64_t)r->served, .client = (uint64_t)r->client,
	    .client_seen = r->client_seen };
	/* The reason why is only for the log: nearly always this one. */
	c->kill_why = c->state == CHILD_STARTING ? "not ready in time" :
	    "drain-timeout passed";
	p->alive++;
	return 0;
}

static void
restore_deaths(struct status *status, const struct state *s, uint64_t ever)
{
	const struct state_death *r = s->list[STATE_DEATH].item;
	const int n = s->list[STATE_DEATH].n;
	struct status_death *d;
	int i;

	status->ndeaths = ever < (uint64_t)n ? (uint64_t)n : ever;
	for (i = 0; i < n; i++, r++) {
		d = &status->death[(status->ndeaths - (uint64_t)n +
		    (uint64_t)i) % SCOREBOARD_DEATHS];
		*d = (struct status_death){ .at = r->at,
		    .pid = (int32_t)r->pid,
		    .wait_status = (int32_t)r->wait_status,
		    .slot = (uint32_t)r->slot,
		    .generation = (uint32_t)r->generation,
		    .killed = (uint32_t)r->killed, .age = r->age,
		    .served = (uint64_t)r->served,
		    .client = (uint64_t)r->client };
		if (r->service != NULL)
			strlcpy(d->service, r->service, sizeof(d->service));
	}
}

static void
restore_totals(struct master *m, const struct state *s)
{
	const struct state_total *r = s->list[STATE_TOTAL].item;
	struct status_service *to;
	int i, n, row;

	for (i = 0; i < s->list[STATE_TOTAL].n; i++, r++) {
		if (r->service == NULL ||
		    (row = status_service_row(m, r->service)) == -1)
			continue;
		to = &m->board.status->service[row];
		for (n = 0; n < NUMBERS; n++)
			to->number[n] = (uint64_t)r->number[n];
		for (n = 0; n < DEATH_CAUSES; n++)
			to->deaths[n] = (uint64_t)r->deaths[n];
	}
}

/* By value, into a new scoreboard. */
static void
restore_past(struct master *m, const struct state *s)
{
	const struct state_past *r = s->list[STATE_PAST].item;
	struct status *status = m->board.status;

	status->started = r->started;
	status->started_at = r->started_at;
	status->reload = (uint32_t)r->reload;
	status->reloads = (uint32_t)r->reloads;
	status->reloads_begun = (uint32_t)r->reloads_begun;
	status->reloaded = (uint32_t)r->reloaded;
	status->reload_at = r->reload_at;
	if (r->reload_why != NULL)
		strlcpy(status->reload_why, r->reload_why,
		    sizeof(status->reload_why));
	status->reloads_failed = (uint32_t)r->reloads_failed;
	status->upgrades_failed = (uint32_t)r->upgrades_failed;
	status->upgrade.ended = (uint32_t)r->upgrades;
	status->upgrade.begun = (uint32_t)r->upgrades_begun;
	status->upgrade.done = (uint32_t)r->upgraded;
	atomic_store(&m->board.commons->log_dropped,
	    (unsigned long long)r->log_dropped);
	restore_deaths(status, s, (uint64_t)r->deaths);
	restore_totals(m, s);
}

static void *
pointers(const struct state *s, enum state_kind kind)
{
	return calloc((size_t)s->list[kind].n, sizeof(void *));
}

static int
restore_services(struct master *m, const struct state *s, struct made *made,
    char error[CONF_ERROR_MAX])
{
	const struct state_generation *g = s->list[STATE_GENERATION].item;
	const struct state_service *v = s->list[STATE_SERVICE].item;
	int i;

	for (i = 0; i < s->list[STATE_GENERATION].n; i++)
		if (restore_generation(m, &g[i], &made->generation[i],
		    error) == -1)
			return -1;
	for (i = 0; i < s->list[STATE_SERVICE].n; i++)
		if (restore_service(&v[i],
		    made->generation[v[i].generation],
		    &made->service[i]) == -1)
			return error_say(error, "the state names a service "
			    "that its settings do not have");
	return 0;
}

static int
restore_pools(struct master *m, const struct state *s, struct made *made,
    char error[CONF_ERROR_MAX])
{
	const struct state_pool *r = s->list[STATE_POOL].item;
	const struct generation *g;
	struct pool *p;
	int i;

	for (i = 0; i < s->list[STATE_POOL].n; i++, r++) {
		p = reload_make_pool(m, made->service[r->service],
		    made->listener[r->listener]);
		if ((made->pool[i] = p) == NULL)
			return error_say(error, no_memory);
		p->leaving = r->leaving != 0;
		p->been_ready = (int)r->been_ready;
	}
	TAILQ_FOREACH(g, &m->generations, entry)
		reload_share_minimum(m, g);
	return 0;
}

static int
restore_children(struct master *m, const struct state *s,
    const struct made *made, char error[CONF_ERROR_MAX])
{
	const struct state_child *r = s->list[STATE_CHILD].item;
	const bool same = handover_same_layout(s);
	int i, n;

	for (i = 0; i < s->list[STATE_CHILD].n; i++, r++) {
		if (restore_child(m, r, made->pool[r->pool]) == -1)
			return error_say(error, "the state has two workers in "
			    "a slot");
		if (same)
			continue;
		m->child[r->slot].blind = true;
		show_blind(m, (int)r->slot);
	}
	m->nunused = 0;
	for (n = m->board.nslots - 1; n >= 0; n--)
		if (m->pid[n] == 0)
			m->unused[m->nunused++] = n;
	return 0;
}

static int
restore_all(struct master *m, const struct state *s, struct made *made,
    char error[CONF_ERROR_MAX])
{
	const struct state_listener *r = s->list[STATE_LISTENER].item;
	const struct state_unused *u = s->list[STATE_UNUSED].item;
	const bool same = handover_same_layout(s);
	int i;

	if (made->listener == NULL || made->generation == NULL ||
	    made->service == NULL || made->pool == NULL)
		return error_say(error, no_memory);
	for (i = 0; i < s->list[STATE_LISTENER].n; i++)
		if (restore_listener(m, &r[i], &made->listener[i], same) == -1)
			return error_say(error, "the state has a listener "
			    "that cannot be");
	for (i = 0; i < s->list[STATE_UNUSED].n; i++)
		if (listen_keep(u[i].name, (int)u[i].fd, false) == -1)
			return error_say(error, "the state has an inherited "
			    "socket that cannot be");
	if (restore_services(m, s, made, error) == -1 ||
	    restore_pools(m, s, made, error) == -1)
		return -1;
	if (!same)
		restore_past(m, s);
	return restore_children(m, s, made, error);
}

int
handover_restore(struct master *m, const struct state *s,
    char error[CONF_ERROR_MAX])
{
	const struct state_master *r = s->list[STATE_MASTER].item;
	struct made made = { pointers(s, STATE_LISTENER),
	    pointers(s, STATE_GENERATION), pointers(s, STATE_SERVICE),
	    pointers(s, STATE_POOL) };
	int rv;

	m->log_fd = (int)r->log_fd;
	m->poke_fd = (int)r->poke_fd;
	m->logger = (pid_t)r->logger;
	m->generation = (uint32_t)r->generation;
	m->forks = (uint64_t)r->forks;
	m->cut = (uint64_t)r->cut;
	rv = restore_all(m, s, &made, error);
	free(made.listener);
	free(made.generation);
	free(made.service);
	free(made.pool);
	return rv;
}
