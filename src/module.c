/*
 * module.c: a service in the process that serves it: a shared object is
 * loaded and looked at, then it or a built-in service is opened and started;
 * at the end it is stopped and closed.
 *
 * Called by workers, and by the throw-away child of trial.c, when privileges
 * are dropped; never by the master, where a file that is replaced in place
 * would be a SIGBUS.  Also what a service may say: to whoever reads the
 * configuration, and to the log.
 *
 * dlopen(3) itself may crash over a file that is broken well enough; a trial
 * finds that out.  Nothing is unloaded: the process ends.
 */

#include <sys/types.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define SYMBOL		"preforkd_module"
#define WRONG_TEXT	401		/* bytes of preforkd_error(), and ... */
#define LOG_TEXT	1024		/* ... of a line, with NUL */

static const struct conf_service *conf;
static char wrong[WRONG_TEXT];

int
preforkd_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(wrong, sizeof(wrong), fmt, ap);
	va_end(ap);
	return -1;
}

__attribute__((__format__(printf, 2, 0)))
static const char *
quote(char quoted[LOG_TEXT * 4], const char *fmt, va_list ap)
{
	char text[LOG_TEXT] = "";

	vsnprintf(text, sizeof(text), fmt, ap);
	return log_quote(quoted, LOG_TEXT * 4, text, strlen(text));
}

void
preforkd_log_info(const char *fmt, ...)
{
	char text[LOG_TEXT * 4];
	va_list ap;

	va_start(ap, fmt);
	log_info("said service=%s text=\"%s\"", conf->name,
	    quote(text, fmt, ap));
	va_end(ap);
}

void
preforkd_log_warn(const char *fmt, ...)
{
	char text[LOG_TEXT * 4];
	va_list ap;

	va_start(ap, fmt);
	log_warnx("said service=%s text=\"%s\"", conf->name,
	    quote(text, fmt, ap));
	va_end(ap);
}

#ifdef HAVE_MODULES
extern const ElfW(Ehdr) __ehdr_start;	/* of this program, by the linker */

/* What dlopen(3) would wait for, or not say. */
static int
look_at(const char *path)
{
	ElfW(Ehdr) head;
	ssize_t n;
	int fd;

	if ((fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) == -1)
		return preforkd_error("%s", strerror(errno));
	n = read(fd, &head, sizeof(head));
	close(fd);
	if (n != sizeof(head) ||
	    memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
		return preforkd_error("must be a shared object");
	if (memcmp(head.e_ident, __ehdr_start.e_ident, EI_VERSION) != 0 ||
	    head.e_machine != __ehdr_start.e_machine)
		return preforkd_error("must be for this kind of machine");
	return 0;
}

/* The reason of dlerror(3) without the name of the file. */
static const struct preforkd_service *
cannot_load(const char *path)
{
	const char *why = dlerror();
	const size_t len = strlen(path);

	if (why == NULL)
		why = "its " SYMBOL " is nowhere";
	if (strncmp(why, path, len) == 0 && strncmp(why + len, ": ", 2) == 0)
		why += len + 2;
	preforkd_error("%s", why);
	return NULL;
}

static const struct preforkd_service *
load(const char *path)
{
	const struct preforkd_service *service;
	void *object;

	if (look_at(path) == -1)
		return NULL;
	if ((object = dlopen(path, RTLD_NOW | RTLD_LOCAL)) == NULL ||
	    (service = dlsym(object, SYMBOL)) == NULL)
		return cannot_load(path);
	if (service->abi != PREFORKD_ABI) {
		preforkd_error("built for ABI %u.%u: must be for %u.%u, as in "
		    "the preforkd-module.h of this version",
		    service->abi >> 16, service->abi & 0xffff,
		    PREFORKD_ABI >> 16, PREFORKD_ABI & 0xffff);
		return NULL;
	}
	if (service->serve == NULL) {
		preforkd_error("must have a serve function");
		return NULL;
	}
	return service;
}
#else
static const struct preforkd_service *
load(const char *path)
{
	(void)path;
	preforkd_error("not available here: preforkd is linked statically");
	return NULL;
}
#endif

static int
open_module(const struct preforkd_service *service, char *argv[])
{
	int argc = 0;

	while (argv[argc] != NULL)
		argc++;
	if (service->open != NULL)
		return service->open(argc, argv);
	return argc == 1 ? 0 : preforkd_error("takes no argument");
}

const char *
module_enter(const struct conf_service *c,
    const struct preforkd_service **service)
{
	const struct preforkd_service *s = c->run.service;

	conf = c;
	if (c->kind == CONF_MODULE) {
		if ((s = load(c->command[CONF_MODULE][0])) == NULL)
			return wrong;
		strlcpy(wrong, "its open function failed", sizeof(wrong));
		if (open_module(s, c->command[CONF_MODULE]) == -1)
			return wrong;
	}
	strlcpy(wrong, "its start function failed", sizeof(wrong));
	if (s->start != NULL && s->start() == -1)
		return wrong;
	*service = s;
	return NULL;
}

void
module_leave(const struct preforkd_service *service, unsigned int seconds)
{
	unsigned int left;

	if (service->stop == NULL && service->close == NULL)
		return;
	if ((left = alarm(seconds)) != 0)
		alarm(left);		/* an orphan's: it goes on */
	if (service->stop != NULL)
		service->stop();
	if (service->close != NULL)
		service->close();
}
