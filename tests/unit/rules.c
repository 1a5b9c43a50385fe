/*
 * rules.c: the unit test of src/rules.c and src/rulefile.c.  A table of lines
 * and what they mean; then many prefixes at random, looked up compiled and one
 * by one; then compiled forms that are spoilt.  Each case prints `ok NAME' or
 * `FAIL NAME: why'.
 */

#include <arpa/inet.h>

#include <stdlib.h>
#include <string.h>

#include "preforkd.h"
#include "check.h"

#define RANDOM_RULES	3000
#define RANDOM_ASKED	20000

/* The compiled form of a list, settled, as that of service `a'. */
static char *
compiled(struct rule_list *list, struct rules *rules)
{
	struct rules_source source = { .service = "a" };
	const struct rule *clash[2];
	char *image;
	size_t size;

	CHECK(rules_settle(list, clash));
	source.list = *list;
	image = rules_compile(&source, 1, &size);
	CHECK(image != NULL && rules_open(rules, image, size, "a"));
	return image;
}

static struct rules_answer
ask(const struct rules *rules, const char *address)
{
	struct rules_answer answer = { .variables = "" };
	struct prefix who;
	const char *why;

	CHECK(address_parse_prefix(address, &who, &why));
	if (!rules_find(rules, who.ipv6 ? RULES_IPV6 : RULES_IPV4, &who,
	    &answer))
		rules_otherwise(rules, &answer);
	return answer;
}

/* Text, then an address, and what is said of it; NULL ends the addresses. */
static const struct {
	const char	*text;
	struct {
		const char *address, *answer;
	} asked[6];
} texts[] = {
	{ "", { { "10.0.0.1", "allow" }, { "::1", "allow" } } },
	{ ":deny\n", { { "10.0.0.1", "deny" }, { "::1", "deny" } } },
	{ "10.1.2.3:deny\n", { { "10.1.2.3", "deny" }, { "10.1.2.2", "allow" },
	    { "10.1.2.4", "allow" } } },
	{ "10.:deny\n10.1.:allow\n10.1.2.:deny\n10.1.2.3:allow\n",
	    { { "10.0.0.0", "deny" }, { "10.1.255.255", "allow" },
	    { "10.1.2.0", "deny" }, { "10.1.2.3", "allow" },
	    { "10.1.2.4", "deny" }, { "11.0.0.0", "allow" } } },
	{ "10.0.0.2/31:deny\n10.0.0.3:allow,A=\"\"\n10.0.0.9:deny\n",
	    { { "10.0.0.1", "allow" }, { "10.0.0.2", "deny" },
	    { "10.0.0.3", "allow A=" }, { "10.0.0.4", "allow" } } },
	{ "10.0.0.250-255:deny\n", { { "10.0.0.249", "allow" },
	    { "10.0.0.250", "deny" }, { "10.0.0.255", "deny" },
	    { "10.0.1.0", "allow" } } },
	{ "10.2-3.:deny\n", { { "10.1.255.255", "allow" },
	    { "10.2.0.0", "deny" }, { "10.3.255.255", "deny" },
	    { "10.4.0.0", "allow" } } },
	{ "254-255.:deny\n0.0.0.0/1:deny\n", { { "255.255.255.255", "deny" },
	    { "253.255.255.255", "allow" }, { "0.0.0.0", "deny" },
	    { "127.255.255.255", "deny" }, { "128.0.0.0", "allow" } } },
	{ "0.0.0.0/0:deny\n255.255.255.255:allow\n",
	    { { "255.255.255.255", "allow" }, { "255.255.255.254", "deny" },
	    { "::1", "allow" } } },
	{ "[::/0]:deny\n[2001:db8::/32]:allow\n[2001:db8::1]:deny\n"
	    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:allow\n",
	    { { "2001:db8::", "allow" }, { "2001:db8::1", "deny" },
	    { "2001:db8::2", "allow" }, { "2001:db9::", "deny" },
	    { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "allow" },
	    { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "deny" } } },
	{ "[2001:db8:0:0:ffff:ffff:ffff:ffff]:deny\n",
	    { { "2001:db8:0:0:ffff:ffff:ffff:fffe", "allow" },
	    { "2001:db8:0:0:ffff:ffff:ffff:ffff", "deny" },
	    { "2001:db8:0:1::", "allow" } } },
	{ "# a comment\n\n  \t\n10.0.0.1:deny \t\n10.0.0.1:deny\n",
	    { { "10.0.0.1", "deny" } } },
	{ "10.0.0.1:allow,A=\"b c\",D=|\"|\n:deny,X=\"y\"\n",
	    { { "10.0.0.1", "allow A=b c D=\"" }, { "10.0.0.2", "deny" } } },
	{ "10.0.0.1-2:allow,RELAYCLIENT=\"\"\n10.0.0.1:allow,RELAYCLIENT=\"\"\n"
	    ":allow,A=\"\"\n", { { "10.0.0.1", "allow RELAYCLIENT=" },
	    { "10.0.0.2", "allow RELAYCLIENT=" }, { "::1", "allow A=" } } }
};

