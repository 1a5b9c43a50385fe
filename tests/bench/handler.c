/*
 * handler.c: the program behind every server of the exec benchmarks.
 *
 *	handler			greets, takes one byte, ends
 *	handler MEGABYTES	sends so many, ends
 *
 * Built twice, linked dynamically and statically: the one is what most
 * programs are, the other shows what the server adds.  It uses nothing that
 * would have to be set up.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char greeting[] =
    "Welcome ! You have connected to 127.0.0.1 on port 8001\r\n"
    "You are client #100000 to connect to this server !\r\n"
    "Please press any key in your console, after that this server socket "
    "will close\r\n";

static char block[65536];

static int
bulk(long megabytes)
{
	long left = megabytes * 1000000;
	ssize_t n;

	memset(block, 'x', sizeof(block));
	for (; left > 0; left -= n) {
		n = write(1, block, left < (long)sizeof(block) ?
		    (size_t)left : sizeof(block));
		if (n == -1)
			return 1;
	}
	return 0;
}

int
main(int argc, char *argv[])
{
	char byte;

	if (argc > 1)
		return bulk(atol(argv[1]));
	if (write(1, greeting, sizeof(greeting) - 1) == -1)
		return 1;
	return read(0, &byte, 1) == 1 ? 0 : 1;
}
