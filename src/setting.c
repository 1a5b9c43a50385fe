/*
 * setting.c: the table of settings, and one value of it.
 *
 * One row is the whole truth about a setting: parser, ranges, defaults, dump,
 * reload comparison and the test of manual page and sample file all read it.
 * A new setting is a row here and a field in preforkd.h, of the C type that
 * its setting_type names.  It may call parse.c and address.c; it knows no
 * file, no line and no section, which are conf.c's.  The owner of a Unix socket
 * is looked up, which can hang in a name service: so the master loads only the
 * dump of a check child, where owners are numbers.
 *
 * The order of the rows is the order of a dump.
 */

#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "preforkd.h"

#define WHO	"ADDRESS/LENGTH, an address, uid=USER or gid=GROUP"
#define OWNER_MAX	80			/* USER:GROUP */
#define RATE_MAX	1000000
#define KEEPALIVE_MAX	(INT64_C(32767) * 1000)	/* of Linux, in ms */
#define YEAR		(8760 * INT64_C(3600000))	/* 8760h in ms */

static const char *const type_names[] = { "number", "number", "duration",
    "word", "path", "user", "group", "path", "mode", "limit", "log", "word",
    "words", "variable", "lengths", "rate", "keepalive", "prefix", "who",
    "prefixes", "words", "address", "name", "pattern" };
static const char *const scope_names[] = { "any", "global", "service" };

/* In the order of enum log_level, conf_crash_loop and conf_connections. */
static const char *const levels[] = { "alert", "error", "warning", "notice",
    "info", "debug", NULL };
static const char *const yes_no[] = { "no", "yes", NULL };
/* In the order of enum conf_otherwise. */
static const char *const otherwise[] = { "allow", "deny", NULL };
static const char *const stderrs[] = { "log", "socket", NULL };
static const char *const crash_loop[] = { "keep-trying", "exit", NULL };
/* In the order of enum conf_when_full. */
static const char *const when_full[] = { "queue", "drop-silent", NULL };
static const char *const connections[] = { "no", "end", "both", NULL };
static const char *const stop_signals[] = { "SIGTERM", "SIGINT", "SIGQUIT",
    "SIGHUP", "SIGUSR1", "SIGUSR2", NULL };

static const struct {
	const char	*name;
	int		 code;
} facilities[] = {
	{ "auth", LOG_AUTH },
	{ "authpriv", LOG_AUTHPRIV },
	{ "cron", LOG_CRON },
	{ "daemon", LOG_DAEMON },
	{ "ftp", LOG_FTP },
	{ "local0", LOG_LOCAL0 },
	{ "local1", LOG_LOCAL1 },
	{ "local2", LOG_LOCAL2 },
	{ "local3", LOG_LOCAL3 },
	{ "local4", LOG_LOCAL4 },
	{ "local5", LOG_LOCAL5 },
	{ "local6", LOG_LOCAL6 },
	{ "local7", LOG_LOCAL7 },
	{ "lpr", LOG_LPR },
	{ "mail", LOG_MAIL },
	{ "news", LOG_NEWS },
	{ "user", LOG_USER },
	{ "uucp", LOG_UUCP }
};
#define FACILITIES	(sizeof(facilities) / sizeof(facilities[0]))

#define NOWHERE		SCOPE_ANY, 0
#define GLOBAL(field)	SCOPE_GLOBAL, offsetof(struct conf, field)
#define SERVICE(field)	SCOPE_SERVICE, offsetof(struct conf_service, field)
#define LIMIT(i, min)	SERVICE(limit[i]), true, min, INT64_MAX - 1

/*
 * backlog: what Linux allows unless told otherwise (net.core.somaxconn), so
 * that a burst waits in the queue instead of for a SYN's retransmission.
 * rlimit-nofile: what a worker has open, with a full ring of clients that
 * linger, and some for the service.
 * workers-idle-time: long enough that a burst a minute finds its workers.
 */
