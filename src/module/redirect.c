/*
 * redirect.c: a module that answers every HTTP request with a redirect, which
 * is all that port 80 is for where the site itself has TLS:
 *
 *	service web
 *	listen *:80
 *	module /usr/local/lib/preforkd/redirect.so https://www.example.org
 *
 * The new place is the URL of the configuration with the path and the query of
 * the request.  GET and HEAD get 301, other methods 308, which keeps method
 * and content; with -t before the URL 302 and 307, which nobody remembers.
 * One request a connection; RFC 9110 and 9112.  To build and install it:
 *
 *	cc -O2 -shared -fPIC $(pkg-config --cflags preforkd) \
 *	    -o redirect.so redirect.c
 *	cp redirect.so $(pkg-config --variable=moduledir preforkd)
 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <preforkd-module.h>

#define LINE	4096		/* what conn_line() takes, with NUL */
#define URL	1024		/* of the configuration, with NUL */
#define HEADERS	100		/* of a request */

#define ALNUM	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
#define TOKEN	ALNUM "!#$%&'*+-.^_`|~"
#define URI	ALNUM "-._~:/?[]@!$&'()*+,;=%"

static const char bad[] = "400 Bad Request", gone[] = "";

static const char *url;
static bool temporary;

static int
redirect_open(int argc, char *argv[])
{
	const char *host;

	temporary = argc > 1 && strcmp(argv[1], "-t") == 0;
	url = argv[argc - 1];
	host = url + strcspn(url, ":");
	if (argc != (temporary ? 3 : 2))
		return preforkd_error("must have a URL, or -t and a URL");
	if ((strncmp(url, "http://", 7) != 0 &&
	    strncmp(url, "https://", 8) != 0) || host[3] == '/' ||
	    strlen(url) >= URL || url[strspn(url, URI)] != '\0' ||
	    strchr(url, '?') != NULL || url[strlen(url) - 1] == '/')
		return preforkd_error("%s: must be http:// or https://, a "
		    "host, and perhaps a path, without a / at the end", url);
	return 0;
}

/* Returns NULL, gone, or the status that it is answered with. */
static const char *
read_line(struct conn *c, char line[LINE], const char *too_long)
{
	ssize_t n;

	if ((n = conn_line(c, line, LINE)) == -1)
		return errno == EMSGSIZE ? too_long : gone;
	return strlen(line) == (size_t)n ? NULL : bad;
}

/* Cut a request line into method, target and version. */
static const char *
parse(char *line, char **target, char **version)
{
	*target = line + strspn(line, TOKEN);
	if (*target == line || **target != ' ')
		return bad;
	*(*target)++ = '\0';
	*version = *target + strcspn(*target, " ");
	if (**version != ' ')
		return bad;
	*(*version)++ = '\0';
	if (strncmp(*version, "HTTP/", 5) != 0 || strlen(*version) != 8 ||
	    strspn(*version + 5, "0123456789.") != 3)
		return bad;
	if (strncasecmp(*target, "http://", 7) == 0) {
		*target += 7;
		*target += strcspn(*target, "/?");
	} else if (**target != '/')
		return bad;		/* OPTIONS *, CONNECT host:port */
	return strncmp(*version, "HTTP/1.", 7) == 0 ? NULL :
	    "505 HTTP Version Not Supported";
}

static const char *
read_headers(struct conn *c, bool host_needed)
{
	static const char too_large[] = "431 Request Header Fields Too Large";
	char line[LINE];
	const char *status;
	size_t name;
	int n, hosts = 0;

	for (n = 0; n < HEADERS; n++) {
		if ((status = read_line(c, line, too_large)) != NULL)
			return status;
		if (line[0] == '\0')
			return hosts == 1 || (hosts == 0 && !host_needed) ?
			    NULL : bad;
		name = strspn(line, TOKEN);
		if (name == 0 || line[name] != ':')
			return bad;
		hosts += name == 4 && strncasecmp(line, "host", name) == 0;
	}
	return too_large;
}

/* What is no part of a URL becomes %XX; control characters are refused. */
static const char *
locate(char place[URL + LINE * 3], const char *target)
{
	char *p = stpcpy(place, url);

	for (; *target != '\0'; target++) {
		if ((unsigned char)*target < ' ' || *target == 0x7f)
			return bad;
		if (strchr(URI, *target) != NULL)
			*p++ = *target;
		else
			p += sprintf(p, "%%%02X", (unsigned char)*target);
	}
	*p = '\0';
	return NULL;
}

static void
answer(struct conn *c, const char *status, const char *place)
{
	char text[URL + LINE * 3 + 256], date[64];
	time_t now = time(NULL);
	struct tm tm;

	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT",
	    gmtime_r(&now, &tm));
	conn_write(c, text, (size_t)snprintf(text, sizeof(text),
	    "HTTP/1.1 %s\r\nDate: %s\r\n%s%s%sContent-Length: 0\r\n"
	    "Connection: close\r\n\r\n", status, date,
	    place[0] != '\0' ? "Location: " : "", place,
	    place[0] != '\0' ? "\r\n" : ""));
}

static void
serve(struct conn *c)
{
	char line[LINE], place[URL + LINE * 3], *target, *version;
	const char *status;
	bool get;

	place[0] = '\0';
	status = read_line(c, line, "414 URI Too Long");
	if (status == NULL && line[0] == '\0')	/* one is forgiven */
		status = read_line(c, line, "414 URI Too Long");
	if (status == NULL)
		status = parse(line, &target, &version);
	if (status == NULL)
		status = read_headers(c, strcmp(version, "HTTP/1.0") != 0);
	if (status == NULL)
		status = locate(place, target);
	if (status == gone)
		return;
	if (status != NULL) {
		answer(c, status, "");
		return;
	}
	get = strcmp(line, "GET") == 0 || strcmp(line, "HEAD") == 0;
	if (temporary)
		status = get ? "302 Found" : "307 Temporary Redirect";
	else
		status = get ? "301 Moved Permanently" :
		    "308 Permanent Redirect";
	answer(c, status, place);
}

const struct preforkd_service preforkd_module = {
	.abi = PREFORKD_ABI,
	.name = "redirect",
	.summary = "redirect HTTP clients to another URL",
	.open = redirect_open,
	.serve = serve
};
