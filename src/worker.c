/*
 * worker.c: a worker's life: set-up, accept, serve, account, leave.
 *
 * Runs in a process of its own from the first instruction after fork(2) to
 * _exit(2) and never returns into the master's code.  Owns its slot of the
 * scoreboard, its listener and its client; everything else that the master
 * had open is closed first thing.  Calls conn, linger and the service.
 *
 * It sleeps in a blocking accept(2), where the kernel wakes one worker only,
 * the longest idle; there is nothing between being ready and having accepted.
 * SIGTERM pulls its listener away (handler.c).  Connections that linger are
 * swept after the next one; to a worker that idles over them the master sends
 * SIGVTALRM now and then, which lets accept fail with EINTR.  (A timer in each
 * worker was tried: of 10,000, they cost more than the connections.)
 */

#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include <stdlib.h>

#include "preforkd.h"

/* Back-off of a worker that may not open another descriptor, milliseconds. */
#define PAUSE_FIRST	10
#define PAUSE_LAST	1000

/* The kernel's answer has the grain of a tick; and to have slept in accept. */
#define ASK_EVERY	4	/* ms */
#define SLEPT		100	/* us */

enum accepted {
	ACCEPTED,		/* a client */
	ACCEPT_AGAIN,		/* look at the flags, then try again */
	ACCEPT_SICK		/* the listener is of no use */
};

/* What the worker remembers between two clients. */
struct life {
	const struct worker *self;
	void		(*serve)(struct conn *);
	void		(*before)(void);	/* accept; or NULL, ... */
	void		(*stop)(void);		/* ... likewise */
	const struct preforkd_service *service;	/* NULL: of another kind */
	struct slot	*slot;
	long long	 limit;		/* connections; 0: none */
	bool		 any_address;	/* only a client tells the local one */
	char		 title[CONF_NAME_MAX + ADDRESS_TEXT + 32];
	uint64_t	 accepted;
	int64_t		 ready_us;	/* for the next client */
	int64_t		 asked_at;	/* how long one had waited, ... */
	int64_t		 waited;	/* ... in ms; -1: nobody knows */
	struct linger_ring linger;
	int		 pause;		/* ms; 0: accept does well */
	bool		 nonblocking_said;
	bool		 busy;		/* does not count as idle */
};

static HOT struct conn client;
static HOT struct life life;

static void
store(_Atomic uint64_t *to, uint64_t value)
{
	atomic_store_explicit(to, value, memory_order_relaxed);
}

/* A full pipe wakes the master as well. */
static void
poke(void)
{
	if (write(FD_POKE, "", 1) == -1 && errno != EAGAIN)
		log_debug("write to the wake-up pipe: %s", strerror(errno));
}

static _Atomic int32_t *
idle_hint(const struct life *l)
{
	int index = l->self->listener->index;

	return &l->self->board->commons->listener[index].idle;
}

/* What ps shows; the part that stays is formatted once. */
static void
title_idle(const struct life *l)
{
	setproctitle("%s idle", l->title);
}

static void
title_busy(const struct life *l, uint64_t number)
{
	setproctitle("%s client %llu", l->title, (unsigned long long)number);
}

static void
become_idle(struct life *l)
{
	struct slot *slot = l->slot;

	l->ready_us = clock_us();
	slot_begin(slot);
	atomic_store_explicit(&slot->since, l->ready_us / 1000,
	    memory_order_relaxed);
	atomic_store_explicit(&slot->lingering, (uint32_t)l->linger.count,
	    memory_order_relaxed);
	atomic_store_explicit(&slot->state, SLOT_IDLE, memory_order_relaxed);
	slot_end(slot);
	l->busy = false;
	atomic_fetch_add(idle_hint(l), 1);
}

