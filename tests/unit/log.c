/*
 * Unit test of log.c: the form of a line, one write for each, the bounded wait
 * for a stuck reader with an exact count of what was dropped, and quoting that
 * decodes to its input.
 */
#include <sys/types.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <regex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <vis.h>
#include <wchar.h>

#include "log.h"

#define GRAMMAR								\
	"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\."	\
	"[0-9]{3}Z preforkd\\[[0-9]+\\] "				\
	"(alert|error|warning|notice|info|debug): "			\
	"([^\"\\\\]|\\\\.|\"([^\"\\\\]|\\\\.)*\")+$"

#define WRITERS		8
#define LINES		10000

static int failures;
static regex_t grammar;
static char text[2 * 1024 * 1024];	/* what came out of the pipe */

static void
check(const char *name, bool ok, const char *why)
{
	if (ok)
		printf("ok %s\n", name);
	else
		printf("FAIL %s: %s\n", name, why);
	failures += !ok;
	fflush(stdout);
}

static void
ignore(int sig)
{
	(void)sig;
}

static int64_t
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
open_pipe(int fds[2], _Atomic unsigned long long *drops)
{
	if (pipe2(fds, O_CLOEXEC) == -1 ||
	    fcntl(fds[1], F_SETFL, O_NONBLOCK) == -1) {
		perror("pipe");
		exit(1);
	}
	log_to_pipe(fds[1], drops);
}

static void
close_pipe(int fds[2])
{
	log_to_pipe(-1, NULL);
	close(fds[0]);
	close(fds[1]);
}

/* What is in the pipe, as a string in text; its length. */
static size_t
drain(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	size_t size = 0;
	ssize_t n;

	while (poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLIN) != 0) {
		n = read(fd, text + size, sizeof(text) - 1 - size);
		if (n <= 0)
			break;
		size += (size_t)n;
	}
	text[size] = '\0';
	return size;
}

static bool
parses(char *line)
{
	return regexec(&grammar, line, 0, NULL, 0) == 0;
}

static bool
valid_utf8(const char *s, size_t size)
{
	mbstate_t state;
	size_t n;
	wchar_t wc;

	memset(&state, 0, sizeof(state));
	for (; size > 0; s += n, size -= n) {
		n = mbrtowc(&wc, s, size, &state);
		if (n == 0 || n > size || wc < ' ' ||
		    (wc >= 0x7f && wc < 0xa0))
			return false;
	}
	return true;
}

static void
test_line(void)
{
	char want[128], *nl;
	int fds[2];

	open_pipe(fds, NULL);
	errno = ENOENT;
	log_warn("open %s", "x");
	check("errno is preserved", errno == ENOENT, strerror(errno));
	drain(fds[0]);
	nl = strchr(text, '\n');
	check("one newline, at the end", nl != NULL && nl[1] == '\0', text);
	if (nl != NULL)
		*nl = '\0';
	check("a line parses", parses(text), text);
	snprintf(want, sizeof(want), "Z preforkd[%ld] warning: "
	    "open x: No such file or directory", (long)getpid());
	check("its words", strcmp(text + 23, want) == 0, text);

	log_notice("a\nb");
	check("a newline inside makes no second line",
	    drain(fds[0]) > 0 && strstr(text, "notice: a b\n") != NULL, text);
	close_pipe(fds);
}

static void
test_time(void)
{
	struct tm tm = { .tm_isdst = 0 };
	char line[256], *rest;
	time_t before = time(NULL);

	log_line(line, sizeof(line), LOG_LEVEL_INFO, "x");
	rest = strptime(line, "%Y-%m-%dT%H:%M:%S", &tm);
	check("the time is now, in UTC", rest != NULL && *rest == '.' &&
	    timegm(&tm) >= before - 1 && timegm(&tm) <= time(NULL) + 1, line);
}

static void
test_levels(void)
{
	bool ok = true;
	int fds[2], i;

	for (i = LOG_LEVEL_ALERT; i <= LOG_LEVEL_DEBUG; i++)
		ok = ok && log_level_parse(log_levels[i]) == i;
	check("level names", ok && log_level_parse("loud") == -1, "mismatch");

	open_pipe(fds, NULL);
	log_set_level(LOG_LEVEL_WARNING);
	log_notice("quiet");
	check("a level not wanted is silent", drain(fds[0]) == 0 &&
	    !log_wants(LOG_LEVEL_NOTICE), text);
	log_warnx("loud");
	check("a level wanted is not", drain(fds[0]) > 0 &&
	    log_wants(LOG_LEVEL_WARNING), text);
	log_set_level(LOG_LEVEL_DEBUG);
	close_pipe(fds);
}

