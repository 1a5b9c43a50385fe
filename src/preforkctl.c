/*
 * preforkctl.c: the administrator's view of the scoreboard.
 *
 * It finds the status file, has snapshot.c copy and check it, and prints.
 * It changes nothing and sends nothing, and works as well when the master is
 * stopped, hangs or is dead.  Text from the files passes log_quote() before
 * it reaches the terminal; numbers come clamped from snapshot.c.
 *
 * Limits: a scoreboard that is kept in memory (no status-file) cannot be seen
 * from outside.  Long IPv6 addresses and names make a row longer than 80.
 */

#include <sys/types.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <arpa/inet.h>

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "preforkd.h"

/* preforkctl(8) documents them. */
enum {
	EXIT_SERVING = 0,
	EXIT_DOWN = 2,
	EXIT_CANNOT_TELL = 3
};

#define SUFFIX		".status"
#define TIME_TEXT	24	/* 2026-11-23T15:02:27Z */

/* What the slots say of one service. */
struct tally {
	uint64_t	 accepted;
	unsigned int	 starting, idle, busy, draining;
};

struct command {
	const char	*name;
	void		(*print)(const struct snapshot *);
};

/* Text ends within its array, by snapshot.c. */
static const char *
quoted(const char *text)
{
	static char buf[1024];

	return log_quote(buf, sizeof(buf), text, strlen(text));
}

/* Milliseconds from one time to another; 0 when it makes no sense. */
static int64_t
elapsed(int64_t from, int64_t to)
{
	return from > 0 && to > from ? to - from : 0;
}

static const char *
time_text(int64_t at, char buf[TIME_TEXT])
{
	time_t t = (time_t)at;
	struct tm tm;

	if (at <= 0 || gmtime_r(&t, &tm) == NULL ||
	    strftime(buf, TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		strlcpy(buf, "-", TIME_TEXT);
	return buf;
}

static bool
is_down(const struct snapshot *s)
{
	return !s->alive || s->status.state == MASTER_STOPPED;
}

/* A dead master's clock stands still. */
static int64_t
uptime(const struct snapshot *s)
{
	return elapsed(s->status.started,
	    s->alive ? clock_now() : s->status.updated);
}

static void
print_state(const struct snapshot *s)
{
	const char *state = master_state_name(s->status.state);
	char seen[TIME_TEXT];

	if (s->alive || s->status.state == MASTER_STOPPED)
		printf("state:       %s\n", state);
	else
		printf("state:       dead (last seen %s, state %s)\n",
		    time_text(s->status.started_at + uptime(s) / 1000, seen),
		    state);
}

static void
print_reload(const struct status *s)
{
	char at[TIME_TEXT];

	time_text(s->reload_at, at);
	switch (s->reload) {
	case RELOAD_NONE:
		printf("reload:      none\n");
		break;
	case RELOAD_RUNNING:
		printf("reload:      running since %s\n", at);
		break;
	case RELOAD_DONE:
		printf("reload:      done %s\n", at);
		break;
	case RELOAD_FAILED:
		printf("reload:      failed %s: %s\n", at,
		    quoted(s->reload_why));
		break;
	default:
		printf("reload:      ?\n");
	}
}

static void
print_master(const struct snapshot *s, unsigned int unstable)
{
	int64_t up = uptime(s) / 1000;

	print_state(s);
	printf("uptime:      %" PRId64 "d %02d:%02d:%02d\n", up / 86400,
	    (int)(up / 3600 % 24), (int)(up / 60 % 60), (int)(up % 60));
	printf("generation:  %u\n", s->status.generation);
	printf("pid:         %d\n", s->status.pid);
	printf("version:     %s\n", quoted(s->status.product));
	print_reload(&s->status);
	printf("log dropped: %" PRIu64 "\n", s->log_dropped);
	if (unstable > 0)
		printf("unstable:    %u of %u slots\n", unstable, s->nslots);
}

/*
 * Of an unstable slot each word still is true: a sum may use it.  What a free
 * slot counted is part of its service's totals already.
 */
static unsigned int
count(const struct snapshot *s, struct tally tally[CONF_SERVICES_MAX])
{
	unsigned int unstable = 0;
	struct tally *t;
	uint32_t i;

	for (i = 0; i < s->nslots; i++) {
		unstable += !s->slot[i].stable;
		if (s->slot[i].service >= CONF_SERVICES_MAX ||
		    s->slot[i].state == SLOT_FREE)
			continue;
		t = &tally[s->slot[i].service];
		t->accepted += s->slot[i].accepted;
		t->starting += s->slot[i].state == SLOT_STARTING;
		t->idle += s->slot[i].state == SLOT_IDLE;
		t->busy += s->slot[i].state == SLOT_BUSY ||
		    s->slot[i].state == SLOT_CLOSING;
		t->draining += s->slot[i].state == SLOT_DRAINING ||
		    s->slot[i].state == SLOT_LEAVING;
	}
	return unstable;
}

static void
print_services(const struct status *s, const struct tally *tally)
{
	int i;

	printf("\n%-15s %12s %6s %6s %8s %8s %7s %6s\n", "SERVICE", "ACCEPTED",
	    "BUSY", "IDLE", "STARTING", "DRAINING", "DELAYED", "MAX");
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		if (!s->service[i].used)
			continue;
		printf("%-15s %12" PRIu64 " %6u %6u %8u %8u %7u %6u\n",
		    quoted(s->service[i].name),
		    s->service[i].accepted + tally[i].accepted,
		    tally[i].busy, tally[i].idle, tally[i].starting,
		    tally[i].draining, s->service[i].delayed,
		    s->service[i].workers_max);
	}
}

static void
print_listeners(const struct status *s)
{
	const struct status_listener *l;
	int i;

	printf("\n%-40s %-15s %6s %6s\n", "LISTENER", "SERVICE", "QUEUE",
	    "LIMIT");
	for (i = 0; i < CONF_LISTENERS_MAX; i++) {
		l = &s->listener[i];
		if (!l->used)
			continue;
		printf("%-40s ", quoted(l->name));
		printf("%-15s %6u %6u\n", quoted(s->service[l->service].name),
		    l->waiting, l->limit);
	}
}

static void
print_status(const struct snapshot *s)
{
	struct tally tally[CONF_SERVICES_MAX];
	unsigned int unstable;

	memset(tally, 0, sizeof(tally));
	unstable = count(s, tally);
	print_master(s, unstable);
	print_services(&s->status, tally);
	print_listeners(&s->status);
}

static const char *
peer_text(const struct slot_copy *c, char buf[ADDRESS_TEXT])
{
	char host[INET6_ADDRSTRLEN];

	switch (c->peer_family) {
	case AF_INET:
		inet_ntop(AF_INET, c->peer, host, sizeof(host));
		snprintf(buf, ADDRESS_TEXT, "%s:%u", host, c->peer_port);
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, c->peer, host, sizeof(host));
		snprintf(buf, ADDRESS_TEXT, "[%s]:%u", host, c->peer_port);
		break;
	case AF_UNIX:
		strlcpy(buf, "unix", ADDRESS_TEXT);
		break;
	default:
		strlcpy(buf, "-", ADDRESS_TEXT);
	}
	return buf;
}

