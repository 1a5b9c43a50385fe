/*
 * reload.c: generations: checked, made, committed, rolled back, buried.
 *
 * A generation is a configuration at work: its services, and a pool of
 * workers for each listening socket.  SIGHUP makes a new one: a child reads
 * and checks the file, so that nothing it meets can hang or harm the master,
 * and says the effective settings, or what is wrong, into a pipe.  The master
 * parses that text, opens the sockets that are new and starts the workers.
 * When they are ready the older generations leave; until then nothing of them
 * has changed.  A socket whose address is still listed goes over to the new
 * generation, whichever service has it there; a new one takes no client before
 * its generation is ready, so that there is none to be sent away.
 *
 * Called by the master's loop; never waits.  Two generations accept at most:
 * a reload asked for while one runs is begun when that has ended.  One that
 * finds no room beside the workers of older generations goes on when these
 * have left, at their drain-timeout at the latest.
 */

#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#ifndef CHECK_TIME
#define CHECK_TIME	10000		/* for the check child */
#endif
#ifndef READY_TIME
#define READY_TIME	30000		/* for the new generation */
#endif
#define TEXT_MAX	(4 << 20)	/* of what the child says */

/* Descriptors of the check child. */
enum { CHECK_SAY = FD_FIRST_FREE, CHECK_RULES, CHECK_LAST };

static void
end_check(struct reload *r)
{
	if (r->fd != -1)
		close(r->fd);
	if (r->rules != -1)
		close(r->rules);
	free(r->text);
	*r = (struct reload){ .fd = -1, .rules = -1, .pid = r->pid };
}

static void
refuse(struct master *m, const char *why)
{
	if (m->reload.upgrade)
		upgrade_failed(m, why);
	else {
		log_errorx("reload failed, everything stays as it was: %s",
		    why);
		status_reload_ended(m, RELOAD_FAILED, why);
	}
	end_check(&m->reload);
}

/* Copies first, out of the way of the numbers. */
static int
take_descriptors(int fd, int rules)
{
	const int say = fcntl(fd, F_DUPFD_CLOEXEC, CHECK_LAST);
	const int to = fcntl(rules, F_DUPFD_CLOEXEC, CHECK_LAST);

	if (dup3(say, CHECK_SAY, O_CLOEXEC) == -1 ||
	    dup3(to, CHECK_RULES, O_CLOEXEC) == -1)
		return -1;
	closefrom(CHECK_LAST);
	return 0;
}

/* In the check child: the settings, or the error, to the pipe. */
__attribute__((__noreturn__))
static void
check(struct master *m, int fd)
{
	struct conf_source source = *m->source;
	char error[CONF_ERROR_MAX];
	struct conf *conf;
	FILE *out;

	log_forked();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sig_reset();
	if (scoreboard_confine(&m->board) == -1)
		_exit(1);
	if (take_descriptors(fd, m->reload.rules) == -1)
		_exit(1);
	if ((out = fdopen(CHECK_SAY, "w")) == NULL)
		_exit(1);
	source.rules = CHECK_RULES;
	if ((conf = conf_load(&source, error)) == NULL)
		fputs(error, out);
	else
		dump_conf(conf, out);
	_exit(fflush(out) == 0 && conf != NULL ? 0 : 1);
}

static void
start_check(struct master *m)
{
	struct reload *r = &m->reload;
	int fds[2];

	if ((r->text = malloc(TEXT_MAX + 1)) == NULL ||
	    (r->rules = ruleset_create()) == -1 ||
	    pipe2(fds, O_CLOEXEC) == -1) {
		refuse(m, strerror(errno));
		return;
	}
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	if ((r->pid = fork()) == 0) {
		if (r->upgrade)
			upgrade_run_check(m, fds[1]);
		check(m, fds[1]);
	}
	close(fds[1]);
	r->fd = fds[0];
	if (r->pid == -1) {
		r->pid = 0;
		refuse(m, strerror(errno));
		return;
	}
	r->state = RELOAD_CHECKING;
	r->deadline = m->now + CHECK_TIME;
}

