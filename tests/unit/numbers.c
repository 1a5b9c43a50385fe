/*
 * numbers.c: each time falls between its bounds, each refusal has its number,
 * and no lie in a slot makes a sum wrap.
 */

#include <stdio.h>
#include <string.h>

#include "../../src/preforkd.h"

static int failed;

static void
check(const char *name, bool ok)
{
	printf("%s %s\n", ok ? "ok" : "FAIL", name);
	failed |= !ok;
}

static uint64_t
get(const struct slot *slot, int number)
{
	return atomic_load(&slot->number[number]);
}

/* Just one word of a histogram is 1. */
static bool
falls(int64_t us, int bucket)
{
	struct slot slot;
	int i;

	memset(&slot, 0, sizeof(slot));
	numbers_served(&slot, 3, 4, us);
	for (i = 0; i <= HISTOGRAM_BOUNDS; i++)
		if (get(&slot, NUMBER_SERVICE + 1 + i) != (i == bucket))
			return false;
	return get(&slot, NUMBER_SERVICE) == (uint64_t)us &&
	    get(&slot, NUMBER_SERVED) == 1 && get(&slot, NUMBER_IN) == 3 &&
	    get(&slot, NUMBER_OUT) == 4 && slot.seq == 2;
}

static void
times(void)
{
	bool ok = true;
	int i;

	for (i = 0; i < HISTOGRAM_BOUNDS; i++)
		ok = ok && falls(histogram_bounds[i], i) &&
		    falls(histogram_bounds[i] + 1, i + 1);
	check("a time falls at or below its bound", ok);
	check("no time falls lowest", falls(0, 0));
	check("what is longer falls last", falls(INT64_MAX / 2,
	    HISTOGRAM_BOUNDS));
}

static void
refusals(void)
{
	struct slot slot;
	uint64_t sum[NUMBERS] = { 0 };
	bool ok = true;
	int i;

	memset(&slot, 0, sizeof(slot));
	for (i = 0; i < REFUSALS; i++)
		numbers_refused(&slot, refusal_names[i]);
	numbers_refused(&slot, "proxy-protocol header=wrong");
	numbers_refused(&slot, "per-sourc");
	numbers_refused(&slot, "per-source-rated");
	for (i = 0; i < REFUSALS; i++)
		ok = ok && get(&slot, NUMBER_REFUSED + i) ==
		    (i == REFUSAL_PROXY ? 2 : 1);
	check("a refusal is counted by its first word, all of it", ok);
	numbers_add(sum, &slot);
	check("refusals are added up", numbers_refusals(sum) == REFUSALS + 1);
}

static void
lies(void)
{
	uint64_t sum[NUMBERS] = { 0 };
	struct slot slot;
	bool ok = true;
	int i, n;

	memset(&slot, 0xff, sizeof(slot));
	for (n = 0; n < 3; n++) {
		numbers_add(sum, &slot);
		for (i = 0; i < NUMBERS; i++)
			ok = ok && sum[i] >= SCOREBOARD_CLIENTS &&
			    sum[i] <= INT64_MAX;
	}
	check("no sum wraps", ok);
	check("nobody has had so many clients",
	    sum[NUMBER_ACCEPTED] == SCOREBOARD_CLIENTS);
}

int
main(void)
{
	times();
	refusals();
	lies();
	return failed;
}
