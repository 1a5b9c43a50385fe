/*
 * rules.c: rules of who may come in; their compiled form, made and looked up.
 *
 * A rule stands for a prefix, and the longest that matches decides.  Compiled,
 * the prefixes of a table are cut into intervals that do not overlap: a sorted
 * array of where each begins, and one of what holds from there on.  So one
 * binary search finds the rule, whatever the number of lengths, and touches
 * few pages.  Users and groups are prefixes of all of their 32 bits.
 *
 * Pure: called by the child that compiles (ruleset.c) and by workers.  Those
 * trust no byte of the compiled form: rules_open() checks what bounds
 * everything else in time that does not depend on the number of rules, so that
 * a spoilt one may give wrong answers, but nothing outside of it is touched.
 * The form is for one machine; RULES_VERSION changes when it does.
 */

#include <arpa/inet.h>

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "preforkd.h"

#define RULES_MAGIC	0x70726566756c6573ULL
#define RULES_VERSION	1
#define DEPTH		130		/* prefixes within each other */

/* Where something is, in bytes from the beginning. */
struct rules_head {
	uint64_t	 magic;
	uint32_t	 version;
	uint32_t	 nservices;	/* that follow */
};

/* What holds: 0 is no rule, else the text's offset and two small numbers. */
enum { SAYS_NOTHING, SAYS_ALLOW, SAYS_DENY };
#define SAYS_BITS	2
#define BY_BITS		2
#define MASK(bits)	((1U << (bits)) - 1)

/* The key of a table that has 128 bits; others have the first 32. */
struct key {
	uint64_t	 word[2];
};

struct interval {
	struct key	 from;
	uint32_t	 value;
};

/* Intervals so far, and the prefixes that the next one begins within. */
struct cutter {
	struct interval	*interval;
	size_t		 n;
	int		 depth;
	struct {
		struct key last;
		uint32_t value;
	} within[DEPTH];
};

/* The list */

static bool
grow(void **array, size_t *room, size_t need, size_t size)
{
	size_t more = *room;
	void *p;

	if (need <= *room)
		return true;
	while (more < need)
		more = more == 0 ? 16 : more * 2;
	if ((p = reallocarray(*array, more, size)) == NULL)
		return false;
	*array = p;
	*room = more;
	return true;
}

bool
rules_add(struct rule_list *list, const struct rule *rule)
{
	void *array = list->rule;
	bool grown;

	grown = grow(&array, &list->room, list->n + 1, sizeof(*rule));
	list->rule = array;
	if (grown)
		list->rule[list->n++] = *rule;
	return grown;
}

/* Offset 0 is an empty text, and so the variables of most rules. */
size_t
rules_add_text(struct rule_list *list, const char *text, size_t size)
{
	const size_t at = list->size == 0 ? 1 : list->size;
	void *array = list->text;
	bool grown;

	grown = grow(&array, &list->text_room, at + size + 1, 1);
	list->text = array;
	if (!grown || at + size + 1 > RULES_TEXT)
		return 0;
	list->text[0] = '\0';
	memcpy(list->text + at, text, size);
	list->text[at + size] = '\0';
	list->size = at + size + 1;
	return at;
}

void
rules_free(struct rule_list *list)
{
	free(list->rule);
	free(list->text);
	memset(list, 0, sizeof(*list));
}

/* Variables are strings, one after the other, and an empty one. */
static size_t
variables_size(const char *text)
{
	const char *p = text;

	while (*p != '\0')
		p += strlen(p) + 1;
	return (size_t)(p - text);
}

static bool
same_variables(const struct rule_list *list, const struct rule *a,
    const struct rule *b)
{
	const char *x, *y;

	if (a->variables == b->variables)
		return true;
	x = list->text + a->variables;
	y = list->text + b->variables;
	return variables_size(x) == variables_size(y) &&
	    memcmp(x, y, variables_size(x)) == 0;
}

static int
compare_keys(const struct key *a, const struct key *b)
{
	int i;

	for (i = 0; i < 2; i++)
		if (a->word[i] != b->word[i])
			return a->word[i] < b->word[i] ? -1 : 1;
	return 0;
}

static struct key
first_of(const struct rule *rule)
{
	return (struct key){ { rule->who.bits[0], rule->who.bits[1] } };
}

