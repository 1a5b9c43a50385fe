/*
 * state.c: what one master hands over to the next, as text, and back.
 *
 * Owns the form of it.  The first line says `preforkd-state VERSION', the last
 * one `end', and each line between is a record: a word that names its kind,
 * and words NAME=VALUE, in the syntax of parse.c; a value @SIZE stands for so
 * many bytes that follow the line as they are.  Names that the reader does not
 * know are skipped and those it misses are 0 or NULL, so that releases can add
 * some; what is to be understood or else refused needs a new VERSION.
 *
 * Pure and bounded: it trusts no byte, and every number it returns is in the
 * range that its table says; numbers of records name records that are there.
 * It knows nothing of what the numbers mean; that is handover.c.
 */

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "preforkd.h"

#define STATE_VERSION	1
#define MAGIC		"preforkd-state"
#define FD_MAX		(1 << 30)
#define PID_MAX_EVER	(1 << 30)
#define RECORDS_MAX	65536		/* of the kinds without a limit */

enum type { NUMBER, TEXT, BLOCK };

struct field {
	const char	*name;
	enum type	 type;
	size_t		 offset;
	int64_t		 min, max;
};

struct kind {
	const char	*name;
	size_t		 size;		/* of one record */
	int		 least, most;
	const struct field *field;	/* ended by a name of NULL */
};

