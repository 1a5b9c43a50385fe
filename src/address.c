/*
 * address.c: socket addresses as text, and back; prefixes of them.
 *
 * Owns the grammar of a `listen' line's address and the one text form in
 * which addresses appear in the log, the status and the greeting.  A leaf:
 * pure but for the name of an interface after `%'.  It must not resolve a
 * host or a service name, so it never blocks and is safe in the master.
 *
 * An IPv4-mapped IPv6 address is read as the IPv4 address it stands for: our
 * IPv6 sockets are V6ONLY and could not be bound to it.  The path of a peer
 * on a Unix socket is a client's choice: escape it before a log sees it.
 */

#include <sys/un.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>

#include <endian.h>
#include <stddef.h>
#include <string.h>

#include "preforkd.h"

#define FORMS	"must be ADDRESS:PORT, [IPV6]:PORT, *:PORT or unix:/PATH"

static int
parse_unix(const char *path, struct address *out, const char **why)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	if (path[0] != '/') {
		*why = "a Unix socket's path must be absolute: unix:/PATH";
		return -1;
	}
	if (strlcpy(sun.sun_path, path, sizeof(sun.sun_path)) >=
	    sizeof(sun.sun_path)) {
		*why = "path too long: a Unix socket's must be at most 107 "
		    "bytes";
		return -1;
	}
	memcpy(&out->ss, &sun, sizeof(sun));
	out->len = offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
	return 1;
}

static int
parse_port(const char *text, in_port_t *port, const char **why)
{
	int64_t n;

	if (!parse_number(text, 0, 65535, &n)) {
		*why = "port must be 0 to 65535; " FORMS;
		return -1;
	}
	*port = htons((in_port_t)n);
	return 0;
}

static void
set_inet(struct address *out, struct in_addr addr, in_port_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };

	sin.sin_addr = addr;
	sin.sin_port = port;
	memcpy(&out->ss, &sin, sizeof(sin));
	out->len = sizeof(sin);
}

static void
set_inet6(struct address *out, const struct in6_addr *addr, in_port_t port,
    unsigned int scope)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6 };

	sin6.sin6_addr = *addr;
	sin6.sin6_port = port;
	sin6.sin6_scope_id = scope;
	memcpy(&out->ss, &sin6, sizeof(sin6));
	out->len = sizeof(sin6);
}

void
address_unmap(struct address *a)
{
	struct sockaddr_in6 sin6;
	struct in_addr addr;

	if (a->ss.ss_family != AF_INET6)
		return;
	memcpy(&sin6, &a->ss, sizeof(sin6));
	if (!IN6_IS_ADDR_V4MAPPED(&sin6.sin6_addr))
		return;
	memcpy(&addr, &sin6.sin6_addr.s6_addr[12], sizeof(addr));
	memset(&a->ss, 0, sizeof(a->ss));
	set_inet(a, addr, sin6.sin6_port);
}

void
address_inet(struct address *a, int family, const void *ip, in_port_t port)
{
	struct in6_addr addr6;
	struct in_addr addr;

	memset(a, 0, sizeof(*a));
	if (family == AF_INET) {
		memcpy(&addr, ip, sizeof(addr));
		set_inet(a, addr, port);
	} else {
		memcpy(&addr6, ip, sizeof(addr6));
		set_inet6(a, &addr6, port, 0);
	}
	address_unmap(a);
}

/* host is what stands between the brackets; the zone is cut off it. */
static int
parse_inet6(char *host, in_port_t port, struct address *out, const char **why)
{
	struct in6_addr addr;
	unsigned int scope = 0;
	char *zone;

	if ((zone = strchr(host, '%')) != NULL)
		*zone++ = '\0';
	if (inet_pton(AF_INET6, host, &addr) != 1) {
		*why = "not an IPv6 address; " FORMS;
		return -1;
	}
	if (IN6_IS_ADDR_LINKLOCAL(&addr) != (zone != NULL)) {
		*why = "a link-local address, and no other, must name its "
		    "interface: [fe80::1%eth0]:PORT";
		return -1;
	}
	if (zone != NULL && (scope = if_nametoindex(zone)) == 0) {
		*why = "no such interface: what follows % must be one of this "
		    "machine";
		return -1;
	}
	set_inet6(out, &addr, port, scope);
	address_unmap(out);
	return 1;
}

