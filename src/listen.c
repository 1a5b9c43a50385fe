/*
 * listen.c: addresses to listening sockets, inherited sockets, queue depth,
 * farewell.
 *
 * Owns the master's listening sockets from socket(2) to close(2), and the
 * files of Unix sockets that it created.  A socket that was handed over by
 * whoever started the server (sd_listen_fds(3)) belongs to them: it serves a
 * `listen' line while there is one, and its queue, its backlog and its file
 * are left alone.  It may call address.c and parse.c; it never
 * accepts, never waits and never logs: errors go to the caller as a line.
 * It must not set O_NONBLOCK (the flag would change for every process at
 * once) and must not remove a file that it has not created.
 *
 * Limits: the directory of a Unix socket must not be writable by strangers,
 * since files are known by name there; and the kernel tells the depth of a
 * queue for TCP on Linux only.
 */

#include <sys/stat.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#ifdef __linux__
#include <linux/filter.h>
#endif

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define QUIET	200		/* ms without a client: the queue is served */

/* Sockets that were handed over; they stay open for as long as we live. */
static struct inherited {
	int		 fd;
	bool		 used;		/* by a listener */
	bool		 both;		/* [::], and takes IPv4 too */
	struct address	 address;
	char		 name[ADDRESS_TEXT];
} inherited[CONF_LISTENERS_MAX];
static int ninherited;

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
seconds(int64_t ms)
{
	return (int)((ms + 999) / 1000);
}

/*
 * All of these are inherited by the connections (measured on Linux), so that
 * they cost nothing for each.  Off is set as well, for a socket that stays.
 */
static int
set_tcp(struct listener *l, const struct conf_service *conf,
    char error[CONF_ERROR_MAX])
{
	const struct conf_keepalive *alive = &conf->tcp_keepalive;
	const struct {
		const char *name;
		int	 level, option, value;
		bool	 leave;		/* as it is */
	} wanted[] = {
		{ "tcp-nodelay", IPPROTO_TCP, TCP_NODELAY,
		    conf->tcp_nodelay, false },
		{ "tcp-keepalive", SOL_SOCKET, SO_KEEPALIVE,
		    alive->idle > 0, false },
		{ "tcp-keepalive", IPPROTO_TCP, TCP_KEEPIDLE,
		    seconds(alive->idle), alive->idle == 0 },
		{ "tcp-keepalive", IPPROTO_TCP, TCP_KEEPINTVL,
		    seconds(alive->interval), alive->idle == 0 },
		{ "tcp-keepalive", IPPROTO_TCP, TCP_KEEPCNT,
		    (int)alive->count, alive->idle == 0 },
#ifdef __linux__
		{ "tcp-defer-accept", IPPROTO_TCP, TCP_DEFER_ACCEPT,
		    seconds(conf->tcp_defer_accept), false },
		{ "tcp-user-timeout", IPPROTO_TCP, TCP_USER_TIMEOUT,
		    (int)conf->tcp_user_timeout, false }
#endif
	};
	size_t i;

	for (i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (!wanted[i].leave && setsockopt(l->fd, wanted[i].level,
		    wanted[i].option, &wanted[i].value, sizeof(int)) == -1)
			return failed(l, wanted[i].name, "", error);
	return 0;
}

static int
open_socket(struct listener *l, const struct conf_listen *line,
    const struct conf_service *conf, char error[CONF_ERROR_MAX])
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
	if (listen_settle(l, conf, error) == -1)
		return -1;
	l->address.len = sizeof(l->address.ss);
	if (getsockname(l->fd, (struct sockaddr *)&l->address.ss,
	    &l->address.len) == -1)
		return failed(l, "getsockname", "", error);
	address_text(&l->address, l->name, sizeof(l->name));
	return 0;
}

