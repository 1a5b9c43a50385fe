/*
 * http.c: one request of HTTP/1.1 and its answer (RFC 9110, 9112), for those
 * built-in services that are looked at with a browser: GET and HEAD, without a
 * body, and then the end of the connection.
 *
 * Owns the form of both and nothing of what is in them.  The head of a request
 * has a bound, and a time to arrive in that no setting makes longer: browsers
 * open connections on which they say nothing.  Path and query are not decoded.
 */

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "preforkd.h"

#define HEAD_TIME	5000	/* ms, for a request, and ... */
#define ANSWER_TIME	30000	/* ... for its answer to be taken */

#define TOKEN	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" \
		"0123456789!#$%&'*+-.^_`|~"

static const char bad[] = "400 Bad Request";

/* Cut a line off, without its CR LF or LF; NULL: a byte that no line has. */
static char *
next_line(char **head, char *end)
{
	char *line = *head, *p, *lf = memchr(line, '\n', (size_t)(end - line));

	if (lf == NULL)
		return NULL;
	*head = lf + 1;
	if (lf > line && lf[-1] == '\r')
		lf--;
	*lf = '\0';
	for (p = line; p < lf; p++)
		if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
			return NULL;
	return line;
}

/* The path of `/status?x' or of `http://example.org/status'. */
static const char *
take_target(char *target, char *path)
{
	if (strncasecmp(target, "http://", 7) == 0) {
		target += 7;
		target += strcspn(target, "/?");
		if (*target != '/')
			return bad;	/* the one that proxies send has it */
	}
	target[strcspn(target, "?#")] = '\0';
	if (*target != '/')
		return bad;
	return strlcpy(path, target, HTTP_PATH) < HTTP_PATH ? NULL :
	    "414 URI Too Long";
}

/* `GET /status HTTP/1.1' */
static const char *
take_request(char *line, struct http_request *r, bool *host_needed)
{
	char *target = line + strspn(line, TOKEN), *version;

	if (target == line || *target != ' ')
		return bad;
	*target++ = '\0';
	version = target + strcspn(target, " \t");
	if (*version != ' ')
		return bad;
	*version++ = '\0';
	if (strncmp(version, "HTTP/", 5) != 0 || strlen(version) != 8 ||
	    strspn(version + 5, "0123456789") != 1 || version[6] != '.' ||
	    strspn(version + 7, "0123456789") != 1)
		return bad;
	if (version[5] != '1')
		return "505 HTTP Version Not Supported";
	*host_needed = version[7] != '0';
	r->get = strcmp(line, "GET") == 0;
	r->head = strcmp(line, "HEAD") == 0;
	return take_target(target, r->path);
}

const char *
http_parse(char *head, size_t size, struct http_request *r)
{
	char *end = head + size, *line = next_line(&head, end);
	bool host_needed = false;
	const char *wrong;
	size_t name;
	int hosts = 0;

	memset(r, 0, sizeof(*r));
	if (line != NULL && line[0] == '\0')	/* one is forgiven */
		line = next_line(&head, end);
	if (line == NULL)
		return bad;
	if ((wrong = take_request(line, r, &host_needed)) != NULL)
		return wrong;
	while ((line = next_line(&head, end)) != NULL && line[0] != '\0') {
		name = strspn(line, TOKEN);
		if (name == 0 || line[name] != ':')
			return bad;
		hosts += name == 4 && strncasecmp(line, "host", name) == 0;
	}
	if (line == NULL || hosts > 1 || (hosts == 0 && host_needed))
		return bad;
	return r->get || r->head ? NULL : "405 Method Not Allowed";
}

/* Whether an empty line, behind another one, is there. */
static bool
is_whole(const char *head, size_t size)
{
	const size_t forgiven = size > 0 && head[0] == '\n' ? 1 :
	    size > 1 && memcmp(head, "\r\n", 2) == 0 ? 2 : 0;

	head += forgiven;
	size -= forgiven;
	return memmem(head, size, "\n\n", 2) != NULL ||
	    memmem(head, size, "\n\r\n", 3) != NULL;
}

static void
limit(int64_t *at, int64_t until)
{
	if (*at == 0 || until < *at)
		*at = until;
}

bool
http_read(struct conn *c, struct http_request *r)
{
	const int64_t total_at = c->total_at;
	char head[HTTP_HEAD] = "";
	const char *wrong = NULL;
	size_t size = 0;
	ssize_t n;

	limit(&c->total_at, c->started + HEAD_TIME);
	while (wrong == NULL && !is_whole(head, size)) {
		n = conn_read(c, head + size, sizeof(head) - size);
		if (n <= 0)
			return false;
		size += (size_t)n;
		if (size == sizeof(head) && !is_whole(head, size))
			wrong = memchr(head, '\n', size) == NULL ?
			    "414 URI Too Long" :
			    "431 Request Header Fields Too Large";
	}
	c->total_at = total_at;
	limit(&c->total_at, clock_now() + ANSWER_TIME);
	memset(r, 0, sizeof(*r));
	if (wrong == NULL)
		wrong = http_parse(head, size, r);
	if (wrong != NULL)
		http_refuse(c, r, wrong);
	return wrong == NULL;
}

/* In one piece, so that no half of it waits for the client to say it has it. */
void
http_answer(struct conn *c, const struct http_request *r,
    const struct http_answer *a)
{
	char date[64], *text = NULL;
	time_t now = time(NULL);
	size_t size = 0;
	struct tm tm;
	FILE *out;

	if ((out = open_memstream(&text, &size)) == NULL)
		return;
	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT",
	    gmtime_r(&now, &tm));
	fprintf(out, "HTTP/1.1 %s\r\nDate: %s\r\nContent-Type: %s\r\n"
	    "Content-Length: %zu\r\nConnection: close\r\n"
	    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
	    "Referrer-Policy: no-referrer\r\n"
	    "Content-Security-Policy: default-src 'none'; "
	    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'%s\r\n"
	    "%s\r\n", a->status, date, a->type, a->size, a->policy,
	    strncmp(a->status, "405", 3) == 0 ? "Allow: GET, HEAD\r\n" : "");
	if (!r->head)
		fwrite(a->body, 1, a->size, out);
	if (fclose(out) == 0)
		conn_write(c, text, size);
	free(text);
}

void
http_refuse(struct conn *c, const struct http_request *r, const char *status)
{
	char body[64];
	const struct http_answer a = { .status = status,
	    .type = "text/plain; charset=utf-8", .policy = "", .body = body,
	    .size = (size_t)snprintf(body, sizeof(body), "%s\n", status) };

	http_answer(c, r, &a);
}
