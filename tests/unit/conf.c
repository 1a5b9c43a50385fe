/*
 * conf.c: unit test of src/parse.c, src/setting.c and src/conf.c: every kind
 * of mistake with its whole error line (FAULTS H02, H04, H07), sections and
 * includes, the command line, the dump's round trip, what a reload may change.
 * Leaks on error paths are seen when built with SANITIZE=address.
 */

#include <sys/stat.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define SERVICE	"service a\nlisten :80\nrun greet\n"
#define UNITS	", in ms, s, m or h"
#define RANGE	": must be 1 to 65535"
#define LOG	": must be stderr, syslog [FACILITY] or file PATH: a "	\
    "facility of syslog(3), an absolute path"

static int failures;
static char dir[64];
static char error[CONF_ERROR_MAX];

/* Text of the file `f', and the whole error; NULL: none. */
static const struct {
	const char	*text, *want;
} cases[] = {
	{ SERVICE, NULL },
	{ "# only\n" SERVICE "# at the end", NULL },
	{ "service a # here\n\tlisten\t:80#\n", "f:2: listen :80#: port must "
	    "be 0 to 65535; must be ADDRESS:PORT, [IPV6]:PORT, *:PORT or "
	    "unix:/PATH" },
	{ "", "f: no service: must have a service line, a listen line and a "
	    "run line" },
	{ "\n\n", "f: no service: must have a service line, a listen line "
	    "and a run line" },
	/* keywords */
	{ SERVICE "workers-mx 5", "f:4: unknown keyword \"workers-mx\": did "
	    "you mean workers-max?" },
	{ SERVICE "Backlog 5", "f:4: unknown keyword \"Backlog\": did you "
	    "mean backlog?" },
	{ "xyzzy 5", "f:1: unknown keyword \"xyzzy\": must be one of those in "
	    "preforkd.conf(5)" },
	{ "\"\" 5", "f:1: unknown keyword \"\": must be one of those in "
	    "preforkd.conf(5)" },
	{ "\xff\x1b 5", "f:1: control character: must be text" },
	/* numbers */
	{ "workers-max 0", "f:1: workers-max 0" RANGE },
	{ "workers-max 65537", "f:1: workers-max 65537" RANGE },
	{ "workers-max -1", "f:1: workers-max -1" RANGE },
	{ "workers-max +1", "f:1: workers-max +1" RANGE },
	{ "workers-max \" 1\"", "f:1: workers-max  1" RANGE },
	{ "workers-max 1k", "f:1: workers-max 1k" RANGE },
	{ "workers-max ten", "f:1: workers-max ten" RANGE },
	{ "workers-max 18446744073709551617", "f:1: workers-max "
	    "18446744073709551617" RANGE },
	{ "workers-max", "f:1: workers-max \"\"" RANGE },
	{ "workers-max \"\"", "f:1: workers-max \"\"" RANGE },
	{ "workers-max 5 6", "f:1: workers-max: 6 is too much: must be one "
	    "value, in double quotes if it has blanks" },
	{ "max-connections-per-worker 1000000000001", "f:1: "
	    "max-connections-per-worker 1000000000001: must be 0 to "
	    "1000000000000" },
	/* durations */
	{ "idle-timeout 1.5s",
	    "f:1: idle-timeout 1.5s: must be 0 to 8760h" UNITS },
	{ "idle-timeout 1 s", "f:1: idle-timeout: s is too much: must be one "
	    "value, in double quotes if it has blanks" },
	{ "idle-timeout s", "f:1: idle-timeout s: must be 0 to 8760h" UNITS },
	{ "idle-timeout 5d", "f:1: idle-timeout 5d: must be 0 to 8760h" UNITS },
	{ "idle-timeout -5s",
	    "f:1: idle-timeout -5s: must be 0 to 8760h" UNITS },
	{ "idle-timeout 8761h", "f:1: idle-timeout 8761h: must be 0 to "
	    "8760h" UNITS },
	{ "idle-timeout 9223372036854775807h", "f:1: idle-timeout "
	    "9223372036854775807h: must be 0 to 8760h" UNITS },
	{ "idle-timeout 99999999999999999999999h", "f:1: idle-timeout "
	    "99999999999999999999999h: must be 0 to 8760h" UNITS },
	{ "drain-timeout 99ms", "f:1: drain-timeout 99ms: must be 100ms to "
	    "8760h" UNITS },
	{ "drain-timeout 0",
	    "f:1: drain-timeout 0: must be 100ms to 8760h" UNITS },
	/* words, paths */
	{ "log-connections all", "f:1: log-connections all: must be one of "
	    "no, end, both" },
	{ "log-level Info", "f:1: log-level Info: must be one of alert, "
	    "error, warning, notice, info, debug" },
	{ "run gret", "f:1: run gret: must be one of greet, echo, discard, "
	    "chargen, daytime, time, metrics, status, agent [SERVICE]" },
	{ "status-file run/x", "f:1: status-file run/x: must be an absolute "
	    "path" },
	/* where the log goes */
	{ "log file /x\n" SERVICE, NULL },
	{ "log syslog\n" SERVICE, NULL },
	{ "log syslog local7\n" SERVICE, NULL },
	{ "log stderr\n" SERVICE, NULL },
	{ "log", "f:1: log \"\"" LOG },
	{ "log \"\"", "f:1: log \"\"" LOG },
	{ "log file", "f:1: log file" LOG },
	{ "log file x", "f:1: log file x" LOG },
	{ "log file \"\"", "f:1: log file " LOG },
	{ "log /x", "f:1: log /x" LOG },
	{ "log stderr x", "f:1: log stderr x" LOG },
	{ "log syslog local8", "f:1: log syslog local8" LOG },
	{ "log syslog mark", "f:1: log syslog mark" LOG },
	{ "log syslog security", "f:1: log syslog security" LOG },
	{ "log syslog Daemon", "f:1: log syslog Daemon" LOG },
	{ "log syslog kern", "f:1: log syslog kern" LOG },
	{ "log file /a b", "f:1: log: b is too much: must be one value, in "
	    "double quotes if it has blanks" },
	{ "log stderr\nlog stderr", "f:2: log: must be there once; the first "
	    "is at f:1" },
	{ SERVICE "log stderr", "f:4: log: must come before the first service "
	    "line" },
	/* sections */
	{ "service", "f:1: service \"\": must be 1 to 31 of A-Z a-z 0-9 . _ "
	    "-" },
	{ "service a/b", "f:1: service a/b: must be 1 to 31 of A-Z a-z 0-9 . "
	    "_ -" },
	{ "service 12345678901234567890123456789012", "f:1: service "
	    "12345678901234567890123456789012: must be 1 to 31 of A-Z a-z "
	    "0-9 . _ -" },
	{ SERVICE "service a", "f:4: service a: must be there once; the first "
	    "is at f:1" },
	{ "service a\nrun greet", "f:1: service a: no address: must have a "
	    "listen line, or -l" },
	{ "service a\nlisten :80", "f:1: service a: nothing to serve: must "
	    "have a run, exec, resident or module line" },
	{ "listen :80", "f:1: listen: must come after a service line" },
	{ SERVICE "log-level info", "f:4: log-level: must come before the "
	    "first service line" },
	{ "backlog 5\n\nbacklog 6", "f:3: backlog: must be there once; the "
	    "first is at f:1" },
	{ SERVICE "run echo", "f:4: run: must be there once; the first is at "
	    "f:3" },
	{ "backlog 5\nrun echo\n" SERVICE "backlog 6", NULL },
	/* between settings */
	{ SERVICE "workers-max 3\nworkers-min 4", "f:5: service a: "
	    "workers-min 4: must be at most workers-max, 3" },
	{ "workers-min 4\nworkers-max 3\n" SERVICE, "f:1: service a: "
	    "workers-min 4: must be at most workers-max, 3" },
	{ SERVICE "workers-max 1", "f:4: service a: workers-max 1: must be at "
	    "least its number of listening sockets, 2" },
	{ "workers-surge 32767\nworkers-max 32768\n" SERVICE, NULL },
	{ "workers-max 32768\n" SERVICE, "f:1: service a: workers-max and "
	    "workers-surge of all services so far make 65536: must be at most "
	    "65535" },
	{ "workers-surge 2\nworkers-max 40000\n" SERVICE "service b\nlisten "
	    ":81\nrun echo", "f:2: service b: workers-max and workers-surge "
	    "of all services so far make 80004: must be at most 65535" },
	{ "workers-surge 1\n" SERVICE, "f:1: service a: workers-surge 1: must "
	    "be at least its number of listening sockets, 2, or a reload had "
	    "no room" },
	{ SERVICE "service b\nlisten 127.0.0.1:80\nrun echo", "f:5: listen "
	    "127.0.0.1:80: must be there once; service a has :80" },
	{ SERVICE "service b\nlisten [::1]:80\nrun echo", "f:5: listen "
	    "[::1]:80: must be there once; service a has :80" },
	/* addresses */
	{ SERVICE "listen 0.0.0.0:80", "f:4: listen 0.0.0.0:80: must be there "
	    "once; service a has :80" },
	{ SERVICE "service b\nlisten [0::0]:80", "f:5: listen [0::0]:80: must "
	    "be there once; service a has :80" },
	{ SERVICE "listen 127.0.0.1:0\nlisten 127.0.0.1:0", "f:5: listen "
	    "127.0.0.1:0: must be there once; service a has 127.0.0.1:0" },
	{ SERVICE "listen 127.0.0.1:0\nservice b\nlisten 127.0.0.1:0\nrun "
	    "echo", NULL },
	{ SERVICE "listen unix:/x\nlisten unix:/x mode=0600", "f:5: listen "
	    "unix:/x: must be there once; service a has unix:/x" },
	{ SERVICE "listen unix:/x mode=0888", "f:4: listen unix:/x: mode must "
	    "be 0000 to 0777" },
	{ SERVICE "listen unix:/x mode=1777", "f:4: listen unix:/x: mode must "
	    "be 0000 to 0777" },
	{ SERVICE "listen unix:/x mode=", "f:4: listen unix:/x: mode must be "
	    "0000 to 0777" },
	{ SERVICE "listen unix:/x moed=0600", "f:4: listen unix:/x: after the "
	    "address must be mode=MODE, owner=USER[:GROUP] or nothing" },
	{ SERVICE "listen :81 mode=0600", "f:4: listen :81: must be alone: "
	    "a further address has a line of its own, mode and owner are for "
	    "unix:/PATH" },
	{ SERVICE "listen unix:/x owner=no-such-user", "f:4: listen unix:/x: "
	    "owner must be USER or USER:GROUP, names or numbers that this "
	    "system knows" },
	{ SERVICE "listen unix:/x owner=0:no-such-group", "f:4: listen "
	    "unix:/x: owner must be USER or USER:GROUP, names or numbers that "
	    "this system knows" },
	{ SERVICE "listen unix:/x owner=4294967295", "f:4: listen unix:/x: "
	    "owner must be USER or USER:GROUP, names or numbers that this "
	    "system knows" },
	{ SERVICE "listen unix:/x owner=-1", "f:4: listen unix:/x: owner must "
	    "be USER or USER:GROUP, names or numbers that this system "
	    "knows" },
	{ SERVICE "listen unix:/x owner=:0", "f:4: listen unix:/x: owner must "
	    "be USER or USER:GROUP, names or numbers that this system "
	    "knows" },
	{ SERVICE "listen unix:/x owner=root:root mode=600", NULL },
	/* lines and words */
	{ "\xef\xbb\xbf" SERVICE, "f:1: byte order mark: must be UTF-8 or "
	    "ASCII without one" },
	{ "\n" SERVICE "backlog 5\r\n", "f:5: carriage return: lines must end "
	    "in LF alone" },
	{ "status-file \"/a", "f:1: quote without end: must end on its "
	    "line" },
	{ "status-file \"/a\\n\"", "f:1: backslash in quotes: must be \\\" or "
	    "\\\\" },
	{ "status-file \"/a\\", "f:1: backslash in quotes: must be \\\" or "
	    "\\\\" },
	{ "status-file \"/a # b\" # c\n" SERVICE, NULL },
	{ "include x", "f:1: include: must be in the main file, not in an "
	    "included one" },
};

