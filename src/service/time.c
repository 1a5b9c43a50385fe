/*
 * time.c: the time service of RFC 868: the seconds since 1900 as four bytes
 * in network order.  They start again from 0 in February 2036.
 */

#include <arpa/inet.h>

#include <time.h>

#include "../preforkd-module.h"

/* From 1900 to 1970. */
#define EPOCH	2208988800U

static void
serve(struct conn *c)
{
	uint32_t now = htonl((uint32_t)time(NULL) + EPOCH);

	conn_write(c, &now, sizeof(now));
}

const struct preforkd_service time_service = {
	.abi = PREFORKD_ABI,
	.name = "time",
	.summary = "send the time as four bytes (RFC 868)",
	.serve = serve
};
