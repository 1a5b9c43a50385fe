/*
 * Unit test of logger.c: what goes into the log pipe comes out of standard
 * error, whole, escaped and once, with repeats of warnings and lines lost
 * counted to the last one; and nothing that happens to standard error or to
 * the master keeps the logger alive, or ends it, wrongly.
 */
#include <sys/types.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <regex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "preforkd.h"

#define STAMP	"2026-11-23T14:50:01.123Z preforkd[7] "
#define GRAMMAR								\
	"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\."	\
	"[0-9]{3}Z preforkd\\[[0-9]+\\] "				\
	"(alert|error|warning|notice|info|debug): [^[:cntrl:]]+$"

struct run {			/* a logger, and what it writes to */
	pid_t	pid;
	int	in;		/* write end of the log pipe, blocking */
	int	out;		/* its standard error, for reading */
	int	err;		/* the same, for writing */
};

static const struct conf_log standard_error = { .kind = CONF_LOG_STDERR };
static int failures;
static regex_t grammar;
static struct commons *commons;
static struct scoreboard board;
static char *text;		/* what a logger wrote */
static size_t textsize;

static void
check(const char *name, bool ok, const char *why)
{
	if (ok)
		printf("ok %s\n", name);
	else
		printf("FAIL %s: %.500s\n", name, why);
	failures += !ok;
	fflush(stdout);
}

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

/* Start a logger whose standard error is err. */
static void
start(struct run *r, int out, int err)
{
	int fds[2], saved;

	must(logger_pipe(fds) == 0, "logger_pipe");
	saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	dup2(err, STDERR_FILENO);
	r->pid = logger_start(fds[0], &standard_error, &board);
	must(r->pid != -1, "logger_start");
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[0]);
	must(fcntl(fds[1], F_SETFL, 0) == 0, "fcntl");
	r->in = fds[1];
	r->out = out;
	r->err = err;
}

static void
start_file(struct run *r)
{
	int fd = memfd_create("log", MFD_CLOEXEC);

	must(fd != -1, "memfd_create");
	start(r, fd, fd);
}

static void
start_pipe(struct run *r)
{
	int fds[2];

	must(pipe2(fds, O_CLOEXEC) == 0, "pipe2");
	start(r, fds[0], fds[1]);
	close(fds[1]);
	r->err = -1;
}

static void
put(const struct run *r, const void *bytes, size_t size)
{
	must(write(r->in, bytes, size) == (ssize_t)size, "write");
}

__attribute__((__format__(printf, 2, 3)))
static void
putf(const struct run *r, const char *fmt, ...)
{
	char line[PIPE_BUF];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	put(r, line, (size_t)n);
}

/* All that is in the file, as a string in text. */
static void
slurp(int fd)
{
	ssize_t n;
	size_t max = 32 * 1024 * 1024;

	for (textsize = 0; (n = pread(fd, text + textsize, max - textsize,
	    (off_t)textsize)) > 0; )
		textsize += (size_t)n;
	text[textsize] = '\0';
}

/* Wait for the end of a logger; its wait status. */
static int
finish(struct run *r)
{
	int status;

	close(r->in);
	must(waitpid(r->pid, &status, 0) == r->pid, "waitpid");
	if (r->err != -1) {
		slurp(r->out);
		close(r->out);
	}
	return status;
}

static unsigned long
lines(void)
{
	unsigned long n = 0;
	const char *p;

	for (p = text; (p = strchr(p, '\n')) != NULL; p++)
		n++;
	return n;
}

/* The sum of the numbers that follow each `before'. */
static unsigned long
sum(const char *before)
{
	unsigned long n = 0;
	const char *p;

	for (p = text; (p = strstr(p, before)) != NULL; ) {
		p += strlen(before);
		n += strtoul(p, NULL, 10);
	}
	return n;
}

static unsigned long
count(const char *what)
{
	unsigned long n = 0;
	const char *p;

	for (p = text; (p = strstr(p, what)) != NULL; p += strlen(what))
		n++;
	return n;
}

/* Every line parses; spoils text. */
static bool
all_parse(void)
{
	char *p, *nl;

	for (p = text; (nl = strchr(p, '\n')) != NULL; p = nl + 1) {
		*nl = '\0';
		if (regexec(&grammar, p, 0, NULL, 0) != 0)
			return false;
	}
	return *p == '\0';
}

