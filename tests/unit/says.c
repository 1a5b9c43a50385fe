/*
 * Unit test of says.c: whatever pieces the bytes come in, the lines are the
 * same; long ones are split, nothing is forged, and the sum of the lines said
 * and suppressed is exact.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

static int failures;
static int fds[2];
static char text[1024 * 1024];		/* what came out of the pipe */

static void
check(const char *name, bool ok)
{
	printf("%s %s\n", ok ? "ok" : "FAIL", name);
	if (!ok)
		printf("%s", text);
	failures += !ok;
}

/* The messages said since the last call, without their heads. */
static const char *
said(void)
{
	static char raw[sizeof(text)];
	char *line, *next = raw, *to = text;
	ssize_t n = read(fds[0], raw, sizeof(raw) - 1);

	raw[n > 0 ? n : 0] = '\0';
	text[0] = '\0';
	while ((line = strsep(&next, "\n")) != NULL)
		if ((line = strstr(line, "notice: ")) != NULL)
			to += sprintf(to, "%s\n", line + strlen("notice: "));
	return text;
}

static void
begin(struct says *s)
{
	memset(s, 0, sizeof(*s));
	s->service = "svc";
	says_begin(s, 7, 99);
}

static void
feed(struct says *s, const char *words)
{
	says_feed(s, 5000, words, strlen(words));
}

#define SAID(words)	"program says service=svc client=7 pid=99 text=\"" \
			    words "\""

static void
test_pieces(void)
{
	static const char words[] = "one\ntwo\n\nlast";
	struct says s;
	size_t size, i, n;
	bool ok = true;

	for (size = 1; size <= sizeof(words); size++) {
		begin(&s);
		for (i = 0; i < sizeof(words) - 1; i += n) {
			n = sizeof(words) - 1 - i;
			n = n < size ? n : size;
			says_feed(&s, 5000, words + i, n);
		}
		says_end(&s, 5000);
		ok = ok && strcmp(said(), SAID("one") "\n" SAID("two") "\n"
		    SAID("") "\n" SAID("last") "\n") == 0;
	}
	check("lines are the same in whatever pieces they come", ok);
}

static void
test_forgery(void)
{
	static const char words[] = "a\" b=\"\0\x1b[1m\r\xff\\\n";
	struct says s;

	begin(&s);
	says_feed(&s, 5000, words, sizeof(words) - 1);
	check("quotes, controls and NULs are escaped", strcmp(said(),
	    SAID("a\\\" b=\\\"\\000\\033[1m\\r\\377\\\\") "\n") == 0);
}

static void
test_long(void)
{
	static char words[3 * SAYS_TEXT];
	struct says s;
	const char *p;
	int n = 0;

	memset(words, 'x', sizeof(words));
	begin(&s);
	says_feed(&s, 5000, words, SAYS_TEXT);
	feed(&s, "\n");
	p = said();
	check("a line that just fits is whole", strlen(p) > SAYS_TEXT &&
	    strstr(p, "split") == NULL && strchr(p, '\n')[1] == '\0');
	says_feed(&s, 5000, words, 2 * SAYS_TEXT + 1);
	says_end(&s, 5000);
	for (p = said(); (p = strstr(p, "split=yes\n")) != NULL; p++)
		n++;
	check("a longer one is split, with a mark", n == 2 &&
	    strstr(text, "text=\"x\"\n") != NULL);
}

/* The number after `suppressed=', of all such lines; and lines of the rest. */
static unsigned long long
suppressed(int *lines)
{
	unsigned long long sum = 0;
	const char *p;

	said();
	*lines = 0;
	for (p = text; (p = strstr(p, "program says ")) != NULL; p++)
		++*lines;
	for (p = text; (p = strstr(p, "suppressed=")) != NULL; p++)
		sum += strtoull(p + strlen("suppressed="), NULL, 10);
	return sum;
}

static void
test_rate(void)
{
	unsigned long long sum;
	struct says s;
	int64_t now;
	int i, lines, more;

	begin(&s);
	for (i = 0; i < 1000; i++)
		feed(&s, "x\n");
	sum = suppressed(&lines);
	check("no more than so many lines in a window", sum == 0 &&
	    lines == SAYS_LINES);
	now = says_due(&s);
	says_feed(&s, now, "", 0);
	sum = suppressed(&more);
	check("then how many were suppressed", more == 0 && sum ==
	    1000 - SAYS_LINES && now == 5000 + SAYS_WINDOW);
	check("which is due no more", says_due(&s) == 0);
	for (i = 0; i < 3000; i++) {
		says_begin(&s, (uint64_t)i, 1);
		says_feed(&s, now + i, "x\ny\n", 4);
		says_end(&s, now + i);
	}
	says_finish(&s, now + i);
	sum = suppressed(&lines);
	check("also of many programs, with an exact sum", sum +
	    (unsigned long long)lines == 6000 && lines == 3 * SAYS_LINES);
}

int
main(void)
{
	if (pipe2(fds, O_NONBLOCK) == -1)
		return 1;
	fcntl(fds[1], F_SETPIPE_SZ, (int)sizeof(text));
	log_to_pipe(fds[1], NULL);
	test_pieces();
	test_forgery();
	test_long();
	test_rate();
	return failures > 0;
}
