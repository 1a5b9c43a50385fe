/*
 * sources.c: the unit test of src/sources.c: limits, rates and eviction case
 * by case; then eight processes at once, some of which are killed.  Each case
 * prints `ok NAME' or `FAIL NAME: why'.
 */

#include <sys/mman.h>
#include <sys/wait.h>

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"
#include "check.h"

#define PROCESSES	8
#define RACERS		2

static struct source *table;
static const uint64_t secret[2] = { 1, 2 };

/* What the processes tell. */
static struct shared {
	_Atomic int	 high;		/* most connections of a source */
	_Atomic int	 held;		/* by one that is to be killed */
	_Atomic uint64_t refused, unknown;
	_Atomic int	 waiting, admitted;	/* of a round */
	_Atomic uint32_t round;
} *shared;

static void
begin(const char *name)
{
	test = name;
	memset(table, 0, sizeof(*table) * SOURCES);
	memset(shared, 0, sizeof(*shared));
}

static uint64_t
key(uint32_t ip, int prefix)
{
	struct prefix p = { .bits = { (uint64_t)ip << 32, 0 } };

	address_cut(&p, prefix);
	return source_key(&p, 0, secret);
}

static uint64_t
key6(uint64_t high, uint64_t low, int prefix)
{
	struct prefix p = { .ipv6 = true, .bits = { high, low } };

	address_cut(&p, prefix);
	return source_key(&p, 0, secret);
}

static int
cells_used(void)
{
	int i, j, n = 0;

	for (i = 0; i < SOURCES; i++)
		for (j = 0; j < SOURCE_CELLS; j++)
			n += table[i].cell[j] != 0;
	return n;
}

/* Connections that a source has now. */
static int
count(uint64_t source)
{
	int i, j, n = 0;

	for (i = 0; i < SOURCES; i++)
		for (j = 0; table[i].key == source && j < SOURCE_CELLS; j++)
			n += table[i].cell[j] != 0;
	return n;
}

static void
limits(void)
{
	struct source_limit limit = { .most = 2 };
	struct source_claim c[4] = { { .key = key(1, 32) },
	    { .key = key(1, 32) }, { .key = key(1, 32) },
	    { .key = key(2, 32) } };

	begin("a source has as many connections as the limit, and no more");
	CHECK(source_claim(table, &c[0], 0, &limit) == SOURCE_ADMITTED);
	CHECK(source_claim(table, &c[1], 1, &limit) == SOURCE_ADMITTED);
	CHECK(count(key(1, 32)) == 2);
	CHECK(source_claim(table, &c[2], 2, &limit) == SOURCE_FULL);
	CHECK(c[2].source == NULL);
	CHECK(source_claim(table, &c[3], 3, &limit) == SOURCE_ADMITTED);
	source_release(&c[0], 0);
	CHECK(count(key(1, 32)) == 1);
	CHECK(source_claim(table, &c[2], 2, &limit) == SOURCE_ADMITTED);
	source_release(&c[0], 0);	/* again: it has nothing any more */
	CHECK(count(key(1, 32)) == 2);
	source_release(&c[1], 1);
	source_release(&c[2], 2);
	source_release(&c[3], 3);
	CHECK(cells_used() == 0);
	done();
}

static void
keys(void)
{
	begin("addresses of one prefix are one source, others are not");
	CHECK(key(0x0a000001, 24) == key(0x0a0000ff, 24));
	CHECK(key(0x0a000001, 24) != key(0x0a000101, 24));
	CHECK(key(0x0a000001, 32) != key(0x0a000002, 32));
	CHECK(key(0x0a000001, 0) == key(0xffffffff, 0));
	CHECK(key6(1, 1, 64) == key6(1, 2, 64));
	CHECK(key6(1, 1, 64) != key6(2, 1, 64));
	CHECK(key6(1, 1, 128) != key6(1, 2, 128));
	CHECK(key6(1, 2, 127) == key6(1, 3, 127));
	CHECK(key6(0, 0, 128) != key(0, 32));
	done();
}

