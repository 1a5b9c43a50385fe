/*
 * load.c: a configuration's lines to sections, for conf.c.
 *
 * Owns which lines make a configuration, in which section a setting may stand
 * and how often; files, includes and the command line.  What must hold between
 * settings is conf.c's, their values are value.c's, the syntax is parse.c's.
 * It must not bind, write or log: an error is one line for the caller.
 *
 * Settings before the first `service' line are global or defaults for every
 * service.  A section ends with its file: after an include, what stood before
 * goes on.  Limits: CONF_*_MAX, and those of parse.c.
 */

#include <ctype.h>
#include <errno.h>
#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "preforkd.h"

#define SHOWN		128	/* for a quoted word */

static const char *
place(char buf[ERROR_PLACE], const struct load_where *at)
{
	return error_place(buf, at->file, at->line);
}

int
load_wrong(struct loader *ld, const struct load_where *at, const char *fmt, ...)
{
	char file[ERROR_PLACE];
	va_list ap;
	int n;

	n = snprintf(ld->error, CONF_ERROR_MAX, "%s: ", place(file, at));
	va_start(ap, fmt);
	vsnprintf(ld->error + n, (size_t)(CONF_ERROR_MAX - n), fmt, ap);
	va_end(ap);
	return -1;
}

static int
out_of_memory(struct loader *ld)
{
	return load_wrong(ld, &ld->at, "out of memory");
}

/* A word for an error; long ones are cut. */
static const char *
shown(char buf[SHOWN], const char *word)
{
	return word[0] == '\0' ? "\"\"" :
	    log_quote(buf, SHOWN, word, strlen(word));
}

static int
unknown(struct loader *ld, const char *word)
{
	const char *nearest = setting_nearest(word);
	char buf[SHOWN];

	log_quote(buf, sizeof(buf), word, strlen(word));
	if (nearest == NULL)
		return load_wrong(ld, &ld->at, "unknown keyword \"%s\": must "
		    "be one of those in preforkd.conf(5)", buf);
	return load_wrong(ld, &ld->at, "unknown keyword \"%s\": did you mean "
	    "%s?", buf, nearest);
}

/* `NAME VALUE: must be RANGE' */
static int
not_allowed(struct loader *ld, const struct setting *row, const char *value)
{
	char range[256], buf[SHOWN];

	return load_wrong(ld, &ld->at, "%s %s: must be %s%s", row->name,
	    shown(buf, value), setting_range(row, range, sizeof(range)),
	    row->type == TYPE_DURATION ? ", in ms, s, m or h" : "");
}

static int
assign(struct loader *ld, const struct setting *row, void *base,
    const char *text)
{
	return value_set(row, base, text) ? 0 : not_allowed(ld, row, text);
}

/* The words of a line as one value. */
static const char *
joined(char text[PARSE_LINE + 1], const struct parse *p)
{
	int i;

	strlcpy(text, p->word[1], PARSE_LINE + 1);
	for (i = 2; i < p->nwords; i++) {
		strlcat(text, " ", PARSE_LINE + 1);
		strlcat(text, p->word[i], PARSE_LINE + 1);
	}
	return text;
}

static int
assign_line(struct loader *ld, const struct setting *row, void *base,
    const struct parse *p)
{
	char text[PARSE_LINE + 1];

	return assign(ld, row, base, joined(text, p));
}

static int
assign_global(struct loader *ld, const struct setting *row,
    const struct parse *p)
{
	char text[PARSE_LINE + 1];

	if (row->type != TYPE_LOG)
		return assign(ld, row, ld->conf, p->word[1]);
	if (value_set_log(&ld->conf->log, p->word + 1, p->nwords - 1))
		return 0;
	return not_allowed(ld, row, joined(text, p));
}

static int
assign_words(struct loader *ld, const struct setting *row,
    const char *const *word, int nwords)
{
	const struct conf_service *service = ld->section->service;
	char buf[SHOWN];
	const char *why = NULL;
	int i = 0;

	if (value_set_words(row, ld->section->service, word, nwords))
		return 0;
	if (row->type == TYPE_PREFIX_LIMIT)
		why = value_not_limited(service, word[0]);
	while (row->type == TYPE_FROM && why == NULL && ++i < nwords)
		why = value_not_from(word[i]);
	if (why == NULL)
		return not_allowed(ld, row, word[0]);
	return load_wrong(ld, &ld->at, "%s %s: %s", row->name,
	    shown(buf, word[i]), why);
}

