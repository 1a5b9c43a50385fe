/*
 * Unit tests of snapshot.c: whatever the files hold, it says what is wrong or
 * returns numbers in range; under the sanitizers above all.
 */

#include <sys/file.h>
#include <sys/stat.h>

#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"
#include "check.h"

#define NSLOTS	5
#define IMAGES	500

static char dir[256], path[300], slots[320], error[CONF_ERROR_MAX];
static struct snapshot s;

static void
put(const char *name, const void *data, size_t size, off_t offset)
{
	int fd = open(name, O_WRONLY | O_CREAT, 0600);

	if (fd == -1 || pwrite(fd, data, size, offset) != (ssize_t)size)
		err(1, "%s", name);
	close(fd);
}

static void
cut(const char *name, off_t size)
{
	if (truncate(name, size) == -1)
		err(1, "truncate %s", name);
}

/* What a master leaves, for each test anew. */
static void
fresh(void)
{
	static struct status status = { .magic = SCOREBOARD_MAGIC,
	    .version = SCOREBOARD_VERSION, .size = sizeof(status),
	    .nslots = NSLOTS, .slots_used = NSLOTS };
	static struct commons commons = { .magic = SCOREBOARD_MAGIC,
	    .version = SCOREBOARD_VERSION, .nslots = NSLOTS };

	unlink(path);
	unlink(slots);
	put(path, &status, sizeof(status), 0);
	put(slots, &commons, sizeof(commons), 0);
	cut(slots, (off_t)scoreboard_slots_size(NSLOTS));
}

static int
get(void)
{
	CHECK(snapshot_init(&s, path) == 0);
	if (snapshot_read(&s, error) == 0 &&
	    snapshot_read_slots(&s, error) == 0)
		return 0;
	snapshot_free(&s);
	return -1;
}

static bool
says(const char *words)
{
	error[0] = '\0';
	if (get() == 0) {
		snapshot_free(&s);
		return false;
	}
	return strstr(error, words) != NULL;
}

static void
test_good(void)
{
	int fd;

	fresh();
	CHECK(get() == 0);
	CHECK(!s.alive && s.nslots == NSLOTS && s.slot[4].seq == 0);
	snapshot_free(&s);
	fd = open(path, O_RDONLY);
	flock(fd, LOCK_EX);
	CHECK(get() == 0);
	CHECK(s.alive);
	snapshot_free(&s);
	close(fd);
}

static void
test_cut(void)
{
	off_t size;

	for (size = sizeof(struct status) - 1; size >= 0;
	    size = size > 32 ? size * 2 / 3 : size - 1) {
		fresh();
		cut(path, size);
		CHECK(says("truncated"));
	}
	for (size = (off_t)scoreboard_slots_size(NSLOTS) - 1; size >= 0;
	    size = size > 32 ? size * 9 / 10 : size - 1) {
		fresh();
		cut(slots, size);
		CHECK(says("truncated"));
	}
	fresh();
	cut(slots, (off_t)scoreboard_slots_size(NSLOTS) + 1);
	CHECK(says("too long"));
}