/* Until cond holds, at most 15 s. */
#define WAIT_FOR(cond) do {						\
	struct timespec ms_ = { .tv_nsec = 1000000 };			\
	int i_;								\
									\
	for (i_ = 0; i_ < 15000 && !(cond); i_++)			\
		nanosleep(&ms_, NULL);					\
} while (0)

static void
test_plain(void)
{
	static const char *const ex = STAMP "info: a v=\"\\033[1m \303\274\"\n"
	    STAMP "warning: b\n" STAMP "error: incomplete";
	struct run r;
	char *back;
	int status;

	start_file(&r);
	put(&r, ex, strlen(ex));
	status = finish(&r);
	check("it ends at the end of its writers", WIFEXITED(status) &&
	    WEXITSTATUS(status) == 0, "badly");
	back = text + strlen(ex);
	check("lines pass as they are, the last one completed",
	    strncmp(text, ex, strlen(ex)) == 0 && strcmp(back, "\n") == 0,
	    text);
}

/* Standard error writes each line on its own, at once. */
static void
test_prompt(void)
{
	char buf[128];
	struct run r;
	ssize_t n;
	int i, bad = 0;

	start_pipe(&r);
	for (i = 0; i < 20; i++) {
		putf(&r, STAMP "info: line n=%d\n", i);
		n = read(r.out, buf, sizeof(buf));
		bad += n <= 0 || buf[n - 1] != '\n';
	}
	finish(&r);
	close(r.out);
	check("a line comes out while writers live", bad == 0, "it did not");
}

static void
test_hostile(void)
{
	static const char in[] = "\r\033]0;t\007\t\177 \302\233 \233 \377"
	    "\303( \\x1b %s%n";
	static const char out[] = "\\r\\033]0;t\\a\\t\\177 \\302\\233 \\233 "
	    "\\377\\303( \\x1b %s%n\n";
	char bytes[256 * 4], *end;
	struct run r;
	mbstate_t state;
	size_t i, n, bad = 0;
	wchar_t wc;

	start_file(&r);
	putf(&r, STAMP "info: %s\n", in);
	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 167 + i / 256);
	put(&r, bytes, sizeof(bytes));
	for (i = 0; i < 70; i++)	/* no newline for 70 kB */
		put(&r, memset(bytes, 'x', sizeof(bytes)), sizeof(bytes));
	finish(&r);
	end = strchr(text, '\n');
	check("hostile bytes are escaped once", end != NULL && strncmp(text +
	    sizeof(STAMP "info: ") - 1, out, sizeof(out) - 1) == 0, text);
	memset(&state, 0, sizeof(state));
	for (i = 0; i < textsize && bad == 0; i += n) {
		n = mbrtowc(&wc, text + i, textsize - i, &state);
		bad += n == 0 || n > 4 || (wc < ' ' && wc != '\n') ||
		    (wc >= 0x7f && wc < 0xa0);
	}
	check("no raw byte passes", bad == 0 && lines() > 18, "some do");
}

static void
test_flood(void)
{
	unsigned long info, shown, more, n;
	struct run r;
	int i;

	start_file(&r);
	for (i = 0; i < 100000; i++) {
		putf(&r, STAMP "warning: refused client=%d\n", i);
		if (i % 1000 == 0)
			putf(&r, STAMP "info: other n=%d\n", i);
	}
	finish(&r);
	info = count("info: other");
	n = lines() - info;
	shown = count("warning: refused client=");
	more = sum("warning: suppressed ");
	check("a flood of warnings leaves few lines", n <= 20 && shown >= 10,
	    text);
	check("their sum is exact", shown + more == 100000, text);
	check("no other level is limited", info == 100, text);
	check("what it says parses", count(" more: refused\n") > 0 &&
	    all_parse(), text);
}

/* More keys at once than the table holds. */
static void
test_keys(void)
{
	unsigned long shown, more;
	struct run r;
	int i, j;

	start_file(&r);
	for (i = 0; i < 50; i++) {
		for (j = 0; j < 100; j++)
			putf(&r, STAMP "warning: key%d is bad: Why n=%d\n", i,
			    j);
	}
	finish(&r);
	shown = count("is bad: Why n=");
	more = sum("warning: suppressed ");
	check("many keys: each has its lines, the sum is exact",
	    shown == 500 && more == 4500 &&
	    count("suppressed 90 more: key0 is bad: Why\n") == 1 &&
	    count("suppressed 90 more: key49 is bad: Why\n") == 1, text);
}