/* Each word of `allow' or `deny' is a rule. */
static int
add_rules(struct loader *ld, const struct setting *row, const struct parse *p)
{
	struct load_section *section = ld->section;
	struct rule rule = { .deny = strcmp(row->name, "deny") == 0,
	    .by = RULES_BY_LINE, .file = ld->at.file, .line = ld->at.line };
	char text[VALUE_WHO], buf[SHOWN];
	const char *why;
	int i;

	for (i = 1; i < p->nwords; i++) {
		why = value_who(p->word[i], &rule, text);
		if (why == NULL && section->rules.n == CONF_RULES_MAX)
			why = "too many: a service must have at most 1000, "
			    "and a file of rules for more";
		if (why != NULL)
			return load_wrong(ld, &ld->at, "%s %s: %s", row->name,
			    shown(buf, p->word[i]), why);
		if (!rules_add(&section->rules, &rule))
			return out_of_memory(ld);
	}
	return assign_words(ld, row, p->word + 1, p->nwords - 1);
}

static bool
same_address(const struct conf_listen *a, const struct conf_listen *b)
{
	int i, j;

	for (i = 0; i < a->naddress; i++)
		for (j = 0; j < b->naddress; j++)
			if (address_conflict(&a->address[i], &b->address[j]))
				return true;
	return false;
}

static int
check_listen(struct loader *ld, const struct conf_service *owner,
    const struct conf_listen *line)
{
	const struct conf_service *service;
	const struct conf_listen *other;
	int total = line->naddress;
	char buf[SHOWN], first[SHOWN];

	TAILQ_FOREACH(service, &ld->conf->services, entry) {
		TAILQ_FOREACH(other, &service->listens, entry) {
			if (other == line)
				continue;
			total += other->naddress;
			/* The text names a port 0 across reloads. */
			if (same_address(line, other) || (service == owner &&
			    strcmp(line->text, other->text) == 0))
				return load_wrong(ld, &ld->at, "listen %s: "
				    "must be there once; service %s has %s",
				    shown(buf, line->text), service->name,
				    shown(first, other->text));
		}
	}
	if (total > CONF_LISTENERS_MAX)
		return load_wrong(ld, &ld->at, "listen %s: %d listening "
		    "sockets: must be at most %d", shown(buf, line->text),
		    total, CONF_LISTENERS_MAX);
	return 0;
}

static int
add_listen(struct loader *ld, struct conf_service *service,
    const char *const *word, int nwords)
{
	struct conf_listen *line;
	const char *why;
	char buf[SHOWN];

	if ((line = calloc(1, sizeof(*line))) == NULL)
		return out_of_memory(ld);
	TAILQ_INSERT_TAIL(&service->listens, line, entry);
	if ((line->text = strdup(word[0])) == NULL)
		return out_of_memory(ld);
	if (!value_set_listen(line, word, nwords, &why))
		return load_wrong(ld, &ld->at,
		    "listen %s: %s", shown(buf, word[0]),
		    why);
	return check_listen(ld, service, line);
}

static bool
good_name(const char *name)
{
	const size_t len = strlen(name);

	return len > 0 && len <= CONF_NAME_MAX && strspn(name,
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	    "0123456789._-") == len;
}

static int
check_section(struct loader *ld, const char *name)
{
	const struct load_section *section;
	char first[ERROR_PLACE];
	int n = 1;

	if (!good_name(name))
		return not_allowed(ld, setting_find("service"), name);
	TAILQ_FOREACH(section, &ld->sections, entry) {
		if (strcmp(section->service->name, name) == 0)
			return load_wrong(ld, &ld->at,
			    "service %s: must be there once; the first is at "
			    "%s", name,
			    place(first, &section->at));
		n++;
	}
	if (n > CONF_SERVICES_MAX)
		return load_wrong(ld, &ld->at, "service %s: %d services: must "
		    "be at most %d", name, n, CONF_SERVICES_MAX);
	return 0;
}

