/*
 * board.c: writes a scoreboard as a master leaves it, for tests that need
 * none running: PATH and PATH.slots, with one service, one listener and one
 * slot in each state.  Arguments NAME=NUMBER change it; those of them that
 * name no field of the tables below are refused.
 *
 *	slots=N		so many slots, all but the first five idle
 *	seed=N		random bytes behind both headers, sequences even
 *	stuck=N		the sequence number of slot N stays odd
 *	deaths=N	so many deaths
 *	hostile=1	texts that could harm a terminal, HTML, JSON, metrics
 *	size=N		status file cut or grown to N bytes; slots-size=N
 *
 * After `--' comes a command: board then plays the master while that runs, as
 * its parent.  It is the pid in the file unless pid=N says otherwise, holds
 * the lock, and notes in PATH.signals what it is sent; and:
 *
 *	pid-file=N	NAME.pid names process N (0: itself), and is locked;
 *			PATH is NAME.status
 *	reopen=N	SIGUSR1 raises the first or second counter of the logger
 */

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../src/preforkd.h"

static struct {
	const char	*name;
	size_t		 offset, size;
	bool		 slots;
} fields[] = {
#define STATUS_FIELD(name, field) \
	{ name, offsetof(struct status, field), \
	    sizeof(((struct status *)0)->field), false }
	STATUS_FIELD("magic", magic),
	STATUS_FIELD("version", version),
	STATUS_FIELD("says-size", size),
	STATUS_FIELD("seq", seq),
	STATUS_FIELD("pid", pid),
	STATUS_FIELD("state", state),
	STATUS_FIELD("nslots", nslots),
	STATUS_FIELD("started", started),
	STATUS_FIELD("updated", updated),
	STATUS_FIELD("reload", reload),
	STATUS_FIELD("reloads", reloads),
	STATUS_FIELD("reloads-begun", reloads_begun),
	STATUS_FIELD("cut", cut),
	STATUS_FIELD("delayed", service[0].delayed),
	STATUS_FIELD("retry-at", service[0].retry_at),
	STATUS_FIELD("workers-max", service[0].workers_max),
	STATUS_FIELD("accepted", service[0].number[NUMBER_ACCEPTED]),
	STATUS_FIELD("bytes-in", service[0].number[NUMBER_IN]),
	STATUS_FIELD("wait-status", death[0].wait_status),
	STATUS_FIELD("killed", death[0].killed),
	STATUS_FIELD("age", death[0].age),
	{ "slots-magic", offsetof(struct commons, magic), 8, true },
	{ "slots-version", offsetof(struct commons, version), 4, true },
	{ "slots-nslots", offsetof(struct commons, nslots), 4, true },
};

static struct status *status;
static struct commons *commons;
static size_t commons_size;
static long long nslots = 8, pid_file = -1, reopen;

static int64_t
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
fill_status(void)
{
	status->magic = SCOREBOARD_MAGIC;
	status->version = SCOREBOARD_VERSION;
	status->size = sizeof(*status);
	status->pid = 4711;
	status->state = MASTER_RUNNING;
	status->generation = 3;
	status->nslots = (uint32_t)nslots;
	status->started = now() - 63000;	/* the machine may be young */
	status->started_at = 1700000000;
	status->updated = status->started + 60000;
	status->reload = RELOAD_DONE;
	status->reloads = status->reloads_begun = 1;
	status->reload_at = 1700000060;
	strcpy(status->reload_why, "a.conf:3: bad\033[31m value");
	strcpy(status->product, "9.9");
	status->slots_used = (uint32_t)nslots;
	strcpy(status->service[0].name, "greet");
	status->service[0].used = 1;
	status->service[0].workers_max = 512;
	status->service[0].number[NUMBER_ACCEPTED] = 1000;
	strcpy(status->listener[0].name, "127.0.0.1:8001");
	status->listener[0].used = 1;
	status->listener[0].waiting = 7;
	status->listener[0].limit = 128;
}

