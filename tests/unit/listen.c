/*
 * listen.c: unit test of src/listen.c with real sockets: what a listening
 * socket is like, whom it makes way for, and the farewell (DESIGN 3): what is
 * queued survives, what comes new is not answered, the port is free after.
 */

#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

static int failures;
static char dir[64];
static char error[CONF_ERROR_MAX];

static void
check(const char *name, bool ok)
{
	if (ok)
		printf("ok %s\n", name);
	else {
		printf("FAIL %s: error `%s', errno %s\n", name, error,
		    strerror(errno));
		failures++;
	}
	error[0] = '\0';
}

/* `listen TEXT' with mode, opened as part. */
static struct listener *
prepare(const char *text, mode_t mode, uid_t uid, int part)
{
	static char name[] = "test";
	struct conf_service service = { .name = name, .backlog = 100 };
	struct conf_listen line = { .mode = mode, .uid = uid, .gid = uid };
	struct listener *l;
	const char *why;

	line.text = strdup(text);
	line.naddress = address_parse(text, line.address, &why);
	l = line.naddress == -1 ? NULL :
	    listen_open(&service, &line, part, error);
	free(line.text);
	return l;
}

static struct listener *
open_part(const char *text, mode_t mode, uid_t uid, int part)
{
	struct listener *l = prepare(text, mode, uid, part);

	if (l != NULL)
		check("welcomes", listen_welcome(l) == 0 &&
		    l->state == LISTENER_OPEN);
	return l;
}

static struct listener *
open_one(const char *text)
{
	return open_part(text, 0600, (uid_t)-1, 0);
}