static void
check(const char *name, bool ok)
{
	if (ok)
		printf("ok %s\n", name);
	else {
		printf("FAIL %s: error `%s'\n", name, error);
		failures++;
	}
}

static struct conf *
text(const char *s)
{
	error[0] = '\0';
	return conf_load_text("f", s, strlen(s), error);
}

static void
test_case(size_t i)
{
	struct conf *conf = text(cases[i].text);
	char name[64];

	snprintf(name, sizeof(name), "case %zu: %.40s", i, cases[i].text);
	name[strcspn(name, "\n\r\x1b")] = '\0';
	if (cases[i].want == NULL)
		check(name, conf != NULL);
	else
		check(name, conf == NULL && strcmp(error, cases[i].want) == 0);
	conf_free(conf);
}

/* Every setting with every bad value is one line that starts `f:1: '. */
static void
test_every_setting(void)
{
	static const char *const bad[] = { "", "\"\"", "-99",
	    "99999999999999999999", "18446744073709551616", "0x10",
	    "nonsense//", "1 2 3 4 5", "%s%n",
	    "\"", "\r", "1\r", "\\", "#", "\xff", "mode=0600" };
	char line[128];
	size_t i, j;
	bool ok;

	for (i = 0; i < SETTINGS; i++) {
		for (j = 0, ok = true; ok && j < sizeof(bad) / sizeof(*bad);
		    j++) {
			snprintf(line, sizeof(line), "%s %s", settings[i].name,
			    bad[j]);
			ok = text(line) == NULL &&
			    strchr(error, '\n') == NULL &&
			    (strncmp(error, "f:1: ", 5) == 0);
		}
		check(settings[i].name, ok);
	}
}