/* Peers are shown as numbers; a Unix peer has none. */
static void
publish_peer(struct slot *slot, const struct address *peer)
{
	const struct sockaddr_in *sin = (const void *)&peer->ss;
	const struct sockaddr_in6 *sin6 = (const void *)&peer->ss;
	uint64_t ip[2] = { 0, 0 };

	if (peer->ss.ss_family == AF_INET)
		memcpy(ip, &sin->sin_addr, sizeof(sin->sin_addr));
	else if (peer->ss.ss_family == AF_INET6)
		memcpy(ip, &sin6->sin6_addr, sizeof(sin6->sin6_addr));
	store(&slot->peer[0], ip[0]);
	store(&slot->peer[1], ip[1]);
	atomic_store_explicit(&slot->peer_port, address_port(peer),
	    memory_order_relaxed);
	atomic_store_explicit(&slot->peer_family, peer->ss.ss_family,
	    memory_order_relaxed);
}

/* The client that the slot tells of: 0 while a proxy has yet to say whose. */
static void
publish_client(const struct life *l, const struct conn *c)
{
	struct slot *slot = l->slot;

	handler_room = 0;
	slot_begin(slot);
	store(&slot->client, c->number);
	numbers_accepted(slot, l->accepted);
	atomic_store_explicit(&slot->heard, 0, memory_order_relaxed);
	publish_peer(slot, &c->peer);
	atomic_store_explicit(&slot->since, c->started, memory_order_relaxed);
	slot_end(slot);
}

/*
 * The store of the state before it and the load of `look' are in one total
 * order with the master's store of `look' and its scan: one of the two sees
 * the other.  Returns whether others are idle, so that nobody waits.
 */
static bool
no_longer_idle(const struct life *l)
{
	const struct status *shown = l->self->board->shown;
	const struct status_listener *row;
	int32_t before = atomic_fetch_sub(idle_hint(l), 1);

	row = &shown->listener[l->self->listener->index];
	if (atomic_load(&shown->look) == 0 ||
	    before <= atomic_load_explicit(&row->low, memory_order_relaxed))
		poke();
	return before > 1;
}

/*
 * How long the client was in the queue.  Nobody tells; but it has not waited
 * while other workers slept in accept, and else the kernel knows when it was
 * last heard of, at its connect for one that waits to be greeted.  The next
 * ones in the queue have waited as long, within that grain.
 */
static void
account_wait(struct life *l, const struct conn *c, bool others_idle)
{
	if (c->peer.ss.ss_family == AF_UNIX)
		return;
	if (others_idle && l->self->conf->rate.count == 0) {
		numbers_waited(l->slot, 0);
		return;
	}
	if (c->started - l->asked_at >= ASK_EVERY ||
	    c->started_us - l->ready_us > SLEPT) {
		l->waited = traffic_silence(c->fd);
		l->asked_at = c->started;
	}
	if (l->waited >= 0)
		numbers_waited(l->slot, l->waited * 1000);
}

static void
become_busy(struct life *l, const struct conn *c)
{
	publish_client(l, c);
	if (l->busy)
		return;
	l->busy = true;
	atomic_store(&l->slot->state, SLOT_BUSY);
	if (handler_retired)
		atomic_store(&l->slot->state, SLOT_DRAINING);
	account_wait(l, c, no_longer_idle(l));
}

/*
 * A Unix client chooses its address: whatever could end the word that it is in
 * the log, or start an escape, is shown as a question mark.
 */