/* By table, then from the left, the shorter prefix first. */
static int
compare_who(const struct rule *a, const struct rule *b)
{
	const struct key x = first_of(a), y = first_of(b);
	int rv;

	if (a->table != b->table)
		return a->table < b->table ? -1 : 1;
	if ((rv = compare_keys(&x, &y)) != 0)
		return rv;
	return a->who.length - b->who.length;
}

/* Of equal ones, lines of the configuration come before those of a file. */
static int
compare_rules(const void *x, const void *y)
{
	const struct rule *a = x, *b = y;
	int rv = compare_who(a, b);

	if (rv != 0)
		return rv;
	if (a->by != b->by)
		return a->by < b->by ? -1 : 1;
	return a->line < b->line ? -1 : a->line > b->line;
}

bool
rules_settle(struct rule_list *list, const struct rule *clash[2])
{
	struct rule *r = list->rule;
	size_t i, n = 0;

	if (list->n == 0)
		return true;
	qsort(r, list->n, sizeof(*r), compare_rules);
	for (i = 1; i < list->n; i++) {
		if (compare_who(&r[n], &r[i]) != 0) {
			r[++n] = r[i];
			continue;
		}
		clash[0] = &r[n];
		clash[1] = &r[i];
		if (r[n].deny != r[i].deny ||
		    !same_variables(list, &r[n], &r[i]))
			return false;
	}
	list->n = n + 1;
	return true;
}

char *
rules_text(const struct rule *rule, char *buf, size_t size)
{
	const uint64_t bits[2] = { htobe64(rule->who.bits[0]),
	    htobe64(rule->who.bits[1]) };
	const bool ipv6 = rule->table == RULES_IPV6;
	char host[INET6_ADDRSTRLEN];

	if (rule->table == RULES_UID || rule->table == RULES_GID) {
		snprintf(buf, size, "%s=%llu", rule->table == RULES_UID ?
		    "uid" : "gid",
		    (unsigned long long)(rule->who.bits[0] >> 32));
		return buf;
	}
	inet_ntop(ipv6 ? AF_INET6 : AF_INET, bits, host, sizeof(host));
	if (rule->table == RULES_ANY)
		strlcpy(buf, "", size);
	else if (rule->who.length == (ipv6 ? 128 : 32))
		strlcpy(buf, host, size);
	else
		snprintf(buf, size, "%s/%d", host, rule->who.length);
	return buf;
}

void
rules_id(struct rule *rule, enum rules_table table, uint32_t id)
{
	rule->table = table;
	rule->who = (struct prefix){ .bits = { (uint64_t)id << 32, 0 },
	    .length = 32 };
}

/* Compiling */

static uint32_t
value_of(bool deny, enum rules_by by, size_t variables)
{
	return (uint32_t)variables << (SAYS_BITS + BY_BITS) |
	    (uint32_t)by << SAYS_BITS | (deny ? SAYS_DENY : SAYS_ALLOW);
}

static struct key
last_of(const struct rule *rule)
{
	const int width = rule->table == RULES_IPV6 ? 128 : 32;
	struct key key = first_of(rule);
	int i, length;

	for (i = 0; i < 2 && i * 64 < width; i++) {
		length = rule->who.length - i * 64;
		if (length <= 0)
			key.word[i] = UINT64_MAX;
		else if (length < 64)
			key.word[i] |= UINT64_MAX >> length;
	}
	if (width == 32)
		key.word[0] &= ~(uint64_t)UINT32_MAX;
	return key;
}

/* From here on the value holds; of two that begin here, the later one. */
static void
cut(struct cutter *c, struct key from, uint32_t value)
{
	struct interval *next = &c->interval[c->n];

	if (c->n > 0 && compare_keys(&next[-1].from, &from) == 0)
		next[-1].value = value;
	else if (c->n == 0 || next[-1].value != value) {
		*next = (struct interval){ from, value };
		c->n++;
	}
}

/* The innermost prefix ends: what is around it holds again. */
static void
leave(struct cutter *c, enum rules_table table)
{
	struct key next = c->within[--c->depth].last;
	const uint64_t one = table == RULES_IPV6 ? 1 : UINT64_C(1) << 32;
	const int word = table == RULES_IPV6;

	next.word[word] += one;
	if (next.word[word] == 0 && (word == 0 || ++next.word[0] == 0))
		return;			/* it was the last address */
	cut(c, next, c->depth > 0 ? c->within[c->depth - 1].value :
	    SAYS_NOTHING);
}

