/*
 * clock.c: the one clock that times are compared on.  It never jumps, and it
 * stands for the same moment in every process of this machine.  Times for
 * people come from time(3), where they are printed.
 */

#include <time.h>

#include "preforkd.h"

int64_t
clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}
