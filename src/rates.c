/*
 * rates.c: a line of rates for each interval, as vmstat(8) prints them.
 *
 * The first line tells of all the time since the server's start.  Each looks
 * for the files anew, so that a restart is followed; numbers then begin anew.
 */

#include <poll.h>
#include <string.h>

#include "preforkd.h"

#define HEAD_EVERY	20	/* lines */

/* What has been counted by a time, and what is there at it. */
struct sample {
	int64_t		 at;		/* ms */
	int64_t		 started;
	uint64_t	 number[NUMBERS];
	uint64_t	 deaths;
	unsigned int	 busy, idle, queued;
};

static void
take(const struct server *server, struct sample *to)
{
	static struct tally sum[CONF_SERVICES_MAX];
	const struct status *s = &server->now.status;
	const char *only = server->selection.service;
	const struct status_listener *l;
	int i, n;

	memset(to, 0, sizeof(*to));
	to->at = tally_now(&server->now);
	to->started = s->started;
	tally(&server->now, sum);
	for (i = 0; i < CONF_SERVICES_MAX; i++) {
		if (!s->service[i].used || (only != NULL &&
		    strcmp(s->service[i].name, only) != 0))
			continue;
		for (n = 0; n < NUMBERS; n++)
			to->number[n] += sum[i].number[n];
		for (n = 0; n < DEATH_CAUSES; n++)
			to->deaths += s->service[i].deaths[n];
		to->busy += sum[i].busy + sum[i].draining;
		to->idle += sum[i].idle;
		for (l = s->listener; l < s->listener + CONF_LISTENERS_MAX;
		    l++)
			if (l->used && (int)l->service == i)
				to->queued += l->waiting;
	}
}

static uint64_t
rate(uint64_t from, uint64_t to, int64_t ms)
{
	const double n = (double)human_grown(from, to);

	return ms <= 0 ? 0 : (uint64_t)(n * 1000 / (double)ms + 0.5);
}

static void
print_head(void)
{
	printf("%7s %7s %7s %7s %7s %8s %8s %5s %5s %5s %4s\n", "ACCEPT",
	    "REFUSE", "SERVED", "IN", "OUT", "TIME", "WAIT", "BUSY", "IDLE",
	    "QUEUE", "DIED");
}

static void
print(const struct sample *from, const struct sample *to)
{
	const uint64_t *a = from->number, *b = to->number;
	const int64_t ms = to->at - from->at;
	char text[7][HUMAN_TEXT];

	printf("%7s %7s %7s %7s %7s %8s %8s %5u %5u %5u %4s\n",
	    human_count(text[0], rate(a[NUMBER_ACCEPTED], b[NUMBER_ACCEPTED],
	    ms)),
	    human_count(text[1], rate(numbers_refusals(a),
	    numbers_refusals(b), ms)),
	    human_count(text[2], rate(a[NUMBER_SERVED], b[NUMBER_SERVED], ms)),
	    human_size(text[3], rate(a[NUMBER_IN], b[NUMBER_IN], ms)),
	    human_size(text[4], rate(a[NUMBER_OUT], b[NUMBER_OUT], ms)),
	    human_mean(text[5], &a[NUMBER_SERVICE], &b[NUMBER_SERVICE]),
	    human_mean(text[6], &a[NUMBER_WAIT], &b[NUMBER_WAIT]),
	    to->busy, to->idle, to->queued,
	    human_count((char[HUMAN_TEXT]){ 0 },
	    human_grown(from->deaths, to->deaths)));
}

/* Until it is time for the next line. */
static void
pause_until(int64_t when)
{
	int64_t ms;

	fflush(stdout);
	while ((ms = when - clock_now()) > 0)
		poll(NULL, 0, ms < INT_MAX ? (int)ms : INT_MAX);
}

static int
read_again(struct server *server)
{
	const char *path = server->now.file[0].name;
	char error[CONF_ERROR_MAX], name[PATH_MAX];

	strlcpy(name, path, sizeof(name));
	snapshot_free(&server->now);
	snapshot_init(&server->now, name);
	if (snapshot_read(&server->now, error) == 0 &&
	    snapshot_read_slots(&server->now, error) == 0)
		return 0;
	log_warnx("%s", error);
	return -1;
}

int
rates_show(struct server *server)
{
	struct sample before = { .at = 0 }, now;
	const int64_t began = clock_now();
	int64_t line = 0;
	int code;

	for (;;) {
		code = show_warning(server);
		take(server, &now);
		if (now.started != before.started)
			before = (struct sample){ .at = now.started };
		if (line % HEAD_EVERY == 0)
			print_head();
		print(&before, &now);
		before = now;
		if (++line == server->count || code != CTL_OK ||
		    ferror(stdout))
			return code;
		pause_until(began + line * server->interval);
		if (read_again(server) == -1)
			return CTL_UNKNOWN;
	}
}
