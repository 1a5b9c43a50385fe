/*
 * clock.c: the one clock that deadlines are counted in.  It is not set, does
 * not jump and costs no system call.
 */

#include <time.h>

#include "preforkd.h"

int64_t
clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
clock_now(void)
{
	return clock_us() / 1000;
}