const struct setting settings[SETTINGS] = {
	{ "include", TYPE_INCLUDE, NOWHERE, true, 0, 0, NULL, NULL,
	    "read these files here, in order; they cannot include others" },
	{ "status-file", TYPE_PATH, GLOBAL(status_file), false, 0, 0,
	    NULL, NULL, "where preforkctl finds the status of this server" },
	{ "pidfile", TYPE_PATH, GLOBAL(pidfile), false, 0, 0,
	    NULL, NULL, "a locked file with the pid of the master" },
	{ "dumpable", TYPE_CHOICE, GLOBAL(dumpable), false, 0, 0, yes_no,
	    "no", "whether processes started by root may dump core" },
	{ "log", TYPE_LOG, GLOBAL(log), false, 0, 0, NULL, "syslog",
	    "where the log goes" },
	{ "log-level", TYPE_CHOICE, GLOBAL(log_level), true, 0, 0,
	    levels, "info", "the least important messages that are logged" },
	{ "service", TYPE_SERVICE, NOWHERE, true, 0, 0, NULL, NULL,
	    "the settings that follow belong to the service of this name" },
	{ "listen", TYPE_LISTEN, SERVICE(listens), true, 0, 0, NULL,
	    NULL, "an address to serve; may be repeated" },
	{ "run", TYPE_RUN, SERVICE(run), true, 0, 0, NULL, NULL,
	    "the built-in service that talks to the clients" },
	{ "exec", TYPE_COMMAND, SERVICE(command[CONF_EXEC]), true, 0, 0,
	    NULL, NULL, "a program that is started for each client" },
	{ "resident", TYPE_COMMAND, SERVICE(command[CONF_RESIDENT]), true,
	    0, 0, NULL, NULL, "a program that accepts clients by itself" },
	{ "module", TYPE_COMMAND, SERVICE(command[CONF_MODULE]), true, 0, 0,
	    NULL, NULL, "a shared object that talks to the clients" },
	{ "env", TYPE_ENV, SERVICE(env), true, 0, 0, NULL, NULL,
	    "a variable of the program's environment; may be repeated" },
	{ "exec-stderr", TYPE_CHOICE, SERVICE(exec_stderr), true, 0, 0,
	    stderrs, "log", "where the standard error of exec goes" },
	{ "backlog", TYPE_NUMBER, SERVICE(backlog), true, 1, 65535, NULL,
	    "4096", "clients that may wait in the queue of a socket" },
	{ "tcp-nodelay", TYPE_CHOICE, SERVICE(tcp_nodelay), true, 0, 0,
	    yes_no, "no", "whether small pieces are sent at once" },
	{ "tcp-keepalive", TYPE_KEEPALIVE, SERVICE(tcp_keepalive), true, 0, 0,
	    NULL, "0", "find clients that are no more, however silent; "
	    "0: do not" },
	{ "tcp-defer-accept", TYPE_DURATION, SERVICE(tcp_defer_accept), true,
	    0, INT64_C(3600000), NULL, "0",
	    "a client comes when it has sent something, or after this time" },
	{ "tcp-user-timeout", TYPE_DURATION, SERVICE(tcp_user_timeout), true,
	    0, INT64_C(86400000), NULL, "0",
	    "what is sent must be acknowledged within this time; 0: as the "
	    "system has it" },
	{ "workers-min", TYPE_NUMBER, SERVICE(workers_min), true, 1,
	    CONF_SLOTS_MAX, NULL, "1", "never fewer workers than this" },
	{ "workers-spare", TYPE_NUMBER, SERVICE(workers_spare), true, 1,
	    CONF_SLOTS_MAX, NULL, "8",
	    "workers kept idle for each listening socket" },
	{ "workers-max", TYPE_NUMBER, SERVICE(workers_max), true, 1,
	    CONF_SLOTS_MAX, NULL, "512", "never more workers than this" },
	{ "workers-surge", TYPE_NUMBER, SERVICE(workers_surge), true, 1,
	    CONF_SLOTS_MAX, NULL, NULL,
	    "more workers during a reload; as many as workers-max unless set" },
	{ "workers-idle-time", TYPE_DURATION, SERVICE(workers_idle_time),
	    true, 100, YEAR, NULL, "1m",
	    "idle workers above workers-spare stay this long" },
	{ "max-connections-per-worker", TYPE_COUNT, SERVICE(max_connections),
	    true, 0, INT64_C(1000000000000), NULL, "0",
	    "a worker is replaced after this many clients; 0: never" },
	{ "first-byte-timeout", TYPE_DURATION, SERVICE(first_byte_timeout),
	    true, 0, YEAR, NULL, "0",
	    "a client must send its first byte within this time; 0: none" },
	{ "idle-timeout", TYPE_DURATION, SERVICE(idle_timeout), true, 0,
	    YEAR, NULL, "0",
	    "a client must send or take a byte within this time; 0: none" },
	{ "connection-timeout", TYPE_DURATION, SERVICE(connection_timeout),
	    true, 0, YEAR, NULL, "0",
	    "a connection must be over within this time; 0: none" },
	{ "drain-timeout", TYPE_DURATION, SERVICE(drain_timeout), true,
	    100, YEAR, NULL, "30s",
	    "clients may finish for this long at a stop or a reload" },
	{ "on-crash-loop", TYPE_CHOICE, SERVICE(on_crash_loop), true, 0, 0,
	    crash_loop, "keep-trying",
	    "what to do when no worker lives to serve a client" },
	{ "ready-time", TYPE_DURATION, SERVICE(ready_time), true, 0, 20000,
	    NULL, "1s", "a resident program is ready when it lives so long" },
	{ "max-age", TYPE_DURATION, SERVICE(max_age), true, 0, YEAR, NULL,
	    "0", "a resident program is replaced at this age; 0: never" },
	{ "max-memory", TYPE_LIMIT, SERVICE(max_memory), true, 1 << 20,
	    INT64_MAX - 1, NULL, NULL,
	    "a resident program that has more memory is replaced" },
	{ "max-memory-hard", TYPE_LIMIT, SERVICE(max_memory_hard), true,
	    1 << 20, INT64_MAX - 1, NULL, NULL,
	    "a resident program that has more memory is killed" },
	{ "stop-signal", TYPE_CHOICE, SERVICE(stop_signal), true, 0, 0,
	    stop_signals, "SIGTERM", "tells a resident program to leave" },
	{ "log-connections", TYPE_CHOICE, SERVICE(log_connections), true,
	    0, 0, connections, "no",
	    "log clients: not, when they have left, or when they come too" },
	{ "allow", TYPE_WHO, SERVICE(allow), true, 0, 0, NULL, NULL,
	    "who may come in; may be repeated" },
	{ "deny", TYPE_WHO, SERVICE(deny), true, 0, 0, NULL, NULL,
	    "who may not; the longest prefix decides; may be repeated" },
	{ "default", TYPE_CHOICE, SERVICE(otherwise), true, 0, 0, otherwise,
	    "allow", "what holds for whom no rule is for" },
	{ "rules", TYPE_ROOT, SERVICE(rules), true, 0, 0, NULL, NULL,
	    "a file of rules for who may come in, in the syntax of tcprules" },
	{ "per-source", TYPE_NUMBER, SERVICE(per_source), true, 0,
	    SOURCE_CELLS, NULL, "0",
	    "connections that a source may have at once; 0: any number" },
	{ "per-source-prefix", TYPE_LENGTHS, SERVICE(per_source_prefix), true,
	    0, 0, NULL, "32 64",
	    "bits of an address, IPv4 and IPv6, that make a source" },
	{ "per-source-rate", TYPE_RATE, SERVICE(per_source_rate), true, 0, 1,
	    NULL, "0", "connections that a source may make in a time; 0: any" },
	{ "per-source-for", TYPE_PREFIX_LIMIT, SERVICE(per_source_for), true,
	    0, 0, NULL, NULL,
	    "another per-source for these addresses; may be repeated" },
	{ "proxy-protocol", TYPE_FROM, SERVICE(proxy_protocol), true, 0, 0,
	    NULL, NULL,
	    "proxies that say whose connection it is; may be repeated" },
	{ "rate", TYPE_RATE, SERVICE(rate), true, 0, 1, NULL, "0",
	    "connections that are accepted in a time; 0: any" },
	{ "min-rate", TYPE_RATE, SERVICE(min_rate), true, 0, 0, NULL, "0",
	    "bytes that a client must send or take in a time; 0: any" },
	{ "when-full", TYPE_CHOICE, SERVICE(when_full), true, 0, 0, when_full,
	    "queue", "what becomes of clients when all workers are busy" },
	{ "refuse", TYPE_REFUSE, SERVICE(refuse), true, 0, 0, NULL, "close",
	    "what a client meets that may not come in" },
	{ "user", TYPE_USER, SERVICE(user), true, 0, 0, NULL, NULL,
	    "who serves, when the server is started by root" },
	{ "group", TYPE_GROUP, SERVICE(group), true, 0, 0, NULL, NULL,
	    "the group, instead of the user's own" },
	{ "chroot", TYPE_ROOT, SERVICE(chroot), true, 0, 0, NULL, NULL,
	    "the root directory of the workers" },
	{ "new-privileges", TYPE_CHOICE, SERVICE(new_privileges), true, 0, 0,
	    yes_no, "no",
	    "whether a worker may gain some, by set-user-ID programs" },
	{ "chdir", TYPE_ROOT, SERVICE(chdir), true, 0, 0, NULL, "/",
	    "the working directory" },
	{ "umask", TYPE_MODE, SERVICE(umask), true, 0, 0777, NULL, "022",
	    "permissions that new files do not get" },
	{ "nice", TYPE_NUMBER, SERVICE(nice), true, -20, 19, NULL, "0",
	    "how much nicer to others than the master" },
	{ "rlimit-as", TYPE_LIMIT, LIMIT(0, 0), NULL, NULL,
	    "setrlimit(2) of each worker: bytes of address space" },
	{ "rlimit-core", TYPE_LIMIT, LIMIT(1, 0), NULL, NULL,
	    "setrlimit(2) of each worker: bytes of a core file" },
	{ "rlimit-cpu", TYPE_LIMIT, LIMIT(2, 1), NULL, NULL,
	    "setrlimit(2) of each worker: seconds of CPU time" },
	{ "rlimit-data", TYPE_LIMIT, LIMIT(3, 0), NULL, NULL,
	    "setrlimit(2) of each worker: bytes of data" },
	{ "rlimit-fsize", TYPE_LIMIT, LIMIT(4, 0), NULL, NULL,
	    "setrlimit(2) of each worker: bytes of a file written" },
	{ "rlimit-nofile", TYPE_LIMIT, LIMIT(5, 32), NULL, NULL,
	    "setrlimit(2) of each worker: descriptors" },
	{ "rlimit-nproc", TYPE_LIMIT, LIMIT(6, 0), NULL, NULL,
	    "setrlimit(2) of each worker: processes of the user" },
	{ "rlimit-stack", TYPE_LIMIT, LIMIT(7, 128 << 10), NULL, NULL,
	    "setrlimit(2) of each worker: bytes of stack" }
};

