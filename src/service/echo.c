/*
 * echo.c: the echo service of RFC 862: every byte comes back, until the
 * client has finished sending and the last of them is on its way.
 *
 * A client that sends without reading fills both directions and then waits
 * for itself; so does this service, for as long as the timeouts allow.
 */

#include "../preforkd-module.h"

static void
serve(struct conn *c)
{
	char buf[16384];
	ssize_t n;

	while ((n = conn_read(c, buf, sizeof(buf))) > 0)
		if (conn_write(c, buf, (size_t)n) == -1)
			return;
}

const struct preforkd_service echo_service = {
	.abi = PREFORKD_ABI,
	.name = "echo",
	.summary = "send every byte back (RFC 862)",
	.serve = serve
};
