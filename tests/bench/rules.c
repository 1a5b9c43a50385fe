/*
 * rules.c: what it costs to look up a client in 100,000 rules.
 *
 *	rules [NRULES]
 *
 * Random prefixes, of 8 to 32 bits and of 16 to 128 bits, then random clients,
 * half of them within one; the whole way of a worker but for the answer's use.
 * Prints `ipv4_ns=N ipv6_ns=N cold_ns=N compile_ms=N bytes=N': medians of a
 * client, warm, and, for IPv4, after all caches were filled with other things.
 */

#include <err.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "preforkd.h"

#define ROUNDS		101
#define CLIENTS		1000		/* of a round */
#define COLD		(64 << 20)	/* bytes to forget the others */

static struct address client[CLIENTS];
static volatile unsigned int denied;
static char *cold;

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static uint64_t
random64(void)
{
	return (uint64_t)arc4random() << 32 | arc4random();
}

static void
random_rule(struct rule *rule, bool ipv6)
{
	memset(rule, 0, sizeof(*rule));
	rule->table = ipv6 ? RULES_IPV6 : RULES_IPV4;
	rule->who.ipv6 = ipv6;
	rule->who.bits[0] = ipv6 ? UINT64_C(0x2000) << 48 | random64() >> 3 :
	    (uint64_t)arc4random() << 32;
	rule->who.bits[1] = ipv6 ? random64() : 0;
	address_cut(&rule->who, ipv6 ? 16 + (int)arc4random_uniform(113) :
	    8 + (int)arc4random_uniform(25));
	rule->deny = rule->who.length % 2;
}

static char *
compile(struct rule_list *list, int n, size_t *size)
{
	struct rules_source source = { "a", false, { .n = 0 } };
	const struct rule *clash[2];
	struct rule rule;
	char *image;
	int i;

	for (i = 0; i < n; i++) {
		random_rule(&rule, i % 2);
		if (!rules_add(list, &rule))
			err(1, "rules_add");
	}
	if (!rules_settle(list, clash))
		errx(1, "rules that contradict each other");
	source.list = *list;
	if ((image = rules_compile(&source, 1, size)) == NULL)
		err(1, "rules_compile");
	return image;
}

static void
set_client(struct address *a, const struct prefix *p)
{
	struct sockaddr_in *sin = (void *)&a->ss;
	struct sockaddr_in6 *sin6 = (void *)&a->ss;
	const uint64_t bits[2] = { __builtin_bswap64(p->bits[0]),
	    __builtin_bswap64(p->bits[1]) };

	a->ss.ss_family = p->ipv6 ? AF_INET6 : AF_INET;
	if (p->ipv6)
		memcpy(&sin6->sin6_addr, bits, 16);
	else
		memcpy(&sin->sin_addr, bits, 4);
}

static void
make_clients(const struct rule_list *list, bool ipv6)
{
	struct rule rule;
	int i;

	for (i = 0; i < CLIENTS; i++) {
		do
			rule = list->rule[arc4random_uniform(
			    (uint32_t)list->n)];
		while (rule.who.ipv6 != ipv6);
		if (i % 2)
			random_rule(&rule, ipv6);
		set_client(&client[i], &rule.who);
	}
}

static void
ask(const struct rules *rules, const struct address *a)
{
	struct rules_answer answer;
	struct prefix who;

	if (!address_bits(a, &who))
		errx(1, "address_bits");
	if (!rules_find(rules, who.ipv6 ? RULES_IPV6 : RULES_IPV4, &who,
	    &answer))
		rules_otherwise(rules, &answer);
	denied += answer.deny;
}

static int
compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* The median of the rounds, ns of a client. */
static double
warm(const struct rules *rules)
{
	double ns[ROUNDS];
	int64_t from;
	int i, k;

	for (i = 0; i < ROUNDS; i++) {
		from = now_ns();
		for (k = 0; k < CLIENTS; k++)
			ask(rules, &client[k]);
		ns[i] = (double)(now_ns() - from) / CLIENTS;
	}
	qsort(ns, ROUNDS, sizeof(ns[0]), compare);
	return ns[ROUNDS / 2];
}

static double
after_others(const struct rules *rules)
{
	double ns[ROUNDS];
	int64_t from;
	int i, k;

	for (i = 0; i < ROUNDS; i++) {
		for (k = 0; k < COLD; k += 64)
			cold[k]++;
		from = now_ns();
		ask(rules, &client[i]);
		ns[i] = (double)(now_ns() - from);
	}
	qsort(ns, ROUNDS, sizeof(ns[0]), compare);
	return ns[ROUNDS / 2];
}

int
main(int argc, char *argv[])
{
	struct rule_list list = { .n = 0 };
	struct rules rules;
	double ipv4, ipv6, others;
	int64_t from = now_ns();
	size_t size;
	char *image;

	image = compile(&list, argc > 1 ? atoi(argv[1]) : 100000, &size);
	from = now_ns() - from;
	if ((cold = calloc(1, COLD)) == NULL ||
	    !rules_open(&rules, image, size, "a"))
		errx(1, "rules_open");
	make_clients(&list, true);
	ipv6 = warm(&rules);
	make_clients(&list, false);
	ipv4 = warm(&rules);
	others = after_others(&rules);
	printf("ipv4_ns=%.0f ipv6_ns=%.0f cold_ns=%.0f compile_ms=%.0f "
	    "bytes=%zu\n", ipv4, ipv6, others, (double)from / 1e6, size);
	return 0;
}