static void
test_nul_and_length(void)
{
	static char big[17000];

	error[0] = '\0';
	check("a NUL byte", conf_load_text("f", "backlog 5\nrun\0x", 15,
	    error) == NULL && strcmp(error, "f:2: NUL byte: must be text") ==
	    0);
	memset(big, '#', sizeof(big) - 1);
	check("a line of 16999 bytes", text(big) == NULL &&
	    strcmp(error, "f:1: line too long: must be at most 16384 bytes") ==
	    0);
	big[16384] = '\0';
	check("a line of 16384 bytes", text(big) == NULL &&
	    strncmp(error, "f: no service", 13) == 0);
	memset(big, 'w', 16384);
	check("a word of 16384 bytes", text(big) == NULL &&
	    strncmp(error, "f:1: unknown keyword \"www", 25) == 0 &&
	    strlen(error) < 200);
	check("an escape in a word", text("\"wo\\\\rk\xc3\" 1") == NULL &&
	    strstr(error, "\xc3") == NULL);
}

static void
test_defaults(void)
{
	struct conf *conf = text(SERVICE);
	const struct conf_service *s = TAILQ_FIRST(&conf->services);

	check("defaults", conf->status_file == NULL &&
	    conf->log_level == LOG_LEVEL_INFO && s->backlog == 4096 &&
	    s->workers_min == 1 && s->workers_spare == 8 &&
	    s->workers_max == 512 && conf_surge(s) == 512 &&
	    s->workers_idle_time == 60000 && s->max_connections == 0 &&
	    s->first_byte_timeout == 0 && s->idle_timeout == 0 &&
	    s->connection_timeout == 0 && s->drain_timeout == 30000 &&
	    s->log_connections == CONF_CONNECTIONS_NO);
	check("slots", conf_slots(conf) == 1024);
	check("a listen line", TAILQ_FIRST(&s->listens)->naddress == 2 &&
	    strcmp(TAILQ_FIRST(&s->listens)->text, ":80") == 0);
	check("run", strcmp(s->run.service->name, "greet") == 0);
	conf_free(conf);
}