/* A worker that dies between the two readings is counted once. */
static void
test_buried(void)
{
	static struct status after = { .magic = SCOREBOARD_MAGIC,
	    .version = SCOREBOARD_VERSION, .size = sizeof(after),
	    .nslots = NSLOTS, .slots_used = NSLOTS, .nburials = 2,
	    .burial = { { 2, 5 }, { 3, 5 } } };
	static struct tally sum[CONF_SERVICES_MAX];
	struct slot slot = { .epoch = 5, .state = SLOT_IDLE };

	fresh();
	slot.number[NUMBER_ACCEPTED] = 10;
	put(slots, &slot, sizeof(slot), offsetof(struct commons, slot) +
	    2 * sizeof(slot));
	slot.epoch = 7;		/* its slot has been used again */
	put(slots, &slot, sizeof(slot), offsetof(struct commons, slot) +
	    3 * sizeof(slot));
	after.service[0].number[NUMBER_ACCEPTED] = 20;
	CHECK(snapshot_init(&s, path) == 0);
	CHECK(snapshot_read(&s, error) == 0);
	put(path, &after, sizeof(after), 0);
	CHECK(snapshot_read_slots(&s, error) == 0);
	CHECK(tally(&s, sum) == 0);
	CHECK(sum[0].number[NUMBER_ACCEPTED] == 30);
	CHECK(sum[0].idle == 1);
	/* Too many to tell which: all is read once more. */
	after.nburials = 2 * SCOREBOARD_BURIALS;
	CHECK(snapshot_read(&s, error) == 0);
	put(path, &after, sizeof(after), 0);
	CHECK(snapshot_read_slots(&s, error) == 0);
	CHECK(s.status.nburials == 2 * SCOREBOARD_BURIALS);
	snapshot_free(&s);
}

/* What a service in a worker reads: its own mapping, of its parent. */
static void
test_attached(void)
{
	static struct status status;
	static _Alignas(64) char memory[sizeof(struct commons) +
	    NSLOTS * sizeof(struct slot)];
	struct scoreboard b = { .shown = &status, .nslots = NSLOTS,
	    .commons = (struct commons *)memory };

	status = (struct status){ .magic = SCOREBOARD_MAGIC,
	    .version = SCOREBOARD_VERSION, .size = sizeof(status),
	    .nslots = NSLOTS, .slots_used = 4, .pid = getppid() };
	b.commons->magic = SCOREBOARD_MAGIC;
	b.commons->version = SCOREBOARD_VERSION;
	b.commons->nslots = NSLOTS;
	b.commons->slot[3].pid = 77;
	snapshot_attach(&s, &b);
	CHECK(snapshot_read(&s, error) == 0);
	CHECK(snapshot_read_slots(&s, error) == 0);
	CHECK(s.alive && s.nslots == 4 && s.slot[3].pid == 77);
	status.pid = getpid();
	b.commons->slot[3].seq = 5;
	CHECK(snapshot_read(&s, error) == 0);
	CHECK(snapshot_read_slots(&s, error) == 0);
	CHECK(!s.alive && s.slot[3].seq == 1);
	status.seq = 1;
	CHECK(snapshot_read(&s, error) == -1);
	CHECK(strstr(error, "unstable") != NULL);
	snapshot_free(&s);
}

static void
test_stuck(void)
{
	uint32_t odd = 7;

	fresh();
	put(slots, &odd, sizeof(odd), offsetof(struct commons, slot) +
	    2 * sizeof(struct slot) + offsetof(struct slot, seq));
	CHECK(get() == 0);
	CHECK(s.slot[2].seq == 1 && s.slot[1].seq == 0 && s.slot[3].seq == 0);
	snapshot_free(&s);
	put(path, &odd, sizeof(odd), offsetof(struct status, seq));
	CHECK(says("unstable"));
}

static void
put_word(const char *name, size_t offset, uint32_t word)
{
	fresh();
	put(name, &word, sizeof(word), (off_t)offset);
}

static void
test_header(void)
{
	put_word(path, 0, 1);
	CHECK(says("not a status file"));
	put_word(path, offsetof(struct status, version), 7);
	CHECK(says("layout version 7, this preforkctl reads 3"));
	put_word(path, offsetof(struct status, size), 8);
	CHECK(says("says it has 8 bytes"));
	put_word(path, offsetof(struct status, nslots), 0);
	CHECK(says("0 slots"));
	put_word(path, offsetof(struct status, nslots), UINT32_MAX);
	CHECK(says("4294967295 slots"));
	put_word(path, offsetof(struct status, nslots), CONF_SLOTS_MAX);
	CHECK(says("5 slots, but the status file has 65535"));
	put_word(slots, offsetof(struct commons, version), 0);
	CHECK(says("layout version 0"));
	put_word(slots, 4, 0);
	CHECK(says("not a status file"));
}

