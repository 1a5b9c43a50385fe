/*
 * chargen.c: the character generator of RFC 864: lines of 72 characters out
 * of a ring of the 95 printing ones, each line one step further, for as long
 * as the client takes them.  What the client sends is thrown away.
 *
 * A client that has only finished sending still reads, so it is served on;
 * one that has closed answers the next page with a reset.
 */

#include <sys/socket.h>

#include "../preforkd-module.h"

#define RING	95
#define LINE	72

static char page[RING][LINE + 2];	/* then it repeats */

static int
start(void)
{
	int i, j;

	for (i = 0; i < RING; i++) {
		for (j = 0; j < LINE; j++)
			page[i][j] = (char)(' ' + (i + j) % RING);
		page[i][LINE] = '\r';
		page[i][LINE + 1] = '\n';
	}
	return 0;
}

static void
serve(struct conn *c)
{
	char waste[4096];

	while (conn_write(c, page, sizeof(page)) == 0)
		recv(conn_fd(c), waste, sizeof(waste), MSG_DONTWAIT);
}

const struct preforkd_service chargen_service = {
	.abi = PREFORKD_ABI,
	.name = "chargen",
	.summary = "send lines of characters without end (RFC 864)",
	.start = start,
	.serve = serve
};
