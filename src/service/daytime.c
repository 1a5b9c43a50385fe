/*
 * daytime.c: the daytime service of RFC 867: one line with the local date and
 * time, `Tue Feb 22 17:37:43 1982', as inetd sends it.
 */

#include <time.h>

#include "../preforkd-module.h"

static void
serve(struct conn *c)
{
	char text[64];
	time_t now = time(NULL);
	struct tm tm;

	if (localtime_r(&now, &tm) == NULL)
		return;
	strftime(text, sizeof(text), "%a %b %e %H:%M:%S %Y", &tm);
	conn_printf(c, "%s\r\n", text);
}

const struct preforkd_service daytime_service = {
	.abi = PREFORKD_ABI,
	.name = "daytime",
	.summary = "send the date and time as a line (RFC 867)",
	.serve = serve
};