/* The state's age, and the client if there is one. */
static void
print_worker(const struct status *s, uint32_t number, const struct slot_copy *c)
{
	bool serving = c->state == SLOT_BUSY || c->state == SLOT_DRAINING;
	char client[24] = "-", peer[ADDRESS_TEXT] = "-";
	int64_t since = c->state == SLOT_STARTING ? c->born : c->since;

	if (serving) {
		snprintf(client, sizeof(client), "%" PRIu64, c->client);
		peer_text(c, peer);
	}
	printf("%5u %-8s %7d %3u %7" PRIu64 " %7s %7" PRId64 " %-21s %s\n",
	    number, slot_state_name(c->state), c->pid, c->generation, c->served,
	    client, elapsed(since, clock_now()) / 1000, peer,
	    quoted(s->service[c->service].name));
}

static void
print_workers(const struct snapshot *s)
{
	uint32_t i;

	printf("%5s %-8s %7s %3s %7s %7s %7s %-21s %s\n", "SLOT", "STATE",
	    "PID", "GEN", "SERVED", "CLIENT", "SECONDS", "ADDRESS", "SERVICE");
	for (i = 0; i < s->nslots; i++) {
		if (!s->slot[i].stable)
			printf("%5u unstable\n", i);
		else if (s->slot[i].state != SLOT_FREE)
			print_worker(&s->status, i, &s->slot[i]);
	}
}

static const char *
exit_text(int code, char *buf, size_t size)
{
	switch (code) {
	case WORKER_LEFT:
		return "left";
	case WORKER_START_FAILED:
		return "start failed";
	case WORKER_SICK:
		return "bad listener";
	case WORKER_ORPHAN:
		return "no master";
	case WORKER_SERVICE_FAILED:
		return "cannot serve";
	default:
		snprintf(buf, size, "exit %d", code);
		return buf;
	}
}

static const char *
how_text(const struct status_death *d, char *buf, size_t size)
{
	int status = d->wait_status;

	if (WIFEXITED(status))
		return exit_text(WEXITSTATUS(status), buf, size);
	if (!WIFSIGNALED(status))
		return "?";
	if (WTERMSIG(status) == SIGKILL && d->killed)
		return "killed";
	snprintf(buf, size, "%s%s", sig_name(WTERMSIG(status)),
	    WCOREDUMP(status) ? "+core" : "");
	return buf;
}