static void
test_sections(void)
{
	struct conf *conf = text("workers-max 5\nidle-timeout 1500ms\n"
	    "run echo\nservice a\nlisten :80\nworkers-max 7\nworkers-surge 2\n"
	    "service b\nlisten :81\ndrain-timeout 2m\nidle-timeout 3\n");
	const struct conf_service *a, *b;

	check("two services", conf != NULL);
	if (conf == NULL)
		return;
	a = TAILQ_FIRST(&conf->services);
	b = TAILQ_NEXT(a, entry);
	check("a default for all", b->workers_max == 5 &&
	    a->idle_timeout == 1500 &&
	    strcmp(a->run.service->name, "echo") == 0);
	check("a setting of its own", a->workers_max == 7 &&
	    a->drain_timeout == 30000 && b->drain_timeout == 120000 &&
	    b->idle_timeout == 3000);
	check("surge", conf_surge(a) == 2 && conf_surge(b) == 5 &&
	    conf_slots(conf) == 7 + 2 + 5 + 5);
	conf_free(conf);
}

static void
test_levels(void)
{
	char line[64];
	struct conf *conf;
	int i;

	for (i = LOG_LEVEL_ALERT; i <= LOG_LEVEL_DEBUG; i++) {
		snprintf(line, sizeof(line), "log-level %s\n" SERVICE,
		    log_levels[i]);
		conf = text(line);
		check(log_levels[i], conf != NULL &&
		    conf->log_level == i);
		conf_free(conf);
	}
}

