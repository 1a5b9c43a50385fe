/*
 * snapshot.c: a private copy of the scoreboard's files for people to see.
 *
 * It reads with pread(2) and never maps: a file that is cut meanwhile is a
 * short read and not a SIGBUS.  Nothing read is believed: magic, version and
 * sizes first, then every number that could mislead a caller is forced into
 * its range (RULES R5).  It never waits for a writer; what keeps changing
 * under three tries is called unstable (R4).
 *
 * Whether a master lives is asked of its lock.  Only when there is none is
 * the lock taken, shared and for an instant; a start waits for longer.
 */

#include <sys/types.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define READ_TRIES	3		/* RULES R4 */
#define PID_LIMIT	4194304		/* PID_MAX_LIMIT of Linux */
#define TIME_LIMIT	253402300799	/* the end of the year 9999 */

/* One of the files, and where to say what is wrong with it. */
struct file {
	const char	*name;
	int		 fd;
	off_t		 size;
	char		*error;
};

/* An object in it, and the sequence number of that. */
struct place {
	size_t	offset, size, seq;
};

__attribute__((__format__(printf, 2, 3)))
static int
wrong(const struct file *f, const char *fmt, ...)
{
	va_list ap;
	int n;

	n = snprintf(f->error, CONF_ERROR_MAX, "%s: ", f->name);
	if (n < 0 || n >= CONF_ERROR_MAX)
		return -1;
	va_start(ap, fmt);
	vsnprintf(f->error + n, (size_t)(CONF_ERROR_MAX - n), fmt, ap);
	va_end(ap);
	return -1;
}

