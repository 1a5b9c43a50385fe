/*
 * spawn.c: birth, burial and back-off of workers.
 *
 * Owns the master's private table of children (struct master: child, pid,
 * unused).  All decisions rest on it; what a worker wrote into its slot is
 * used for statistics and for the story of its death only.  Called by the
 * master's loop, with every signal blocked; never waits.
 *
 * Three early deaths in a row throttle a service: starts are tried one at a
 * time, 0.1 s apart doubling to 30 s, until a connection is completed.  Early
 * is before ready, or before the first completed connection; a SIGKILL after
 * ready is somebody else's doing and never counts.  Of a resident program no
 * connection is known: what is ready has succeeded.  A fork(2) that fails is
 * retried by the same kind of timer, of the whole server, up to 1 s.
 */

#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "preforkd.h"

/*
 * _Fork(3) leaves out the handlers and locks of threads, of which there are
 * none here; each worker then has four pages fewer of its own.
 */
#ifndef HAVE__FORK
#define _Fork fork
#endif

#define THROTTLE_AFTER	3		/* early deaths */
#define THROTTLE_FIRST	100		/* ms */
#define THROTTLE_LAST	30000
#define CRASH_LOOP	6400		/* the pause after six tries */
#define LAST_DEATHS	5		/* told at the end, of all services */
#define FORK_LAST	1000
#define START_TIME	30000
#define QUIT_TIME	500	/* for a worker to kill its programs */

static int64_t
doubled(int64_t delay, int64_t last)
{
	if (delay == 0)
		return THROTTLE_FIRST;
	return delay * 2 < last ? delay * 2 : last;
}

/* The slot as a new worker finds it; no process owns it yet. */
static void
prepare_slot(struct master *m, int n)
{
	struct slot *slot = &m->board.commons->slot[n];
	struct child *c = &m->child[n];
	const struct pool *p = c->pool;

	if (m->board.status->slots_used <= (uint32_t)n)
		m->board.status->slots_used = (uint32_t)n + 1;
	memset(slot, 0, sizeof(*slot));
	atomic_store(&slot->epoch, c->epoch);
	atomic_store(&slot->generation, p->service->generation->number);
	atomic_store(&slot->service, (uint16_t)p->service->index);
	atomic_store(&slot->listener, (uint16_t)p->listener->index);
	atomic_store(&slot->born, m->now);
	atomic_store(&slot->since, m->now);
	atomic_store(&slot->state, SLOT_STARTING);
}

static void
fork_failed(struct master *m, int slot)
{
	if (m->fork_delay == 0)
		log_warn("fork");
	m->fork_delay = doubled(m->fork_delay, FORK_LAST);
	m->fork_retry_at = m->now + m->fork_delay;
	master_wake_at(m, m->fork_retry_at);
	atomic_store(&m->board.commons->slot[slot].state, SLOT_FREE);
	m->child[slot].pool = NULL;
	m->unused[m->nunused++] = slot;
}

static void
born(struct master *m, int slot, pid_t pid)
{
	struct child *c = &m->child[slot];
	struct service *service = c->pool->service;

	if (m->fork_delay != 0)
		log_notice("fork works again");
	m->fork_delay = m->fork_retry_at = 0;
	if (service->delay != 0)
		service->retry_at = m->now + service->delay;
	m->pid[slot] = pid;
	c->state = CHILD_STARTING;
	c->trial = service->delay != 0;
	c->kill_at = m->now + START_TIME;
	c->kill_why = "not ready in time";
	c->pool->alive++;
	c->pool->counts.starting++;
	m->forks++;
	log_debug("worker born pid=%ld slot=%d service=%s generation=%u",
	    (long)pid, slot, service->conf->name, service->generation->number);
}

static int
reopen(int fd, int *own)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (*own == -1 && errno != EMFILE && errno != ENFILE &&
	    errno != ENOMEM)
		*own = fcntl(fd, F_DUPFD_CLOEXEC, FD_FIRST_FREE);
	return *own == -1 ? -1 : 0;
}

int
spawn_open_pipes(struct service *service)
{
	service->log_fd = service->poke_fd = -1;
	if (reopen(FD_LOG, &service->log_fd) == 0 &&
	    reopen(FD_POKE, &service->poke_fd) == 0)
		return 0;
	spawn_close_pipes(service);
	return -1;
}