static int
parse_host(char *host, in_port_t port, struct address out[2], const char **why)
{
	struct in_addr addr;
	size_t len = strlen(host);

	if (host[0] == '\0' || strcmp(host, "*") == 0) {
		addr.s_addr = htonl(INADDR_ANY);
		set_inet(&out[0], addr, port);
		set_inet6(&out[1], &in6addr_any, port, 0);
		return 2;
	}
	if (host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		return parse_inet6(host + 1, port, &out[0], why);
	}
	if (inet_pton(AF_INET, host, &addr) == 1) {
		set_inet(&out[0], addr, port);
		return 1;
	}
	*why = strchr(host, ':') != NULL ?
	    "an IPv6 address must stand in brackets: [::1]:PORT" :
	    "not a numeric address, and names are not looked up; " FORMS;
	return -1;
}

int
address_parse(const char *text, struct address out[2], const char **why)
{
	char host[ADDRESS_TEXT];
	const char *colon;
	in_port_t port;

	memset(out, 0, 2 * sizeof(out[0]));
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, &out[0], why);
	if ((colon = strrchr(text, ':')) == NULL) {
		*why = "no port; " FORMS;
		return -1;
	}
	if ((size_t)(colon - text) >= sizeof(host)) {
		*why = "too long; " FORMS;
		return -1;
	}
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	/* The last colon of a bare IPv6 address is not that of a port. */
	if (host[0] == '[' && strchr(colon, ']') != NULL) {
		*why = "no port; " FORMS;
		return -1;
	}
	if (parse_port(colon + 1, &port, why) == -1)
		return -1;
	return parse_host(host, port, out, why);
}

static void
inet6_host(const struct address *a, char *buf, size_t size)
{
	struct sockaddr_in6 sin6;
	char zone[IF_NAMESIZE];

	memcpy(&sin6, &a->ss, sizeof(sin6));
	inet_ntop(AF_INET6, &sin6.sin6_addr, buf, (socklen_t)size);
	if (sin6.sin6_scope_id != 0 &&
	    if_indextoname(sin6.sin6_scope_id, zone) != NULL) {
		strlcat(buf, "%", size);
		strlcat(buf, zone, size);
	}
}

char *
address_host(const struct address *a, char *buf, size_t size)
{
	struct sockaddr_in sin;
	const char *path;

	strlcpy(buf, "-", size);
	if (a->ss.ss_family == AF_INET) {
		memcpy(&sin, &a->ss, sizeof(sin));
		inet_ntop(AF_INET, &sin.sin_addr, buf, (socklen_t)size);
	} else if (a->ss.ss_family == AF_INET6)
		inet6_host(a, buf, size);
	else if ((path = address_path(a)) != NULL)
		strlcpy(buf, path, size);
	return buf;
}

char *
address_text(const struct address *a, char *buf, size_t size)
{
	char host[ADDRESS_TEXT];

	address_host(a, host, sizeof(host));
	if (a->ss.ss_family == AF_INET)
		snprintf(buf, size, "%s:%u", host, address_port(a));
	else if (a->ss.ss_family == AF_INET6)
		snprintf(buf, size, "[%s]:%u", host, address_port(a));
	else
		snprintf(buf, size, "unix:%s", host);
	return buf;
}

unsigned int
address_port(const struct address *a)
{
	struct sockaddr_in sin;
	struct sockaddr_in6 sin6;

	if (a->ss.ss_family == AF_INET) {
		memcpy(&sin, &a->ss, sizeof(sin));
		return ntohs(sin.sin_port);
	}
	if (a->ss.ss_family == AF_INET6) {
		memcpy(&sin6, &a->ss, sizeof(sin6));
		return ntohs(sin6.sin6_port);
	}
	return 0;
}

