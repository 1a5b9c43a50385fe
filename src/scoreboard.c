/*
 * scoreboard.c: the shared mappings, and how a slot is written and read.
 *
 * The master creates three objects before its first fork: `status', which it
 * alone writes, `slots', which all workers write, and the counter of clients.
 * A call leaves either all of them or nothing.  Nothing here waits for what
 * another process writes (RULES R3, R4).  Their descriptors stay open in the
 * master, for an upgrade, whose new program maps the same objects again, or
 * new ones when their layout has changed: all but the counter.
 *
 * Of two starts on one path one wins: a master holds flock(2) on its status
 * file from before that file gets its name, an existing file is replaced only
 * under its lock, and a free name is taken with link(2), which never replaces.
 *
 * Limits: a file system for status-file needs flock(2) and hard links; the
 * memory objects need /proc.  Under one uid for all this is no boundary (R9).
 */

#include <sys/types.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#ifdef __linux__
#include <sys/vfs.h>
#include <linux/magic.h>
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "preforkd.h"

#define LOCK_TRIES	100	/* 10 ms apart: preforkctl may look meanwhile */
#define TEMP		".new-XXXXXX"	/* after the name, until it is placed */
#define TEMP_TIME	10	/* seconds; no start needs a new name so long */

enum { STATUS, SLOTS, COUNTER, NOBJECTS };

/* One of the three, while it is being created. */
struct object {
	char	 name[PATH_MAX];	/* "": in memory */
	char	 last[PATH_MAX];	/* where an earlier one goes */
	char	 temp[PATH_MAX];	/* its name so far, or "" */
	bool	 placed;
	bool	 replaced;		/* placed, and an earlier one is kept */
	int	 fd;
	size_t	 size;
	void	*map;
};

enum outcome { FAILED = -1, DONE, AGAIN };

static int
refuse(char *error, const char *name, const char *why)
{
	return error_at(error, "status-file", name, why);
}

static int
fail(char *error, const char *name, const char *call)
{
	return error_say(error, "status-file %s: %s: %s",
	    name[0] != '\0' ? name : "in memory", call, strerror(errno));
}

size_t
scoreboard_slots_size(int nslots)
{
	return sizeof(struct commons) + (size_t)nslots * sizeof(struct slot);
}

/* Only where nobody else can swap our files: R3 depends on it. */
static int
directory_prepare(const char *path, char *error)
{
	char copy[PATH_MAX], *dir;
	mode_t loose = geteuid() == 0 ? S_IWGRP | S_IWOTH : S_IWOTH;
	struct stat st;

	if (strlcpy(copy, path, sizeof(copy)) >=
	    sizeof(copy) - sizeof(".counter" TEMP)) {
		errno = ENAMETOOLONG;
		return fail(error, path, "open");
	}
	dir = dirname(copy);
	if (mkdir(dir, 0755) == -1 && errno != EEXIST)
		return fail(error, dir, "mkdir");
	if (stat(dir, &st) == -1)
		return fail(error, dir, "stat");
	if (!S_ISDIR(st.st_mode))
		return refuse(error, dir, "not a directory");
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return refuse(error, dir, "directory of another user");
	if ((st.st_mode & loose) != 0 && (st.st_mode & S_ISVTX) == 0)
		return refuse(error, dir, "directory that others can write");
	return 0;
}

static int
check_ours(const struct stat *st, const char *name, char *error)
{
	if (!S_ISREG(st->st_mode))
		return refuse(error, name, "not a regular file, not replaced");
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return refuse(error, name,
		    "file of another user, not replaced");
	return 0;
}

static int
name_check(const char *name, char *error)
{
	struct stat st;

	if (lstat(name, &st) == 0)
		return check_ours(&st, name, error);
	return errno == ENOENT ? 0 : fail(error, name, "lstat");
}

static void
object_init(struct object *o, const char *path, const char *suffix,
    size_t size)
{
	memset(o, 0, sizeof(*o));
	o->fd = -1;
	o->size = size;
	o->map = MAP_FAILED;
	if (path == NULL)
		return;
	strlcpy(o->name, path, sizeof(o->name));
	strlcat(o->name, suffix, sizeof(o->name));
	strlcpy(o->last, o->name, sizeof(o->last));
	strlcat(o->last, ".last", sizeof(o->last));
}