void
spawn_close_pipes(struct service *service)
{
	if (service->log_fd != -1)
		close(service->log_fd);
	if (service->poke_fd != -1)
		close(service->poke_fd);
}

int
spawn_worker(struct master *m, struct pool *p)
{
	struct worker w;
	struct child *c;
	pid_t pid;
	int slot;

	if (m->nunused == 0)
		return -1;
	slot = m->unused[--m->nunused];
	c = &m->child[slot];
	*c = (struct child){ .pool = p, .epoch = c->epoch + 1,
	    .born = m->now };
	prepare_slot(m, slot);
	w = (struct worker){ .board = &m->board, .conf = p->service->conf,
	    .listener = p->listener, .number = slot,
	    .rules = p->service->generation->conf->rules,
	    .log_fd = p->service->log_fd, .poke_fd = p->service->poke_fd,
	    .slot = &m->board.commons->slot[slot],
	    .service = p->service->index,
	    .generation = p->service->generation->number,
	    .master = m->board.status->pid,
	    .dumpable = p->service->generation->conf->dumpable };
	if ((pid = _Fork()) == -1) {
		fork_failed(m, slot);
		return -1;
	}
	if (pid == 0) {
		/* Of its own generation: the master's changes with a reload. */
		log_set_level((enum log_level)
		    p->service->generation->conf->log_level);
		worker_main(&w);
	}
	born(m, slot, pid);
	return 0;
}

bool
spawn_allowed(struct master *m, const struct service *service)
{
	int64_t at = m->fork_retry_at;

	if (service->delay != 0 && service->retry_at > at)
		at = service->retry_at;
	if (at <= m->now)
		return true;
	master_wake_at(m, at);
	return false;
}

static bool
is_resident(const struct child *c)
{
	return c->pool->service->conf->kind == CONF_RESIDENT;
}

static void
signal_child(struct master *m, int slot, int number)
{
	if (m->pid[slot] > 0 && kill(m->pid[slot], number) == -1)
		log_error("kill pid=%ld signal=%s", (long)m->pid[slot],
		    sig_name(number));
}

void
spawn_retire(struct master *m, int slot, int64_t kill_at, const char *why)
{
	struct child *c = &m->child[slot];

	if (c->state == CHILD_KILLED)
		return;
	if (c->state != CHILD_LEAVING) {
		signal_child(m, slot, SIGTERM);
		c->state = CHILD_LEAVING;
		c->kill_at = 0;
	}
	if (kill_at != 0 && (c->kill_at == 0 || kill_at < c->kill_at)) {
		c->kill_at = kill_at;
		c->kill_why = why;
	}
	if (c->kill_at != 0)
		master_wake_at(m, c->kill_at);
}

void
spawn_kill(struct master *m, int slot)
{
	signal_child(m, slot, SIGKILL);
	m->child[slot].state = CHILD_KILLED;
	m->child[slot].kill_at = 0;
}

void
spawn_quit(struct master *m, int slot)
{
	struct child *c = &m->child[slot];

	if (program_grace(c->pool->service->conf) == 0) {
		spawn_kill(m, slot);
		return;
	}
	if (c->state == CHILD_KILLED)
		return;
	signal_child(m, slot, SIGQUIT);
	c->state = CHILD_KILLED;
	c->kill_at = m->now + QUIT_TIME;
	c->kill_why = "it did not end at once";
	master_wake_at(m, c->kill_at);
}

void
spawn_nudge(struct master *m, int slot)
{
	signal_child(m, slot, SIGVTALRM);
	m->child[slot].nudged = m->now;
}

void
spawn_make_room(struct master *m, int slot)
{
	signal_child(m, slot, SIGUSR2);
	m->child[slot].nudged = m->now;
}

void
spawn_succeeded(struct service *service)
{
	service->early_deaths = 0;
	if (service->delay == 0)
		return;
	service->delay = 0;
	log_notice("serving again, no longer throttled service=%s",
	    service->conf->name);
}