/* A disk that is full, then is not: RLIMIT_FSIZE does it without root. */
static void
test_full(void)
{
	struct rlimit full, roomy;
	unsigned long long before = commons->log_dropped, lost;
	unsigned long got, said;
	struct run r;
	int i;

	start_file(&r);
	must(getrlimit(RLIMIT_FSIZE, &roomy) == 0, "getrlimit");
	full = roomy;
	full.rlim_cur = 1000;
	must(prlimit(r.pid, RLIMIT_FSIZE, &full, NULL) == 0, "prlimit");
	for (i = 0; i < 5000; i++) {
		if (i == 2500)	/* it fails more than once */
			WAIT_FOR(commons->log_dropped > before);
		putf(&r, STAMP "info: line with some words n=%d\n", i);
	}
	putf(&r, STAMP "info: before\n");
	/* All but what fits in 1,000 bytes. */
	WAIT_FOR(commons->log_dropped - before >= 5001 - 1000 / 60);
	must(prlimit(r.pid, RLIMIT_FSIZE, &roomy, NULL) == 0, "prlimit");
	putf(&r, STAMP "info: after\n");
	finish(&r);
	lost = commons->log_dropped - before;
	said = sum("log lines dropped count=");
	got = count(" info: ");
	check("a full disk costs lines, counted exactly",
	    lost > 4900 && got + lost == 5002, text);
	check("... which are said exactly", said == lost &&
	    count("info: after\n") == 1, text);
	check("... and no line is torn", lines() == got +
	    count(": log lines dropped") && all_parse(), text);
}

static void
test_dead(void)
{
	unsigned long long before = commons->log_dropped;
	struct run r;
	int i, status;

	start_pipe(&r);
	close(r.out);
	for (i = 0; i < 1000; i++)
		putf(&r, STAMP "info: n=%d\n", i);
	WAIT_FOR(commons->log_dropped - before == 1000);
	check("a closed standard error is survived", kill(r.pid, 0) == 0 &&
	    commons->log_dropped - before == 1000, "lines not counted");
	status = finish(&r);
	check("... to the end", status == 0, "killed");
}

static void
test_stalled(void)
{
	struct run r;
	ssize_t n;
	int fds[2], i;

	must(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0, "pipe2");
	must(fcntl(fds[0], F_SETFL, 0) == 0, "fcntl");
	start(&r, fds[0], fds[1]);
	close(fds[1]);
	for (i = 0; i < 10000; i++)
		putf(&r, STAMP "info: some more words n=%d\n", i);
	close(r.in);
	for (textsize = 0; (n = read(fds[0], text + textsize, 1000)) > 0; )
		textsize += (size_t)n;
	text[textsize] = '\0';
	waitpid(r.pid, NULL, 0);
	close(fds[0]);
	check("a slow standard error loses nothing", lines() == 10000 &&
	    all_parse(), "it did");
}

static void
test_orphan(void)
{
	struct pollfd pfd = { .events = POLLIN };
	char buf[128];
	struct run r;
	int fds[2];
	pid_t pid;

	must(pipe2(fds, O_CLOEXEC) == 0, "pipe2");
	pid = fork();
	if (pid == 0) {
		start(&r, fds[0], fds[1]);
		putf(&r, STAMP "info: the last words\n");
		raise(SIGKILL);
	}
	waitpid(pid, NULL, 0);
	close(fds[1]);
	pfd.fd = fds[0];
	check("the last words of a master that died are written",
	    poll(&pfd, 1, 15000) == 1 &&
	    read(fds[0], buf, sizeof(buf)) > 0, "they are not");
	check("a logger without writers ends", poll(&pfd, 1, 15000) == 1 &&
	    read(fds[0], buf, sizeof(buf)) == 0, "it lives");
	close(fds[0]);
}