static void
test_stderr(void)
{
	int fds[2], saved;

	if (pipe2(fds, O_CLOEXEC) == -1)
		exit(1);
	saved = dup(STDERR_FILENO);
	dup2(fds[1], STDERR_FILENO);
	log_errorx("port %d in use", 80);
	dup2(saved, STDERR_FILENO);
	close(saved);
	drain(fds[0]);
	check("before the pipe, to standard error",
	    strcmp(text, "preforkd: port 80 in use\n") == 0, text);
	close(fds[0]);
	close(fds[1]);
}

/* Messages too long by far, with something breakable at every offset. */
static void
test_cut(void)
{
	static const char *const units[] = {
		"\303\251", "\342\202\254", "\360\237\220\247", "\\033", "\\n"
	};
	static char message[3 * PIPE_BUF];
	const char *why = NULL;
	size_t i, pad, n;
	int fds[2];

	open_pipe(fds, NULL);
	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		for (pad = 0; pad < 5; pad++) {
			memset(message, 'x', pad);
			message[pad] = '\0';
			while (strlen(message) < 2 * PIPE_BUF)
				strcat(message, units[i]);
			log_info("cut v=\"%s\"", message);
			n = drain(fds[0]);
			if (n > PIPE_BUF || n < PIPE_BUF - 8)
				why = "length";
			else if (text[n - 1] != '\n')
				why = "no newline";
			else if (!valid_utf8(text, n - 1))
				why = "half a character";
			text[n - 1] = '\0';
			if (!parses(text))
				why = "does not parse";
			else if (units[i][0] == '\\' &&
			    strncmp(text + n - 2 - strlen(units[i]), units[i],
			    strlen(units[i])) != 0)
				why = "half an escape";
		}
	}
	check("a long message is cut between characters", why == NULL, why);
	close_pipe(fds);
}

__attribute__((__noreturn__))
static void
writer(int number)
{
	char pad[400];
	int i;

	log_forked();
	memset(pad, 'p', sizeof(pad));
	for (i = 0; i < LINES; i++)
		log_info("w%d n=%d pad=\"%.*s\"", number, i,
		    (i * 7 + number) % 300, pad);
	_exit(0);
}

struct framing {
	pid_t	pid[WRITERS];
	int	last[WRITERS];
	unsigned long long got, said;
	const char *why;
};

static void
framing_line(struct framing *f, char *line)
{
	unsigned long long count;
	int number, n;
	long pid;

	if (!parses(line))
		f->why = "a line does not parse";
	else if (sscanf(line, "%*s preforkd[%ld] warning: log lines dropped "
	    "count=%llu", &pid, &count) == 2)
		f->said += count;
	else if (sscanf(line, "%*s preforkd[%ld] info: w%d n=%d", &pid,
	    &number, &n) != 3 || number < 0 || number >= WRITERS)
		f->why = "a strange line";
	else if (pid != (long)f->pid[number])
		f->why = "the pid of another process";
	else if (n <= f->last[number])
		f->why = "out of order";
	else {
		f->last[number] = n;
		f->got++;
	}
}

/* Read all first: who parses meanwhile is too slow a reader. */
static void
framing_read(struct framing *f, int fd)
{
	size_t size = 0, max = (size_t)WRITERS * LINES * 450;
	char *all, *p, *nl;
	ssize_t n;

	all = malloc(max);
	if (all == NULL)
		exit(1);
	while ((n = read(fd, all + size, max - size)) > 0)
		size += (size_t)n;
	for (p = all; (nl = memchr(p, '\n', size - (size_t)(p - all))) != NULL;
	    p = nl + 1) {
		*nl = '\0';
		framing_line(f, p);
	}
	if (p != all + size)
		f->why = "half a line";
	free(all);
}