static void
rates(void)
{
	/* 2 a second, 3 at once */
	struct source_limit limit = { .now = 1000000, .interval = 500000,
	    .burst = 3 };
	struct source_claim c = { .key = key(1, 32) };
	int i;

	begin("a rate lets in a burst, then one each interval");
	for (i = 0; i < 3; i++) {
		CHECK(source_claim(table, &c, 0, &limit) == SOURCE_ADMITTED);
		source_release(&c, 0);
	}
	CHECK(source_claim(table, &c, 0, &limit) == SOURCE_TOO_FAST);
	limit.now += 499999;
	CHECK(source_claim(table, &c, 0, &limit) == SOURCE_TOO_FAST);
	limit.now += 1;
	CHECK(source_claim(table, &c, 0, &limit) == SOURCE_ADMITTED);
	source_release(&c, 0);
	CHECK(source_claim(table, &c, 0, &limit) == SOURCE_TOO_FAST);
	limit.now += 1500000;
	for (i = 0; i < 3; i++) {
		CHECK(source_claim(table, &c, 0, &limit) == SOURCE_ADMITTED);
		source_release(&c, 0);
	}
	CHECK(source_claim(table, &c, 0, &limit) == SOURCE_TOO_FAST);
	CHECK(cells_used() == 0);
	done();
}

static void
crowded(void)
{
	struct source_limit limit = { .now = 1000000, .interval = 500000,
	    .burst = SOURCE_CELLS };
	static struct source_claim c[SOURCE_CELLS + 1];
	int i;

	begin("a rate without a limit holds for a source with all cells taken");
	for (i = 0; i <= SOURCE_CELLS; i++) {
		c[i].key = key(1, 32);
		CHECK(source_claim(table, &c[i], i, &limit) ==
		    (i < SOURCE_CELLS ? SOURCE_ADMITTED : SOURCE_TOO_FAST));
	}
	limit.now += limit.interval;
	CHECK(source_claim(table, &c[i - 1], i, &limit) == SOURCE_UNKNOWN);
	CHECK(source_claim(table, &c[i - 1], i, &limit) == SOURCE_TOO_FAST);
	done();
}

static void
last_slot(void)
{
	const struct source_limit limit = { .most = 1, .now = 1000000 };
	struct source_claim c = { .key = key(1, 32) }, other = c;

	begin("the last slot that there can be holds a cell");
	CHECK(source_claim(table, &c, CONF_SLOTS_MAX - 1, &limit) ==
	    SOURCE_ADMITTED);
	CHECK(source_claim(table, &other, 0, &limit) == SOURCE_FULL);
	source_release(&c, CONF_SLOTS_MAX - 1);
	CHECK(cells_used() == 0);
	done();
}

static void
full(void)
{
	struct source_limit limit = { .most = 1 };
	static struct source_claim c[SOURCES * 4];
	int i, unknown = 0;

	begin("a full table locks nobody out, and is good again by itself");
	for (i = 0; i < SOURCES * 4; i++) {
		c[i].key = key((uint32_t)i, 32);
		switch (source_claim(table, &c[i], i, &limit)) {
		case SOURCE_ADMITTED:
			break;
		case SOURCE_UNKNOWN:
			unknown++;
			break;
		case SOURCE_FULL:
		case SOURCE_TOO_FAST:
			CHECK(!"refused");
		}
	}
	CHECK(unknown >= SOURCES * 3);
	for (i = 0; i < SOURCES * 4; i++)
		source_release(&c[i], i);
	CHECK(cells_used() == 0);
	for (i = 0; i < 100000; i++) {
		c[0].key = key((uint32_t)i + 1000000, 32);
		CHECK(source_claim(table, &c[0], 0, &limit) ==
		    SOURCE_ADMITTED);
		source_release(&c[0], 0);
	}
	CHECK(cells_used() == 0);
	done();
}

static void
dead(void)
{
	struct source_limit limit = { .most = 9 };
	struct source_claim c = { .key = key(1, 32) };
	pid_t pid[4] = { 1, 0, 1, 1 };
	int i;

	begin("what a dead worker held is given back");
	for (i = 0; i < 4; i++)
		source_claim(table, &c, i, &limit);
	sources_forget(table, 2);
	CHECK(count(key(1, 32)) == 3);
	sources_forget(table, 2);
	CHECK(count(key(1, 32)) == 3);
	sources_repair(table, pid, 4);
	CHECK(count(key(1, 32)) == 2);
	table[7].cell[3] = 60000;	/* a lie */
	table[7].key = 77;
	table[9].key = 1;		/* whose evictor has died */
	sources_repair(table, pid, 4);
	CHECK(table[7].cell[3] == 0);
	CHECK(table[9].key == 0);
	done();
}

