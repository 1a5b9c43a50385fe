/*
 * hostile.c: a module that misbehaves as it is told.
 *
 *	module hostile.so PHASE DEED [ARGUMENT]
 *
 * does so in that phase: open, start, stop or close; and `mark FILE' writes
 * down each phase that it comes through.  A client's line `DEED ARGUMENT' has
 * it done to that client, `later DEED' when its worker leaves; the reply before
 * it is the pid.
 */

#include <sys/mman.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <preforkd-module.h>

#define LINE	2048

static const char *phase = "", *deed = "", *argument = "";
static char later[LINE];

/* Each page is written to, or it were none. */
static void
leak(void)
{
	const size_t size = 1 << 20;
	char *p;

	while ((p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE |
	    MAP_ANONYMOUS, -1, 0)) != MAP_FAILED)
		memset(p, 1, size);
	abort();
}

static int
do_it(const char *what, const char *how)
{
	volatile int *volatile nowhere = NULL;
	int n = 0;

	if (strcmp(what, "crash") == 0)
		*nowhere = 1;
	if (strcmp(what, "abort") == 0)
		abort();
	if (strcmp(what, "exit") == 0)
		exit(atoi(how));
	if (strcmp(what, "leak") == 0)
		leak();
	while (strcmp(what, "spin") == 0)
		continue;
	while (strcmp(what, "hang") == 0)
		pause();
	while (strcmp(what, "shut") == 0)
		close(n < 1024 ? n++ : pause());
	if (strcmp(what, "fork") == 0 && fork() == 0)
		for (;;)
			pause();
	if (strcmp(what, "pipe") == 0)
		raise(SIGPIPE);
	if (strcmp(what, "say") == 0)
		preforkd_log_info("%s", how);
	if (strcmp(what, "warn") == 0)
		preforkd_log_warn("%s", how);
	if (strcmp(what, "error") == 0)
		return preforkd_error("%s", how);
	return strcmp(what, "fail") == 0 ? -1 : 0;
}

/* As one write, for others do the same. */
static void
mark(const char *name)
{
	char line[64];
	int fd, n;

	if ((fd = open(deed, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
	    0644)) == -1)
		return;
	n = snprintf(line, sizeof(line), "%ld %s\n", (long)getpid(), name);
	if (write(fd, line, (size_t)n) == -1)
		abort();
	close(fd);
}

static int
enter(const char *name)
{
	if (strcmp(phase, "mark") == 0)
		mark(name);
	return strcmp(phase, name) == 0 ? do_it(deed, argument) : 0;
}

static int
hostile_open(int argc, char *argv[])
{
	phase = argc > 1 ? argv[1] : "";
	deed = argc > 2 ? argv[2] : "";
	argument = argc > 3 ? argv[3] : "";
	if (argv[argc] != NULL)
		abort();
	return enter("open");
}

static int
start(void)
{
	return enter("start");
}

static void
serve(struct conn *c)
{
	char line[LINE], *rest;

	enter("serve");
	conn_printf(c, "pid %ld\n", (long)getpid());
	if (conn_line(c, line, sizeof(line)) < 0)
		return;
	if ((rest = strchr(line, ' ')) == NULL)
		rest = line + strlen(line);
	else
		*rest++ = '\0';
	if (strcmp(line, "later") == 0) {
		phase = "stop";
		strcpy(later, rest);
		deed = later;
	} else
		do_it(line, rest);
	conn_printf(c, "over\n");
}

static void
stop(void)
{
	enter("stop");
}

static void
hostile_close(void)
{
	enter("close");
}

const struct preforkd_service preforkd_module = {
	.abi = PREFORKD_ABI,
	.name = "hostile",
	.summary = "do what the client says",
	.open = hostile_open,
	.start = start,
	.serve = serve,
	.stop = stop,
	.close = hostile_close
};