const struct setting *
setting_find(const char *name)
{
	size_t i;

	for (i = 0; i < SETTINGS; i++)
		if (strcmp(settings[i].name, name) == 0)
			return &settings[i];
	return NULL;
}

#define ROW	64

/* Levenshtein's distance, one row at a time. */
static size_t
distance(const char *a, const char *b)
{
	const size_t lena = strlen(a), lenb = strlen(b);
	size_t row[ROW], i, j, diagonal, old;

	if (lena >= ROW || lenb >= ROW)
		return SIZE_MAX;
	for (j = 0; j <= lenb; j++)
		row[j] = j;
	for (i = 1; i <= lena; i++) {
		diagonal = row[0];
		row[0] = i;
		for (j = 1; j <= lenb; j++) {
			old = row[j];
			row[j] = diagonal + (a[i - 1] != b[j - 1]);
			if (row[j - 1] + 1 < row[j])
				row[j] = row[j - 1] + 1;
			if (old + 1 < row[j])
				row[j] = old + 1;
			diagonal = old;
		}
	}
	return row[lenb];
}

const char *
setting_nearest(const char *name)
{
	size_t best = strlen(name) / 2 + 1, d, i;
	const char *nearest = NULL;

	for (i = 0; i < SETTINGS; i++) {
		if ((d = distance(name, settings[i].name)) < best) {
			best = d;
			nearest = settings[i].name;
		}
	}
	return nearest;
}

