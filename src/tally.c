/*
 * tally.c: what a snapshot adds up to, and how it is put in words, for all who
 * show it: tables, JSON, metrics.
 *
 * Pure.  Numbers come clamped from snapshot.c; text that is not ours is
 * escaped once, here or by the caller, as the header says.
 */

#include <sys/socket.h>
#include <sys/wait.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "preforkd.h"

/*
 * Of an unstable slot each word still is true: a sum may use it.  What a free
 * slot counted is part of its service's totals already.
 */
unsigned int
tally(const struct snapshot *s, struct tally sum[CONF_SERVICES_MAX])
{
	static const struct slot none;
	unsigned int unstable = 0;
	const struct slot *c;
	struct tally *t;
	int i;

	memset(sum, 0, CONF_SERVICES_MAX * sizeof(*sum));
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		memcpy(sum[i].number, s->status.service[i].number,
		    sizeof(sum[i].number));
		numbers_add(sum[i].number, &none);	/* now in range */
	}
	for (c = s->slot; c < s->slot + s->nslots; c++) {
		unstable += c->seq % 2 != 0;
		if (c->service >= CONF_SERVICES_MAX || c->state == SLOT_FREE)
			continue;
		t = &sum[c->service];
		numbers_add(t->number, c);
		t->starting += c->state == SLOT_STARTING;
		t->idle += c->state == SLOT_IDLE;
		t->programs += c->program != 0;
		t->busy += c->state == SLOT_BUSY || c->state == SLOT_CLOSING;
		t->draining += c->state == SLOT_DRAINING ||
		    c->state == SLOT_LEAVING;
	}
	return unstable;
}

const char *
tally_quoted(const char *text)
{
	static char buf[1024];

	return log_quote(buf, sizeof(buf), text, strlen(text));
}

bool
tally_is_throttled(const struct status_service *row, const struct tally *t)
{
	return row->retry_at != 0 && row->delayed + t->starting > 0;
}

static void
service_troubles(FILE *out, const struct status_service *row,
    const struct tally *t)
{
	if (tally_is_throttled(row, t))
		fprintf(out, "%s is throttled; ", tally_quoted(row->name));
	else if (row->delayed > 0)
		fprintf(out, "%s lacks workers; ", tally_quoted(row->name));
	if (t->busy > 0 && t->busy >= row->workers_max)
		fprintf(out, "%s is full; ", tally_quoted(row->name));
}

void
tally_troubles(FILE *out, const struct snapshot *s, const struct tally *sum)
{
	const struct status *status = &s->status;
	char why[4 * sizeof(status->reload_why)];
	int i;

	if (status->state != MASTER_RUNNING)
		fprintf(out, "%s; ", master_state_name(status->state));
	/* Its values were escaped when it was made. */
	if (status->reload == RELOAD_FAILED)
		fprintf(out, "the last reload failed (%s); ",
		    log_quoted(why, sizeof(why), status->reload_why));
	if (status->upgrade.outcome == RELOAD_FAILED)
		fprintf(out, "the last upgrade failed (%s); ",
		    tally_quoted(status->upgrade.why));
	for (i = 0; i < CONF_SERVICES_MAX; i++)
		if (status->service[i].used)
			service_troubles(out, &status->service[i], &sum[i]);
}

char *
tally_why(const struct snapshot *s, const struct tally *sum)
{
	char *why = NULL;
	size_t size = 0;
	FILE *out;

	if (!s->alive || (out = open_memstream(&why, &size)) == NULL)
		return NULL;
	tally_troubles(out, s, sum);
	if (fclose(out) == 0 && size > 2) {
		why[size - 2] = '\0';
		return why;
	}
	free(why);
	return NULL;
}

int64_t
tally_elapsed(int64_t from, int64_t to)
{
	return from > 0 && to > from ? to - from : 0;
}

int64_t
tally_now(const struct snapshot *s)
{
	return s->alive ? clock_now() : s->status.updated;
}

const char *
tally_worker_state(const struct slot *c)
{
	return c->program != 0 && c->state == SLOT_IDLE ? "ready" :
	    slot_state_name(c->state);
}

const char *
tally_generation_state(const struct status *s,
    const struct status_generation *g)
{
	return g->until != 0 ? "leaving" :
	    g->number == s->generation ? "serving" : "starting";
}

int64_t
tally_since(const struct slot *c)
{
	return c->state == SLOT_STARTING ? c->born : c->since;
}

bool
tally_peer(const struct slot *c, struct address *a)
{
	const uint64_t ip[2] = { c->peer[0], c->peer[1] };
	const uint32_t family = c->peer_family;

	if (!look_serving(c))
		return false;
	if (family == AF_INET || family == AF_INET6) {
		address_inet(a, (int)family, ip, htons((uint16_t)c->peer_port));
		return true;
	}
	memset(a, 0, sizeof(*a));
	a->ss.ss_family = AF_UNIX;
	a->len = sizeof(sa_family_t);
	return family == AF_UNIX;
}

const char *
tally_peer_text(const struct slot *c, char buf[ADDRESS_TEXT])
{
	struct address a;

	if (!tally_peer(c, &a))
		strlcpy(buf, "-", ADDRESS_TEXT);
	else if (a.ss.ss_family == AF_UNIX)
		strlcpy(buf, "unix", ADDRESS_TEXT);
	else
		address_text(&a, buf, ADDRESS_TEXT);
	return buf;
}

static const char *
exit_text(int code, char buf[TALLY_TEXT])
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
		snprintf(buf, TALLY_TEXT, "exit %d", code);
		return buf;
	}
}

const char *
tally_death(const struct status_death *d, char buf[TALLY_TEXT])
{
	int status = d->wait_status;

	if (WIFEXITED(status) && d->program == 0)
		return exit_text(WEXITSTATUS(status), buf);
	if (WIFEXITED(status)) {
		snprintf(buf, TALLY_TEXT, "exit %d", WEXITSTATUS(status));
		return buf;
	}
	if (!WIFSIGNALED(status))
		return "?";
	if (WTERMSIG(status) == SIGKILL && d->killed)
		return "killed";
	snprintf(buf, TALLY_TEXT, "%s%s", sig_name(WTERMSIG(status)),
	    WCOREDUMP(status) ? "+core" : "");
	return buf;
}

const char *
tally_time(int64_t at, char buf[TALLY_TEXT])
{
	time_t t = (time_t)at;
	struct tm tm;

	if (at <= 0 || gmtime_r(&t, &tm) == NULL ||
	    strftime(buf, TALLY_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		strlcpy(buf, "-", TALLY_TEXT);
	return buf;
}
