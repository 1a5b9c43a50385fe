/*
 * error.c: the one line that says to a caller what went wrong.  Log and
 * terminal are the caller's business.
 */

#include <stdarg.h>

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
