/*
 * sources.c: how many connections each source has, over all workers.
 *
 * A fixed table in the commons, written by workers without locks, and by the
 * master to clear what dead workers have left.  An entry belongs to a source:
 * a service and an address prefix, known by a keyed hash.  A connection holds
 * a cell of it, which names its worker's slot (RULES R43): taken by one
 * compare-and-swap and given back by one store, so that whatever instruction a
 * worker is killed at, clearing all cells of its slot makes the counts right.
 *
 * A source is looked for in a window of entries behind its hash.  When it has
 * none there, a free entry is taken, else an idle one evicted: its key becomes
 * EVICTING, its cells are looked at once more, and it is given up if one was
 * taken meanwhile; whoever takes a cell looks at the key afterwards.  One of
 * the two sees the other.  Two workers that take an entry for the same source
 * see each other in the same way, and try again.  When all of a window is in
 * use, the source is admitted and not counted: a full table locks nobody out.
 *
 * Of a rate only the time is kept at which the bucket will be full again (the
 * generic cell rate algorithm).  An evicted source starts with a full one.
 *
 * All of it is gossip (R3): a worker that was taken over can refuse clients of
 * its own service, or let them in; the master puts the table right from its
 * private one, each second.
 */

#include "preforkd.h"

#define WINDOW		16
#define FREE		0	/* keys that are no source's */
#define EVICTING	1
#define TRIES		8	/* when others take what we have found */

/* A cell has slot + 1, and 0 is free. */
_Static_assert(CONF_SLOTS_MAX <= UINT16_MAX, "a slot has no word for a cell");

static uint64_t
mix(uint64_t h, uint64_t word)
{
	h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return h ^ h >> 29;
}

uint64_t
source_key(const struct prefix *p, int service, const uint64_t secret[2])
{
	uint64_t h = mix(secret[0], (uint64_t)service << 1 | p->ipv6);

	h = mix(h, p->bits[0]);
	h = mix(h ^ secret[1], p->bits[1]);
	h = mix(h, secret[0]);
	return h <= EVICTING ? h + 2 : h;
}

static struct source *
at(struct source *table, uint64_t key, int i)
{
	return &table[(key + (uint64_t)i) % SOURCES];
}

/* The first entry of a source but for one. */
static struct source *
find(struct source *table, uint64_t key, const struct source *but)
{
	struct source *s;
	int i;

	for (i = 0; i < WINDOW; i++) {
		s = at(table, key, i);
		if (s != but && atomic_load(&s->key) == key)
			return s;
	}
	return NULL;
}

static bool
idle(const struct source *s)
{
	int i;

	for (i = 0; i < SOURCE_CELLS; i++)
		if (atomic_load(&s->cell[i]) != 0)
			return false;
	return true;
}

/* Make an entry ours, of whose key we know what it was; or free. */
static bool
seize(struct source *s, uint64_t old, uint64_t key)
{
	uint64_t evicting = EVICTING;
	const uint64_t before = old;

	if (old == FREE) {
		if (!atomic_compare_exchange_strong(&s->key, &old, key))
			return false;
		atomic_store(&s->full_at, 0);
		return true;
	}
	if (!atomic_compare_exchange_strong(&s->key, &old, EVICTING))
		return false;
	if (!idle(s)) {
		atomic_compare_exchange_strong(&s->key, &evicting, before);
		return false;
	}
	atomic_store(&s->full_at, 0);
	return atomic_compare_exchange_strong(&s->key, &evicting, key);
}

/*
 * A free entry, or the first idle one; rather not one whose rate matters.
 * False when there is none; or else the source is to be looked for again, for
 * another may have been quicker, or have taken one for the same source.
 */
static bool
take(struct source *table, uint64_t key, int64_t now)
{
	struct source *s;
	uint64_t old;
	int i, pass;

	for (pass = 0; pass < 3; pass++) {
		for (i = 0; i < WINDOW; i++) {
			s = at(table, key, i);
			old = atomic_load(&s->key);
			if (old == EVICTING || (pass == 0) != (old == FREE))
				continue;
			if (pass == 1 && atomic_load(&s->full_at) > now)
				continue;
			if (!idle(s))	/* a free one: of one who died */
				continue;
			if (seize(s, old, key) && find(table, key, s) != NULL)
				seize(s, key, FREE);
			return true;
		}
	}
	return false;
}