static void
print_death(const struct status_death *d)
{
	char at[TIME_TEXT], client[24] = "-", how[32];

	if (d->client != 0)
		snprintf(client, sizeof(client), "%" PRIu64, d->client);
	printf("%-20s %7d %5u %3u %6" PRId64 " %6" PRIu64 " %6s %-7s %s\n",
	    time_text(d->at, at), d->pid, d->slot, d->generation,
	    d->age / 1000, d->served, client, quoted(d->service),
	    how_text(d, how, sizeof(how)));
}

static void
print_deaths(const struct snapshot *s)
{
	uint64_t i, n = s->status.ndeaths;

	printf("%-20s %7s %5s %3s %6s %6s %6s %-7s %s\n", "TIME", "PID", "SLOT",
	    "GEN", "AGE", "SERVED", "CLIENT", "SERVICE", "HOW");
	for (i = n > SCOREBOARD_DEATHS ? n - SCOREBOARD_DEATHS : 0; i < n; i++)
		print_death(&s->status.death[i % SCOREBOARD_DEATHS]);
}

static const struct command commands[] = {
	{ "status", print_status },
	{ "workers", print_workers },
	{ "deaths", print_deaths }
};

static const struct command *
command_find(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int
is_status_file(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name), suffix = strlen(SUFFIX);

	return n > suffix &&
	    strcmp(entry->d_name + n - suffix, SUFFIX) == 0;
}

static int
status_directory(char *dir, size_t size)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		snprintf(dir, size, "%s/preforkd", RUNSTATEDIR);
	else if (runtime != NULL && runtime[0] == '/')
		snprintf(dir, size, "%s/preforkd", runtime);
	else {
		log_warnx("no -s status-file, and no XDG_RUNTIME_DIR to look "
		    "for one");
		return -1;
	}
	return 0;
}

static int
status_choose(const char *dir, struct dirent **entry, int n, char *path)
{
	int i;

	if (n == 0) {
		log_warnx("%s: no status file: preforkd has not been started "
		    "here; else name it with -s", dir);
		return -1;
	}
	if (n > 1) {
		log_warnx("several status files, choose one with -s:");
		for (i = 0; i < n; i++)
			fprintf(stderr, "%s/%s\n", dir,
			    quoted(entry[i]->d_name));
		return -1;
	}
	if (snprintf(path, PATH_MAX, "%s/%s", dir, entry[0]->d_name) < PATH_MAX)
		return 0;
	log_warnx("%s: name too long", dir);
	return -1;
}

/* The only status file there is, where preforkd puts it by default. */
static int
status_find(char path[PATH_MAX])
{
	char dir[PATH_MAX];
	struct dirent **entry = NULL;
	int i, n, result;

	if (status_directory(dir, sizeof(dir)) == -1)
		return -1;
	n = scandir(dir, &entry, is_status_file, alphasort);
	if (n == -1 && errno != ENOENT) {
		log_warn("%s", dir);
		return -1;
	}
	n = n == -1 ? 0 : n;
	result = status_choose(dir, entry, n, path);
	for (i = 0; i < n; i++)
		free(entry[i]);
	free(entry);
	return result;
}

static int
run(const struct command *command, const char *path)
{
	static struct snapshot s;
	char error[CONF_ERROR_MAX];
	int code;

	if (snapshot_read(&s, path, error) == -1) {
		log_warnx("%s", error);
		return EXIT_CANNOT_TELL;
	}
	code = is_down(&s) ? EXIT_DOWN : EXIT_SERVING;
	if (code == EXIT_DOWN && command->print != print_status)
		log_warnx("no master is alive: this is what it left");
	command->print(&s);
	snapshot_free(&s);
	if (fflush(stdout) == EOF || ferror(stdout)) {
		log_warn("standard output");
		return EXIT_CANNOT_TELL;
	}
	return code;
}

__attribute__((__noreturn__))
static void
usage(void)
{
	fprintf(stderr,
	    "usage: preforkctl [-s status-file] status | workers | deaths\n"
	    "       preforkctl -V\n");
	exit(EX_USAGE);
}

int
main(int argc, char *argv[])
{
	const struct command *command;
	char found[PATH_MAX];
	const char *path = NULL;
	int ch;

	log_init("preforkctl");
	while ((ch = getopt(argc, argv, "s:V")) != -1) {
		switch (ch) {
		case 's':
			path = optarg;
			break;
		case 'V':
			printf("preforkctl %s\n", PACKAGE_VERSION);
			return 0;
		default:
			usage();
		}
	}
	if (argc - optind != 1 ||
	    (command = command_find(argv[optind])) == NULL)
		usage();
	if (path == NULL) {
		if (status_find(found) == -1)
			return EXIT_CANNOT_TELL;
		path = found;
	}
	return run(command, path);
}