#define N(kind, name, member, ...) \
	{ name, NUMBER, offsetof(struct state_##kind, member), __VA_ARGS__ }
#define T(kind, name, member) \
	{ name, TEXT, offsetof(struct state_##kind, member), 0, 0 }
#define B(kind, name, member) \
	{ name, BLOCK, offsetof(struct state_##kind, member), 0, 0 }
#define END	{ NULL, NUMBER, 0, 0, 0 }
#define ANY	0, INT64_MAX

static const struct field master_fields[] = {
	T(master, "version", version),
	T(master, "binary", binary),
	T(master, "config", config),
	T(master, "pid-file", pid_file),
	N(master, "pid-fd", pid_fd, -1, FD_MAX),
	N(master, "log-fd", log_fd, 0, FD_MAX),
	N(master, "poke-fd", poke_fd, 0, FD_MAX),
	N(master, "logger", logger, 0, PID_MAX_EVER),
	N(master, "generation", generation, 1, UINT32_MAX),
	N(master, "forks", forks, ANY),
	N(master, "cut", cut, ANY),
	N(master, "shielded", shielded, 0, 1),
	N(master, "oom-score", oom_score, -1000, 1000),
	T(master, "logger-user", logger_user),
	END
};

static const struct field board_fields[] = {
	T(board, "file", file),
	N(board, "layout", layout, ANY),
	N(board, "status-size", status_size, ANY),
	N(board, "slots-size", slots_size, ANY),
	N(board, "nslots", nslots, 1, CONF_SLOTS_MAX),
	N(board, "lock-fd", lock, 0, FD_MAX),
	N(board, "status-fd", status, 0, FD_MAX),
	N(board, "slots-fd", slots, 0, FD_MAX),
	N(board, "counter-fd", counter, 0, FD_MAX),
	END
};

static const struct field past_fields[] = {
	N(past, "started", started, ANY),
	N(past, "started-at", started_at, ANY),
	N(past, "reload", reload, 0, RELOAD_FAILED),
	N(past, "reloads", reloads, 0, UINT32_MAX),
	N(past, "reloads-begun", reloads_begun, 0, UINT32_MAX),
	N(past, "reloaded", reloaded, 0, UINT32_MAX),
	N(past, "reload-at", reload_at, ANY),
	T(past, "reload-why", reload_why),
	N(past, "upgrades", upgrades, 0, UINT32_MAX),
	N(past, "upgrades-begun", upgrades_begun, 0, UINT32_MAX),
	N(past, "upgraded", upgraded, 0, UINT32_MAX),
	N(past, "deaths", deaths, ANY),
	N(past, "log-dropped", log_dropped, ANY),
	N(past, "reloads-failed", reloads_failed, 0, UINT32_MAX),
	N(past, "upgrades-failed", upgrades_failed, 0, UINT32_MAX),
	END
};

static const struct field death_fields[] = {
	N(death, "at", at, ANY),
	N(death, "pid", pid, 0, PID_MAX_EVER),
	N(death, "wait-status", wait_status, 0, INT_MAX),
	N(death, "slot", slot, 0, CONF_SLOTS_MAX),
	N(death, "generation", generation, 0, UINT32_MAX),
	N(death, "killed", killed, 0, 1),
	N(death, "age", age, ANY),
	N(death, "served", served, ANY),
	N(death, "client", client, ANY),
	T(death, "service", service),
	END
};

#define COUNT(name, i)	N(total, name, number[i], ANY)
#define REFUSED(name, i)	COUNT("refused-" name, NUMBER_REFUSED + i)
#define DIED(name, i)	N(total, "deaths-" name, deaths[i], ANY)
/* Named by the upper bounds of numbers.c, which have that meaning for good. */
#define TIMES(name, i) \
	COUNT(name "-sum", i), COUNT(name "-100", i + 1), \
	COUNT(name "-300", i + 2), COUNT(name "-1000", i + 3), \
	COUNT(name "-3000", i + 4), COUNT(name "-10000", i + 5), \
	COUNT(name "-30000", i + 6), COUNT(name "-100000", i + 7), \
	COUNT(name "-300000", i + 8), COUNT(name "-1000000", i + 9), \
	COUNT(name "-3000000", i + 10), COUNT(name "-10000000", i + 11), \
	COUNT(name "-30000000", i + 12), COUNT(name "-100000000", i + 13), \
	COUNT(name "-1000000000", i + 14), COUNT(name "-more", i + 15)

static const struct field total_fields[] = {
	T(total, "service", service),
	COUNT("accepted", NUMBER_ACCEPTED),
	COUNT("served", NUMBER_SERVED),
	COUNT("in", NUMBER_IN),
	COUNT("out", NUMBER_OUT),
	REFUSED("deny", REFUSAL_DENY),
	REFUSED("rules", REFUSAL_RULES),
	REFUSED("default", REFUSAL_DEFAULT),
	REFUSED("per-source", REFUSAL_PER_SOURCE),
	REFUSED("per-source-rate", REFUSAL_PER_SOURCE_RATE),
	REFUSED("proxy-protocol", REFUSAL_PROXY),
	TIMES("wait", NUMBER_WAIT),
	TIMES("service", NUMBER_SERVICE),
	DIED("exit", DEATH_EXIT),
	DIED("signal", DEATH_SIGNAL),
	DIED("sigkill", DEATH_SIGKILL),
	DIED("killed", DEATH_KILLED),
	DIED("start", DEATH_START),
	END
};

static const struct field listener_fields[] = {
	T(listener, "service", service),
	T(listener, "text", text),
	T(listener, "name", name),
	N(listener, "part", part, 0, 1),
	N(listener, "fd", fd, 0, FD_MAX),
	N(listener, "dev", dev, ANY),
	N(listener, "ino", ino, ANY),
	N(listener, "row", row, 0, CONF_LISTENERS_MAX - 1),
	N(listener, "state", state, LISTENER_OPENING, LISTENER_CLOSED),
	N(listener, "empty-since", empty_since, ANY),
	N(listener, "leave-by", leave_by, ANY),
	N(listener, "inherited", inherited, 0, 1),
	N(listener, "broken", broken, 0, 1),
	N(listener, "backlog", backlog, 0, INT_MAX),
	END
};

static const struct field unused_fields[] = {
	N(unused, "fd", fd, 0, FD_MAX),
	T(unused, "name", name),
	END
};

static const struct field generation_fields[] = {
	N(generation, "number", number, 1, UINT32_MAX),
	N(generation, "since", since, ANY),
	N(generation, "leave-from", leave_from, ANY),
	N(generation, "rules-fd", rules, 0, FD_MAX),
	B(generation, "settings", text),
	END
};

static const struct field service_fields[] = {
	N(service, "generation", generation, 0, RECORDS_MAX),
	T(service, "name", name),
	N(service, "early-deaths", early_deaths, 0, INT_MAX),
	N(service, "delay", delay, 0, 3600 * 1000),
	N(service, "retry-at", retry_at, ANY),
	END
};

static const struct field pool_fields[] = {
	N(pool, "service", service, 0, RECORDS_MAX),
	N(pool, "listener", listener, 0, RECORDS_MAX),
	N(pool, "leaving", leaving, 0, 1),
	N(pool, "been-ready", been_ready, 0, INT_MAX),
	END
};

static const struct field child_fields[] = {
	N(child, "slot", slot, 0, CONF_SLOTS_MAX - 1),
	N(child, "pid", pid, 2, PID_MAX_EVER),
	N(child, "epoch", epoch, 0, UINT32_MAX),
	N(child, "pool", pool, 0, RECORDS_MAX),
	N(child, "state", state, CHILD_STARTING, CHILD_KILLED),
	N(child, "born", born, ANY),
	N(child, "kill-at", kill_at, ANY),
	N(child, "was-ready", was_ready, 0, 1),
	N(child, "trial", trial, 0, 1),
	N(child, "blind", blind, 0, 1),
	N(child, "served", served, ANY),
	N(child, "client", client, ANY),
	N(child, "client-seen", client_seen, ANY),
	END
};

static const struct field next_fields[] = {
	N(next, "rules-fd", rules, 0, FD_MAX),
	B(next, "settings", text),
	END
};

static const struct kind kinds[STATE_KINDS] = {
#define K(index, name, least, most) [index] = { #name, \
	sizeof(struct state_##name), least, most, name##_fields }
	K(STATE_MASTER, master, 1, 1),
	K(STATE_BOARD, board, 1, 1),
	K(STATE_PAST, past, 1, 1),
	K(STATE_DEATH, death, 0, SCOREBOARD_DEATHS),
	K(STATE_TOTAL, total, 0, CONF_SERVICES_MAX),
	K(STATE_LISTENER, listener, 1, CONF_LISTENERS_MAX),
	K(STATE_GENERATION, generation, 1, RECORDS_MAX),
	K(STATE_SERVICE, service, 1, RECORDS_MAX),
	K(STATE_POOL, pool, 1, RECORDS_MAX),
	K(STATE_CHILD, child, 0, CONF_SLOTS_MAX),
	K(STATE_NEXT, next, 0, 1),
	K(STATE_UNUSED, unused, 0, CONF_LISTENERS_MAX),
};

/* A member of a record: a number, or a text that the record owns. */
static int64_t *
number_in(void *record, const struct field *f)
{
	return (void *)((char *)record + f->offset);
}

static char **
text_in(void *record, const struct field *f)
{
	return (void *)((char *)record + f->offset);
}

void *
state_add(struct state *s, enum state_kind kind)
{
	struct state_list *list = &s->list[kind];
	const size_t size = kinds[kind].size;
	void *item;

	if (list->n == kinds[kind].most)
		return NULL;
	/* At 0, 1, 2, 4 ... there is no room. */
	if ((list->n & (list->n - 1)) == 0) {
		item = reallocarray(list->item,
		    list->n == 0 ? 1 : (size_t)list->n * 2, size);
		if (item == NULL)
			return NULL;
		list->item = item;
	}
	item = (char *)list->item + (size_t)list->n++ * size;
	memset(item, 0, size);
	return item;
}

void
state_free(struct state *s)
{
	const struct field *f;
	char *item;
	int i, k;

	for (k = 0; k < STATE_KINDS; k++) {
		for (i = 0; i < s->list[k].n; i++) {
			item = (char *)s->list[k].item +
			    (size_t)i * kinds[k].size;
			for (f = kinds[k].field; f->name != NULL; f++)
				if (f->type != NUMBER)
					free(*text_in(item, f));
		}
		free(s->list[k].item);
	}
	memset(s, 0, sizeof(*s));
}

static void
put_record(FILE *out, const struct kind *k, void *item)
{
	char word[PARSE_LINE + 1];
	const struct field *f;
	const char *block = NULL;

	fputs(k->name, out);
	for (f = k->field; f->name != NULL; f++) {
		if (f->type == NUMBER) {
			fprintf(out, " %s=%lld", f->name,
			    (long long)*number_in(item, f));
			continue;
		}
		if (*text_in(item, f) == NULL)
			continue;
		fputc(' ', out);
		if (f->type == BLOCK) {
			block = *text_in(item, f);
			fprintf(out, "%s=@%zu", f->name, strlen(block));
			continue;
		}
		snprintf(word, sizeof(word), "%s=%s", f->name,
		    *text_in(item, f));
		parse_put(out, word);
	}
	fprintf(out, "\n%s", block != NULL ? block : "");
}

void
state_write(const struct state *s, FILE *out)
{
	int i, k;

	fprintf(out, MAGIC " %d\n", STATE_VERSION);
	for (k = 0; k < STATE_KINDS; k++)
		for (i = 0; i < s->list[k].n; i++)
			put_record(out, &kinds[k], (char *)s->list[k].item +
			    (size_t)i * kinds[k].size);
	fputs("end\n", out);
}

/* A block of settings stands behind the line. */
static int
take_block(struct parse *p, char **text, const char *size)
{
	int64_t n;

	if (size[0] != '@' || !parse_number(size + 1, 0, p->end - p->text,
	    &n) || memchr(p->text, '\0', (size_t)n) != NULL)
		return -1;
	free(*text);
	if ((*text = strndup(p->text, (size_t)n)) == NULL)
		return -1;
	p->text += n;
	return 0;
}

static int
take_word(struct parse *p, const struct kind *k, void *item, const char *word)
{
	const char *value = strchr(word, '=');
	const struct field *f;
	size_t len;

	if (value == NULL)
		return -1;
	len = (size_t)(value++ - word);
	for (f = k->field; f->name != NULL; f++)
		if (strlen(f->name) == len && memcmp(f->name, word, len) == 0)
			break;
	if (f->name == NULL)		/* of a later release */
		return 0;
	switch (f->type) {
	case NUMBER:
		return parse_number(value, f->min, f->max,
		    number_in(item, f)) ? 0 : -1;
	case TEXT:
		free(*text_in(item, f));
		*text_in(item, f) = strdup(value);
		return *text_in(item, f) != NULL ? 0 : -1;
	case BLOCK:
		return take_block(p, text_in(item, f), value);
	}
	return -1;
}

/* Numbers that were left out are 0, which not all may be. */
static bool
in_range(const struct kind *k, void *item)
{
	const struct field *f;

	for (f = k->field; f->name != NULL; f++)
		if (f->type == NUMBER && (*number_in(item, f) < f->min ||
		    *number_in(item, f) > f->max))
			return false;
	return true;
}

static int
take_record(struct parse *p, struct state *s)
{
	void *item;
	int i, k;

	for (k = 0; k < STATE_KINDS; k++)
		if (strcmp(kinds[k].name, p->word[0]) == 0)
			break;
	if (k == STATE_KINDS || (item = state_add(s, k)) == NULL)
		return -1;
	for (i = 1; i < p->nwords; i++)
		if (take_word(p, &kinds[k], item, p->word[i]) == -1)
			return -1;
	return in_range(&kinds[k], item) ? 0 : -1;
}

/* What a record names must be there, and texts that are always used. */
static bool
is_whole(const struct state *s)
{
	const struct state_listener *l = s->list[STATE_LISTENER].item;
	const struct state_unused *u = s->list[STATE_UNUSED].item;
	const struct state_generation *g = s->list[STATE_GENERATION].item;
	const struct state_service *v = s->list[STATE_SERVICE].item;
	const struct state_pool *p = s->list[STATE_POOL].item;
	const struct state_child *c = s->list[STATE_CHILD].item;
	const struct state_master *m = s->list[STATE_MASTER].item;
	const struct state_board *b = s->list[STATE_BOARD].item;
	const struct state_next *n = s->list[STATE_NEXT].item;
	int i;

	for (i = 0; i < s->list[STATE_LISTENER].n; i++, l++)
		if (l->service == NULL || l->text == NULL || l->name == NULL)
			return false;
	for (i = 0; i < s->list[STATE_UNUSED].n; i++, u++)
		if (u->name == NULL)
			return false;
	for (i = 0; i < s->list[STATE_GENERATION].n; i++, g++)
		if (g->text == NULL)
			return false;
	for (i = 0; i < s->list[STATE_SERVICE].n; i++, v++)
		if (v->name == NULL ||
		    v->generation >= s->list[STATE_GENERATION].n)
			return false;
	for (i = 0; i < s->list[STATE_POOL].n; i++, p++)
		if (p->service >= s->list[STATE_SERVICE].n ||
		    p->listener >= s->list[STATE_LISTENER].n)
			return false;
	for (i = 0; i < s->list[STATE_CHILD].n; i++, c++)
		if (c->pool >= s->list[STATE_POOL].n || c->slot >= b->nslots)
			return false;
	return m->version != NULL && m->binary != NULL &&
	    (n == NULL || n->text != NULL);
}

static int
judge(const struct state *s, const struct parse *p,
    char error[CONF_ERROR_MAX])
{
	int k;

	for (k = 0; k < STATE_KINDS; k++)
		if (s->list[k].n < kinds[k].least)
			return error_say(error, "the state cannot be read: "
			    "it has no %s", kinds[k].name);
	if (p->nwords == 0 || strcmp(p->word[0], "end") != 0)
		return error_say(error, "the state cannot be read: it has "
		    "no end");
	if (!is_whole(s))
		return error_say(error, "the state cannot be read: it names "
		    "what is not there");
	return 0;
}

int
state_read(struct state *s, const char *text, size_t size,
    char error[CONF_ERROR_MAX])
{
	const char *why = "not a record";
	struct parse p;
	int64_t version;
	int rv;

	memset(s, 0, sizeof(*s));
	parse_start(&p, text, size);
	if (parse_next(&p, &why) != 1 || p.nwords < 2 ||
	    strcmp(p.word[0], MAGIC) != 0 ||
	    !parse_number(p.word[1], 1, INT_MAX, &version))
		return error_say(error, "the state cannot be read: it does not "
		    "begin with " MAGIC);
	if (version > STATE_VERSION)
		return error_say(error, "the state cannot be read: it is of "
		    "version %d, and this program reads up to %d",
		    (int)version, STATE_VERSION);
	while ((rv = parse_next(&p, &why)) == 1) {
		if (strcmp(p.word[0], "end") == 0)
			break;
		if (take_record(&p, s) == -1) {
			rv = -1;
			why = "not a record";
			break;
		}
	}
	if (rv == -1)
		error_say(error, "the state cannot be read: line %d: %s",
		    p.line, why);
	if (rv == -1 || judge(s, &p, error) == -1) {
		state_free(s);
		return -1;
	}
	return 0;
}
