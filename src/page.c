/*
 * page.c: a snapshot as a page of HTML for people, complete without scripts;
 * pagetext.c has the script that keeps it up to date, and the style.
 *
 * Writes and nothing else.  All text that is not ours passes put(), which
 * leaves nothing in it that could end a text or an attribute.  Style and script
 * are named by a nonce, so that the policy allows them and nothing else; there
 * is no other resource.
 *
 * A worker is a cell of 16 bytes: 10,000 of them make a page of some 170 kB.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define CLIENTS		10	/* that have been there longest */
#define DEATHS		10	/* the last ones */
#define HOST		64

/* Text, as characters that mean nothing in HTML; the rest as \x. */
static void
put(FILE *out, const char *text)
{
	size_t left = strlen(text), n, used;
	char unit[LOG_UNIT_MAX];

	for (; left > 0; text += used, left -= used) {
		n = log_unit(unit, text, left, &used);
		if (n == 1 && strchr("<>&\"'", unit[0]) != NULL)
			fprintf(out, "&#%d;", unit[0]);
		else
			fwrite(unit, 1, n, out);
	}
}

/* A cell of a table; class t: of text. */
static void
text(FILE *out, const char *words)
{
	fputs("<td class=t>", out);
	put(out, words);
}

static void
number(FILE *out, uint64_t n)
{
	fprintf(out, "<td>%" PRIu64, n);
}

static const char *
span(int64_t ms, char buf[TALLY_TEXT])
{
	const int64_t s = ms / 1000;

	snprintf(buf, TALLY_TEXT, "%" PRId64 " %s",
	    s < 60 ? s : s < 3600 ? s / 60 : s < 86400 ? s / 3600 : s / 86400,
	    s < 60 ? "s" : s < 3600 ? "min" : s < 86400 ? "h" : "d");
	return buf;
}

static void
put_span(FILE *out, int64_t ms)
{
	char buf[TALLY_TEXT];

	fprintf(out, "<td>%s", span(ms, buf));
}

/*
 * A section with a table, hidden when that is empty: its title, and the heads
 * of columns behind it, have a bar between them, and a dot in front of heads
 * that are over text.
 */
static void
table(FILE *out, const char *id, const char *heads, bool empty)
{
	size_t n = strcspn(heads, "|");
	bool dot;

	fprintf(out, "<section%s><h2>%.*s</h2><table id=%s><thead><tr>",
	    empty ? " hidden" : "", (int)n, heads, id);
	while (heads[n] == '|') {
		heads += n + 1;
		dot = heads[0] == '.';
		n = strcspn(heads, "|");
		fprintf(out, "<th scope=col%s>%.*s", dot ? " class=t" : "",
		    (int)n - dot, heads + dot);
	}
	fputs("<tbody>\n", out);
}

static void
end_table(FILE *out)
{
	fputs("</table></section>\n", out);
}

static void
put_services(FILE *out, const struct snapshot *s, const struct tally *sum)
{
	const struct status_service *row = s->status.service;
	const struct status_listener *l = s->status.listener;
	uint64_t queue[CONF_SERVICES_MAX] = { 0 }, deaths;
	int i, n;

	for (i = 0; i < CONF_LISTENERS_MAX; i++)
		if (l[i].used)
			queue[l[i].service] += l[i].waiting;
	table(out, "services", "Services|.Service|Busy|Idle|Starting|Draining|"
	    "Missing|Max|Queue|Accepted|Refused|Deaths", false);
	for (i = 0; i < CONF_SERVICES_MAX; i++, row++) {
		if (!row->used)
			continue;
		fputs("<tr>", out);
		text(out, row->name);
		number(out, sum[i].busy);
		number(out, sum[i].idle);
		number(out, sum[i].starting);
		number(out, sum[i].draining);
		number(out, row->delayed);
		number(out, row->workers_max);
		number(out, queue[i]);
		number(out, sum[i].number[NUMBER_ACCEPTED]);
		number(out, numbers_refusals(sum[i].number));
		for (deaths = 0, n = 0; n < DEATH_CAUSES; n++)
			deaths += row->deaths[n];
		number(out, deaths);
	}
	end_table(out);
}

