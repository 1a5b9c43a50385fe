/*
 * json.c: a snapshot as one JSON object, for programs and for the status page.
 *
 * Writes and nothing else.  Numbers are exact; durations are in ms, or in us
 * where the name says so, and times are seconds since the epoch.  What
 * does not apply is null or left out, as preforkctl(8) documents; fields may
 * be added in a release, and none changes its meaning.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "preforkd.h"

struct view {
	FILE		*out;
	const struct snapshot *s;
	int64_t		 now;
	struct tally	 sum[CONF_SERVICES_MAX];
	const char	*comma;		/* before the next of a list */
};

/*
 * What log_quote() shows as an escape is not printable: its bytes are one
 * replacement character each, or \u00XX if they are ASCII.  Also safe within
 * HTML's <script>.
 */
static void
put_string(FILE *out, const char *text)
{
	size_t left = strlen(text), n, used;
	char unit[LOG_UNIT_MAX];

	putc('"', out);
	for (; left > 0; text += used, left -= used) {
		n = log_unit(unit, text, left, &used);
		if ((unsigned char)*text >= 0x80 && unit[0] == '\\')
			fputs("\\ufffd", out);
		else if (unit[0] == '\\' || strchr("\"<>&", *text) != NULL)
			fprintf(out, "\\u%04x", (unsigned char)*text);
		else
			fwrite(unit, 1, n, out);
	}
	putc('"', out);
}

static void
text(const struct view *v, const char *name, const char *value)
{
	fprintf(v->out, "\"%s\":", name);
	put_string(v->out, value);
}

/* Begin an element of a list. */
static void
next(struct view *v)
{
	fputs(v->comma, v->out);
	v->comma = ",\n";
}

static void
list(struct view *v, const char *name)
{
	fprintf(v->out, ",\n\"%s\":[", name);
	v->comma = "\n";
}

/* The last reload, or upgrade; why it failed follows. */
static void
put_change(const struct view *v, const char *name, uint32_t outcome,
    int64_t at)
{
	fprintf(v->out, ",\n\"%s\":{\"outcome\":\"%s\",\"at\":%" PRId64 ",",
	    name, outcome == RELOAD_DONE ? "done" :
	    outcome == RELOAD_FAILED ? "failed" : "none", at);
}

static void
put_changes(const struct view *v)
{
	const struct status *s = &v->s->status;

	put_change(v, "reload", s->reload, s->reload_at);
	text(v, "why", s->reload == RELOAD_FAILED ? s->reload_why : "");
	fprintf(v->out, ",\"running\":%s,\"done\":%u,\"failed\":%u,"
	    "\"waits_for\":%u}", s->reloads_begun != s->reloads ? "true" :
	    "false", s->reloads - s->reloads_failed, s->reloads_failed,
	    s->reload_waits != 0 ? s->reload_waits_for : 0);
	put_change(v, "upgrade", s->upgrade.outcome, s->upgrade.at);
	text(v, "why", s->upgrade.outcome == RELOAD_FAILED ?
	    s->upgrade.why : "");
	fprintf(v->out, ",\"running\":%s,\"done\":%u,\"failed\":%u}",
	    s->upgrade.begun != s->upgrade.ended ? "true" : "false",
	    s->upgrade.ended - s->upgrades_failed, s->upgrades_failed);
}

/* In words, as the first line of `status'. */
static void
put_verdict(const struct view *v)
{
	char *why = tally_why(v->s, v->sum);

	fprintf(v->out, ",\n\"verdict\":\"%s\",", !v->s->alive ? "down" :
	    why != NULL ? "degraded" : "ok");
	text(v, "why", why != NULL ? why : "");
	free(why);
}

