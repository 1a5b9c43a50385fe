/*
 * Unit tests of scoreboard.c: what a start leaves behind and what it does
 * not, that workers cannot write the status, and the sequence numbers.
 * Everything happens in a private directory below TMPDIR.
 */

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"
#include "check.h"

static char dir[256], path[300];
static bool racing;

/* The number of entries of a directory. */
static int
entries(const char *name)
{
	DIR *d = opendir(name);
	int n = 0;

	if (d == NULL)
		err(1, "%s", name);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n - 2;
}

static int
descriptors(void)
{
	return entries("/proc/self/fd") - 1;
}

static const char *
beside(const char *suffix)
{
	static char name[400];

	snprintf(name, sizeof(name), "%s%s", path, suffix);
	return name;
}

static void
clean(void)
{
	static const char *const suffixes[] = { "", ".last", ".slots",
	    ".slots.last", ".counter", ".counter.last", NULL };
	int i;

	for (i = 0; suffixes[i] != NULL; i++)
		remove(beside(suffixes[i]));
}

static void
discard(struct scoreboard *b)
{
	int i;

	if (b->status != NULL)
		munmap(b->status, sizeof(*b->status));
	munmap((void *)(uintptr_t)b->shown, sizeof(*b->shown));
	munmap(b->commons, scoreboard_slots_size(b->nslots));
	munmap((void *)(uintptr_t)b->counter, sizeof(*b->counter));
	close(b->lock);
	for (i = 0; i < 3; i++)
		close(b->fd[i]);
	free(b->path);
}

static void
check_views(struct scoreboard *b)
{
	void *shown = (void *)(uintptr_t)b->shown;

	CHECK(b->shown->magic == SCOREBOARD_MAGIC);
	CHECK(b->shown->size == sizeof(struct status));
	CHECK(b->shown->nslots == 10);
	CHECK(b->shown->pid == getpid());
	CHECK(b->commons->nslots == 10);
	b->status->generation = 77;
	CHECK(b->shown->generation == 77);
	CHECK(mprotect(shown, sizeof(*b->shown), PROT_READ | PROT_WRITE) == -1);
	CHECK(errno == EACCES);
	CHECK(atomic_fetch_add(b->counter, 1) == 0);
	CHECK(atomic_load(&b->commons->slot[9].state) == SLOT_FREE);
}

static void
test_memory(void)
{
	char error[CONF_ERROR_MAX];
	int before = descriptors();
	struct scoreboard b;

	CHECK(scoreboard_create(&b, NULL, 10, error) == 0);
	/* Each object, and the view of status that cannot write. */
	CHECK(descriptors() == before + 4);
	CHECK((fcntl(b.lock, F_GETFL) & O_ACCMODE) == O_RDONLY);
	check_views(&b);
	discard(&b);
	CHECK(descriptors() == before);
}

static void
test_files(void)
{
	char error[CONF_ERROR_MAX];
	int before = descriptors();
	struct scoreboard b;
	struct stat st;

	CHECK(scoreboard_create(&b, path, 10, error) == 0);
	check_views(&b);
	CHECK(descriptors() == before + 4);
	CHECK((fcntl(b.lock, F_GETFL) & O_ACCMODE) == O_RDONLY);
	CHECK((fcntl(b.lock, F_GETFD) & FD_CLOEXEC) != 0);
	CHECK(entries(dir) == 3);
	CHECK(stat(path, &st) == 0 && st.st_size == sizeof(struct status));
	CHECK((st.st_mode & 07777) == 0640);
	CHECK(st.st_blocks * 512 >= (off_t)sizeof(struct status));
	CHECK(stat(beside(".slots"), &st) == 0 &&
	    (size_t)st.st_size == scoreboard_slots_size(10));
	CHECK(stat(beside(".counter"), &st) == 0 && st.st_size == 8);
	discard(&b);
	clean();
}

static void
test_directory(void)
{
	char error[CONF_ERROR_MAX], sub[320], name[340];
	struct scoreboard b;

	snprintf(sub, sizeof(sub), "%s/sub", dir);
	snprintf(name, sizeof(name), "%s/deeper/x.status", sub);
	CHECK(scoreboard_create(&b, name, 10, error) == -1);
	CHECK(strstr(error, "No such file") != NULL);
	CHECK(entries(dir) == 0);
	mkdir(sub, 0700);
	chmod(sub, 0777);
	snprintf(name, sizeof(name), "%s/x.status", sub);
	CHECK(scoreboard_create(&b, name, 10, error) == -1);
	CHECK(strstr(error, "others can write") != NULL);
	rmdir(sub);
	CHECK(scoreboard_create(&b, name, 10, error) == 0);
	discard(&b);
	unlink(name);
	strcat(name, ".slots");
	unlink(name);
	strcpy(strrchr(name, '.'), ".counter");
	unlink(name);
	CHECK(rmdir(sub) == 0);
}