static bool
ends(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static void
check_ranges(void)
{
	uint32_t i;

	CHECK(s.status.pid >= 0 && s.status.pid <= 4194304);
	CHECK(s.status.started >= 0 && s.status.updated >= 0);
	CHECK(ends(s.status.reload_why, sizeof(s.status.reload_why)));
	CHECK(ends(s.status.product, sizeof(s.status.product)));
	for (i = 0; i < SCOREBOARD_DEATHS; i++)
		CHECK(s.status.death[i].age >= 0 && s.status.death[i].at >= 0 &&
		    ends(s.status.death[i].service, CONF_NAME_MAX + 1));
	for (i = 0; i < CONF_SERVICES_MAX; i++)
		CHECK(ends(s.status.service[i].name, CONF_NAME_MAX + 1));
	for (i = 0; i < CONF_LISTENERS_MAX; i++)
		CHECK(ends(s.status.listener[i].name, ADDRESS_TEXT) &&
		    (s.status.listener[i].used == 0 ||
		    s.status.listener[i].service < CONF_SERVICES_MAX));
	for (i = 0; i < s.nslots; i++)
		CHECK(s.slot[i].pid >= 0 && s.slot[i].since >= 0 &&
		    (s.slot[i].seq != 0 || (s.slot[i].state <= SLOT_LEAVING &&
		    s.slot[i].service < CONF_SERVICES_MAX)));
}

static void
noise(const char *name, size_t size, size_t from)
{
	unsigned char *p = malloc(size);
	size_t i;

	for (i = 0; i < size; i++)
		p[i] = (unsigned char)(random() >> 7);
	put(name, p + from, size - from, (off_t)from);
	free(p);
}

/*
 * Noise behind the headers, so that it gets that far; now and then in front.
 */
static void
test_noise(void)
{
	uint32_t even = 0, nslots = NSLOTS;
	int i, readable = 0;

	for (i = 0; i < IMAGES; i++) {
		srandom((unsigned int)i);
		fresh();
		noise(path, sizeof(struct status), i % 10 == 0 ? 0 : 16);
		noise(slots, scoreboard_slots_size(NSLOTS),
		    i % 10 == 1 ? 0 : 16);
		put(path, &even, sizeof(even), offsetof(struct status, seq));
		put(path, &nslots, sizeof(nslots),
		    offsetof(struct status, nslots));
		if (get() == -1)
			continue;
		readable++;
		check_ranges();
		snapshot_free(&s);
	}
	CHECK(readable == IMAGES * 8 / 10);
}

static void
test_missing(void)
{
	fresh();
	unlink(slots);
	CHECK(says(".slots: No such file"));
	unlink(path);
	CHECK(says("No such file"));
	mkfifo(path, 0600);
	CHECK(says("not a regular file"));
	unlink(path);
	mkdir(path, 0700);
	CHECK(says("not a regular file"));
	rmdir(path);
}

static const struct test tests[] = {
	{ "good", test_good },
	{ "cut", test_cut },
	{ "stuck", test_stuck },
	{ "buried", test_buried },
	{ "attached", test_attached },
	{ "header", test_header },
	{ "noise", test_noise },
	{ "missing", test_missing },
};

int
main(void)
{
	const char *tmp = getenv("TMPDIR");

	setvbuf(stdout, NULL, _IOLBF, 0);
	detail = error;
	snprintf(dir, sizeof(dir), "%s/snapshot.XXXXXX",
	    tmp != NULL ? tmp : "/tmp");
	if (mkdtemp(dir) == NULL)
		err(1, "%s", dir);
	snprintf(path, sizeof(path), "%s/test.status", dir);
	snprintf(slots, sizeof(slots), "%s.slots", path);
	run_all(tests, sizeof(tests) / sizeof(tests[0]));
	test = "nothing left";
	CHECK(rmdir(dir) == 0);
	done();
	return failures != 0;
}