void
reload_begin(struct master *m)
{
	log_notice("reloading");
	status_reload_begun(m);
	start_check(m);
}

void
reload_begin_upgrade(struct master *m)
{
	char error[CONF_ERROR_MAX];

	log_notice("upgrading");
	status_upgrade_begun(m);
	m->reload.upgrade = true;
	if (upgrade_prepare(m, error) == -1)
		refuse(m, error);
	else
		start_check(m);
}

/* Take what the child has written; at its end, close. */
static void
listen_to_check(struct reload *r)
{
	ssize_t n;

	if (r->fd == -1)
		return;
	while ((n = read(r->fd, r->text + r->size, TEXT_MAX - r->size)) > 0)
		r->size += (size_t)n;
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	r->text[r->size] = '\0';
	close(r->fd);
	r->fd = -1;
}

void
reload_cancel(struct master *m)
{
	if (m->reload.state == RELOAD_IDLE)
		return;
	if (m->reload.pid != 0)
		kill(m->reload.pid, SIGKILL);
	refuse(m, "the server was told to stop");
}

void
reload_child_ended(struct master *m, int wait_status)
{
	m->reload.pid = 0;
	m->reload.wait_status = wait_status;
}

/* Nobody has the memory file any more but who has been told to compile it. */
static int
take_rules(struct reload *r, struct conf *conf, char error[CONF_ERROR_MAX])
{
	const struct conf_service *service;

	TAILQ_FOREACH(service, &conf->services, entry)
		if (conf_has_rules(service))
			break;
	if (service == NULL)
		return 0;
	if (r->rules == -1)
		return error_say(error, "service %s: rules: not compiled, by "
		    "a program that does not know any", service->name);
	if (ruleset_seal(r->rules) == -1)
		return error_say(error, "rules: fcntl F_ADD_SEALS: %s",
		    strerror(errno));
	conf->rules = r->rules;
	r->rules = -1;
	return 0;
}

/* The master's own turn: everything that can fail without a worker. */
void
reload_apply(struct master *m)
{
	struct generation *current = TAILQ_FIRST(&m->generations);
	char error[CONF_ERROR_MAX];
	struct conf *conf;
	bool upgrade;

	conf = conf_load_text("configuration", m->reload.text,
	    m->reload.size, error);
	if (conf == NULL || !conf_reloadable(current->conf, conf, error) ||
	    !conf_fits(conf, m->board.nslots, error) ||
	    take_rules(&m->reload, conf, error) == -1) {
		if (conf != NULL)
			conf_free(conf);
		refuse(m, error);
		return;
	}
	if (reload_generation(m, conf, error) == NULL) {
		refuse(m, error);
		return;
	}
	upgrade = m->reload.upgrade;
	end_check(&m->reload);
	m->reload.upgrade = upgrade;
	m->reload.state = RELOAD_STARTING;
}

static void
judge_check(struct master *m)
{
	struct reload *r = &m->reload;
	int status = r->wait_status;
	char why[64], error[CONF_ERROR_MAX];

	if (WIFSIGNALED(status)) {
		snprintf(why, sizeof(why), "the check died of %s",
		    sig_name(WTERMSIG(status)));
		refuse(m, r->late ? "the check took too long" : why);
		return;
	}
	if (r->upgrade) {
		upgrade_exec(m, error);
		refuse(m, error);
		return;
	}
	if (WEXITSTATUS(status) != 0) {
		refuse(m, r->size > 0 ? r->text : "the check failed");
		return;
	}
	reload_apply(m);
}

void
reload_continue(struct master *m)
{
	struct reload *r = &m->reload;

	if (r->state != RELOAD_CHECKING)
		return;
	listen_to_check(r);
	if (r->pid != 0 && m->now >= r->deadline) {
		kill(r->pid, SIGKILL);
		r->late = true;
		r->deadline = m->now + CHECK_TIME;
	}
	if (r->pid != 0 || r->fd != -1)
		master_wake_at(m, r->deadline);
	else
		judge_check(m);
}

