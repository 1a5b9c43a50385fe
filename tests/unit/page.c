/*
 * Unit test of page.c: text of any kind is text on the page, and no more; and
 * how large the page is with many workers.  With an argument it writes the
 * page, for a look at it.
 */
#include <stdlib.h>
#include <string.h>

#include "preforkd.h"

#define SLOTS	10000

static int failures;
static struct scoreboard board;
static struct conf_service conf;
static const struct worker self = { .board = &board, .conf = &conf };

static void
check(const char *name, bool ok)
{
	printf("%s %s\n", ok ? "ok" : "FAIL", name);
	failures += !ok;
}

/* The page, to be freed. */
static char *
page(void)
{
	char error[CONF_ERROR_MAX], *text = NULL;
	struct snapshot s;
	size_t size;
	FILE *out;

	if (view_take(&s, error) == -1 ||
	    (out = open_memstream(&text, &size)) == NULL)
		abort();
	s.alive = true;
	page_write(out, &s, "0123456789abcdef");
	fclose(out);
	snapshot_free(&s);
	return text;
}

/* Every text there is. */
static void
name_all(const char *text)
{
	struct status *s = board.status;

	s->state = MASTER_RUNNING;
	s->slots_used = 12;
	s->ndeaths = 1;
	s->reload = s->upgrade.outcome = RELOAD_FAILED;
	s->service[0].used = s->listener[0].used = 1;
	strlcpy(s->product, text, sizeof(s->product));
	strlcpy(s->reload_why, text, sizeof(s->reload_why));
	strlcpy(s->upgrade.why, text, sizeof(s->upgrade.why));
	strlcpy(s->service[0].name, text, sizeof(s->service[0].name));
	strlcpy(s->listener[0].name, text, sizeof(s->listener[0].name));
	strlcpy(s->death[0].service, text, sizeof(s->death[0].service));
}

static int
count(const char *text, int c)
{
	int n = 0;

	for (; *text != '\0'; text++)
		n += *text == c;
	return n;
}

static bool
printable(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' ? *text != '\n' :
		    (unsigned char)*text >= 0x7f)
			return false;
	return true;
}

/* Whatever they say, there are no more tags, and no attribute ends early. */
static void
test_hostile(void)
{
	static const char *const names[] = { "<script>alert(1)</script>",
	    "</title><img src=x onerror=a()>", "' onmouseover='alert(1)",
	    "\" onmouseover=\"alert(1)", "<!--", "-->", "]]>",
	    "&lt;script&gt;", "\x1b[31mred\r\n\a", "\xff\xfe\xc0\xaf<b>",
	    "\xe2\x80\xa8\xc2\x85<", "a\tb\\c" };
	char *plain, *hostile;
	size_t i;

	name_all("web");
	plain = page();
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		name_all(names[i]);
		hostile = page();
		check("tags", count(plain, '<') == count(hostile, '<') &&
		    count(plain, '>') == count(hostile, '>'));
		check("attributes", count(plain, '\'') == count(hostile,
		    '\'') && count(plain, '"') == count(hostile, '"'));
		check("bytes", strstr(names[i], "\xe2\x80\xa8") != NULL ||
		    printable(hostile));
		free(hostile);
	}
	free(plain);
}

static void
test_escape(void)
{
	char *text;

	name_all("&<'\"\\\x1b\xff");
	text = page();
	check("once", strstr(text, "<td class=t>&#38;&#60;&#39;&#34;\\\\033"
	    "\\377<td") != NULL);
	free(text);
}

/* Slots that hold anything. */
static void
test_rubbish(void)
{
	char *text;

	name_all("web");
	memset(board.commons->slot, 0xff, SLOTS * sizeof(struct slot));
	board.status->slots_used = SLOTS;
	board.status->ndeaths = UINT64_MAX;
	memset(board.status->death, 0xff, sizeof(board.status->death));
	memset(board.status->generations, 0xff,
	    sizeof(board.status->generations));
	text = page();
	check("slots and deaths of ones", strstr(text, "</html>") != NULL);
	free(text);
}

static void
many(uint32_t n)
{
	uint32_t i;

	memset(board.commons->slot, 0, SLOTS * sizeof(struct slot));
	board.status->slots_used = n;
	for (i = 0; i < n; i++) {
		board.commons->slot[i].state = i % 3 != 0 ? SLOT_BUSY :
		    SLOT_IDLE;
		board.commons->slot[i].pid = (int32_t)i + 1;
	}
}

static void
test_size(void)
{
	char *text;

	name_all("web");
	many(1000);
	text = page();
	check("with 1,000 workers below 30 kB", strlen(text) < 30000);
	free(text);
	many(SLOTS);
	text = page();
	check("all of them", strstr(text, "6666 of 10000 workers") != NULL);
	check("with 10,000 workers below 200 kB", strlen(text) < 200000);
	free(text);
}

int
main(int argc, char *argv[])
{
	char error[CONF_ERROR_MAX];

	log_to_pipe(-1, NULL);
	if (scoreboard_create(&board, NULL, SLOTS, error) == -1) {
		printf("FAIL %s\n", error);
		return 1;
	}
	view_start(&self);
	if (argc == 2) {
		name_all("web");
		many((uint32_t)atoi(argv[1]));
		fputs(page(), stdout);
		return 0;
	}
	test_hostile();
	test_escape();
	test_size();
	test_rubbish();
	return failures > 0;
}
