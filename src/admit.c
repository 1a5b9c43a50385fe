/*
 * admit.c: whether a connection may come in, and when the next one is taken.
 *
 * In a worker, for the kinds of service that it accepts for.  The rules come
 * first: whom they refuse counts for no limit of a source.  These count over
 * all workers, in the table of sources.c; so does the rate of a service, in the
 * commons.  It never waits: whoever may not come in is refused at once, and the
 * worker is told how long to rest.
 *
 * The rate of a service is kept before accept(2): a worker that finds it
 * reached reserves the next turn and rests until then, so that clients wait
 * in the queue and nobody is refused.  Workers that slept in accept already
 * are the only ones that can exceed it, once.
 */

#include <sys/socket.h>

#include <limits.h>

#include "preforkd.h"

#define SAY_EVERY	10000		/* ms */
#define HESITATE	200000		/* us */

static HOT struct {
	const struct conf_service *conf;
	struct source	*table;
	struct commons_service *service;
	const uint64_t	*secret;
	int		 row, slot;
	bool		 ruled;		/* there are rules, and ... */
	struct rules	 rules;
	const char	*variables;	/* ... what they say of this client */
	bool		 limited;	/* there is a limit per source */
	bool		 hesitated;	/* before the next turn of the rate */
	bool		 reserved;	/* ... and that is ours */
	struct source_limit limit;
	struct source_claim claim;
	int		 nexceptions;
} me = { .variables = "" };
static struct conf_limit exceptions[CONF_EXCEPTIONS_MAX];

static const char *const by_name[] = { "deny", "rules", "default" };

/* us for each; a rate of which there is none has 0 */
static int64_t
interval(const struct conf_rate *rate)
{
	int64_t us;

	if (rate->count == 0)
		return 0;
	us = rate->per * 1000 / rate->count;
	return us > 0 ? us : 1;
}

int
admit_open(const struct worker *w)
{
	if (!conf_has_rules(w->conf))
		return 0;
	me.ruled = true;
	return ruleset_map(&me.rules, w->rules, w->conf->name);
}

/*
 * What was taken at a slower rate, before a reload, or by a service that had
 * this row: no more than a burst and a turn for each worker may be ahead.
 */
static void
forget_slower_rate(void)
{
	const struct conf_rate *rate = &me.conf->rate;
	const int64_t most = clock_now() * 1000 + interval(rate) *
	    (rate->burst + me.conf->workers_max);
	int64_t full_at = atomic_load(&me.service->full_at);

	if (full_at > most)
		atomic_compare_exchange_strong(&me.service->full_at, &full_at,
		    most);
}

bool
admit_start(const struct worker *w)
{
	const struct conf_service *conf = w->conf;
	char *const *line;

	me.conf = conf;
	me.table = w->board->commons->source;
	me.service = &w->board->commons->service[w->service];
	me.secret = w->board->shown->secret;
	me.row = w->service;
	me.slot = w->number;
	forget_slower_rate();
	for (line = conf->per_source_for; line != NULL && *line != NULL &&
	    me.nexceptions < CONF_EXCEPTIONS_MAX; line++)
		if (value_limit(*line, &exceptions[me.nexceptions]))
			me.nexceptions++;
	me.limited = conf->per_source > 0 || me.nexceptions > 0 ||
	    conf->per_source_rate.count > 0;
	return conf->per_source > 0 || me.nexceptions > 0;
}

/* The longest prefix of per-source-for says, else per-source. */
static void
set_limits(const struct prefix *host)
{
	const struct conf_rate *rate = &me.conf->per_source_rate;
	const struct conf_limit *e = NULL;
	int i;

	for (i = 0; i < me.nexceptions; i++)
		if (address_within(host, &exceptions[i].network) &&
		    (e == NULL || exceptions[i].network.length >
		    e->network.length))
			e = &exceptions[i];
	me.limit.most = e != NULL ? e->most : me.conf->per_source;
	if (e != NULL && e->rated)
		rate = &e->rate;
	me.limit.interval = interval(rate);
	me.limit.burst = rate->burst;
}

/* A user's rule, or else that of its group. */
static bool
ask_of_user(int fd, struct rules_answer *answer)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct rule rule;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1) {
		*answer = (struct rules_answer){ .deny = true,
		    .variables = "" };
		return true;
	}
	rules_id(&rule, RULES_UID, peer.uid);
	if (rules_find(&me.rules, RULES_UID, &rule.who, answer))
		return true;
	rules_id(&rule, RULES_GID, peer.gid);
	return rules_find(&me.rules, RULES_GID, &rule.who, answer);
}

