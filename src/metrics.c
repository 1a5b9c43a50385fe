/*
 * metrics.c: a snapshot as Prometheus scrapes it: text format 0.0.4.
 *
 * Writes and nothing else.  Every sample begins with preforkd_, is in seconds
 * or bytes, and has a HELP and a TYPE; preforkctl(8) documents them, and the
 * rules in etc/prometheus go by them.  Label values are text escaped as in the
 * log, and then for the format, so that they are harmless on a terminal too.
 *
 * The numbers of a service go on in a reload and in an upgrade, and begin anew
 * when the server does, or the service has been away.
 */

#include <inttypes.h>
#include <string.h>

#include "preforkd.h"

struct view {
	FILE		*out;
	const struct snapshot *s;
	struct tally	 sum[CONF_SERVICES_MAX];
};

static void
head(const struct view *v, const char *name, const char *type,
    const char *help)
{
	fprintf(v->out, "# HELP preforkd_%s %s\n# TYPE preforkd_%s %s\n",
	    name, help, name, type);
}

/* NAME="VALUE" */
static void
label(const struct view *v, const char *name, const char *value)
{
	char text[1024], *p;

	log_quote(text, sizeof(text), value, strlen(value));
	fprintf(v->out, "%s=\"", name);
	for (p = text; *p != '\0'; p++) {
		if (*p == '\\' || *p == '"')
			putc('\\', v->out);
		putc(*p, v->out);
	}
	putc('"', v->out);
}

static void
one(const struct view *v, const char *name, const char *type,
    const char *help)
{
	head(v, name, type, help);
	fprintf(v->out, "preforkd_%s ", name);
}

static void
gauge(const struct view *v, const char *name, const char *help, uint64_t n)
{
	one(v, name, "gauge", help);
	fprintf(v->out, "%" PRIu64 "\n", n);
}

static void
counter(const struct view *v, const char *name, const char *help, uint64_t n)
{
	one(v, name, "counter", help);
	fprintf(v->out, "%" PRIu64 "\n", n);
}

/* preforkd_NAME{service="..." */
static void
begin(const struct view *v, const char *name, int service)
{
	fprintf(v->out, "preforkd_%s{", name);
	label(v, "service", v->s->status.service[service].name);
}

static bool
used(const struct view *v, int service)
{
	return v->s->status.service[service].used != 0;
}

/* One number of each service. */
static void
each(const struct view *v, const char *name, const char *help,
    enum number number)
{
	int i;

	head(v, name, "counter", help);
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		if (!used(v, i))
			continue;
		begin(v, name, i);
		fprintf(v->out, "} %" PRIu64 "\n", v->sum[i].number[number]);
	}
}

/* Several of each, which a label tells apart. */
struct kinds {
	const char	*name, *help, *label;
	const char	*const *kind;
	int		 n;
};

static void
each_kind(const struct view *v, const struct kinds *k,
    const uint64_t *(*numbers)(const struct view *, int))
{
	int i, n;

	head(v, k->name, "counter", k->help);
	for (i = 0; i < CONF_SERVICES_MAX; i++)
		for (n = 0; used(v, i) && n < k->n; n++) {
			begin(v, k->name, i);
			fprintf(v->out, ",%s=\"%s\"} %" PRIu64 "\n", k->label,
			    k->kind[n], numbers(v, i)[n]);
		}
}

static const uint64_t *
refused(const struct view *v, int service)
{
	return &v->sum[service].number[NUMBER_REFUSED];
}

static const uint64_t *
died(const struct view *v, int service)
{
	return v->s->status.service[service].deaths;
}

static void
histogram_of(const struct view *v, const char *name, int service,
    enum number sum)
{
	const uint64_t *number = &v->sum[service].number[sum];
	uint64_t n = 0;
	int i;

	for (i = 0; i <= HISTOGRAM_BOUNDS; i++) {
		n += number[1 + i];
		fprintf(v->out, "preforkd_%s_bucket{", name);
		label(v, "service", v->s->status.service[service].name);
		if (i < HISTOGRAM_BOUNDS)
			fprintf(v->out, ",le=\"%g\"} %" PRIu64 "\n",
			    (double)histogram_bounds[i] / 1e6, n);
		else
			fprintf(v->out, ",le=\"+Inf\"} %" PRIu64 "\n", n);
	}
	fprintf(v->out, "preforkd_%s_sum{", name);
	label(v, "service", v->s->status.service[service].name);
	fprintf(v->out, "} %" PRIu64 ".%06u\npreforkd_%s_count{",
	    number[0] / 1000000, (unsigned int)(number[0] % 1000000), name);
	label(v, "service", v->s->status.service[service].name);
	fprintf(v->out, "} %" PRIu64 "\n", n);
}

static void
histogram(const struct view *v, const char *name, const char *help,
    enum number sum)
{
	int i;

	head(v, name, "histogram", help);
	for (i = 0; i < CONF_SERVICES_MAX; i++)
		if (used(v, i))
			histogram_of(v, name, i, sum);
}

static void
outcomes(const struct view *v, const char *name, const char *help,
    const uint32_t n[2])
{
	head(v, name, "counter", help);
	fprintf(v->out, "preforkd_%s{result=\"done\"} %u\n"
	    "preforkd_%s{result=\"failed\"} %u\n", name, n[0] - n[1], name,
	    n[1]);
}

