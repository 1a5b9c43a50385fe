/*
 * show.c: a snapshot for people, and for whatever watches.
 *
 * Prints and nothing else.  Text from the files passes log_quote() before it
 * reaches the terminal; numbers come clamped from snapshot.c.
 *
 * Limits: long IPv6 addresses and names make a row longer than 80.
 */

#include <sys/types.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <arpa/inet.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "preforkd.h"

#define TIME_TEXT	24	/* 2026-11-23T15:02:27Z */

/* What the slots say of one service. */
struct tally {
	uint64_t	 accepted;
	unsigned int	 starting, idle, busy, draining, programs;
};

/* Text ends within its array, by snapshot.c. */
static const char *
quoted(const char *text)
{
	static char buf[1024];

	return log_quote(buf, sizeof(buf), text, strlen(text));
}

/* Its values were escaped when it was made. */
static const char *
reload_why(const struct status *s)
{
	static char buf[4 * sizeof(s->reload_why)];

	return log_quoted(buf, sizeof(buf), s->reload_why);
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

/* A dead master's clock stands still. */
static int64_t
uptime(const struct snapshot *s)
{
	return elapsed(s->status.started,
	    s->alive ? clock_now() : s->status.updated);
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
		unstable += s->slot[i].seq % 2 != 0;
		if (s->slot[i].service >= CONF_SERVICES_MAX ||
		    s->slot[i].state == SLOT_FREE)
			continue;
		t = &tally[s->slot[i].service];
		t->accepted += s->slot[i].accepted;
		t->starting += s->slot[i].state == SLOT_STARTING;
		t->idle += s->slot[i].state == SLOT_IDLE;
		t->programs += s->slot[i].program != 0;
		t->busy += s->slot[i].state == SLOT_BUSY ||
		    s->slot[i].state == SLOT_CLOSING;
		t->draining += s->slot[i].state == SLOT_DRAINING ||
		    s->slot[i].state == SLOT_LEAVING;
	}
	return unstable;
}

/* Why a server that lives does not serve well; nothing when it does. */
static void
put_troubles(FILE *out, const struct snapshot *s, const struct tally *tally)
{
	const struct status_service *row;
	const struct tally *t;
	int i;

	if (s->status.state != MASTER_RUNNING)
		fprintf(out, "%s; ", master_state_name(s->status.state));
	if (s->status.reload == RELOAD_FAILED)
		fprintf(out, "the last reload failed (%s); ",
		    reload_why(&s->status));
	if (s->status.upgrade.outcome == RELOAD_FAILED)
		fprintf(out, "the last upgrade failed (%s); ",
		    quoted(s->status.upgrade.why));
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		row = &s->status.service[i];
		t = &tally[i];
		if (!row->used)
			continue;
		if (row->retry_at != 0 && row->delayed + t->starting > 0)
			fprintf(out, "%s is throttled; ", quoted(row->name));
		else if (row->delayed > 0)
			fprintf(out, "%s lacks workers; ", quoted(row->name));
		if (t->busy > 0 && t->busy >= row->workers_max)
			fprintf(out, "%s is full; ", quoted(row->name));
	}
}

static void
print_serving(const struct snapshot *s, const struct tally *tally)
{
	int64_t up = uptime(s) / 1000;
	int i;

	for (i = 0; i < CONF_SERVICES_MAX; i++)
		if (s->status.service[i].used)
			printf("%s %u of %u %s, ",
			    quoted(s->status.service[i].name),
			    tally[i].programs > 0 ? tally[i].idle :
			    tally[i].busy, s->status.service[i].workers_max,
			    tally[i].programs > 0 ? "ready" : "busy");
	printf("generation %u, up ", s->status.generation);
	if (up >= 86400)
		printf("%" PRId64 "d\n", up / 86400);
	else if (up >= 3600)
		printf("%" PRId64 "h\n", up / 3600);
	else
		printf("%" PRId64 "%s\n", up >= 60 ? up / 60 : up,
		    up >= 60 ? "m" : "s");
}