static void
join(FILE *out, const char *word, bool first)
{
	fprintf(out, "%s%s", first ? "" : ", ", word);
}

static bool
is_module(const struct setting *row)
{
	return row->offset == offsetof(struct conf_service,
	    command[CONF_MODULE]);
}

/* What is allowed, where no row says more. */
static const char *const ranges[] = {
	[TYPE_GROUP] = "a group of this system, or GID",
	[TYPE_PATH] = "an absolute path",
	[TYPE_COMMAND] = "a program, by an absolute path or a name to be "
	    "looked for in " PROGRAM_PATH ", and its arguments",
	[TYPE_ENV] = "NAME=VALUE",
	[TYPE_LENGTHS] = "two numbers, 0 to 32 for IPv4 and 0 to 128 for IPv6",
	[TYPE_KEEPALIVE] = "IDLE INTERVAL COUNT, durations of 1s to 32767s "
	    "and a number from 1 to 127, or 0",
	[TYPE_RATE] = "NUMBER/DURATION, a number from 1 to 1000000, or 0",
	[TYPE_PREFIX_LIMIT] = "ADDRESS/LENGTH, or an address, and a number, 0 "
	    "to 120",
	[TYPE_WHO] = WHO,
	[TYPE_FROM] = "from PREFIX ..., each ADDRESS/LENGTH, an address or "
	    "unix",
	[TYPE_REFUSE] = "close, reset or message TEXT, a text of at most 199 "
	    "bytes",
	[TYPE_LOG] = "stderr, syslog [FACILITY] or file PATH: a facility of "
	    "syslog(3), an absolute path",
	[TYPE_LISTEN] = "ADDRESS:PORT, [IPV6]:PORT, *:PORT or unix:/PATH "
	    "[mode=0666] [owner=USER[:GROUP]]",
	[TYPE_INCLUDE] = "a file or a glob(7) pattern"
};

static void
put_choices(FILE *out, const struct setting *row)
{
	int i;

	fputs("one of ", out);
	if (row->type == TYPE_RUN)
		for (i = 0; builtin_services[i] != NULL; i++)
			join(out, builtin_services[i]->name, i == 0);
	else
		for (i = 0; row->choices[i] != NULL; i++)
			join(out, row->choices[i], i == 0);
}

