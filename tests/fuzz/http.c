/*
 * http.c: whatever a browser sends, it is refused, or has a path that fits and
 * begins with a slash, with no byte in it that a line cannot have.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/preforkd.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size > 0 ? size : 1);
	struct http_request r;
	const char *wrong, *p;

	if (copy == NULL)
		abort();
	if (size > 0)
		memcpy(copy, data, size);
	wrong = http_parse(copy, size, &r);
	if (memchr(r.path, '\0', sizeof(r.path)) == NULL)
		abort();
	if (wrong != NULL && (strlen(wrong) > 40 || wrong[3] != ' '))
		abort();
	if (wrong == NULL && (r.path[0] != '/' || r.get == r.head))
		abort();
	for (p = r.path; wrong == NULL && *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			abort();
	free(copy);
	return 0;
}