static void
put_server(const struct view *v, unsigned int unstable)
{
	const struct status *s = &v->s->status;

	fputs("{\"preforkd\":", v->out);
	put_string(v->out, s->product);
	put_verdict(v);
	fprintf(v->out, ",\n\"alive\":%s,\"state\":\"%s\",\"pid\":%d,"
	    "\"generation\":%u,\"started\":%" PRId64 ",\"uptime_ms\":%" PRId64
	    ",\"age_ms\":%" PRId64, v->s->alive ? "true" : "false",
	    master_state_name(s->state), s->pid, s->generation, s->started_at,
	    tally_elapsed(s->started, v->now),
	    tally_elapsed(s->updated, v->now));
	fprintf(v->out, ",\n\"forks\":%" PRIu64 ",\"deaths\":%" PRIu64
	    ",\"clients_cut\":%" PRIu64 ",\"log_dropped\":%" PRIu64
	    ",\"slots\":%u,\"unstable\":%u", s->forks, s->ndeaths, s->cut,
	    v->s->log_dropped, s->nslots, unstable);
	put_changes(v);
}

static void
put_kinds(const struct view *v, const char *name, const char *const *kind,
    const uint64_t *number)
{
	const int n = kind == refusal_names ? REFUSALS : DEATH_CAUSES;
	int i;

	fprintf(v->out, ",\n \"%s\":{", name);
	for (i = 0; i < n; i++)
		fprintf(v->out, "%s\"%s\":%" PRIu64, i > 0 ? "," : "",
		    kind[i], number[i]);
	putc('}', v->out);
}

static void
put_histogram(const struct view *v, const char *name, const uint64_t *number)
{
	int i;

	fprintf(v->out, ",\n \"%s\":{\"sum\":%" PRIu64 ",\"counts\":[", name,
	    number[0]);
	for (i = 0; i <= HISTOGRAM_BOUNDS; i++)
		fprintf(v->out, "%s%" PRIu64, i > 0 ? "," : "", number[1 + i]);
	fputs("]}", v->out);
}

static void
put_service(const struct view *v, int i)
{
	const struct status_service *row = &v->s->status.service[i];
	const struct tally *t = &v->sum[i];
	const uint64_t *n = t->number;

	fputs("{", v->out);
	text(v, "name", row->name);
	fprintf(v->out, ",\"workers\":{\"starting\":%u,\"idle\":%u,"
	    "\"busy\":%u,\"draining\":%u,\"missing\":%u,\"min\":%u,"
	    "\"spare\":%u,\"max\":%u}", t->starting, t->idle, t->busy,
	    t->draining, row->delayed, row->workers_min, row->workers_spare,
	    row->workers_max);
	fprintf(v->out, ",\"throttled\":%s,\"programs\":%u,"
	    "\"per_source\":%u,\n \"accepted\":%" PRIu64 ",\"served\":%" PRIu64
	    ",\"bytes_in\":%" PRIu64 ",\"bytes_out\":%" PRIu64,
	    tally_is_throttled(row, t) ? "true" : "false", t->programs,
	    row->per_source, n[NUMBER_ACCEPTED], n[NUMBER_SERVED],
	    n[NUMBER_IN], n[NUMBER_OUT]);
	put_kinds(v, "refused", refusal_names, &n[NUMBER_REFUSED]);
	put_kinds(v, "deaths", death_names, row->deaths);
	put_histogram(v, "service_us", &n[NUMBER_SERVICE]);
	put_histogram(v, "wait_us", &n[NUMBER_WAIT]);
	fputs("}", v->out);
}

static void
put_services(struct view *v)
{
	int i;

	list(v, "bounds_us");
	for (i = 0; i < HISTOGRAM_BOUNDS; i++)
		fprintf(v->out, "%s%" PRId64, i > 0 ? "," : "",
		    histogram_bounds[i]);
	putc(']', v->out);
	list(v, "services");
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		if (!v->s->status.service[i].used)
			continue;
		next(v);
		put_service(v, i);
	}
	putc(']', v->out);
}

static void
put_listeners(struct view *v)
{
	const struct status *s = &v->s->status;
	const struct status_listener *l;

	list(v, "listeners");
	for (l = s->listener; l < s->listener + CONF_LISTENERS_MAX; l++) {
		if (!l->used)
			continue;
		next(v);
		putc('{', v->out);
		text(v, "address", l->name);
		putc(',', v->out);
		text(v, "service", s->service[l->service].name);
		fprintf(v->out, ",\"queue\":%u,\"limit\":%u}", l->waiting,
		    l->limit);
	}
	putc(']', v->out);
}