static void
add_deaths(long long n)
{
	struct status_death *d;
	long long i;

	status->ndeaths = (uint64_t)n;
	for (i = 0; i < n; i++) {
		d = &status->death[i % SCOREBOARD_DEATHS];
		d->at = 1700000000 + i;
		d->pid = (int32_t)(100 + i);
		d->wait_status = SIGSEGV | 0x80;
		d->slot = 2;
		d->generation = 3;
		d->age = 1500;
		d->served = 41;
		d->client = 42;
		strcpy(d->service, "greet");
	}
}

static void
fill_slots(void)
{
	struct slot *s;
	uint32_t i;

	commons->magic = SCOREBOARD_MAGIC;
	commons->version = SCOREBOARD_VERSION;
	commons->nslots = (uint32_t)nslots;
	commons->log_dropped = 13;
	for (i = 0; i < nslots; i++) {
		s = &commons->slot[i];
		s->seq = 2;
		s->state = i <= SLOT_DRAINING ? i : SLOT_IDLE;
		s->pid = (int32_t)(5000 + i);
		s->generation = 3;
		s->born = s->since = now() > 9500 ? now() - 9500 : 1;
		s->number[NUMBER_ACCEPTED] = 10;
		s->number[NUMBER_SERVED] = 9;
		s->client = 100 + i;
		s->peer_family = AF_INET;
		s->peer_port = 59823;
		memcpy(&s->peer, "\x7f\0\0\1", 4);
	}
}

static void
make_hostile(void)
{
	static const char name[] = "a\"b\\c\n\033[31m\xff{}=,\302\233\r</s>";
	static const char line[] = "unix:/</script><script>alert(1)</script>"
	    "<!-- ]]> ' \" \\\" \n# HELP x y\033]0;t\007\351\177 end";
	int i;

	strcpy(status->service[0].name, name);
	strcpy(status->product, name);
	strcpy(status->listener[0].name, line);
	strcpy(status->reload_why, line);
	strcpy(status->upgrade.why, line);
	status->upgrade.outcome = status->reload = RELOAD_FAILED;
	for (i = 0; i < SCOREBOARD_DEATHS; i++)
		strcpy(status->death[i].service, name);
}

/* All behind the headers; the sequence numbers must let it be read. */
static void
scramble(long long seed)
{
	unsigned char *p;
	long long i;

	srandom((unsigned int)seed);
	p = (unsigned char *)status;
	for (i = 16; i < (long long)sizeof(*status); i++)
		p[i] = (unsigned char)(random() >> 5);
	status->seq = 0;
	status->nslots = status->slots_used = (uint32_t)nslots;
	p = (unsigned char *)commons;
	for (i = 16; i < (long long)commons_size; i++)
		p[i] = (unsigned char)(random() >> 5);
	for (i = 0; i < nslots; i++) {
		commons->slot[i].seq &= ~1U;
		if (i % 2 == 0) {
			commons->slot[i].state %= SLOT_DRAINING + 1;
			commons->slot[i].service %= CONF_SERVICES_MAX;
		}
	}
}

static void
make(void)
{
	commons_size = sizeof(*commons) + (size_t)nslots * sizeof(struct slot);
	status = calloc(1, sizeof(*status));
	commons = aligned_alloc(64, commons_size);
	if (status == NULL || commons == NULL)
		err(1, NULL);
	memset(commons, 0, commons_size);
	fill_status();
	fill_slots();
}

static bool
set_field(const char *name, long long value)
{
	size_t i;
	char *base;

	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (strcmp(fields[i].name, name) != 0)
			continue;
		base = fields[i].slots ? (char *)commons : (char *)status;
		memcpy(base + fields[i].offset, &value, fields[i].size);
		return true;
	}
	return false;
}

static void
save(const char *path, const void *data, size_t size, long long cut)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

	if (fd == -1 || write(fd, data, size) != (ssize_t)size)
		err(1, "%s", path);
	if (cut >= 0 && ftruncate(fd, cut) == -1)
		err(1, "%s", path);
	close(fd);
}

