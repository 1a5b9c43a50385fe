/*
 * view.c: this server, as seen by those of its workers that tell of it.
 *
 * A worker has all of the scoreboard mapped.  These take a copy of it, by
 * snapshot.c, and believe in it as little as preforkctl(8) does.  It works
 * whatever state the other pools are in, and asks the master for nothing.
 *
 * A status that is being written at the moment is waited for, up to 50 ms: a
 * master that is interrupted half-way must not cost an answer.
 */

#include <poll.h>

#include "preforkd.h"

#define VIEW_TRIES	50		/* 1 ms apart */

static HOT const struct worker *self;

void
view_start(const struct worker *w)
{
	self = w;
}

const char *
view_about(void)
{
	return self->conf->run.about;
}

int
view_take(struct snapshot *s, char error[CONF_ERROR_MAX])
{
	int i;

	snapshot_attach(s, self->board);
	for (i = 0; snapshot_read(s, error) == -1 ||
	    snapshot_read_slots(s, error) == -1; i++) {
		if (i == VIEW_TRIES)
			return -1;
		poll(NULL, 0, 1);
	}
	return 0;
}
