/*
 * pool.c: the plan, case by case, and a million random ones held to what no
 * plan may break.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/preforkd.h"

static int failed;

static void
compare(const char *name, struct pool_plan plan, int start, int retire)
{
	if (plan.start == start && plan.retire == retire) {
		printf("ok %s\n", name);
		return;
	}
	printf("FAIL %s: start %d retire %d, not %d %d\n", name, plan.start,
	    plan.retire, start, retire);
	failed = 1;
}

static void
expect(const char *name, struct pool_counts n, struct pool_limits limit,
    int start, int retire)
{
	compare(name, pool_plan(&n, &limit), start, retire);
}

static void
expect_resident(const char *name, struct pool_counts n,
    struct pool_limits limit, int start, int retire)
{
	compare(name, pool_plan_resident(&n, &limit), start, retire);
}

/* starting, idle, busy, draining, queued, least_idle */
#define N(...)	(struct pool_counts){ __VA_ARGS__, 0, false }
/* ... pressed, calm */
#define P(...)	(struct pool_counts){ __VA_ARGS__ }
/* min, spare, room, batch, throttled */
#define L(...)	(struct pool_limits){ __VA_ARGS__ }

static void
growth(void)
{
	expect("an empty pool gets its spares",
	    N(0, 0, 0, 0, 0, -1), L(1, 8, 512, 64, false), 8, 0);
	expect("an empty pool gets its minimum when that is more",
	    N(0, 0, 0, 0, 0, -1), L(20, 8, 512, 64, false), 20, 0);
	expect("a full set of spares starts nobody",
	    N(0, 8, 100, 0, 0, -1), L(1, 8, 400, 64, false), 0, 0);
	expect("a missing spare is replaced",
	    N(0, 7, 1, 0, 0, -1), L(1, 8, 504, 64, false), 1, 0);
	expect("workers on their way count as spares",
	    N(5, 3, 10, 0, 0, -1), L(1, 8, 400, 64, false), 0, 0);
	expect("each client in the queue gets a worker",
	    N(0, 0, 8, 0, 30, -1), L(1, 8, 400, 64, false), 38, 0);
	expect("a batch bounds one pass",
	    N(0, 0, 8, 0, 3000, -1), L(1, 8, 4000, 64, false), 64, 0);
	expect("room bounds it too",
	    N(0, 0, 8, 0, 30, -1), L(1, 8, 3, 64, false), 3, 0);
	expect("no room starts nobody",
	    N(0, 0, 8, 0, 30, -1), L(1, 8, -2, 64, false), 0, 0);
	expect("a socket without workers gets one",
	    N(0, 0, 0, 2, 0, -1), L(0, 1, 10, 64, false), 1, 0);
	expect("throttled: one at a time",
	    N(0, 0, 0, 0, 0, -1), L(1, 8, 512, 64, true), 1, 0);
	expect("throttled: not while one is on its way",
	    N(1, 0, 0, 0, 9, -1), L(1, 8, 512, 64, true), 0, 0);
}

static void
shrinking(void)
{
	expect("surplus is unknown before its time",
	    N(0, 100, 0, 0, 0, -1), L(1, 8, 400, 64, false), 0, 0);
	expect("a tenth of the surplus retires",
	    N(0, 108, 0, 0, 0, 108), L(1, 8, 400, 64, false), 0, 10);
	expect("a small surplus retires one by one",
	    N(0, 10, 0, 0, 0, 10), L(1, 8, 400, 64, false), 0, 1);
	expect("the quietest moment counts, not this one",
	    N(0, 108, 0, 0, 0, 8), L(1, 8, 400, 64, false), 0, 0);
	expect("no more retire than are idle now",
	    N(0, 9, 99, 0, 0, 108), L(1, 8, 400, 64, false), 0, 1);
	expect("the minimum stays",
	    N(0, 20, 0, 0, 0, 20), L(20, 8, 400, 64, false), 0, 0);
	expect("down to the minimum, not below",
	    N(0, 22, 0, 0, 0, 22), L(20, 8, 400, 64, false), 0, 1);
}

static void
resident(void)
{
	expect_resident("programs: the minimum, whatever the spares",
	    P(0, 0, 0, 0, 0, -1, 0, false), L(3, 8, 64, 64, false), 3, 0);
	expect_resident("programs: one, when there is no minimum",
	    P(0, 0, 0, 2, 0, -1, 0, false), L(0, 8, 64, 64, false), 1, 0);
	expect_resident("programs: a burst starts nobody",
	    P(0, 2, 0, 0, 9, -1, 2, false), L(1, 8, 64, 64, false), 0, 0);
	expect_resident("programs: one for each client that goes on waiting",
	    P(0, 2, 0, 0, 9, -1, 3, false), L(1, 8, 62, 64, false), 9, 0);
	expect_resident("programs: those that start count",
	    P(4, 2, 0, 0, 9, -1, 3, false), L(1, 8, 58, 64, false), 5, 0);
	expect_resident("programs: room bounds them",
	    P(0, 2, 0, 0, 9, -1, 3, false), L(1, 8, 3, 64, false), 3, 0);
	expect_resident("programs: a batch bounds them",
	    P(0, 2, 0, 0, 99, -1, 3, false), L(1, 8, 90, 64, false), 64, 0);
	expect_resident("programs: throttled, one at a time",
	    P(0, 0, 0, 0, 9, -1, 3, false), L(4, 8, 64, 64, true), 1, 0);
	expect_resident("programs: throttled, not while one starts",
	    P(1, 0, 0, 0, 9, -1, 3, false), L(4, 8, 64, 64, true), 0, 0);
	expect_resident("programs: none leaves before its time",
	    P(0, 20, 0, 0, 0, -1, 0, false), L(1, 8, 64, 64, false), 0, 0);
	expect_resident("programs: a tenth leaves when all is calm",
	    P(0, 22, 0, 0, 0, -1, 0, true), L(1, 8, 64, 64, false), 0, 3);
	expect_resident("programs: down to the minimum",
	    P(0, 4, 0, 0, 0, -1, 0, true), L(4, 8, 64, 64, false), 0, 0);
}

static int
below(int n)
{
	return rand() % n;
}

static bool
breaks(const struct pool_counts *n, const struct pool_limits *limit,
    struct pool_plan plan)
{
	return plan.start < 0 || plan.retire < 0 ||
	    (plan.start > 0 && plan.retire > 0) ||
	    (plan.start > 0 && plan.start > limit->room) ||
	    plan.start > limit->batch || plan.retire > n->idle ||
	    (limit->throttled && plan.start > 1) ||
	    (plan.retire > 0 && n->starting + n->idle + n->busy -
	    plan.retire < limit->min);
}

static void
no_plan_breaks_its_bounds(void)
{
	struct pool_counts n;
	struct pool_limits limit;
	int i;

	srand(1);
	for (i = 0; i < 1000000; i++) {
		n = P(below(50), below(300), below(300), below(50),
		    below(300), below(300) - 1, below(5), below(2) == 1);
		limit = L(below(200), 1 + below(100), below(400) - 50,
		    1 + below(64), below(2));
		if (breaks(&n, &limit, pool_plan(&n, &limit)) ||
		    breaks(&n, &limit, pool_plan_resident(&n, &limit))) {
			printf("FAIL random case %d breaks a bound\n", i);
			failed = 1;
			return;
		}
	}
	printf("ok a million random cases break no bound\n");
}

int
main(void)
{
	growth();
	shrinking();
	resident();
	no_plan_breaks_its_bounds();
	return failed;
}