static int
print_degraded(const struct snapshot *s, const struct tally *tally)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out;
	int code;

	if ((out = open_memstream(&text, &size)) == NULL)
		fatal("open_memstream");
	put_troubles(out, s, tally);
	if (fclose(out) == EOF)
		fatal("open_memstream");
	code = size > 0 ? CTL_BAD : CTL_OK;
	printf("preforkd %s: %s", code == CTL_OK ? "OK" : "DEGRADED", text);
	free(text);
	print_serving(s, tally);
	return code;
}

/* The one line that a monitoring plugin needs. */
static int
print_verdict(const struct server *server, const struct tally *tally)
{
	const struct snapshot *s = &server->now;
	char error[CONF_ERROR_MAX], seen[TIME_TEXT];

	if (!s->alive && s->status.state == MASTER_STOPPED)
		printf("preforkd DOWN: stopped in order\n");
	else if (!s->alive)
		printf("preforkd DOWN: dead, last seen %s, %s\n",
		    time_text(s->status.started_at + uptime(s) / 1000, seen),
		    master_state_name(s->status.state));
	if (!s->alive)
		return CTL_DOWN;
	if (server_identify(server, false, error) == 0)
		return print_degraded(s, tally);
	printf("preforkd UNKNOWN: %s\n", error);
	return CTL_UNKNOWN;
}

/* The last reload or upgrade. */
struct change {
	bool		 running;
	uint32_t	 outcome;	/* enum reload_outcome */
	int64_t		 at;
	const char	*why;		/* escaped; if it has failed */
};

static void
print_change(const char *name, const struct change *c, const struct status *s)
{
	char at[TIME_TEXT];

	printf("%-12s ", name);
	time_text(c->at, at);
	if (c->running && s->reload_waits != 0)
		printf("running since %s, waits for %u old connections of "
		    "generation %u\n", at, s->reload_waits_for,
		    s->reload_waits);
	else if (c->running)
		printf("running since %s\n", at);
	else if (c->outcome == RELOAD_DONE)
		printf("done %s\n", at);
	else if (c->outcome == RELOAD_FAILED)
		printf("failed %s: %s\n", at, c->why);
	else
		printf("none\n");
}

static void
print_changes(const struct status *s)
{
	const struct status_upgrade *u = &s->upgrade;
	const struct change reload = { s->reloads_begun != s->reloads,
	    s->reload, s->reload_at, reload_why(s) };
	const struct change upgrade = { u->begun != u->ended, u->outcome,
	    u->at, quoted(u->why) };

	print_change("reload:", &reload, s);
	print_change("upgrade:", &upgrade, s);
}

static void
print_master(const struct snapshot *s, unsigned int unstable)
{
	int64_t up = uptime(s) / 1000;

	printf("state:       %s\n", s->alive ||
	    s->status.state == MASTER_STOPPED ?
	    master_state_name(s->status.state) : "dead");
	printf("uptime:      %" PRId64 "d %02d:%02d:%02d\n", up / 86400,
	    (int)(up / 3600 % 24), (int)(up / 60 % 60), (int)(up % 60));
	printf("generation:  %u\n", s->status.generation);
	printf("pid:         %d\n", s->status.pid);
	printf("version:     %s\n", quoted(s->status.product));
	print_changes(&s->status);
	printf("clients cut: %" PRIu64 "\n", s->status.cut);
	printf("log dropped: %" PRIu64 "\n", s->log_dropped);
	if (unstable > 0)
		printf("unstable:    %u of %u slots\n", unstable, s->nslots);
}

/* Within its column, whatever a worker says. */
static uint64_t
accepted(const struct status_service *row, const struct tally *t)
{
	uint64_t n = row->accepted + t->accepted;

	return n < SCOREBOARD_CLIENTS ? n : SCOREBOARD_CLIENTS;
}

