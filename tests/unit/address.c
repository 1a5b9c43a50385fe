/*
 * address.c: unit test of src/address.c.  A table of texts and what they
 * mean, then addresses as the kernel may hand them to us.
 */

#include <sys/un.h>

#include <netinet/in.h>

#include <stddef.h>
#include <string.h>

#include "preforkd.h"

static int failures;

static const struct {
	const char	*text;
	const char	*first, *second;	/* as text again; NULL: none */
	const char	*why;			/* part of the error */
} cases[] = {
	{ "127.0.0.1:80", "127.0.0.1:80", NULL, NULL },
	{ "127.0.0.1:0", "127.0.0.1:0", NULL, NULL },
	{ "127.0.0.1:65535", "127.0.0.1:65535", NULL, NULL },
	{ "[::1]:80", "[::1]:80", NULL, NULL },
	{ "[::]:80", "[::]:80", NULL, NULL },
	{ "[2001:DB8:0:0::1]:80", "[2001:db8::1]:80", NULL, NULL },
	{ "[fe80::1%lo]:80", "[fe80::1%lo]:80", NULL, NULL },
	{ "[::ffff:127.0.0.1]:80", "127.0.0.1:80", NULL, NULL },
	{ "*:8001", "0.0.0.0:8001", "[::]:8001", NULL },
	{ ":8001", "0.0.0.0:8001", "[::]:8001", NULL },
	{ "unix:/run/a b.sock", "unix:/run/a b.sock", NULL, NULL },
	{ "", NULL, NULL, "no port" },
	{ "80", NULL, NULL, "no port" },
	{ "127.0.0.1", NULL, NULL, "no port" },
	{ "[::1]", NULL, NULL, "no port" },
	{ "127.0.0.1:", NULL, NULL, "port must be 0 to 65535" },
	{ "127.0.0.1:65536", NULL, NULL, "port must be 0 to 65535" },
	{ "127.0.0.1:-1", NULL, NULL, "port must be 0 to 65535" },
	{ "127.0.0.1:+1", NULL, NULL, "port must be 0 to 65535" },
	{ "127.0.0.1: 1", NULL, NULL, "port must be 0 to 65535" },
	{ "127.0.0.1:http", NULL, NULL, "port must be 0 to 65535" },
	{ "127.0.0.1:99999999999999999999", NULL, NULL, "port must be" },
	{ "127.1:80", NULL, NULL, "not a numeric address" },
	{ "0177.0.0.1:80", NULL, NULL, "not a numeric address" },
	{ "256.0.0.1:80", NULL, NULL, "not a numeric address" },
	{ "localhost:80", NULL, NULL, "not a numeric address" },
	{ "[:80", NULL, NULL, "not a numeric address" },
	{ "[]:80", NULL, NULL, "not an IPv6 address" },
	{ "[127.0.0.1]:80", NULL, NULL, "not an IPv6 address" },
	{ "[::1]x:80", NULL, NULL, "brackets" },
	{ "::1:80", NULL, NULL, "brackets" },
	{ "[fe80::1]:80", NULL, NULL, "must name its interface" },
	{ "[::1%lo]:80", NULL, NULL, "must name its interface" },
	{ "[fe80::1%nosuch0]:80", NULL, NULL, "no such interface" },
	{ "unix:", NULL, NULL, "must be absolute" },
	{ "unix:run/x", NULL, NULL, "must be absolute" },
};

static void
check(const char *name, bool ok, const char *got)
{
	if (ok)
		printf("ok %s\n", name);
	else {
		printf("FAIL %s: %s\n", name, got);
		failures++;
	}
}

static bool
is(const struct address *a, const char *want)
{
	char buf[ADDRESS_TEXT];

	return strcmp(address_text(a, buf, sizeof(buf)), want) == 0;
}

static void
test_case(size_t i)
{
	struct address a[2];
	const char *why = "";
	char name[160];
	int n, want = cases[i].second != NULL ? 2 : 1;

	n = address_parse(cases[i].text, a, &why);
	snprintf(name, sizeof(name), "parse \"%s\"", cases[i].text);
	if (cases[i].why != NULL)
		check(name, n == -1 && strstr(why, cases[i].why) != NULL,
		    n == -1 ? why : "accepted");
	else
		check(name, n == want && is(&a[0], cases[i].first) &&
		    (n == 1 || is(&a[1], cases[i].second)),
		    n == -1 ? why : "another address");
}

static void
test_long(void)
{
	struct address a[2];
	const char *why = "";
	char text[400];

	memset(text, '1', sizeof(text));
	memcpy(text + 200, ":80", 4);
	check("a long host is an error",
	    address_parse(text, a, &why) == -1, why);

	/* 107 bytes of path is what sun_path takes with its NUL. */
	memcpy(text, "unix:/", 6);
	memset(text + 6, 'x', 200);
	text[5 + 107] = '\0';
	check("a path of 107 bytes fits", address_parse(text, a, &why) == 1 &&
	    is(&a[0], text), why);
	text[5 + 107] = 'x';
	text[5 + 108] = '\0';
	check("a path of 108 bytes does not",
	    address_parse(text, a, &why) == -1, why);
}

