/*
 * tables.c: prints the tables that documents are held to, as tab-separated
 * lines: the settings, the signals, or the names of the built-in services.
 */

#include <string.h>

#include "preforkd.h"

static void
services(FILE *out)
{
	int i;

	for (i = 0; builtin_services[i] != NULL; i++)
		fprintf(out, "%s\n", builtin_services[i]->name);
}

int
main(int argc, char *argv[])
{
	static const struct {
		const char	*name;
		void		(*print)(FILE *);
	} tables[] = {
		{ "settings", setting_table },
		{ "signals", sig_table },
		{ "services", services }
	};
	const char *wanted = argc > 1 ? argv[1] : NULL;
	size_t i;

	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		if (wanted == NULL || strcmp(wanted, tables[i].name) == 0)
			tables[i].print(stdout);
	return fflush(stdout) == 0 ? 0 : 1;
}
