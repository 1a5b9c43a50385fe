/*
 * status.c: what the master shows: the writer of struct status.
 *
 * Once a pass status_publish() copies the master's own knowledge into the
 * mapping, so that a reader finds it consistent (scoreboard_begin, _end) and
 * nobody else needs to know the layout.  Only the totals and the deaths of
 * workers that are gone live here alone.  Rows of services and listeners are
 * given out here too; they keep their meaning over reloads.
 */

#include <sys/wait.h>

#include <signal.h>
#include <string.h>
#include <time.h>

#include "preforkd.h"

int
status_service_row(struct master *m, const char *name)
{
	struct status *status = m->board.status;
	int i, unused = -1;

	for (i = CONF_SERVICES_MAX - 1; i >= 0; i--) {
		if (!status->service[i].used)
			unused = i;
		else if (strcmp(status->service[i].name, name) == 0)
			return i;
	}
	if (unused == -1)
		return -1;
	scoreboard_begin(&m->board);
	memset(&status->service[unused], 0, sizeof(status->service[unused]));
	strlcpy(status->service[unused].name, name,
	    sizeof(status->service[unused].name));
	status->service[unused].used = 1;
	scoreboard_end(&m->board);
	return unused;
}

int
status_listener_row(struct master *m, const char *name, int service)
{
	struct status *status = m->board.status;
	int i;

	for (i = 0; i < CONF_LISTENERS_MAX; i++)
		if (!status->listener[i].used)
			break;
	if (i == CONF_LISTENERS_MAX)
		return -1;
	scoreboard_begin(&m->board);
	memset(&status->listener[i], 0, sizeof(status->listener[i]));
	strlcpy(status->listener[i].name, name,
	    sizeof(status->listener[i].name));
	status->listener[i].service = (uint32_t)service;
	status->listener[i].used = 1;
	scoreboard_end(&m->board);
	atomic_store(&m->board.commons->listener[i].idle, 0);
	return i;
}

void
status_free_listener_row(struct master *m, int row)
{
	m->board.status->listener[row].used = 0;
}

void
status_hand_over(struct master *m, int listener_row, int service_row)
{
	m->board.status->listener[listener_row].service =
	    (uint32_t)service_row;
}

void
status_free_service_row(struct master *m, int row)
{
	const struct generation *g;
	const struct service *s;

	if (m->state >= MASTER_DRAINING)
		return;		/* its numbers are what a stop leaves */
	TAILQ_FOREACH(g, &m->generations, entry)
		TAILQ_FOREACH(s, &g->services, entry)
			if (s->index == row)
				return;
	m->board.status->service[row].used = 0;
}

static enum death_cause
cause_of(const struct status_death *d)
{
	const int status = d->wait_status;

	if (d->killed)
		return DEATH_KILLED;
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGKILL ? DEATH_SIGKILL :
		    DEATH_SIGNAL;
	if (d->program == 0 && (WEXITSTATUS(status) == WORKER_START_FAILED ||
	    WEXITSTATUS(status) == WORKER_SERVICE_FAILED))
		return DEATH_START;
	return DEATH_EXIT;
}

void
status_record_death(struct master *m, const struct status_death *d, int row)
{
	struct status *status = m->board.status;

	scoreboard_begin(&m->board);
	status->death[status->ndeaths++ % SCOREBOARD_DEATHS] = *d;
	status->service[row].deaths[cause_of(d)]++;
	scoreboard_end(&m->board);
}

/* Together with the slot, or a reader would count the worker twice. */
void
status_inherit(struct master *m, int n, int row, uint32_t epoch)
{
	struct status *status = m->board.status;
	struct slot *slot = &m->board.commons->slot[n];

	scoreboard_begin(&m->board);
	numbers_add(status->service[row].number, slot);
	status->burial[status->nburials++ % SCOREBOARD_BURIALS] =
	    (struct status_burial){ (uint32_t)n, epoch - 1 };
	memset(slot, 0, sizeof(*slot));
	atomic_store(&slot->epoch, epoch);
	scoreboard_end(&m->board);
}

/* Not one that is coming up, unless there is no other. */
static void
publish_generation(struct master *m)
{
	const struct generation *g;

	TAILQ_FOREACH(g, &m->generations, entry)
		if (g->ready || TAILQ_NEXT(g, entry) == NULL)
			break;
	if (g != NULL)
		m->board.status->generation = g->number;
}

