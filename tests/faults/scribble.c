/*
 * scribble.c: a service that has been taken over: it writes over every shared
 * mapping that it can write, and tries to make the read-only ones writable.
 *
 * The client's line says with what: `random SEED', a byte as `fill BYTE', or
 * `claim STATE', which leaves headers alone and has every slot say that state
 * with absurd numbers.  The reply tells how many mappings were written and
 * how many resisted.
 */

#include <sys/mman.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/preforkd.h"

extern const struct preforkd_service scribble_service;

struct mapping {
	unsigned long	start, end;
	char		perms[8];
};

static void
overwrite(const struct mapping *m, const char *how, unsigned int argument)
{
	unsigned char *p = (unsigned char *)m->start;
	unsigned char *end = (unsigned char *)m->end;

	while (p < end)
		*p++ = strcmp(how, "fill") == 0 ? (unsigned char)argument :
		    (unsigned char)rand_r(&argument);
}

/* Lies that a reader cannot tell from the truth by their form. */
static void
claim(const struct mapping *m, uint32_t state)
{
	struct commons *commons = (struct commons *)m->start;
	struct slot *slot;
	size_t i;

	if (m->end - m->start < sizeof(*commons) ||
	    commons->magic != SCOREBOARD_MAGIC)
		return;
	for (i = 0; i < CONF_LISTENERS_MAX; i++)
		commons->listener[i].idle = state == SLOT_IDLE ? INT32_MAX :
		    INT32_MIN;
	slot = commons->slot;
	for (; (unsigned long)(slot + 1) <= m->end; slot++) {
		slot->state = state;
		slot->lingering = UINT32_MAX;
		slot->pid = -1;
		slot->listener = UINT16_MAX;
		slot->born = slot->since = INT64_MIN;
		for (i = 0; i < NUMBERS; i++)
			slot->number[i] = i % 2 == 0 ? UINT64_MAX :
			    UINT64_C(1) << 63;
		slot->client = UINT64_MAX;
	}
}

static void
serve(struct conn *c)
{
	struct mapping m;
	char line[512], how[16] = "";
	unsigned int argument = 0;
	int written = 0, resisted = 0;
	FILE *maps;

	if (conn_line(c, line, sizeof(line)) < 0 ||
	    sscanf(line, "%15s %u", how, &argument) != 2 ||
	    (maps = fopen("/proc/self/maps", "r")) == NULL)
		return;
	while (fgets(line, sizeof(line), maps) != NULL) {
		if (sscanf(line, "%lx-%lx %7s", &m.start, &m.end,
		    m.perms) != 3 || m.perms[3] != 's')
			continue;
		if (m.perms[1] != 'w' && mprotect((void *)m.start,
		    m.end - m.start, PROT_READ | PROT_WRITE) == -1) {
			resisted++;
			continue;
		}
		if (strcmp(how, "claim") == 0)
			claim(&m, argument);
		else
			overwrite(&m, how, argument);
		written++;
	}
	fclose(maps);
	conn_printf(c, "written %d resisted %d\n", written, resisted);
}

const struct preforkd_service scribble_service = {
	.abi = PREFORKD_ABI,
	.name = "scribble",
	.summary = "write over whatever is shared",
	.serve = serve,
};