/* A service starts as a copy of the defaults, which own nothing. */
static int
open_section(struct loader *ld, const char *name)
{
	struct conf_service *service;
	struct load_section *section;

	if (check_section(ld, name) == -1)
		return -1;
	if ((section = calloc(1, sizeof(*section))) == NULL)
		return out_of_memory(ld);
	if ((service = calloc(1, sizeof(*service))) == NULL) {
		free(section);
		return out_of_memory(ld);
	}
	*service = ld->defaults;
	TAILQ_INIT(&service->listens);
	TAILQ_INSERT_TAIL(&ld->conf->services, service, entry);
	section->service = service;
	section->at = ld->at;
	TAILQ_INSERT_TAIL(&ld->sections, section, entry);
	ld->section = section;
	if ((service->name = strdup(name)) == NULL)
		return out_of_memory(ld);
	return 0;
}

/* A directory that is not there is no match; one that cannot be read is. */
static int
glob_failed(const char *path, int error)
{
	(void)path;
	return error != ENOENT && error != ENOTDIR;
}

static int
include_files(struct loader *ld, const char *pattern)
{
	char buf[SHOWN];
	glob_t found;
	size_t i;
	int rv;

	rv = glob(pattern, 0, glob_failed, &found);
	if (rv == GLOB_NOMATCH && strpbrk(pattern, "*?[") != NULL)
		return 0;
	/* A plain path goes on, so that its own error is said. */
	if (rv == GLOB_NOMATCH)
		return load_file(ld, pattern);
	if (rv != 0)
		return load_wrong(ld, &ld->at, "include %s: must be in a "
		    "directory that can be read", shown(buf, pattern));
	for (i = 0; i < found.gl_pathc && rv == 0; i++)
		rv = load_file(ld, found.gl_pathv[i]);
	globfree(&found);
	return rv;
}

/* A relative pattern starts where the file that includes is. */
static int
include(struct loader *ld, const char *pattern)
{
	struct load_section *section = ld->section;
	const struct load_where at = ld->at;
	char dir[PATH_MAX], path[PATH_MAX];
	int n, rv;

	if (pattern[0] == '\0')
		return not_allowed(ld, setting_find("include"), pattern);
	if (ld->included)
		return load_wrong(ld, &ld->at, "include: must be in the main "
		    "file, not in an included one");
	strlcpy(dir, at.file, sizeof(dir));
	n = pattern[0] == '/' ?
	    snprintf(path, sizeof(path), "%s", pattern) :
	    snprintf(path, sizeof(path), "%s/%s", dirname(dir), pattern);
	if (n < 0 || (size_t)n >= sizeof(path))
		return not_allowed(ld, setting_find("include"), pattern);
	ld->included = true;
	rv = include_files(ld, path);
	ld->included = false;
	ld->section = section;
	if (rv == 0)
		ld->at = at;
	return rv;
}

/* Whether its value is memory, which defaults cannot hand on. */
static bool
is_list(const struct setting *row)
{
	return row->type == TYPE_COMMAND || setting_is_list(row);
}

/* Whether the line has a value, and not more than one. */
static int
check_words(struct loader *ld, const struct setting *row,
    const struct parse *p)
{
	const int most = setting_most_words(row) + 1;
	char buf[SHOWN];

	if (p->nwords < 2)
		return not_allowed(ld, row, "");
	if (p->nwords > most)
		return load_wrong(ld, &ld->at, "%s: %s is too much: must be "
		    "one value, in double quotes if it has blanks", row->name,
		    shown(buf, p->word[most]));
	return 0;
}

/* Whether a line may stand here, and for the first time. */
static int
check_place(struct loader *ld, const struct setting *row)
{
	struct load_where *seen = &ld->section->seen[row - settings];
	const bool before = ld->section == &ld->first;
	char first[ERROR_PLACE];

	if (row->scope == SCOPE_ANY)
		return 0;
	if (is_list(row) && before)
		return load_wrong(ld, &ld->at, "%s: must come after a service "
		    "line", row->name);
	if (setting_is_list(row)) {
		*seen = ld->at;
		return 0;
	}
	if (before ? !TAILQ_EMPTY(&ld->sections) : row->scope == SCOPE_GLOBAL)
		return load_wrong(ld, &ld->at, "%s: must come before the first "
		    "service line", row->name);
	if (seen->file != NULL)
		return load_wrong(ld, &ld->at, "%s: must be there once; the "
		    "first is at %s", row->name, place(first, seen));
	*seen = ld->at;
	return 0;
}

