/*
 * Unit test of http.c: what requests mean, and what is none.
 */
#include <sys/socket.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

static int failures;

static void
check(const char *name, bool ok, const char *got)
{
	printf("%s %s\n", ok ? "ok" : "FAIL", name);
	if (!ok)
		printf("  got: %s\n", got);
	failures += !ok;
}

/* The first word of the status, or the path. */
static void
parse(const char *text, size_t size, const char *want)
{
	struct http_request r;
	char *head = malloc(size + 1), name[80];
	const char *wrong;

	memcpy(head, text, size);
	wrong = http_parse(head, size, &r);
	log_quote(name, sizeof(name), text, size < 60 ? size : 60);
	if (want[0] == '/')
		check(name, wrong == NULL && strcmp(r.path, want) == 0,
		    wrong != NULL ? wrong : r.path);
	else
		check(name, wrong != NULL && strncmp(wrong, want, 3) == 0,
		    wrong != NULL ? wrong : r.path);
	free(head);
}

#define PARSE(text, want)	parse(text, sizeof(text) - 1, want)
#define H	"Host: a\r\n\r\n"

static void
test_good(void)
{
	PARSE("GET / HTTP/1.1\r\n" H, "/");
	PARSE("HEAD /x HTTP/1.1\r\n" H, "/x");
	PARSE("GET / HTTP/1.0\r\n\r\n", "/");
	PARSE("GET /a%20b HTTP/1.0\n\n", "/a%20b");
	PARSE("\r\nGET / HTTP/1.0\r\n\r\n", "/");
	PARSE("\nGET / HTTP/1.0\n\n", "/");
	PARSE("GET /metrics?format=text HTTP/1.1\r\n" H, "/metrics");
	PARSE("GET http://a.example/status HTTP/1.1\r\n" H, "/status");
	PARSE("GET HTTP://a.example/status?x HTTP/1.1\r\n" H, "/status");
	PARSE("GET / HTTP/1.9\r\nhOST:\r\n\r\n", "/");
	PARSE("GET / HTTP/1.1\r\nA: \t b\r\nHost: x\r\n\r\n", "/");
	PARSE("GET /\xff\xfe HTTP/1.1\r\n" H, "/\xff\xfe");
}

static void
test_bad(void)
{
	PARSE("", "400");
	PARSE("\r\n\r\n", "400");
	PARSE("GET\r\n\r\n", "400");
	PARSE("GET /\r\n\r\n", "400");
	PARSE("GET / HTTP/1.1 \r\n" H, "400");
	PARSE("GET  / HTTP/1.1\r\n" H, "400");
	PARSE("GET /\tHTTP/1.1\r\n" H, "400");
	PARSE(" GET / HTTP/1.1\r\n" H, "400");
	PARSE("GET x HTTP/1.1\r\n" H, "400");
	PARSE("OPTIONS * HTTP/1.1\r\n" H, "400");
	PARSE("GET http://a.example HTTP/1.1\r\n" H, "400");
	PARSE("GET / HTTP/1.1\r\n\r\n", "400");
	PARSE("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400");
	PARSE("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400");
	PARSE("GET / HTTP/1.1\r\n: a\r\n" H, "400");
	PARSE("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "400");
	PARSE("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", "400");
	PARSE("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", "400");
	PARSE("GET /\0 HTTP/1.1\r\n" H, "400");
	PARSE("GET / HTTP/1.1\r\nHost: a\r\n", "400");
	PARSE("GET / HTTP/1.12\r\n" H, "400");
	PARSE("GET / http/1.1\r\n" H, "400");
	PARSE("GET / HTTP/x.1\r\n" H, "400");
	PARSE("GET / HTTP/2.0\r\n" H, "505");
	PARSE("POST / HTTP/1.1\r\n" H, "405");
	PARSE("get / HTTP/1.1\r\n" H, "405");
	PARSE("BREW /pot HTTP/1.1\r\n" H, "405");
}

/* What http_read() makes of it, when all of it has come. */
static void
read_it(const char *name, const char *text, size_t size, const char *want)
{
	static struct conn c;
	static const struct conf_service conf;
	const struct address peer = { .len = sizeof(sa_family_t) };
	struct http_request r;
	char answer[4096];
	ssize_t n;
	bool got;
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == -1 ||
	    send(fd[1], text, size, 0) != (ssize_t)size ||
	    shutdown(fd[1], SHUT_WR) == -1)
		abort();
	conn_open(&c, fd[0], &peer, &conf);
	got = http_read(&c, &r);
	close(fd[0]);
	n = recv(fd[1], answer, sizeof(answer) - 1, MSG_WAITALL);
	answer[n > 0 ? n : 0] = '\0';
	close(fd[1]);
	if (want[0] == '/')
		check(name, got && strncmp(r.path, want, strlen(want)) == 0,
		    answer);
	else
		check(name, !got && strncmp(answer, want, strlen(want)) == 0 &&
		    (n > 0) == (want[0] != '\0'), answer);
}

static void
test_read(void)
{
	static char long_text[HTTP_HEAD * 2], target[2048];
	const size_t size = sizeof(long_text);

	memset(long_text, 'x', size);
	memset(target, '/', sizeof(target));
	memcpy(target, "GET ", 4);
	memcpy(target + HTTP_PATH + 4, " HTTP/1.0\n\n", 12);
	read_it("an answer has its form", "PUT / HTTP/1.0\n\n", 16,
	    "HTTP/1.1 405 Method Not Allowed\r\n");
	read_it("a request", "GET /a HTTP/1.0\n\n", 17, "/a");
	read_it("what follows", "GET /a HTTP/1.0\n\nGET /b HTTP/1.0\n\n", 34,
	    "/a");
	read_it("half a request", "GET /a HTTP/1.0\r\n", 17, "");
	read_it("nothing", "", 0, "");
	read_it("a long line", long_text, size, "HTTP/1.1 414 ");
	read_it("a long path", target, strlen(target), "HTTP/1.1 414 ");
	target[HTTP_PATH + 3] = ' ';
	memcpy(target + HTTP_PATH + 3, " HTTP/1.0\n\n", 12);
	target[HTTP_PATH + 2] = 'x';
	read_it("a path that just fits", target, strlen(target), "///");
	memcpy(long_text, "GET / HTTP/1.1\r\n", 16);
	read_it("long fields", long_text, size, "HTTP/1.1 431 ");
}

int
main(void)
{
	test_good();
	test_bad();
	test_read();
	return failures > 0;
}
