/*
 * guard.c: to be preloaded: aborts when memory, stdio, syslog or the calendar
 * is asked for while a signal handler runs.
 *
 * Handlers that sigaction(2) installs run inside one of ours, which counts them
 * in the file GUARD_RUNS, of 4 bytes, for all processes.  With GUARD_CONTROL
 * that one asks for memory by itself, to show that somebody looks.
 */
#define _GNU_SOURCE

#include <sys/mman.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/* What the C library has behind these names. */
void	*__libc_malloc(size_t);
void	*__libc_calloc(size_t, size_t);
void	*__libc_realloc(void *, size_t);
void	 __libc_free(void *);
int	 __fprintf_chk(FILE *, int, const char *, ...);
int	 __vsnprintf_chk(char *, size_t, int, size_t, const char *, va_list);

static volatile sig_atomic_t depth;
static void (*handler[NSIG])(int);
static int (*next_sigaction)(int, const struct sigaction *,
    struct sigaction *);
static int (*next_vsnprintf)(char *, size_t, int, size_t, const char *,
    va_list);
static size_t (*next_fwrite)(const void *, size_t, size_t, FILE *);
static int (*next_fputs)(const char *, FILE *);
static struct tm *(*next_gmtime_r)(const time_t *, struct tm *);
static struct tm *(*next_localtime_r)(const time_t *, struct tm *);
static _Atomic unsigned int *runs;
static int control;

static void
watch(const char *call)
{
	if (depth == 0)
		return;
	depth = 0;
	if (write(2, call, strlen(call)) == -1 ||
	    write(2, " in a handler\n", 14) == -1)
		_exit(1);
	abort();
}

static void
watched(int sig)
{
	depth++;
	if (control)
		free(malloc(1));
	handler[sig](sig);
	depth--;
	if (runs != NULL)
		atomic_fetch_add(runs, 1);
}

int
sigaction(int sig, const struct sigaction *new, struct sigaction *old)
{
	struct sigaction ours;

	if (new == NULL || new->sa_handler == SIG_IGN ||
	    new->sa_handler == SIG_DFL)
		return next_sigaction(sig, new, old);
	handler[sig] = new->sa_handler;
	ours = *new;
	ours.sa_handler = watched;
	return next_sigaction(sig, &ours, old);
}

void *
malloc(size_t size)
{
	watch("malloc");
	return __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	watch("calloc");
	return __libc_calloc(n, size);
}

void *
realloc(void *p, size_t size)
{
	watch("realloc");
	return __libc_realloc(p, size);
}

void
free(void *p)
{
	watch("free");
	__libc_free(p);
}

int
__fprintf_chk(FILE *out, int flag, const char *format, ...)
{
	va_list ap;
	int n;

	(void)flag;
	watch("fprintf");
	va_start(ap, format);
	n = vfprintf(out, format, ap);
	va_end(ap);
	return n;
}

int
__vsnprintf_chk(char *to, size_t size, int flag, size_t room,
    const char *format, va_list ap)
{
	watch("vsnprintf");
	return next_vsnprintf(to, size, flag, room, format, ap);
}

size_t
fwrite(const void *from, size_t size, size_t n, FILE *out)
{
	watch("fwrite");
	return next_fwrite(from, size, n, out);
}

int
fputs(const char *text, FILE *out)
{
	watch("fputs");
	return next_fputs(text, out);
}

void
syslog(int priority, const char *format, ...)
{
	va_list ap;

	watch("syslog");
	va_start(ap, format);
	vsyslog(priority, format, ap);
	va_end(ap);
}

struct tm *
gmtime_r(const time_t *t, struct tm *tm)
{
	watch("gmtime_r");
	return next_gmtime_r(t, tm);
}

struct tm *
localtime_r(const time_t *t, struct tm *tm)
{
	watch("localtime_r");
	return next_localtime_r(t, tm);
}

/* A function by the name that it has in the next library. */
#define NEXT(name, symbol)						\
	do {								\
		void *found = dlsym(RTLD_NEXT, symbol);			\
		memcpy(&(name), &found, sizeof(found));			\
	} while (0)

__attribute__((constructor))
static void
begin(void)
{
	const char *path = getenv("GUARD_RUNS");
	int fd;

	NEXT(next_sigaction, "sigaction");
	NEXT(next_vsnprintf, "__vsnprintf_chk");
	NEXT(next_fwrite, "fwrite");
	NEXT(next_fputs, "fputs");
	NEXT(next_gmtime_r, "gmtime_r");
	NEXT(next_localtime_r, "localtime_r");
	control = getenv("GUARD_CONTROL") != NULL;
	if (path == NULL || (fd = open(path, O_RDWR | O_CLOEXEC)) == -1)
		return;
	runs = mmap(NULL, sizeof(*runs), PROT_READ | PROT_WRITE, MAP_SHARED,
	    fd, 0);
	if (runs == MAP_FAILED)
		runs = NULL;
	close(fd);
}