static int
apply(struct loader *ld, const struct parse *p)
{
	const struct setting *row = setting_find(p->word[0]);

	if (row == NULL)
		return unknown(ld, p->word[0]);
	if (check_words(ld, row, p) == -1 || check_place(ld, row) == -1)
		return -1;
	if (row->type == TYPE_SERVICE)
		return open_section(ld, p->word[1]);
	if (row->type == TYPE_INCLUDE)
		return include(ld, p->word[1]);
	if (row->type == TYPE_LISTEN)
		return add_listen(ld, ld->section->service, p->word + 1,
		    p->nwords - 1);
	if (row->type == TYPE_WHO)
		return add_rules(ld, row, p);
	if (is_list(row))
		return assign_words(ld, row, p->word + 1, p->nwords - 1);
	if (row->scope == SCOPE_GLOBAL)
		return assign_global(ld, row, p);
	return assign_line(ld, row, ld->section->service, p);
}

int
load_text(struct loader *ld, const char *text, size_t size)
{
	const char *why;
	struct parse p;
	int rv;

	parse_start(&p, text, size);
	while ((rv = parse_next(&p, &why)) == 1) {
		ld->at.line = p.line;
		if (apply(ld, &p) == -1)
			return -1;
	}
	ld->at.line = p.line;
	return rv == -1 ? load_wrong(ld, &ld->at, "%s", why) : 0;
}

int
load_file(struct loader *ld, const char *path)
{
	struct load_name *name;
	const char *why;
	char buf[SHOWN], *text;
	size_t size;
	int rv;

	if ((text = parse_file(path, CONF_FILE_MAX, &size, &why)) == NULL) {
		if (ld->included)
			return load_wrong(ld, &ld->at, "include %s: %s",
			    shown(buf, path), why);
		return load_wrong(ld, &(struct load_where){ path, 0 },
		    "%s", why);
	}
	if ((name = malloc(sizeof(*name) + strlen(path) + 1)) == NULL) {
		free(text);
		return out_of_memory(ld);
	}
	memcpy(name->text, path, strlen(path) + 1);
	SLIST_INSERT_HEAD(&ld->names, name, entry);
	ld->at = (struct load_where){ name->text, 0 };
	rv = load_text(ld, text, size);
	free(text);
	if (!ld->included)
		ld->file.file = name->text;
	return rv;
}

/* One -o: replaces what the file says, in every service. */
static int
override(struct loader *ld, const struct parse *p)
{
	const struct setting *row = setting_find(p->word[0]);
	struct load_section *section;

	if (row == NULL)
		return unknown(ld, p->word[0]);
	if (row->scope == SCOPE_ANY || is_list(row))
		return load_wrong(ld, &ld->at, "%s: must be in the file%s",
		    row->name, row->type == TYPE_LISTEN ? ", or -l" : "");
	if (check_words(ld, row, p) == -1)
		return -1;
	if (row->scope == SCOPE_GLOBAL)
		return assign_global(ld, row, p);
	TAILQ_FOREACH(section, &ld->sections, entry) {
		section->seen[row - settings] = ld->at;
		if (assign_line(ld, row, section->service, p) == -1)
			return -1;
	}
	return 0;
}

int
load_overrides(struct loader *ld, char *const *text)
{
	const char *why;
	struct parse p;
	int rv;

	ld->at = (struct load_where){ "-o", 0 };
	for (; text != NULL && *text != NULL; text++) {
		parse_start(&p, *text, strlen(*text));
		while ((rv = parse_next(&p, &why)) == 1)
			if (override(ld, &p) == -1)
				return -1;
		if (rv == -1)
			return load_wrong(ld, &ld->at, "%s", why);
	}
	return 0;
}

int
load_listens(struct loader *ld, char *const *text)
{
	struct conf_service *service = TAILQ_FIRST(&ld->conf->services);
	const char *why;
	struct parse p;

	if (text == NULL || *text == NULL || service == NULL)
		return 0;
	ld->at = (struct load_where){ "-l", 0 };
	if (TAILQ_NEXT(service, entry) != NULL)
		return load_wrong(ld, &ld->at, "%s: there must be one service, "
		    "or it is not clear which is meant", *text);
	conf_free_listens(service);
	for (; *text != NULL; text++) {
		parse_start(&p, *text, strlen(*text));
		if (parse_next(&p, &why) != 1)
			return not_allowed(ld, setting_find("listen"), *text);
		if (add_listen(ld, service, p.word, p.nwords) == -1)
			return -1;
	}
	return 0;
}

