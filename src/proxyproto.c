/*
 * proxyproto.c: the header by which a proxy says whose connection it hands on
 * (haproxy's proxy-protocol.txt, versions 1 and 2).
 *
 * A parser, which is pure, and a reader for the worker, which knows who may
 * send a header, waits for it at most PROXY_TIME, and takes exactly the header
 * from the connection: what follows belongs to the service.  A service with
 * proxy-protocol has no client without a header; nothing is guessed.
 *
 * A header that says UNKNOWN or LOCAL, or that tells of other than TCP
 * addresses, stands for the connection's own addresses, as the text wants.
 * What is said behind the addresses of version 2 is passed over.
 *
 * A balancer may look whether the port takes connections, and leave with a FIN
 * or an RST before it has sent anything.  It is no client that was refused.  (A
 * header in front of an RST is read as ever: Linux keeps it.)
 */

#include <sys/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "preforkd.h"

#define V1_START	6		/* bytes of `PROXY ' */
#define V2_START	12		/* ... of the signature */
#define V2_HEAD		16		/* ... of all before the addresses */

static const char v1_start[] = "PROXY ";
static const char v2_start[] = "\r\n\r\n\0\r\nQUIT\n";

/* Who may send a header. */
static struct {
	bool		 unix_peers;
	int		 n;
	struct prefix	*network;
} trusted;

/* A decimal port without leading zeros. */
static bool
v1_port(const char *text, in_port_t *port)
{
	int64_t n;

	if ((text[0] == '0' && text[1] != '\0') ||
	    !parse_number(text, 0, 65535, &n))
		return false;
	*port = htons((in_port_t)n);
	return true;
}

static bool
v1_address(int family, const char *host, const char *port, struct address *a)
{
	struct in6_addr ip;		/* or IPv4 */
	in_port_t number;

	if (inet_pton(family, host, &ip) != 1 || !v1_port(port, &number))
		return false;
	address_inet(a, family, &ip, number);
	return true;
}

/* `TCP4 192.0.2.1 192.0.2.2 4000 80', single blanks; or UNKNOWN and more. */
static enum proxy_answer
v1_words(char *line, struct proxy_header *h)
{
	char *word[5], *rest = line;
	int n = 0, family;

	while (n < 5 && rest != NULL)
		word[n++] = strsep(&rest, " ");
	if (strcmp(word[0], "UNKNOWN") == 0)
		return PROXY_DONE;
	family = strcmp(word[0], "TCP4") == 0 ? AF_INET : AF_INET6;
	if ((family == AF_INET6 && strcmp(word[0], "TCP6") != 0) ||
	    n != 5 || rest != NULL ||
	    !v1_address(family, word[1], word[3], &h->peer) ||
	    !v1_address(family, word[2], word[4], &h->local))
		return PROXY_WRONG;
	h->told = true;
	return PROXY_DONE;
}

static enum proxy_answer
v1_parse(const char *text, size_t n, struct proxy_header *h)
{
	char line[PROXY_HEAD];
	size_t i;

	if (memcmp(text, v1_start, n < V1_START ? n : V1_START) != 0)
		return PROXY_WRONG;
	if (n > PROXY_HEAD)
		n = PROXY_HEAD;
	for (i = V1_START; i < n && text[i] >= ' ' && text[i] <= '~'; i++)
		line[i - V1_START] = text[i];
	if (i >= n || (text[i] == '\r' && i + 1 == n))
		return n == PROXY_HEAD ? PROXY_WRONG : PROXY_MORE;
	if (text[i] != '\r' || text[i + 1] != '\n')
		return PROXY_WRONG;
	line[i - V1_START] = '\0';
	h->size = i + 2;
	return v1_words(line, h);
}

/* Source, destination and both ports, as in the packets; addresses of size. */
static void
v2_inet(const char *p, size_t size, struct proxy_header *h)
{
	const int family = size == 4 ? AF_INET : AF_INET6;
	in_port_t port[2];

	memcpy(port, p + 2 * size, sizeof(port));
	address_inet(&h->peer, family, p, port[0]);
	address_inet(&h->local, family, p + size, port[1]);
}

/* The addresses of a family and a transport, by the byte that names both. */
static enum proxy_answer
v2_addresses(const char *p, size_t length, size_t n, struct proxy_header *h)
{
	const unsigned char kind = (unsigned char)p[V2_HEAD - 3];
	const size_t ip = kind == 0x11 ? 4 : kind == 0x21 ? 16 : 0;
	const size_t need = ip == 0 ? 0 : 2 * ip + 4;

	if ((kind & 0xf) > 2 || kind >> 4 > 3 || length < need)
		return PROXY_WRONG;
	if (n < V2_HEAD + need)
		return PROXY_MORE;
	h->told = need > 0;
	if (h->told)
		v2_inet(p + V2_HEAD, ip, h);
	return PROXY_DONE;
}

