/*
 * setting.c: the table of settings, and what is allowed for each.
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

#include <stddef.h>
#include <string.h>

#include "preforkd.h"

static const char *const type_names[] = { "number", "number", "duration",
    "word", "path", "user", "group", "path", "mode", "limit", "log", "word",
    "words", "variable", "lengths", "rate", "keepalive", "prefix", "who",
    "prefixes", "words", "address", "name", "pattern" };
static const char *const scope_names[] = { "any", "global", "service" };

/* In the order of enum conf_crash_loop and conf_connections. */
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
	    log_levels, "info",
	    "the least important messages that are logged" },
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
	{ "prespawn", TYPE_NUMBER, SERVICE(prespawn), true, 0, PRESPAWN_MAX,
	    NULL, "0",
	    "programs of exec that wait in each worker for their clients" },
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
	    true, 100, SETTING_YEAR, NULL, "1m",
	    "idle workers above workers-spare stay this long" },
	{ "max-connections-per-worker", TYPE_COUNT, SERVICE(max_connections),
	    true, 0, INT64_C(1000000000000), NULL, "0",
	    "a worker is replaced after this many clients; 0: never" },
	{ "first-byte-timeout", TYPE_DURATION, SERVICE(first_byte_timeout),
	    true, 0, SETTING_YEAR, NULL, "0",
	    "a client must send its first byte within this time; 0: none" },
	{ "idle-timeout", TYPE_DURATION, SERVICE(idle_timeout), true, 0,
	    SETTING_YEAR, NULL, "0",
	    "a client must send or take a byte within this time; 0: none" },
	{ "connection-timeout", TYPE_DURATION, SERVICE(connection_timeout),
	    true, 0, SETTING_YEAR, NULL, "0",
	    "a connection must be over within this time; 0: none" },
	{ "drain-timeout", TYPE_DURATION, SERVICE(drain_timeout), true,
	    100, SETTING_YEAR, NULL, "30s",
	    "clients may finish for this long at a stop or a reload" },
	{ "on-crash-loop", TYPE_CHOICE, SERVICE(on_crash_loop), true, 0, 0,
	    crash_loop, "keep-trying",
	    "what to do when no worker lives to serve a client" },
	{ "ready-time", TYPE_DURATION, SERVICE(ready_time), true, 0, 20000,
	    NULL, "1s", "a resident program is ready when it lives so long" },
	{ "max-age", TYPE_DURATION, SERVICE(max_age), true, 0,
	    SETTING_YEAR, NULL, "0",
	    "a resident program is replaced at this age; 0: never" },
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
	    "other limits for these addresses; may be repeated" },
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

bool
setting_is_module(const struct setting *row)
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
	    "to 120; and NUMBER/DURATION [burst NUMBER], or 0, for another "
	    "rate",
	[TYPE_WHO] = SETTING_WHO,
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
			join(out, builtin_services[i] == &agent_service ?
			    "agent [SERVICE]" : builtin_services[i]->name,
			    i == 0);
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
		fputs(setting_is_module(row) ?
		    "an absolute path, and arguments" : ranges[row->type], out);
		break;
	case TYPE_RATE:
		fputs(row->max > 0 ? "NUMBER/DURATION [burst NUMBER], numbers "
		    "from 1 to 1000000, a burst of at most 100 years, or 0" :
		    ranges[row->type], out);
		break;
	case TYPE_GROUP:
	case TYPE_PATH:
	case TYPE_ENV:
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
		[TYPE_RUN] = 2,
		[TYPE_LOG] = 2,
		[TYPE_LENGTHS] = 2,
		[TYPE_PREFIX_LIMIT] = 5,
		[TYPE_REFUSE] = 2,
		[TYPE_INCLUDE] = 1
	};

	return most[row->type] > 0 ? most[row->type] : 1;
}

bool
setting_is_for(const struct setting *row, enum conf_kind kind)
{
	static const char *const never[] = { "workers-spare",
	    "max-connections-per-worker", "first-byte-timeout",
	    "idle-timeout", "connection-timeout", "log-connections",
	    "per-source", "per-source-prefix", "per-source-rate",
	    "per-source-for", "proxy-protocol", "rate", "min-rate",
	    "when-full", "refuse", "allow", "deny", "default", "rules" };
	static const char *const only[] = { "ready-time", "max-age",
	    "max-memory", "max-memory-hard", "stop-signal" };
	size_t i;

	for (i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (strcmp(row->name, never[i]) == 0)
			return kind != CONF_RESIDENT;
	for (i = 0; i < sizeof(only) / sizeof(only[0]); i++)
		if (strcmp(row->name, only[i]) == 0)
			return kind == CONF_RESIDENT;
	if (strcmp(row->name, "prespawn") == 0)
		return kind == CONF_EXEC;
	return true;
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
