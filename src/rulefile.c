/*
 * rulefile.c: rules in the syntax of tcprules(1), with prefixes and IPv6.
 *
 * Owns that syntax: a line is `ADDRESS:allow' or `ADDRESS:deny', and variables
 * may follow.  Host names and IDENT users, which tcprules also has, are
 * refused: neither is known here, and a rule that never applies would be worse
 * than none.  Called by the child that compiles; trusts no byte.
 *
 * Each line ends with a newline, the last one too: a file that somebody is
 * writing nearly always ends within a line.
 */

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "preforkd.h"

#define VARIABLES	4096		/* bytes of a line's variables */
#define NAME_MOST	100
#define SHOWN		128

#define FORMS		"must be an address, ADDRESS/LENGTH, A.B. or " \
			    "A.B.C.D-E, [IPV6] or [IPV6/LENGTH]"

struct reader {
	const char	*path;
	int		 line;
	struct rule_list *list;
	char		 text[PARSE_LINE + 1];	/* the line */
	char		*error;
};

/* `FILE:LINE: WORDS: WHY'; always -1. */
static int
wrong(struct reader *r, const char *words, const char *why)
{
	char place[ERROR_PLACE], shown[SHOWN];

	error_place(place, r->path, r->line);
	log_quote(shown, sizeof(shown), words, strlen(words));
	return error_say(r->error, "%s: %s%s%s", place, shown,
	    shown[0] == '\0' ? "" : ": ", why);
}

static int
add(struct reader *r, const struct rule *rule)
{
	if (r->list->n == RULES_MOST)
		return wrong(r, "", "too many rules: must be at most 1000000, "
		    "with each address of a range");
	return rules_add(r->list, rule) ? 0 : wrong(r, "", "out of memory");
}

/* 0 to 255, as inet_pton(3) takes it; moves *p behind it, or returns -1. */
static int
octet(const char **p)
{
	const char *from = *p;
	int n = 0;

	while (isdigit((unsigned char)**p) && *p - from < 3)
		n = n * 10 + *(*p)++ - '0';
	if (*p == from || n > 255 || (*from == '0' && *p - from > 1))
		return -1;
	return n;
}

/*
 * `A.B.C.D', `A.B.', and with `X-Y' for the last number.  Fills bits and
 * length, and *last with the end of the range.
 */
static bool
dotted(const char *text, struct prefix *p, int *last)
{
	uint64_t bits = 0;
	int i, n;

	for (i = 0; i < 4 && *text != '\0'; i++) {
		if ((n = octet(&text)) == -1)
			return false;
		bits = bits << 8 | (uint64_t)n;
		*last = n;
		if (*text == '-') {
			text++;
			if ((*last = octet(&text)) < n ||
			    (text[0] == '.' && text[1] != '\0'))
				return false;
		}
		if (i < 3 && *text++ != '.')
			return false;
	}
	if (*text != '\0' || i == 0)
		return false;
	*p = (struct prefix){ .bits = { bits << (64 - 8 * i), 0 },
	    .length = 8 * i };
	return true;
}

static int
add_dotted(struct reader *r, const char *text, struct rule *rule)
{
	uint64_t step;
	int last, first;

	if (!dotted(text, &rule->who, &last))
		return wrong(r, text, FORMS);
	step = UINT64_C(1) << (64 - rule->who.length);
	first = (int)(rule->who.bits[0] / step & 0xff);
	for (; first <= last; first++, rule->who.bits[0] += step)
		if (add(r, rule) == -1)
			return -1;
	return 0;
}

static int
add_prefix(struct reader *r, const char *text, struct rule *rule)
{
	const char *why;

	if (!address_parse_prefix(text, &rule->who, &why))
		return wrong(r, text, why);
	rule->table = rule->who.ipv6 ? RULES_IPV6 : RULES_IPV4;
	return add(r, rule);
}

static int
add_rule(struct reader *r, const char *who, struct rule *rule)
{
	if (who[0] == '\0') {
		rule->table = RULES_ANY;
		return add(r, rule);
	}
	if (who[0] == '=')
		return wrong(r, who, "host names are not looked up: " FORMS);
	if (strchr(who, '@') != NULL)
		return wrong(r, who, "users are not asked for by IDENT: "
		    FORMS);
	if (strchr(who, '/') != NULL)
		return add_prefix(r, who, rule);
	return add_dotted(r, who, rule);
}

static const char *
bad_name(const char *name, size_t len)
{
	const size_t letters = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789_");

	return len == 0 || len > NAME_MOST || letters < len ||
	    isdigit((unsigned char)name[0]) ? "must be NAME=\"VALUE\", a name "
	    "of 1 to 100 letters, digits and _" : NULL;
}