void
status_reload_begun(struct master *m)
{
	scoreboard_begin(&m->board);
	m->board.status->reloads_begun++;
	m->board.status->reload_at = time(NULL);
	m->board.status->reload_waits = 0;
	scoreboard_end(&m->board);
}

void
status_reload_waits(struct master *m, uint32_t generation, int workers)
{
	scoreboard_begin(&m->board);
	m->board.status->reload_waits = generation;
	m->board.status->reload_waits_for = (uint32_t)workers;
	scoreboard_end(&m->board);
}

void
status_reload_ended(struct master *m, enum reload_outcome how, const char *why)
{
	struct status *status = m->board.status;

	scoreboard_begin(&m->board);
	status->reload = how;
	status->reloads_failed += how == RELOAD_FAILED;
	status->reloads = status->reloads_begun;
	if (how == RELOAD_DONE)
		status->reloaded = status->reloads;
	publish_generation(m);
	status->reload_waits = 0;
	status->reload_at = time(NULL);
	strlcpy(status->reload_why, why, sizeof(status->reload_why));
	scoreboard_end(&m->board);
}

void
status_upgrade_begun(struct master *m)
{
	scoreboard_begin(&m->board);
	m->board.status->upgrade.begun++;
	m->board.status->upgrade.at = time(NULL);
	scoreboard_end(&m->board);
}

void
status_upgrade_ended(struct master *m, enum reload_outcome how,
    const char *why)
{
	struct status_upgrade *u = &m->board.status->upgrade;

	scoreboard_begin(&m->board);
	u->outcome = how;
	m->board.status->upgrades_failed += how == RELOAD_FAILED;
	u->ended = u->begun;
	if (how == RELOAD_DONE)
		u->done = u->ended;
	publish_generation(m);
	u->at = time(NULL);
	strlcpy(u->from, m->upgrade.from, sizeof(u->from));
	strlcpy(u->why, why, sizeof(u->why));
	scoreboard_end(&m->board);
}

static void
publish_service(struct status *status, const struct service *s)
{
	struct status_service *row = &status->service[s->index];

	row->tells = conf_tells(s->conf);
	row->workers_min = (uint32_t)s->conf->workers_min;
	row->workers_spare = (uint32_t)s->conf->workers_spare;
	row->workers_max = (uint32_t)s->conf->workers_max;
	row->per_source = (uint32_t)s->conf->per_source;
	row->source_bits[0] = (uint32_t)s->conf->per_source_prefix.ipv4;
	row->source_bits[1] = (uint32_t)s->conf->per_source_prefix.ipv6;
	row->delayed = (uint32_t)s->delayed;
	atomic_store(&row->full, s->full_said);
	row->retry_at = s->delay != 0 ? s->retry_at : 0;
}

static void
fill_generation(const struct master *m, const struct generation *g,
    struct status_generation *row)
{
	const struct pool *p;
	int64_t from = g->leave_from != 0 ? g->leave_from : m->stop_from;
	int64_t longest = 0;

	*row = (struct status_generation){ .number = g->number,
	    .since = g->since };
	TAILQ_FOREACH(p, &m->pools, entry) {
		if (p->service->generation != g)
			continue;
		row->workers += (uint32_t)p->alive;
		row->clients += (uint32_t)p->serving;
		if (p->service->conf->drain_timeout > longest)
			longest = p->service->conf->drain_timeout;
	}
	if (from != 0)
		row->until = from + longest;
}

static void
publish_generations(struct master *m)
{
	struct status *status = m->board.status;
	const struct generation *g;
	uint32_t n = 0;

	TAILQ_FOREACH(g, &m->generations, entry) {
		if (n < SCOREBOARD_GENERATIONS)
			fill_generation(m, g, &status->generations[n]);
		n++;
	}
	status->ngenerations = n;
}

void
status_publish(struct master *m)
{
	struct status *status = m->board.status;
	const struct generation *newest = TAILQ_FIRST(&m->generations);
	const struct listener *l;
	const struct service *s;

	scoreboard_begin(&m->board);
	status->state = m->state;
	status->updated = m->now;
	status->cut = m->cut;
	status->forks = m->forks;
	publish_generation(m);
	publish_generations(m);
	if (newest != NULL)
		TAILQ_FOREACH(s, &newest->services, entry)
			publish_service(status, s);
	TAILQ_FOREACH(l, &m->listeners, entry) {
		status->listener[l->index].waiting = (uint32_t)l->waiting;
		status->listener[l->index].limit = (uint32_t)l->limit;
	}
	scoreboard_end(&m->board);
}