static const char *
peer_word(const struct conn *c, char buf[ADDRESS_TEXT])
{
	char *p;

	address_text(&c->peer, buf, ADDRESS_TEXT);
	for (p = buf; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~' || strchr("\"\\=", *p) != NULL)
			*p = '?';
	return buf;
}

static void
log_connected(struct conn *c, const struct conf_service *conf)
{
	char peer[ADDRESS_TEXT];

	if (conf->log_connections != CONF_CONNECTIONS_BOTH)
		return;
	log_info("connected %s client=%llu service=%s", peer_word(c, peer),
	    (unsigned long long)c->number, conf->name);
}

static void
log_closed(struct conn *c, const struct conf_service *conf)
{
	char peer[ADDRESS_TEXT], first[CONN_FIRST * 4 + 1];
	int64_t ms;

	if (conf->log_connections == CONF_CONNECTIONS_NO)
		return;
	ms = clock_now() - c->started;
	log_info("closed %s client=%llu service=%s seconds=%lld.%03d in=%llu "
	    "out=%llu end=%s first=\"%s\"%s",
	    peer_word(c, peer),
	    (unsigned long long)c->number, conf->name,
	    (long long)(ms / 1000), (int)(ms % 1000),
	    (unsigned long long)c->bytes_in, (unsigned long long)c->bytes_out,
	    conn_end_name(c->end),
	    log_quote(first, sizeof(first), c->first, (size_t)c->nfirst),
	    c->note);
}

/* Behind a proxy, with a health check: nobody has been turned away. */
static void
forget(struct life *l, const struct conn *c)
{
	char peer[ADDRESS_TEXT];

	log_debug("left without a header peer=%s service=%s",
	    peer_word(c, peer), l->self->conf->name);
	close(c->fd);
	become_idle(l);
}

/* It has no number and is none of the clients served. */
static void
refuse(struct life *l, const struct conn *c, const char *why)
{
	char peer[ADDRESS_TEXT];

	if (why[0] == '\0') {
		forget(l, c);
		return;
	}
	slot_begin(l->slot);
	numbers_accepted(l->slot, l->accepted);
	numbers_refused(l->slot, why);
	slot_end(l->slot);
	/* Without the address in its words, so that many are one warning. */
	log_warnx("client refused peer=%s service=%s why=%s",
	    peer_word(c, peer), l->self->conf->name, why);
	if (!admit_refuse(c))
		close(c->fd);
	else {
		/* The master has to know that somebody lingers. */
		atomic_store(&l->slot->state, SLOT_CLOSING);
		if (!l->busy)
			no_longer_idle(l);
		l->busy = true;
		linger_refuse(&l->linger, c->fd);
	}
	if (l->busy)
		become_idle(l);
}

/* A proxy has to say whose connection it is.  As proxy_read(). */
static const char *
introduce(struct life *l, struct conn *c)
{
	if (!proxy_trusts(&c->peer))
		return "proxy-protocol header=untrusted";
	become_busy(l, c);
	return proxy_read(c);
}

static const char *
let_in(struct life *l, struct conn *c)
{
	const char *why = NULL;

	if (l->self->conf->proxy_protocol != NULL)
		why = introduce(l, c);
	return why != NULL ? why : admit(c);
}

static void
serve(struct life *l, int fd, const struct address *peer)
{
	const struct conf_service *conf = l->self->conf;
	struct conn *c = &client;
	const char *why;

	l->accepted++;
	conn_open(c, fd, peer, conf);
	if (!l->any_address)
		c->local = l->self->listener->address;
	c->local_known = !l->any_address;
	if ((why = let_in(l, c)) != NULL) {
		refuse(l, c, why);
		return;
	}
	c->number = atomic_fetch_add(l->self->board->counter, 1) + 1;
	c->heard = &l->slot->heard;
	become_busy(l, c);
	title_busy(l, c->number);
	log_connected(c, conf);
	l->serve(c);
	numbers_served(l->slot, c->bytes_in, c->bytes_out,
	    clock_us() - c->started_us);
	admit_left();
	log_closed(c, conf);
	/* From here on a death costs no client. */
	atomic_store(&l->slot->state, SLOT_CLOSING);
	linger_sweep(&l->linger);
	linger_end(&l->linger, fd);
	admit_left();
	title_idle(l);
	become_idle(l);
}

/* The errors of accept(2): retry, wait, or give up (RULES R26). */
static enum accepted
accept_failed(struct life *l)
{
	struct pollfd pfd = { .fd = FD_LISTENER, .events = POLLIN };

	switch (errno) {
	case EAGAIN:
		if (!l->nonblocking_said)
			log_warnx("accept: the listener was made non-blocking "
			    "by somebody service=%s", l->self->conf->name);
		l->nonblocking_said = true;
		poll(&pfd, 1, -1);
		return ACCEPT_AGAIN;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		if (l->pause == 0)
			log_warn("accept waits service=%s",
			    l->self->conf->name);
		l->pause = l->pause == 0 ? PAUSE_FIRST :
		    l->pause < PAUSE_LAST / 2 ? l->pause * 2 : PAUSE_LAST;
		poll(NULL, 0, l->pause);
		return ACCEPT_AGAIN;
	case EINTR:
	case ECONNABORTED:
	case EPROTO:
	case EPERM:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENONET:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case ETIMEDOUT:
		return ACCEPT_AGAIN;
	default:
		return handler_retired || handler_woken ? ACCEPT_AGAIN :
		    ACCEPT_SICK;
	}
}

/*
 * Look after those that linger, nudged by the master.  It may take long, so
 * this worker does not count as idle meanwhile.
 */
static void
sweep(struct life *l)
{
	atomic_store(&l->slot->state, SLOT_CLOSING);
	no_longer_idle(l);
	linger_sweep(&l->linger);
	become_idle(l);
}

static enum accepted
accept_client(struct life *l, int *fd, struct address *peer)
{
	peer->len = sizeof(peer->ss);
	*fd = accept4(FD_LISTENER, (struct sockaddr *)&peer->ss, &peer->len,
	    SOCK_CLOEXEC);
	if (*fd == -1)
		return accept_failed(l);
	l->pause = 0;
	return ACCEPTED;
}

/*
 * Recycling is staggered over the last quarter of the limit, by slot, so that
 * no two neighbours of a pool fall due together.
 */
static long long
recycle_after(const struct worker *w)
{
	long long limit = w->conf->max_connections;

	return limit == 0 ? 0 : limit - w->number % (limit / 4 + 1);
}

__attribute__((__noreturn__))
static void
leave(struct life *l, int code)
{
	atomic_store(&l->slot->state, SLOT_LEAVING);
	no_longer_idle(l);
	if (l->linger.count > 0)
		poke();		/* somebody should take its place */
	admit_give_back();
	if (l->stop != NULL)
		l->stop();
	linger_finish(&l->linger);
	if (l->service != NULL)
		module_leave(l->service, handler_drain_seconds);
	_exit(code);
}

/* After a signal that does not tell it to leave. */
static void
disturbed(struct life *l)
{
	if (l->before != NULL)
		l->before();
	if (l->linger.count > 0 && !handler_retired)
		sweep(l);
}

/* Until the rate of the service has a turn for this worker. */
static void
rest(struct life *l, int ms)
{
	const int64_t until = clock_now() + ms;
	int64_t left = ms;
	sigset_t old;

	sig_block(&old);
	for (; left > 0 && !handler_retired; left = until - clock_now())
		if (sig_poll(NULL, 0, left) == -1)
			disturbed(l);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

__attribute__((__noreturn__))
static void
accept_loop(struct life *l)
{
	struct address peer;
	int fd, ms;

	while (!handler_retired &&
	    (l->limit == 0 || l->accepted < (uint64_t)l->limit)) {
		if (l->before != NULL)
			l->before();
		while (!handler_retired && (ms = admit_pause()) > 0)
			rest(l, ms);
		if (handler_retired)
			break;
		switch (accept_client(l, &fd, &peer)) {
		case ACCEPTED:
			serve(l, fd, &peer);
			break;
		case ACCEPT_AGAIN:
			disturbed(l);
			break;
		case ACCEPT_SICK:
			log_error("accept on %s", l->self->listener->name);
			leave(l, WORKER_SICK);
		}
	}
	leave(l, WORKER_LEFT);
}

static void
fill_slot(struct life *l)
{
	struct slot *slot = l->slot;

	slot_begin(slot);
	atomic_store_explicit(&slot->pid, getpid(), memory_order_relaxed);
	atomic_store_explicit(&slot->born, clock_now(), memory_order_relaxed);
	slot_end(slot);
}

static void
take_descriptor(int from, int number)
{
	if (dup3(from, number, O_CLOEXEC) == -1) {
		log_error("dup3 of the worker's descriptors");
		_exit(WORKER_START_FAILED);
	}
}

/* Nothing of the master's stays open but what a worker needs. */
static void
take_descriptors(const struct worker *w)
{
	take_descriptor(w->listener->fd, FD_LISTENER);
	take_descriptor(w->log_fd, FD_LOG);
	take_descriptor(w->poke_fd, FD_POKE);
	closefrom(FD_FIRST_FREE);
}

static void
set_up(struct life *l, const struct worker *w)
{
	handler_master = w->master;
	handler_drain_seconds = (unsigned int)((w->conf->drain_timeout +
	    program_grace(w->conf) + 999) / 1000);
	handler_slot_state = &w->slot->state;
	l->self = w;
	l->slot = w->slot;
	l->limit = recycle_after(w);
	l->any_address = address_is_any(&w->listener->address);
	snprintf(l->title, sizeof(l->title), "%s %s slot %d:", w->conf->name,
	    w->listener->name, w->number);
	log_forked();
	sig_worker(program_grace(w->conf) > 0);
	if (admit_open(w) == -1) {
		log_errorx("the compiled rules cannot be used service=%s",
		    w->conf->name);
		_exit(WORKER_START_FAILED);
	}
	take_descriptors(w);
	setpgid(0, 0);
	if (scoreboard_confine(w->board) == -1) {
		log_error("munmap of the status");
		_exit(WORKER_START_FAILED);
	}
	fill_slot(l);
	privs_drop(w->conf, w->dumpable);
	if (privs_settle(w->conf) == -1)
		fatal("chdir %s service=%s", w->conf->chdir, w->conf->name);
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) == -1) {
		log_error("prctl PR_SET_PDEATHSIG");
		_exit(WORKER_START_FAILED);
	}
	sig_unblock_all();
	if (getppid() != w->master)
		_exit(WORKER_ORPHAN);
}