/* `,NAME="VALUE"', with any character for the quote. */
static int
add_variables(struct reader *r, char *p, struct rule *rule)
{
	char text[VARIABLES], *end, *name;
	size_t used = 0, len;
	const char *why;

	while (*p == ',') {
		name = p + 1;
		if (r->list->no_variables)
			return wrong(r, name, "must not be there: programs of "
			    "prespawn start before their clients");
		len = strcspn(name, "=");
		if ((why = bad_name(name, len)) != NULL)
			return wrong(r, name, why);
		p = name + len + 1;
		if (name[len] == '\0' || *p == '\0' ||
		    (end = strchr(p + 1, *p)) == NULL)
			return wrong(r, name, "must be NAME=\"VALUE\", with "
			    "the same quote at both ends");
		if (used + (size_t)(end - name) + 1 > sizeof(text))
			return wrong(r, name, "too much: the variables of a "
			    "line must have at most 4096 bytes");
		memcpy(text + used, name, len + 1);
		used += len + 1;
		memcpy(text + used, p + 1, (size_t)(end - p - 1));
		used += (size_t)(end - p - 1);
		text[used++] = '\0';
		p = end + 1;
	}
	if (*p != '\0')
		return wrong(r, p, "must end, or go on with ,NAME=\"VALUE\"");
	if (used > 0 && (rule->variables = rules_add_text(r->list, text,
	    used)) == 0)
		return wrong(r, "", "no room for the variables of so many "
		    "rules: must be at most 32 MB");
	return 0;
}

/* What stands behind the address. */
static int
add_instruction(struct reader *r, char *p, struct rule *rule)
{
	size_t len = strcspn(p, ",");

	rule->deny = len == 4 && memcmp(p, "deny", 4) == 0;
	if (!rule->deny && (len != 5 || memcmp(p, "allow", 5) != 0))
		return wrong(r, p, strchr(p, ':') != NULL ?
		    "must be allow or deny; an IPv6 address must stand in "
		    "brackets: [2001:db8::/32]:allow" :
		    "must be allow or deny");
	return add_variables(r, p + len, rule);
}

static int
take_line(struct reader *r)
{
	struct rule rule = { .by = RULES_BY_FILE, .file = r->path,
	    .line = r->line };
	char *who = r->text, *end;

	if (who[0] == '[' && (end = strstr(++who, "]:")) != NULL)
		*end++ = '\0';
	else
		end = strchr(r->text, ':');
	if (end == NULL)
		return wrong(r, r->text, "must be ADDRESS:allow or "
		    "ADDRESS:deny");
	*end++ = '\0';
	if (add_instruction(r, end, &rule) == -1)
		return -1;
	if (who == r->text)
		return add_rule(r, who, &rule);
	if (strchr(who, ':') == NULL)
		return wrong(r, who, "must be an IPv6 address, or without "
		    "brackets");
	return add_prefix(r, who, &rule);
}

/* The next line without blanks at its end; NULL or why there is none. */
static const char *
next_line(struct reader *r, const char **p, const char *end)
{
	const char *lf = memchr(*p, '\n', (size_t)(end - *p)), *why;
	size_t len;

	r->line++;
	if (lf == NULL)
		return "half a line: the last one must end in a newline, "
		    "too";
	len = (size_t)(lf - *p);
	if ((why = parse_bad_bytes(*p, len, r->line == 1)) != NULL)
		return why;
	while (len > 0 && ((*p)[len - 1] == ' ' || (*p)[len - 1] == '\t'))
		len--;
	memcpy(r->text, *p, len);
	r->text[len] = '\0';
	*p = lf + 1;
	return NULL;
}

int
rulefile_parse(const struct rulefile *file, struct rule_list *list,
    char error[CONF_ERROR_MAX])
{
	struct reader r = { .path = file->path, .list = list, .error = error };
	const char *text = file->text, *end = text + file->size, *why;

	while (text < end) {
		if ((why = next_line(&r, &text, end)) != NULL)
			return wrong(&r, "", why);
		if (r.text[0] != '\0' && r.text[0] != '#' &&
		    take_line(&r) == -1)
			return -1;
	}
	return 0;
}

const char *
rulefile_read(const char *path, struct rule_list *list,
    char error[CONF_ERROR_MAX])
{
	struct rulefile file = { .path = path };
	const char *why;
	char *text;
	int rv;

	error[0] = '\0';
	text = parse_file(path, RULEFILE_MAX, &file.size, &why);
	if ((file.text = text) == NULL)
		return why;
	rv = rulefile_parse(&file, list, error);
	free(text);
	return rv == -1 ? error : NULL;
}
