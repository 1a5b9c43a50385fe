/*
 * service.c: the unit test of src/service/: each service says what its RFC
 * wants, to a client on TCP, and ends when it should.  The service runs in a
 * process of its own, as in a worker.  Each case prints `ok NAME' or
 * `FAIL NAME: why'.
 */

#include <sys/socket.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "preforkd.h"
#include "check.h"

#define GIVE_UP	60	/* s: a test that hangs has failed */

static struct conf_service conf;
static int client;
static pid_t server;

static const struct preforkd_service *
find(const char *name)
{
	int i;

	for (i = 0; builtin_services[i] != NULL; i++)
		if (strcmp(builtin_services[i]->name, name) == 0)
			return builtin_services[i];
	abort();
}

/* Serve one client; the exit status is how it ended. */
static void
serve(const struct preforkd_service *service, int listener)
{
	struct address peer = { .len = sizeof(peer.ss) };
	struct linger_ring ring = { 0 };
	static struct conn c;
	int fd;

	alarm(GIVE_UP);
	if ((fd = accept(listener, (struct sockaddr *)&peer.ss,
	    &peer.len)) == -1)
		abort();
	if (service->start != NULL && service->start() == -1)
		abort();
	conn_open(&c, fd, &peer, &conf);
	c.number = 42;
	service->serve(&c);
	linger_end(&ring, fd);
	linger_finish(&ring);
	_exit(c.end);
}

/* Start a service and connect to it; returns its port. */
static unsigned int
start(const char *name, sa_family_t family)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6,
	    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in sin = { .sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct address a = { .len = sizeof(sin6) };
	int listener = socket(family, SOCK_STREAM, 0);

	memcpy(&a.ss, &sin6, sizeof(sin6));
	if (family == AF_INET) {
		memcpy(&a.ss, &sin, sizeof(sin));
		a.len = sizeof(sin);
	}
	if (bind(listener, (struct sockaddr *)&a.ss, a.len) == -1 ||
	    getsockname(listener, (struct sockaddr *)&a.ss, &a.len) == -1 ||
	    listen(listener, 1) == -1)
		abort();
	if ((server = fork()) == 0)
		serve(find(name), listener);
	client = socket(family, SOCK_STREAM, 0);
	if (connect(client, (struct sockaddr *)&a.ss, a.len) == -1)
		abort();
	close(listener);
	/* Both families have the port at the same place. */
	memcpy(&sin, &a.ss, sizeof(sin));
	return ntohs(sin.sin_port);
}

static void
say(const char *text)
{
	CHECK(send(client, text, strlen(text), MSG_NOSIGNAL) ==
	    (ssize_t)strlen(text));
}

/* Whether the next bytes, or with NULL the end, are these. */
static bool
hear(const char *text)
{
	char buf[512];
	size_t size = text == NULL ? 1 : strlen(text);
	ssize_t n = recv(client, buf, size, MSG_WAITALL);

	return text == NULL ? n == 0 :
	    n == (ssize_t)size && memcmp(buf, text, size) == 0;
}

static void
finish(enum conn_end end)
{
	int status;

	close(client);
	CHECK(waitpid(server, &status, 0) == server);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == (int)end);
}

static bool
silent(void)
{
	struct pollfd pfd = { .fd = client, .events = POLLIN };

	return poll(&pfd, 1, 100) == 0;
}

static void
greeted(sa_family_t family, const char *host)
{
	unsigned int port = start("greet", family);
	char text[256];

	snprintf(text, sizeof(text),
	    "Welcome ! You have connected to %s on port %u\r\n"
	    "You are client #42 to connect to this server !\r\n"
	    "Please press any key in your console, after that this server "
	    "socket will close\r\n", host, port);
	CHECK(hear(text));
	CHECK(silent());
}

static bool
has_ipv6(void)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6,
	    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(AF_INET6, SOCK_STREAM, 0), r;

	r = bind(fd, (struct sockaddr *)&sin6, sizeof(sin6));
	close(fd);
	return r == 0;
}

static void
test_greet(void)
{
	greeted(AF_INET, "127.0.0.1");
	say("l");
	CHECK(hear(NULL));
	finish(CONN_SERVED);

	if (has_ipv6()) {
		greeted(AF_INET6, "::1");
		say("l\r\n");
		CHECK(hear(NULL));
		finish(CONN_SERVED);
	}

	greeted(AF_INET, "127.0.0.1");
	shutdown(client, SHUT_WR);
	CHECK(hear(NULL));
	finish(CONN_CLIENT_CLOSED);
}

static void
test_greet_timeout(void)
{
	conf.first_byte_timeout = 200;
	greeted(AF_INET, "127.0.0.1");
	CHECK(hear(NULL));
	finish(CONN_FIRST_BYTE_TIMEOUT);
	conf.first_byte_timeout = 0;
}

/* A service that reads nothing, or little, of 30 kB or 10 MB. */
static void
test_eager(const char *name, size_t size, size_t reply)
{
	static char buf[10000000];
	size_t got = 0;
	ssize_t n;

	start(name, AF_INET);
	CHECK(send(client, buf, size, MSG_NOSIGNAL) == (ssize_t)size);
	while ((n = recv(client, buf, sizeof(buf), 0)) > 0)
		got += (size_t)n;
	CHECK(n == 0 && got >= reply);
	finish(CONN_SERVED);
}

static void
test_eager_clients(void)
{
	test_eager("greet", 30000, 170);
	test_eager("greet", 10000000, 170);
	test_eager("time", 30000, 4);
	test_eager("time", 10000000, 4);
	test_eager("daytime", 30000, 26);
	test_eager("daytime", 10000000, 26);
}

