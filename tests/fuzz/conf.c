/*
 * conf.c: whatever a configuration holds, it is refused in one line, or it is
 * dumped and read again as the same.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/preforkd.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static char *
dump(const struct conf *conf, size_t *size)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, size);

	if (out == NULL)
		abort();
	dump_conf(conf, out);
	if (fclose(out) == EOF)
		abort();
	return text;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[CONF_ERROR_MAX] = "", *first, *second;
	struct conf *conf, *again;
	size_t n, m;

	conf = conf_load_text("f", (const char *)data, size, error);
	if (conf == NULL) {
		if (error[0] == '\0' || strchr(error, '\n') != NULL)
			abort();
		return 0;
	}
	first = dump(conf, &n);
	if ((again = conf_load_text("g", first, n, error)) == NULL)
		abort();
	second = dump(again, &m);
	if (n != m || memcmp(first, second, n) != 0)
		abort();
	free(first);
	free(second);
	conf_free(conf);
	conf_free(again);
	return 0;
}
