/*
 * discard.c: the discard service of RFC 863: whatever the client sends is
 * thrown away, until it has finished sending.
 */

#include "../preforkd-module.h"

static void
serve(struct conn *c)
{
	char buf[16384];

	while (conn_read(c, buf, sizeof(buf)) > 0)
		continue;
}

const struct preforkd_service discard_service = {
	.abi = PREFORKD_ABI,
	.name = "discard",
	.summary = "throw away what the client sends (RFC 863)",
	.serve = serve
};