static const char *
ask_rules(const struct conn *c)
{
	struct rules_answer answer;
	struct prefix who;
	bool found;

	if (address_bits(&c->peer, &who))
		found = rules_find(&me.rules, who.ipv6 ? RULES_IPV6 :
		    RULES_IPV4, &who, &answer);
	else
		found = ask_of_user(c->fd, &answer);
	if (!found)
		rules_otherwise(&me.rules, &answer);
	me.variables = answer.variables;
	return answer.deny ? by_name[answer.by] : NULL;
}

const char *
admit_variables(void)
{
	return me.variables;
}

static const char *
claim(const struct conn *c)
{
	struct prefix source;

	me.claim.key = 0;
	if (!address_bits(&c->peer, &source))
		return NULL;		/* a Unix socket has no addresses */
	me.limit.now = clock_now() * 1000;	/* a proxy may take its time */
	set_limits(&source);
	address_cut(&source, source.ipv6 ? me.conf->per_source_prefix.ipv6 :
	    me.conf->per_source_prefix.ipv4);
	me.claim.key = source_key(&source, me.row, me.secret);
	switch (source_claim(me.table, &me.claim, me.slot, &me.limit)) {
	case SOURCE_ADMITTED:
	case SOURCE_UNKNOWN:
		return NULL;
	case SOURCE_FULL:
		return "per-source";
	case SOURCE_TOO_FAST:
		return "per-source-rate";
	}
	return NULL;
}

/* Take a turn of the rate of the service; returns when it is over, in us. */
static int64_t
take_turn(int64_t now)
{
	_Atomic int64_t *full_at = &me.service->full_at;
	int64_t seen = atomic_load(full_at), next;

	do
		next = (seen > now ? seen : now) + interval(&me.conf->rate);
	while (!atomic_compare_exchange_weak(full_at, &seen, next));
	return next;
}

const char *
admit(const struct conn *c)
{
	const char *why;

	if (me.conf->rate.count > 0 && !me.reserved)
		take_turn(c->started * 1000);
	me.reserved = false;
	if (me.ruled && (why = ask_rules(c)) != NULL)
		return why;
	return me.limited ? claim(c) : NULL;
}

/* Once a window, by one of the workers, and how often since. */
static void
say_paused(int64_t now)
{
	int64_t said = atomic_load(&me.service->said_at);

	atomic_fetch_add(&me.service->paused, 1);
	if (now - said < SAY_EVERY || !atomic_compare_exchange_strong(
	    &me.service->said_at, &said, now))
		return;
	log_warnx("accepting pauses, the rate is reached service=%s "
	    "pauses=%llu", me.conf->name, (unsigned long long)
	    atomic_exchange(&me.service->paused, 0));
}

/*
 * A turn is not taken at once: in a reload those of the older generation are
 * about to give theirs back, and who took one behind them would wait for long.
 */
int
admit_pause(void)
{
	const int64_t turn = interval(&me.conf->rate);
	const int64_t room = turn * me.conf->rate.burst;
	int64_t now, at;

	if (turn == 0 || me.reserved)
		return 0;
	now = clock_now() * 1000;
	at = atomic_load(&me.service->full_at) + turn - room;
	me.hesitated = !me.hesitated && at > now + HESITATE;
	if (at <= now)
		return 0;
	if (me.hesitated)
		return HESITATE / 1000;
	at = take_turn(now) - room;
	me.reserved = true;
	say_paused(now / 1000);
	if (at <= now)
		return 0;
	return at - now > INT_MAX ? INT_MAX : (int)((at - now + 999) / 1000);
}

bool
admit_refuse(const struct conn *c)
{
	const struct linger at_once = { .l_onoff = 1 };
	const struct conf_refuse *refuse = &me.conf->refuse;
	char text[CONF_REFUSE_MAX + 2];
	int n;

	if (refuse->how == CONF_REFUSE_MESSAGE) {
		n = snprintf(text, sizeof(text), "%s\r\n", refuse->text);
		/* Whoever takes nothing is not told. */
		return send(c->fd, text, (size_t)n, MSG_DONTWAIT |
		    MSG_NOSIGNAL) == n;
	}
	if (refuse->how == CONF_REFUSE_RESET)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once,
		    sizeof(at_once));
	return false;
}

bool
admit_again(void)
{
	struct source_limit limit = me.limit;

	limit.interval = 0;
	return me.claim.key == 0 || source_claim(me.table, &me.claim, me.slot,
	    &limit) != SOURCE_FULL;
}

void
admit_give_back(void)
{
	if (me.reserved)
		atomic_fetch_sub(&me.service->full_at,
		    interval(&me.conf->rate));
	me.reserved = false;
}

void
admit_left(void)
{
	source_release(&me.claim, me.slot);
}
