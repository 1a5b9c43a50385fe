/*
 * address.c: socket addresses as text, and back.
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

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
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
	const char *errstr;

	if (isdigit((unsigned char)text[0])) {
		*port = htons((in_port_t)strtonum(text, 0, 65535, &errstr));
		if (errstr == NULL)
			return 0;
	}
	*why = "port must be 0 to 65535; " FORMS;
	return -1;
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

/* host is what stands between the brackets; the zone is cut off it. */
static int
parse_inet6(char *host, in_port_t port, struct address *out, const char **why)
{
	struct in6_addr addr;
	struct in_addr mapped;
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
	if (IN6_IS_ADDR_V4MAPPED(&addr)) {
		memcpy(&mapped, &addr.s6_addr[12], sizeof(mapped));
		set_inet(out, mapped, port);
	} else
		set_inet6(out, &addr, port, scope);
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
