/*
 * client.h: what the client tools share: where to connect, from which
 * address, the clock, and room for descriptors.
 *
 * A tool includes it once; nothing of the server is used.  Errors of the
 * caller end the tool with status 2, so that a test never takes them for a
 * fault of the server.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXIT_TROUBLE	2	/* no verdict about the server */

struct target {
	struct sockaddr_storage	ss;
	socklen_t		len;
	char			host[108];	/* as the greeting shows it */
	unsigned int		port;
	unsigned int		sources;	/* addresses it has, ... */
	unsigned int		first_source;	/* ... and which is first */
	unsigned int		next_source;
};

static inline int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static inline long long
number(const char *text, long long min, long long max)
{
	const char *why;
	long long n;

	n = strtonum(text, min, max, &why);
	if (why != NULL)
		errx(EXIT_TROUBLE, "%s: %s (%lld to %lld)", text, why, min,
		    max);
	return n;
}

static inline void
target_unix(struct target *t, const char *path)
{
	struct sockaddr_un *sun = (struct sockaddr_un *)&t->ss;

	if (strlen(path) >= sizeof(sun->sun_path))
		errx(EXIT_TROUBLE, "%s: path too long", path);
	sun->sun_family = AF_UNIX;
	strlcpy(sun->sun_path, path, sizeof(sun->sun_path));
	strlcpy(t->host, path, sizeof(t->host));
	t->len = sizeof(*sun);
}

/* Fill in the host of `host:port'; brackets say IPv6. */
static inline int
target_host(struct target *t, char *host)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)&t->ss;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&t->ss;
	size_t len = strlen(host);

	if (host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = htons((in_port_t)t->port);
		t->len = sizeof(*sin6);
		strlcpy(t->host, host + 1, sizeof(t->host));
		return inet_pton(AF_INET6, t->host, &sin6->sin6_addr);
	}
	sin->sin_family = AF_INET;
	sin->sin_port = htons((in_port_t)t->port);
	t->len = sizeof(*sin);
	strlcpy(t->host, host, sizeof(t->host));
	return inet_pton(AF_INET, host, &sin->sin_addr);
}

/* `127.0.0.1:80', `[::1]:80' or `unix:/path'; no name is resolved. */
static inline void
target_parse(struct target *t, const char *text)
{
	char host[128];
	const char *colon;

	memset(t, 0, sizeof(*t));
	t->sources = 1;
	if (strncmp(text, "unix:", 5) == 0) {
		target_unix(t, text + 5);
		return;
	}
	colon = strrchr(text, ':');
	if (colon == NULL || colon == text ||
	    (size_t)(colon - text) >= sizeof(host))
		errx(EXIT_TROUBLE, "%s: want ADDRESS:PORT or unix:PATH", text);
	t->port = (unsigned int)number(colon + 1, 1, 65535);
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	if (target_host(t, host) != 1)
		errx(EXIT_TROUBLE, "%s: not a numeric address", host);
}

/* Source n is 127.0.0.1 + n, or 2001:db8:N:N::1, of another /64 each. */
static inline socklen_t
target_source(const struct target *t, uint32_t n, struct sockaddr_storage *ss)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof(*ss));
	ss->ss_family = t->ss.ss_family;
	if (ss->ss_family == AF_INET) {
		sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK + n);
		return sizeof(*sin);
	}
	inet_pton(AF_INET6, "2001:db8::1", &sin6->sin6_addr);
	n = htonl(n);
	memcpy(&sin6->sin6_addr.s6_addr[4], &n, sizeof(n));
	return sizeof(*sin6);
}

/*
 * Each source address has ports of its own, so that many connections do not
 * run out of them.  The port is chosen at connect, when the tuple is known.
 */
static inline int
target_bind_source(struct target *t, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int on = 1;

	if ((t->sources < 2 && t->first_source == 0) ||
	    t->ss.ss_family == AF_UNIX)
		return 0;
	len = target_source(t, t->first_source +
	    t->next_source++ % t->sources, &ss);
	if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on,
	    sizeof(on)) == -1)
		return -1;
	return bind(fd, (struct sockaddr *)&ss, len);
}

/* `5000', or `50+1': so many, and which is the first. */
static inline void
sources_parse(const char *text, unsigned int *sources, unsigned int *first)
{
	char count[16];
	const char *plus = strchr(text, '+');

	if (plus != NULL)
		*first = (unsigned int)number(plus + 1, 0, 1000000);
	strlcpy(count, text, sizeof(count));
	count[strcspn(count, "+")] = '\0';
	*sources = (unsigned int)number(count, 1, 1000000);
}

/*
 * Begin a connection; flags as SOCK_NONBLOCK.  Returns the socket, or -1 with
 * errno.  A non-blocking one may not be connected yet.
 */
static inline int
target_connect(struct target *t, int flags)
{
	int fd, saved;

	fd = socket(t->ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd == -1)
		return -1;
	if (target_bind_source(t, fd) == 0 &&
	    (connect(fd, (struct sockaddr *)&t->ss, t->len) == 0 ||
	    errno == EINPROGRESS))
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* Room for want descriptors besides the standard ones. */
static inline void
room_for(rlim_t want)
{
	struct rlimit limit;

	want += 32;
	if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
		err(EXIT_TROUBLE, "getrlimit");
	if (limit.rlim_cur >= want)
		return;
	limit.rlim_cur = want;
	if (limit.rlim_max < want)
		limit.rlim_max = want;
	if (setrlimit(RLIMIT_NOFILE, &limit) == -1)
		err(EXIT_TROUBLE, "%llu descriptors",
		    (unsigned long long)want);
}

#endif /* CLIENT_H */