static void
test_limits(void)
{
	static char many[32768];
	size_t n = 0;
	int i;

	n = strlcpy(many, "workers-max 1\nworkers-surge 1\nrun echo\n",
	    sizeof(many));
	for (i = 1; i <= CONF_SERVICES_MAX + 1; i++)
		n += (size_t)snprintf(many + n, sizeof(many) - n,
		    "service s%d\nlisten 127.0.0.1:%d\n", i, i);
	check("65 services", text(many) == NULL && strcmp(error, "f:132: "
	    "service s65: 65 services: must be at most 64") == 0);
	n = strlcpy(many, "run echo\nservice s\n", sizeof(many));
	for (i = 1; i <= CONF_LISTENERS_MAX / 2 + 1; i++)
		n += (size_t)snprintf(many + n, sizeof(many) - n,
		    "listen *:%d\n", i);
	check("258 listening sockets", text(many) == NULL && strcmp(error,
	    "f:131: listen *:129: 258 listening sockets: must be at most "
	    "256") == 0);
}

static char *
dump(const struct conf *conf)
{
	char *out = NULL;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	dump_conf(conf, f);
	fclose(f);
	return out;
}

/* Once dumped, the same bytes for ever, and the same values. */
static void
test_dump(const char *name, const char *s)
{
	struct conf *a = text(s), *b = NULL;
	const struct conf_listen *x, *y;
	char *first, *second;
	bool ok;

	if (a == NULL) {
		check(name, false);
		return;
	}
	first = dump(a);
	b = text(first);
	second = b == NULL ? strdup("") : dump(b);
	check(name, strcmp(first, second) == 0);
	ok = b != NULL && conf_reloadable(a, b, error) &&
	    conf_slots(a) == conf_slots(b);
	if (ok) {
		x = TAILQ_FIRST(&TAILQ_FIRST(&a->services)->listens);
		y = TAILQ_FIRST(&TAILQ_FIRST(&b->services)->listens);
		ok = strcmp(x->text, y->text) == 0 && x->mode == y->mode &&
		    x->uid == y->uid && x->gid == y->gid;
	}
	check("and loads to the same", ok);
	free(first);
	free(second);
	conf_free(a);
	conf_free(b);
}

static void
test_dump_text(void)
{
	struct conf *conf = text("status-file /s\nservice a\nlisten "
	    "unix:/x mode=600 owner=root\nrun echo\nworkers-idle-time 90\n"
	    "user 7:8,9\nrlimit-data 64m\n");
	char *s = conf == NULL ? strdup("") : dump(conf);

	check("the dump in full", strcmp(s, "status-file /s\n"
	    "dumpable no\nlog syslog daemon\nlog-level info\n\nservice a\n"
	    "\tlisten unix:/x mode=0600 owner=0\n\trun echo\n"
	    "\texec-stderr log\n\tbacklog 4096\n\ttcp-nodelay no\n"
	    "\ttcp-keepalive 0\n\ttcp-defer-accept 0\n"
	    "\ttcp-user-timeout 0\n"
	    "\tworkers-min 1\n\tworkers-spare 8\n"
	    "\tworkers-max 512\n\tworkers-surge 512\n"
	    "\tworkers-idle-time 90s\n\tmax-connections-per-worker 0\n"
	    "\tfirst-byte-timeout 0\n\tidle-timeout 0\n"
	    "\tconnection-timeout 0\n\tdrain-timeout 30s\n"
	    "\ton-crash-loop keep-trying\n"
	    "\tlog-connections no\n\tdefault allow\n\tper-source 0\n"
	    "\tper-source-prefix 32 64\n\tper-source-rate 0\n\trate 0\n"
	    "\tmin-rate 0\n\twhen-full queue\n\trefuse close\n"
	    "\tuser 7:8,9\n\tnew-privileges no\n"
	    "\tchdir /\n\tumask 022\n\tnice 0\n"
	    "\trlimit-data 67108864\n") == 0);
	free(s);
	conf_free(conf);
}

/* Whether a word is read as it was written. */
static bool
kept(const char *word)
{
	char *out = NULL;
	size_t size;
	FILE *f = open_memstream(&out, &size);
	struct parse p;
	const char *why;
	bool ok;

	parse_put(f, word);
	fclose(f);
	parse_start(&p, out, size);
	ok = parse_next(&p, &why) == 1 && p.nwords == 1 &&
	    strcmp(p.word[0], word) == 0;
	free(out);
	return ok;
}

static void
test_words(void)
{
	check("an empty word", kept(""));
	check("a word like a comment", kept("#x"));
	check("a # inside a word", kept("x#"));
	check("blanks", kept(" a\tb "));
	check("quotes and backslashes", kept("\\ \"\\\\\" \\"));
	check("backslashes alone", kept("\\\\a\\"));
}

static bool
reloadable(const char *from, const char *to)
{
	struct conf *a = text(from), *b = text(to);
	const bool ok = a != NULL && b != NULL &&
	    conf_reloadable(a, b, error);

	conf_free(a);
	conf_free(b);
	return ok;
}