/* By its place in the master's clock. */
static const char *
wall_text(const struct status *s, int64_t at, char buf[TIME_TEXT])
{
	return time_text(at == 0 ? 0 :
	    s->started_at + elapsed(s->started, at) / 1000, buf);
}

static void
print_generations(const struct snapshot *snapshot)
{
	const struct status *s = &snapshot->status;
	const struct status_generation *g;
	char until[TIME_TEXT];
	uint32_t i;

	printf("\n%-10s %-8s %7s %7s %7s %s\n", "GENERATION", "STATE", "AGE",
	    "WORKERS", "CLIENTS", "DRAINS-UNTIL");
	for (i = 0; i < s->ngenerations && i < SCOREBOARD_GENERATIONS; i++) {
		g = &s->generations[i];
		printf("%10u %-8s %7" PRId64 " %7u %7u %s\n", g->number,
		    g->until != 0 ? "leaving" :
		    g->number == s->generation ? "serving" : "starting",
		    elapsed(g->since, snapshot->alive ? clock_now() :
		    s->updated) / 1000, g->workers, g->clients,
		    wall_text(s, g->until, until));
	}
	if (s->ngenerations > SCOREBOARD_GENERATIONS)
		printf("and %u older ones\n",
		    s->ngenerations - SCOREBOARD_GENERATIONS);
}

/* Of a service whose starts are held back; the pause has begun. */
static void
print_next_try(const struct status_service *row)
{
	int64_t ms = row->retry_at - clock_now();

	if (row->retry_at == 0)
		return;
	if (ms > 0)
		printf("  next try in %" PRId64 " s", (ms + 999) / 1000);
	else
		printf("  being tried");
}

