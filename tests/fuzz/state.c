/*
 * state.c: whatever a state holds, it is refused, or all numbers in it are in
 * range; and then it is read again as the same when it is written.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/preforkd.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static char *
written(const struct state *s, size_t *size)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, size);

	if (out == NULL)
		abort();
	state_write(s, out);
	if (fclose(out) == EOF)
		abort();
	return text;
}

/* What others use as indices, and so must be there. */
static void
check_references(const struct state *s)
{
	const struct state_child *c = s->list[STATE_CHILD].item;
	const struct state_pool *p = s->list[STATE_POOL].item;
	const struct state_board *b = s->list[STATE_BOARD].item;
	int i;

	for (i = 0; i < s->list[STATE_CHILD].n; i++)
		if (c[i].pool < 0 || c[i].pool >= s->list[STATE_POOL].n ||
		    c[i].slot < 0 || c[i].slot >= b->nslots)
			abort();
	for (i = 0; i < s->list[STATE_POOL].n; i++)
		if (p[i].service < 0 || p[i].listener < 0 ||
		    p[i].service >= s->list[STATE_SERVICE].n ||
		    p[i].listener >= s->list[STATE_LISTENER].n)
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[CONF_ERROR_MAX] = "", *text, *again;
	struct state s;
	size_t n, m;

	if (state_read(&s, (const char *)data, size, error) == -1) {
		if (error[0] == '\0')
			abort();
		return 0;
	}
	check_references(&s);
	text = written(&s, &n);
	state_free(&s);
	/* A line that only just fitted may be too long with its quotes. */
	if (state_read(&s, text, n, error) == 0) {
		again = written(&s, &m);
		if (m != n || memcmp(text, again, n) != 0)
			abort();
		free(again);
		state_free(&s);
	}
	free(text);
	return 0;
}