static void
test_reload(void)
{
	check("a reload may change this", reloadable(SERVICE, "log-level "
	    "debug\nservice b\nlisten :81\nrun echo\n" SERVICE
	    "workers-max 5"));
	check("not the status file", !reloadable(SERVICE, "status-file /x\n"
	    SERVICE) && strcmp(error, "status-file: a new value needs a "
	    "restart") == 0);
	check("the same status file is fine", reloadable("status-file /x\n"
	    SERVICE, "status-file \"/x\"\n" SERVICE));
	check("not the log", !reloadable("log file /x\n" SERVICE,
	    "log file /y\n" SERVICE) && strcmp(error, "log: a new value "
	    "needs a restart") == 0);
	check("not its facility", !reloadable(SERVICE, "log syslog user\n"
	    SERVICE));
	check("the same log is fine", reloadable("log syslog\n" SERVICE,
	    "log syslog daemon\n" SERVICE));
	check("not the mode of a socket", !reloadable(SERVICE
	    "listen unix:/x\n", SERVICE "listen unix:/x mode=0600\n") &&
	    strcmp(error, "listen unix:/x: a new mode or owner needs a "
	    "restart") == 0);
}

/* A file below the test's directory; returns its path. */
static const char *
file(const char *name, const char *s)
{
	static char path[4][128];
	static int next;
	char *p = path[next++ % 4];
	FILE *f;

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	if (s == NULL)
		return p;
	if ((f = fopen(p, "we")) == NULL || fputs(s, f) == EOF ||
	    fclose(f) == EOF)
		perror(p);
	return p;
}

static struct conf *
load(const char *path, char *const *overrides, char *const *listens)
{
	const struct conf_source source = { .path = path,
	    .overrides = overrides, .listens = listens };

	error[0] = '\0';
	return conf_load(&source, error);
}

/* Whether the file of this path fails with `PATH: want'. */
static bool
fails(const char *path, const char *want)
{
	struct conf *conf = load(path, NULL, NULL);
	char line[CONF_ERROR_MAX];

	snprintf(line, sizeof(line), "%s%s", path, want);
	conf_free(conf);
	return conf == NULL && strcmp(error, line) == 0;
}

static void
test_files(void)
{
	const char *path = file("huge", "");

	check("a missing file", fails(file("none", NULL),
	    ": No such file or directory"));
	check("a directory", fails(dir, ": must be a regular file"));
	check("a device", fails("/dev/zero", ": must be a regular file"));
	check("a file of 1 GB", truncate(path, 1 << 30) == 0 &&
	    fails(path, ": too large: must be at most 1 MB"));
	unlink(path);
	path = file("fifo", NULL);
	check("a FIFO", mkfifo(path, 0600) == 0 && fails(path,
	    ": must be a regular file"));
	unlink(path);
	check("a file of /proc, which is longer than it says",
	    load("/proc/self/maps", NULL, NULL) == NULL &&
	    strncmp(error, "/proc/self/maps:1: unknown keyword", 34) == 0);
	path = file("c", "# nothing\n");
	check("a file without a service", fails(path, ": no service: must "
	    "have a service line, a listen line and a run line"));
	file("c", SERVICE "backlog x");
	check("no newline at the end", fails(path, ":4: backlog x: must be 1 "
	    "to 65535"));
	if (geteuid() != 0) {
		chmod(path, 0);
		check("no permission", fails(path, ": Permission denied"));
	}
	unlink(path);
}

