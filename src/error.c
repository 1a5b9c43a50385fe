/*
 * error.c: the one line that says to a caller what went wrong.  Log and
 * terminal are the caller's business.
 */

#include <stdarg.h>
#include <string.h>

#include "preforkd.h"

int
error_say(char error[CONF_ERROR_MAX], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, CONF_ERROR_MAX, fmt, ap);
	va_end(ap);
	return -1;
}

int
error_at(char error[CONF_ERROR_MAX], const char *what, const char *path,
    const char *why)
{
	char quoted[CONF_ERROR_MAX / 2];

	return error_say(error, "%s %s: %s", what, log_quote(quoted,
	    sizeof(quoted), path, strlen(path)), why);
}

char *
error_place(char buf[ERROR_PLACE], const char *file, int line)
{
	size_t len;

	log_quote(buf, ERROR_PLACE - 16, file, strlen(file));
	len = strlen(buf);
	if (line > 0)
		snprintf(buf + len, ERROR_PLACE - len, ":%d", line);
	return buf;
}