static void
test_framing(_Atomic unsigned long long *drops)
{
	struct framing f = { .why = NULL };
	unsigned long long sum;
	char line[256];
	int fds[2], i;

	*drops = 0;
	open_pipe(fds, drops);
	fcntl(fds[1], F_SETPIPE_SZ, 1024 * 1024);
	log_line(line, sizeof(line), LOG_LEVEL_INFO, "not a child's pid");
	for (i = 0; i < WRITERS; i++) {
		f.last[i] = -1;
		f.pid[i] = fork();
		if (f.pid[i] == 0)
			writer(i);
	}
	log_to_pipe(-1, NULL);
	close(fds[1]);
	framing_read(&f, fds[0]);
	close(fds[0]);
	while (wait(NULL) > 0)
		continue;
	check("8 writers, every line whole, in order, with its pid",
	    f.why == NULL, f.why);
	sum = f.got + *drops;
	check("lines and drops add up", sum == WRITERS * LINES &&
	    f.said <= *drops, "they do not");
}

static void
test_stuck(_Atomic unsigned long long *drops)
{
	char want[64], *second, big[2 * PIPE_BUF];
	int64_t start, first, rest;
	unsigned long long n;
	int fds[2], i;

	*drops = 0;
	open_pipe(fds, drops);
	for (first = 0; *drops == 0; first = now() - start) {
		start = now();
		log_info("fill");
	}
	check("a stuck reader is waited for, at most 20 ms",
	    first >= 15 && first < 1000, "another time");
	start = now();
	for (i = 0; i < 10000; i++)
		log_info("dropped");
	rest = now() - start;
	check("after a drop nobody waits", rest < 3000, "it took longer");
	check("drops are counted exactly", *drops == 10001, "another count");

	n = *drops;
	drain(fds[0]);
	memset(big, 'b', sizeof(big));
	log_info("%.*s", (int)sizeof(big), big);
	check("notice and long line are one record",
	    drain(fds[0]) <= PIPE_BUF && *drops == n, "too long");
	second = strchr(text, '\n');
	snprintf(want, sizeof(want), "warning: log lines dropped count=%llu",
	    n);
	check("drops are said before the next line", second != NULL &&
	    strstr(text, want) != NULL && strstr(text, want) < second &&
	    strstr(second, "info: bbb") != NULL, text);
	log_info("then");
	drain(fds[0]);
	check("... once", strstr(text, "count=") == NULL, text);
	close_pipe(fds);
}

static void
test_no_reader(_Atomic unsigned long long *drops)
{
	int fds[2];

	*drops = 0;
	open_pipe(fds, drops);
	close(fds[0]);
	errno = 0;
	log_info("to nobody");
	check("a closed pipe is survived and counted", *drops == 1 &&
	    errno == 0, "not counted");
	log_to_pipe(-1, NULL);
	close(fds[1]);
}

static int fatal_fds[2];

static void
at_exit(void)
{
	log_to_pipe(fatal_fds[1], NULL);
	log_info("atexit");
}

static void
test_fatal(bool as_child)
{
	int status;
	pid_t pid;

	open_pipe(fatal_fds, NULL);
	pid = fork();
	if (pid == 0) {
		atexit(at_exit);
		if (as_child)
			log_forked();
		errno = EACCES;
		fatal("bind");
	}
	waitpid(pid, &status, 0);
	drain(fatal_fds[0]);
	check("fatal() says why and exits with 1", WIFEXITED(status) &&
	    WEXITSTATUS(status) == 1 &&
	    strstr(text, "alert: bind: Permission denied\n") != NULL, text);
	check("exit(3), in a child _exit(2)",
	    (strstr(text, "atexit") == NULL) == as_child, text);
	close_pipe(fatal_fds);
}

/* The reverse of log_quote(), by the rules of C. */
static size_t
unquote(char *dst, const char *src)
{
	static const char letters[] = "abtnvfr", controls[] = "\a\b\t\n\v\f\r";
	const char *p;
	char *d = dst;
	int i, c;

	while (*src != '\0') {
		if (*src != '\\') {
			*d++ = *src++;
			continue;
		}
		src++;
		if (*src >= '0' && *src <= '7') {
			for (c = i = 0; i < 3; i++)
				c = c * 8 + (*src++ - '0');
			*d++ = (char)c;
		} else if ((p = strchr(letters, *src)) != NULL && *src != 0) {
			*d++ = controls[p - letters];
			src++;
		} else
			*d++ = *src++;
	}
	return (size_t)(d - dst);
}