int
listen_handed_over(char error[CONF_ERROR_MAX])
{
	static const char *const names[] = { "LISTEN_PID", "LISTEN_FDS",
	    "LISTEN_FDNAMES" };
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	int64_t number = 0, n = 0;
	int rv = 0;
	size_t i;

	if (pid != NULL && parse_number(pid, 1, INT_MAX, &number) &&
	    number == getpid() && fds != NULL &&
	    !parse_number(fds, 0, CONF_LISTENERS_MAX, &n))
		rv = error_say(error, "LISTEN_FDS: must be 0 to %d sockets",
		    CONF_LISTENERS_MAX);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unsetenv(names[i]);
	return rv == -1 ? -1 : (int)n;
}

static int
socket_option(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = 0;

	return getsockopt(fd, level, name, &value, &len) == 0 ? value : -1;
}

/* Whether IPv4 comes by it, too. */
static bool
takes_both(const struct inherited *in)
{
	return in->address.ss.ss_family == AF_INET6 &&
	    address_is_any(&in->address) &&
	    socket_option(in->fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0;
}

static int
unwanted(int fd, const char *why, char error[CONF_ERROR_MAX])
{
	return error_say(error, "inherited descriptor %d: %s", fd, why);
}

/* Its flags are those of the open file description, and so of everybody. */
static int
make_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags == -1 || (flags & O_NONBLOCK) == 0)
		return flags == -1 ? -1 : 0;
	return fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

static int
adopt(int fd, int least, char error[CONF_ERROR_MAX])
{
	struct inherited *in = &inherited[ninherited];
	int family, i, rv;

	memset(in, 0, sizeof(*in));
	in->address.len = sizeof(in->address.ss);
	rv = getsockname(fd, (struct sockaddr *)&in->address.ss,
	    &in->address.len);
	address_unmap(&in->address);
	family = in->address.ss.ss_family;
	if (rv == -1 ||
	    (family != AF_INET && family != AF_INET6 && family != AF_UNIX) ||
	    socket_option(fd, SOL_SOCKET, SO_TYPE) != SOCK_STREAM ||
	    socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN) != 1)
		return unwanted(fd, "must be a listening socket, of TCP or a "
		    "Unix stream", error);
	address_text(&in->address, in->name, sizeof(in->name));
	for (i = 0; i < ninherited; i++)
		if (strcmp(inherited[i].name, in->name) == 0)
			return unwanted(fd, "must be the only one with its "
			    "address", error);
	if (make_blocking(fd) == -1 ||
	    (in->fd = fcntl(fd, F_DUPFD_CLOEXEC, least)) == -1)
		return unwanted(fd, strerror(errno), error);
	in->both = takes_both(in);
	close(fd);
	ninherited++;
	return 0;
}

int
listen_adopt(int n, char error[CONF_ERROR_MAX])
{
	int fd, least = FD_LOG + n;

	if (least < FD_FIRST_FREE)
		least = FD_FIRST_FREE;
	for (fd = FD_LOG; fd < FD_LOG + n; fd++)
		if (adopt(fd, least, error) == -1)
			return -1;
	return 0;
}

const char *
listen_unused(int *at, int *fd)
{
	while (*at < ninherited && inherited[*at].used)
		(*at)++;
	if (*at == ninherited)
		return NULL;
	*fd = inherited[*at].fd;
	return inherited[(*at)++].name;
}

int
listen_keep(const char *name, int fd, bool used)
{
	struct inherited *in = &inherited[ninherited];
	struct address address[2];
	const char *why;

	if (ninherited == CONF_LISTENERS_MAX ||
	    address_parse(name, address, &why) != 1)
		return -1;
	*in = (struct inherited){ .fd = fd, .used = used,
	    .address = address[0] };
	address_text(&in->address, in->name, sizeof(in->name));
	in->both = takes_both(in);
	ninherited++;
	return 0;
}

/* Whether one of the addresses of the service is this one. */
static bool
is_served(const struct conf_service *service, const char *name)
{
	const struct conf_listen *line;
	char text[ADDRESS_TEXT];
	int part;

	TAILQ_FOREACH(line, &service->listens, entry)
		for (part = 0; part < line->naddress; part++)
			if (strcmp(address_text(&line->address[part], text,
			    sizeof(text)), name) == 0)
				return true;
	return false;
}