/* What was started before the throttle says nothing new when it dies. */
static void
throttle(struct master *m, struct service *service, const struct child *c)
{
	if (++service->early_deaths < THROTTLE_AFTER ||
	    (service->delay != 0 && !c->trial))
		return;
	if (service->delay == 0)
		log_errorx("workers die before they have served anybody, "
		    "starting them one at a time service=%s",
		    service->conf->name);
	service->delay = doubled(service->delay, THROTTLE_LAST);
	service->retry_at = m->now + service->delay +
	    arc4random_uniform((uint32_t)service->delay / 4);
}

static const char *
exit_meaning(int code)
{
	switch (code) {
	case WORKER_START_FAILED:
		return " (could not set itself up)";
	case WORKER_SICK:
		return " (its listener is unusable)";
	case WORKER_ORPHAN:
		return " (saw no master)";
	case WORKER_SERVICE_FAILED:
		return " (the service cannot start)";
	case WORKER_PROGRAM_ENDED:
		return " (its program ended)";
	default:
		return "";
	}
}

static void
how_it_died(const struct status_death *d, char *buf, size_t size)
{
	const int status = d->wait_status;

	if (d->program != 0 && WIFEXITED(status))
		snprintf(buf, size, "exit %d (program %d)",
		    WEXITSTATUS(status), d->program);
	else if (d->program != 0)
		snprintf(buf, size, "%s (program %d%s)",
		    sig_name(WTERMSIG(status)), d->program,
		    WTERMSIG(status) == SIGKILL ? ", possible OOM" : "");
	else if (WIFEXITED(status))
		snprintf(buf, size, "exit %d%s", WEXITSTATUS(status),
		    exit_meaning(WEXITSTATUS(status)));
	else
		snprintf(buf, size, "%s%s", sig_name(WTERMSIG(status)),
		    WTERMSIG(status) != SIGKILL ? "" :
		    d->killed ? " (by the master)" :
		    " (possible OOM)");
}

static void
tell_death(const struct status_death *d)
{
	char how[80];

	how_it_died(d, how, sizeof(how));
	log_errorx("worker died pid=%d slot=%u service=%s generation=%u "
	    "age=%lld.%03d served=%llu client=%llu how=\"%s\" core=%s",
	    d->pid, d->slot, d->service, d->generation,
	    (long long)(d->age / 1000), (int)(d->age % 1000),
	    (unsigned long long)d->served, (unsigned long long)d->client, how,
	    WIFSIGNALED(d->wait_status) && WCOREDUMP(d->wait_status) ?
	    "yes" : "no");
}

bool
spawn_crash_loop(const struct service *service)
{
	return service->conf->on_crash_loop == CONF_CRASH_LOOP_EXIT &&
	    service->delay >= CRASH_LOOP;
}

void
spawn_tell_crash_loop(const struct master *m, const struct service *service)
{
	const struct status *status = m->board.status;
	const struct status_death *d;
	uint64_t n = status->ndeaths, i;
	char how[80];

	log_errorx("no worker lives to serve a client, the server ends "
	    "service=%s", service->conf->name);
	for (i = n > LAST_DEATHS ? n - LAST_DEATHS : 0; i < n; i++) {
		d = &status->death[i % SCOREBOARD_DEATHS];
		if (strcmp(d->service, service->conf->name) != 0)
			continue;
		how_it_died(d, how, sizeof(how));
		log_errorx("a last death pid=%d slot=%u age=%lld.%03d "
		    "how=\"%s\"", d->pid, d->slot,
		    (long long)(d->age / 1000), (int)(d->age % 1000), how);
	}
}

/* What became of the program of a watcher, which tells it by its slot. */
static void
take_program_status(struct status_death *d, const struct slot *slot)
{
	const int status = atomic_load(&slot->program_status) & 0xffff;

	if (!WIFEXITED(d->wait_status) ||
	    WEXITSTATUS(d->wait_status) != WORKER_PROGRAM_ENDED ||
	    (!WIFEXITED(status) && !WIFSIGNALED(status)))
		return;
	d->wait_status = status;
	d->program = atomic_load(&slot->program);
}

