/*
 * value.c: the value of a setting, from text.
 *
 * One function for each type of setting.c's table; all fill the field that the
 * row tells of.  It may call parse.c and address.c; it knows no file, no line
 * and no section, which are load.c's.  Users, groups and owners are looked up,
 * which can hang in a name service: so the master loads only the dump of a
 * check child, where they are numbers.
 */

#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#define SYSLOG_NAMES		/* the table of facilities */
#include <syslog.h>

#include "preforkd.h"

#define OWNER_MAX	80			/* USER:GROUP */
#define RATE_MAX	1000000
#define RATE_LONGEST	(100 * SETTING_YEAR)	/* ms, of a burst */
#define LIMIT_TEXT	96	/* bytes of a line of per-source-for */
#define KEEPALIVE_MAX	(INT64_C(32767) * 1000)	/* of Linux, in ms */

/* Numbers first: what a dump holds must not ask a name service. */
static bool
find_id(const char *text, bool group, uint32_t *id)
{
	const struct passwd *pw;
	const struct group *gr;
	int64_t n;

	if (parse_number(text, 0, UINT32_MAX - 1, &n))
		*id = (uint32_t)n;
	else if (group && (gr = getgrnam(text)) != NULL)
		*id = gr->gr_gid;
	else if (!group && (pw = getpwnam(text)) != NULL)
		*id = pw->pw_uid;
	else
		return false;
	return true;
}

static bool
set_choice(const struct setting *row, int *field, const char *text)
{
	int i;

	for (i = 0; row->choices[i] != NULL; i++) {
		if (strcmp(row->choices[i], text) == 0) {
			*field = i;
			return true;
		}
	}
	return false;
}

/* `NAME'; or `agent SERVICE'. */
static bool
set_run(struct conf_run *run, const char *text)
{
	const size_t n = strcspn(text, " ");
	const char *about = text[n] == ' ' ? text + n + 1 : "";
	const struct preforkd_service *const *s;

	for (s = builtin_services; *s != NULL; s++)
		if (strlen((*s)->name) == n && strncmp((*s)->name, text,
		    n) == 0)
			break;
	if (*s == NULL || (text[n] != '\0' && *s != &agent_service))
		return false;
	run->service = *s;
	return strlcpy(run->about, about, sizeof(run->about)) <
	    sizeof(run->about);
}

static bool
set_path(char **field, const char *text)
{
	char *copy;

	/* Room for what is appended: `.slots', `.last'. */
	if (text[0] != '/' || strlen(text) >= PATH_MAX - 32 ||
	    (copy = strdup(text)) == NULL)
		return false;
	free(*field);
	*field = copy;
	return true;
}

static bool
set_root(char *field, const char *text)
{
	return text[0] == '/' &&
	    strlcpy(field, text, CONF_ROOT_MAX) < CONF_ROOT_MAX;
}

static bool
set_group(int64_t *field, const char *text)
{
	uint32_t gid;

	if (!find_id(text, true, &gid))
		return false;
	*field = gid;
	return true;
}

/* `UID:GID[,GID ...]', as a dump has it: asks no name service. */
bool
value_user_numbers(struct conf_user *user, const char *text)
{
	char copy[1024], *rest = copy, *word;
	int64_t id;

	if (strlcpy(copy, text, sizeof(copy)) >= sizeof(copy))
		return false;
	word = strsep(&rest, ":");
	if (rest == NULL || !parse_number(word, 0, UINT32_MAX - 1, &id))
		return false;
	user->uid = (uid_t)id;
	user->ngroups = 0;
	while ((word = strsep(&rest, ",")) != NULL) {
		if (user->ngroups == CONF_GROUPS_MAX ||
		    !parse_number(word, 0, UINT32_MAX - 1, &id))
			return false;
		user->groups[user->ngroups++] = (gid_t)id;
	}
	user->gid = user->groups[0];
	return user->set = true;
}