/* A client; without waiting if so flagged.  -1 with errno. */
static int
dial(const struct address *to, int flags)
{
	int fd = socket(to->ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags,
	    0), saved;

	if (connect(fd, (const struct sockaddr *)&to->ss, to->len) == 0 ||
	    errno == EINPROGRESS)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* A byte each way. */
static bool
talk(int a, int b)
{
	char c = 0;

	return write(a, "x", 1) == 1 && read(b, &c, 1) == 1 && c == 'x' &&
	    write(b, "y", 1) == 1 && read(a, &c, 1) == 1 && c == 'y';
}

static char *
path_of(const char *file)
{
	static char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return path;
}

static char *
unix_of(const char *file)
{
	static char text[ADDRESS_TEXT];

	snprintf(text, sizeof(text), "unix:%s", path_of(file));
	return text;
}

static void
test_inet(void)
{
	struct listener *l = open_one("127.0.0.1:0"), *other;
	char want[ADDRESS_TEXT + 64];
	int fd;

	check("opens on a free port", l != NULL);
	if (l == NULL)
		return;
	check("names the port it got", address_port(&l->address) != 0 &&
	    strncmp(l->name, "127.0.0.1:", 10) == 0 &&
	    strcmp(l->text, "127.0.0.1:0") == 0);
	check("close-on-exec", fcntl(l->fd, F_GETFD) & FD_CLOEXEC);
	check("blocking", (fcntl(l->fd, F_GETFL) & O_NONBLOCK) == 0);
	fd = dial(&l->address, 0);
	check("takes a client", fd != -1 && listen_pending(l));
	close(fd);

	other = open_one(l->name);
	snprintf(want, sizeof(want), "listen %s: bind: Address already in use",
	    l->name);
	check("an address in use is refused by name", other == NULL &&
	    errno == EADDRINUSE && strcmp(error, want) == 0);
	listen_close(l);

	check("a foreign address is refused by name",
	    open_one("192.0.2.1:0") == NULL && strcmp(error, "listen "
	    "192.0.2.1:0: bind: Cannot assign requested address "
	    "(must be an address of this machine)") == 0);
}

/* A new one takes nobody, and nobody is refused, before it is told to. */
static void
test_welcome(const char *text)
{
	struct listener *l = prepare(text, 0, 0, 0);
	struct pollfd early = { .events = POLLOUT }, late = early;

	if (l == NULL) {
		printf("ok welcome of %s # skipped: %s\n", text, error);
		return;
	}
	early.fd = dial(&l->address, SOCK_NONBLOCK);
	check("opening: a client is not answered yet", early.fd != -1 &&
	    l->state == LISTENER_OPENING && poll(&early, 1, 200) == 0 &&
	    !listen_pending(l));
	check("and then is welcome", listen_welcome(l) == 0 &&
	    l->state == LISTENER_OPEN && poll(&early, 1, 5000) == 1 &&
	    early.revents == POLLOUT && listen_pending(l));
	check("once more does no harm", listen_welcome(l) == 0);
	listen_refuse(l);
	late.fd = dial(&l->address, SOCK_NONBLOCK);
	check("one that leaves can be asked back", poll(&late, 1, 200) == 0 &&
	    listen_welcome(l) == 0 && l->state == LISTENER_OPEN &&
	    poll(&late, 1, 5000) == 1 && late.revents == POLLOUT);
	close(early.fd);
	close(late.fd);
	listen_close(l);
}

/* In a child that gives up root; skipped where low ports need none. */
static void
test_low_port(void)
{
	int status;
	pid_t pid;

	fflush(stdout);
	if ((pid = fork()) == 0) {
		if (geteuid() == 0 && setuid(65534) == -1)
			_exit(2);
		if (open_one("127.0.0.1:81") != NULL || errno == EADDRINUSE)
			_exit(0);
		_exit(strcmp(error, "listen 127.0.0.1:81: bind: Permission "
		    "denied (ports below 1024 need root)") != 0);
	}
	waitpid(pid, &status, 0);
	check("a privileged port says so", status == 0);
}

static void
test_v6only(void)
{
	struct listener *l = open_one("*:0"), *other;
	char text[32];

	snprintf(text, sizeof(text), "*:%u", address_port(&l->address));
	other = open_part(text, 0, 0, 1);
	if (other == NULL && errno == EAFNOSUPPORT) {
		printf("ok IPv6 beside IPv4 # skipped: no IPv6\n");
		listen_close(l);
		return;
	}
	check("IPv6 listens beside IPv4 on one port", other != NULL);
	check("the second part is IPv6", other != NULL && other->part == 1 &&
	    strncmp(other->name, "[::]:", 5) == 0);
	listen_close(l);
	if (other != NULL)
		listen_close(other);
}

static void
test_measure(void)
{
	struct listener *l = open_one("127.0.0.1:0");
	int a = dial(&l->address, 0), b = dial(&l->address, 0);

	listen_measure(l);
#ifdef __linux__
	check("measures the queue", l->waiting == 2 && l->limit == 100);
#endif
	close(a);
	close(b);
	listen_close(l);
	l = open_one(unix_of("measure"));
	listen_measure(l);
	check("a Unix socket's queue is unknown", l->waiting == 0 &&
	    l->limit == 0);
	listen_close(l);
}

static void
test_unix_mode(mode_t mode, mode_t mask)
{
	struct listener *l;
	struct stat st;
	mode_t after;

	umask(mask);
	l = open_part(unix_of("mode"), mode, (uid_t)-1, 0);
	after = umask(022);
	check("a Unix socket has its mode whatever the umask", l != NULL &&
	    lstat(path_of("mode"), &st) == 0 && (st.st_mode & 0777) == mode);
	check("the umask is as it was", after == mask);
	if (l != NULL)
		listen_close(l);
	check("its path goes with it", lstat(path_of("mode"), &st) == -1);
}

static void
test_unix_owner(void)
{
	struct listener *l;
	struct stat st;

	if (geteuid() != 0) {
		check("who may not give it away says so",
		    open_part(unix_of("owner"), 0600, 0, 0) == NULL &&
		    strstr(error, ": chown: ") != NULL);
		check("and leaves nothing", lstat(path_of("owner"), &st) ==
		    -1);
		return;
	}
	l = open_part(unix_of("owner"), 0660, 65534, 0);
	check("a Unix socket has its owner", l != NULL &&
	    lstat(path_of("owner"), &st) == 0 && st.st_uid == 65534 &&
	    st.st_gid == 65534 && (st.st_mode & 0777) == 0660);
	if (l != NULL)
		listen_close(l);
}

static void
test_unix_stale(void)
{
	struct listener *l = open_one(unix_of("stale")), *other;
	struct stat st;
	pid_t pid;
	int fd;

	other = open_one(unix_of("stale"));
	check("a living Unix socket is refused", other == NULL &&
	    strstr(error, ": bind: Address already in use by another "
	    "process") != NULL);
	fd = dial(&l->address, 0);
	check("and lives on", fd != -1);
	close(fd);
	listen_close(l);

	fflush(stdout);
	if ((pid = fork()) == 0) {	/* dies without cleaning up */
		open_one(unix_of("stale"));
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	check("a dead server leaves its file",
	    lstat(path_of("stale"), &st) == 0);
	l = open_one(unix_of("stale"));
	check("a stale Unix socket is replaced", l != NULL);
	if (l == NULL)
		return;
	fd = dial(&l->address, 0);
	check("the new one takes clients", fd != -1);
	close(fd);
	listen_close(l);
}

static void
test_unix_foreign(void)
{
	struct listener *l;
	struct stat st;

	close(open(path_of("file"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	check("a file is refused", open_one(unix_of("file")) == NULL &&
	    strstr(error, ": bind: Address already in use by a file that is "
	    "not a socket") != NULL);
	check("and stays", lstat(path_of("file"), &st) == 0 &&
	    S_ISREG(st.st_mode));
	unlink(path_of("file"));
	check("a link is refused", symlink("nowhere", path_of("link")) == 0 &&
	    open_one(unix_of("link")) == NULL &&
	    strstr(error, ": bind: Address already in use by a file that is "
	    "not a socket") != NULL);
	unlink(path_of("link"));

	l = open_one(unix_of("swap"));
	unlink(path_of("swap"));
	close(open(path_of("swap"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	listen_close(l);
	check("a file that took its place stays",
	    lstat(path_of("swap"), &st) == 0);
	unlink(path_of("swap"));
	check("a missing directory says so",
	    open_one(unix_of("none/x")) == NULL &&
	    strstr(error, ": bind: No such file or directory") != NULL);
}

/* 127.0.0.1, [::1]: three queued, one served, then no more. */
static void
farewell_inet(const char *text)
{
	struct listener *l = open_one(text);
	struct pollfd late = { .events = POLLOUT };
	int client[4], server[4], copy, fd, i;
	bool ok = true;

	if (l == NULL) {
		printf("ok farewell of %s # skipped: %s\n", text, error);
		return;
	}
	for (i = 0; i < 4; i++)
		client[i] = dial(&l->address, 0);
	server[0] = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
	/* A request is in the queue with its client. */
	check("a queued client may send", write(client[1], "q", 1) == 1);

	listen_refuse(l);
	check("leaving", l->state == LISTENER_LEAVING);
	late.fd = dial(&l->address, SOCK_NONBLOCK);
	check("a new client is not answered", late.fd != -1 &&
	    poll(&late, 1, 300) == 0);
	check("nor queued", !listen_quiet(l, 1000));
	check("an accepted client goes on", talk(client[0], server[0]));
	for (i = 1; i < 4; i++) {
		check("the queue is served", listen_pending(l));
		server[i] = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
		if (i == 1)
			ok = read(server[i], &(char){ 0 }, 1) == 1;
		ok = ok && talk(client[i], server[i]);
	}
	check("queued clients are served in full", ok);
	check("only the queue", !listen_pending(l));
	check("not quiet at once", !listen_quiet(l, 2000) &&
	    !listen_quiet(l, 2199));
	check("quiet after 200 ms", listen_quiet(l, 2200));

	copy = fcntl(l->fd, F_DUPFD_CLOEXEC, 0);
	strlcpy(error, l->name, sizeof(error));
	listen_close(l);
	l = open_one(error);
	check("a copy does not hold the port", l != NULL);
	check("nor accepts", accept4(copy, NULL, NULL, SOCK_CLOEXEC) == -1 &&
	    errno == EINVAL);
	fd = l == NULL ? -1 : dial(&l->address, 0);
	check("the port serves again", fd != -1);
	check("clients outlive the listener", talk(client[3], server[3]));
	for (i = 0; i < 4; i++) {
		close(client[i]);
		close(server[i]);
	}
	close(fd);
	close(copy);
	close(late.fd);
	if (l != NULL)
		listen_close(l);
}

static void
farewell_unix(void)
{
	struct listener *l = open_one(unix_of("bye")), *other;
	const struct address to = l->address;
	int a = dial(&to, 0), b;

	listen_refuse(l);
	check("a new client finds no path", dial(&to, 0) == -1 &&
	    errno == ENOENT);
	b = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
	check("a queued one is served", b != -1 && talk(a, b));
	other = open_one(unix_of("bye"));
	check("the path is free for the next", other != NULL);
	listen_close(l);
	close(a);
	close(b);
	a = dial(&to, 0);
	check("and stays with it", a != -1);
	close(a);
	if (other != NULL)
		listen_close(other);
}

int
main(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/preforkd-listen.XXXXXX",
	    tmp == NULL || strlen(tmp) > 30 ? "/tmp" : tmp);
	if (mkdtemp(dir) == NULL) {
		perror("mkdtemp");
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(30);		/* a blocked accept is a failure */
	test_inet();
	test_welcome("127.0.0.1:0");
	test_welcome("[::1]:0");
	test_low_port();
	test_v6only();
	test_measure();
	test_unix_mode(0600, 0);
	test_unix_mode(0666, 077);
	test_unix_owner();
	test_unix_stale();
	test_unix_foreign();
	farewell_inet("127.0.0.1:0");
	farewell_inet("[::1]:0");
	farewell_unix();
	if (rmdir(dir) == -1) {
		printf("FAIL nothing left: %s\n", strerror(errno));
		failures++;
	}
	return failures > 0;
}
