/*
 * show.c: a snapshot for people, and for whatever watches.
 *
 * Prints and nothing else.  Text from the files passes log_quote() before it
 * reaches the terminal; numbers come clamped from snapshot.c.
 *
 * Limits: long IPv6 addresses and names make a row longer than 80.
 */

#include <sys/types.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "preforkd.h"

/* Its values were escaped when it was made. */
static const char *
reload_why(const struct status *s)
{
	static char buf[4 * sizeof(s->reload_why)];

	return log_quoted(buf, sizeof(buf), s->reload_why);
}

static int64_t
uptime(const struct snapshot *s)
{
	return tally_elapsed(s->status.started, tally_now(s));
}

static void
print_serving(const struct snapshot *s, const struct tally *sum)
{
	int64_t up = uptime(s) / 1000;
	int i;

	for (i = 0; i < CONF_SERVICES_MAX; i++)
		if (s->status.service[i].used)
			printf("%s %u of %u %s, ",
			    tally_quoted(s->status.service[i].name),
			    sum[i].programs > 0 ? sum[i].idle :
			    sum[i].busy, s->status.service[i].workers_max,
			    sum[i].programs > 0 ? "ready" : "busy");
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
print_degraded(const struct snapshot *s, const struct tally *sum)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out;
	int code;

	if ((out = open_memstream(&text, &size)) == NULL)
		fatal("open_memstream");
	tally_troubles(out, s, sum);
	if (fclose(out) == EOF)
		fatal("open_memstream");
	code = size > 0 ? CTL_BAD : CTL_OK;
	printf("preforkd %s: %s", code == CTL_OK ? "OK" : "DEGRADED", text);
	free(text);
	print_serving(s, sum);
	return code;
}

/* The one line that a monitoring plugin needs. */
static int
print_verdict(const struct server *server, const struct tally *sum)
{
	const struct snapshot *s = &server->now;
	char error[CONF_ERROR_MAX], seen[TALLY_TEXT];

	if (!s->alive && s->status.state == MASTER_STOPPED)
		printf("preforkd DOWN: stopped in order\n");
	else if (!s->alive)
		printf("preforkd DOWN: dead, last seen %s, %s\n",
		    tally_time(s->status.started_at + uptime(s) / 1000, seen),
		    master_state_name(s->status.state));
	if (!s->alive)
		return CTL_DOWN;
	if (server_identify(server, false, error) == 0)
		return print_degraded(s, sum);
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
	char at[TALLY_TEXT];

	printf("%-12s ", name);
	tally_time(c->at, at);
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
	    u->at, tally_quoted(u->why) };

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
	printf("version:     %s\n", tally_quoted(s->status.product));
	print_changes(&s->status);
	printf("clients cut: %" PRIu64 "\n", s->status.cut);
	printf("log dropped: %" PRIu64 "\n", s->log_dropped);
	if (unstable > 0)
		printf("unstable:    %u of %u slots\n", unstable, s->nslots);
}

/* By its place in the master's clock. */
static const char *
wall_text(const struct status *s, int64_t at, char buf[TALLY_TEXT])
{
	return tally_time(at == 0 ? 0 :
	    s->started_at + tally_elapsed(s->started, at) / 1000, buf);
}