static struct service *
make_service(struct master *m, struct generation *g,
    const struct conf_service *conf)
{
	struct service *s;
	int index;

	errno = 0;		/* no room in the scoreboard sets none */
	if ((index = status_service_row(m, conf->name)) == -1)
		return NULL;
	if ((s = calloc(1, sizeof(*s))) == NULL || spawn_open_pipes(s) == -1) {
		free(s);
		status_free_service_row(m, index);
		return NULL;
	}
	s->conf = conf;
	s->generation = g;
	s->index = index;
	TAILQ_INSERT_TAIL(&g->services, s, entry);
	return s;
}

/* A socket that a generation is to have. */
struct wanted {
	const struct conf_service *conf;
	const struct conf_listen *line;
	int		 part;		/* which address of the line */
};

/*
 * One that leaves is asked back; not a Unix socket, whose path has gone.  Any
 * port will do for port 0, so this one is had again by whom it was opened for.
 */
static bool
is_wanted(const struct listener *l, const struct wanted *w)
{
	const struct address *a = &w->line->address[w->part];
	char name[ADDRESS_TEXT];

	if (l->state == LISTENER_CLOSED)
		return false;
	if (address_path(a) != NULL && !l->inherited &&
	    l->state > LISTENER_OPEN)
		return false;
	if (address_path(a) == NULL && address_port(a) == 0)
		return l->part == w->part &&
		    strcmp(l->text, w->line->text) == 0 &&
		    strcmp(l->service, w->conf->name) == 0;
	return strcmp(l->name, address_text(a, name, sizeof(name))) == 0;
}

static struct listener *
find_listener(struct master *m, const struct wanted *w)
{
	struct listener *l;

	TAILQ_FOREACH(l, &m->listeners, entry)
		if (is_wanted(l, w))
			return l;
	return NULL;
}

/* Of two addresses that cannot be there together, one may be ours. */
static void
say_whose(const struct master *m, const struct address *a,
    char error[CONF_ERROR_MAX])
{
	const struct listener *l;
	char why[ADDRESS_TEXT + 80];

	TAILQ_FOREACH(l, &m->listeners, entry) {
		if (!address_conflict(a, &l->address))
			continue;
		snprintf(why, sizeof(why), " by %s of this server, which %s",
		    l->name, l->state > LISTENER_OPEN ?
		    "serves its queue and goes: reload again" :
		    "must go first, by a reload of its own or a restart");
		strlcat(error, why, CONF_ERROR_MAX);
		return;
	}
}

static void
welcome(struct listener *l)
{
	if (listen_welcome(l) == -1)
		log_warn("listen %s", l->name);
}

/* Once for each length that is asked for. */
static void
say_cut(struct listener *l, int backlog)
{
	if (l->inherited || l->backlog == backlog)
		return;
	l->backlog = backlog;
	listen_measure(l);
	if (l->limit > 0 && l->limit < backlog)
		log_warnx("backlog %d of %s is cut to %d by the system "
		    "(net.core.somaxconn)", backlog, l->name, l->limit);
}

static struct listener *
make_listener(struct master *m, const struct wanted *w, int service_row,
    char error[CONF_ERROR_MAX])
{
	struct listener *l;

	l = listen_open(w->conf, w->line, w->part, error);
	if (l == NULL) {
		if (errno == EADDRINUSE)
			say_whose(m, &w->line->address[w->part], error);
		return NULL;
	}
	l->index = status_listener_row(m, l->name, service_row);
	if (l->index == -1) {
		snprintf(error, CONF_ERROR_MAX, "listen %s: the scoreboard "
		    "has room for %d sockets", l->name, CONF_LISTENERS_MAX);
		listen_close(l);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&m->listeners, l, entry);
	if (m->state == MASTER_STARTING)
		welcome(l);
	say_cut(l, w->conf->backlog);
	return l;
}

