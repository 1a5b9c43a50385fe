/*
 * conf.c: load a configuration, check it as a whole, dump and compare it.
 *
 * Owns `struct conf': which lines make it, in which section a setting may
 * stand and how often, and what must hold between settings.  The values
 * themselves are setting.c's, the syntax is parse.c's.  It must not bind,
 * write or log: an error is one line for the caller.
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
#include <unistd.h>

#include "preforkd.h"

#define SHOWN		128	/* for a quoted word */

/* A line of a file; line 0: the command line's `-o', `-l'. */
struct where {
	const char	*file;
	int		 line;
};

/* A `service' section, or what stands before the first; until all is read. */
struct section {
	TAILQ_ENTRY(section) entry;
	struct conf_service *service;
	struct where	 at;
	struct where	 seen[SETTINGS];
	struct rule_list rules;		/* of allow and deny */
};

/* The name of a file, which lives as long as a `where' can mean it. */
struct name {
	SLIST_ENTRY(name) entry;
	char		 text[];
};

struct loader {
	struct conf	*conf;
	struct conf_service defaults;
	struct section	 first;		/* its service: the defaults */
	TAILQ_HEAD(, section) sections;
	SLIST_HEAD(, name) names;
	struct section	*section;	/* in force */
	struct where	 at;
	struct where	 file;		/* the main file, no line */
	bool		 included;	/* no include from here */
	char		*error;
};

static int load_file(struct loader *, const char *);

static const char *
place(char buf[ERROR_PLACE], const struct where *at)
{
	return error_place(buf, at->file, at->line);
}

/* The one place that makes an error; always -1. */
__attribute__((__format__(printf, 3, 4)))
static int
wrong(struct loader *ld, const struct where *at, const char *fmt, ...)
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
	return wrong(ld, &ld->at, "out of memory");
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
		return wrong(ld, &ld->at, "unknown keyword \"%s\": must be one "
		    "of those in preforkd.conf(5)", buf);
	return wrong(ld, &ld->at, "unknown keyword \"%s\": did you mean %s?",
	    buf, nearest);
}

/* `NAME VALUE: must be RANGE' */
static int
not_allowed(struct loader *ld, const struct setting *row, const char *value)
{
	char range[256], buf[SHOWN];

	return wrong(ld, &ld->at, "%s %s: must be %s", row->name,
	    shown(buf, value), setting_range(row, range, sizeof(range)));
}

static int
assign(struct loader *ld, const struct setting *row, void *base,
    const char *text)
{
	return value_set(row, base, text) ? 0 : not_allowed(ld, row, text);
}

/* The words of a line as one value. */
static int
assign_line(struct loader *ld, const struct setting *row, void *base,
    const struct parse *p)
{
	char text[PARSE_LINE + 1];
	int i;

	strlcpy(text, p->word[1], sizeof(text));
	for (i = 2; i < p->nwords; i++) {
		strlcat(text, " ", sizeof(text));
		strlcat(text, p->word[i], sizeof(text));
	}
	return assign(ld, row, base, text);
}

static int
assign_global(struct loader *ld, const struct setting *row,
    const struct parse *p)
{
	if (row->type != TYPE_LOG)
		return assign(ld, row, ld->conf, p->word[1]);
	return value_set_log(&ld->conf->log, p->word + 1, p->nwords - 1) ?
	    0 : not_allowed(ld, row, p->word[p->nwords - 1]);
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
	return wrong(ld, &ld->at, "%s %s: %s", row->name,
	    shown(buf, word[i]), why);
}

