/*
 * cells.c: whether the table of sources agrees with the slots: what workers
 * hold there against the clients that they serve.
 *
 *	cells PATH.slots
 *
 * Prints one line of key=value:
 *
 *	sources=N	entries that have a cell taken
 *	cells=N		cells that are taken, each for a connection
 *	clients=N	workers that serve a client of IPv4 or IPv6
 *	stray=N		cells that name a worker that serves none
 *	twice=N		cells that name a worker that another cell names
 *
 * The status is 0 when cells and clients agree, one for each.  It only means
 * something while nobody comes or goes.
 */

#include <sys/mman.h>
#include <sys/stat.h>

#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../src/preforkd.h"

static unsigned int sources, taken, clients, stray, twice;

static const struct commons *
map_commons(const char *path)
{
	struct stat st;
	void *p;
	int fd;

	if ((fd = open(path, O_RDONLY)) == -1 || fstat(fd, &st) == -1)
		err(2, "%s", path);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		err(2, "mmap");
	close(fd);
	return p;
}

static bool
serves(const struct slot *s)
{
	const uint32_t state = atomic_load(&s->state);
	const uint32_t family = atomic_load(&s->peer_family);

	return (state == SLOT_BUSY || state == SLOT_DRAINING) &&
	    (family == AF_INET || family == AF_INET6);
}

static unsigned int
count_cells(const struct commons *c, const struct source *s, bool *named)
{
	unsigned int here = 0;
	uint16_t owner;
	int i;

	for (i = 0; i < SOURCE_CELLS; i++) {
		if ((owner = atomic_load(&s->cell[i])) == 0)
			continue;
		here++;
		if (owner > c->nslots || !serves(&c->slot[owner - 1]))
			stray++;
		else if (named[owner - 1])
			twice++;
		else
			named[owner - 1] = true;
	}
	return here;
}

int
main(int argc, char *argv[])
{
	const struct commons *c;
	unsigned int here;
	uint32_t i;
	bool *named;

	if (argc != 2)
		errx(2, "usage: cells PATH.slots");
	c = map_commons(argv[1]);
	if ((named = calloc(c->nslots, sizeof(*named))) == NULL)
		err(2, NULL);
	for (i = 0; i < SOURCES; i++) {
		here = count_cells(c, &c->source[i], named);
		sources += here > 0;
		taken += here;
	}
	for (i = 0; i < c->nslots; i++)
		clients += serves(&c->slot[i]);
	printf("sources=%u cells=%u clients=%u stray=%u twice=%u\n", sources,
	    taken, clients, stray, twice);
	free(named);
	return stray + twice > 0 || taken != clients;
}
