/*
 * proxyproto.c: unit test of src/proxyproto.c: each rule of the header of a
 * proxy, in both versions, whole, cut anywhere, with bytes behind it; and that
 * the reader takes the header, torn as may be, and nothing else.
 */

#include <sys/socket.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define SIGNATURE	"\r\n\r\n\0\r\nQUIT\n"
#define INET		"\xc0\x00\x02\x01\xc0\x00\x02\x02\x0f\xa0\x00\x50"
#define IPV6		"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
#define MAPPED		"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01"
#define LONG_IPV6	"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

static int failures;

/* What a header is to be taken for; peer NULL: the connection's own. */
static const struct header {
	const char	*name;
	const char	*text;
	size_t		 size;
	const char	*peer, *local;
} good[] = {
#define V(text)	text, sizeof(text) - 1
	{ "TCP4", V("PROXY TCP4 192.0.2.1 192.0.2.2 4000 80\r\n"),
	    "192.0.2.1:4000", "192.0.2.2:80" },
	{ "TCP4, least and most", V("PROXY TCP4 0.0.0.0 255.255.255.255 0 "
	    "65535\r\n"), "0.0.0.0:0", "255.255.255.255:65535" },
	{ "TCP6", V("PROXY TCP6 2001:db8::1 ::1 4000 80\r\n"),
	    "[2001:db8::1]:4000", "[::1]:80" },
	{ "TCP6, IPv4 inside", V("PROXY TCP6 ::ffff:192.0.2.1 "
	    "::ffff:192.0.2.2 4000 80\r\n"), "192.0.2.1:4000",
	    "192.0.2.2:80" },
	{ "TCP6, longest", V("PROXY TCP6 " LONG_IPV6 " " LONG_IPV6
	    " 65535 65535\r\n"), "[" LONG_IPV6 "]:65535",
	    "[" LONG_IPV6 "]:65535" },
	{ "UNKNOWN", V("PROXY UNKNOWN\r\n"), NULL, NULL },
	{ "UNKNOWN, longest", V("PROXY UNKNOWN " LONG_IPV6 " " LONG_IPV6
	    " 65535 65535\r\n"), NULL, NULL },
	{ "v2 TCP4", V(SIGNATURE "\x21\x11\0\x0c" INET),
	    "192.0.2.1:4000", "192.0.2.2:80" },
	{ "v2 TCP4 and more", V(SIGNATURE "\x21\x11\0\x0f" INET "\x04\0\0"),
	    "192.0.2.1:4000", "192.0.2.2:80" },
	{ "v2 TCP6", V(SIGNATURE "\x21\x21\0\x24" IPV6 IPV6 "\0\x01\0\x02"),
	    "[2001:db8::1]:1", "[2001:db8::1]:2" },
	{ "v2 TCP6, IPv4 inside", V(SIGNATURE "\x21\x21\0\x24" MAPPED IPV6
	    "\0\x01\0\x02"), "192.0.2.1:1", "[2001:db8::1]:2" },
	{ "v2 LOCAL", V(SIGNATURE "\x20\0\0\0"), NULL, NULL },
	{ "v2 LOCAL, whatever else", V(SIGNATURE "\x20\xff\0\x0c" INET),
	    NULL, NULL },
	{ "v2 UNSPEC", V(SIGNATURE "\x21\0\0\x03" "abc"), NULL, NULL },
	{ "v2 UDP4", V(SIGNATURE "\x21\x12\0\x0c" INET), NULL, NULL },
	{ "v2 UNIX", V(SIGNATURE "\x21\x31\0\x02" "ab"), NULL, NULL },
}, bad[] = {
	{ "another protocol", V("GET / HTTP/1.0\r\n"), NULL, NULL },
	{ "lower case", V("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), NULL,
	    NULL },
	{ "no protocol", V("PROXY \r\n"), NULL, NULL },
	{ "TCP5", V("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n"), NULL, NULL },
	{ "UNKNOWNS", V("PROXY UNKNOWNS\r\n"), NULL, NULL },
	{ "IPv6 as TCP4", V("PROXY TCP4 ::1 ::1 1 2\r\n"), NULL, NULL },
	{ "IPv4 as TCP6", V("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n"), NULL,
	    NULL },
	{ "a name", V("PROXY TCP4 localhost 192.0.2.2 1 2\r\n"), NULL, NULL },
	{ "zero first", V("PROXY TCP4 192.0.02.1 192.0.2.2 1 2\r\n"), NULL,
	    NULL },
	{ "three parts", V("PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n"), NULL,
	    NULL },
	{ "port, zero first", V("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n"),
	    NULL, NULL },
	{ "port too large", V("PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n"),
	    NULL, NULL },
	{ "port with a sign", V("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n"),
	    NULL, NULL },
	{ "port in hexadecimal", V("PROXY TCP4 192.0.2.1 192.0.2.2 0x1 2\r\n"),
	    NULL, NULL },
	{ "no port", V("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"), NULL, NULL },
	{ "a word more", V("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"), NULL,
	    NULL },
	{ "two blanks", V("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n"), NULL,
	    NULL },
	{ "a blank last", V("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n"), NULL,
	    NULL },
	{ "a tab", V("PROXY TCP4\t192.0.2.1 192.0.2.2 1 2\r\n"), NULL, NULL },
	{ "LF alone", V("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n"), NULL, NULL },
	{ "CR alone", V("PROXY UNKNOWN\rmore\r\n"), NULL, NULL },
	{ "NUL", V("PROXY UNKNOWN \0\r\n"), NULL, NULL },
	{ "signature, one off", V("\r\n\r\n\1"), NULL, NULL },
	{ "v1 of v2", V(SIGNATURE "\x11"), NULL, NULL },
	{ "v2, a third command", V(SIGNATURE "\x22"), NULL, NULL },
	{ "v2, a family more", V(SIGNATURE "\x21\x41\0\0"), NULL, NULL },
	{ "v2, a transport more", V(SIGNATURE "\x21\x13\0\0"), NULL, NULL },
	{ "v2 TCP4, too short", V(SIGNATURE "\x21\x11\0\x0b"), NULL, NULL },
	{ "v2 TCP6, too short", V(SIGNATURE "\x21\x21\0\x23"), NULL, NULL },
};

#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

static void
check(const char *what, const char *name, bool ok)
{
	if (!ok) {
		printf("FAIL %s: %s\n", name, what);
		failures++;
	}
}

static bool
is(const struct address *a, const char *text)
{
	char buf[ADDRESS_TEXT];

	return strcmp(address_text(a, buf, sizeof(buf)), text) == 0;
}

static bool
says(const struct proxy_header *h, const struct header *want)
{
	if (h->size != want->size || h->told != (want->peer != NULL))
		return false;
	return want->peer == NULL || (is(&h->peer, want->peer) &&
	    is(&h->local, want->local));
}

/* A copy that ends where the text does, for the sanitizers. */
static enum proxy_answer
parse(const char *text, size_t n, struct proxy_header *h)
{
	char *copy = malloc(n > 0 ? n : 1);
	enum proxy_answer answer;

	if (copy == NULL)
		abort();
	memcpy(copy, text, n);
	answer = proxy_parse(copy, n, h);
	free(copy);
	return answer;
}

static void
test_good(const struct header *g)
{
	char more[PROXY_HEAD + 8];
	struct proxy_header h;
	size_t n;

	check("whole", g->name, parse(g->text, g->size, &h) == PROXY_DONE &&
	    says(&h, g));
	/* What is behind the addresses of version 2 need not be there. */
	for (n = 0; n < g->size; n++)
		check("cut", g->name, parse(g->text, n, &h) == PROXY_MORE ||
		    (g->text[0] == '\r' && n >= 16 && says(&h, g)));
	memcpy(more, g->text, g->size);
	memcpy(more + g->size, "\r\nPROXY", 8);
	check("with more behind it", g->name, parse(more, g->size + 8, &h) ==
	    PROXY_DONE && says(&h, g));
}

static void
test_parser(void)
{
	static const char too_long[] = "PROXY UNKNOWN " LONG_IPV6 " "
	    LONG_IPV6 " 65535 65535+\r\n";
	struct proxy_header h;
	size_t i;

	for (i = 0; i < COUNT(good); i++)
		test_good(&good[i]);
	for (i = 0; i < COUNT(bad); i++)
		check("is wrong", bad[i].name, parse(bad[i].text, bad[i].size,
		    &h) == PROXY_WRONG);
	check("108 bytes", "longest", sizeof(too_long) - 1 == 108);
	check("108 bytes", "are wrong", parse(too_long, 108, &h) ==
	    PROXY_WRONG && parse(too_long, 107, &h) == PROXY_WRONG &&
	    parse(too_long, 106, &h) == PROXY_MORE);
}

/* A child that sends the text in pieces of so many bytes, and then `rest'. */
static void
send_torn(int fd, const struct header *g, size_t piece)
{
	size_t at, n;

	for (at = 0; at < g->size; at += n) {
		n = g->size - at < piece ? g->size - at : piece;
		if (send(fd, g->text + at, n, MSG_NOSIGNAL) == -1)
			_exit(1);
		usleep(200);
	}
	_exit(send(fd, "rest", 4, MSG_NOSIGNAL) == 4 ? 0 : 1);
}

static void
test_reader(const struct header *g, size_t piece)
{
	const struct conf_service conf = { .idle_timeout = 0 };
	struct address nobody = { .len = sizeof(sa_family_t) };
	static struct conn c;
	char rest[8] = "";
	int fd[2], status;
	pid_t pid;

	nobody.ss.ss_family = AF_UNIX;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == -1)
		abort();
	if ((pid = fork()) == 0)
		send_torn(fd[1], g, piece);
	close(fd[1]);
	conn_open(&c, fd[0], &nobody, &conf);
	check("is read", g->name, proxy_read(&c) == NULL);
	check("peer", g->name, is(&c.peer, g->peer == NULL ? "unix:-" :
	    g->peer));
	check("local", g->name, c.local_known == (g->peer != NULL) &&
	    (g->peer == NULL || is(&c.local, g->local)));
	check("the rest is left", g->name,
	    recv(fd[0], rest, sizeof(rest), MSG_WAITALL) == 4 &&
	    strcmp(rest, "rest") == 0 && c.bytes_in == 0);
	close(fd[0]);
	check("was sent", g->name, waitpid(pid, &status, 0) == pid &&
	    status == 0);
}