static bool
has_pool(const struct master *m, const struct generation *g,
    const struct listener *l)
{
	const struct pool *p;

	TAILQ_FOREACH(p, &m->pools, entry)
		if (p->listener == l && p->service->generation == g)
			return true;
	return false;
}

struct pool *
reload_make_pool(struct master *m, struct service *s, struct listener *l)
{
	struct pool *p;

	if ((p = calloc(1, sizeof(*p))) == NULL)
		return NULL;
	p->service = s;
	p->listener = l;
	p->window_end = m->now + s->conf->workers_idle_time;
	l->users++;
	s->npools++;
	TAILQ_INSERT_TAIL(&m->pools, p, entry);
	return p;
}

static int
make_pool(struct master *m, struct service *s, struct listener *l,
    char error[CONF_ERROR_MAX])
{
	if (has_pool(m, s->generation, l)) {
		snprintf(error, CONF_ERROR_MAX, "listen %s: must be there "
		    "once, and is what a line with port 0 has", l->name);
		return -1;
	}
	if (reload_make_pool(m, s, l) == NULL) {
		strlcpy(error, "out of memory", CONF_ERROR_MAX);
		return -1;
	}
	return 0;
}

/*
 * The sockets of one `listen' line.  A family that the kernel lacks is left
 * out when the line has another.
 */
static int
make_pools_of_line(struct master *m, struct service *s,
    const struct conf_listen *line, char error[CONF_ERROR_MAX])
{
	struct wanted w = { s->conf, line, 0 };
	struct listener *l;
	int made = 0;

	for (; w.part < line->naddress; w.part++) {
		if ((l = find_listener(m, &w)) == NULL)
			l = make_listener(m, &w, s->index, error);
		if (l == NULL && errno == EAFNOSUPPORT && line->naddress > 1) {
			log_notice("left out: %s", error);
			continue;
		}
		if (l == NULL)
			return -1;
		if (make_pool(m, s, l, error) == -1)
			return -1;
		made++;
	}
	return made > 0 ? 0 : -1;
}

static int
make_pools(struct master *m, struct generation *g, char error[CONF_ERROR_MAX])
{
	const struct conf_service *conf;
	const struct conf_listen *line;
	struct service *s;

	TAILQ_FOREACH(conf, &g->conf->services, entry) {
		if ((s = make_service(m, g, conf)) == NULL) {
			snprintf(error, CONF_ERROR_MAX, "service %s: %s",
			    conf->name, errno != 0 ? strerror(errno) :
			    "no room for it beside those that still leave");
			return -1;
		}
		TAILQ_FOREACH(line, &conf->listens, entry)
			if (make_pools_of_line(m, s, line, error) == -1)
				return -1;
	}
	return 0;
}

/*
 * Each socket's share of workers-min, and how many workers it begins with: in
 * a reload no more than there is room for beside those that serve.
 */
void
reload_share_minimum(struct master *m, const struct generation *g)
{
	struct service *s;
	struct pool *p;
	int rest, n, most, spare;

	TAILQ_FOREACH(s, &g->services, entry) {
		spare = s->conf->kind == CONF_RESIDENT ? 1 :
		    s->conf->workers_spare;
		rest = s->conf->workers_min;
		if ((n = s->npools) == 0)
			continue;
		most = s->conf->workers_max / n;
		if (m->state != MASTER_STARTING &&
		    most > conf_surge(s->conf) / n)
			most = conf_surge(s->conf) / n;
		TAILQ_FOREACH(p, &m->pools, entry) {
			if (p->service != s)
				continue;
			p->min = rest / n;
			rest -= p->min;
			n--;
			p->first = spare > p->min ? spare : p->min;
			if (p->first > most)
				p->first = most;
		}
	}
}

