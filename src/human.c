/*
 * human.c: durations, sizes and counts as people like to read them.
 *
 * Only on a terminal: what a program reads is exact, and always in the same
 * unit.  Each fills a buffer of HUMAN_TEXT bytes and returns it.
 */

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

bool
human_is_on(void)
{
	static int on = -1;

	if (on == -1)
		on = isatty(STDOUT_FILENO);
	return on;
}

char *
human_time(char buf[HUMAN_TEXT], int64_t ms)
{
	const long long s = ms / 1000;

	if (!human_is_on())
		snprintf(buf, HUMAN_TEXT, "%lld", s);
	else if (s < 60)
		snprintf(buf, HUMAN_TEXT, "%llds", s);
	else if (s < 3600)
		snprintf(buf, HUMAN_TEXT, "%lldm%02llds", s / 60, s % 60);
	else if (s < 86400)
		snprintf(buf, HUMAN_TEXT, "%lldh%02lldm", s / 3600,
		    s / 60 % 60);
	else
		snprintf(buf, HUMAN_TEXT, "%lldd%02lldh", s / 86400,
		    s / 3600 % 24);
	return buf;
}

/* Else: seconds, too. */
static char *
microseconds(char buf[HUMAN_TEXT], int64_t us)
{
	if (!human_is_on())
		snprintf(buf, HUMAN_TEXT, "%" PRId64 ".%06d", us / 1000000,
		    (int)(us % 1000000));
	else if (us < 1000)
		snprintf(buf, HUMAN_TEXT, "%" PRId64 "us", us);
	else if (us < 1000000)
		snprintf(buf, HUMAN_TEXT, "%.3gms", (double)us / 1e3);
	else if (us < 60000000)
		snprintf(buf, HUMAN_TEXT, "%.3gs", (double)us / 1e6);
	else
		human_time(buf, us / 1000);
	return buf;
}

uint64_t
human_grown(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0;
}

char *
human_mean(char buf[HUMAN_TEXT], const uint64_t *from, const uint64_t *to)
{
	uint64_t n = 0;
	int i;

	for (i = 1; i <= HISTOGRAM_BOUNDS + 1; i++)
		n += human_grown(from[i], to[i]);
	if (n == 0)
		strlcpy(buf, "-", HUMAN_TEXT);
	else
		microseconds(buf, (int64_t)(human_grown(from[0], to[0]) / n));
	return buf;
}

/* From a number on, three digits and the unit. */
static char *
scaled(char buf[HUMAN_TEXT], uint64_t n, uint64_t from, unsigned int step)
{
	static const char unit[] = " kMGTPE";
	double value = (double)n;
	int i = 0;

	if (!human_is_on() || n < from) {
		snprintf(buf, HUMAN_TEXT, "%" PRIu64, n);
		return buf;
	}
	for (; value >= 999.5 && unit[i + 1] != '\0'; i++)
		value /= step;
	snprintf(buf, HUMAN_TEXT, value < 9.995 ? "%.2f%c" : value < 99.95 ?
	    "%.1f%c" : "%.0f%c", value, unit[i]);
	return buf;
}

char *
human_count(char buf[HUMAN_TEXT], uint64_t n)
{
	return scaled(buf, n, 10000, 1000);
}

char *
human_size(char buf[HUMAN_TEXT], uint64_t bytes)
{
	return scaled(buf, bytes, 1000, 1024);
}

char *
human_kilobytes(char buf[HUMAN_TEXT], int64_t bytes)
{
	if (human_is_on())
		return human_size(buf, (uint64_t)bytes);
	snprintf(buf, HUMAN_TEXT, "%" PRId64, bytes / 1024);
	return buf;
}