/* More than any buffer, passed over. */
static void
test_long(void)
{
	static char text[16 + 65535] = SIGNATURE "\x21\x11\xff\xff" INET;
	const struct header g = { "65535 bytes", text, sizeof(text),
	    "192.0.2.1:4000", "192.0.2.2:80" };

	test_reader(&g, 30000);
	test_reader(&g, sizeof(text));
}

static void
test_trust(void)
{
	char any[] = "unix", four[] = "192.0.2.0/24", six[] = "2001:db8::/32";
	char *words[] = { four, six, NULL, NULL };
	struct conf_service conf = { .proxy_protocol = words };
	struct proxy_header h;
	struct address nobody = { .len = sizeof(sa_family_t) };

	nobody.ss.ss_family = AF_UNIX;
	proxy_start(&conf);
	parse(good[0].text, good[0].size, &h);
	check("IPv4", "trust", proxy_trusts(&h.peer));
	parse(good[1].text, good[1].size, &h);
	check("another", "trust", !proxy_trusts(&h.peer));
	parse(good[2].text, good[2].size, &h);
	check("IPv6", "trust", proxy_trusts(&h.peer) &&
	    !proxy_trusts(&h.local));
	check("unix", "trust", !proxy_trusts(&nobody));
	words[0] = any;
	words[1] = NULL;
	proxy_start(&conf);
	check("unix said", "trust", proxy_trusts(&nobody));
}

int
main(void)
{
	size_t i;

	test_parser();
	for (i = 0; i < COUNT(good); i++) {
		test_reader(&good[i], 1);
		test_reader(&good[i], 7);
		test_reader(&good[i], good[i].size);
	}
	test_long();
	test_trust();
	if (failures == 0)
		printf("ok %zu headers\n", COUNT(good) + COUNT(bad));
	return failures != 0;
}
