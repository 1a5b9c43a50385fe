/*
 * rules.c: whatever a file of rules holds, it is refused in one line, or it is
 * compiled, and what is looked up is the longest of the rules, for the ends of
 * each and what is beside them.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/preforkd.h"

#define ASKED	200		/* of the rules, against all others */

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* One by one. */
static const struct rule *
slowly(const struct rule_list *list, enum rules_table table,
    const struct prefix *who)
{
	const struct rule *best = NULL, *r;

	for (r = list->rule; r < list->rule + list->n; r++)
		if (r->table == table && address_within(who, &r->who) &&
		    (best == NULL || best->who.length < r->who.length))
			best = r;
	return best;
}

static void
check(const struct rules *rules, const struct rule_list *list,
    enum rules_table table, const struct prefix *who)
{
	const struct rule *want = slowly(list, table, who);
	struct rules_answer answer;

	if (rules_find(rules, table, who, &answer) != (want != NULL))
		abort();
	if (want == NULL)
		return;
	if (answer.deny != want->deny || answer.by != RULES_BY_FILE)
		abort();
	if (!answer.deny && strcmp(answer.variables, want->variables == 0 ?
	    "" : list->text + want->variables) != 0)
		abort();
}

/* The first address of a rule, the one before, and some within. */
static void
check_rule(const struct rules *rules, const struct rule_list *list,
    const struct rule *rule)
{
	struct prefix who = rule->who;

	who.length = who.ipv6 ? 128 : 32;
	check(rules, list, rule->table, &who);
	who.bits[0] ^= UINT64_C(1) << 32;
	check(rules, list, rule->table, &who);
	if (who.ipv6) {
		who.bits[1]--;
		check(rules, list, rule->table, &who);
	} else {
		who.bits[0] -= UINT64_C(1) << 33;
		check(rules, list, rule->table, &who);
	}
}

static void
check_all(const struct rule_list *list)
{
	struct rules_source source = { "a", false, *list };
	struct rules_answer answer;
	struct rules rules;
	size_t size, i;
	char *image;

	if ((image = rules_compile(&source, 1, &size)) == NULL ||
	    !rules_open(&rules, image, size, "a"))
		abort();
	for (i = 0; i < list->n && i < ASKED; i++)
		if (list->rule[i].table != RULES_ANY)
			check_rule(&rules, list, &list->rule[i]);
	rules_otherwise(&rules, &answer);
	free(image);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct rulefile file = { "f", (const char *)data, size };
	struct rule_list list = { .n = 0 };
	char error[CONF_ERROR_MAX] = "";
	const struct rule *clash[2];

	if (rulefile_parse(&file, &list, error) == 0) {
		if (rules_settle(&list, clash))
			check_all(&list);
	} else if (error[0] == '\0' || strchr(error, '\n') != NULL)
		abort();
	rules_free(&list);
	return 0;
}
