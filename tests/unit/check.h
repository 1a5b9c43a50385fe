/*
 * check.h: for the unit programs that have CHECK().
 *
 * A test has a name and prints one line, `ok NAME' or `FAIL NAME: line N:
 * WHAT'; it goes on after a failure.
 */

#include <stdio.h>

#define CHECK(x)	((x) ? (void)0 : failed(#x, __LINE__))

static const char *test, *detail = "";	/* its name; to be shown as well */
static int failures, bad;

static inline void
failed(const char *what, int line)
{
	printf("FAIL %s: line %d: %s %s\n", test, line, what, detail);
	bad = 1;
}

/* The test is over. */
static inline void
done(void)
{
	if (!bad)
		printf("ok %s\n", test);
	failures += bad;
	bad = 0;
}

struct test {
	const char	*name;
	void		(*run)(void);
};

static inline void
run_all(const struct test *t, size_t n)
{
	for (; n > 0; t++, n--) {
		test = t->name;
		t->run();
		done();
	}
}
