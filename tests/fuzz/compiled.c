/*
 * compiled.c: whatever a compiled form holds, nothing outside of it is read.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/preforkd.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static volatile size_t seen;

static void
look(const struct rules *rules, const struct rule *rule)
{
	struct rules_answer answer;
	const char *p;

	if (!rules_find(rules, rule->table, &rule->who, &answer))
		rules_otherwise(rules, &answer);
	for (p = answer.variables; *p != '\0'; p += strlen(p) + 1)
		seen += strlen(p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t some[] = { 0, 1, UINT32_MAX, UINT64_C(1) << 32,
	    UINT64_C(0x0a000001) << 32, UINT64_C(0x20010db8) << 32,
	    UINT64_MAX };
	struct rule rule = { .deny = false };
	struct rules rules;
	void *image;
	size_t i;

	if ((image = malloc(size)) == NULL)
		return 0;
	memcpy(image, data, size);
	if (rules_open(&rules, image, size, "a"))
		for (i = 0; i < sizeof(some) / sizeof(some[0]) * RULES_ANY;
		    i++) {
			rule.table = (enum rules_table)(i % RULES_ANY);
			rule.who.ipv6 = rule.table == RULES_IPV6;
			rule.who.bits[0] = some[i / RULES_ANY];
			rule.who.bits[1] = some[i / RULES_ANY];
			look(&rules, &rule);
		}
	free(image);
	return 0;
}