static int
object_open(struct object *o)
{
	if (o->name[0] == '\0')
		return memfd_create("preforkd",
		    MFD_CLOEXEC | MFD_ALLOW_SEALING);
	strlcpy(o->temp, o->name, sizeof(o->temp));
	strlcat(o->temp, TEMP, sizeof(o->temp));
	if ((o->fd = mkostemp(o->temp, O_CLOEXEC)) == -1)
		o->temp[0] = '\0';
	return o->fd;
}

/* Whoever has a descriptor of the memory can then neither cut nor open it. */
static int
object_protect(const struct object *o)
{
	if (o->name[0] != '\0')
		return fchmod(o->fd, 0640);
	if (fchmod(o->fd, 0400) == -1)
		return -1;
	return fcntl(o->fd, F_ADD_SEALS,
	    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

static int
object_create(struct object *o, char *error)
{
	if (o->name[0] != '\0' && name_check(o->name, error) == -1)
		return -1;
	if ((o->fd = object_open(o)) == -1)
		return fail(error, o->name, "create");
	/* Its blocks exist from now on: a full disk is no SIGBUS later. */
	if ((errno = posix_fallocate(o->fd, 0, (off_t)o->size)) != 0)
		return fail(error, o->name, "posix_fallocate");
	if (object_protect(o) == -1)
		return fail(error, o->name, "fchmod");
	o->map = mmap(NULL, o->size, PROT_READ | PROT_WRITE, MAP_SHARED,
	    o->fd, 0);
	if (o->map == MAP_FAILED)
		return fail(error, o->name, "mmap");
	return 0;
}

/* The view for workers: mprotect(2) cannot make it writable. */
static int
map_shown(struct scoreboard *b, const struct object *o, char *error)
{
	char path[PATH_MAX];
	void *map;

	if (o->temp[0] != '\0')
		strlcpy(path, o->temp, sizeof(path));
	else
		snprintf(path, sizeof(path), "/proc/self/fd/%d", o->fd);
	if (b->lock == -1)
		b->lock = open(path, O_RDONLY | O_CLOEXEC);
	if (b->lock == -1)
		return fail(error, path, "open");
	map = mmap(NULL, o->size, PROT_READ, MAP_SHARED, b->lock, 0);
	if (map == MAP_FAILED)
		return fail(error, o->name, "mmap");
	b->shown = map;
	return 0;
}

void
scoreboard_head(struct scoreboard *b)
{
	b->commons->magic = SCOREBOARD_MAGIC;
	b->commons->version = SCOREBOARD_VERSION;
	b->commons->nslots = (uint32_t)b->nslots;
}

static void
initialise(struct scoreboard *b)
{
	struct status *s = b->status;

	s->magic = SCOREBOARD_MAGIC;
	s->version = SCOREBOARD_VERSION;
	s->size = sizeof(*s);
	s->pid = getpid();
	s->state = MASTER_STARTING;
	s->nslots = (uint32_t)b->nslots;
	s->started = clock_now();
	s->started_at = time(NULL);
	s->updated = s->started;
	strlcpy(s->product, PACKAGE_VERSION, sizeof(s->product));
	scoreboard_head(b);
}

/* Who holds the lock of the status file in fd. */
static void
say_in_use(int fd, const char *name, char *error)
{
	int32_t pid;
	ssize_t n = pread(fd, &pid, sizeof(pid), offsetof(struct status, pid));

	if (n == (ssize_t)sizeof(pid) && pid > 1)
		error_say(error, "status-file %s: in use by preforkd %d", name,
		    pid);
	else
		refuse(error, name, "in use");
}

/* A mistyped status-file must not move somebody's passwd out of the way. */
static int
check_status(int fd, const char *name, char *error)
{
	uint64_t magic = 0;
	struct stat st;

	if (fstat(fd, &st) == -1)
		return fail(error, name, "fstat");
	if (check_ours(&st, name, error) == -1)
		return -1;
	if (pread(fd, &magic, sizeof(magic), 0) == -1)
		return fail(error, name, "pread");
	if (magic != SCOREBOARD_MAGIC)
		return refuse(error, name, "not a status file, not replaced");
	return 0;
}

/*
 * Put the new status file in the place of the one that fd has open and
 * locked.  Others replace that one only with its lock, so it cannot change.
 */
static enum outcome
replace_locked(struct object *o, int fd, char *error)
{
	struct stat opened, named;

	if (check_status(fd, o->name, error) == -1)
		return FAILED;
	if (flock(fd, LOCK_EX | LOCK_NB) == -1) {
		if (errno != EWOULDBLOCK)
			return fail(error, o->name, "flock");
		say_in_use(fd, o->name, error);
		return AGAIN;
	}
	if (fstat(fd, &opened) == -1 || lstat(o->name, &named) == -1 ||
	    named.st_ino != opened.st_ino || named.st_dev != opened.st_dev) {
		refuse(error, o->name, "keeps being replaced");
		return AGAIN;	/* by another start, while we opened it */
	}
	if (unlink(o->last) == -1 && errno != ENOENT)
		return fail(error, o->last, "unlink");
	if (link(o->name, o->last) == -1)
		return fail(error, o->last, "link");
	if (rename(o->temp, o->name) == -1)
		return fail(error, o->name, "rename");
	o->temp[0] = '\0';
	o->placed = o->replaced = true;
	return DONE;
}

/* lock: of a status file that is ours already, or -1. */
static enum outcome
place_status_once(struct object *o, int lock, char *error)
{
	enum outcome outcome;
	int fd;

	if (lock != -1)
		return replace_locked(o, lock, error);
	fd = open(o->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd != -1) {
		outcome = replace_locked(o, fd, error);
		close(fd);
		return outcome;
	}
	if (errno != ENOENT)
		return fail(error, o->name, "open");
	if (link(o->temp, o->name) == 0) {
		o->placed = true;	/* temp goes with object_finish() */
		return DONE;
	}
	if (errno != EEXIST)
		return fail(error, o->name, "link");
	refuse(error, o->name, "keeps being replaced");
	return AGAIN;
}

static int
place_status(struct object *o, int lock, char *error)
{
	const struct timespec pause = { 0, 10 * 1000 * 1000 };
	enum outcome outcome;
	int i;

	for (i = 0; i < LOCK_TRIES; i++) {
		if ((outcome = place_status_once(o, lock, error)) != AGAIN)
			return outcome == DONE ? 0 : -1;
		nanosleep(&pause, NULL);
	}
	return -1;
}

/* The other files, under the lock of the status file that is in place. */
static int
place_beside(struct object *o, char *error)
{
	if (rename(o->name, o->last) == 0)
		o->replaced = true;
	else if (errno != ENOENT)
		return fail(error, o->name, "rename");
	if (rename(o->temp, o->name) == -1)
		return fail(error, o->name, "rename");
	o->temp[0] = '\0';
	o->placed = true;
	return 0;
}

static int
place_all(struct scoreboard *b, struct object *o, int lock, char *error)
{
	/* Before it has its name: nobody ever sees ours without a lock. */
	if (flock(b->lock, LOCK_EX | LOCK_NB) == -1)
		return fail(error, o[STATUS].name, "flock");
	if (place_status(&o[STATUS], lock, error) == -1)
		return -1;
	if (place_beside(&o[SLOTS], error) == -1)
		return -1;
	if (lock != -1)
		return 0;	/* the counter has its place */
	return place_beside(&o[COUNTER], error);
}

/*
 * What a start that was killed has left: a regular file of ours, with a name
 * that only object_open() gives, and so old that no start is still at it.
 */
static bool
is_leftover(int dir, const char *entry, const struct object *o)
{
	const char *slash = strrchr(o->name, '/');
	const char *base = slash != NULL ? slash + 1 : o->name;
	size_t n = strlen(base);
	struct stat st;

	return strncmp(entry, base, n) == 0 &&
	    fnmatch(".new-??????", entry + n, 0) == 0 &&
	    fstatat(dir, entry, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
	    st.st_nlink == 1 && st.st_mtime + TEMP_TIME < time(NULL);
}

/* By the one who holds the lock of the status file. */
static void
remove_leftovers(const struct object o[NOBJECTS])
{
	const struct dirent *entry;
	char copy[PATH_MAX];
	DIR *dir;
	int i;

	strlcpy(copy, o[STATUS].name, sizeof(copy));
	if ((dir = opendir(dirname(copy))) == NULL)
		return;		/* they do no harm */
	while ((entry = readdir(dir)) != NULL)
		for (i = 0; i < NOBJECTS; i++)
			if (is_leftover(dirfd(dir), entry->d_name, &o[i]))
				unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
}

/* No temporary name is left. */
static void
object_finish(const struct object *o)
{
	if (o->temp[0] != '\0')
		unlink(o->temp);
}

static void
object_undo(struct object *o)
{
	if (o->replaced)
		rename(o->last, o->name);
	else if (o->placed)
		unlink(o->name);
	if (o->map != MAP_FAILED)
		munmap(o->map, o->size);
	if (o->fd != -1)
		close(o->fd);
	object_finish(o);
}

static void
undo(struct scoreboard *b, struct object *o)
{
	int i;

	/* The status file last: until then its lock keeps others away. */
	for (i = NOBJECTS - 1; i >= 0; i--)
		object_undo(&o[i]);
	if (b->shown != NULL)
		munmap((void *)(uintptr_t)b->shown, sizeof(*b->shown));
	if (b->lock != -1)
		close(b->lock);
	free(b->path);
	memset(b, 0, sizeof(*b));
	b->lock = -1;
}

/* The views of objects that are there. */
static int
map_all(struct scoreboard *b, struct object *o, char *error)
{
	b->status = o[STATUS].map;
	b->commons = o[SLOTS].map;
	b->counter = o[COUNTER].map;
	return map_shown(b, &o[STATUS], error);
}

static int
create_all(struct scoreboard *b, struct object *o, char *error)
{
	int i;

	for (i = 0; i < NOBJECTS; i++)
		if (object_create(&o[i], error) == -1)
			return -1;
	if (map_all(b, o, error) == -1)
		return -1;
	initialise(b);
	/* arc4random_buf(3) would end the process for want of memory. */
	if (getentropy(b->status->secret, sizeof(b->status->secret)) == -1)
		return fail(error, o[STATUS].name, "getentropy");
	if (b->path == NULL)	/* nobody else can open it: no lock */
		return 0;
	return place_all(b, o, -1, error);
}

static void
objects_init(const struct scoreboard *b, struct object o[NOBJECTS])
{
	object_init(&o[STATUS], b->path, "", sizeof(struct status));
	object_init(&o[SLOTS], b->path, ".slots",
	    scoreboard_slots_size(b->nslots));
	object_init(&o[COUNTER], b->path, ".counter", sizeof(*b->counter));
}

static void
objects_keep(struct scoreboard *b, const struct object o[NOBJECTS])
{
	int i;

	for (i = 0; i < NOBJECTS; i++) {
		object_finish(&o[i]);
		b->fd[i] = o[i].fd;
	}
}

int
scoreboard_create(struct scoreboard *b, const char *path, int nslots,
    char error[CONF_ERROR_MAX])
{
	struct object o[NOBJECTS];

	memset(b, 0, sizeof(*b));
	b->lock = -1;
	b->nslots = nslots;
	if (path != NULL && directory_prepare(path, error) == -1)
		return -1;
	if (path != NULL && (b->path = strdup(path)) == NULL)
		return fail(error, path, "strdup");
	objects_init(b, o);
	if (create_all(b, o, error) == -1) {
		undo(b, o);
		return -1;
	}
	objects_keep(b, o);
	if (path != NULL)
		remove_leftovers(o);
	return 0;
}

/* One that is there already, by its descriptor. */
static int
object_map(struct object *o, int fd, char *error)
{
	struct stat st;

	o->fd = fd;
	if (fstat(fd, &st) == -1)
		return fail(error, o->name, "fstat");
	if ((uintmax_t)st.st_size != o->size)
		return refuse(error, o->name, "not of the size it had");
	o->map = mmap(NULL, o->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return o->map != MAP_FAILED ? 0 : fail(error, o->name, "mmap");
}

int
scoreboard_keep(struct scoreboard *b, char error[CONF_ERROR_MAX])
{
	struct object o[NOBJECTS];
	int i;

	objects_init(b, o);
	for (i = 0; i < NOBJECTS; i++)
		if (object_map(&o[i], b->fd[i], error) == -1)
			return -1;
	if (map_all(b, o, error) == -1)
		return -1;
	scoreboard_begin(b);
	strlcpy(b->status->product, PACKAGE_VERSION,
	    sizeof(b->status->product));
	scoreboard_end(b);
	return 0;
}

/* The old lock is held until the new file has its name. */
int
scoreboard_renew(struct scoreboard *b, char error[CONF_ERROR_MAX])
{
	const struct scoreboard old = *b;
	struct object o[NOBJECTS];

	objects_init(b, o);
	b->lock = -1;
	if (object_create(&o[STATUS], error) == -1 ||
	    object_create(&o[SLOTS], error) == -1 ||
	    object_map(&o[COUNTER], old.fd[COUNTER], error) == -1 ||
	    map_all(b, o, error) == -1)
		return -1;
	initialise(b);
	if (b->path != NULL && place_all(b, o, old.lock, error) == -1)
		return -1;
	objects_keep(b, o);
	close(old.lock);
	close(old.fd[STATUS]);
	close(old.fd[SLOTS]);
	return 0;
}

bool
scoreboard_in_memory(const char *path)
{
#ifdef __linux__
	struct statfs fs;

	return statfs(path, &fs) == -1 || fs.f_type == TMPFS_MAGIC ||
	    fs.f_type == RAMFS_MAGIC;
#else
	(void)path;
	return true;
#endif
}

/* The status file last: until then its lock keeps others away. */
void
scoreboard_discard(const char *path)
{
	const char *const suffix[] = { ".counter", ".slots", "" };
	struct object o;
	size_t i;

	for (i = 0; i < sizeof(suffix) / sizeof(suffix[0]); i++) {
		object_init(&o, path, suffix[i], 0);
		if (rename(o.last, o.name) == -1)
			unlink(o.name);
	}
}

int
scoreboard_confine(struct scoreboard *b)
{
	if (munmap(b->status, sizeof(*b->status)) == -1)
		return -1;
	b->status = NULL;
	return 0;
}

/*
 * The writer's half of a sequence lock.  The release fence after the odd
 * store keeps the data's relaxed stores behind it; the release store of the
 * even number keeps them before it.  A reader that sees any new datum, then
 * fences (acquire) and reads the number again, therefore sees it changed.
 * `| 1' and not `+ 1': the last owner may have died half-way.
 */
static void
seq_begin(_Atomic uint32_t *seq)
{
	uint32_t n = atomic_load_explicit(seq, memory_order_relaxed);

	atomic_store_explicit(seq, n | 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

static void
seq_end(_Atomic uint32_t *seq)
{
	uint32_t n = atomic_load_explicit(seq, memory_order_relaxed);

	atomic_store_explicit(seq, (n | 1) + 1, memory_order_release);
}

void
scoreboard_begin(struct scoreboard *b)
{
	seq_begin(&b->status->seq);
}

void
scoreboard_end(struct scoreboard *b)
{
	seq_end(&b->status->seq);
}

void
slot_begin(struct slot *slot)
{
	seq_begin(&slot->seq);
}

void
slot_end(struct slot *slot)
{
	seq_end(&slot->seq);
}

const char *
slot_state_name(uint32_t state)
{
	static const char *const name[] = {
		[SLOT_FREE] = "free",
		[SLOT_STARTING] = "starting",
		[SLOT_IDLE] = "idle",
		[SLOT_BUSY] = "busy",
		[SLOT_DRAINING] = "draining",
		[SLOT_CLOSING] = "closing",
		[SLOT_LEAVING] = "leaving"
	};

	return state < sizeof(name) / sizeof(name[0]) ? name[state] : "?";
}

const char *
master_state_name(uint32_t state)
{
	static const char *const name[] = {
		[MASTER_STARTING] = "starting",
		[MASTER_RUNNING] = "running",
		[MASTER_DRAINING] = "draining",
		[MASTER_KILLING] = "killing",
		[MASTER_STOPPED] = "stopped"
	};

	return state < sizeof(name) / sizeof(name[0]) ? name[state] : "?";
}