/* One more within the rate?  Then it is accounted. */
static bool
slow_enough(struct source *s, const struct source_limit *limit, int64_t now)
{
	const int64_t most = limit->interval * limit->burst;
	int64_t full_at = atomic_load(&s->full_at), next;

	if (limit->interval == 0)
		return true;
	do {
		next = (full_at > now ? full_at : now) + limit->interval;
		if (next - now > most) {
			/* It may be of a slower rate, before a reload. */
			if (full_at > now + most)
				atomic_compare_exchange_strong(&s->full_at,
				    &full_at, now + most);
			return false;
		}
	} while (!atomic_compare_exchange_weak(&s->full_at, &full_at, next));
	return true;
}

/* The first free cell of so many; -1: none, -2: it is another's entry. */
static int
claim_cell(struct source *s, uint64_t key, int cells, uint16_t owner)
{
	uint16_t nobody;
	int i;

	for (i = 0; i < cells; i++) {
		nobody = 0;
		if (!atomic_compare_exchange_strong(&s->cell[i], &nobody,
		    owner))
			continue;
		if (atomic_load(&s->key) == key)
			return i;
		atomic_store(&s->cell[i], 0);
		return -2;
	}
	return -1;
}

enum source_answer
source_claim(struct source *table, struct source_claim *claim, int slot,
    const struct source_limit *limit)
{
	const int cells = limit->most > 0 ? limit->most : SOURCE_CELLS;
	struct source *s;
	int try, cell;

	claim->source = NULL;
	for (try = 0; try < TRIES; try++) {
		if ((s = find(table, claim->key, NULL)) == NULL) {
			if (!take(table, claim->key, limit->now))
				return SOURCE_UNKNOWN;
			continue;
		}
		cell = claim_cell(s, claim->key, cells, (uint16_t)(slot + 1));
		if (cell == -2)
			continue;
		if (cell == -1 && limit->most > 0)
			return SOURCE_FULL;
		if (!slow_enough(s, limit, limit->now)) {
			if (cell != -1)
				atomic_store(&s->cell[cell], 0);
			return SOURCE_TOO_FAST;
		}
		if (cell == -1)
			return SOURCE_UNKNOWN;
		claim->source = s;
		claim->cell = cell;
		return SOURCE_ADMITTED;
	}
	return SOURCE_UNKNOWN;
}

void
source_release(struct source_claim *claim, int slot)
{
	uint16_t own = (uint16_t)(slot + 1);

	if (claim->source != NULL)
		atomic_compare_exchange_strong(
		    &claim->source->cell[claim->cell], &own, 0);
	claim->source = NULL;
}

void
sources_repair(struct source *table, const pid_t *pid, int nslots)
{
	uint16_t owner;
	uint64_t key;
	int i, j;

	for (i = 0; i < SOURCES; i++) {
		key = atomic_load(&table[i].key);
		for (j = 0; j < SOURCE_CELLS; j++) {
			owner = atomic_load(&table[i].cell[j]);
			if (owner != 0 && (owner > nslots ||
			    pid[owner - 1] == 0))
				atomic_compare_exchange_strong(
				    &table[i].cell[j], &owner, 0);
		}
		/* Its evictor is a moment's matter, or dead. */
		if (key == EVICTING && idle(&table[i]))
			atomic_compare_exchange_strong(&table[i].key, &key,
			    FREE);
	}
}

void
sources_forget(struct source *table, int slot)
{
	uint16_t own;
	int i, j;

	for (i = 0; i < SOURCES; i++) {
		if (atomic_load(&table[i].key) == FREE)
			continue;
		for (j = 0; j < SOURCE_CELLS; j++) {
			own = atomic_load(&table[i].cell[j]);
			if (own == (uint16_t)(slot + 1))
				atomic_compare_exchange_strong(
				    &table[i].cell[j], &own, 0);
		}
	}
}