static void
print_generations(const struct snapshot *snapshot)
{
	const struct status *s = &snapshot->status;
	const struct status_generation *g;
	char until[TALLY_TEXT], age[HUMAN_TEXT];
	uint32_t i;

	printf("\n%-10s %-8s %7s %7s %7s %s\n", "GENERATION", "STATE", "AGE",
	    "WORKERS", "CLIENTS", "DRAINS-UNTIL");
	for (i = 0; i < s->ngenerations && i < SCOREBOARD_GENERATIONS; i++) {
		g = &s->generations[i];
		printf("%10u %-8s %7s %7u %7u %s\n", g->number,
		    tally_generation_state(s, g), human_time(age,
		    tally_elapsed(g->since, tally_now(snapshot))),
		    g->workers, g->clients, wall_text(s, g->until, until));
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

/* The longest name of a service, and what fits into 80 columns at least. */
static int
name_width(const struct status *s)
{
	int i, width = 15;

	for (i = 0; i < CONF_SERVICES_MAX; i++)
		if (s->service[i].used &&
		    (int)strlen(tally_quoted(s->service[i].name)) > width)
			width = (int)strlen(tally_quoted(s->service[i].name));
	return width;
}

static void
print_services(const struct snapshot *snapshot, const struct tally *sum)
{
	const struct status *s = &snapshot->status;
	const int width = name_width(s);
	char n[HUMAN_TEXT];
	int i;

	printf("\n%-*s %12s %6s %6s %8s %8s %7s %6s\n", width, "SERVICE",
	    "ACCEPTED", "BUSY", "IDLE", "STARTING", "DRAINING", "DELAYED",
	    "MAX");
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		if (!s->service[i].used)
			continue;
		printf("%-*s %12s %6u %6u %8u %8u %7u %6u", width,
		    tally_quoted(s->service[i].name),
		    human_count(n, sum[i].number[NUMBER_ACCEPTED]),
		    sum[i].busy, sum[i].idle, sum[i].starting,
		    sum[i].draining, s->service[i].delayed,
		    s->service[i].workers_max);
		if (snapshot->alive)
			print_next_try(&s->service[i]);
		putchar('\n');
	}
}

static void
print_numbers(const struct status *s, const struct tally *sum)
{
	static const uint64_t none[HISTOGRAM_BOUNDS + 2];
	const int width = name_width(s);
	char text[6][HUMAN_TEXT];
	const uint64_t *n;
	int i;

	printf("\n%-*s %10s %8s %10s %10s %9s %9s\n", width, "NUMBERS",
	    "SERVED", "REFUSED", "IN", "OUT", "TIME", "WAIT");
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		if (!s->service[i].used)
			continue;
		n = sum[i].number;
		printf("%-*s %10s %8s %10s %10s %9s %9s\n", width,
		    tally_quoted(s->service[i].name),
		    human_count(text[0], n[NUMBER_SERVED]),
		    human_count(text[1], numbers_refusals(n)),
		    human_size(text[2], n[NUMBER_IN]),
		    human_size(text[3], n[NUMBER_OUT]),
		    human_mean(text[4], none, &n[NUMBER_SERVICE]),
		    human_mean(text[5], none, &n[NUMBER_WAIT]));
	}
}

static void
print_listeners(const struct status *s)
{
	const struct status_listener *l;
	const int width = name_width(s);
	int i;

	printf("\n%-40s %-*s %6s %6s\n", "LISTENER", width, "SERVICE",
	    "QUEUE", "LIMIT");
	for (i = 0; i < CONF_LISTENERS_MAX; i++) {
		l = &s->listener[i];
		if (!l->used)
			continue;
		printf("%-40s ", tally_quoted(l->name));
		printf("%-*s ", width,
		    tally_quoted(s->service[l->service].name));
		if (l->limit == 0)	/* not known of a Unix socket */
			printf("%6s %6s\n", "-", "-");
		else
			printf("%6u %6u\n", l->waiting, l->limit);
	}
}

int
show_status(struct server *server)
{
	struct tally sum[CONF_SERVICES_MAX];
	const struct snapshot *s = &server->now;
	unsigned int unstable;
	int code;

	unstable = tally(s, sum);
	code = print_verdict(server, sum);
	print_master(s, unstable);
	print_services(s, sum);
	print_numbers(&s->status, sum);
	print_listeners(&s->status);
	print_generations(s);
	return code;
}

int
show_warning(const struct server *server)
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

static void
print_death(const struct status_death *d)
{
	char at[TALLY_TEXT], client[24] = "-", how[TALLY_TEXT];
	char age[HUMAN_TEXT], served[HUMAN_TEXT];

	if (d->client != 0)
		snprintf(client, sizeof(client), "%" PRIu64, d->client);
	printf("%-20s %7d %5u %3u %6s %6s %6s %-7s %s\n",
	    tally_time(d->at, at), d->pid, d->slot, d->generation,
	    human_time(age, d->age), human_count(served, d->served), client,
	    tally_quoted(d->service), tally_death(d, how));
}

int
show_deaths(struct server *server)
{
	const struct status *s = &server->now.status;
	int code = show_warning(server);
	uint64_t i, n = s->ndeaths;

	printf("%-20s %7s %5s %3s %6s %6s %6s %-7s %s\n", "TIME", "PID", "SLOT",
	    "GEN", "AGE", "SERVED", "CLIENT", "SERVICE", "HOW");
	for (i = n > SCOREBOARD_DEATHS ? n - SCOREBOARD_DEATHS : 0; i < n; i++)
		print_death(&s->death[i % SCOREBOARD_DEATHS]);
	return code;
}

int
show_json(struct server *server)
{
	int code = show_warning(server);

	json_write(stdout, &server->now);
	return code;
}

int
show_metrics(struct server *server)
{
	int code = show_warning(server);

	metrics_write(stdout, &server->now);
	return code;
}