static void
free_listener(struct master *m, struct listener *l)
{
	status_free_listener_row(m, l->index);
	TAILQ_REMOVE(&m->listeners, l, entry);
	listen_close(l);
}

static void
free_generation(struct master *m, struct generation *g)
{
	struct service *s;

	TAILQ_REMOVE(&m->generations, g, entry);
	while ((s = TAILQ_FIRST(&g->services)) != NULL) {
		TAILQ_REMOVE(&g->services, s, entry);
		status_free_service_row(m, s->index);
		spawn_close_pipes(s);
		free(s);
	}
	/* The log is written to the end, by what the last one says of it. */
	if (TAILQ_EMPTY(&m->generations))
		m->last = g->conf;
	else
		conf_free(g->conf);
	free(g);
}

static void
free_pool(struct master *m, struct pool *p)
{
	TAILQ_REMOVE(&m->pools, p, entry);
	p->listener->users--;
	p->service->npools--;
	free(p);
}

/* Nothing of it ever ran: as if it had not been. */
static void
unmake(struct master *m, struct generation *g)
{
	struct pool *p, *next;
	struct listener *l, *after;

	TAILQ_FOREACH_SAFE(p, &m->pools, entry, next)
		if (p->service->generation == g)
			free_pool(m, p);
	TAILQ_FOREACH_SAFE(l, &m->listeners, entry, after)
		if (l->users == 0)
			free_listener(m, l);
	free_generation(m, g);
}

struct generation *
reload_generation(struct master *m, struct conf *conf,
    char error[CONF_ERROR_MAX])
{
	struct generation *g;

	if ((g = calloc(1, sizeof(*g))) == NULL) {
		strlcpy(error, "out of memory", CONF_ERROR_MAX);
		conf_free(conf);
		return NULL;
	}
	g->conf = conf;
	g->number = m->generation + 1;
	g->since = m->now;
	g->ready_by = m->now + READY_TIME;
	TAILQ_INIT(&g->services);
	TAILQ_INSERT_HEAD(&m->generations, g, entry);
	if (make_pools(m, g, error) == -1) {
		unmake(m, g);
		return NULL;
	}
	reload_share_minimum(m, g);
	m->generation = g->number;
	return g;
}

struct generation *
reload_adopt(struct master *m, struct conf *conf, uint32_t number)
{
	const struct conf_service *service;
	struct generation *g;

	if ((g = calloc(1, sizeof(*g))) == NULL)
		return NULL;
	g->conf = conf;
	g->number = number;
	g->ready = true;
	TAILQ_INIT(&g->services);
	TAILQ_INSERT_TAIL(&m->generations, g, entry);
	TAILQ_FOREACH(service, &conf->services, entry)
		if (make_service(m, g, service) == NULL)
			return NULL;
	return g;
}

/* Whether a generation that is not leaving uses the listener. */
static bool
stays(const struct master *m, const struct listener *l,
    const struct generation *leaving)
{
	const struct pool *p;

	TAILQ_FOREACH(p, &m->pools, entry)
		if (p->listener == l && !p->leaving &&
		    p->service->generation != leaving)
			return true;
	return false;
}

/*
 * A listener that stays is left to the other generation at once; one that
 * goes is served by these workers until its queue is empty.
 */
static void
leave(struct master *m, struct generation *g)
{
	struct pool *p;

	if (g->leave_from == 0)
		g->leave_from = m->now;
	TAILQ_FOREACH(p, &m->pools, entry) {
		if (p->service->generation != g || p->leaving)
			continue;
		if (stays(m, p->listener, g))
			master_pull(m, p);
		else
			master_farewell(m, p->listener);
	}
}

/* What a pool needs when its generation begins to serve. */
static void
take_over(struct master *m, const struct pool *p)
{
	struct listener *l = p->listener;
	char error[CONF_ERROR_MAX];

	if (l->state != LISTENER_OPEN)
		welcome(l);
	if (listen_settle(l, p->service->conf, error) == -1)
		log_warnx("%s", error);
	say_cut(l, p->service->conf->backlog);
	status_hand_over(m, l->index, p->service->index);
}