/* The rules of one table, sorted: at most two intervals for each and one. */
static void
cut_table(struct cutter *c, const struct rule *rule, size_t n)
{
	struct key first;
	size_t i;

	for (i = 0; i < n; i++) {
		first = first_of(&rule[i]);
		while (c->depth > 0 && compare_keys(
		    &c->within[c->depth - 1].last, &first) < 0)
			leave(c, rule->table);
		c->within[c->depth].last = last_of(&rule[i]);
		c->within[c->depth++].value = value_of(rule[i].deny,
		    rule[i].by, rule[i].variables);
		cut(c, first, c->within[c->depth - 1].value);
	}
	while (c->depth > 0)
		leave(c, rule->table);
}

/* Beginnings of 16 or 4 bytes, then values of 4; each at a multiple of 8. */
static void
align(FILE *out)
{
	int i;

	for (i = 0; i < 8 && ftello(out) % 8 != 0; i++)
		fputc(0, out);
}

static void
put_table(FILE *out, const struct cutter *c, enum rules_table table,
    struct rules_part *part)
{
	uint32_t word;
	size_t i;

	part->n = (uint32_t)c->n;
	align(out);
	part->keys = (uint64_t)ftello(out);
	for (i = 0; i < c->n; i++) {
		word = (uint32_t)(c->interval[i].from.word[0] >> 32);
		if (table == RULES_IPV6)
			fwrite(&c->interval[i].from, sizeof(struct key), 1,
			    out);
		else
			fwrite(&word, sizeof(word), 1, out);
	}
	align(out);
	part->values = (uint64_t)ftello(out);
	for (i = 0; i < c->n; i++)
		fwrite(&c->interval[i].value, sizeof(uint32_t), 1, out);
}

static int
put_service(FILE *out, const struct rules_source *source,
    struct rules_service *s)
{
	const struct rule_list *list = &source->list;
	const struct rule *r = list->rule;
	struct cutter c = { .n = 0 };
	size_t i, n;

	strlcpy(s->name, source->service, sizeof(s->name));
	s->otherwise = value_of(source->deny, RULES_BY_DEFAULT, 0);
	c.interval = reallocarray(NULL, list->n * 2 + 1, sizeof(*c.interval));
	if (c.interval == NULL)
		return -1;
	for (i = 0; i < list->n; i += n) {
		for (n = 1; i + n < list->n; n++)
			if (r[i + n].table != r[i].table)
				break;
		c.n = 0;
		if (r[i].table == RULES_ANY) {
			s->otherwise = value_of(r[i].deny, r[i].by,
			    r[i].variables);
			continue;
		}
		cut_table(&c, &r[i], n);
		put_table(out, &c, r[i].table, &s->part[r[i].table]);
	}
	free(c.interval);
	s->text = (uint64_t)ftello(out);
	s->text_size = list->size + 2;
	fwrite(list->size > 0 ? list->text : "", 1, list->size, out);
	fwrite("\0", 1, 2, out);
	return 0;
}

char *
rules_compile(const struct rules_source *source, int n, size_t *size)
{
	struct rules_head head = { RULES_MAGIC, RULES_VERSION, (uint32_t)n };
	struct rules_service service[CONF_SERVICES_MAX];
	char *image = NULL;
	FILE *out;
	int i, rv = 0;

	memset(service, 0, sizeof(service));
	if ((out = open_memstream(&image, size)) == NULL)
		return NULL;
	fwrite(&head, sizeof(head), 1, out);
	fwrite(service, sizeof(service[0]), (size_t)n, out);
	for (i = 0; i < n && rv == 0; i++)
		rv = put_service(out, &source[i], &service[i]);
	if (ferror(out))
		rv = -1;
	if (fclose(out) == EOF || rv == -1) {
		free(image);
		return NULL;
	}
	memcpy(image + sizeof(head), service, (size_t)n * sizeof(service[0]));
	return image;
}

/* Looking up */

