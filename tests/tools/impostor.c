/*
 * impostor.c: a program in the place of preforkd that is none.  What it does
 * when it is started is in the file that the variable IMPOSTOR names:
 *
 *	exit N		ends with this status
 *	say N TEXT	the same, with a line on standard error before
 *	signal N	dies of it
 *	hang		does nothing, for ever
 *	flood		writes without an end
 *	keep FILE	copies what it is to read (descriptor 7) there
 *	pretend		says that all is well, with settings that are none
 *	arguments FILE	writes its own there, one a line
 */

#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
keep(const char *path)
{
	char buf[4096];
	ssize_t n;
	FILE *out;
	off_t at = 0;

	if ((out = fopen(path, "w")) == NULL)
		err(1, "%s", path);
	while ((n = pread(7, buf, sizeof(buf), at)) > 0) {
		fwrite(buf, 1, (size_t)n, out);
		at += n;
	}
	if (fclose(out) != 0)
		err(1, "%s", path);
}

static void
list(const char *path, char *argv[])
{
	FILE *out;

	if ((out = fopen(path, "w")) == NULL)
		err(1, "%s", path);
	for (argv++; *argv != NULL; argv++)
		fprintf(out, "%s\n", *argv);
	fclose(out);
}

static void
act(const char *word, const char *rest, char *argv[])
{
	const int n = atoi(rest);

	if (strcmp(word, "say") == 0)
		fprintf(stderr, "%s\n", strchr(rest, ' ') + 1);
	if (strcmp(word, "signal") == 0) {
		signal(n, SIG_DFL);
		raise(n);
	}
	while (strcmp(word, "hang") == 0)
		pause();
	while (strcmp(word, "flood") == 0)
		puts("all work and no play");
	if (strcmp(word, "keep") == 0)
		keep(rest);
	if (strcmp(word, "arguments") == 0)
		list(rest, argv);
	if (strcmp(word, "pretend") == 0)
		printf("# preforkd that reads the state: 9\n%s\n"
		    "# end of what it would serve\n", rest);
	fflush(stdout);
	_exit(n);
}

int
main(int argc, char *argv[])
{
	const char *path = getenv("IMPOSTOR");
	char line[256], *rest;
	FILE *in;

	if (argc < 1 || path == NULL || (in = fopen(path, "r")) == NULL ||
	    fgets(line, sizeof(line), in) == NULL)
		errx(1, "nothing to do");
	line[strcspn(line, "\n")] = '\0';
	rest = line + strcspn(line, " ");
	if (*rest != '\0')
		*rest++ = '\0';
	act(line, rest, argv);
}