static enum proxy_answer
v2_parse(const char *p, size_t n, struct proxy_header *h)
{
	size_t length;

	if (memcmp(p, v2_start, n < V2_START ? n : V2_START) != 0)
		return PROXY_WRONG;
	if (n > V2_START && p[V2_START] != 0x20 && p[V2_START] != 0x21)
		return PROXY_WRONG;
	if (n < V2_HEAD)
		return PROXY_MORE;
	length = (size_t)(unsigned char)p[14] << 8 | (unsigned char)p[15];
	h->size = V2_HEAD + length;
	if (p[V2_START] == 0x20)
		return PROXY_DONE;	/* LOCAL */
	return v2_addresses(p, length, n, h);
}

enum proxy_answer
proxy_parse(const char *text, size_t n, struct proxy_header *h)
{
	memset(h, 0, sizeof(*h));
	if (n == 0)
		return PROXY_MORE;
	return text[0] == v2_start[0] ? v2_parse(text, n, h) :
	    v1_parse(text, n, h);
}

void
proxy_start(const struct conf_service *conf)
{
	char *const *word = conf->proxy_protocol;
	const char *why;
	int n = 0;

	if (word == NULL)
		return;
	while (word[n] != NULL)
		n++;
	trusted.network = reallocarray(trusted.network, (size_t)n,
	    sizeof(*trusted.network));
	if (trusted.network == NULL)
		fatal("reallocarray");
	trusted.n = 0;
	for (; *word != NULL; word++) {
		if (strcmp(*word, "unix") == 0)
			trusted.unix_peers = true;
		else if (address_parse_prefix(*word,
		    &trusted.network[trusted.n], &why))
			trusted.n++;
	}
}

bool
proxy_trusts(const struct address *peer)
{
	struct prefix host;
	int i;

	if (!address_bits(peer, &host))
		return trusted.unix_peers;
	for (i = 0; i < trusted.n; i++)
		if (address_within(&host, &trusted.network[i]))
			return true;
	return false;
}

/* After a recv(2) without waiting: whether to try again. */
static bool
again(struct conn *c, int64_t until)
{
	return errno == EINTR || (errno == EAGAIN &&
	    conn_wait(c, until) == 0);
}

/* Take so many bytes, which need not be there yet, and forget them. */
static bool
skip(struct conn *c, size_t size, int64_t until)
{
	char waste[4096];
	ssize_t n;

	while (size > 0) {
		n = recv(c->fd, waste, size < sizeof(waste) ? size :
		    sizeof(waste), MSG_DONTWAIT);
		if (n == 0 || (n == -1 && !again(c, until)))
			return false;
		if (n > 0)
			size -= (size_t)n;
	}
	return true;
}

/*
 * What is looked at is taken as soon as it is certain to be of the header, so
 * that the next look waits for something new.
 */
static enum proxy_answer
take_header(struct conn *c, struct proxy_header *h, int64_t until)
{
	enum proxy_answer answer = PROXY_MORE;
	char head[PROXY_HEAD];
	size_t have = 0, seen;
	ssize_t n;

	while (answer == PROXY_MORE) {
		n = recv(c->fd, head + have, sizeof(head) - have,
		    MSG_PEEK | MSG_DONTWAIT);
		if (have == 0 && (n == 0 || (n == -1 && errno == ECONNRESET)))
			return PROXY_GONE;
		if (n == 0 || (n == -1 && !again(c, until)))
			return PROXY_MORE;
		if (n == -1)
			continue;
		seen = have + (size_t)n;
		answer = proxy_parse(head, seen, h);
		if (answer == PROXY_WRONG)
			return answer;
		if (answer == PROXY_DONE)
			seen = h->size;
		if (!skip(c, seen - have, until))
			return PROXY_MORE;
		have = seen;
	}
	return answer;
}

const char *
proxy_read(struct conn *c)
{
	struct proxy_header h;

	switch (take_header(c, &h, c->started + PROXY_TIME)) {
	case PROXY_MORE:
		return "proxy-protocol header=missing";
	case PROXY_WRONG:
		return "proxy-protocol header=wrong";
	case PROXY_GONE:
		return "";
	case PROXY_DONE:
		break;
	}
	c->header = h.size;
	if (h.told) {
		c->peer = h.peer;
		c->local = h.local;
		c->local_known = true;
	}
	return NULL;
}