/* What is allowed, in words. */
static void
put_range(FILE *out, const struct setting *row)
{
	char min[24], max[24];

	switch (row->type) {
	case TYPE_NUMBER:
	case TYPE_COUNT:
		fprintf(out, "%lld to %lld", (long long)row->min,
		    (long long)row->max);
		break;
	case TYPE_DURATION:
		fprintf(out, "%s to %s",
		    parse_duration_text(row->min, min, sizeof(min)),
		    parse_duration_text(row->max, max, sizeof(max)));
		break;
	case TYPE_CHOICE:
	case TYPE_RUN:
		put_choices(out, row);
		break;
	case TYPE_USER:
		fprintf(out, "a user of this system with at most %d groups, "
		    "or UID:GID[,GID ...]", CONF_GROUPS_MAX);
		break;
	case TYPE_ROOT:
		fprintf(out, "an absolute path of at most %d bytes",
		    CONF_ROOT_MAX - 1);
		break;
	case TYPE_MODE:
		fprintf(out, "0000 to %04o", (unsigned int)row->max);
		break;
	case TYPE_LIMIT:
		fprintf(out, "%lld or more, also with k, m or g, or unlimited",
		    (long long)row->min);
		break;
	case TYPE_SERVICE:
		fprintf(out, "1 to %d of A-Z a-z 0-9 . _ -", CONF_NAME_MAX);
		break;
	case TYPE_COMMAND:
		fputs(is_module(row) ? "an absolute path, and arguments" :
		    ranges[row->type], out);
		break;
	case TYPE_GROUP:
	case TYPE_PATH:
	case TYPE_ENV:
	case TYPE_RATE:
		fputs(row->max > 0 ? "NUMBER/DURATION [burst NUMBER], numbers "
		    "from 1 to 1000000, or 0" : ranges[row->type], out);
		break;
	case TYPE_LENGTHS:
	case TYPE_KEEPALIVE:
	case TYPE_PREFIX_LIMIT:
	case TYPE_WHO:
	case TYPE_FROM:
	case TYPE_REFUSE:
	case TYPE_LOG:
	case TYPE_LISTEN:
	case TYPE_INCLUDE:
		fputs(ranges[row->type], out);
		break;
	}
}

char *
setting_range(const struct setting *row, char *buf, size_t size)
{
	FILE *out;

	buf[0] = '\0';
	if ((out = fmemopen(buf, size, "w")) != NULL) {
		put_range(out, row);
		fclose(out);
	}
	return buf;
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

static bool
set_run(const struct preforkd_service **field, const char *text)
{
	int i;

	for (i = 0; builtin_services[i] != NULL; i++) {
		if (strcmp(builtin_services[i]->name, text) == 0) {
			*field = builtin_services[i];
			return true;
		}
	}
	return false;
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
	const struct group *gr;

	if (parse_number(text, 0, UINT32_MAX - 1, field))
		return true;
	if ((gr = getgrnam(text)) == NULL)
		return false;
	*field = gr->gr_gid;
	return true;
}

/* `UID:GID[,GID ...]', as a dump has it: asks no name service. */
static bool
set_user_numbers(struct conf_user *user, char *text)
{
	char *rest = text, *word = strsep(&rest, ":");
	int64_t id;

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
	return true;
}

static bool
set_user(struct conf_user *user, const char *text)
{
	const struct passwd *pw;
	char copy[1024];

	if (strlcpy(copy, text, sizeof(copy)) >= sizeof(copy))
		return false;
	user->set = true;
	if (strchr(text, ':') != NULL)
		return set_user_numbers(user, copy);
	if ((pw = getpwnam(text)) == NULL)
		return false;
	user->uid = pw->pw_uid;
	user->gid = pw->pw_gid;
	user->ngroups = CONF_GROUPS_MAX;
	return getgrouplist(text, pw->pw_gid, user->groups,
	    &user->ngroups) != -1;
}

const char *
setting_default_user(struct conf_user *user)
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

static bool
set_facility(int *field, const char *text)
{
	size_t i;

	for (i = 0; i < FACILITIES; i++) {
		if (strcmp(facilities[i].name, text) == 0) {
			*field = facilities[i].code;
			return true;
		}
	}
	return false;
}

/* What was set before, the default, goes. */
bool
setting_set_log(struct conf_log *log, const char *const *word, int nwords)
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
setting_free_words(char **words)
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
	    strchr(word, '/') == NULL && !is_module(row));
}

bool
setting_prefix_limit(const char *text, struct prefix *p, int *limit)
{
	char copy[80], *rest = copy, *word;
	const char *why;
	int64_t n;

	if (strlcpy(copy, text, sizeof(copy)) >= sizeof(copy) ||
	    (word = strsep(&rest, " ")) == NULL || rest == NULL ||
	    !address_parse_prefix(word, p, &why) ||
	    !parse_number(rest, 0, SOURCE_CELLS, &n))
		return false;
	*limit = (int)n;
	return true;
}

