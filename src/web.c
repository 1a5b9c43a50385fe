/*
 * web.c: the built-in services that speak HTTP: metrics for Prometheus, and
 * the status page for people, with what its script asks for.
 *
 * They have a pool of their own, like any service, and so answer when others
 * are full.  Each answer is made of a snapshot of its own, in memory, and sent
 * in one piece.
 */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define NONCE	33		/* 128 bits in hex, with NUL */

struct resource {
	const char	*path;		/* NULL: the end */
	const char	*type;
	void		(*write)(FILE *, const struct snapshot *);
};

static char nonce[NONCE];

/* A new one for each page. */
static int
make_nonce(void)
{
	unsigned char random[(NONCE - 1) / 2];
	size_t i;

	if (getentropy(random, sizeof(random)) == -1)
		return -1;
	for (i = 0; i < sizeof(random); i++)
		snprintf(nonce + 2 * i, 3, "%02x", random[i]);
	return 0;
}

static void
write_page(FILE *out, const struct snapshot *s)
{
	page_write(out, s, nonce);
}

static const struct resource metrics[] = {
	{ "/metrics", "text/plain; version=0.0.4; charset=utf-8",
	    metrics_write },
	{ NULL, NULL, NULL }
}, status[] = {
	{ "/", "text/html; charset=utf-8", write_page },
	{ "/status.json", "application/json", json_write },
	{ NULL, NULL, NULL }
};

/* Returns text to be freed, or NULL. */
static char *
make(const struct resource *resource, size_t *size)
{
	char error[CONF_ERROR_MAX], *text = NULL;
	struct snapshot s;
	FILE *out = NULL;

	if (view_take(&s, error) == -1)
		preforkd_log_warn("%s", error);
	else if ((out = open_memstream(&text, size)) != NULL)
		resource->write(out, &s);
	snapshot_free(&s);
	if (out == NULL || fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

static void
serve(struct conn *c, const struct resource *resource)
{
	char policy[160] = "", *text;
	struct http_request r;
	struct http_answer a = { .status = "200 OK", .policy = policy };

	if (!http_read(c, &r))
		return;
	while (resource->path != NULL && strcmp(resource->path, r.path) != 0)
		resource++;
	if (resource->path == NULL) {
		http_refuse(c, &r, "404 Not Found");
		return;
	}
	if (resource->write == write_page && make_nonce() == 0)
		snprintf(policy, sizeof(policy), "; connect-src 'self'; "
		    "img-src data:; script-src 'nonce-%s'; "
		    "style-src 'nonce-%s'", nonce, nonce);
	if ((text = make(resource, &a.size)) == NULL) {
		http_refuse(c, &r, "503 Service Unavailable");
		return;
	}
	a.type = resource->type;
	a.body = text;
	http_answer(c, &r, &a);
	free(text);
}

static void
serve_metrics(struct conn *c)
{
	serve(c, metrics);
}

static void
serve_status(struct conn *c)
{
	serve(c, status);
}

const struct preforkd_service metrics_service = {
	.abi = PREFORKD_ABI,
	.name = "metrics",
	.summary = "numbers for Prometheus at /metrics (HTTP)",
	.serve = serve_metrics
};

const struct preforkd_service status_service = {
	.abi = PREFORKD_ABI,
	.name = "status",
	.summary = "the status of this server as a page (HTTP)",
	.serve = serve_status
};
