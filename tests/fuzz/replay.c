/*
 * replay.c: files through a target of libFuzzer, without it: the corpus, in
 * `make check', and what a run of `make fuzz' has left to look at.
 */

#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
replay(const char *path)
{
	uint8_t *data = NULL;
	size_t room = 0, size = 0;
	FILE *in;
	int c;

	if ((in = fopen(path, "r")) == NULL)
		err(1, "%s", path);
	while ((c = getc(in)) != EOF) {
		if (size == room && (data = realloc(data,
		    room = room * 2 + 4096)) == NULL)
			err(1, "realloc");
		data[size++] = (uint8_t)c;
	}
	fclose(in);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
}

int
main(int argc, char *argv[])
{
	int i;

	for (i = 1; i < argc; i++)
		replay(argv[i]);
	printf("%d replayed\n", argc - 1);
	return 0;
}