static void
test_restart(void)
{
	char error[CONF_ERROR_MAX];
	struct stat last, old, st;
	struct scoreboard a, b;

	CHECK(scoreboard_create(&a, path, 10, error) == 0);
	stat(path, &old);
	atomic_store(a.counter, 5);
	discard(&a);
	CHECK(scoreboard_create(&b, path, 20, error) == 0);
	CHECK(atomic_load(b.counter) == 0);
	CHECK(entries(dir) == 6);
	CHECK(stat(beside(".last"), &last) == 0 && last.st_ino == old.st_ino);
	CHECK(stat(path, &st) == 0 && st.st_ino != old.st_ino);
	CHECK(stat(beside(".slots.last"), &st) == 0 &&
	    (size_t)st.st_size == scoreboard_slots_size(10));
	discard(&b);
	CHECK(scoreboard_create(&b, path, 20, error) == 0);
	CHECK(entries(dir) == 6);
	discard(&b);
	clean();
}

static void
test_in_use(void)
{
	char error[CONF_ERROR_MAX], expected[CONF_ERROR_MAX];
	struct scoreboard a, b;
	int before;

	CHECK(scoreboard_create(&a, path, 10, error) == 0);
	before = descriptors();
	CHECK(scoreboard_create(&b, path, 10, error) == -1);
	snprintf(expected, sizeof(expected),
	    "status-file %s: in use by preforkd %d", path, (int)getpid());
	CHECK(strcmp(error, expected) == 0);
	CHECK(descriptors() == before);
	CHECK(entries(dir) == 3);
	a.status->generation = 9;
	CHECK(a.shown->generation == 9);
	discard(&a);
	clean();
}

/* Refused with these words, and not changed. */
static void
refused(const char *words)
{
	char error[CONF_ERROR_MAX] = "";
	int before = descriptors(), files = entries(dir);
	struct scoreboard b;

	CHECK(scoreboard_create(&b, path, 10, error) == -1);
	CHECK(strstr(error, words) != NULL);
	if (strstr(error, words) == NULL)
		printf("  it says: %s\n", error);
	CHECK(descriptors() == before);
	CHECK(entries(dir) == files);
}

static void
test_foreign(void)
{
	struct scoreboard b;
	char error[CONF_ERROR_MAX];

	CHECK(symlink("/dev/null", path) == 0);
	refused("not a regular file");
	clean();
	mkfifo(path, 0600);
	refused("not a regular file");
	clean();
	mkdir(beside(".slots"), 0700);
	refused("not a regular file");
	clean();
	CHECK(symlink("nowhere", beside(".counter")) == 0);
	refused("not a regular file");
	clean();
	close(open(path, O_WRONLY | O_CREAT, 0600));
	refused("not a status file");
	clean();
	CHECK(scoreboard_create(&b, path, 10, error) == 0);
	discard(&b);
	if (geteuid() == 0) {
		CHECK(chown(path, 12345, 0) == 0);
		refused("file of another user");
	}
	clean();
}

/* Every descriptor that it needs is missing once; later ones fail too. */
static void
test_undo(void)
{
	struct rlimit old, now;
	int n;

	getrlimit(RLIMIT_NOFILE, &old);
	for (n = 0; n < 4; n++) {
		now = old;
		now.rlim_cur = (rlim_t)(4 + n);	/* 0-2, and one to count */
		setrlimit(RLIMIT_NOFILE, &now);
		if (n > 0)
			refused("Too many open files");
		setrlimit(RLIMIT_NOFILE, &old);
		CHECK(entries(dir) == 0);
	}
}

/* A step after the new status file is in place fails: the old one is back. */
static void
test_undo_late(void)
{
	char error[CONF_ERROR_MAX];
	struct scoreboard a;
	struct stat old, st;

	CHECK(scoreboard_create(&a, path, 10, error) == 0);
	stat(path, &old);
	discard(&a);
	mkdir(beside(".slots.last"), 0700);
	refused("rename: Is a directory");
	CHECK(stat(path, &st) == 0 && st.st_ino == old.st_ino);
	clean();
}

static void
test_full(void)
{
	struct rlimit old, now;

	getrlimit(RLIMIT_FSIZE, &old);
	now = old;
	now.rlim_cur = 100;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &now);
	refused("posix_fallocate: File too large");
	setrlimit(RLIMIT_FSIZE, &old);
	CHECK(entries(dir) == 0);
}

/*
 * In place of the C library's: a start may be interrupted for a moment
 * before each step that takes the place of another's file.
 */
static void
interrupted(void)
{
	if (racing)
		usleep((useconds_t)(random() % 3000));
}