static int
file_open(struct file *f)
{
	struct stat st;

	f->fd = open(f->name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (f->fd == -1)
		return wrong(f, "%s", strerror(errno));
	if (fstat(f->fd, &st) == -1)
		return wrong(f, "fstat: %s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return wrong(f, "not a regular file");
	f->size = st.st_size;
	return 0;
}

static int
file_read(const struct file *f, void *buf, size_t size, size_t offset)
{
	char *p = buf;
	size_t done = 0;
	ssize_t n;

	while (done < size) {
		n = pread(f->fd, p + done, size - done, (off_t)(offset + done));
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return wrong(f, "pread: %s", strerror(errno));
		if (n == 0)
			return wrong(f, "truncated at %zu bytes",
			    offset + done);
		done += (size_t)n;
	}
	return 0;
}

/* Both files begin with magic, version, and a word of their own. */
static int
check_header(const struct file *f, uint32_t *word)
{
	struct {
		uint64_t	magic;
		uint32_t	version, word;
	} h;

	_Static_assert(offsetof(struct status, size) == 12 &&
	    offsetof(struct commons, nslots) == 12, "not the same header");
	if (file_read(f, &h, sizeof(h), 0) == -1)
		return -1;
	if (h.magic != SCOREBOARD_MAGIC)
		return wrong(f, "not a status file of preforkd");
	if (h.version != SCOREBOARD_VERSION)
		return wrong(f, "layout version %u, this preforkctl reads %d",
		    h.version, SCOREBOARD_VERSION);
	*word = h.word;
	return 0;
}

static int
check_size(const struct file *f, size_t size)
{
	if ((uintmax_t)f->size == size)
		return 0;
	return wrong(f, "%s: %jd bytes instead of %zu",
	    (uintmax_t)f->size < size ? "truncated" : "too long",
	    (intmax_t)f->size, size);
}

/*
 * Read an object with a sequence number, which is stable when the number is
 * even and the same before and after.  Returns 1, 0 for unstable, or -1.
 */
static int
read_stable(const struct file *f, void *buf, struct place at)
{
	uint32_t after, before;
	int i;

	for (i = 0; i < READ_TRIES; i++) {
		if (i > 0)
			sched_yield();	/* to a writer that was interrupted */
		if (file_read(f, &before, sizeof(before), at.seq) == -1 ||
		    file_read(f, buf, at.size, at.offset) == -1 ||
		    file_read(f, &after, sizeof(after), at.seq) == -1)
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
clamp_status(struct status *s)
{
	int i;

	s->pid = sane_pid(s->pid);
	s->started = not_negative(s->started);
	s->started_at = sane_time(s->started_at);
	s->updated = not_negative(s->updated);
	s->reload_at = sane_time(s->reload_at);
	s->reload_why[sizeof(s->reload_why) - 1] = '\0';
	s->product[sizeof(s->product) - 1] = '\0';
	for (i = 0; i < SCOREBOARD_DEATHS; i++) {
		s->death[i].at = sane_time(s->death[i].at);
		s->death[i].pid = sane_pid(s->death[i].pid);
		s->death[i].age = not_negative(s->death[i].age);
		s->death[i].service[CONF_NAME_MAX] = '\0';
	}
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		s->service[i].name[CONF_NAME_MAX] = '\0';
		s->service[i].retry_at = not_negative(s->service[i].retry_at);
	}
	for (i = 0; i < CONF_LISTENERS_MAX; i++) {
		s->listener[i].name[ADDRESS_TEXT - 1] = '\0';
		if (s->listener[i].service >= CONF_SERVICES_MAX)
			s->listener[i].used = 0;
	}
}

/* A slot with a service that cannot be is not stable, but its words stay. */
static void
clamp_slot(struct slot_copy *c)
{
	c->pid = sane_pid(c->pid);
	c->born = not_negative(c->born);
	c->since = not_negative(c->since);
	if (c->peer_port > 65535)
		c->peer_port = 0;
	if (c->state > SLOT_LEAVING || c->service >= CONF_SERVICES_MAX)
		c->stable = false;
}

static int
load_status(const struct file *f, struct status *s)
{
	const struct place whole = {
		0, sizeof(*s), offsetof(struct status, seq)
	};
	uint32_t size;
	int stable;

	if (check_header(f, &size) == -1)
		return -1;
	if (size != sizeof(*s))
		return wrong(f, "says it has %u bytes, this preforkctl reads "
		    "%zu", size, sizeof(*s));
	if (check_size(f, sizeof(*s)) == -1)
		return -1;
	stable = read_stable(f, s, whole);
	if (stable == 0)
		return wrong(f, "unstable: it is being changed all the time, "
		    "or its master was stopped half-way");
	if (stable == -1)
		return -1;
	if (s->nslots < 1 || s->nslots > CONF_SLOTS_MAX)
		return wrong(f, "%u slots, not from 1 to %d", s->nslots,
		    CONF_SLOTS_MAX);
	clamp_status(s);
	return 0;
}

static int
ask_alive(const struct file *f, bool *alive)
{
	*alive = false;
	if (flock(f->fd, LOCK_SH | LOCK_NB) == 0) {
		flock(f->fd, LOCK_UN);
		return 0;
	}
	if (errno != EWOULDBLOCK)
		return wrong(f, "flock: %s", strerror(errno));
	*alive = true;
	return 0;
}

static int
read_slot(const struct file *f, struct slot *slot, uint32_t number)
{
	struct place at;

	at.offset = offsetof(struct commons, slot) + number * sizeof(*slot);
	at.size = sizeof(*slot);
	at.seq = at.offset + offsetof(struct slot, seq);
	return read_stable(f, slot, at);
}

/*
 * Three images of all slots: a slot whose number is the same in the first and
 * the last is as the middle one has it.  That spares three calls per slot for
 * all but those that changed meanwhile.
 */
static int
copy_slots(const struct file *f, struct commons *const image[3],
    struct snapshot *s)
{
	uint32_t i, before;
	int stable;

	for (i = 0; i < s->nslots; i++) {
		before = atomic_load(&image[0]->slot[i].seq);
		stable = before % 2 == 0 &&
		    before == atomic_load(&image[2]->slot[i].seq);
		if (!stable)
			stable = read_slot(f, &image[1]->slot[i], i);
		if (stable == -1)
			return -1;
		slot_read(&image[1]->slot[i], &s->slot[i]);
		s->slot[i].stable = stable == 1;
		clamp_slot(&s->slot[i]);
	}
	s->log_dropped = atomic_load(&image[1]->log_dropped);
	return 0;
}

static int
read_images(const struct file *f, struct snapshot *s, size_t size)
{
	struct commons *image[3] = { NULL, NULL, NULL };
	int i, status = 0;

	s->slot = calloc(s->nslots, sizeof(*s->slot));
	for (i = 0; i < 3; i++)
		image[i] = aligned_alloc(_Alignof(struct commons), size);
	if (s->slot == NULL || image[0] == NULL || image[1] == NULL ||
	    image[2] == NULL)
		status = wrong(f, "%s", strerror(ENOMEM));
	for (i = 0; i < 3 && status == 0; i++)
		status = file_read(f, image[i], size, 0);
	if (status == 0)
		status = copy_slots(f, image, s);
	for (i = 0; i < 3; i++)
		free(image[i]);
	return status;
}

static int
load_slots(const struct file *f, struct snapshot *s)
{
	size_t size = scoreboard_slots_size((int)s->status.nslots);
	uint32_t nslots;

	if (check_header(f, &nslots) == -1)
		return -1;
	if (nslots != s->status.nslots)
		return wrong(f, "%u slots, but the status file has %u", nslots,
		    s->status.nslots);
	if (check_size(f, size) == -1)
		return -1;
	s->nslots = nslots;
	return read_images(f, s, size);
}

static int
read_both(struct snapshot *s, struct file *status, struct file *slots)
{
	if (file_open(status) == -1 || load_status(status, &s->status) == -1)
		return -1;
	if (ask_alive(status, &s->alive) == -1)
		return -1;
	if (file_open(slots) == -1)
		return -1;
	return load_slots(slots, s);
}

int
snapshot_read(struct snapshot *s, const char *path, char error[CONF_ERROR_MAX])
{
	char name[PATH_MAX];
	struct file status = { path, -1, 0, error };
	struct file slots = { name, -1, 0, error };
	int result;

	memset(s, 0, sizeof(*s));
	if (snprintf(name, sizeof(name), "%s.slots", path) >= PATH_MAX)
		return wrong(&status, "%s", strerror(ENAMETOOLONG));
	result = read_both(s, &status, &slots);
	if (status.fd != -1)
		close(status.fd);
	if (slots.fd != -1)
		close(slots.fd);
	if (result == -1)
		snapshot_free(s);
	return result;
}

void
snapshot_free(struct snapshot *s)
{
	free(s->slot);
	s->slot = NULL;
	s->nslots = 0;
}