static void
put_answer(const struct rules_answer *answer, char *buf, size_t size)
{
	const char *p = answer->variables;

	strlcpy(buf, answer->deny ? "deny" : "allow", size);
	for (; *p != '\0'; p += strlen(p) + 1) {
		strlcat(buf, " ", size);
		strlcat(buf, p, size);
	}
}

static int
parse(const char *text, size_t size, struct rule_list *list, char *error)
{
	return rulefile_parse(&(struct rulefile){ "f", text, size }, list,
	    error);
}

static void
test_texts(void)
{
	char error[CONF_ERROR_MAX], got[200], *image;
	struct rule_list list;
	struct rules_answer answer;
	struct rules rules;
	size_t i;
	int n;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		memset(&list, 0, sizeof(list));
		test = texts[i].text;
		CHECK(parse(test, strlen(test), &list, error) == 0);
		image = compiled(&list, &rules);
		for (n = 0; n < 6 && texts[i].asked[n].address != NULL; n++) {
			answer = ask(&rules, texts[i].asked[n].address);
			put_answer(&answer, got, sizeof(got));
			CHECK(strcmp(got, texts[i].asked[n].answer) == 0);
		}
		free(image);
		rules_free(&list);
		test = "what lines mean";
	}
	done();
}

static const struct {
	const char	*text, *error;	/* how it begins */
} wrong[] = {
	{ "10.0.0.1:allow", "f:1: half a line: the last one must end" },
	{ "10.0.0.1:allow\n10.0", "f:2: half a line" },
	{ "10.0.0.1\n", "f:1: 10.0.0.1: must be ADDRESS:allow or ADDRESS:d" },
	{ "#\n10.0.0.1:permit\n", "f:2: permit: must be allow or deny" },
	{ "10.0.0.1:allow # why\n", "f:1: allow # why: must be allow or deny" },
	{ "10.0.0.1:allow,\n", "f:1: must be NAME=" },
	{ "10.0.0.1:allow,A\n", "f:1: A: must be NAME=" },
	{ "10.0.0.1:allow,A=\n", "f:1: A=: must be NAME=" },
	{ "10.0.0.1:allow,A=\"b\n", "f:1: A=\\\"b: must be NAME=" },
	{ "10.0.0.1:allow,1A=\"b\"\n", "f:1: 1A=\\\"b\\\": must be NAME=" },
	{ "10.0.0.1:allow,A=\"b\"c\n", "f:1: c: must end, or go on" },
	{ "=host.example.org:allow\n",
	    "f:1: =host.example.org: host names are not looked up" },
	{ "=:allow\n", "f:1: =: host names are not looked up" },
	{ "joe@10.0.0.1:allow\n",
	    "f:1: joe@10.0.0.1: users are not asked for by IDENT" },
	{ "10.0.0.1/8:deny\n", "f:1: 10.0.0.1/8: " },
	{ "10.0.0.0/33:deny\n", "f:1: 10.0.0.0/33: " },
	{ "10.0.0.256:deny\n", "f:1: 10.0.0.256: must be an address" },
	{ "010.0.0.1:deny\n", "f:1: 010.0.0.1: must be an address" },
	{ "10.0.0:deny\n", "f:1: 10.0.0: must be an address" },
	{ "10.0.0.1.:deny\n", "f:1: 10.0.0.1.: must be an address" },
	{ "10..0.1:deny\n", "f:1: 10..0.1: must be an address" },
	{ "10.0.0.5-1:deny\n", "f:1: 10.0.0.5-1: must be an address" },
	{ "10.0.0.1-:deny\n", "f:1: 10.0.0.1-: must be an address" },
	{ "10.0-1.0.1:deny\n", "f:1: 10.0-1.0.1: must be an address" },
	{ " 10.0.0.1:deny\n", "f:1:  10.0.0.1: must be an address" },
	{ "localhost:deny\n", "f:1: localhost: must be an address" },
	{ "::1:deny\n", "f:1: :1:deny: must be allow or deny; an IPv6 address "
	    "must stand in brackets" },
	{ "2001:db8::/32:deny\n", "f:1: db8::/32:deny: must be allow or deny; "
	    "an IPv6 address must stand in brackets" },
	{ "[10.0.0.1]:deny\n", "f:1: 10.0.0.1: must be an IPv6 address" },
	{ "[::ffff:10.0.0.1]:deny\n", "f:1: ::ffff:10.0.0.1: " },
	{ "[2001:db8::1/32]:deny\n", "f:1: 2001:db8::1/32: " },
	{ "10.0.0.1:deny\r\n", "f:1: carriage return" },
	{ "\xef\xbb\xbf:deny\n", "f:1: byte order mark" }
};