const char *
address_path(const struct address *a)
{
	const size_t offset = offsetof(struct sockaddr_un, sun_path);
	const char *path = (const char *)&a->ss + offset;

	/*
	 * A nameless socket has only its family, an abstract one starts with
	 * a NUL; and a longest path may come without one (unix(7)).
	 */
	if (a->ss.ss_family != AF_UNIX || a->len <= offset ||
	    path[0] == '\0' ||
	    memchr(path, '\0', sizeof(a->ss) - offset) == NULL)
		return NULL;
	return path;
}

bool
address_conflict(const struct address *a, const struct address *b)
{
	if (address_path(a) == NULL && address_port(a) == 0)
		return false;
	if (a->len == b->len && memcmp(&a->ss, &b->ss, a->len) == 0)
		return true;
	return a->ss.ss_family == b->ss.ss_family &&
	    address_path(a) == NULL && address_port(a) == address_port(b) &&
	    (address_is_any(a) || address_is_any(b));
}

bool
address_is_any(const struct address *a)
{
	const struct sockaddr_in *in = (const void *)&a->ss;
	const struct sockaddr_in6 *in6 = (const void *)&a->ss;

	if (a->ss.ss_family == AF_INET)
		return in->sin_addr.s_addr == htonl(INADDR_ANY);
	return a->ss.ss_family == AF_INET6 &&
	    IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
}

static uint64_t
first_bits(uint64_t word, int length)
{
	if (length <= 0)
		return 0;
	return length >= 64 ? word : word & ~(UINT64_MAX >> length);
}

void
address_cut(struct prefix *p, int length)
{
	p->length = length;
	p->bits[0] = first_bits(p->bits[0], length);
	p->bits[1] = first_bits(p->bits[1], length - 64);
}

static void
set_bits(struct prefix *p, bool ipv6, const void *network_order)
{
	uint64_t bits[2] = { 0, 0 };

	memcpy(bits, network_order, ipv6 ? 16 : 4);
	p->ipv6 = ipv6;
	p->bits[0] = be64toh(bits[0]);
	p->bits[1] = be64toh(bits[1]);
	p->length = ipv6 ? 128 : 32;
}

bool
address_bits(const struct address *a, struct prefix *p)
{
	const struct sockaddr_in *sin = (const void *)&a->ss;
	const struct sockaddr_in6 *sin6 = (const void *)&a->ss;

	if (a->ss.ss_family == AF_INET)
		set_bits(p, false, &sin->sin_addr);
	else if (a->ss.ss_family == AF_INET6)
		set_bits(p, true, &sin6->sin6_addr);
	else
		return false;
	return true;
}

bool
address_within(const struct prefix *p, const struct prefix *network)
{
	struct prefix cut = *p;

	address_cut(&cut, network->length);
	return p->length >= network->length && p->ipv6 == network->ipv6 &&
	    cut.bits[0] == network->bits[0] && cut.bits[1] == network->bits[1];
}

bool
address_parse_prefix(const char *text, struct prefix *p, const char **why)
{
	char host[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	struct in6_addr addr;
	struct prefix whole;
	bool ipv6 = strchr(text, ':') != NULL;
	int64_t length;

	*why = "must be ADDRESS/LENGTH, or an address, IPv4 or IPv6";
	if (slash == NULL)
		slash = text + strlen(text);
	if ((size_t)(slash - text) >= sizeof(host))
		return false;
	strlcpy(host, text, (size_t)(slash - text) + 1);
	if (inet_pton(ipv6 ? AF_INET6 : AF_INET, host, &addr) != 1)
		return false;
	set_bits(p, ipv6, &addr);
	if (ipv6 && IN6_IS_ADDR_V4MAPPED(&addr)) {
		*why = "must be written as the IPv4 address that it stands "
		    "for";
		return false;
	}
	length = p->length;
	if (*slash == '/' && !parse_number(slash + 1, 0, p->length, &length))
		return false;
	whole = *p;
	address_cut(p, (int)length);
	*why = "must have no bits behind the length of its prefix";
	return whole.bits[0] == p->bits[0] && whole.bits[1] == p->bits[1];
}