static void
test_include(void)
{
	const char *path = file("main", "include *.inc\nservice z\n"
	    "listen :90\nrun echo\nbacklog 9\n");
	const char *b = file("b.inc", "service b\nlisten :81\nrun echo\n");
	const char *a = file("a.inc", "backlog 5\n" SERVICE);
	struct conf *conf = load(path, NULL, NULL);
	const struct conf_service *s;
	char want[256];

	s = conf == NULL ? NULL : TAILQ_FIRST(&conf->services);
	check("include in order, relative to the file", s != NULL &&
	    strcmp(s->name, "a") == 0 && s->backlog == 5 &&
	    strcmp(TAILQ_NEXT(s, entry)->name, "b") == 0);
	conf_free(conf);

	file("main", "include *.inc\nbacklog 5\n");
	check("a section ends with its file", fails(path, ":2: backlog: must "
	    "come before the first service line"));
	file("main", "service z\nlisten :90\ninclude *.inc\nrun greet\n");
	snprintf(want, sizeof(want), ":2: backlog: must be there once; the "
	    "first is at %s:1", a);
	file("b.inc", "backlog 6\n");
	file("a.inc", "backlog 5\n");
	check("an error names the included file", load(path, NULL, NULL) ==
	    NULL && strncmp(error, b, strlen(b)) == 0 &&
	    strcmp(error + strlen(b) + 2, want + 2) == 0);
	unlink(b);
	conf = load(path, NULL, NULL);
	check("an include inside a section", conf != NULL &&
	    TAILQ_FIRST(&conf->services)->backlog == 5);
	conf_free(conf);

	file("a.inc", "\ninclude x\n");
	check("one level", load(path, NULL, NULL) == NULL &&
	    strcmp(error + strlen(a), ":2: include: must be in the main file, "
	    "not in an included one") == 0);
	unlink(a);
	conf = load(path, NULL, NULL);
	check("a pattern without a match", conf != NULL);
	conf_free(conf);
	file("main", "\ninclude a.inc\n");
	snprintf(want, sizeof(want), ":2: include %s: No such file or "
	    "directory", a);
	check("a plain path without a file", fails(path, want));
	file("main", "include /nonexistent-dir/*.conf\n" SERVICE);
	conf = load(path, NULL, NULL);
	check("a pattern without a directory", conf != NULL);
	conf_free(conf);
	file("main", "include /\n");
	check("an included directory", fails(path, ":1: include /: must be a "
	    "regular file"));
	a = file("x\033\nx.inc", "bad");
	file("main", "include *.inc\n");
	check("a file's name is escaped", load(path, NULL, NULL) == NULL &&
	    strpbrk(error, "\033\n") == NULL);
	unlink(a);
	unlink(path);
}

static bool
override_fails(const char *path, const char *option, const char *want)
{
	char *copy = strdup(option);
	char *const list[] = { copy, NULL };
	struct conf *conf = load(path, list, NULL);

	free(copy);
	conf_free(conf);
	return conf == NULL && strcmp(error, want) == 0;
}

static void
test_overrides(void)
{
	char one[] = "workers-max 6", two[] = "log-level debug",
	    three[] = "workers-max 7";
	char *const list[] = { one, two, three, NULL };
	const char *path = file("o", "log-level error\n" SERVICE
	    "workers-max 9\nservice b\nlisten :81\nrun echo\n");
	struct conf *conf = load(path, list, NULL);
	const struct conf_service *s;

	s = conf == NULL ? NULL : TAILQ_FIRST(&conf->services);
	check("-o replaces in every service, the last one wins", s != NULL &&
	    conf->log_level == LOG_LEVEL_DEBUG && s->workers_max == 7 &&
	    TAILQ_NEXT(s, entry)->workers_max == 7);
	conf_free(conf);
	check("-o with a log of two words", override_fails(path, "log file x",
	    "-o: log file x" LOG));
	check("-o with a bad value", override_fails(path, "backlog 0",
	    "-o: backlog 0: must be 1 to 65535"));
	check("-o with a bad keyword", override_fails(path, "backlg 1",
	    "-o: unknown keyword \"backlg\": did you mean backlog?"));
	check("-o with a listen", override_fails(path, "listen :99",
	    "-o: listen: must be in the file, or -l"));
	check("-o with a service", override_fails(path, "service x",
	    "-o: service: must be in the file"));
	check("-o with an include", override_fails(path, "include /etc/passwd",
	    "-o: include: must be in the file"));
	check("-o in conflict", override_fails(path, "workers-min 600",
	    "-o: service a: workers-min 600: must be at most workers-max, "
	    "9"));
	check("-o with a quote", override_fails(path, "run \"x",
	    "-o: quote without end: must end on its line"));
	unlink(path);
}

static void
test_listens(void)
{
	char one[] = "127.0.0.1:8001", two[] = "unix:/x mode=0600",
	    bad[] = "8001";
	char *const list[] = { one, two, NULL };
	char *const worse[] = { bad, NULL };
	const char *path = file("l", SERVICE);
	struct conf *conf = load(path, NULL, list);
	const struct conf_listen *line;

	line = conf == NULL ? NULL :
	    TAILQ_FIRST(&TAILQ_FIRST(&conf->services)->listens);
	check("-l replaces", line != NULL && strcmp(line->text, one) == 0 &&
	    strcmp(TAILQ_NEXT(line, entry)->text, "unix:/x") == 0 &&
	    TAILQ_NEXT(line, entry)->mode == 0600);
	conf_free(conf);
	check("-l with a bad address", load(path, NULL, worse) == NULL &&
	    strcmp(error, "-l: listen 8001: no port; must be ADDRESS:PORT, "
	    "[IPV6]:PORT, *:PORT or unix:/PATH") == 0);
	file("l", SERVICE "service b\nlisten :81\nrun echo\n");
	check("-l with two services", load(path, NULL, list) == NULL &&
	    strcmp(error, "-l: 127.0.0.1:8001: there must be one service, or "
	    "it is not clear which is meant") == 0);
	unlink(path);
}