static void
test_wrong(void)
{
	char error[CONF_ERROR_MAX];
	struct rule_list list;
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		memset(&list, 0, sizeof(list));
		test = wrong[i].text;
		error[0] = '\0';
		CHECK(parse(test, strlen(test), &list, error) == -1);
		if (strncmp(error, wrong[i].error, strlen(wrong[i].error)) != 0)
			failed(error, __LINE__);
		rules_free(&list);
	}
	test = "what is wrong is told";
	CHECK(parse("a\0b\n", 4, &list, error) == -1 &&
	    strstr(error, "NUL byte") != NULL);
	done();
}

static void
test_many(void)
{
	char error[CONF_ERROR_MAX], *text, *p;
	struct rule_list list = { .n = 0 };
	size_t i, size = 0;

	test = "a million rules, and no more";
	p = text = malloc(64 * 4096);
	for (i = 0; i < 3907; i++)	/* 256 each */
		p += sprintf(p, "%zu.%zu.%zu.0-255:deny\n", i / 65536 + 1,
		    i / 256 % 256, i % 256);
	size = (size_t)(p - text);
	CHECK(parse(text, size, &list, error) == -1 &&
	    strstr(error, "f:3907: too many rules") != NULL &&
	    list.n == RULES_MOST);
	free(text);
	rules_free(&list);
	done();
}

static void
test_clash(void)
{
	static const char *const same[] = {
		"10.0.0.0/8:allow\n10.:allow\n",
		"10.0.0.1:allow,A=\"1\"\n10.0.0.1:allow,A=|1|\n",
		":deny\n:deny\n",
		"10.0.0.0/8:allow\n10.0.0.0/9:deny\n" };
	static const char *const other[] = {
		"10.0.0.0/8:allow\n10.:deny\n", ":deny\n:allow\n",
		"10.0.0.1:allow,A=\"1\"\n10.0.0.1-3:allow,A=\"2\"\n",
		"10.0.0.1:allow,A=\"1\"\n10.0.0.1:allow\n",
		"[::1]:allow\n[::1/128]:deny\n" };
	char error[CONF_ERROR_MAX];
	const struct rule *clash[2];
	struct rule_list list;
	size_t i;

	test = "a prefix that is there twice must say the same";
	for (i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		memset(&list, 0, sizeof(list));
		CHECK(parse(same[i], strlen(same[i]), &list, error) == 0 &&
		    rules_settle(&list, clash));
		rules_free(&list);
	}
	for (i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		memset(&list, 0, sizeof(list));
		CHECK(parse(other[i], strlen(other[i]), &list, error) == 0 &&
		    !rules_settle(&list, clash) &&
		    clash[0]->line == 1 && clash[1]->line == 2);
		rules_free(&list);
	}
	done();
}

/* Few first bits, so that there are many within each other. */
static void
random_rule(struct rule *rule)
{
	long length;

	memset(rule, 0, sizeof(*rule));
	rule->table = random() % 2 ? RULES_IPV4 : RULES_IPV6;
	rule->who.ipv6 = rule->table == RULES_IPV6;
	rule->who.bits[0] = (uint64_t)(random() & 0x03000303) << 32;
	if (rule->who.ipv6) {
		rule->who.bits[0] |= (uint64_t)(random() & 3);
		rule->who.bits[1] = (uint64_t)(random() & 0x7000000f) << 33 |
		    (uint64_t)(random() & 7);
	}
	length = rule->who.ipv6 ? 128 : 32;
	address_cut(&rule->who, (int)(random() % 2 ? random() % (length + 1) :
	    length - random() % 4));
}

