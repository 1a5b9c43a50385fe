/*
 * listing.c: rows for workers and for the sources of clients, selected and
 * sorted.
 *
 * Prints and nothing else; it changes the copy of the slots that it is given.
 * A source is what the service counts as one: the addresses of clients, cut
 * as per-source-prefix says.
 */

#include <sys/types.h>
#include <sys/socket.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "preforkd.h"

/* A worker, and by what it is sorted. */
struct row {
	uint32_t	 slot;
	int64_t		 key;
	const char	*name;		/* first, if not NULL */
};

/* Clients of a source. */
struct group {
	struct rule	 who;
	uint32_t	 service;
	bool		 unix_socket;
	unsigned int	 clients;
	int64_t		 longest;	/* ms */
};

static int64_t
age_of(const struct slot *c)
{
	return tally_elapsed(tally_since(c), clock_now());
}

/* The state's age, and the client if there is one. */
static void
print_worker(const struct status *s, uint32_t number, const struct slot *c)
{
	char client[24] = "-", peer[ADDRESS_TEXT];
	char served[HUMAN_TEXT], age[HUMAN_TEXT];

	/* 0: its proxy has yet to say who it is. */
	if (look_serving(c) && c->client != 0)
		snprintf(client, sizeof(client), "%" PRIu64, c->client);
	printf("%5u %-8s %7d %3u %7s %7s %7s %-21s %s\n",
	    number, tally_worker_state(c), c->pid, c->generation,
	    human_count(served, c->number[NUMBER_SERVED]), client,
	    human_time(age, age_of(c)), tally_peer_text(c, peer),
	    tally_quoted(s->service[c->service].name));
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
	char text[HUMAN_TEXT];

	printf("%5u %7d %7s ", number, c->program,
	    human_time(text, tally_elapsed(c->born, clock_now())));
	if (s->alive && usage_of(c->program, &program) == 0 &&
	    program.parent == c->pid && usage_of(c->pid, &worker) == 0 &&
	    worker.parent == s->status.pid)
		printf("%9s %6" PRId64 ".%02d ", human_kilobytes(text,
		    program.memory), program.cpu / 1000,
		    (int)(program.cpu % 1000 / 10));
	else
		printf("%9s %9s ", "-", "-");
	printf("%s\n", tally_quoted(s->status.service[c->service].name));
}

static void
print_programs(const struct snapshot *s, const struct row *row, uint32_t n)
{
	bool first = true;
	uint32_t i;

	for (i = 0; i < n; i++) {
		if (s->slot[row[i].slot].seq % 2 != 0 ||
		    s->slot[row[i].slot].program == 0)
			continue;
		if (first)
			printf("\n%5s %7s %7s %9s %9s %s\n", "SLOT",
			    "PROGRAM", "AGE", human_is_on() ? "MEMORY" :
			    "KILOBYTES", "CPU", "SERVICE");
		first = false;
		print_program(s, row[i].slot);
	}
}

static bool
selected(const struct server *server, const struct slot *c)
{
	const struct selection *want = &server->selection;
	const struct status *s = &server->now.status;

	if (c->seq % 2 != 0)	/* nothing is known of it */
		return want->state == NULL && want->service == NULL &&
		    want->age == 0;
	if (c->state == SLOT_FREE)
		return false;
	return (want->state == NULL ||
	    strcmp(tally_worker_state(c), want->state) == 0) &&
	    (want->service == NULL ||
	    strcmp(s->service[c->service].name, want->service) == 0) &&
	    age_of(c) >= want->age;
}

static void
sort_key(const struct server *server, struct row *row)
{
	const struct slot *c = &server->now.slot[row->slot];
	const struct status *s = &server->now.status;

	row->key = 0;
	row->name = NULL;
	if (c->seq % 2 != 0)
		return;
	switch (server->selection.order) {
	case ORDER_SLOT:
		break;
	case ORDER_AGE:
		row->key = -age_of(c);
		break;
	case ORDER_SERVED:
		row->key = -(int64_t)c->number[NUMBER_SERVED];
		break;
	case ORDER_SERVICE:
		row->name = s->service[c->service].name;
		break;
	case ORDER_STATE:
		row->name = tally_worker_state(c);
		break;
	}
}