static void
put_generations(struct view *v)
{
	const struct status *s = &v->s->status;
	const struct status_generation *g;
	uint32_t i;

	list(v, "generations");
	for (i = 0; i < s->ngenerations && i < SCOREBOARD_GENERATIONS; i++) {
		g = &s->generations[i];
		next(v);
		fprintf(v->out, "{\"number\":%u,\"state\":\"%s\","
		    "\"age_ms\":%" PRId64 ",\"workers\":%u,\"clients\":%u,"
		    "\"cut_in_ms\":", g->number, tally_generation_state(s, g),
		    tally_elapsed(g->since, v->now), g->workers, g->clients);
		if (g->until == 0)
			fputs("null}", v->out);
		else
			fprintf(v->out, "%" PRId64 "}",
			    tally_elapsed(v->now, g->until));
	}
	putc(']', v->out);
}

static void
put_worker(struct view *v, uint32_t number)
{
	const struct slot *c = &v->s->slot[number];
	char peer[ADDRESS_TEXT];

	next(v);
	fprintf(v->out, "{\"slot\":%u", number);
	if (c->service < CONF_SERVICES_MAX) {
		putc(',', v->out);
		text(v, "service", v->s->status.service[c->service].name);
	}
	if (c->seq % 2 != 0) {
		fputs(",\"state\":\"unstable\"}", v->out);
		return;
	}
	fprintf(v->out, ",\"state\":\"%s\",\"pid\":%d,\"generation\":%u,"
	    "\"served\":%" PRIu64 ",\"age_ms\":%" PRId64 ",\"state_ms\":%"
	    PRId64 ",\"program\":%d", tally_worker_state(c), c->pid,
	    c->generation, c->number[NUMBER_SERVED],
	    tally_elapsed(c->born, v->now),
	    tally_elapsed(tally_since(c), v->now), c->program);
	if (look_serving(c)) {
		fprintf(v->out, ",\"client\":%" PRIu64 ",", c->client);
		text(v, "address", tally_peer_text(c, peer));
	}
	putc('}', v->out);
}

static void
put_workers(struct view *v)
{
	uint32_t i;

	list(v, "workers");
	for (i = 0; i < v->s->nslots; i++)
		if (v->s->slot[i].seq % 2 != 0 ||
		    v->s->slot[i].state != SLOT_FREE)
			put_worker(v, i);
	putc(']', v->out);
}

/* The newest last. */
static void
put_deaths(struct view *v)
{
	const struct status *s = &v->s->status;
	const struct status_death *d;
	char how[TALLY_TEXT];
	uint64_t i = 0;

	list(v, "last_deaths");
	if (s->ndeaths > SCOREBOARD_DEATHS)
		i = s->ndeaths - SCOREBOARD_DEATHS;
	for (; i < s->ndeaths; i++) {
		d = &s->death[i % SCOREBOARD_DEATHS];
		next(v);
		fprintf(v->out, "{\"at\":%" PRId64 ",\"pid\":%d,\"slot\":%u,"
		    "\"generation\":%u,\"age_ms\":%" PRId64 ",\"served\":%"
		    PRIu64 ",\"client\":%" PRIu64 ",", d->at, d->pid, d->slot,
		    d->generation, d->age, d->served, d->client);
		text(v, "service", d->service);
		putc(',', v->out);
		text(v, "how", tally_death(d, how));
		putc('}', v->out);
	}
	putc(']', v->out);
}

void
json_write(FILE *out, const struct snapshot *s)
{
	static struct view v;

	v.out = out;
	v.s = s;
	v.now = tally_now(s);
	put_server(&v, tally(s, v.sum));
	put_services(&v);
	put_listeners(&v);
	put_generations(&v);
	put_workers(&v);
	put_deaths(&v);
	fputs("}\n", out);
}