void
reload_commit(struct master *m)
{
	struct generation *newest = TAILQ_FIRST(&m->generations), *g;
	struct pool *p;

	TAILQ_FOREACH(p, &m->pools, entry)
		if (p->service->generation == newest)
			take_over(m, p);
	for (g = TAILQ_NEXT(newest, entry); g != NULL;
	    g = TAILQ_NEXT(g, entry))
		leave(m, g);
	log_set_level((enum log_level)newest->conf->log_level);
	m->reload.state = RELOAD_IDLE;
	m->reload.waits = 0;
	if (m->reload.upgrade) {
		upgrade_done(m);
		return;
	}
	status_reload_ended(m, RELOAD_DONE, "");
	log_notice("reloaded generation=%u", newest->number);
}

/* The oldest generation that leaves and has workers still. */
static const struct generation *
oldest_leaving(const struct master *m, int *workers)
{
	const struct generation *g, *oldest = NULL;
	const struct pool *p;
	int n;

	TAILQ_FOREACH(g, &m->generations, entry) {
		n = 0;
		TAILQ_FOREACH(p, &m->pools, entry)
			if (p->service->generation == g)
				n += p->alive;
		if (g->leave_from == 0 || n == 0)
			continue;
		oldest = g;
		*workers = n;
	}
	return oldest;
}

bool
reload_waits(struct master *m)
{
	struct generation *newest = TAILQ_FIRST(&m->generations);
	const struct generation *old = NULL;
	const struct pool *p;
	int workers = 0;

	TAILQ_FOREACH(p, &m->pools, entry)
		if (p->service->generation == newest && p->no_room)
			old = oldest_leaving(m, &workers);
	status_reload_waits(m, old != NULL ? old->number : 0, workers);
	if (old == NULL)
		return false;
	newest->ready_by = m->now + READY_TIME;
	if (m->reload.waits != old->number)
		log_notice("the reload waits for old connections to end "
		    "connections=%d generation=%u", workers, old->number);
	m->reload.waits = old->number;
	return true;
}

/*
 * A socket that was opened for it goes.  On one that leaves as before, others
 * serve the queue.
 */
static void
withdraw(struct master *m, struct generation *g)
{
	struct pool *p;

	g->leave_from = m->now;
	TAILQ_FOREACH(p, &m->pools, entry) {
		if (p->service->generation != g)
			continue;
		if (p->listener->state == LISTENER_OPENING)
			master_farewell(m, p->listener);
		else
			master_pull(m, p);
	}
}

void
reload_roll_back(struct master *m, const char *why)
{
	struct generation *newest = TAILQ_FIRST(&m->generations);
	struct generation *before = TAILQ_NEXT(newest, entry);

	withdraw(m, newest);
	TAILQ_REMOVE(&m->generations, newest, entry);
	TAILQ_INSERT_AFTER(&m->generations, before, newest, entry);
	refuse(m, why);
}

/* A leaving pool whose workers have gone, and whose listener stays or has. */
static void
bury_pools(struct master *m)
{
	struct pool *p, *next;
	struct listener *l;

	TAILQ_FOREACH_SAFE(p, &m->pools, entry, next) {
		l = p->listener;
		if (!p->leaving || p->alive > 0)
			continue;
		if (l->state != LISTENER_OPEN && l->state != LISTENER_CLOSED)
			continue;
		free_pool(m, p);
		if (l->users == 0)
			free_listener(m, l);
	}
}

void
reload_bury(struct master *m)
{
	struct generation *g, *next;
	struct service *s;
	bool empty;

	bury_pools(m);
	TAILQ_FOREACH_SAFE(g, &m->generations, entry, next) {
		empty = true;
		TAILQ_FOREACH(s, &g->services, entry)
			if (s->npools > 0)
				empty = false;
		if (empty)
			free_generation(m, g);
	}
}
