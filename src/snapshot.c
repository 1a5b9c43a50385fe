/*
 * snapshot.c: a private copy of the scoreboard for people to see.
 *
 * It reads files with pread(2) and never maps: one that is cut meanwhile is a
 * short read and not a SIGBUS.  A worker has a mapping, which nobody can cut.
 * Nothing read is believed: magic, version and sizes first, then every number
 * that could mislead a caller is forced into its range (RULES R5).  It never
 * waits for a writer; what keeps changing under three tries is called unstable
 * (R4).
 *
 * Whether a master lives is asked of its lock, which is looked up and not
 * tried.  Only when none is shown and the master did not end in order (it was
 * killed, or belongs to another pid namespace) is the lock taken, shared and
 * for an instant; a start waits for longer.
 */

#include <sys/types.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define READ_TRIES	3		/* RULES R4 */
#define SLOTS_BLOCK	64		/* read at once */
#define PID_LIMIT	4194304		/* PID_MAX_LIMIT of Linux */
#define TIME_LIMIT	253402300799	/* the end of the year 9999 */

enum { STATUS, SLOTS };

/* Bytes of a file. */
struct part {
	size_t	offset, size;
};

/* Where an object is, and its sequence number. */
struct place {
	struct part whole;
	size_t	seq;
};

static int
file_open(struct snapshot_file *f, uid_t *owner, char *error)
{
	struct stat st;

	if (f->fd != -1 || f->map != NULL)
		return 0;
	f->fd = open(f->name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (f->fd == -1)
		return error_say(error, "%s: %s", f->name, strerror(errno));
	if (fstat(f->fd, &st) == -1)
		return error_say(error, "%s: fstat: %s", f->name,
		    strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_say(error, "%s: not a regular file", f->name);
	f->size = st.st_size;
	*owner = st.st_uid;
	return 0;
}

static int
file_read(const struct snapshot_file *f, void *buf, struct part part,
    char *error)
{
	ssize_t n;

	if (f->map != NULL) {
		memcpy(buf, (const char *)f->map + part.offset, part.size);
		return 0;
	}
	do
		n = pread(f->fd, buf, part.size, (off_t)part.offset);
	while (n == -1 && errno == EINTR);
	if (n == -1)
		return error_say(error, "%s: pread: %s", f->name,
		    strerror(errno));
	if ((size_t)n < part.size)	/* regular files come in one piece */
		return error_say(error, "%s: truncated at %zu bytes", f->name,
		    part.offset + (size_t)n);
	return 0;
}

/* Both files begin with magic, version, and a word of their own. */
static int
check_header(const struct snapshot_file *f, uint32_t *word, char *error)
{
	struct {
		uint64_t	magic;
		uint32_t	version, word;
	} h;

	_Static_assert(offsetof(struct status, size) == 12 &&
	    offsetof(struct commons, nslots) == 12, "not the same header");
	if (file_read(f, &h, (struct part){ 0, sizeof(h) }, error) == -1)
		return -1;
	if (h.magic != SCOREBOARD_MAGIC)
		return error_say(error, "%s: not a status file of preforkd",
		    f->name);
	if (h.version != SCOREBOARD_VERSION)
		return error_say(error, "%s: layout version %u, this "
		    "preforkctl reads %d", f->name, h.version,
		    SCOREBOARD_VERSION);
	*word = h.word;
	return 0;
}

static int
check_size(const struct snapshot_file *f, size_t size, char *error)
{
	if ((uintmax_t)f->size == size)
		return 0;
	return error_say(error, "%s: %s: %jd bytes instead of %zu", f->name,
	    (uintmax_t)f->size < size ? "truncated" : "too long",
	    (intmax_t)f->size, size);
}

/*
 * Read an object, which is stable when its sequence number is even and the
 * same before and after.  Returns 1, 0 for unstable, or -1.
 */
static int
read_stable(const struct snapshot_file *f, void *buf, struct place at,
    char *error)
{
	uint32_t after, before;
	const struct part seq = { at.seq, sizeof(before) };
	int i;

	for (i = 0; i < READ_TRIES; i++) {
		if (i > 0)
			sched_yield();	/* to a writer that was interrupted */
		if (file_read(f, &before, seq, error) == -1)
			return -1;
		atomic_thread_fence(memory_order_acquire);
		if (file_read(f, buf, at.whole, error) == -1)
			return -1;
		atomic_thread_fence(memory_order_acquire);
		if (file_read(f, &after, seq, error) == -1)
			return -1;
		if (before == after && before % 2 == 0)
			return 1;
	}
	return 0;
}

static int32_t
sane_pid(int32_t pid)
{
	return pid > 0 && pid <= PID_LIMIT ? pid : 0;
}

static int64_t
sane_time(int64_t t)
{
	return t > 0 && t <= TIME_LIMIT ? t : 0;
}

static int64_t
not_negative(int64_t n)
{
	return n > 0 ? n : 0;
}

static void
clamp_head(struct status *s)
{
	s->pid = sane_pid(s->pid);
	s->product[sizeof(s->product) - 1] = '\0';
	s->upgrade.at = sane_time(s->upgrade.at);
	s->upgrade.from[sizeof(s->upgrade.from) - 1] = '\0';
	s->upgrade.why[sizeof(s->upgrade.why) - 1] = '\0';
}

static void
clamp_status(struct status *s)
{
	int i;

	clamp_head(s);
	s->started = not_negative(s->started);
	s->started_at = sane_time(s->started_at);
	s->updated = not_negative(s->updated);
	s->reload_at = sane_time(s->reload_at);
	s->reload_why[sizeof(s->reload_why) - 1] = '\0';
	for (i = 0; i < SCOREBOARD_GENERATIONS; i++) {
		s->generations[i].since = not_negative(s->generations[i].since);
		s->generations[i].until = not_negative(s->generations[i].until);
	}
	for (i = 0; i < SCOREBOARD_DEATHS; i++) {
		s->death[i].at = sane_time(s->death[i].at);
		s->death[i].pid = sane_pid(s->death[i].pid);
		s->death[i].program = sane_pid(s->death[i].program);
		s->death[i].age = not_negative(s->death[i].age);
		s->death[i].service[CONF_NAME_MAX] = '\0';
	}
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		s->service[i].name[CONF_NAME_MAX] = '\0';
		s->service[i].retry_at = not_negative(s->service[i].retry_at);
		s->service[i].source_bits[0] %= 33;
		s->service[i].source_bits[1] %= 129;
	}
	for (i = 0; i < CONF_LISTENERS_MAX; i++) {
		s->listener[i].name[ADDRESS_TEXT - 1] = '\0';
		if (s->listener[i].service >= CONF_SERVICES_MAX)
			s->listener[i].used = 0;
	}
}

/* A slot with a service that cannot be is not stable, but its words stay. */
static void
clamp_slot(struct slot *c)
{
	c->pid = sane_pid(c->pid);
	c->program = sane_pid(c->program);
	c->born = not_negative(c->born);
	c->since = not_negative(c->since);
	if (c->number[NUMBER_SERVED] > SCOREBOARD_CLIENTS)
		c->number[NUMBER_SERVED] = SCOREBOARD_CLIENTS;
	if (c->peer_port > 65535)
		c->peer_port = 0;
	if (c->state > SLOT_LEAVING || c->service >= CONF_SERVICES_MAX)
		c->seq = 1;
}

static int
unstable(const struct snapshot_file *f, char *error)
{
	return error_say(error, "%s: unstable: it is being changed all the "
	    "time, or its master was stopped half-way", f->name);
}

static int
load_status(const struct snapshot_file *f, struct status *s, char *error)
{
	const struct place whole = {
		{ 0, sizeof(*s) }, offsetof(struct status, seq)
	};
	uint32_t size = 0;
	int stable;

	if (check_header(f, &size, error) == -1)
		return -1;
	if (size != sizeof(*s))
		return error_say(error, "%s: says it has %u bytes, this "
		    "preforkctl reads %zu", f->name, size, sizeof(*s));
	if (check_size(f, sizeof(*s), error) == -1 ||
	    (stable = read_stable(f, s, whole, error)) == -1)
		return -1;
	if (stable == 0)
		return unstable(f, error);
	if (s->nslots < 1 || s->nslots > CONF_SLOTS_MAX)
		return error_say(error, "%s: %u slots, not from 1 to %d",
		    f->name, s->nslots, CONF_SLOTS_MAX);
	clamp_status(s);
	return 0;
}

/* One that was killed is shown until the last of its workers has left. */
static void
look_for_holder(struct snapshot *s)
{
	s->holder = holder_of(s->file[STATUS].fd);
	s->alive = s->holder != -1 && !holder_is_gone(s->holder);
}

/* No holder is shown: is there none? */
static int
try_lock(struct snapshot *s, char *error)
{
	const struct snapshot_file *f = &s->file[STATUS];

	if (s->status.state == MASTER_STOPPED || s->holder > 0)
		return 0;
	if (flock(f->fd, LOCK_SH | LOCK_NB) == 0) {
		flock(f->fd, LOCK_UN);
		return 0;
	}
	if (errno != EWOULDBLOCK)
		return error_say(error, "%s: flock: %s", f->name,
		    strerror(errno));
	s->alive = true;
	s->holder = 0;
	return 0;
}

static int
load_commons(struct snapshot *s, char *error)
{
	const struct snapshot_file *f = &s->file[SLOTS];
	uint32_t nslots = 0;
	struct commons c;

	if (check_header(f, &nslots, error) == -1)
		return -1;
	if (nslots != s->status.nslots)
		return error_say(error, "%s: %u slots, but the status file "
		    "has %u", f->name, nslots, s->status.nslots);
	if (check_size(f, scoreboard_slots_size((int)nslots), error) == -1 ||
	    file_read(f, &c, (struct part){ 0, sizeof(c) }, error) == -1)
		return -1;
	s->log_dropped = atomic_load(&c.log_dropped);
	s->log_reopened = atomic_load(&c.log_reopened);
	s->log_reopen_failed = atomic_load(&c.log_reopen_failed);
	return 0;
}

int
snapshot_init(struct snapshot *s, const char *path)
{
	size_t size = sizeof(s->file[SLOTS].name);

	memset(s, 0, sizeof(*s));
	s->file[STATUS].fd = s->file[SLOTS].fd = -1;
	strlcpy(s->file[STATUS].name, path, size);
	return (size_t)snprintf(s->file[SLOTS].name, size, "%s.slots", path) <
	    size ? 0 : -1;
}

void
snapshot_attach(struct snapshot *s, const struct scoreboard *b)
{
	memset(s, 0, sizeof(*s));
	s->file[STATUS] = (struct snapshot_file){ .fd = -1, .map = b->shown,
	    .size = sizeof(*b->shown), .name = "status" };
	s->file[SLOTS] = (struct snapshot_file){ .fd = -1, .map = b->commons,
	    .size = (off_t)scoreboard_slots_size(b->nslots), .name = "slots" };
}

/* In a worker: its parent is the master, or somebody else when that is dead. */
static int
read_mapped(struct snapshot *s, char *error)
{
	if (load_status(&s->file[STATUS], &s->status, error) == -1)
		return -1;
	s->alive = getppid() == s->status.pid;
	s->holder = s->alive ? s->status.pid : -1;
	return load_commons(s, error);
}

int
snapshot_read(struct snapshot *s, char error[CONF_ERROR_MAX])
{
	uid_t writer;

	if (s->file[STATUS].map != NULL)
		return read_mapped(s, error);
	if (file_open(&s->file[STATUS], &s->owner, error) == -1)
		return -1;
	/* In this order: what a dead one has left will not change. */
	look_for_holder(s);
	if (load_status(&s->file[STATUS], &s->status, error) == -1 ||
	    (!s->alive && try_lock(s, error) == -1) ||
	    file_open(&s->file[SLOTS], &writer, error) == -1)
		return -1;
	return load_commons(s, error);
}

int
snapshot_read_head(struct snapshot *s, char error[CONF_ERROR_MAX])
{
	struct snapshot_file *f = &s->file[STATUS];
	const struct place head = {
		{ 0, offsetof(struct status, upgrade) +
		    sizeof(s->status.upgrade) }, offsetof(struct status, seq)
	};
	int stable;

	if (f->fd != -1)
		close(f->fd);
	f->fd = -1;
	if (file_open(f, &s->owner, error) == -1)
		return -1;
	look_for_holder(s);
	if ((stable = read_stable(f, &s->status, head, error)) == -1)
		return -1;
	if (s->status.magic != SCOREBOARD_MAGIC)
		return error_say(error, "%s: not a status file of preforkd",
		    f->name);
	if (stable == 0)
		return unstable(f, error);
	clamp_head(&s->status);
	return s->alive ? 0 : try_lock(s, error);
}

/* By itself; as read_stable(). */
static int
read_slot(struct snapshot *s, uint32_t i, char *error)
{
	const size_t size = sizeof(struct slot);
	const size_t at = offsetof(struct commons, slot) + i * size;
	const struct place slot = {
		{ at, size }, at + offsetof(struct slot, seq)
	};

	return read_stable(&s->file[SLOTS], &s->slot[i], slot, error);
}

/*
 * Some slots at once, and before and after that all of them again: one with
 * the same even number then is stable, any other is read by itself.
 */
static int
read_block(struct snapshot *s, uint32_t from, char *error)
{
	struct slot before[SLOTS_BLOCK], after[SLOTS_BLOCK];
	struct slot *to = s->slot + from;
	const struct snapshot_file *f = &s->file[SLOTS];
	const uint32_t left = s->nslots - from;
	const uint32_t n = left < SLOTS_BLOCK ? left : SLOTS_BLOCK;
	const struct part all = {
		offsetof(struct commons, slot) + from * sizeof(*to),
		n * sizeof(*to)
	};
	uint32_t i;
	int stable;

	if (file_read(f, before, all, error) == -1)
		return -1;
	atomic_thread_fence(memory_order_acquire);
	if (file_read(f, to, all, error) == -1)
		return -1;
	atomic_thread_fence(memory_order_acquire);
	if (file_read(f, after, all, error) == -1)
		return -1;
	for (i = 0; i < n; i++) {
		stable = before[i].seq == after[i].seq &&
		    before[i].seq % 2 == 0;
		if (!stable)
			stable = read_slot(s, from + i, error);
		if (stable == -1)
			return -1;
		to[i].seq = stable == 0;
		clamp_slot(&to[i]);
	}
	return 0;
}

/* Those that the status never named have never been used. */
static int
read_slots(struct snapshot *s, char *error)
{
	uint32_t i;

	free(s->slot);
	s->nslots = s->status.slots_used < s->status.nslots ?
	    s->status.slots_used : s->status.nslots;
	s->slot = aligned_alloc(_Alignof(struct slot),
	    (s->nslots + 1) * sizeof(struct slot));
	if (s->slot == NULL)
		return error_say(error, "aligned_alloc: %s", strerror(errno));
	for (i = 0; i < s->nslots; i += SLOTS_BLOCK)
		if (read_block(s, i, error) == -1)
			return -1;
	return 0;
}

/*
 * Workers that were buried since the first reading of the status are part of
 * its second one: a copy of such a slot from before is free.  Returns false
 * when there were too many to tell.
 */
static bool
forget_buried(struct snapshot *s, uint64_t from)
{
	const struct status_burial *b;
	struct slot *slot;

	if (s->status.nburials - from > SCOREBOARD_BURIALS)
		return false;
	for (; from < s->status.nburials; from++) {
		b = &s->status.burial[from % SCOREBOARD_BURIALS];
		if (b->slot >= s->nslots)
			continue;
		slot = &s->slot[b->slot];
		if (slot->epoch == b->epoch)
			slot->state = SLOT_FREE;
	}
	return true;
}

int
snapshot_read_slots(struct snapshot *s, char error[CONF_ERROR_MAX])
{
	uint64_t nburials;
	int i;

	for (i = 0; i < READ_TRIES; i++) {
		nburials = s->status.nburials;
		if (read_slots(s, error) == -1 ||
		    load_status(&s->file[STATUS], &s->status, error) == -1)
			return -1;
		if (forget_buried(s, nburials))
			return 0;
	}
	return unstable(&s->file[STATUS], error);
}

void
snapshot_free(struct snapshot *s)
{
	int i;

	for (i = STATUS; i <= SLOTS; i++)
		if (s->file[i].fd != -1)
			close(s->file[i].fd);
	free(s->slot);
	s->slot = NULL;
}
