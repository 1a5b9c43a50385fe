/*
 * notify.c: what a supervisor is told, by the protocol of sd_notify(3).
 *
 * Owns NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID: reads them once and
 * takes them out of the environment, where no service is to find them.  Called
 * by the master, once a pass: it compares what is with what it has said last,
 * and says the difference in one datagram.  It never waits and never fails:
 * when the supervisor is slow, it tries again in a second; a message that
 * cannot be sent at all is logged once and lost.
 *
 * Counts are told when they have changed, and at most once a second, so an
 * idle server is silent; with a watchdog it is not, as it has been asked.
 */

#include <sys/types.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define STATUS_EVERY	1000		/* ms */
#define RETRY		1000
#define EXTEND_EVERY	5000		/* while draining, by ... */
#define EXTEND_USEC	"15000000"	/* ... so many microseconds */
#define TEXT		512

static struct sockaddr_un where;
static socklen_t where_len;		/* 0: nobody wants to know */
static int64_t watchdog;		/* ms between signs of life; 0: none */

/* What was told. */
struct told {
	bool		 ready, reloading, stopping;
	uint32_t	 reloads;	/* begun so far */
	int64_t		 watchdog_at;	/* due again */
	int64_t		 extend_at;
	int64_t		 status_at;
	char		 status[TEXT / 2];
};

static struct told told;
static int64_t retry_at;		/* ms; 0: all was sent */
static bool failure_said;

static void
set_address(const char *text)
{
	size_t len = strlen(text);

	if ((text[0] != '/' && text[0] != '@') || len < 2 ||
	    len >= sizeof(where.sun_path)) {
		log_warnx("NOTIFY_SOCKET: must be an absolute path or @NAME");
		return;
	}
	where.sun_family = AF_UNIX;
	memcpy(where.sun_path, text, len);
	if (text[0] == '@')
		where.sun_path[0] = '\0';
	else
		len++;			/* the NUL */
	where_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

void
notify_take(void)
{
	const char *address = getenv("NOTIFY_SOCKET");
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");
	int64_t n, number;

	if (address != NULL)
		set_address(address);
	if (usec != NULL && parse_number(usec, 1, INT64_MAX, &n) &&
	    (pid == NULL || (parse_number(pid, 1, INT_MAX, &number) &&
	    number == getpid())))
		watchdog = n < 2000 ? 1 : n / 2000;
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

__attribute__((__format__(printf, 2, 3)))
static void
say(char text[TEXT], const char *fmt, ...)
{
	size_t used = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + used, TEXT - used, fmt, ap);
	va_end(ap);
}

static void
say_ready(const struct master *m, struct told *t, char *text)
{
	uint32_t reloads = m->board.status->reloads_begun;
	bool idle = m->reload.state == RELOAD_IDLE;

	if (!t->ready) {
		say(text, "READY=1\nMAINPID=%ld\n", (long)getpid());
		t->ready = true;
		t->reloads = reloads;
	} else if (reloads != t->reloads) {
		say(text, "RELOADING=1\nMONOTONIC_USEC=%lld\n",
		    (long long)clock_us());
		t->reloading = true;
		t->reloads = reloads;
	} else if (t->reloading && idle) {
		say(text, "READY=1\n");
		t->reloading = false;
	}
}

static void
say_state(struct master *m, struct told *t, char *text)
{
	if (m->state == MASTER_RUNNING)
		say_ready(m, t, text);
	else if (m->state >= MASTER_DRAINING && !t->stopping) {
		say(text, "STOPPING=1\n");
		t->stopping = true;
	}
	/* A reload may end in the pass in which it begins. */
	if (t->reloading && m->reload.state == RELOAD_IDLE)
		master_wake_at(m, m->now);
	if (m->state == MASTER_DRAINING && m->now >= t->extend_at) {
		say(text, "EXTEND_TIMEOUT_USEC=" EXTEND_USEC "\n");
		t->extend_at = m->now + EXTEND_EVERY;
	}
	if (m->state == MASTER_DRAINING)
		master_wake_at(m, t->extend_at);
	if (watchdog != 0 && m->now >= t->watchdog_at) {
		say(text, "WATCHDOG=1\n");
		t->watchdog_at = m->now + watchdog;
	}
	if (watchdog != 0)
		master_wake_at(m, t->watchdog_at);
}

static void
say_status(struct master *m, struct told *t, char *text)
{
	char status[sizeof(t->status)];
	const struct listener *l;
	const struct pool *p;
	int idle = 0, queued = 0;

	TAILQ_FOREACH(p, &m->pools, entry)
		idle += p->counts.idle;
	TAILQ_FOREACH(l, &m->listeners, entry)
		queued += l->waiting;
	snprintf(status, sizeof(status), "%s: %d workers busy, %d idle, "
	    "%d clients queued, %llu so far", master_state_name(m->state),
	    m->busy, idle, queued,
	    (unsigned long long)atomic_load(m->board.counter));
	if (strcmp(status, t->status) == 0)
		return;
	if (t->status[0] != '\0' && m->now < t->status_at + STATUS_EVERY) {
		master_wake_at(m, t->status_at + STATUS_EVERY);
		return;
	}
	say(text, "STATUS=%s\n", status);
	strlcpy(t->status, status, sizeof(t->status));
	t->status_at = m->now;
}

/* A descriptor for each: none to hand on, none that a worker could find. */
static int
send_text(const char *text)
{
	int fd, saved;
	ssize_t n;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return -1;
	n = sendto(fd, text, strlen(text), MSG_NOSIGNAL,
	    (const struct sockaddr *)&where, where_len);
	saved = errno;
	close(fd);
	errno = saved;
	return n == -1 ? -1 : 0;
}

/* What may be better in a second. */
static bool
passes(int error)
{
	return error == EAGAIN || error == ENOBUFS || error == ENOMEM ||
	    error == EMFILE || error == ENFILE;
}

void
notify(struct master *m)
{
	struct told next = told;
	char text[TEXT] = "";
	int error;

	if (where_len == 0)
		return;
	if (m->now < retry_at) {
		master_wake_at(m, retry_at);
		return;
	}
	say_state(m, &next, text);
	/* A status of before would contradict it. */
	if (next.ready != told.ready || next.reloading != told.reloading ||
	    next.stopping != told.stopping)
		next.status_at = 0;
	say_status(m, &next, text);
	if (text[0] == '\0')
		return;
	retry_at = 0;
	error = send_text(text) == 0 ? 0 : errno;
	if (error != 0 && !failure_said)
		log_warn("NOTIFY_SOCKET");
	failure_said = error != 0;
	if (passes(error)) {
		retry_at = m->now + RETRY;
		master_wake_at(m, retry_at);
	} else
		told = next;
}
