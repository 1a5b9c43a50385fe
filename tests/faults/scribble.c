/*
 * scribble.c: a service that has been taken over: it writes over every shared
 * mapping that it can write, and tries to make the read-only ones writable.
 *
 * The client's line says with what: `random SEED', or a byte as `fill BYTE'.
 * The reply tells how many mappings were written and how many resisted.
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