static void
test_quote_examples(void)
{
	static const struct {
		const char *in, *out;
	} ex[] = {
		{ "plain text, 100%s", "plain text, 100%s" },
		{ "\r\n\t\a\b\v\f", "\\r\\n\\t\\a\\b\\v\\f" },
		{ "\033[31m", "\\033[31m" },
		{ "\177", "\\177" },
		{ "\\x1b \"q\"", "\\\\x1b \\\"q\\\"" },
		{ "gr\303\274n \342\202\254 \360\237\220\247",
		  "gr\303\274n \342\202\254 \360\237\220\247" },
		{ "\302\233", "\\302\\233" },		/* C1 */
		{ "\302\240", "\302\240" },
		{ "\2331", "\\2331" },
		{ "\300\257", "\\300\\257" },		/* overlong */
		{ "\340\237\277", "\\340\\237\\277" },
		{ "\360\217\277\277", "\\360\\217\\277\\277" },
		{ "\355\240\200", "\\355\\240\\200" },	/* a surrogate */
		{ "\364\220\200\200", "\\364\\220\\200\\200" },
		{ "\342\202", "\\342\\202" },		/* cut short */
	};
	const char *why = NULL;
	char out[64];
	size_t i;

	for (i = 0; i < sizeof(ex) / sizeof(ex[0]); i++) {
		log_quote(out, sizeof(out), ex[i].in, strlen(ex[i].in));
		if (strcmp(out, ex[i].out) != 0)
			why = ex[i].out;
	}
	check("quoting by example", why == NULL, why);
	log_quote(out, sizeof(out), "a\0" "1", 3);
	check("NUL before a digit", strcmp(out, "a\\0001") == 0, out);
	log_quote(out, 6, "a\nbc", 4);
	check("a value that just fits", strcmp(out, "a\\nbc") == 0, out);
}

static uint32_t
random_number(void)
{
	static uint32_t x = 20261123;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

/* Any bytes; every other time rather such as make up characters. */
static size_t
random_bytes(char *buf, size_t max)
{
	static const unsigned char lead[] = "\302\303\340\342\355\360\364\\\"n";
	size_t i, n = random_number() % max;
	bool text_like = random_number() & 1;

	for (i = 0; i < n; i++) {
		buf[i] = (char)random_number();
		if (text_like && random_number() % 3 == 0)
			buf[i] = (char)lead[random_number() %
			    (sizeof(lead) - 1)];
		else if (text_like)
			buf[i] = (char)(0x80 | (buf[i] & 0x3f));
	}
	return n;
}

static void
test_quote_random(void)
{
	char in[64], out[4 * sizeof(in) + 1], back[sizeof(out)], *end;
	const char *why = NULL;
	size_t n, m, room;
	int i;

	for (i = 0; i < 200000 && why == NULL; i++) {
		n = random_bytes(in, sizeof(in));
		log_quote(out, sizeof(out), in, n);
		if (!valid_utf8(out, strlen(out)))
			why = "a control character or half a character";
		m = unquote(back, out);
		if (m != n || memcmp(back, in, n) != 0)
			why = "does not decode to its input";
		if (strunvis(back, out) != (int)n || memcmp(back, in, n) != 0)
			why = "unvis(3) cannot decode it";
		room = random_number() % 40;
		end = back + room;
		*end = '#';
		log_quote(back, room, in, n);
		if (*end != '#' || (room > 0 && strlen(back) >= room) ||
		    (room > 0 && strncmp(back, out, strlen(back)) != 0))
			why = "size not respected";
		m = room > 0 ? unquote(out, strcpy(out, back)) : 0;
		if (m > n || memcmp(out, in, m) != 0 ||
		    (m < n && room > m * 4 + 5))
			why = "cut inside an escape, or too early";
	}
	check("quoting decodes to the input", why == NULL, why);
}

int
main(void)
{
	_Atomic unsigned long long *drops;

	drops = mmap(NULL, sizeof(*drops), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (drops == MAP_FAILED)
		return 1;
	setlocale(LC_CTYPE, "C.UTF-8");
	signal(SIGPIPE, ignore);
	if (regcomp(&grammar, GRAMMAR, REG_EXTENDED | REG_NOSUB) != 0)
		return 1;
	log_init("preforkd");
	log_set_level(LOG_LEVEL_DEBUG);
	test_line();
	test_time();
	test_levels();
	test_stderr();
	test_cut();
	test_framing(drops);
	test_stuck(drops);
	test_no_reader(drops);
	test_fatal(false);
	test_fatal(true);
	test_quote_examples();
	test_quote_random();
	regfree(&grammar);
	return failures != 0;
}
