/*
 * listen.c: addresses to listening sockets, queue depth, farewell.
 *
 * Owns the master's listening sockets from socket(2) to close(2), and the
 * files of Unix sockets that it created.  It may call address.c; it never
 * accepts, never waits and never logs: errors go to the caller as a line.
 * It must not set O_NONBLOCK (the flag would change for every process at
 * once) and must not remove a file that it has not created.
 *
 * Limits: the directory of a Unix socket must not be writable by strangers,
 * since files are known by name there; and the kernel tells the depth of a
 * queue for TCP on Linux only.
 */

#include <sys/stat.h>
#include <sys/un.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#ifdef __linux__
#include <linux/filter.h>
#endif

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define QUIET	200		/* ms without a client: the queue is served */

/* `listen ADDRESS: WHAT: WHY'.  Keeps errno: callers look at EAFNOSUPPORT. */
static int
failed(const struct listener *l, const char *call, const char *hint,
    char error[CONF_ERROR_MAX])
{
	const int saved = errno;
	char name[ADDRESS_TEXT * 4];

	snprintf(error, CONF_ERROR_MAX, "listen %s: %s: %s%s",
	    log_quote(name, sizeof(name), l->name, strlen(l->name)), call,
	    strerror(saved), hint);
	errno = saved;
	return -1;
}

static int
refused(const struct listener *l, const char *why, char error[CONF_ERROR_MAX])
{
	errno = EADDRINUSE;
	return failed(l, "bind", why, error);
}

static const char *
bind_hint(const struct listener *l)
{
	const unsigned int port = address_port(&l->address);

	if (errno == EACCES && port > 0 && port < 1024)
		return " (ports below 1024 need root)";
	if (errno == EADDRNOTAVAIL)
		return " (must be an address of this machine)";
	return "";
}

static int
bind_inet(struct listener *l, char error[CONF_ERROR_MAX])
{
	const struct sockaddr *sa = (const struct sockaddr *)&l->address.ss;
	const int on = 1;

	if (setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on,
	    sizeof(on)) == -1)
		return failed(l, "SO_REUSEADDR", "", error);
	if (sa->sa_family == AF_INET6 && setsockopt(l->fd, IPPROTO_IPV6,
	    IPV6_V6ONLY, &on, sizeof(on)) == -1)
		return failed(l, "IPV6_V6ONLY", "", error);
	if (bind(l->fd, sa, l->address.len) == -1)
		return failed(l, "bind", bind_hint(l), error);
	return 0;
}

/* Returns 0 when nobody listens at the path, else the errno of a connect. */
static int
probe(const struct address *a)
{
	int error = EISCONN, fd;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return errno;
	if (connect(fd, (const struct sockaddr *)&a->ss, a->len) == -1)
		error = errno == ECONNREFUSED ? 0 : errno;
	close(fd);
	return error;
}

/*
 * Remove the socket that a dead server left behind.  Looked at again after
 * the probe, so that the file of a server that starts just now survives.
 */
static int
remove_stale(const struct listener *l, char error[CONF_ERROR_MAX])
{
	const char *path = address_path(&l->address);
	struct stat before, after;

	if (lstat(path, &before) == -1)
		return failed(l, "lstat", "", error);
	if (!S_ISSOCK(before.st_mode))
		return refused(l, " by a file that is not a socket; "
		    "it must be moved away by hand", error);
	errno = probe(&l->address);
	if (errno == EISCONN || errno == EAGAIN || errno == EPROTOTYPE)
		return refused(l, " by another process that listens there",
		    error);
	if (errno != 0)
		return failed(l, "connect", "", error);
	if (lstat(path, &after) == -1 || after.st_dev != before.st_dev ||
	    after.st_ino != before.st_ino)
		return refused(l, " by another process since a moment ago",
		    error);
	if (unlink(path) == -1)
		return failed(l, "unlink", "", error);
	return 0;
}

/*
 * The umask gives the file its mode at birth, and there is no connecting
 * before listen(2), so it is never open wider than asked, nor to the wrong
 * group.  No chmod(2), which would follow a link.
 */
static int
bind_unix(struct listener *l, const struct conf_listen *line,
    char error[CONF_ERROR_MAX])
{
	const struct sockaddr *sa = (const struct sockaddr *)&l->address.ss;
	const char *path = address_path(&l->address);
	const mode_t old = umask(~line->mode & 0777);
	struct stat st;
	int rv;

	rv = bind(l->fd, sa, l->address.len);
	if (rv == -1 && errno == EADDRINUSE) {
		if (remove_stale(l, error) == -1) {
			umask(old);
			return -1;
		}
		rv = bind(l->fd, sa, l->address.len);
	}
	umask(old);
	if (rv == -1)
		return failed(l, "bind", "", error);
	if (lstat(path, &st) == -1)
		return failed(l, "lstat", "", error);
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	if ((line->uid != (uid_t)-1 || line->gid != (gid_t)-1) &&
	    lchown(path, line->uid, line->gid) == -1)
		return failed(l, "chown", "", error);
	return 0;
}