static void
put_server(const struct view *v)
{
	const struct status *s = &v->s->status;
	uint32_t state;

	head(v, "build_info", "gauge", "The version that runs, as a label.");
	fprintf(v->out, "preforkd_build_info{");
	label(v, "version", s->product);
	fprintf(v->out, "} 1\n");
	gauge(v, "up", "Whether a master lives.", v->s->alive);
	head(v, "state", "gauge", "1 for the state that the master is in.");
	for (state = MASTER_STARTING; state <= MASTER_STOPPED; state++)
		fprintf(v->out, "preforkd_state{state=\"%s\"} %d\n",
		    master_state_name(state), s->state == state);
	one(v, "start_time_seconds", "gauge",
	    "When the server was started, since the epoch.");
	fprintf(v->out, "%" PRId64 "\n", s->started_at);
	gauge(v, "generation", "The number of the configuration at work.",
	    s->generation);
	gauge(v, "reload_failed", "Whether the last reload has failed.",
	    s->reload == RELOAD_FAILED);
	gauge(v, "upgrade_failed", "Whether the last upgrade has failed.",
	    s->upgrade.outcome == RELOAD_FAILED);
	outcomes(v, "reloads_total", "Reloads that have ended.",
	    (const uint32_t[2]){ s->reloads, s->reloads_failed });
	outcomes(v, "upgrades_total", "Upgrades that have ended.",
	    (const uint32_t[2]){ s->upgrade.ended, s->upgrades_failed });
	counter(v, "forks_total", "Workers that were started.", s->forks);
	counter(v, "clients_cut_total", "Clients that a stop has cut.", s->cut);
	counter(v, "log_dropped_total", "Lines of the log that were lost.",
	    v->s->log_dropped);
}

static void
put_workers(const struct view *v)
{
	static const char *const state[] = {
		"starting", "idle", "busy", "draining", "missing"
	};
	const struct tally *t;
	int i, n;

	head(v, "workers", "gauge",
	    "Workers by state; missing are those whose start is held back.");
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		t = &v->sum[i];
		const unsigned int count[] = { t->starting, t->idle, t->busy,
		    t->draining, v->s->status.service[i].delayed };
		for (n = 0; used(v, i) && n < 5; n++) {
			begin(v, "workers", i);
			fprintf(v->out, ",state=\"%s\"} %u\n", state[n],
			    count[n]);
		}
	}
}

/* What status.service says of each. */
static void
put_limits(const struct view *v)
{
	const struct status_service *row = v->s->status.service;
	int i;

	head(v, "workers_max", "gauge", "The setting workers-max.");
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		if (!used(v, i))
			continue;
		begin(v, "workers_max", i);
		fprintf(v->out, "} %u\n", row[i].workers_max);
	}
	head(v, "throttled", "gauge",
	    "Whether starts are tried one at a time, after early deaths.");
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		if (!used(v, i))
			continue;
		begin(v, "throttled", i);
		fprintf(v->out, "} %d\n", tally_is_throttled(&row[i],
		    &v->sum[i]));
	}
}

static void
put_queues(const struct view *v, bool limit)
{
	const char *name = limit ? "queue_limit" : "queue_clients";
	const struct status_listener *l;
	int i;

	head(v, name, "gauge", limit ? "Clients that the queue takes." :
	    "Clients in the queue of a listening socket; 0 while a worker is "
	    "idle.");
	for (i = 0; i < CONF_LISTENERS_MAX; i++) {
		l = &v->s->status.listener[i];
		if (!l->used)
			continue;
		begin(v, name, (int)l->service);
		putc(',', v->out);
		label(v, "listener", l->name);
		fprintf(v->out, "} %u\n", limit ? l->limit : l->waiting);
	}
}

static void
put_services(const struct view *v)
{
	static const struct kinds refusals = { "refused_total",
	    "Clients turned away, by what refused them.", "reason",
	    refusal_names, REFUSALS };
	static const struct kinds deaths = { "deaths_total",
	    "Workers that died without being asked to leave, by cause.",
	    "cause", death_names, DEATH_CAUSES };

	each(v, "accepted_total", "Clients taken from the queue.",
	    NUMBER_ACCEPTED);
	each(v, "served_total", "Clients served to their end.", NUMBER_SERVED);
	each_kind(v, &refusals, refused);
	each(v, "received_bytes_total", "Bytes from clients that were served.",
	    NUMBER_IN);
	each(v, "sent_bytes_total", "Bytes to clients that were served.",
	    NUMBER_OUT);
	each_kind(v, &deaths, died);
	histogram(v, "service_seconds",
	    "From accept to the end of the service.", NUMBER_SERVICE);
	histogram(v, "wait_seconds", "In the queue, as far as can be known.",
	    NUMBER_WAIT);
}

void
metrics_write(FILE *out, const struct snapshot *s)
{
	static struct view v;

	v.out = out;
	v.s = s;
	tally(s, v.sum);
	put_server(&v);
	put_workers(&v);
	put_limits(&v);
	put_queues(&v, false);
	put_queues(&v, true);
	put_services(&v);
}