/* Whether a dump could say it: the master of a reload parses nothing else. */
static int
check_arguments(struct loader *ld, char *const *word)
{
	size_t i, room = PARSE_LINE - 16;
	int n;

	for (n = 0; word[n] != NULL; n++) {
		for (i = 0; word[n][i] != '\0'; i++)
			if (iscntrl((unsigned char)word[n][i]))
				return load_wrong(ld, &ld->at, "argument %d: "
				    "must be without control characters", n);
		if (n == PARSE_WORDS - 1 || i * 2 + 3 > room)
			return load_wrong(ld, &ld->at, "arguments: must be at "
			    "most %d, of some %d bytes in all", PARSE_WORDS - 2,
			    PARSE_LINE / 2);
		room -= i * 2 + 3;
	}
	return 0;
}

/* It runs what it is called, or execs the program of the command line. */
int
load_service(struct loader *ld, const struct conf_source *source)
{
	const char *const *word = (const char *const *)source->program;
	int n = 0;

	if (source->service == NULL)
		return 0;
	ld->at = (struct load_where){ "command line", 0 };
	if (open_section(ld, source->service) == -1)
		return -1;
	if (word == NULL)
		return assign(ld, setting_find("run"), ld->section->service,
		    source->service);
	if (check_arguments(ld, source->program) == -1)
		return -1;
	while (word[n] != NULL)
		n++;
	return assign_words(ld, setting_find("exec"), word, n);
}

const struct load_where *
load_origin(const struct loader *ld, const struct load_section *section,
    const char *name)
{
	const size_t i = (size_t)(setting_find(name) - settings);

	if (section->seen[i].file != NULL)
		return &section->seen[i];
	if (ld->first.seen[i].file != NULL)
		return &ld->first.seen[i];
	return &section->at;
}

static int
load_defaults(struct loader *ld, bool foreground)
{
	size_t i;

	for (i = 0; i < SETTINGS; i++)
		if (settings[i].fallback != NULL && assign(ld, &settings[i],
		    settings[i].scope == SCOPE_GLOBAL ? (void *)ld->conf :
		    &ld->defaults, settings[i].fallback) == -1)
			return -1;
	ld->defaults.workers_surge = -1;
	ld->defaults.group = -1;
	ld->defaults.max_memory = ld->defaults.max_memory_hard = -1;
	for (i = 0; i < CONF_LIMITS; i++)
		ld->defaults.limit[i] = -1;
	if (foreground) {
		ld->conf->log.kind = CONF_LOG_STDERR;
		ld->defaults.log_connections = CONF_CONNECTIONS_BOTH;
	}
	return 0;
}

int
load_open(struct loader *ld, bool foreground, char error[CONF_ERROR_MAX])
{
	memset(ld, 0, sizeof(*ld));
	ld->error = error;
	ld->at.file = ld->file.file = "command line";
	TAILQ_INIT(&ld->sections);
	SLIST_INIT(&ld->names);
	ld->first.service = &ld->defaults;
	ld->section = &ld->first;
	if ((ld->conf = calloc(1, sizeof(*ld->conf))) == NULL)
		return out_of_memory(ld);
	TAILQ_INIT(&ld->conf->services);
	ld->conf->rules = -1;
	return load_defaults(ld, foreground);
}

struct conf *
load_close(struct loader *ld, int rv)
{
	struct load_section *section;
	struct load_name *name;

	while ((section = TAILQ_FIRST(&ld->sections)) != NULL) {
		TAILQ_REMOVE(&ld->sections, section, entry);
		rules_free(&section->rules);
		free(section);
	}
	while ((name = SLIST_FIRST(&ld->names)) != NULL) {
		SLIST_REMOVE_HEAD(&ld->names, entry);
		free(name);
	}
	if (rv == 0)
		return ld->conf;
	conf_free(ld->conf);
	return NULL;
}