/* Its class is the first letter of its state. */
static void
cells(FILE *out, const struct snapshot *s, int service)
{
	const struct slot *c;

	for (c = s->slot; c < s->slot + s->nslots; c++) {
		if ((int)c->service != service)
			continue;
		if (c->seq % 2 != 0)
			fputs("<i class=u></i>", out);
		else if (c->state != SLOT_FREE)
			fprintf(out, "<i class=%c></i>",
			    tally_worker_state(c)[0]);
	}
}

static void
put_workers(FILE *out, const struct snapshot *s, const struct tally *sum)
{
	unsigned int used;
	int i;

	fputs("<section><h2>Workers</h2>\n<p class=quiet>"
	    "<span><i></i>idle or ready</span> <span><i class=b></i>busy"
	    "</span> <span><i class=d></i>draining</span> "
	    "<span><i class=c></i>closing or leaving</span> "
	    "<span><i class=s></i>starting</span> "
	    "<span><i class=u></i>unstable</span>\n<div id=cells>\n", out);
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		if (!s->status.service[i].used)
			continue;
		used = sum[i].busy + sum[i].draining;
		fputs("<h3>", out);
		put(out, s->status.service[i].name);
		fprintf(out, " <small>%u of %u workers in use</small></h3>"
		    "<div>", used, used + sum[i].idle + sum[i].starting);
		cells(out, s, i);
		fputs("</div>\n", out);
	}
	fputs("</div></section>\n", out);
}

/* Those with a client that have had it for longest, the longest first. */
static int
slowest(const struct snapshot *s, uint32_t found[CLIENTS])
{
	const struct slot *slot = s->slot;
	uint32_t i;
	int at, n = 0;

	for (i = 0; i < s->nslots; i++) {
		if (slot[i].seq % 2 != 0 || !look_serving(&slot[i]) ||
		    slot[i].client == 0 || (n == CLIENTS &&
		    slot[i].since >= slot[found[n - 1]].since))
			continue;
		for (at = n < CLIENTS ? n++ : n - 1; at > 0 &&
		    slot[found[at - 1]].since > slot[i].since; at--)
			found[at] = found[at - 1];
		found[at] = i;
	}
	return n;
}

static void
put_clients(FILE *out, const struct snapshot *s)
{
	uint32_t found[CLIENTS];
	const int n = slowest(s, found);
	char peer[ADDRESS_TEXT];
	const struct slot *c;
	int i;

	table(out, "clients", "Slowest clients|Client|.Service|"
	    ".Address|For|Slot|Pid", n == 0);
	for (i = 0; i < n; i++) {
		c = &s->slot[found[i]];
		fputs("<tr>", out);
		number(out, c->client);
		text(out, s->status.service[c->service].name);
		text(out, tally_peer_text(c, peer));
		put_span(out, tally_elapsed(c->since, tally_now(s)));
		number(out, found[i]);
		number(out, (uint64_t)c->pid);
	}
	end_table(out);
}

static void
put_generations(FILE *out, const struct snapshot *s)
{
	const struct status_generation *g = s->status.generations;
	const int64_t now = tally_now(s);
	uint32_t i;

	table(out, "generations", "Generations|Number|.State|Age|Workers|"
	    "Clients|Cut in", false);
	for (i = 0; i < s->status.ngenerations &&
	    i < SCOREBOARD_GENERATIONS; i++, g++) {
		fputs("<tr>", out);
		number(out, g->number);
		text(out, tally_generation_state(&s->status, g));
		put_span(out, tally_elapsed(g->since, now));
		number(out, g->workers);
		number(out, g->clients);
		if (g->until == 0)
			fputs("<td>-", out);
		else
			put_span(out, tally_elapsed(now, g->until));
	}
	end_table(out);
}

