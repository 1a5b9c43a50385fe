/*
 * proxyproto.c: whatever a client sends first, it is wrong, or a header of a
 * size that makes sense; and what it is does not depend on how much of it, or
 * of what follows, is there.
 */

#include <sys/socket.h>

#include <netinet/in.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/preforkd.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* A copy that ends where it says, for the sanitizers. */
static enum proxy_answer
parse(const uint8_t *data, size_t n, struct proxy_header *h)
{
	char *copy = malloc(n > 0 ? n : 1);
	enum proxy_answer answer;

	if (copy == NULL)
		abort();
	if (n > 0)
		memcpy(copy, data, n);
	answer = proxy_parse(copy, n, h);
	free(copy);
	return answer;
}

static void
check_header(const struct proxy_header *h)
{
	const int peer = h->peer.ss.ss_family, local = h->local.ss.ss_family;

	if (h->size < 15 || h->size > 16 + 65535)
		abort();
	if (h->told && ((peer != AF_INET && peer != AF_INET6) ||
	    (local != AF_INET && local != AF_INET6)))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_header whole, part;
	enum proxy_answer answer = parse(data, size, &whole), before;
	size_t n;

	if (answer == PROXY_DONE)
		check_header(&whole);
	if (answer == PROXY_MORE && size >= PROXY_HEAD)
		abort();
	for (n = 0; n < size && n <= PROXY_HEAD; n++) {
		before = parse(data, n, &part);
		if (before == PROXY_MORE)
			continue;
		if (before != answer || (answer == PROXY_DONE &&
		    memcmp(&whole, &part, sizeof(whole)) != 0))
			abort();
	}
	return 0;
}