const char *
setting_not_limited(const struct conf_service *conf, const char *word)
{
	char *const *line = conf->per_source_for;
	struct prefix p, other;
	const char *why;
	int limit, n = 0;

	if (!address_parse_prefix(word, &p, &why))
		return why;
	for (; line != NULL && *line != NULL; line++, n++)
		if (setting_prefix_limit(*line, &other, &limit) &&
		    other.length == p.length && address_within(&p, &other))
			return "must be there once";
	return n < CONF_EXCEPTIONS_MAX ? NULL :
	    "one too many: must be at most 64 of a service";
}

static bool
add_prefix_limit(struct conf_service *conf, const char *const *word,
    int nwords)
{
	struct prefix p;
	char text[80];
	int limit;

	return nwords == 2 && setting_not_limited(conf, word[0]) == NULL &&
	    (size_t)snprintf(text, sizeof(text), "%s %s", word[0],
	    word[1]) < sizeof(text) && setting_prefix_limit(text, &p,
	    &limit) && add_word(&conf->per_source_for, text);
}

/* Numbers first, as for set_owner(). */
static const char *
who_by_id(const char *word, struct rule *rule)
{
	const bool group = word[0] == 'g';
	const struct passwd *pw;
	const struct group *gr;
	int64_t id;

	word += 4;
	if (parse_number(word, 0, UINT32_MAX - 1, &id))
		;
	else if (group && (gr = getgrnam(word)) != NULL)
		id = gr->gr_gid;
	else if (!group && (pw = getpwnam(word)) != NULL)
		id = pw->pw_uid;
	else
		return group ? "must be a group of this system, or gid=GID" :
		    "must be a user of this system, or uid=UID";
	rules_id(rule, group ? RULES_GID : RULES_UID, (uint32_t)id);
	return NULL;
}

const char *
setting_who(const char *word, struct rule *rule, char text[SETTING_WHO])
{
	const char *why;

	if (strncmp(word, "uid=", 4) == 0 || strncmp(word, "gid=", 4) == 0) {
		if ((why = who_by_id(word, rule)) != NULL)
			return why;
	} else {
		if (strpbrk(word, ".:") == NULL)
			return "must be " WHO;
		if (!address_parse_prefix(word, &rule->who, &why))
			return why;
		rule->table = rule->who.ipv6 ? RULES_IPV6 : RULES_IPV4;
	}
	rules_text(rule, text, SETTING_WHO);
	return NULL;
}

static bool
add_who(char ***list, const char *const *word, int nwords)
{
	char text[SETTING_WHO];
	struct rule rule;
	int i;

	for (i = 0; i < nwords; i++)
		if (setting_who(word[i], &rule, text) != NULL ||
		    !add_word(list, text))
			return false;
	return true;
}

const char *
setting_not_from(const char *word)
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
		if (setting_not_from(word[i]) != NULL ||
		    !add_word(list, word[i]))
			return false;
	return true;
}

bool
setting_is_list(const struct setting *row)
{
	return row->type == TYPE_LISTEN || row->type == TYPE_ENV ||
	    row->type == TYPE_PREFIX_LIMIT || row->type == TYPE_WHO ||
	    row->type == TYPE_FROM;
}

int
setting_most_words(const struct setting *row)
{
	static const short most[] = {
		[TYPE_COMMAND] = PARSE_WORDS - 1,
		[TYPE_WHO] = PARSE_WORDS - 1,
		[TYPE_FROM] = PARSE_WORDS - 1,
		[TYPE_LISTEN] = 3,
		[TYPE_RATE] = 3,
		[TYPE_KEEPALIVE] = 3,
		[TYPE_LOG] = 2,
		[TYPE_LENGTHS] = 2,
		[TYPE_PREFIX_LIMIT] = 2,
		[TYPE_REFUSE] = 2,
		[TYPE_INCLUDE] = 1
	};

	return most[row->type] > 0 ? most[row->type] : 1;
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

/*
 * `30/1m burst 10'; as many at once as in the time, unless it is said.  A row
 * whose maximum is 0 has no burst.
 */
static bool
set_rate(const struct setting *row, struct conf_rate *rate, char *text)
{
	char *rest = text, *word = strsep(&rest, " "), *per = word;

	*rate = (struct conf_rate){ 0, 0, 0 };
	if (strcmp(word, "0") == 0)
		return rest == NULL;
	word = strsep(&per, "/");
	if (per == NULL || !parse_number(word, 1, RATE_MAX, &rate->count) ||
	    !parse_duration(per, 1, YEAR, &rate->per))
		return false;
	rate->burst = rate->count;
	if (rest == NULL)
		return true;
	word = strsep(&rest, " ");
	return row->max > 0 && strcmp(word, "burst") == 0 && rest != NULL &&
	    parse_number(rest, 1, RATE_MAX, &rate->burst);
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
		return set_rate(row, field, copy);
	if (row->type == TYPE_KEEPALIVE)
		return set_keepalive(field, copy);
	return set_refuse(field, copy);
}

bool
setting_set_words(const struct setting *row, void *base,
    const char *const *word, int nwords)
{
	char ***field = (char ***)((char *)base + row->offset);
	int i;

	if (row->type == TYPE_ENV)
		return word[0][0] != '=' && strchr(word[0], '=') != NULL &&
		    add_word(field, word[0]);
	if (row->type == TYPE_PREFIX_LIMIT)
		return add_prefix_limit(base, word, nwords);
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
setting_set(const struct setting *row, void *base, const char *text)
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
		return setting_set_log(field, &text, 1);
	case TYPE_RUN:
		return set_run(field, text);
	case TYPE_COMMAND:
	case TYPE_ENV:
		return setting_set_words(row, base, &text, 1);
	case TYPE_LENGTHS:
	case TYPE_RATE:
	case TYPE_KEEPALIVE:
	case TYPE_REFUSE:
		return set_phrase(row, field, text);
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
setting_stop_signal(const struct conf_service *conf)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP,
	    SIGUSR1, SIGUSR2 };

	return numbers[conf->stop_signal];
}