static void
put_deaths(FILE *out, const struct status *s)
{
	const struct status_death *d;
	char buf[TALLY_TEXT];
	uint64_t i;

	table(out, "deaths", "Last deaths|.Time|.Service|.How|Pid|Slot|Age|"
	    "Served|Client", s->ndeaths == 0);
	for (i = s->ndeaths; i > 0 && s->ndeaths - i < DEATHS; i--) {
		d = &s->death[(i - 1) % SCOREBOARD_DEATHS];
		fputs("<tr>", out);
		text(out, tally_time(d->at, buf));
		text(out, d->service);
		text(out, tally_death(d, buf));
		number(out, (uint64_t)d->pid);
		number(out, d->slot);
		put_span(out, d->age);
		number(out, d->served);
		if (d->client == 0)
			fputs("<td>-", out);
		else
			number(out, d->client);
	}
	end_table(out);
}

static void
put_head(FILE *out, const struct snapshot *s, const char *nonce)
{
	char host[HOST] = "";

	gethostname(host, sizeof(host) - 1);
	fputs("<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
	    "<meta name=viewport content='width=device-width, "
	    "initial-scale=1'>\n<link rel=icon href='data:,'>\n<title>", out);
	put(out, host);
	fprintf(out, " preforkd: %s</title>\n<style nonce=%s>\n%s</style>\n"
	    "</head>\n<body>\n<header>\n<h1>preforkd on ",
	    master_state_name(s->status.state), nonce, page_style);
	put(out, host);
	fputs("</h1>\n", out);
}

/* How it is, in words, and what it is. */
static void
put_facts(FILE *out, const struct snapshot *s, const struct tally *sum)
{
	const struct status *status = &s->status;
	const int64_t up = tally_elapsed(status->started, tally_now(s));
	char buf[TALLY_TEXT], *why = tally_why(s, sum);

	fprintf(out, "<p id=verdict role=status class=%s>%s",
	    !s->alive ? "down" : why != NULL ? "degraded" : "ok",
	    !s->alive ? "DOWN" : why != NULL ? "DEGRADED: " : "OK");
	if (why != NULL)
		put(out, why);
	free(why);
	fprintf(out, "</p>\n<p id=facts class=quiet>%s for %s, generation %u, "
	    "pid %d, version ", master_state_name(status->state),
	    span(up, buf), status->generation, status->pid);
	put(out, status->product);
	fprintf(out, ", as of %s</p>\n</header>\n",
	    tally_time(status->started_at + up / 1000, buf));
}

static void
put_chart(FILE *out, const char *id, const char *title)
{
	fprintf(out, "<figure><figcaption>%s: <b id=%s></b></figcaption>"
	    "<svg viewBox='0 0 300 60' preserveAspectRatio=none>"
	    "<polyline id=%s-line /></svg></figure>\n", title, id, id);
}

void
page_write(FILE *out, const struct snapshot *s, const char *nonce)
{
	static struct tally sum[CONF_SERVICES_MAX];

	tally(s, sum);
	put_head(out, s, nonce);
	put_facts(out, s, sum);
	fputs("<section id=charts hidden>\n", out);
	put_chart(out, "rate", "Clients per second");
	put_chart(out, "busy", "Busy workers");
	put_chart(out, "queue", "Clients waiting");
	fputs("</section>\n", out);
	put_services(out, s, sum);
	put_workers(out, s, sum);
	put_clients(out, s);
	put_generations(out, s);
	put_deaths(out, &s->status);
	fprintf(out, "<p class=quiet>The same as <a href='status.json'>JSON"
	    "</a>.  <noscript>Load the page again to see how it goes on."
	    "</noscript></p>\n<script nonce=%s>\n%s</script>\n</body>\n"
	    "</html>\n", nonce, page_script);
}