static bool
fits(uint64_t at, uint64_t n, uint64_t width, uint64_t size)
{
	return at % 8 == 0 && at <= size && n <= (size - at) / width;
}

static bool
is_sound(const struct rules_service *s, const char *image, size_t size)
{
	const struct rules_part *p;
	int i;

	for (i = 0; i < RULES_ANY; i++) {
		p = &s->part[i];
		if (!fits(p->keys, p->n, i == RULES_IPV6 ?
		    sizeof(struct key) : sizeof(uint32_t), size) ||
		    !fits(p->values, p->n, sizeof(uint32_t), size))
			return false;
	}
	/* The end of all variables, wherever somebody begins to read them. */
	return s->text <= size && s->text_size <= size - s->text &&
	    s->text_size >= 2 && image[s->text + s->text_size - 1] == '\0' &&
	    image[s->text + s->text_size - 2] == '\0';
}

bool
rules_open(struct rules *rules, const void *image, size_t size,
    const char *service)
{
	const struct rules_service *s;
	struct rules_head head;
	uint32_t i;

	if (size < sizeof(head))
		return false;
	memcpy(&head, image, sizeof(head));
	if (head.magic != RULES_MAGIC || head.version != RULES_VERSION ||
	    head.nservices > (size - sizeof(head)) / sizeof(*s))
		return false;
	s = (const void *)((const char *)image + sizeof(head));
	for (i = 0; i < head.nservices; i++, s++) {
		if (strncmp(s->name, service, sizeof(s->name)) != 0)
			continue;
		rules->image = image;
		rules->service = *s;
		return is_sound(&rules->service, rules->image, size);
	}
	return false;
}

/* The last of n that is not above the key; the first, if all are. */
static size_t
search(const uint32_t *key, size_t n, uint32_t want)
{
	size_t at = 0, half;

	for (; n > 1; n -= half) {
		half = n / 2;
		at += key[at + half] <= want ? half : 0;
	}
	return at;
}

static size_t
search_long(const struct key *key, size_t n, const struct key *want)
{
	size_t at = 0, half;

	for (; n > 1; n -= half) {
		half = n / 2;
		at += compare_keys(&key[at + half], want) <= 0 ? half : 0;
	}
	return at;
}

static uint32_t
look_up(const struct rules *rules, enum rules_table table,
    const struct prefix *who)
{
	const struct rules_part *p = &rules->service.part[table];
	const void *keys = rules->image + p->keys;
	const uint32_t *values = (const void *)(rules->image + p->values);
	const struct key want = { { who->bits[0], who->bits[1] } };
	const uint32_t word = (uint32_t)(want.word[0] >> 32);
	size_t at;

	if (p->n == 0)
		return SAYS_NOTHING;
	if (table == RULES_IPV6) {
		at = search_long(keys, p->n, &want);
		return compare_keys((const struct key *)keys + at, &want) <= 0 ?
		    values[at] : SAYS_NOTHING;
	}
	at = search(keys, p->n, word);
	return ((const uint32_t *)keys)[at] <= word ? values[at] :
	    SAYS_NOTHING;
}

/* What no compiler has written is taken for a refusal. */
static void
understand(const struct rules *rules, uint32_t value,
    struct rules_answer *answer)
{
	const struct rules_service *s = &rules->service;
	const uint32_t at = value >> (SAYS_BITS + BY_BITS);

	answer->by = RULES_BY_DEFAULT;
	if ((value >> SAYS_BITS & MASK(BY_BITS)) < RULES_BY_DEFAULT)
		answer->by = (enum rules_by)(value >> SAYS_BITS &
		    MASK(BY_BITS));
	answer->deny = (value & MASK(SAYS_BITS)) != SAYS_ALLOW ||
	    at >= s->text_size;
	answer->variables = answer->deny ? "" :
	    rules->image + s->text + at;
}

bool
rules_find(const struct rules *rules, enum rules_table table,
    const struct prefix *who, struct rules_answer *answer)
{
	const uint32_t value = look_up(rules, table, who);

	if (value != SAYS_NOTHING)
		understand(rules, value, answer);
	return value != SAYS_NOTHING;
}

void
rules_otherwise(const struct rules *rules, struct rules_answer *answer)
{
	understand(rules, (uint32_t)rules->service.otherwise, answer);
}