static void
note_most(int n)
{
	int high = shared->high;

	while (n > high &&
	    !atomic_compare_exchange_weak(&shared->high, &high, n))
		continue;
}

/* Some sources that are crowded, and many that pass through. */
__attribute__((__noreturn__))
static void
worker(int slot, uint32_t sources, int rounds)
{
	struct source_limit limit = { .most = 3 };
	struct source_claim c;
	uint32_t seed = (uint32_t)slot * 2654435761U + 1, ip;

	for (; rounds != 0; rounds--) {
		seed = seed * 1664525 + 1013904223;
		ip = (seed >> 8) % sources;
		c.key = key(ip, 32);
		switch (source_claim(table, &c, slot, &limit)) {
		case SOURCE_ADMITTED:
			note_most(count(c.key));
			break;
		case SOURCE_UNKNOWN:
			shared->unknown++;
			break;
		case SOURCE_FULL:
		case SOURCE_TOO_FAST:
			shared->refused++;
		}
		source_release(&c, slot);
	}
	_exit(0);
}

static void
crowd(uint32_t sources, int rounds)
{
	int i;

	for (i = 0; i < PROCESSES; i++)
		if (fork() == 0)
			worker(i, sources, rounds);
	while (wait(NULL) > 0)
		continue;
	CHECK(cells_used() == 0);
	CHECK(shared->high <= 3);
}

static void
together(void)
{
	begin("eight workers at once, four sources: the limit holds");
	crowd(4, 100000);
	CHECK(shared->high == 3);
	CHECK(shared->unknown == 0);
	done();
	begin("eight workers at once, 100,000 sources through 1,024 entries");
	crowd(100000, 100000);
	CHECK(shared->refused == 0);
	done();
}

/* Wait for the others, and then begin as one. */
static void
all_begin(uint32_t round)
{
	if (atomic_fetch_add(&shared->waiting, 1) + 1 == RACERS) {
		shared->waiting = 0;
		shared->round = round;
	}
	while (shared->round != round)
		sched_yield();
}

/* New to the table at one moment, in a window where entries come and go. */
__attribute__((__noreturn__))
static void
racer(int slot, uint32_t rounds)
{
	struct source_limit limit = { .most = 1 };
	struct source_claim c;
	uint32_t i;

	for (i = 0; i < rounds; i++) {
		c.key = (uint64_t)i % 8 + (uint64_t)i * SOURCES + 1000000;
		all_begin(i * 3 + 1);
		if (source_claim(table, &c, slot, &limit) != SOURCE_FULL)
			shared->admitted++;
		all_begin(i * 3 + 2);
		source_release(&c, slot);
		note_most(shared->admitted);
		all_begin(i * 3 + 3);
		shared->admitted = 0;
	}
	_exit(0);
}

static void
race(void)
{
	int i;

	begin("who is new twice at one moment is one source");
	for (i = 0; i < RACERS; i++)
		if (fork() == 0)
			racer(i, 20000);
	while (wait(NULL) > 0)
		continue;
	CHECK(shared->high == 1);
	CHECK(cells_used() == 0);
	done();
}

static void
killed(void)
{
	pid_t pid;
	int i;

	begin("a worker killed at any instruction leaves nothing held");
	for (i = 0; i < 500; i++) {
		if ((pid = fork()) == 0)
			worker(i % 100, 50000, -1);
		usleep((useconds_t)(i * 7 % 500));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		sources_forget(table, i % 100);
		CHECK(cells_used() == 0);
	}
	done();
}

int
main(void)
{
	table = mmap(NULL, sizeof(*table) * SOURCES, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (table == MAP_FAILED || shared == MAP_FAILED)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	limits();
	keys();
	rates();
	crowded();
	last_slot();
	full();
	dead();
	together();
	race();
	killed();
	return failures > 0;
}