static bool
set_user(struct conf_user *user, const char *text)
{
	const struct passwd *pw;

	user->set = true;
	if (strchr(text, ':') != NULL)
		return value_user_numbers(user, text);
	if ((pw = getpwnam(text)) == NULL)
		return false;
	user->uid = pw->pw_uid;
	user->gid = pw->pw_gid;
	user->ngroups = CONF_GROUPS_MAX;
	return getgrouplist(text, pw->pw_gid, user->groups,
	    &user->ngroups) != -1;
}

const char *
value_default_user(struct conf_user *user)
{
	static const char *const names[] = { CONF_DEFAULT_USER, "nobody" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (set_user(user, names[i]))
			return names[i];
	user->set = false;
	return NULL;
}

static bool
set_limit(const struct setting *row, int64_t *field, const char *text)
{
	static const char units[] = "kmg";
	char number[24], *unit;
	int shift = 0;

	if (strcmp(text, "unlimited") == 0) {
		*field = CONF_UNLIMITED;
		return true;
	}
	if (strlcpy(number, text, sizeof(number)) >= sizeof(number))
		return false;
	if ((unit = strpbrk(number, units)) != NULL && unit[1] == '\0') {
		shift = 10 * (int)(strchr(units, *unit) - units + 1);
		*unit = '\0';
	}
	if (!parse_number(number, 0, row->max >> shift, field))
		return false;
	*field <<= shift;
	return *field >= row->min;
}

/* Not those of the kernel and of syslogd itself, nor what is none. */
static bool
set_facility(int *field, const char *text)
{
	const CODE *f;

	for (f = facilitynames; f->c_name != NULL; f++)
		if (strcmp(f->c_name, text) == 0)
			break;
	if (f->c_name == NULL || f->c_val == LOG_KERN ||
	    f->c_val == LOG_SYSLOG || f->c_val >= LOG_NFACILITIES << 3 ||
	    strcmp(text, "security") == 0)
		return false;
	*field = f->c_val;
	return true;
}

const char *
value_facility(int code)
{
	const CODE *f = facilitynames;

	while (f->c_val != code)
		f++;
	return f->c_name;
}

/* What was set before, the default, goes. */
bool
value_set_log(struct conf_log *log, const char *const *word, int nwords)
{
	const char *more = nwords > 1 ? word[1] : NULL;

	if (strcmp(word[0], "file") == 0) {
		log->kind = CONF_LOG_FILE;
		return more != NULL && set_path(&log->path, more);
	}
	free(log->path);
	log->path = NULL;
	if (strcmp(word[0], "syslog") == 0) {
		log->kind = CONF_LOG_SYSLOG;
		return set_facility(&log->facility,
		    more != NULL ? more : "daemon");
	}
	log->kind = CONF_LOG_STDERR;
	return strcmp(word[0], "stderr") == 0 && more == NULL;
}

static bool
set_mode(const char *text, mode_t *mode)
{
	const size_t len = strlen(text);

	if (len == 0 || len > 4 || strspn(text, "01234567") != len)
		return false;
	*mode = (mode_t)strtol(text, NULL, 8);
	return *mode <= 0777;
}

void
value_free_words(char **words)
{
	char **p;

	for (p = words; p != NULL && *p != NULL; p++)
		free(*p);
	free(words);
}

/* Append to a list, which ends with NULL. */
static bool
add_word(char ***list, const char *word)
{
	char **more;
	size_t n = 0;

	while (*list != NULL && (*list)[n] != NULL)
		n++;
	if ((more = reallocarray(*list, n + 2, sizeof(*more))) == NULL)
		return false;
	*list = more;
	more[n + 1] = NULL;
	return (more[n] = strdup(word)) != NULL;
}

/* A module has no path to be looked for in. */
static bool
good_command(const struct setting *row, const char *word)
{
	return word[0] == '/' || (word[0] != '\0' &&
	    strchr(word, '/') == NULL && !setting_is_module(row));
}

/*
 * `30/1m burst 10'; as many at once as in the time, unless it is said, where
 * it may be.
 */
static bool
set_rate(bool bursts, struct conf_rate *rate, char *text)
{
	char *rest = text, *word = strsep(&rest, " "), *per = word;

	*rate = (struct conf_rate){ 0, 0, 0 };
	if (strcmp(word, "0") == 0)
		return rest == NULL;
	word = strsep(&per, "/");
	if (per == NULL || !parse_number(word, 1, RATE_MAX, &rate->count) ||
	    !parse_duration(per, 1, SETTING_YEAR, &rate->per))
		return false;
	rate->burst = rate->count;
	if (rest == NULL)
		return true;
	word = strsep(&rest, " ");
	return bursts && strcmp(word, "burst") == 0 && rest != NULL &&
	    parse_number(rest, 1, RATE_MAX, &rate->burst) &&
	    rate->per / rate->count <= RATE_LONGEST / rate->burst;
}

bool
value_limit(const char *text, struct conf_limit *limit)
{
	char copy[LIMIT_TEXT], *rest = copy, *word, *most;
	const char *why;
	int64_t n;

	if (strlcpy(copy, text, sizeof(copy)) >= sizeof(copy) ||
	    (word = strsep(&rest, " ")) == NULL ||
	    (most = strsep(&rest, " ")) == NULL ||
	    !address_parse_prefix(word, &limit->network, &why) ||
	    !parse_number(most, 0, SOURCE_CELLS, &n))
		return false;
	limit->most = (int)n;
	limit->rated = rest != NULL;
	return rest == NULL || set_rate(true, &limit->rate, rest);
}

const char *
value_not_limited(const struct conf_service *conf, const char *word)
{
	char *const *line = conf->per_source_for;
	struct conf_limit other;
	struct prefix p;
	const char *why;
	int n = 0;

	if (!address_parse_prefix(word, &p, &why))
		return why;
	for (; line != NULL && *line != NULL; line++, n++)
		if (value_limit(*line, &other) &&
		    other.network.length == p.length &&
		    address_within(&p, &other.network))
			return "must be there once";
	return n < CONF_EXCEPTIONS_MAX ? NULL :
	    "one too many: must be at most 64 of a service";
}

static bool
add_limit(struct conf_service *conf, const char *const *word, int nwords)
{
	struct conf_limit limit;
	char text[LIMIT_TEXT] = "";
	size_t size = 0;
	int i;

	if (value_not_limited(conf, word[0]) != NULL)
		return false;
	for (i = 0; i < nwords && size < sizeof(text); i++) {
		strlcat(text, i > 0 ? " " : "", sizeof(text));
		size = strlcat(text, word[i], sizeof(text));
	}
	return size < sizeof(text) && value_limit(text, &limit) &&
	    add_word(&conf->per_source_for, text);
}

const char *
value_who(const char *word, struct rule *rule, char text[VALUE_WHO])
{
	const bool group = strncmp(word, "gid=", 4) == 0;
	const char *why;
	uint32_t id;

	if (group || strncmp(word, "uid=", 4) == 0) {
		if (!find_id(word + 4, group, &id))
			return group ? "must be a group of this system, or "
			    "gid=GID" : "must be a user of this system, or "
			    "uid=UID";
		rules_id(rule, group ? RULES_GID : RULES_UID, id);
	} else {
		if (strpbrk(word, ".:") == NULL)
			return "must be " SETTING_WHO;
		if (!address_parse_prefix(word, &rule->who, &why))
			return why;
		rule->table = rule->who.ipv6 ? RULES_IPV6 : RULES_IPV4;
	}
	rules_text(rule, text, VALUE_WHO);
	return NULL;
}

static bool
add_who(char ***list, const char *const *word, int nwords)
{
	char text[VALUE_WHO];
	struct rule rule;
	int i;

	for (i = 0; i < nwords; i++)
		if (value_who(word[i], &rule, text) != NULL ||
		    !add_word(list, text))
			return false;
	return true;
}

const char *
value_not_from(const char *word)
{
	struct prefix p;
	const char *why;

	return strcmp(word, "unix") == 0 ||
	    address_parse_prefix(word, &p, &why) ? NULL : why;
}

/* `from PREFIX ...': each prefix is a word of the list. */
static bool
add_prefixes(char ***list, const char *const *word, int nwords)
{
	int i;

	if (nwords < 2 || strcmp(word[0], "from") != 0)
		return false;
	for (i = 1; i < nwords; i++)
		if (value_not_from(word[i]) != NULL ||
		    !add_word(list, word[i]))
			return false;
	return true;
}

static bool
set_lengths(struct conf_lengths *lengths, char *text)
{
	char *rest = text, *word = strsep(&rest, " ");
	int64_t ipv4, ipv6;

	if (rest == NULL || !parse_number(word, 0, 32, &ipv4) ||
	    !parse_number(rest, 0, 128, &ipv6))
		return false;
	*lengths = (struct conf_lengths){ (int)ipv4, (int)ipv6 };
	return true;
}

/* `60s 10s 6' */
static bool
set_keepalive(struct conf_keepalive *alive, char *text)
{
	char *rest = text, *idle = strsep(&rest, " ");
	char *interval = strsep(&rest, " ");

	*alive = (struct conf_keepalive){ 0, 0, 0 };
	if (interval == NULL)
		return strcmp(idle, "0") == 0;
	return rest != NULL && parse_duration(idle, 1000, KEEPALIVE_MAX,
	    &alive->idle) && parse_duration(interval, 1000, KEEPALIVE_MAX,
	    &alive->interval) && parse_number(rest, 1, 127, &alive->count);
}

static bool
set_refuse(struct conf_refuse *refuse, const char *text)
{
	refuse->text[0] = '\0';
	refuse->how = CONF_REFUSE_CLOSE;
	if (strcmp(text, "close") == 0)
		return true;
	refuse->how = CONF_REFUSE_RESET;
	if (strcmp(text, "reset") == 0)
		return true;
	refuse->how = CONF_REFUSE_MESSAGE;
	return strncmp(text, "message ", 8) == 0 && strlcpy(refuse->text,
	    text + 8, sizeof(refuse->text)) < sizeof(refuse->text);
}

/* A value of several words. */
static bool
set_phrase(const struct setting *row, void *field, const char *text)
{
	char copy[CONF_REFUSE_MAX + 16];

	if (strlcpy(copy, text, sizeof(copy)) >= sizeof(copy))
		return false;
	if (row->type == TYPE_LENGTHS)
		return set_lengths(field, copy);
	if (row->type == TYPE_RATE)
		return set_rate(row->max > 0, field, copy);
	if (row->type == TYPE_KEEPALIVE)
		return set_keepalive(field, copy);
	return set_refuse(field, copy);
}

bool
value_set_words(const struct setting *row, void *base,
    const char *const *word, int nwords)
{
	char ***field = (char ***)((char *)base + row->offset);
	int i;

	if (row->type == TYPE_ENV)
		return word[0][0] != '=' && strchr(word[0], '=') != NULL &&
		    add_word(field, word[0]);
	if (row->type == TYPE_PREFIX_LIMIT)
		return add_limit(base, word, nwords);
	if (row->type == TYPE_WHO)
		return add_who(field, word, nwords);
	if (row->type == TYPE_FROM)
		return add_prefixes(field, word, nwords);
	if (!good_command(row, word[0]))
		return false;
	for (i = 0; i < nwords; i++)
		if (!add_word(field, word[i]))
			return false;
	return true;
}

bool
value_set(const struct setting *row, void *base, const char *text)
{
	void *field = (char *)base + row->offset;
	int64_t n = 0;

	switch (row->type) {
	case TYPE_NUMBER:
		if (!parse_number(text, row->min, row->max, &n))
			return false;
		*(int *)field = (int)n;
		return true;
	case TYPE_COUNT:
		if (!parse_number(text, row->min, row->max, &n))
			return false;
		*(long long *)field = n;
		return true;
	case TYPE_DURATION:
		return parse_duration(text, row->min, row->max, field);
	case TYPE_CHOICE:
		return set_choice(row, field, text);
	case TYPE_PATH:
		return set_path(field, text);
	case TYPE_USER:
		return set_user(field, text);
	case TYPE_GROUP:
		return set_group(field, text);
	case TYPE_ROOT:
		return set_root(field, text);
	case TYPE_MODE:
		return set_mode(text, field);
	case TYPE_LIMIT:
		return set_limit(row, field, text);
	case TYPE_LOG:
		return value_set_log(field, &text, 1);
	case TYPE_RUN:
		return set_run(field, text);
	case TYPE_LENGTHS:
	case TYPE_RATE:
	case TYPE_KEEPALIVE:
	case TYPE_REFUSE:
		return set_phrase(row, field, text);
	case TYPE_COMMAND:
	case TYPE_ENV:
	case TYPE_PREFIX_LIMIT:
	case TYPE_WHO:
	case TYPE_FROM:
	case TYPE_LISTEN:
	case TYPE_SERVICE:
	case TYPE_INCLUDE:
		break;			/* more than a value */
	}
	return false;
}

/* In the order of stop_signals. */
int
value_stop_signal(const struct conf_service *conf)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP,
	    SIGUSR1, SIGUSR2 };

	return numbers[conf->stop_signal];
}