/* One by one: the longest that holds the address. */
static const struct rule *
slowly(const struct rule_list *list, const struct rule *asked)
{
	const struct rule *best = NULL;
	size_t i;

	for (i = 0; i < list->n; i++)
		if (list->rule[i].table == asked->table &&
		    address_within(&asked->who, &list->rule[i].who) &&
		    (best == NULL ||
		    best->who.length < list->rule[i].who.length))
			best = &list->rule[i];
	return best;
}

static void
test_random(void)
{
	struct rule_list list = { .n = 0 };
	const struct rule *want;
	struct rules_answer answer;
	struct rules rules;
	struct rule rule;
	char *image;
	int i;

	test = "the longest prefix decides, of many";
	srandom(1);
	for (i = 0; i < RANDOM_RULES; i++) {
		random_rule(&rule);
		/* The same for the same prefix. */
		rule.deny = ((rule.who.bits[0] ^ rule.who.bits[1] >> 3) *
		    UINT64_C(0x9e3779b97f4a7c15) ^
		    (uint64_t)rule.who.length << 39) >> 40 & 1;
		CHECK(rules_add(&list, &rule));
	}
	image = compiled(&list, &rules);
	for (i = 0; i < RANDOM_ASKED && !bad; i++) {
		random_rule(&rule);
		rule.who.length = rule.who.ipv6 ? 128 : 32;
		want = slowly(&list, &rule);
		CHECK(rules_find(&rules, rule.table, &rule.who, &answer) ==
		    (want != NULL));
		CHECK(want == NULL || answer.deny == want->deny);
	}
	free(image);
	rules_free(&list);
	done();
}

static void
test_users(void)
{
	struct rule_list list = { .n = 0 };
	struct rules_answer answer;
	struct rules rules;
	struct rule rule = { .deny = true };
	char *image;

	test = "users and groups are looked up by number";
	rules_id(&rule, RULES_UID, UINT32_MAX);
	CHECK(rules_add(&list, &rule));
	rules_id(&rule, RULES_UID, 0);
	CHECK(rules_add(&list, &rule));
	rules_id(&rule, RULES_GID, 7);
	rule.by = RULES_BY_FILE;
	CHECK(rules_add(&list, &rule));
	image = compiled(&list, &rules);
	CHECK(rules_find(&rules, RULES_GID, &rule.who, &answer) &&
	    answer.deny && answer.by == RULES_BY_FILE);
	CHECK(!rules_find(&rules, RULES_UID, &rule.who, &answer));
	rules_id(&rule, RULES_UID, UINT32_MAX);
	CHECK(rules_find(&rules, RULES_UID, &rule.who, &answer) &&
	    answer.by == RULES_BY_LINE);
	rules_id(&rule, RULES_UID, 1);
	CHECK(!rules_find(&rules, RULES_UID, &rule.who, &answer));
	rules_otherwise(&rules, &answer);
	CHECK(!answer.deny && answer.by == RULES_BY_DEFAULT);
	free(image);
	rules_free(&list);
	done();
}

/* Each byte in turn is another one; each size is less. */
static void
test_spoilt(void)
{
	static const char text[] = "10.0.0.1:allow,A=\"b\"\n[::1]:deny\n";
	struct rules_source source = { .service = "a", .deny = true };
	char error[CONF_ERROR_MAX], *image, *copy, got[200];
	const struct rule *clash[2];
	struct rules_answer answer;
	struct rules rules;
	size_t size, i;

	test = "a compiled form that is spoilt harms nobody";
	CHECK(parse(text, sizeof(text) - 1, &source.list, error) == 0 &&
	    rules_settle(&source.list, clash));
	image = rules_compile(&source, 1, &size);
	CHECK(image != NULL && !rules_open(&rules, image, size, "b"));
	for (i = 0; i < size; i++) {
		copy = malloc(i);
		memcpy(copy, image, i);
		CHECK(!rules_open(&rules, copy, i, "a"));
		free(copy);
	}
	copy = malloc(size);
	for (i = 0; i < size * 8; i++) {
		memcpy(copy, image, size);
		copy[i / 8] ^= (char)(1 << i % 8);
		if (!rules_open(&rules, copy, size, "a"))
			continue;
		answer = ask(&rules, "10.0.0.1");
		put_answer(&answer, got, sizeof(got));
		answer = ask(&rules, "::1");
		put_answer(&answer, got, sizeof(got));
	}
	free(copy);
	free(image);
	rules_free(&source.list);
	done();
}

int
main(void)
{
	test_texts();
	test_wrong();
	test_many();
	test_clash();
	test_random();
	test_users();
	test_spoilt();
	return failures > 0;
}
