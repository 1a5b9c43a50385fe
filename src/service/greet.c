/*
 * greet.c: says where the client has arrived and the how manieth it is, then
 * waits for a key.  The first service, and the one to copy for a new one.
 *
 * The text is a contract, byte for byte; there is no RFC for it.
 */

#include "../preforkd-module.h"

static void
serve(struct conn *c)
{
	/*
	 * Room for a key or a line, not for more: the rest of a client that
	 * sends much more is then seen, and thrown away, at the end.
	 */
	char key[512];

	if (conn_printf(c, "Welcome ! You have connected to %s on port %u\r\n"
	    "You are client #%llu to connect to this server !\r\n"
	    "Please press any key in your console, "
	    "after that this server socket will close\r\n",
	    conn_local_address(c), conn_local_port(c),
	    (unsigned long long)conn_number(c)) == -1)
		return;
	conn_read(c, key, sizeof(key));
}

const struct preforkd_service greet_service = {
	.abi = PREFORKD_ABI,
	.name = "greet",
	.summary = "greet the client, tell its number, wait for a key",
	.serve = serve
};
