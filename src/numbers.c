/*
 * numbers.c: what is counted: by each worker, in its own slot, without a lock.
 *
 * Owns the meaning of slot.number.  A worker that dies loses what it has not
 * written yet, its one connection at most; what it has is added to its
 * service's numbers by the master.  Of times the sum is kept, and how many
 * fall between two bounds, which are about three times apart: the words of a
 * histogram are added up by whoever reads them.
 *
 * It costs a reading of the clock and a few words of the worker's own cache
 * (tests/bench/run accounting), and never waits.
 */

#include <string.h>

#include "preforkd.h"

const int64_t histogram_bounds[HISTOGRAM_BOUNDS] = {
	100, 300, 1000, 3000, 10000, 30000, 100000, 300000, 1000000, 3000000,
	10000000, 30000000, 100000000, 1000000000
};

const char *const refusal_names[REFUSALS] = {
	[REFUSAL_DENY] = "deny",
	[REFUSAL_RULES] = "rules",
	[REFUSAL_DEFAULT] = "default",
	[REFUSAL_PER_SOURCE] = "per-source",
	[REFUSAL_PER_SOURCE_RATE] = "per-source-rate",
	[REFUSAL_PROXY] = "proxy-protocol"
};

const char *const death_names[DEATH_CAUSES] = {
	[DEATH_EXIT] = "exit",
	[DEATH_SIGNAL] = "signal",
	[DEATH_SIGKILL] = "sigkill",
	[DEATH_KILLED] = "killed",
	[DEATH_START] = "start-failed"
};

static void
add(_Atomic uint64_t *to, uint64_t n)
{
	atomic_store_explicit(to,
	    atomic_load_explicit(to, memory_order_relaxed) + n,
	    memory_order_relaxed);
}

static void
add_time(_Atomic uint64_t *sum, int64_t us)
{
	int i = 0;

	while (i < HISTOGRAM_BOUNDS && us > histogram_bounds[i])
		i++;
	add(sum, (uint64_t)us);
	add(sum + 1 + i, 1);
}

void
numbers_accepted(struct slot *slot, uint64_t n)
{
	atomic_store_explicit(&slot->number[NUMBER_ACCEPTED], n,
	    memory_order_relaxed);
}

void
numbers_refused(struct slot *slot, const char *why)
{
	const size_t n = strcspn(why, " ");
	int i;

	for (i = 0; i < REFUSALS; i++)
		if (strlen(refusal_names[i]) == n &&
		    strncmp(why, refusal_names[i], n) == 0)
			add(&slot->number[NUMBER_REFUSED + i], 1);
}

void
numbers_waited(struct slot *slot, int64_t us)
{
	slot_begin(slot);
	add_time(&slot->number[NUMBER_WAIT], us);
	slot_end(slot);
}

void
numbers_served(struct slot *slot, uint64_t in, uint64_t out, int64_t us)
{
	slot_begin(slot);
	add(&slot->number[NUMBER_SERVED], 1);
	add(&slot->number[NUMBER_IN], in);
	add(&slot->number[NUMBER_OUT], out);
	add_time(&slot->number[NUMBER_SERVICE], us);
	slot_end(slot);
}

/* Bytes and times may be large; nobody has had so many clients. */
static uint64_t
most(int i)
{
	return i == NUMBER_IN || i == NUMBER_OUT || i == NUMBER_WAIT ||
	    i == NUMBER_SERVICE ? INT64_MAX : SCOREBOARD_CLIENTS;
}

void
numbers_add(uint64_t to[NUMBERS], const struct slot *slot)
{
	uint64_t n;
	int i;

	for (i = 0; i < NUMBERS; i++) {
		n = atomic_load_explicit(&slot->number[i],
		    memory_order_relaxed);
		if (n > most(i))
			n = most(i);
		to[i] = to[i] > most(i) - n ? most(i) : to[i] + n;
	}
}

uint64_t
numbers_refusals(const uint64_t number[NUMBERS])
{
	uint64_t n = 0;
	int i;

	for (i = 0; i < REFUSALS; i++)
		n += number[NUMBER_REFUSED + i];
	return n;
}