static void
test_echo(void)
{
	char bytes[256], buf[256];
	int i;

	for (i = 0; i < 256; i++)
		bytes[i] = (char)i;
	start("echo", AF_INET);
	say("hello\r\n");
	CHECK(hear("hello\r\n"));
	CHECK(send(client, bytes, sizeof(bytes), 0) == sizeof(bytes));
	CHECK(recv(client, buf, sizeof(buf), MSG_WAITALL) == sizeof(buf));
	CHECK(memcmp(bytes, buf, sizeof(buf)) == 0);
	CHECK(silent());
	finish(CONN_CLIENT_CLOSED);
}

/* What is on its way when the client has finished sending comes back. */
static void
test_echo_half_close(void)
{
	static char sent[3000000], got[sizeof(sent)];
	size_t i;
	pid_t pid;

	for (i = 0; i < sizeof(sent); i++)
		sent[i] = (char)(i % 251);
	start("echo", AF_INET);
	if ((pid = fork()) == 0) {
		send(client, sent, sizeof(sent), MSG_NOSIGNAL);
		shutdown(client, SHUT_WR);
		_exit(0);
	}
	CHECK(recv(client, got, sizeof(got), MSG_WAITALL) == sizeof(got));
	CHECK(memcmp(sent, got, sizeof(sent)) == 0);
	CHECK(hear(NULL));
	CHECK(waitpid(pid, NULL, 0) == pid);
	finish(CONN_CLIENT_CLOSED);
}

static void
test_discard(void)
{
	static char big[10000000];

	start("discard", AF_INET);
	CHECK(send(client, big, sizeof(big), 0) == sizeof(big));
	CHECK(silent());
	shutdown(client, SHUT_WR);
	CHECK(hear(NULL));
	finish(CONN_CLIENT_CLOSED);
}

static void
test_chargen(void)
{
	char line[75];
	int i, j;

	start("chargen", AF_INET);
	say("what is sent is thrown away");
	for (i = 0; i < 300; i++) {
		for (j = 0; j < 72; j++)
			line[j] = (char)(32 + (i + j) % 95);
		strcpy(line + 72, "\r\n");
		CHECK(hear(line));
	}
	/* The reset may meet any of its calls: only that it ends is sure. */
	close(client);
	CHECK(waitpid(server, NULL, 0) == server);
}

/* A client that has only finished sending gets more than was on its way. */
static void
test_chargen_half_close(void)
{
	static char buf[20000000];

	start("chargen", AF_INET);
	shutdown(client, SHUT_WR);
	CHECK(recv(client, buf, sizeof(buf), MSG_WAITALL) == sizeof(buf));
	CHECK(buf[0] == ' ' && buf[74] == '!' && buf[95 * 74] == ' ');
	close(client);
	CHECK(waitpid(server, NULL, 0) == server);
}

/* Nor does it stop the client's sending. */
static void
test_chargen_input(void)
{
	static char buf[100000];
	size_t sent = 0, got = 0;
	ssize_t n;

	start("chargen", AF_INET);
	while (sent < 20000000 && got < 1000000000) {
		if ((n = send(client, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
			sent += (size_t)n;
		if ((n = recv(client, buf, sizeof(buf), 0)) <= 0)
			break;
		got += (size_t)n;
	}
	CHECK(sent >= 20000000);
	close(client);
	CHECK(waitpid(server, NULL, 0) == server);
}

static void
test_chargen_timeout(void)
{
	int status;

	conf.idle_timeout = 200;
	start("chargen", AF_INET);
	CHECK(hear(" !\"#$"));
	/* We take no more, and stay. */
	CHECK(waitpid(server, &status, 0) == server);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == CONN_IDLE_TIMEOUT);
	conf.idle_timeout = 0;
	close(client);
}

static void
test_daytime(void)
{
	char text[64];
	time_t before = time(NULL), then;
	struct tm tm = { 0 };
	ssize_t n;

	start("daytime", AF_INET);
	n = recv(client, text, 26, MSG_WAITALL);
	CHECK(n == 26 && memcmp(text + 24, "\r\n", 2) == 0);
	text[24] = '\0';
	CHECK(strptime(text, "%a %b %d %H:%M:%S %Y", &tm) == text + 24);
	tm.tm_isdst = -1;
	then = mktime(&tm);
	CHECK(then >= before && then <= time(NULL));
	CHECK(hear(NULL));
	finish(CONN_SERVED);
}

static void
test_time(void)
{
	uint32_t now;

	start("time", AF_INET);
	CHECK(recv(client, &now, sizeof(now), MSG_WAITALL) == 4);
	/* 70 years, 17 of them leap years. */
	now = ntohl(now) - (70U * 365 + 17) * 86400;
	CHECK((uint32_t)time(NULL) - now < 5);
	CHECK(hear(NULL));
	finish(CONN_SERVED);
}

static const struct test tests[] = {
	{ "greet", test_greet },
	{ "greet, first-byte timeout", test_greet_timeout },
	{ "eager clients", test_eager_clients },
	{ "echo", test_echo },
	{ "echo, half-close", test_echo_half_close },
	{ "discard", test_discard },
	{ "chargen", test_chargen },
	{ "chargen, half-close", test_chargen_half_close },
	{ "chargen, input", test_chargen_input },
	{ "chargen, idle timeout", test_chargen_timeout },
	{ "daytime", test_daytime },
	{ "time", test_time }
};

int
main(void)
{
	alarm(GIVE_UP);
	setvbuf(stdout, NULL, _IONBF, 0);
	run_all(tests, sizeof(tests) / sizeof(tests[0]));
	return failures != 0;
}