static int
locked(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd == -1 || flock(fd, LOCK_EX | LOCK_NB) == -1)
		err(1, "%s", path);
	return fd;
}

static void
raise_counter(const char *path)
{
	size_t at = reopen == 1 ? offsetof(struct commons, log_reopened) :
	    offsetof(struct commons, log_reopen_failed);
	uint32_t one = 1;
	char name[4096];
	int fd;

	snprintf(name, sizeof(name), "%s.slots", path);
	if ((fd = open(name, O_WRONLY | O_CLOEXEC)) == -1 ||
	    pwrite(fd, &one, sizeof(one), (off_t)at) != sizeof(one))
		err(1, "%s", name);
	close(fd);
}

/* Until the command ends; returns its exit status. */
static int
note_signals(const char *path, const sigset_t *set)
{
	char name[4096];
	int number, ended;
	FILE *f;

	snprintf(name, sizeof(name), "%s.signals", path);
	if ((f = fopen(name, "we")) == NULL)
		err(1, "%s", name);
	while (sigwait(set, &number) == 0 && number != SIGCHLD) {
		fprintf(f, "%s\n", sigabbrev_np(number));
		if (number == SIGUSR1 && reopen != 0)
			raise_counter(path);
	}
	fclose(f);
	wait(&ended);
	return WIFEXITED(ended) ? WEXITSTATUS(ended) : 127;
}

static int
play_master(const char *path, char *command[])
{
	char name[4096];
	sigset_t set;
	int fd;

	locked(path);
	if (pid_file != -1) {
		snprintf(name, sizeof(name), "%.*s.pid",
		    (int)strcspn(path, "."), path);
		fd = locked(name);
		if (ftruncate(fd, 0) == -1)
			err(1, "%s", name);
		dprintf(fd, "%lld", pid_file != 0 ? pid_file :
		    (long long)getpid());
	}
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (fork() == 0) {
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		execvp(command[0], command);
		err(127, "%s", command[0]);
	}
	return note_signals(path, &set);
}

int
main(int argc, char *argv[])
{
	char name[4096], *equals, **command = NULL;
	long long cut = -1, slots_cut = -1, value;
	int i;

	if (argc < 2)
		errx(64, "usage: board path [name=number ...] "
		    "[-- command ...]");
	for (i = 2; i < argc && command == NULL; i++)
		if (strcmp(argv[i], "--") == 0) {
			command = &argv[i + 1];
			argc = i;
		}
	for (i = 2; i < argc; i++)
		if (strncmp(argv[i], "slots=", 6) == 0)
			nslots = atoll(argv[i] + 6);
	make();
	if (command != NULL)
		status->pid = getpid();
	for (i = 2; i < argc; i++) {
		if ((equals = strchr(argv[i], '=')) == NULL)
			errx(64, "%s: not name=number", argv[i]);
		*equals = '\0';
		value = strtoll(equals + 1, NULL, 0);
		if (strcmp(argv[i], "seed") == 0)
			scramble(value);
		else if (strcmp(argv[i], "hostile") == 0)
			make_hostile();
		else if (strcmp(argv[i], "deaths") == 0)
			add_deaths(value);
		else if (strcmp(argv[i], "stuck") == 0)
			commons->slot[value].seq = 1;
		else if (strcmp(argv[i], "size") == 0)
			cut = value;
		else if (strcmp(argv[i], "slots-size") == 0)
			slots_cut = value;
		else if (strcmp(argv[i], "pid-file") == 0)
			pid_file = value;
		else if (strcmp(argv[i], "reopen") == 0)
			reopen = value;
		else if (strcmp(argv[i], "slots") != 0 &&
		    !set_field(argv[i], value))
			errx(64, "%s: unknown", argv[i]);
	}
	snprintf(name, sizeof(name), "%s.slots", argv[1]);
	save(argv[1], status, sizeof(*status), cut);
	save(name, commons, commons_size, slots_cut);
	return command != NULL ? play_master(argv[1], command) : 0;
}