/* Numbers first: what a dump holds must not ask a name service. */
static bool
set_owner(const char *text, struct conf_listen *line)
{
	char user[OWNER_MAX], *group;
	const struct passwd *pw;
	const struct group *gr;
	int64_t id;

	if (strlcpy(user, text, sizeof(user)) >= sizeof(user))
		return false;
	if ((group = strchr(user, ':')) != NULL)
		*group++ = '\0';
	if (parse_number(user, 0, UINT32_MAX - 1, &id))
		line->uid = (uid_t)id;
	else if ((pw = getpwnam(user)) != NULL)
		line->uid = pw->pw_uid;
	else
		return false;
	if (group == NULL)
		return true;
	if (parse_number(group, 0, UINT32_MAX - 1, &id))
		line->gid = (gid_t)id;
	else if ((gr = getgrnam(group)) != NULL)
		line->gid = gr->gr_gid;
	else
		return false;
	return true;
}

/* One word after an address; returns what is wrong with it, or NULL. */
static const char *
listen_option(struct conf_listen *line, const char *word)
{
	if (address_path(&line->address[0]) == NULL)
		return "must be alone: mode and owner are for unix:/PATH";
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
setting_set_listen(struct conf_listen *line, const char *const *word,
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
setting_is_set(const struct setting *row, const void *base)
{
	const void *field = (const char *)base + row->offset;

	if (row->type == TYPE_PATH)
		return *(char *const *)field != NULL;
	if (row->type == TYPE_COMMAND)
		return *(char **const *)field != NULL;
	if (row->type == TYPE_RUN)
		return *(const struct preforkd_service *const *)field != NULL;
	if (row->type == TYPE_USER)
		return ((const struct conf_user *)field)->set;
	if (row->type == TYPE_GROUP || row->type == TYPE_LIMIT)
		return *(const int64_t *)field != -1;
	if (row->type == TYPE_ROOT)
		return *(const char *)field != '\0';
	return true;
}

static void
put_user(FILE *out, const struct conf_user *user)
{
	int i;

	fprintf(out, "%u:%u", (unsigned int)user->uid,
	    (unsigned int)user->gid);
	for (i = 0; i < user->ngroups; i++)
		if (user->groups[i] != user->gid)
			fprintf(out, ",%u", (unsigned int)user->groups[i]);
}

static void
put_limit(FILE *out, int64_t limit)
{
	if (limit == CONF_UNLIMITED)
		fputs("unlimited", out);
	else
		fprintf(out, "%lld", (long long)limit);
}

static void
put_log(FILE *out, const struct conf_log *log)
{
	size_t i = 0;

	switch (log->kind) {
	case CONF_LOG_STDERR:
		fputs("stderr", out);
		break;
	case CONF_LOG_FILE:
		fputs("file ", out);
		parse_put(out, log->path);
		break;
	case CONF_LOG_SYSLOG:
		while (facilities[i].code != log->facility)
			i++;
		fprintf(out, "syslog %s", facilities[i].name);
		break;
	}
}

static void
put_run(FILE *out, const struct preforkd_service *const *run)
{
	fputs((*run)->name, out);
}

static void
put_words(FILE *out, char *const *word)
{
	for (; *word != NULL; word++) {
		parse_put(out, *word);
		if (word[1] != NULL)
			fputc(' ', out);
	}
}

static void
put_rate(FILE *out, const struct setting *row, const struct conf_rate *rate)
{
	char per[24];

	if (rate->count == 0)
		fputc('0', out);
	else
		fprintf(out, "%lld/%s", (long long)rate->count,
		    parse_duration_text(rate->per, per, sizeof(per)));
	if (row->max > 0 && rate->count > 0)
		fprintf(out, " burst %lld", (long long)rate->burst);
}

static void
put_keepalive(FILE *out, const struct conf_keepalive *alive)
{
	char idle[24], interval[24];

	parse_duration_text(alive->idle, idle, sizeof(idle));
	parse_duration_text(alive->interval, interval, sizeof(interval));
	if (alive->idle == 0)
		fputc('0', out);
	else
		fprintf(out, "%s %s %lld", idle, interval,
		    (long long)alive->count);
}

static void
put_refuse(FILE *out, const struct conf_refuse *refuse)
{
	static const char *const how[] = { "close", "reset", "message " };

	fputs(how[refuse->how], out);
	if (refuse->how == CONF_REFUSE_MESSAGE)
		parse_put(out, refuse->text);
}

static void
put_phrase(FILE *out, const struct setting *row, const void *field)
{
	const struct conf_lengths *lengths = field;

	if (row->type == TYPE_RATE)
		put_rate(out, row, field);
	else if (row->type == TYPE_REFUSE)
		put_refuse(out, field);
	else if (row->type == TYPE_KEEPALIVE)
		put_keepalive(out, field);
	else
		fprintf(out, "%d %d", lengths->ipv4, lengths->ipv6);
}

void
setting_put(FILE *out, const struct setting *row, const void *base)
{
	const void *field = (const char *)base + row->offset;
	char buf[24];

	if (!setting_is_set(row, base))
		return;
	switch (row->type) {
	case TYPE_NUMBER:
		fprintf(out, "%d", *(const int *)field);
		break;
	case TYPE_COUNT:
		fprintf(out, "%lld", *(const long long *)field);
		break;
	case TYPE_DURATION:
		fputs(parse_duration_text(*(const int64_t *)field, buf,
		    sizeof(buf)), out);
		break;
	case TYPE_CHOICE:
		fputs(row->choices[*(const int *)field], out);
		break;
	case TYPE_PATH:
		parse_put(out, *(char *const *)field);
		break;
	case TYPE_USER:
		put_user(out, field);
		break;
	case TYPE_ROOT:
		parse_put(out, field);
		break;
	case TYPE_MODE:
		fprintf(out, "%03o", (unsigned int)*(const mode_t *)field);
		break;
	case TYPE_GROUP:
	case TYPE_LIMIT:
		put_limit(out, *(const int64_t *)field);
		break;
	case TYPE_LOG:
		put_log(out, field);
		break;
	case TYPE_RUN:
		put_run(out, field);
		break;
	case TYPE_COMMAND:
		put_words(out, *(char **const *)field);
		break;
	case TYPE_LENGTHS:
	case TYPE_RATE:
	case TYPE_KEEPALIVE:
	case TYPE_REFUSE:
		put_phrase(out, row, field);
		break;
	case TYPE_ENV:
	case TYPE_PREFIX_LIMIT:
	case TYPE_WHO:
	case TYPE_FROM:
	case TYPE_LISTEN:
	case TYPE_SERVICE:
	case TYPE_INCLUDE:
		break;
	}
}

void
setting_put_list(FILE *out, const struct setting *row, const void *base)
{
	char *const *line;

	line = *(char **const *)(const void *)((const char *)base +
	    row->offset);
	for (; line != NULL && *line != NULL; line++) {
		fprintf(out, "\t%s %s", row->name,
		    row->type == TYPE_FROM ? "from " : "");
		if (row->type == TYPE_ENV)
			parse_put(out, *line);
		else
			fputs(*line, out);
		fputc('\n', out);
	}
}

void
setting_put_listen(FILE *out, const struct conf_listen *line)
{
	parse_put(out, line->text);
	if (address_path(&line->address[0]) != NULL)
		fprintf(out, " mode=%04o", (unsigned int)line->mode);
	if (line->uid != (uid_t)-1)
		fprintf(out, " owner=%u", (unsigned int)line->uid);
	if (line->gid != (gid_t)-1)
		fprintf(out, ":%u", (unsigned int)line->gid);
}

void
setting_table(FILE *out)
{
	const struct setting *row;
	char range[256];

	for (row = settings; row < settings + SETTINGS; row++)
		fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row->name,
		    scope_names[row->scope], type_names[row->type],
		    setting_range(row, range, sizeof(range)),
		    row->fallback == NULL ? "-" : row->fallback,
		    row->reload ? "reload" : "restart", row->help);
}
