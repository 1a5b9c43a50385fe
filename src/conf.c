/*
 * conf.c: a configuration, checked as a whole, compared and freed.
 *
 * Owns `struct conf' and what must hold between settings.  load.c reads the
 * lines.  It must not bind, write or log: an error is one line for the caller.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

const char *
conf_kind_name(enum conf_kind kind)
{
	static const char *const names[CONF_KINDS] = { "run", "exec",
	    "resident", "module" };

	return names[kind];
}

/* One of run, exec, resident and module; one in the section beats a default. */
static int
settle_kind(struct loader *ld, struct load_section *section)
{
	struct conf_service *service = section->service;
	int i, n = 0;

	if (service->run.service != NULL && section->seen[setting_find("run") -
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
		return load_wrong(ld, &section->at, "service %s: must have one "
		    "of run, exec, resident and module, not %d of them",
		    service->name, n);
	if (n == 0 && service->run.service == NULL)
		return load_wrong(ld, &section->at, "service %s: nothing to "
		    "serve: must have a run, exec, resident or module line",
		    service->name);
	if (service->kind != CONF_RUN)
		service->run.service = NULL;
	return 0;
}

/* For a program, which has room for them. */
static int
check_env(struct loader *ld, const struct load_section *section)
{
	const struct conf_service *service = section->service;
	size_t n = 0, bytes = 0, longest = 0, len;
	char *const *word;

	for (word = service->env; word != NULL && *word != NULL; word++) {
		n++;
		bytes += strlen(*word) + 1;
		if ((len = strcspn(*word, "=")) > longest)
			longest = len;
	}
	if (n > 0 && service->kind != CONF_EXEC &&
	    service->kind != CONF_RESIDENT)
		return load_wrong(ld, load_origin(ld, section, "env"),
		    "service %s: env: must be for a program, of exec or "
		    "resident", service->name);
	if (n <= PROGRAM_OWN_VARIABLES && bytes <= PROGRAM_OWN_TEXT &&
	    longest < PROGRAM_NAME)
		return 0;
	return load_wrong(ld, load_origin(ld, section, "env"), "service %s: "
	    "env: must be at most %d variables of %d bytes in all, each name "
	    "of at most %d", service->name, PROGRAM_OWN_VARIABLES,
	    PROGRAM_OWN_TEXT, PROGRAM_NAME - 1);
}

/* Defaults, and -o, are for whichever services they suit. */
static int
check_kind(struct loader *ld, const struct load_section *section)
{
	const enum conf_kind kind = section->service->kind;
	const struct setting *row;
	const struct load_where *at;

	for (row = settings; row < settings + SETTINGS; row++) {
		at = &section->seen[row - settings];
		if (at->line > 0 && !setting_is_for(row, kind))
			return load_wrong(ld, at, "service %s: %s: %s",
			    section->service->name, row->name,
			    setting_is_for(row, CONF_RESIDENT) ?
			    "must be in a service that is resident" :
			    !setting_is_for(row, CONF_RUN) ?
			    "must be in a service of exec" :
			    "must not be there: a "
			    "resident program accepts by itself, and nothing "
			    "is known of its clients");
	}
	return 0;
}

static int
check_memory(struct loader *ld, const struct load_section *section)
{
	const struct conf_service *service = section->service;

	if (service->max_memory == -1 || service->max_memory_hard == -1 ||
	    service->max_memory <= service->max_memory_hard)
		return 0;
	return load_wrong(ld, load_origin(ld, section,
	    "max-memory"), "service %s: max-memory %lld: must be at most "
	    "max-memory-hard, %lld",
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

bool
conf_tells(const struct conf_service *service)
{
	const struct preforkd_service *run = service->run.service;

	return service->kind == CONF_RUN && (run == &agent_service ||
	    run == &metrics_service || run == &status_service);
}

/* Another one of the same configuration. */
static int
check_about(struct loader *ld, const struct load_section *section)
{
	const char *about = section->service->run.about;
	const struct conf_service *service;

	if (section->service->kind != CONF_RUN || about[0] == '\0')
		return 0;
	TAILQ_FOREACH(service, &ld->conf->services, entry)
		if (strcmp(service->name, about) == 0 && !conf_tells(service))
			return 0;
	return load_wrong(ld, load_origin(ld, section, "run"), "service %s: "
	    "run %s %s: must be about another service that is there",
	    section->service->name, section->service->run.service->name, about);
}

/* Who allows some wants others kept out. */
static int
check_rules(struct loader *ld, const struct load_section *section)
{
	const struct conf_service *service = section->service;

	if (service->allow == NULL || service->deny != NULL ||
	    service->rules[0] != '\0' ||
	    service->otherwise == CONF_OTHERWISE_DENY)
		return 0;
	return load_wrong(ld, load_origin(ld, section, "allow"), "service %s: "
	    "allow: must have `default deny', a deny line or a file of rules "
	    "with it, or everybody may come in", service->name);
}

/* Three descriptors for each program, on top of what any worker needs. */
static int
check_prespawn(struct loader *ld, const struct load_section *section)
{
	const struct setting *row = setting_find("rlimit-nofile");
	const struct conf_service *service = section->service;
	const int64_t limit = *(const int64_t *)(const void *)
	    ((const char *)service + row->offset);
	const int64_t least = row->min + 3 * (service->prespawn + 1);

	if (service->prespawn == 0 || limit == -1 || limit >= least)
		return 0;
	return load_wrong(ld, load_origin(ld, section, row->name),
	    "service %s: %s %lld: must be at least %lld, for prespawn %d",
	    service->name, row->name, (long long)limit, (long long)least,
	    service->prespawn);
}

static int
check_service(struct loader *ld, const struct load_section *section)
{
	const struct conf_service *service = section->service;
	const struct conf_listen *line;
	int sockets = 0;

	TAILQ_FOREACH(line, &service->listens, entry)
		sockets += line->naddress;
	if (sockets == 0)
		return load_wrong(ld, &section->at, "service %s: no address: "
		    "must have a listen line, or -l", service->name);
	if (service->workers_min > service->workers_max)
		return load_wrong(ld, load_origin(ld, section, "workers-min"),
		    "service %s: workers-min %d: must be at most workers-max, "
		    "%d", service->name, service->workers_min,
		    service->workers_max);
	if (sockets > service->workers_max)
		return load_wrong(ld, load_origin(ld, section, "workers-max"),
		    "service %s: workers-max %d: must be at least its number "
		    "of listening sockets, %d", service->name,
		    service->workers_max, sockets);
	if (sockets > conf_surge(service))
		return load_wrong(ld, load_origin(ld, section, "workers-surge"),
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
settle_user(struct loader *ld, struct load_section *section)
{
	struct conf_service *service = section->service;
	const char *name;

	if (geteuid() == 0 && !service->user.set) {
		if ((name = value_default_user(&service->user)) == NULL)
			return load_wrong(ld, &section->at,
			    "service %s: no user "
			    CONF_DEFAULT_USER " and no nobody: must have a "
			    "user line", service->name);
		service->user_is_nobody = strcmp(name, CONF_DEFAULT_USER) != 0;
	}
	if (service->group != -1)
		replace_group(&service->user, (gid_t)service->group);
	return 0;
}

static int
check(struct loader *ld)
{
	struct load_section *section;
	long long slots = 0;

	if (TAILQ_EMPTY(&ld->sections))
		return load_wrong(ld, &ld->file, "no service: must have a "
		    "service line, a listen line and a run line");
	TAILQ_FOREACH(section, &ld->sections, entry) {
		if (settle_kind(ld, section) == -1 ||
		    check_kind(ld, section) == -1 ||
		    check_env(ld, section) == -1 ||
		    check_about(ld, section) == -1 ||
		    check_memory(ld, section) == -1 ||
		    check_rules(ld, section) == -1 ||
		    check_prespawn(ld, section) == -1 ||
		    check_service(ld, section) == -1 ||
		    settle_user(ld, section) == -1)
			return -1;
		slots += section->service->workers_max;
		slots += conf_surge(section->service);
		if (slots > CONF_SLOTS_MAX)
			return load_wrong(ld, load_origin(ld, section,
			    "workers-max"),
			    "service %s: workers-max and workers-surge of all "
			    "services so far make %lld: must be at most %d",
			    section->service->name, slots, CONF_SLOTS_MAX);
	}
	return 0;
}

/* Not what a dump says again: its directories and programs have been found. */
static int
check_system(struct loader *ld)
{
	const struct load_section *section;
	char why[CONF_ERROR_MAX];
	const char *name;

	TAILQ_FOREACH(section, &ld->sections, entry)
		if ((name = privs_check(section->service, why)) != NULL)
			return load_wrong(ld, load_origin(ld, section, name),
			    "service %s: %s", section->service->name, why);
	TAILQ_FOREACH(section, &ld->sections, entry)
		if (trial(section->service, why) == -1)
			return load_wrong(ld, load_origin(ld, section,
			    conf_kind_name(section->service->kind)),
			    "service %s: %s", section->service->name, why);
	return 0;
}

/* As the child that compiles them wants them. */
static int
collect_rules(const struct loader *ld, struct ruleset *set)
{
	const struct load_section *section;
	const struct load_where *at;
	int n = 0;

	TAILQ_FOREACH(section, &ld->sections, entry) {
		if (!conf_has_rules(section->service))
			continue;
		at = load_origin(ld, section, "rules");
		set[n] = (struct ruleset){ .source = {
		    .service = section->service->name,
		    .deny = section->service->otherwise ==
		    CONF_OTHERWISE_DENY, .list = section->rules },
		    .named_in = at->file, .named_at = at->line };
		if (section->service->rules[0] != '\0')
			set[n].file = section->service->rules;
		set[n].source.list.no_variables =
		    section->service->prespawn > 0;
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
		return load_wrong(ld, &ld->file, "rules: memfd_create: %s",
		    strerror(errno));
	if (ruleset_compile(fd, set, n, ld->error) == -1)
		return -1;
	if (ld->conf->rules != -1 && ruleset_seal(fd) == -1)
		return load_wrong(ld, &ld->file, "rules: fcntl F_ADD_SEALS: %s",
		    strerror(errno));
	return 0;
}

struct conf *
conf_load(const struct conf_source *source, char error[CONF_ERROR_MAX])
{
	struct loader ld;

	if (load_open(&ld, source->foreground, error) == -1 ||
	    (source->path != NULL && load_file(&ld, source->path) == -1) ||
	    load_service(&ld, source) == -1 ||
	    load_listens(&ld, source->listens) == -1 ||
	    load_overrides(&ld, source->overrides) == -1)
		return load_close(&ld, -1);
	if (check(&ld) == -1 || compile_rules(&ld, source->rules) == -1)
		return load_close(&ld, -1);
	return load_close(&ld, check_system(&ld));
}

struct conf *
conf_load_text(const char *name, const char *text, size_t size,
    char error[CONF_ERROR_MAX])
{
	struct loader ld;

	if (load_open(&ld, false, error) == -1)
		return load_close(&ld, -1);
	ld.at.file = ld.file.file = name;
	ld.included = true;
	if (load_text(&ld, text, size) == -1)
		return load_close(&ld, -1);
	return load_close(&ld, check(&ld));
}

void
conf_free_listens(struct conf_service *service)
{
	struct conf_listen *line;

	while ((line = TAILQ_FIRST(&service->listens)) != NULL) {
		TAILQ_REMOVE(&service->listens, line, entry);
		free(line->text);
		free(line);
	}
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
	conf_free_listens(service);
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
	char buf[128];

	TAILQ_FOREACH(a, &from->listens, entry) {
		TAILQ_FOREACH(b, &to->listens, entry) {
			if (!same_path(a, b) || (a->mode == b->mode &&
			    a->uid == b->uid && a->gid == b->gid))
				continue;
			snprintf(error, CONF_ERROR_MAX, "listen %s: a new mode "
			    "or owner needs a restart", log_quote(buf,
			    sizeof(buf), a->text, strlen(a->text)));
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