static int
compare_rows(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	int names = 0;

	if (x->name != NULL && y->name != NULL)
		names = strcmp(x->name, y->name);
	if (names != 0)
		return names;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

/* To be freed; *n of them. */
static struct row *
select_rows(const struct server *server, uint32_t *n)
{
	const struct snapshot *s = &server->now;
	struct row *row = calloc(s->nslots + 1, sizeof(*row));
	uint32_t i;

	if (row == NULL)
		fatal("calloc");
	*n = 0;
	for (i = 0; i < s->nslots; i++) {
		if (!selected(server, &s->slot[i]))
			continue;
		row[*n].slot = i;
		sort_key(server, &row[(*n)++]);
	}
	qsort(row, *n, sizeof(*row), compare_rows);
	return row;
}

int
list_workers(struct server *server)
{
	const struct snapshot *s = &server->now;
	int code = show_warning(server);
	struct row *row;
	uint32_t i, n;

	printf("%5s %-8s %7s %3s %7s %7s %7s %-21s %s\n", "SLOT", "STATE",
	    "PID", "GEN", "SERVED", "CLIENT", human_is_on() ? "FOR" :
	    "SECONDS", "ADDRESS", "SERVICE");
	row = select_rows(server, &n);
	for (i = 0; i < n; i++) {
		if (s->slot[row[i].slot].seq % 2 != 0)
			printf("%5u unstable\n", row[i].slot);
		else
			print_worker(&s->status, row[i].slot,
			    &s->slot[row[i].slot]);
	}
	print_programs(s, row, n);
	free(row);
	return code;
}

/* The source of a worker's client; false when it has none. */
static bool
group_of(const struct snapshot *s, const struct slot *c, struct group *g)
{
	const uint32_t *bits = s->status.service[c->service].source_bits;
	struct address a;

	if (c->seq % 2 != 0 || !tally_peer(c, &a))
		return false;
	memset(g, 0, sizeof(*g));
	g->service = c->service;
	g->clients = 1;
	g->longest = age_of(c);
	g->unix_socket = a.ss.ss_family == AF_UNIX;
	if (address_bits(&a, &g->who.who)) {
		g->who.table = g->who.who.ipv6 ? RULES_IPV6 : RULES_IPV4;
		address_cut(&g->who.who, (int)bits[g->who.who.ipv6]);
	}
	return true;
}

static int
compare_sources(const void *a, const void *b)
{
	const struct group *x = a, *y = b;
	const struct prefix *p = &x->who.who, *q = &y->who.who;

	if (x->service != y->service)
		return x->service < y->service ? -1 : 1;
	if (x->who.table != y->who.table)
		return x->who.table < y->who.table ? -1 : 1;
	if (p->bits[0] != q->bits[0])
		return p->bits[0] < q->bits[0] ? -1 : 1;
	if (p->bits[1] != q->bits[1])
		return p->bits[1] < q->bits[1] ? -1 : 1;
	return x->unix_socket - y->unix_socket;
}

/* Those with the most clients first. */
static int
compare_clients(const void *a, const void *b)
{
	const struct group *x = a, *y = b;

	if (x->clients != y->clients)
		return x->clients > y->clients ? -1 : 1;
	return compare_sources(a, b);
}

/* One for each source; returns how many. */
static uint32_t
merge(struct group *group, uint32_t n)
{
	uint32_t i, merged = 0;

	qsort(group, n, sizeof(*group), compare_sources);
	for (i = 0; i < n; i++) {
		if (merged == 0 ||
		    compare_sources(&group[merged - 1], &group[i]) != 0) {
			group[merged++] = group[i];
			continue;
		}
		group[merged - 1].clients++;
		if (group[i].longest > group[merged - 1].longest)
			group[merged - 1].longest = group[i].longest;
	}
	qsort(group, merged, sizeof(*group), compare_clients);
	return merged;
}

static void
print_group(const struct status *s, const struct group *g)
{
	char who[ADDRESS_TEXT], age[HUMAN_TEXT], limit[16] = "-";
	uint32_t most = s->service[g->service].per_source;

	if (most != 0 && !g->unix_socket)
		snprintf(limit, sizeof(limit), "%u", most);
	printf("%-43s %7u %6s %7s %s\n", g->unix_socket ? "unix" :
	    rules_text(&g->who, who, sizeof(who)), g->clients, limit,
	    human_time(age, g->longest),
	    tally_quoted(s->service[g->service].name));
}

int
list_sources(struct server *server)
{
	const struct snapshot *s = &server->now;
	int code = show_warning(server);
	struct group *group = calloc(s->nslots + 1, sizeof(*group));
	uint32_t i, n = 0;

	if (group == NULL)
		fatal("calloc");
	for (i = 0; i < s->nslots; i++)
		if (selected(server, &s->slot[i]) &&
		    group_of(s, &s->slot[i], &group[n]))
			n++;
	n = merge(group, n);
	printf("%-43s %7s %6s %7s %s\n", "SOURCE", "CLIENTS", "LIMIT",
	    human_is_on() ? "LONGEST" : "SECONDS", "SERVICE");
	for (i = 0; i < n; i++)
		print_group(&s->status, &group[i]);
	free(group);
	return code;
}
