/*
 * pool.c: how many workers a listening socket should have.
 *
 * Pure policy: counts and limits in, a number out.  It forks nobody, reads no
 * clock and keeps no memory, so that tests/unit/pool.c can try every case.
 * Birth and burial are in spawn.c; who asks is master.c.
 *
 * Growth follows demand, not time: the spares that lack, and one worker for
 * each client that waits in the queue already.  Surplus is judged on the pool,
 * because accept(2) wakes the longest idle worker and so none is idle for
 * long: what was idle at the quietest moment of a whole workers-idle-time was
 * not needed, and a tenth of that retires.
 */

#include "preforkd.h"

static int
min(int a, int b)
{
	return a < b ? a : b;
}

static int
max(int a, int b)
{
	return a > b ? a : b;
}

static int
births(const struct pool_counts *n, const struct pool_limits *limit)
{
	int alive = n->starting + n->idle + n->busy;
	int want = limit->spare + n->queued - n->idle - n->starting;

	want = max(want, max(limit->min, 1) - alive);
	if (limit->throttled)
		want = min(want, n->starting > 0 ? 0 : 1);
	return max(0, min(want, min(limit->room, limit->batch)));
}

static int
retirements(const struct pool_counts *n, const struct pool_limits *limit)
{
	int alive = n->starting + n->idle + n->busy;
	int surplus;

	if (n->least_idle == -1)
		return 0;
	surplus = min(n->least_idle, n->idle) - limit->spare;
	surplus = min(surplus, alive - max(limit->min, 1));
	return surplus > 0 ? (surplus + 9) / 10 : 0;
}

struct pool_plan
pool_plan(const struct pool_counts *n, const struct pool_limits *limit)
{
	struct pool_plan plan = { 0, 0 };

	plan.start = births(n, limit);
	if (plan.start == 0)
		plan.retire = retirements(n, limit);
	return plan;
}

/*
 * Nobody knows which of them are idle; whether they are enough, their queue
 * tells.  Clients that one look meets may be a burst, those of several looks in
 * a row lack a program each; and while no look meets any, there may be fewer.
 */
struct pool_plan
pool_plan_resident(const struct pool_counts *n,
    const struct pool_limits *limit)
{
	const int alive = n->starting + n->idle + n->busy;
	const int surplus = alive - max(limit->min, 1);
	struct pool_plan plan = { -surplus, 0 };

	if (n->pressed >= POOL_PRESSED)
		plan.start = max(plan.start, n->queued - n->starting);
	if (limit->throttled)
		plan.start = min(plan.start, n->starting > 0 ? 0 : 1);
	plan.start = min(plan.start, min(limit->room, limit->batch));
	plan.start = max(plan.start, 0);
	if (plan.start == 0 && n->calm && n->queued == 0 && surplus > 0)
		plan.retire = min((surplus + 9) / 10, n->idle);
	return plan;
}