static void
test_command(void)
{
	char one[] = "127.0.0.1:0";
	char *const list[] = { one, NULL };
	struct conf_source source = { .listens = list, .service = "echo",
	    .foreground = true };
	struct conf *conf = conf_load(&source, error);
	const struct conf_service *s;

	s = conf == NULL ? NULL : TAILQ_FIRST(&conf->services);
	check("a service without a file", s != NULL &&
	    strcmp(s->name, "echo") == 0 &&
	    strcmp(s->run.service->name, "echo") == 0);
	check("in the foreground connections are logged", s != NULL &&
	    s->log_connections == CONF_CONNECTIONS_BOTH);
	check("and the log is standard error", conf != NULL &&
	    conf->log.kind == CONF_LOG_STDERR);
	conf_free(conf);
	source.service = "gret";
	check("an unknown service", conf_load(&source, error) == NULL &&
	    strcmp(error, "command line: run gret: must be one of greet, "
	    "echo, discard, chargen, daytime, time, metrics, status, agent "
	    "[SERVICE]") == 0);
	source.service = NULL;
	check("nothing at all", conf_load(&source, error) == NULL &&
	    strncmp(error, "command line: no service", 24) == 0);
	source.service = "greet";
	source.listens = NULL;
	check("no address", conf_load(&source, error) == NULL &&
	    strcmp(error, "command line: service greet: no address: must have "
	    "a listen line, or -l") == 0);
	source.path = file("d", "workers-max 5\n");
	source.listens = list;
	conf = conf_load(&source, error);
	check("a file of defaults", conf != NULL &&
	    TAILQ_FIRST(&conf->services)->workers_max == 5);
	conf_free(conf);
	unlink(source.path);
}

/* Each row has all its fields, and a default that is allowed. */
static void
test_table(void)
{
	char *out = NULL, *line, *next, *c;
	size_t size;
	FILE *f = open_memstream(&out, &size);
	int lines = 0, tabs;
	bool ok = true;

	setting_table(f);
	fclose(f);
	check("a row in full", strstr(out, "\nworkers-max\tservice\tnumber\t1 "
	    "to 65535\t512\treload\tnever more workers than this\n") != NULL);
	for (next = out; (line = strsep(&next, "\n")) != NULL && *line != 0;
	    lines++) {
		for (tabs = 0, c = line; *c != '\0'; c++)
			tabs += *c == '\t';
		ok = ok && tabs == 6 && strstr(line, "\t\t") == NULL;
	}
	check("seven fields in each line", ok && lines == SETTINGS);
	free(out);
}

int
main(void)
{
	const char *tmp = getenv("TMPDIR");
	size_t i;

	snprintf(dir, sizeof(dir), "%s/preforkd-conf.XXXXXX",
	    tmp == NULL || strlen(tmp) > 30 ? "/tmp" : tmp);
	if (mkdtemp(dir) == NULL) {
		perror("mkdtemp");
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(30);		/* to wait for a FIFO is a failure */
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		test_case(i);
	test_every_setting();
	test_nul_and_length();
	test_defaults();
	test_sections();
	test_levels();
	test_limits();
	test_dump("a plain configuration", SERVICE);
	test_dump("words that need quotes", "status-file \"/a \\\"b\\\" "
	    "\\\\c # d\"\nservice a\nlisten \"unix:/x y\" owner=1:2 "
	    "mode=0600\nlisten unix:/back\\slash\nrun echo\n");
	test_dump("a log file that needs quotes", "log file \"/a \\\"b\\\" "
	    "# c\"\n" SERVICE);
	test_dump("a facility", "log syslog local3\n" SERVICE);
	test_dump("standard error", "log stderr\n" SERVICE);
	test_dump("odd values", "log-level debug\nlog-connections end\n"
	    "idle-timeout 1001ms\ndrain-timeout 119\nworkers-surge 2\n"
	    SERVICE "service b\nlisten [::1]:0\nrun time\n");
	test_dump_text();
	test_words();
	test_reload();
	test_files();
	test_include();
	test_overrides();
	test_listens();
	test_command();
	test_table();
	check("nothing left", rmdir(dir) == 0);
	return failures > 0;
}