int
listen_all_wanted(const struct conf *conf, char error[CONF_ERROR_MAX])
{
	const struct conf_service *service;
	char name[ADDRESS_TEXT * 4];
	int i;

	for (i = 0; i < ninherited; i++) {
		TAILQ_FOREACH(service, &conf->services, entry)
			if (is_served(service, inherited[i].name))
				break;
		if (service == NULL)
			return error_say(error, "inherited socket %s: must be "
			    "the address of a listen line", log_quote(name,
			    sizeof(name), inherited[i].name,
			    strlen(inherited[i].name)));
	}
	return 0;
}

/*
 * Take an inherited socket with the address of l.  Returns 1, 0 when there is
 * none, or -1 with EAFNOSUPPORT when one for IPv6 serves IPv4 as well.
 */
static int
inherit(struct listener *l, char error[CONF_ERROR_MAX])
{
	struct inherited *in;

	for (in = inherited; in < inherited + ninherited; in++) {
		if (!in->used && strcmp(in->name, l->name) == 0) {
			in->used = l->inherited = true;
			l->fd = in->fd;
			l->address = in->address;
			return 1;
		}
		if (in->both && l->address.ss.ss_family == AF_INET &&
		    address_is_any(&l->address) &&
		    address_port(&l->address) == address_port(&in->address)) {
			error_say(error, "listen %s: the inherited socket for "
			    "IPv6 takes IPv4 as well", l->name);
			errno = EAFNOSUPPORT;
			return -1;
		}
	}
	return 0;
}

struct listener *
listen_open(const struct conf_service *service, const struct conf_listen *line,
    int part, char error[CONF_ERROR_MAX])
{
	struct listener *l;
	int found = 0, saved;

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
	else if ((found = inherit(l, error)) == 1 || (found == 0 &&
	    open_socket(l, line, service, error) == 0))
		return l;
	saved = errno;
	listen_close(l);
	errno = saved;
	return NULL;
}

int
listen_settle(struct listener *l, const struct conf_service *conf,
    char error[CONF_ERROR_MAX])
{
	if (l->inherited)
		return 0;
	if (l->address.ss.ss_family != AF_UNIX && set_tcp(l, conf,
	    error) == -1)
		return -1;
	return listen(l->fd, conf->backlog) == -1 ?
	    failed(l, "listen", "", error) : 0;
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

	if (!l->inherited && l->address.ss.ss_family != AF_UNIX &&
	    setsockopt(l->fd, SOL_SOCKET, SO_DETACH_FILTER, &unused,
	    sizeof(unused)) == -1 && errno != ENOENT)
		return -1;
#endif
	l->state = LISTENER_OPEN;
	return 0;
}

void
listen_refuse(struct listener *l)
{
	if (l->inherited || l->address.ss.ss_family == AF_UNIX)
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

	if (l->inherited)
		return false;
	/* Who cannot be asked may have a client: better late than lost. */
	return poll(&pfd, 1, 0) == -1 || (pfd.revents & POLLIN) != 0;
}

bool
listen_is_shut(const struct listener *l)
{
	struct pollfd pfd = { .fd = l->fd, .events = POLLRDHUP };

	return poll(&pfd, 1, 0) == 1;
}

/* A port that the kernel has chosen was lost, and is asked for by number. */
int
listen_again(const struct listener *l, int backlog)
{
	const struct sockaddr *sa = (const struct sockaddr *)&l->address.ss;

	if (bind(l->fd, sa, l->address.len) == -1 && errno != EINVAL)
		return -1;
	return listen(l->fd, backlog) == -1 || listen_is_shut(l) ? -1 : 0;
}

bool
listen_quiet(struct listener *l, int64_t now)
{
	if (l->inherited)
		return true;
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
	int i;

	unlink_own(l);
	if (l->inherited) {
		for (i = 0; i < ninherited; i++)
			if (inherited[i].fd == l->fd)
				inherited[i].used = false;
	} else if (l->fd != -1) {
		shutdown(l->fd, SHUT_RDWR);
		close(l->fd);
	}
	free(l->service);
	free(l->text);
	free(l);
}
