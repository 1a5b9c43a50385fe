/*
 * Unit tests of state.c: what is written is read as the same, what is unknown
 * is skipped or refused as it should be, and nothing out of range gets by.
 */

#include <stdlib.h>
#include <string.h>

#include "preforkd.h"

#define HEAD	"preforkd-state 1\n"
#define MASTER	"master version=0.1 binary=/x generation=1\n"
#define BOARD	"board nslots=4\n"
#define PAST	"past\n"
#define LISTENER "listener service=a text=:1 name=0.0.0.0:1\n"
#define GENERATION "generation number=7 settings=@4\na\nb\n"
#define SERVICE	"service name=a\n"
#define POOL	"pool\n"
#define CHILD	"child pid=9 state=2 slot=3\n"
#define END	"end\n"
#define GOOD	MASTER BOARD PAST LISTENER GENERATION SERVICE POOL

static char error[CONF_ERROR_MAX];
static int failures;

static void
check(bool right, const char *what)
{
	if (right)
		return;
	printf("FAIL: %s (%s)\n", what, error);
	failures++;
}

static int
read_text(struct state *s, const char *text)
{
	error[0] = '\0';
	return state_read(s, text, strlen(text), error);
}

/* why: NULL when it is right, or a part of the error. */
static const struct {
	const char	*text, *why;
} texts[] = {
	{ HEAD GOOD END, NULL },
	{ HEAD GOOD CHILD END, NULL },
	{ HEAD GOOD CHILD END "and more\n", NULL },
	{ HEAD GOOD "# a comment\n\n" END, NULL },
	{ HEAD "master new=1 version=0.1 binary=/x generation=1\n" BOARD PAST
	    LISTENER GENERATION SERVICE POOL END, NULL },
	{ HEAD GOOD "next settings=@0\n" END, NULL },
	{ HEAD GOOD "unused fd=9 name=127.0.0.1:1\n" END, NULL },
	{ HEAD GOOD "unused fd=9\n" END, "what is not there" },
	{ HEAD GOOD "next rules-fd=9\n" END, "what is not there" },
	{ "", "begin" },
	{ GOOD END, "begin" },
	{ "preforkd-state\n" GOOD END, "begin" },
	{ "preforkd-state 0\n" GOOD END, "begin" },
	{ "preforkd-state 2\n" GOOD END, "version 2, and this program reads" },
	{ HEAD GOOD, "no end" },
	{ HEAD GOOD "en", "not a record" },
	{ HEAD BOARD PAST LISTENER GENERATION SERVICE POOL END, "no master" },
	{ HEAD MASTER GOOD END, "line 3: not a record" },
	{ HEAD GOOD "news a=1\n" END, "not a record" },
	{ HEAD GOOD "child pid=9 state=2 slot\n" END, "not a record" },
	{ HEAD GOOD "child pid=9 state=2 slot=\n" END, "not a record" },
	{ HEAD GOOD "child pid=9 state=2 slot=4\n" END, "not there" },
	{ HEAD GOOD "child pid=9 state=2 slot=-1\n" END, "not a record" },
	{ HEAD GOOD "child pid=9 state=0\n" END, "not a record" },
	{ HEAD GOOD "child pid=1 state=2\n" END, "not a record" },
	{ HEAD GOOD "child state=2\n" END, "not a record" },
	{ HEAD GOOD "child pid=9 state=2 served=9223372036854775808\n" END,
	    "not a record" },
	{ HEAD GOOD "child pid=9 state=2 pool=1\n" END, "not there" },
	{ HEAD GOOD "pool service=1\n" END, "not there" },
	{ HEAD GOOD "pool listener=1\n" END, "not there" },
	{ HEAD GOOD "service name=b generation=1\n" END, "not there" },
	{ HEAD GOOD "service\n" END, "not there" },
	{ HEAD GOOD "listener text=a name=b\n" END, "not there" },
	{ HEAD GOOD "generation number=8\n" END, "not there" },
	{ HEAD GOOD "next settings=@4\n" END, "no end" },
	{ HEAD GOOD "next settings=@5\n" END, "not a record" },
	{ HEAD GOOD "next settings=4\n" END, "not a record" },
	{ HEAD GOOD "next settings=@-1\n" END, "not a record" },
	{ HEAD GOOD "next settings=@0\nnext settings=@0\n" END,
	    "not a record" },
	{ HEAD GOOD "child pid=9 \"state=2\n" END, "quote" },
	{ HEAD GOOD "child pid=9 \x01\n" END, "control" },
};

static void
test_texts(void)
{
	struct state s;
	bool right;
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (read_text(&s, texts[i].text) == 0) {
			right = texts[i].why == NULL;
			state_free(&s);
		} else
			right = texts[i].why != NULL &&
			    strstr(error, texts[i].why) != NULL;
		check(right, texts[i].text);
	}
}

static void
put(struct state *s)
{
	static const enum state_kind kinds[] = { STATE_PAST, STATE_POOL };
	struct state_master *m = state_add(s, STATE_MASTER);
	struct state_board *b = state_add(s, STATE_BOARD);
	struct state_listener *l = state_add(s, STATE_LISTENER);
	struct state_generation *g = state_add(s, STATE_GENERATION);
	struct state_service *v = state_add(s, STATE_SERVICE);
	struct state_child *c;
	size_t i;

	m->version = strdup("1 \"2\" \\3 #4");
	m->binary = strdup("");
	m->generation = 3;
	m->pid_fd = -1;
	m->forks = INT64_MAX;
	m->oom_score = -1000;
	b->nslots = 100;
	l->service = strdup("a=b");
	l->text = strdup("t");
	l->name = strdup("n");
	g->number = UINT32_MAX;
	g->text = strdup("end\nchild\n");
	v->name = strdup("v");
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		state_add(s, kinds[i]);
	for (i = 0; i < 100; i++) {
		c = state_add(s, STATE_CHILD);
		c->slot = (int64_t)i;
		c->pid = 2 + (int64_t)i;
		c->state = CHILD_KILLED;
	}
}

static void
test_round_trip(void)
{
	struct state s = { .list = { { NULL, 0 } } }, again;
	const struct state_master *m;
	const struct state_child *c;
	const struct state_generation *g;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	put(&s);
	state_write(&s, out);
	fclose(out);
	check(read_text(&again, text) == 0, "what was written is read");
	m = again.list[STATE_MASTER].item;
	g = again.list[STATE_GENERATION].item;
	c = again.list[STATE_CHILD].item;
	check(strcmp(m->version, "1 \"2\" \\3 #4") == 0, "version");
	check(strcmp(m->binary, "") == 0, "empty text");
	check(m->config == NULL && m->pid_fd == -1, "what is not there");
	check(m->forks == INT64_MAX && m->oom_score == -1000, "numbers");
	check(strcmp(g->text, "end\nchild\n") == 0, "block");
	check(again.list[STATE_CHILD].n == 100 && c[99].slot == 99 &&
	    c[99].state == CHILD_KILLED, "children");
	state_free(&s);
	state_free(&again);
	free(text);
}

/* Any part of a state is refused, and leaves nothing behind. */
static void
test_cut(void)
{
	static const char whole[] = HEAD GOOD CHILD END;
	struct state s;
	size_t n;

	for (n = 0; n < sizeof(whole) - 2; n++) {
		error[0] = '\0';
		check(state_read(&s, whole, n, error) == -1 &&
		    error[0] != '\0', "a state that is cut");
		check(s.list[STATE_MASTER].item == NULL, "freed");
	}
}

int
main(void)
{
	test_texts();
	test_round_trip();
	test_cut();
	return failures > 0;
}