/* Each word of `allow' or `deny' is a rule. */
static int
add_rules(struct loader *ld, const struct setting *row, const struct parse *p)
{
	struct section *section = ld->section;
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
			return wrong(ld, &ld->at, "%s %s: %s", row->name,
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
				return wrong(ld, &ld->at, "listen %s: must be "
				    "there once; service %s has %s",
				    shown(buf, line->text), service->name,
				    shown(first, other->text));
		}
	}
	if (total > CONF_LISTENERS_MAX)
		return wrong(ld, &ld->at, "listen %s: %d listening sockets: "
		    "must be at most %d", shown(buf, line->text), total,
		    CONF_LISTENERS_MAX);
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
		return wrong(ld, &ld->at, "listen %s: %s", shown(buf, word[0]),
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
	const struct section *section;
	char first[ERROR_PLACE];
	int n = 1;

	if (!good_name(name))
		return not_allowed(ld, setting_find("service"), name);
	TAILQ_FOREACH(section, &ld->sections, entry) {
		if (strcmp(section->service->name, name) == 0)
			return wrong(ld, &ld->at, "service %s: must be there "
			    "once; the first is at %s", name,
			    place(first, &section->at));
		n++;
	}
	if (n > CONF_SERVICES_MAX)
		return wrong(ld, &ld->at, "service %s: %d services: must be at "
		    "most %d", name, n, CONF_SERVICES_MAX);
	return 0;
}

/* A service starts as a copy of the defaults, which own nothing. */
static int
open_section(struct loader *ld, const char *name)
{
	struct conf_service *service;
	struct section *section;

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
		return wrong(ld, &ld->at, "include %s: must be in a directory "
		    "that can be read", shown(buf, pattern));
	for (i = 0; i < found.gl_pathc && rv == 0; i++)
		rv = load_file(ld, found.gl_pathv[i]);
	globfree(&found);
	return rv;
}

/* A relative pattern starts where the file that includes is. */
static int
include(struct loader *ld, const char *pattern)
{
	struct section *section = ld->section;
	const struct where at = ld->at;
	char dir[PATH_MAX], path[PATH_MAX];
	int n, rv;

	if (pattern[0] == '\0')
		return not_allowed(ld, setting_find("include"), pattern);
	if (ld->included)
		return wrong(ld, &ld->at, "include: must be in the main file, "
		    "not in an included one");
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
		return wrong(ld, &ld->at, "%s: %s is too much: must be one "
		    "value, in double quotes if it has blanks", row->name,
		    shown(buf, p->word[most]));
	return 0;
}

/* Whether a line may stand here, and for the first time. */
static int
check_place(struct loader *ld, const struct setting *row)
{
	struct where *seen = &ld->section->seen[row - settings];
	const bool before = ld->section == &ld->first;
	char first[ERROR_PLACE];

	if (row->scope == SCOPE_ANY)
		return 0;
	if (is_list(row) && before)
		return wrong(ld, &ld->at, "%s: must come after a service line",
		    row->name);
	if (setting_is_list(row)) {
		*seen = ld->at;
		return 0;
	}
	if (before ? !TAILQ_EMPTY(&ld->sections) : row->scope == SCOPE_GLOBAL)
		return wrong(ld, &ld->at, "%s: must come before the first "
		    "service line", row->name);
	if (seen->file != NULL)
		return wrong(ld, &ld->at, "%s: must be there once; the first "
		    "is at %s", row->name, place(first, seen));
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

static int
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
	return rv == -1 ? wrong(ld, &ld->at, "%s", why) : 0;
}

