/*
 * agent.c: answers the agent-check of HAProxy, in one line: what it is to do
 * with this server, and how much room there is, in per cent of the workers
 * that there may be.
 *
 *	up 75%			ready for clients
 *	up ready 75%		the same, by a server that has just been started
 *	drain			it is stopping: no more of them
 *	down # web is throttled	workers die as soon as they are started
 *
 * It is about the service that `run agent NAME' names, or about the one with
 * the least room.  Clients that wait in a queue take room as those do that are
 * served.  A server that is full says 1%: with 0 on all machines HAProxy would
 * turn clients away that could wait.
 *
 * `ready' takes back the `drain' of a server that was here before.  It is said
 * for the first minute only, for it also takes back what the administrator of
 * HAProxy has set by hand.
 */

#include <inttypes.h>
#include <string.h>

#include "preforkd.h"

#define FRESH_TIME	60000	/* ms */

/* Of all workers that have a client. */
static uint32_t
served(const struct snapshot *s, uint32_t service)
{
	uint32_t i, n = 0;

	for (i = 0; i < s->nslots; i++)
		n += s->slot[i].service == service &&
		    look_serving(&s->slot[i]);
	return n;
}

static uint32_t
queued(const struct status *s, uint32_t service)
{
	uint32_t i, n = 0;

	for (i = 0; i < CONF_LISTENERS_MAX; i++)
		if (s->listener[i].used && s->listener[i].service == service)
			n += s->listener[i].waiting;
	return n;
}

static uint32_t
in_state(const struct snapshot *s, uint32_t service, uint32_t state)
{
	uint32_t i, n = 0;

	for (i = 0; i < s->nslots; i++)
		n += s->slot[i].service == service &&
		    s->slot[i].state == state;
	return n;
}

static int
room(const struct snapshot *s, uint32_t service)
{
	const int64_t most = s->status.service[service].workers_max;
	const int64_t left = most - served(s, service) -
	    queued(&s->status, service);

	return left * 100 <= most ? 1 : (int)(left * 100 / most);
}

/* And nobody is there for the next client, whom it would need to be mended. */
static bool
throttled(const struct snapshot *s, uint32_t service)
{
	const struct status_service *row = &s->status.service[service];

	return row->retry_at != 0 &&
	    in_state(s, service, SLOT_IDLE) == 0 && (row->delayed > 0 ||
	    in_state(s, service, SLOT_STARTING) > 0);
}

/* The room of the least roomy one, or who is throttled, or -1. */
static int
judge(const struct snapshot *s, const char *about, const char **trouble)
{
	const struct status_service *row = s->status.service;
	int least = -1, n;
	uint32_t i;

	*trouble = NULL;
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		if (!row[i].used || row[i].tells || (about[0] != '\0' &&
		    strcmp(row[i].name, about) != 0))
			continue;
		if (throttled(s, i))
			*trouble = row[i].name;
		n = room(s, i);
		if (least == -1 || n < least)
			least = n;
	}
	return least;
}

static void
answer(struct conn *c, const struct snapshot *s)
{
	const bool fresh = clock_now() - s->status.started < FRESH_TIME;
	const char *about = view_about(), *trouble;
	int percent = judge(s, about, &trouble);

	if (!s->alive)
		conn_printf(c, "down # no master\n");
	else if (s->status.state > MASTER_RUNNING)
		conn_printf(c, "drain\n");
	else if (s->status.state == MASTER_STARTING)
		conn_printf(c, "down # starting\n");
	else if (trouble != NULL)
		conn_printf(c, "down # %s is throttled\n", trouble);
	else if (percent == -1)
		conn_printf(c, "down # no service %s\n",
		    about[0] != '\0' ? about : "but this");
	else
		conn_printf(c, "up %s%d%%\n", fresh ? "ready " : "", percent);
}

static void
serve(struct conn *c)
{
	char error[CONF_ERROR_MAX];
	struct snapshot s;

	if (view_take(&s, error) == 0)
		answer(c, &s);
	else
		preforkd_log_warn("%s", error);
	snapshot_free(&s);
}

const struct preforkd_service agent_service = {
	.abi = PREFORKD_ABI,
	.name = "agent",
	.summary = "tell HAProxy how much room there is (agent-check)",
	.serve = serve
};