static bool
set_owner(const char *text, struct conf_listen *line)
{
	char user[OWNER_MAX], *group;
	uint32_t id;

	if (strlcpy(user, text, sizeof(user)) >= sizeof(user))
		return false;
	if ((group = strchr(user, ':')) != NULL)
		*group++ = '\0';
	if (!find_id(user, false, &id))
		return false;
	line->uid = id;
	if (group == NULL)
		return true;
	if (!find_id(group, true, &id))
		return false;
	line->gid = id;
	return true;
}

/* One word after an address; returns what is wrong with it, or NULL. */
static const char *
listen_option(struct conf_listen *line, const char *word)
{
	if (address_path(&line->address[0]) == NULL)
		return "must be alone: a further address has a line of its "
		    "own, mode and owner are for unix:/PATH";
	if (strncmp(word, "mode=", 5) == 0)
		return set_mode(word + 5, &line->mode) ? NULL :
		    "mode must be 0000 to 0777";
	if (strncmp(word, "owner=", 6) == 0)
		return set_owner(word + 6, line) ? NULL :
		    "owner must be USER or USER:GROUP, names or numbers that "
		    "this system knows";
	return "after the address must be mode=MODE, owner=USER[:GROUP] or "
	    "nothing";
}

/*
 * 0666: like a port of the loopback interface, and like systemd's default,
 * a socket is for all users unless its mode or directory says otherwise.
 */
bool
value_set_listen(struct conf_listen *line, const char *const *word,
    int nwords, const char **why)
{
	int i;

	line->mode = 0666;
	line->uid = (uid_t)-1;
	line->gid = (gid_t)-1;
	line->naddress = address_parse(word[0], line->address, why);
	if (line->naddress == -1)
		return false;
	for (i = 1; i < nwords; i++)
		if ((*why = listen_option(line, word[i])) != NULL)
			return false;
	return true;
}

bool
value_is_set(const struct setting *row, const void *base)
{
	const void *field = (const char *)base + row->offset;

	if (row->type == TYPE_PATH)
		return *(char *const *)field != NULL;
	if (row->type == TYPE_COMMAND)
		return *(char **const *)field != NULL;
	if (row->type == TYPE_RUN)
		return ((const struct conf_run *)field)->service != NULL;
	if (row->type == TYPE_USER)
		return ((const struct conf_user *)field)->set;
	if (row->type == TYPE_GROUP || row->type == TYPE_LIMIT)
		return *(const int64_t *)field != -1;
	if (row->type == TYPE_ROOT)
		return *(const char *)field != '\0';
	return true;
}