static void
test_parts(void)
{
	struct address a[2];
	const char *why;
	char buf[ADDRESS_TEXT];

	address_parse("[fe80::1%lo]:8001", a, &why);
	check("host has neither brackets nor port",
	    strcmp(address_host(&a[0], buf, sizeof(buf)), "fe80::1%lo") == 0,
	    buf);
	check("port", address_port(&a[0]) == 8001, "another port");
	check("no path", address_path(&a[0]) == NULL, "a path");
	check("length of IPv6", a[0].len == sizeof(struct sockaddr_in6), "");
	address_parse("unix:/x", a, &why);
	check("host of a Unix socket is its path",
	    strcmp(address_host(&a[0], buf, sizeof(buf)), "/x") == 0, buf);
	check("port of a Unix socket is 0", address_port(&a[0]) == 0, "");
}

/* A peer that has not bound its Unix socket, or bound an abstract one. */
static void
test_nameless(void)
{
	struct address a = { .len = sizeof(sa_family_t) };
	char *path = (char *)&a.ss + offsetof(struct sockaddr_un, sun_path);
	char buf[ADDRESS_TEXT];

	a.ss.ss_family = AF_UNIX;
	path[0] = 'x';		/* what an earlier peer left there */
	check("a nameless peer is -",
	    strcmp(address_host(&a, buf, sizeof(buf)), "-") == 0, buf);
	a.len = sizeof(sa_family_t) + 2;
	path[0] = '\0';
	check("an abstract peer is -",
	    strcmp(address_host(&a, buf, sizeof(buf)), "-") == 0, buf);
}

static const struct {
	const char	*text;
	const char	*inside, *outside;	/* with port; NULL: wrong */
	const char	*why;
} prefixes[] = {
	{ "10.0.0.0/8", "10.255.0.1:1", "11.0.0.1:1", NULL },
	{ "10.1.2.3", "10.1.2.3:1", "10.1.2.2:1", NULL },
	{ "10.1.2.2/31", "10.1.2.3:1", "10.1.2.4:1", NULL },
	{ "0.0.0.0/0", "255.1.1.1:1", "[::1]:1", NULL },
	{ "::/0", "[ffff::1]:1", "0.0.0.0:1", NULL },
	{ "2001:db8::/32", "[2001:db8:ffff::1]:1", "[2001:db9::]:1", NULL },
	{ "2001:db8::1:0/112", "[2001:db8::1:ffff]:1", "[2001:db8::2:0]:1",
	    NULL },
	{ "2001:db8::1", "[2001:db8::1]:1", "[2001:db8::2]:1", NULL },
	{ "10.0.0.1/8", NULL, NULL, "bits behind" },
	{ "2001:db8::1/64", NULL, NULL, "bits behind" },
	{ "2001:db8:0:1::/63", NULL, NULL, "bits behind" },
	{ "10.0.0.0/33", NULL, NULL, "ADDRESS/LENGTH" },
	{ "10.0.0.0/", NULL, NULL, "ADDRESS/LENGTH" },
	{ "10.0.0.0/-1", NULL, NULL, "ADDRESS/LENGTH" },
	{ "10.0.0.0/8/8", NULL, NULL, "ADDRESS/LENGTH" },
	{ "10.0.0/8", NULL, NULL, "ADDRESS/LENGTH" },
	{ "/8", NULL, NULL, "ADDRESS/LENGTH" },
	{ "", NULL, NULL, "ADDRESS/LENGTH" },
	{ "::/129", NULL, NULL, "ADDRESS/LENGTH" },
	{ "fe80::1%lo", NULL, NULL, "ADDRESS/LENGTH" },
	{ "::ffff:10.0.0.0/104", NULL, NULL, "IPv4 address" },
	{ "1111111111111111111111111111111111111111111111111111111111111/8",
	    NULL, NULL, "ADDRESS/LENGTH" },
};

static bool
within(const char *text, const struct prefix *p)
{
	struct address a[2];
	struct prefix host;
	const char *why;

	return address_parse(text, a, &why) == 1 &&
	    address_bits(&a[0], &host) && address_within(&host, p);
}

static void
test_prefixes(void)
{
	const char *why = "";
	struct prefix p;
	char name[100];
	size_t i;
	bool good;

	for (i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		snprintf(name, sizeof(name), "prefix %s", prefixes[i].text);
		good = address_parse_prefix(prefixes[i].text, &p, &why);
		if (prefixes[i].why != NULL)
			check(name, !good && strstr(why, prefixes[i].why) !=
			    NULL, good ? "accepted" : why);
		else
			check(name, good && within(prefixes[i].inside, &p) &&
			    !within(prefixes[i].outside, &p), why);
	}
}

int
main(void)
{
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		test_case(i);
	test_long();
	test_parts();
	test_nameless();
	test_prefixes();
	return failures > 0;
}