/*
 * Drop every SYN that is not a SYN-ACK.  Unlike listen(fd, 0), which leaves
 * room for one more and resets it at the end, this lets handshakes that have
 * begun come to their end.  The filter of a TCP socket sees the packet from
 * the TCP header on; the flags are its byte 13 (RFC 9293, 3.1).
 */
static int
drop_syns(int fd)
{
#ifdef __linux__
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),	/* ACK SYN */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff)
	};
	const struct sock_fprog program = {
		.len = sizeof(code) / sizeof(code[0]),
		.filter = code
	};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program,
	    sizeof(program));
#else
	(void)fd;
	return -1;
#endif
}

static int
open_socket(struct listener *l, const struct conf_listen *line, int backlog,
    char error[CONF_ERROR_MAX])
{
	const int family = l->address.ss.ss_family;

	l->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l->fd == -1)
		return failed(l, "socket", "", error);
	if ((family == AF_UNIX ? bind_unix(l, line, error) :
	    bind_inet(l, error)) == -1)
		return -1;
	/* Where it is not to be had, clients come early. */
	if (family != AF_UNIX)
		drop_syns(l->fd);
	/* Two sockets may share a port until one of them listens. */
	if (listen(l->fd, backlog) == -1)
		return failed(l, "listen", "", error);
	l->address.len = sizeof(l->address.ss);
	if (getsockname(l->fd, (struct sockaddr *)&l->address.ss,
	    &l->address.len) == -1)
		return failed(l, "getsockname", "", error);
	address_text(&l->address, l->name, sizeof(l->name));
	return 0;
}

struct listener *
listen_open(const struct conf_service *service, const struct conf_listen *line,
    int part, char error[CONF_ERROR_MAX])
{
	struct listener *l;
	int saved;

	if ((l = calloc(1, sizeof(*l))) == NULL) {
		snprintf(error, CONF_ERROR_MAX, "listen %s: out of memory",
		    line->text);
		return NULL;
	}
	l->fd = -1;
	l->part = part;
	l->address = line->address[part];
	address_text(&l->address, l->name, sizeof(l->name));
	l->service = strdup(service->name);
	l->text = strdup(line->text);
	if (l->service == NULL || l->text == NULL)
		failed(l, "strdup", "", error);
	else if (open_socket(l, line, service->backlog, error) == 0)
		return l;
	saved = errno;
	listen_close(l);
	errno = saved;
	return NULL;
}

void
listen_measure(struct listener *l)
{
	l->waiting = l->limit = 0;
#ifdef __linux__
	struct tcp_info info;
	socklen_t len = sizeof(info);

	/* Of a listening socket: how many wait, and how many may. */
	if (l->address.ss.ss_family != AF_UNIX && getsockopt(l->fd,
	    IPPROTO_TCP, TCP_INFO, &info, &len) == 0) {
		l->waiting = (int)info.tcpi_unacked;
		l->limit = (int)info.tcpi_sacked;
	}
#endif
}

/*
 * Remove the path, once, if it is still the file that we created.  Before
 * close(2): an open socket keeps its inode, so that no other has the number.
 */
static void
unlink_own(struct listener *l)
{
	const char *path = address_path(&l->address);
	struct stat st;

	if (l->ino != 0 && path != NULL && lstat(path, &st) == 0 &&
	    st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(path);
	l->ino = 0;
}

int
listen_welcome(struct listener *l)
{
#ifdef __linux__
	const int unused = 0;

	if (l->address.ss.ss_family != AF_UNIX && setsockopt(l->fd, SOL_SOCKET,
	    SO_DETACH_FILTER, &unused, sizeof(unused)) == -1 &&
	    errno != ENOENT)
		return -1;
#endif
	l->state = LISTENER_OPEN;
	return 0;
}

void
listen_refuse(struct listener *l)
{
	if (l->address.ss.ss_family == AF_UNIX)
		unlink_own(l);
	else if (drop_syns(l->fd) == -1)
		listen(l->fd, 0);
	l->empty_since = 0;
	l->state = LISTENER_LEAVING;
}

bool
listen_pending(const struct listener *l)
{
	struct pollfd pfd = { .fd = l->fd, .events = POLLIN };

	/* Who cannot be asked may have a client: better late than lost. */
	return poll(&pfd, 1, 0) == -1 || (pfd.revents & POLLIN) != 0;
}

bool
listen_quiet(struct listener *l, int64_t now)
{
	if (listen_pending(l)) {
		l->empty_since = 0;
		return false;
	}
	if (l->empty_since == 0)
		l->empty_since = now;
	return now - l->empty_since >= QUIET;
}

void
listen_close(struct listener *l)
{
	unlink_own(l);
	if (l->fd != -1) {
		shutdown(l->fd, SHUT_RDWR);
		close(l->fd);
	}
	free(l->service);
	free(l->text);
	free(l);
}