int
link(const char *from, const char *to)
{
	interrupted();
	return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int
rename(const char *from, const char *to)
{
	interrupted();
	return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int
flock(int fd, int operation)
{
	interrupted();
	return (int)syscall(SYS_flock, fd, operation);
}

static void
starter(int out)
{
	char error[CONF_ERROR_MAX];
	struct scoreboard b;

	racing = true;
	srandom((unsigned int)getpid());
	if (scoreboard_create(&b, path, 10, error) == 0)
		(void)!write(out, "w", 1);
	pause();
	_exit(0);
}

/* Several starts at once: exactly one has the file, however they race. */
static void
race(void)
{
	struct pollfd p;
	pid_t pid[6];
	char won[8];
	int fds[2], i;
	ssize_t n;

	if (pipe(fds) == -1)
		err(1, "pipe");
	for (i = 0; i < 6; i++) {
		if ((pid[i] = fork()) == 0)
			starter(fds[1]);
	}
	p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	CHECK(poll(&p, 1, 5000) == 1);
	usleep(60 * 1000);
	n = read(fds[0], won, sizeof(won));
	CHECK(n == 1);
	for (i = 0; i < 6; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	close(fds[0]);
	close(fds[1]);
}

static void
remove_temps(void)
{
	struct dirent *e;
	DIR *d = opendir(dir);

	while ((e = readdir(d)) != NULL)
		unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
}

static void
test_race(void)
{
	int i;

	for (i = 0; i < 20; i++) {
		if (i % 2 == 0)		/* else over the last winner's file */
			clean();
		race();
	}
	clean();
	remove_temps();		/* of killed losers */
}

static void
test_confine(void)
{
	char error[CONF_ERROR_MAX];
	unsigned char vec[256];
	struct scoreboard b;
	void *old;

	CHECK(scoreboard_create(&b, NULL, 10, error) == 0);
	old = b.status;
	CHECK(scoreboard_confine(&b) == 0);
	CHECK(b.status == NULL);
	CHECK(mincore(old, sizeof(struct status), vec) == -1);
	CHECK(errno == ENOMEM);
	CHECK(b.shown->magic == SCOREBOARD_MAGIC);
	discard(&b);
}

static void
test_sequence(void)
{
	struct slot slot;

	memset(&slot, 0, sizeof(slot));
	slot_begin(&slot);
	CHECK(slot.seq % 2 == 1);
	slot_begin(&slot);	/* the next owner, after a death half-way */
	CHECK(slot.seq % 2 == 1);
	slot_end(&slot);
	CHECK(slot.seq == 2);
	slot_begin(&slot);
	slot_end(&slot);
	CHECK(slot.seq == 4);
}

static void
set_all(struct slot *s, uint64_t n)
{
	slot_begin(s);
	atomic_store_explicit(&s->born, (int64_t)n, memory_order_relaxed);
	atomic_store_explicit(&s->number[NUMBER_SERVED], n,
	    memory_order_relaxed);
	atomic_store_explicit(&s->client, n, memory_order_relaxed);
	slot_end(s);
}

#define GET(field)	atomic_load_explicit(&s->field, memory_order_relaxed)

/* As any reader does; -1 when it was being changed, else whether it is torn. */
static int
read_all(const struct slot *s)
{
	uint32_t before = atomic_load_explicit(&s->seq, memory_order_acquire);
	uint64_t born = (uint64_t)GET(born);
	uint64_t served = GET(number[NUMBER_SERVED]);
	uint64_t client = GET(client);

	atomic_thread_fence(memory_order_acquire);
	if (before % 2 != 0 || GET(seq) != before)
		return -1;
	return born != served || served != client;
}

static void
test_torn(void)
{
	char error[CONF_ERROR_MAX];
	struct scoreboard b;
	int good = 0, i, n, torn = 0;
	uint64_t value;
	pid_t pid;

	CHECK(scoreboard_create(&b, NULL, 1, error) == 0);
	if ((pid = fork()) == 0)
		for (value = 0;; value++)
			set_all(&b.commons->slot[0], value);
	for (i = 0; i < 2000000; i++) {
		n = read_all(&b.commons->slot[0]);
		good += n == 0;
		torn += n == 1;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CHECK(good > 0);
	CHECK(torn == 0);
	discard(&b);
}

static void
test_names(void)
{
	CHECK(strcmp(slot_state_name(SLOT_DRAINING), "draining") == 0);
	CHECK(strcmp(slot_state_name(SLOT_LEAVING + 1), "?") == 0);
	CHECK(strcmp(slot_state_name(UINT32_MAX), "?") == 0);
	CHECK(strcmp(master_state_name(MASTER_STOPPED), "stopped") == 0);
	CHECK(strcmp(master_state_name(MASTER_STOPPED + 1), "?") == 0);
}

static const struct test tests[] = {
	{ "memory", test_memory },
	{ "files", test_files },
	{ "directory", test_directory },
	{ "restart", test_restart },
	{ "in-use", test_in_use },
	{ "foreign", test_foreign },
	{ "undo", test_undo },
	{ "undo-late", test_undo_late },
	{ "full", test_full },
	{ "race", test_race },
	{ "confine", test_confine },
	{ "sequence", test_sequence },
	{ "torn", test_torn },
	{ "names", test_names },
};

int
main(void)
{
	const char *tmp = getenv("TMPDIR");

	setvbuf(stdout, NULL, _IOLBF, 0);
	closefrom(3);
	snprintf(dir, sizeof(dir), "%s/scoreboard.XXXXXX",
	    tmp != NULL ? tmp : "/tmp");
	if (mkdtemp(dir) == NULL)
		err(1, "%s", dir);
	snprintf(path, sizeof(path), "%s/test.status", dir);
	run_all(tests, sizeof(tests) / sizeof(tests[0]));
	test = "nothing left";
	CHECK(rmdir(dir) == 0);
	done();
	return failures != 0;
}