static int
load_file(struct loader *ld, const char *path)
{
	struct name *name;
	const char *why;
	char buf[SHOWN], *text;
	size_t size;
	int rv;

	if ((text = parse_file(path, CONF_FILE_MAX, &size, &why)) == NULL) {
		if (ld->included)
			return wrong(ld, &ld->at, "include %s: %s",
			    shown(buf, path), why);
		return wrong(ld, &(struct where){ path, 0 }, "%s", why);
	}
	if ((name = malloc(sizeof(*name) + strlen(path) + 1)) == NULL) {
		free(text);
		return out_of_memory(ld);
	}
	memcpy(name->text, path, strlen(path) + 1);
	SLIST_INSERT_HEAD(&ld->names, name, entry);
	ld->at = (struct where){ name->text, 0 };
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
	struct section *section;

	if (row == NULL)
		return unknown(ld, p->word[0]);
	if (row->scope == SCOPE_ANY || is_list(row))
		return wrong(ld, &ld->at, "%s: must be in the file%s",
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

static int
load_overrides(struct loader *ld, char *const *text)
{
	const char *why;
	struct parse p;
	int rv;

	ld->at = (struct where){ "-o", 0 };
	for (; text != NULL && *text != NULL; text++) {
		parse_start(&p, *text, strlen(*text));
		while ((rv = parse_next(&p, &why)) == 1)
			if (override(ld, &p) == -1)
				return -1;
		if (rv == -1)
			return wrong(ld, &ld->at, "%s", why);
	}
	return 0;
}

static void
free_listens(struct conf_service *service)
{
	struct conf_listen *line;

	while ((line = TAILQ_FIRST(&service->listens)) != NULL) {
		TAILQ_REMOVE(&service->listens, line, entry);
		free(line->text);
		free(line);
	}
}

/* All of -l: replaces the listen lines of the one service. */
static int
load_listens(struct loader *ld, char *const *text)
{
	struct conf_service *service = TAILQ_FIRST(&ld->conf->services);
	const char *why;
	struct parse p;

	if (text == NULL || *text == NULL || service == NULL)
		return 0;
	ld->at = (struct where){ "-l", 0 };
	if (TAILQ_NEXT(service, entry) != NULL)
		return wrong(ld, &ld->at, "%s: there must be one service, or "
		    "it is not clear which is meant", *text);
	free_listens(service);
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
				return wrong(ld, &ld->at, "argument %d: must "
				    "be without control characters", n);
		if (n == PARSE_WORDS - 1 || i * 2 + 3 > room)
			return wrong(ld, &ld->at, "arguments: must be at most "
			    "%d, of some %d bytes in all", PARSE_WORDS - 2,
			    PARSE_LINE / 2);
		room -= i * 2 + 3;
	}
	return 0;
}

/*
 * `preforkd greet': a service of that name that runs what it is called, or
 * execs the program of the command line.
 */
static int
load_service(struct loader *ld, const struct conf_source *source)
{
	const char *const *word = (const char *const *)source->program;
	int n = 0;

	if (source->service == NULL)
		return 0;
	ld->at = (struct where){ "command line", 0 };
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

/* Where a section has its value of a setting from. */
static const struct where *
origin(const struct loader *ld, const struct section *section,
    const char *name)
{
	const size_t i = (size_t)(setting_find(name) - settings);

	if (section->seen[i].file != NULL)
		return &section->seen[i];
	if (ld->first.seen[i].file != NULL)
		return &ld->first.seen[i];
	return &section->at;
}

const char *
conf_kind_name(enum conf_kind kind)
{
	static const char *const names[CONF_KINDS] = { "run", "exec",
	    "resident", "module" };

	return names[kind];
}

/* One of run, exec, resident and module; one in the section beats a default. */
static int
settle_kind(struct loader *ld, struct section *section)
{
	struct conf_service *service = section->service;
	int i, n = 0;

	if (service->run != NULL && section->seen[setting_find("run") -
	    settings].file != NULL) {
		service->kind = CONF_RUN;
		n++;
	}
	for (i = 0; i < CONF_KINDS; i++) {
		if (service->command[i] != NULL) {
			service->kind = (enum conf_kind)i;
			n++;
		}
	}
	if (n > 1)
		return wrong(ld, &section->at, "service %s: must have one of "
		    "run, exec, resident and module, not %d of them",
		    service->name, n);
	if (n == 0 && service->run == NULL)
		return wrong(ld, &section->at, "service %s: nothing to serve: "
		    "must have a run, exec, resident or module line",
		    service->name);
	if (service->kind != CONF_RUN)
		service->run = NULL;
	if (service->env != NULL && service->kind != CONF_EXEC &&
	    service->kind != CONF_RESIDENT)
		return wrong(ld, origin(ld, section, "env"), "service %s: env: "
		    "must be for a program, of exec or resident",
		    service->name);
	return 0;
}

/* Defaults, and -o, are for whichever services they suit. */
static int
check_kind(struct loader *ld, const struct section *section)
{
	const enum conf_kind kind = section->service->kind;
	const struct setting *row;
	const struct where *at;

	for (row = settings; row < settings + SETTINGS; row++) {
		at = &section->seen[row - settings];
		if (at->line > 0 && !setting_is_for(row, kind))
			return wrong(ld, at, "service %s: %s: %s",
			    section->service->name, row->name,
			    kind == CONF_RESIDENT ? "must not be there: a "
			    "resident program accepts by itself, and nothing "
			    "is known of its clients" :
			    "must be in a service that is resident");
	}
	return 0;
}

static int
check_memory(struct loader *ld, const struct section *section)
{
	const struct conf_service *service = section->service;

	if (service->max_memory == -1 || service->max_memory_hard == -1 ||
	    service->max_memory <= service->max_memory_hard)
		return 0;
	return wrong(ld, origin(ld, section, "max-memory"), "service %s: "
	    "max-memory %lld: must be at most max-memory-hard, %lld",
	    service->name, (long long)service->max_memory,
	    (long long)service->max_memory_hard);
}

bool
conf_has_rules(const struct conf_service *service)
{
	return service->kind != CONF_RESIDENT && (service->allow != NULL ||
	    service->deny != NULL || service->rules[0] != '\0' ||
	    service->otherwise == CONF_OTHERWISE_DENY);
}

/* Who allows some wants others kept out. */
static int
check_rules(struct loader *ld, const struct section *section)
{
	const struct conf_service *service = section->service;

	if (service->allow == NULL || service->deny != NULL ||
	    service->rules[0] != '\0' ||
	    service->otherwise == CONF_OTHERWISE_DENY)
		return 0;
	return wrong(ld, origin(ld, section, "allow"), "service %s: allow: "
	    "must have `default deny', a deny line or a file of rules with "
	    "it, or everybody may come in", service->name);
}

static int
check_service(struct loader *ld, const struct section *section)
{
	const struct conf_service *service = section->service;
	const struct conf_listen *line;
	int sockets = 0;

	TAILQ_FOREACH(line, &service->listens, entry)
		sockets += line->naddress;
	if (sockets == 0)
		return wrong(ld, &section->at, "service %s: no address: must "
		    "have a listen line, or -l", service->name);
	if (service->workers_min > service->workers_max)
		return wrong(ld, origin(ld, section, "workers-min"),
		    "service %s: workers-min %d: must be at most workers-max, "
		    "%d", service->name, service->workers_min,
		    service->workers_max);
	if (sockets > service->workers_max)
		return wrong(ld, origin(ld, section, "workers-max"),
		    "service %s: workers-max %d: must be at least its number "
		    "of listening sockets, %d", service->name,
		    service->workers_max, sockets);
	if (sockets > conf_surge(service))
		return wrong(ld, origin(ld, section, "workers-surge"),
		    "service %s: workers-surge %d: must be at least its number "
		    "of listening sockets, %d, or a reload had no room",
		    service->name, conf_surge(service), sockets);
	return 0;
}

/* In the place of the user's own group, which then is none of its groups. */
static void
replace_group(struct conf_user *user, gid_t group)
{
	int i, n = 0;

	for (i = 0; i < user->ngroups; i++)
		if (user->groups[i] != user->gid && user->groups[i] != group)
			user->groups[n++] = user->groups[i];
	user->groups[n++] = group;
	user->ngroups = n;
	user->gid = group;
}

/* Root does not serve unless told to. */
static int
settle_user(struct loader *ld, struct section *section)
{
	struct conf_service *service = section->service;
	char why[CONF_ERROR_MAX];
	const char *name;

	if (geteuid() == 0 && !service->user.set) {
		if ((name = value_default_user(&service->user)) == NULL)
			return wrong(ld, &section->at, "service %s: no user "
			    CONF_DEFAULT_USER " and no nobody: must have a "
			    "user line", service->name);
		service->user_is_nobody = strcmp(name, CONF_DEFAULT_USER) != 0;
	}
	if (service->group != -1)
		replace_group(&service->user, (gid_t)service->group);
	if ((name = privs_check(service, why)) != NULL)
		return wrong(ld, origin(ld, section, name), "service %s: %s",
		    service->name, why);
	return 0;
}

static int
check(struct loader *ld)
{
	struct section *section;
	long long slots = 0;

	if (TAILQ_EMPTY(&ld->sections))
		return wrong(ld, &ld->file, "no service: must have a service "
		    "line, a listen line and a run line");
	TAILQ_FOREACH(section, &ld->sections, entry) {
		if (settle_kind(ld, section) == -1 ||
		    check_kind(ld, section) == -1 ||
		    check_memory(ld, section) == -1 ||
		    check_rules(ld, section) == -1 ||
		    check_service(ld, section) == -1 ||
		    settle_user(ld, section) == -1)
			return -1;
		slots += section->service->workers_max;
		slots += conf_surge(section->service);
		if (slots > CONF_SLOTS_MAX)
			return wrong(ld, origin(ld, section, "workers-max"),
			    "service %s: workers-max and workers-surge of all "
			    "services so far make %lld: must be at most %d",
			    section->service->name, slots, CONF_SLOTS_MAX);
	}
	return 0;
}

/* Not what a dump says again: its programs have been found. */
static int
check_programs(struct loader *ld)
{
	const struct section *section;
	char why[CONF_ERROR_MAX];

	TAILQ_FOREACH(section, &ld->sections, entry)
		if (trial(section->service, why) == -1)
			return wrong(ld, origin(ld, section, conf_kind_name(
			    section->service->kind)), "service %s: %s",
			    section->service->name, why);
	return 0;
}

/* As the child that compiles them wants them. */
static int
collect_rules(const struct loader *ld, struct ruleset *set)
{
	const struct section *section;
	const struct where *at;
	int n = 0;

	TAILQ_FOREACH(section, &ld->sections, entry) {
		if (!conf_has_rules(section->service))
			continue;
		at = origin(ld, section, "rules");
		set[n] = (struct ruleset){ .source = {
		    .service = section->service->name,
		    .deny = section->service->otherwise ==
		    CONF_OTHERWISE_DENY, .list = section->rules },
		    .named_in = at->file, .named_at = at->line };
		if (section->service->rules[0] != '\0')
			set[n].file = section->service->rules;
		n++;
	}
	return n;
}

/* Into the memory file of the caller, or into one of our own. */
static int
compile_rules(struct loader *ld, int fd)
{
	struct ruleset set[CONF_SERVICES_MAX];
	const int n = collect_rules(ld, set);

	if (n == 0)
		return 0;
	if (fd == 0)
		fd = ld->conf->rules = ruleset_create();
	if (fd == -1)
		return wrong(ld, &ld->file, "rules: memfd_create: %s",
		    strerror(errno));
	if (ruleset_compile(fd, set, n, ld->error) == -1)
		return -1;
	if (ld->conf->rules != -1 && ruleset_seal(fd) == -1)
		return wrong(ld, &ld->file, "rules: fcntl F_ADD_SEALS: %s",
		    strerror(errno));
	return 0;
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

static int
start(struct loader *ld, bool foreground, char error[CONF_ERROR_MAX])
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

static struct conf *
finish(struct loader *ld, int rv)
{
	struct section *section;
	struct name *name;

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

struct conf *
conf_load(const struct conf_source *source, char error[CONF_ERROR_MAX])
{
	struct loader ld;

	if (start(&ld, source->foreground, error) == -1 ||
	    (source->path != NULL && load_file(&ld, source->path) == -1) ||
	    load_service(&ld, source) == -1 ||
	    load_listens(&ld, source->listens) == -1 ||
	    load_overrides(&ld, source->overrides) == -1)
		return finish(&ld, -1);
	if (check(&ld) == -1 || compile_rules(&ld, source->rules) == -1)
		return finish(&ld, -1);
	return finish(&ld, check_programs(&ld));
}

struct conf *
conf_load_text(const char *name, const char *text, size_t size,
    char error[CONF_ERROR_MAX])
{
	struct loader ld;

	if (start(&ld, false, error) == -1)
		return finish(&ld, -1);
	ld.at.file = ld.file.file = name;
	ld.included = true;
	if (load_text(&ld, text, size) == -1)
		return finish(&ld, -1);
	return finish(&ld, check(&ld));
}

static void
free_service(struct conf_service *service)
{
	int i;

	for (i = 0; i < CONF_KINDS; i++)
		value_free_words(service->command[i]);
	value_free_words(service->env);
	value_free_words(service->allow);
	value_free_words(service->deny);
	value_free_words(service->per_source_for);
	value_free_words(service->proxy_protocol);
	free_listens(service);
	free(service->name);
	free(service);
}

void
conf_free(struct conf *conf)
{
	struct conf_service *service;

	if (conf == NULL)
		return;
	while ((service = TAILQ_FIRST(&conf->services)) != NULL) {
		TAILQ_REMOVE(&conf->services, service, entry);
		free_service(service);
	}
	if (conf->rules != -1)
		close(conf->rules);
	free(conf->status_file);
	free(conf->pidfile);
	free(conf->log.path);
	free(conf);
}

/* The value of a global setting as text, to be freed; NULL: out of memory. */
static char *
value(const struct setting *row, const struct conf *conf)
{
	char *text = NULL;
	size_t size;
	FILE *out;

	if ((out = open_memstream(&text, &size)) == NULL)
		return NULL;
	dump_value(out, row, conf);
	fclose(out);
	return text;
}

static bool
same_value(const struct setting *row, const struct conf *from,
    const struct conf *to)
{
	char *a = value(row, from), *b = value(row, to);
	const bool same = a != NULL && b != NULL && strcmp(a, b) == 0;

	free(a);
	free(b);
	return same;
}

static bool
same_path(const struct conf_listen *a, const struct conf_listen *b)
{
	const char *x = address_path(&a->address[0]);
	const char *y = address_path(&b->address[0]);

	return x != NULL && y != NULL && strcmp(x, y) == 0;
}

/* A socket that stays keeps the mode and the owner it was created with. */
static bool
same_file(const struct conf_service *from, const struct conf_service *to,
    char error[CONF_ERROR_MAX])
{
	const struct conf_listen *a, *b;
	char buf[SHOWN];

	TAILQ_FOREACH(a, &from->listens, entry) {
		TAILQ_FOREACH(b, &to->listens, entry) {
			if (!same_path(a, b) || (a->mode == b->mode &&
			    a->uid == b->uid && a->gid == b->gid))
				continue;
			snprintf(error, CONF_ERROR_MAX, "listen %s: a new mode "
			    "or owner needs a restart", shown(buf, a->text));
			return false;
		}
	}
	return true;
}

bool
conf_reloadable(const struct conf *from, const struct conf *to,
    char error[CONF_ERROR_MAX])
{
	const struct conf_service *a, *b;
	const struct setting *row;

	for (row = settings; row < settings + SETTINGS; row++) {
		if (row->reload || same_value(row, from, to))
			continue;
		snprintf(error, CONF_ERROR_MAX, "%s: a new value needs a "
		    "restart", row->name);
		return false;
	}
	TAILQ_FOREACH(a, &from->services, entry)
		TAILQ_FOREACH(b, &to->services, entry)
			if (!same_file(a, b, error))
				return false;
	return true;
}

int
conf_surge(const struct conf_service *service)
{
	return service->workers_surge == -1 ? service->workers_max :
	    service->workers_surge;
}

int
conf_slots(const struct conf *conf)
{
	const struct conf_service *service;
	int slots = 0;

	TAILQ_FOREACH(service, &conf->services, entry)
		slots += service->workers_max + conf_surge(service);
	return slots;
}

bool
conf_fits(const struct conf *conf, int nslots, char error[CONF_ERROR_MAX])
{
	const int need = conf_slots(conf);

	if (need > nslots)
		error_say(error, "workers-max and workers-surge of all "
		    "services need %d slots: the scoreboard has %d, a restart "
		    "makes it larger", need, nslots);
	return need <= nslots;
}