/* Into the ring and the log. */
static void
record_death(struct master *m, int n, int wait_status)
{
	struct child *c = &m->child[n];
	struct service *service = c->pool->service;
	const struct slot *slot = &m->board.commons->slot[n];
	struct status_death d;

	d = (struct status_death){ .at = time(NULL), .pid = m->pid[n],
	    .wait_status = wait_status, .slot = (uint32_t)n,
	    .generation = service->generation->number,
	    .killed = c->state == CHILD_KILLED, .age = m->now - c->born,
	    .served = atomic_load(&slot->number[NUMBER_SERVED]),
	    .client = look_serving(slot) ? atomic_load(&slot->client) : 0 };
	strlcpy(d.service, service->conf->name, sizeof(d.service));
	if (is_resident(c))
		take_program_status(&d, slot);
	status_record_death(m, &d, service->index);
	tell_death(&d);
}

/* Unasked, and before it was of use; a SIGKILL is somebody else's doing. */
static bool
was_early(const struct child *c, uint64_t served, int wait_status)
{
	if (c->state == CHILD_LEAVING || c->state == CHILD_KILLED ||
	    served > 0)
		return false;
	if (is_resident(c))
		return !c->was_ready;
	return !c->was_ready || !WIFSIGNALED(wait_status) ||
	    WTERMSIG(wait_status) != SIGKILL;
}

/*
 * A leaving that is no death: as asked by whomever, recycled, or all at once
 * at an end.  A service that exits with that code has not told the slot.
 */
static bool
in_order(const struct master *m, int n, int wait_status)
{
	const struct child *c = &m->child[n];

	if (WIFEXITED(wait_status))
		return WEXITSTATUS(wait_status) == WORKER_LEFT && (c->blind ||
		    atomic_load(&m->board.commons->slot[n].state) ==
		    SLOT_LEAVING);
	return m->state == MASTER_KILLING && c->state == CHILD_KILLED;
}

static void
bury(struct master *m, int n, int wait_status)
{
	struct child *c = &m->child[n];
	struct pool *p = c->pool;
	uint64_t served = atomic_load(
	    &m->board.commons->slot[n].number[NUMBER_SERVED]);

	if (served > c->served)
		spawn_succeeded(p->service);
	if (in_order(m, n, wait_status))
		log_debug("worker left pid=%ld slot=%d service=%s served=%llu",
		    (long)m->pid[n], n, p->service->conf->name,
		    (unsigned long long)served);
	else
		record_death(m, n, wait_status);
	if (!(c->was_ready && in_order(m, n, wait_status)) &&
	    was_early(c, served, wait_status))
		throttle(m, p->service, c);
	c->state = CHILD_FREE;
	c->pool = NULL;
	c->epoch++;
	status_inherit(m, n, p->service->index, c->epoch);
	sources_forget(m->board.commons->source, n);
	p->alive--;
	m->pid[n] = 0;
	m->unused[m->nunused++] = n;
}

static int
find_slot(const struct master *m, pid_t pid)
{
	int i;

	for (i = 0; i < m->board.nslots; i++)
		if (m->pid[i] == pid)
			return i;
	return -1;
}

static void
news_of_child(struct master *m, pid_t pid, int wait_status)
{
	int slot = find_slot(m, pid);

	if (WIFSTOPPED(wait_status) && slot != -1)
		log_warnx("worker stopped pid=%ld slot=%d signal=%s",
		    (long)pid, slot, sig_name(WSTOPSIG(wait_status)));
	else if (WIFSTOPPED(wait_status))
		log_warnx("%s stopped pid=%ld signal=%s",
		    pid == m->logger ? "logger" : "child", (long)pid,
		    sig_name(WSTOPSIG(wait_status)));
	else if (pid == m->logger) {
		m->logger = 0;
		if (!WIFEXITED(wait_status) || WEXITSTATUS(wait_status) != 0)
			m->logger_leaves = false;
	}
	else if (pid == m->reload.pid)
		reload_child_ended(m, wait_status);
	else if (slot == -1)
		log_info("reaped a stranger pid=%ld", (long)pid);
	else
		bury(m, slot, wait_status);
}

void
spawn_reap(struct master *m)
{
	int wait_status;
	pid_t pid;

	do {
		pid = waitpid(-1, &wait_status, WNOHANG | WUNTRACED);
		if (pid > 0)
			news_of_child(m, pid, wait_status);
	} while (pid > 0 || (pid == -1 && errno == EINTR));
	if (pid == -1 && errno != ECHILD)
		log_error("waitpid");
}