/* What preforkctl waits for after SIGUSR1. */
static void
test_reopen(void)
{
	char dir[] = "/tmp/preforkd-logger.XXXXXX", path[64], old[64];
	struct conf_log conf = { .kind = CONF_LOG_FILE, .path = path };
	uint32_t done, failed;
	int fds[2];
	pid_t pid;

	must(mkdtemp(dir) != NULL, "mkdtemp");
	snprintf(path, sizeof(path), "%s/log", dir);
	snprintf(old, sizeof(old), "%s/old", dir);
	must(logger_pipe(fds) == 0, "logger_pipe");
	pid = logger_start(fds[0], &conf, &board);
	WAIT_FOR(access(path, F_OK) == 0);
	done = commons->log_reopened;
	failed = commons->log_reopen_failed;
	must(rename(path, old) == 0, "rename");
	kill(pid, SIGUSR1);
	WAIT_FOR(commons->log_reopened != done);
	check("a file reopened is counted", access(path, F_OK) == 0 &&
	    commons->log_reopened == done + 1, "it is not");
	must(unlink(path) == 0 && mkdir(path, 0700) == 0, "mkdir");
	kill(pid, SIGUSR1);
	WAIT_FOR(commons->log_reopen_failed != failed);
	check("... and one that cannot be", commons->log_reopened == done +
	    1 && commons->log_reopen_failed == failed + 1, "it is not");
	close(fds[0]);
	close(fds[1]);
	waitpid(pid, NULL, 0);
	must(rmdir(path) == 0 && unlink(old) == 0 && rmdir(dir) == 0,
	    "rmdir");
}

static int
descriptors(pid_t pid)
{
	char path[64];
	struct dirent *e;
	int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	d = opendir(path);
	if (d == NULL)
		return -1;
	while ((e = readdir(d)) != NULL)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static long
switches(pid_t pid)
{
	char path[64], line[128];
	long n = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
	f = fopen(path, "r");
	if (f == NULL)
		return -1;
	while (fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "voluntary_ctxt_switches: %ld", &n);
	fclose(f);
	return n;
}

static void
test_quiet(void)
{
	struct timespec ts = { .tv_nsec = 300000000 };
	static const int sigs[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGPIPE };
	struct run r;
	long before;
	size_t i;

	start_file(&r);
	putf(&r, STAMP "info: hello\n");
	WAIT_FOR((slurp(r.out), textsize > 0));
	if (access("/proc/self/status", R_OK) == 0) {
		check("it holds the pipe and standard error only",
		    descriptors(r.pid) == 2, "others");
		nanosleep(&ts, NULL);
		before = switches(r.pid);
		nanosleep(&ts, NULL);
		check("an idle logger sleeps", switches(r.pid) == before,
		    "it woke");
	}
	for (i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		kill(r.pid, sigs[i]);
	putf(&r, STAMP "info: still here\n");
	check("signals of a terminal do not end it", finish(&r) == 0 &&
	    count("still here") == 1, text);
}

static void
window_begin(struct run *r)
{
	int i;

	start_file(r);
	for (i = 0; i < 15; i++)
		putf(r, STAMP "warning: slow n=%d\n", i);
}

/* Its 10 s have run while the other tests did. */
static void
window_end(struct run *r)
{
	WAIT_FOR((slurp(r->out), count("suppressed 5 more: slow\n") == 1));
	check("the end of a window says what it kept back",
	    count("suppressed 5 more: slow\n") == 1, text);
	putf(r, STAMP "warning: slow n=15\n" STAMP "warning: slow n=16\n");
	finish(r);
	check("the next window lets one pass", count(": slow n=") == 11 &&
	    count("suppressed 1 more: slow\n") == 1, text);
}

int
main(void)
{
	size_t size = sizeof(*commons);
	struct run window;

	setlocale(LC_CTYPE, "C.UTF-8");
	signal(SIGXFSZ, SIG_IGN);
	commons = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	text = malloc(32 * 1024 * 1024 + 1);
	must(commons != MAP_FAILED && text != NULL, "memory");
	board.commons = commons;
	must(regcomp(&grammar, GRAMMAR, REG_EXTENDED | REG_NOSUB) == 0,
	    "regcomp");
	/* Before another descriptor has its number. */
	must(dup2(open("/dev/null", O_RDWR), FD_NULL) != -1, "dup2");
	window_begin(&window);
	test_plain();
	test_prompt();
	test_hostile();
	test_flood();
	test_keys();
	test_full();
	test_dead();
	test_stalled();
	test_orphan();
	test_quiet();
	test_reopen();
	window_end(&window);
	regfree(&grammar);
	free(text);
	return failures != 0;
}