static int
start_module(struct life *l, const struct conf_service *conf)
{
	char text[CONF_ERROR_MAX];
	const char *why;

	if ((why = module_enter(conf, &l->service)) != NULL) {
		log_errorx("%s service=%s: %s", conf_kind_name(conf->kind),
		    conf->name, log_quote(text, sizeof(text), why,
		    strlen(why)));
		return -1;
	}
	l->serve = l->service->serve;
	return 0;
}

static int
start_service(struct life *l, const struct conf_service *conf)
{
	switch (conf->kind) {
	case CONF_RUN:
	case CONF_MODULE:
		return start_module(l, conf);
	case CONF_EXEC:
		l->serve = exec_serve;
		l->before = exec_rest;
		l->stop = exec_stop;
		return exec_start(l->self);
	case CONF_RESIDENT:
		return resident_start(l->self);
	}
	return -1;
}

static void
program_is_ready(void)
{
	become_idle(&life);
	poke();
}

/* A program that is not ready must not look so for an instant. */
__attribute__((__noreturn__))
static void
watch_loop(struct life *l)
{
	int code;

	setproctitle("%s watches", l->title);
	if ((code = resident_watch(program_is_ready)) != WORKER_LEFT)
		_exit(code);
	leave(l, code);
}

void
worker_main(const struct worker *w)
{
	struct life *l = &life;

	set_up(l, w);
	title_idle(l);
	if (start_service(l, w->conf) == -1) {
		log_errorx("service %s cannot start", w->conf->name);
		_exit(WORKER_SERVICE_FAILED);
	}
	daemon_let_go();
	if (w->conf->kind == CONF_RESIDENT)
		watch_loop(l);
	proxy_start(w->conf);
	if (admit_start(w))
		l->linger.hold = admit_again;
	view_start(w);
	become_idle(l);
	poke();
	accept_loop(l);
}