static void
print_services(const struct snapshot *snapshot, const struct tally *tally)
{
	const struct status *s = &snapshot->status;
	int i;

	printf("\n%-15s %12s %6s %6s %8s %8s %7s %6s\n", "SERVICE", "ACCEPTED",
	    "BUSY", "IDLE", "STARTING", "DRAINING", "DELAYED", "MAX");
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		if (!s->service[i].used)
			continue;
		printf("%-15s %12" PRIu64 " %6u %6u %8u %8u %7u %6u",
		    quoted(s->service[i].name),
		    accepted(&s->service[i], &tally[i]),
		    tally[i].busy, tally[i].idle, tally[i].starting,
		    tally[i].draining, s->service[i].delayed,
		    s->service[i].workers_max);
		if (snapshot->alive)
			print_next_try(&s->service[i]);
		putchar('\n');
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

int
show_status(struct server *server)
{
	struct tally tally[CONF_SERVICES_MAX];
	const struct snapshot *s = &server->now;
	unsigned int unstable;
	int code;

	memset(tally, 0, sizeof(tally));
	unstable = count(s, tally);
	code = print_verdict(server, tally);
	print_master(s, unstable);
	print_services(s, tally);
	print_listeners(&s->status);
	print_generations(s);
	return code;
}

/* What to think of the rows of workers or deaths that follow. */
static int
warn_if_down(const struct server *server)
{
	char error[CONF_ERROR_MAX];

	if (!server->now.alive) {
		log_warnx("no master is alive: this is what it left");
		return CTL_DOWN;
	}
	if (server_identify(server, false, error) == 0)
		return CTL_OK;
	log_warnx("%s", error);
	return CTL_UNKNOWN;
}

static const char *
peer_text(const struct slot *c, char buf[ADDRESS_TEXT])
{
	uint32_t family = c->peer_family;
	char host[INET6_ADDRSTRLEN];

	switch (family) {
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
print_worker(const struct status *s, uint32_t number, const struct slot *c)
{
	bool serving = look_serving(c);
	char client[24] = "-", peer[ADDRESS_TEXT] = "-";
	int64_t since = c->state == SLOT_STARTING ? c->born : c->since;

	/* 0: its proxy has yet to say who it is. */
	if (serving && c->client != 0)
		snprintf(client, sizeof(client), "%" PRIu64, c->client);
	if (serving)
		peer_text(c, peer);
	printf("%5u %-8s %7d %3u %7" PRIu64 " %7s %7" PRId64 " %-21s %s\n",
	    number, c->program != 0 && c->state == SLOT_IDLE ? "ready" :
	    slot_state_name(c->state), c->pid, c->generation, c->served,
	    client, elapsed(since, clock_now()) / 1000, peer,
	    quoted(s->service[c->service].name));
}

/*
 * Its memory and CPU time, of this moment, when it is what its worker says: a
 * child of a child of the master.
 */
static void
print_program(const struct snapshot *s, uint32_t number)
{
	const struct slot *c = &s->slot[number];
	struct usage worker, program;

	printf("%5u %7d %7" PRId64 " ", number, c->program,
	    elapsed(c->born, clock_now()) / 1000);
	if (s->alive && usage_of(c->program, &program) == 0 &&
	    program.parent == c->pid && usage_of(c->pid, &worker) == 0 &&
	    worker.parent == s->status.pid)
		printf("%9" PRId64 " %6" PRId64 ".%02d ",
		    program.memory / 1024, program.cpu / 1000,
		    (int)(program.cpu % 1000 / 10));
	else
		printf("%9s %9s ", "-", "-");
	printf("%s\n", quoted(s->status.service[c->service].name));
}

static bool
has_program(const struct slot *c)
{
	return c->seq % 2 == 0 && c->state != SLOT_FREE && c->program != 0;
}

static void
print_programs(const struct snapshot *s)
{
	bool first = true;
	uint32_t i;

	for (i = 0; i < s->nslots; i++) {
		if (!has_program(&s->slot[i]))
			continue;
		if (first)
			printf("\n%5s %7s %7s %9s %9s %s\n", "SLOT",
			    "PROGRAM", "AGE", "KILOBYTES", "CPU", "SERVICE");
		first = false;
		print_program(s, i);
	}
}

int
show_workers(struct server *server)
{
	const struct snapshot *s = &server->now;
	int code = warn_if_down(server);
	uint32_t i;

	printf("%5s %-8s %7s %3s %7s %7s %7s %-21s %s\n", "SLOT", "STATE",
	    "PID", "GEN", "SERVED", "CLIENT", "SECONDS", "ADDRESS", "SERVICE");
	for (i = 0; i < s->nslots; i++) {
		if (s->slot[i].seq % 2 != 0)
			printf("%5u unstable\n", i);
		else if (s->slot[i].state != SLOT_FREE)
			print_worker(&s->status, i, &s->slot[i]);
	}
	print_programs(s);
	return code;
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
	case WORKER_PROGRAM_ENDED:
		return "program ended";
	default:
		snprintf(buf, size, "exit %d", code);
		return buf;
	}
}

static const char *
how_text(const struct status_death *d, char *buf, size_t size)
{
	int status = d->wait_status;

	if (WIFEXITED(status) && d->program == 0)
		return exit_text(WEXITSTATUS(status), buf, size);
	if (WIFEXITED(status)) {
		snprintf(buf, size, "exit %d", WEXITSTATUS(status));
		return buf;
	}
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

int
show_deaths(struct server *server)
{
	const struct status *s = &server->now.status;
	int code = warn_if_down(server);
	uint64_t i, n = s->ndeaths;

	printf("%-20s %7s %5s %3s %6s %6s %6s %-7s %s\n", "TIME", "PID", "SLOT",
	    "GEN", "AGE", "SERVED", "CLIENT", "SERVICE", "HOW");
	for (i = n > SCOREBOARD_DEATHS ? n - SCOREBOARD_DEATHS : 0; i < n; i++)
		print_death(&s->death[i % SCOREBOARD_DEATHS]);
	return code;
}
