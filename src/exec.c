/*
 * exec.c: a program for each connection, by the UCSPI contract.
 *
 * The connection is descriptor 0 and 1 of the program; its environment says
 * who is there (ucspi-tcp(8), and IPC for Unix sockets).  Or, with `prespawn',
 * the program was there before, and bytes are relayed.  The worker stays and
 * watches: it takes down what the program says on its standard error, and when
 * a timeout has passed, or the drain time of a worker that leaves, it ends the
 * program: SIGTERM, PROGRAM_GRACE, SIGKILL.  Bytes pass it by, and the kernel
 * tells how many there were, and when.  So the connection ends as any other
 * does, whoever else may still hold it.
 *
 * Signals are blocked while a client is served, but for the wait, so none is
 * overlooked before it.  SIGQUIT is the master's word to end at once.
 */

#include <sys/types.h>
#include <sys/socket.h>

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define STUCK_EVERY	1000	/* ms between looks when bytes are under way */
/* The last words of a program, relayed: ms for a client that takes nothing. */
#define LAST_WORDS	30000

/* A program that runs. */
struct watch {
	struct conn	*conn;
	struct launch	*program;
	struct relay	*relay;		/* it was there before; or NULL */
	uint64_t	 moved;		/* bytes, at the last look, and ... */
	int64_t		 moved_at;	/* ... when the last of them did */
	int64_t		 look_at;	/* deadlines; 0: none */
	int64_t		 drain_at;
	int64_t		 kill_at;	/* ... and it was told to end */
	int64_t		 others_at;	/* the same of those that wait */
	bool		 told;
	bool		 counted;	/* all that has passed */
	bool		 last;		/* its last words are relayed */
};

static HOT const struct worker *self;
static HOT const struct conf_service *service;
static HOT int service_row;
static _Alignas(4096) struct program_env env;	/* a page, mostly */

/* As the master says it: at once, and without a word to the client. */
static void
quit_if_told(void)
{
	if (handler_pending[SIGQUIT] == 0)
		return;
	session_end_all(0);
	atomic_store(&self->slot->state, SLOT_LEAVING);
	_exit(WORKER_LEFT);
}

int
exec_start(const struct worker *w)
{
	self = w;
	service = w->conf;
	service_row = (int)
	    w->board->shown->listener[w->listener->index].service;
	launch_setup(w);
	if (session_setup() == -1) {
		log_error("prctl PR_SET_CHILD_SUBREAPER");
		return -1;
	}
	if (service->prespawn == 0)
		return 0;
	program_env_start(&env, service);
	if (prespawn_setup(service, env.variable) == -1)
		return -1;
	prespawn_rest();
	return 0;
}

void
exec_rest(void)
{
	if (service->prespawn > 0)
		prespawn_rest();
}

void
exec_stop(void)
{
	if (service->prespawn > 0)
		prespawn_retire(NULL, SIGTERM);
	session_end_all(PROGRAM_GRACE);
	if (service->prespawn > 0)
		prespawn_stop();
	launch_stop();
	quit_if_told();
}

static void
describe_unix(struct conn *c)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	program_env_put(&env, "PROTO", "IPC");
	program_env_put(&env, "IPCLOCALPATH", "%s", conn_local_address(c));
	if (address_path(&c->peer) != NULL)
		program_env_put(&env, "IPCREMOTEPATH", "%s",
		    conn_peer_address(c));
	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
		return;
	program_env_put(&env, "IPCREMOTEEUID", "%u", (unsigned int)peer.uid);
	program_env_put(&env, "IPCREMOTEEGID", "%u", (unsigned int)peer.gid);
}

static bool
same_peer(const struct slot *a, const struct slot *b)
{
	return look_serving(a) && a->service == b->service &&
	    a->peer_family == b->peer_family && a->peer[0] == b->peer[0] &&
	    a->peer[1] == b->peer[1];
}

/* Connections of this client's address to this service, by what slots say. */
static int
count_connections(void)
{
	const struct slot *slot = self->board->commons->slot;
	int i, n = 0, used = (int)atomic_load(&self->board->shown->slots_used);

	for (i = 0; i < used && i < self->board->nslots; i++)
		if (same_peer(&slot[i], self->slot))
			n++;
	return n;
}

static void
describe(struct conn *c)
{
	program_env_start(&env, service);
	program_env_put(&env, "PREFORKD_CLIENT", "%llu",
	    (unsigned long long)c->number);
	if (atomic_load(&self->board->shown->service[service_row].full) != 0)
		program_env_put(&env, "PREFORKD_STRESS", "1");
	if (c->peer.ss.ss_family == AF_UNIX) {
		describe_unix(c);
		return;
	}
	program_env_put(&env, "PROTO", "TCP");
	program_env_put(&env, "TCPLOCALIP", "%s", conn_local_address(c));
	program_env_put(&env, "TCPLOCALPORT", "%u", conn_local_port(c));
	program_env_put(&env, "TCPREMOTEIP", "%s", conn_peer_address(c));
	program_env_put(&env, "TCPREMOTEPORT", "%u", conn_peer_port(c));
	program_env_put(&env, "TCPCONNNUM", "%d", count_connections());
}

/* The rule that let the client in has the last word. */
static bool
describe_by_rule(void)
{
	const char *p = admit_variables();
	char name[256];
	size_t len;

	for (; *p != '\0'; p += strlen(p) + 1) {
		len = strcspn(p, "=");
		if (len >= sizeof(name) || p[len] == '\0')
			return false;
		memcpy(name, p, len);
		name[len] = '\0';
		if (!program_env_put(&env, name, "%s", p + len + 1))
			return false;
	}
	return true;
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

static void
end_program(struct watch *w, int64_t now, enum conn_end why)
{
	if (w->told)
		return;
	w->told = true;
	w->conn->end = why;
	w->kill_at = now + PROGRAM_GRACE;
	session_signal(&w->program->session, SIGTERM);
}

/* Ask what has passed so far; false when that cannot be known. */
static bool
count_traffic(const struct watch *w, struct traffic *t)
{
	struct conn *c = w->conn;

	if (!traffic_of(c->fd, t) && w->relay == NULL)
		return false;
	if (w->relay != NULL)
		relay_traffic(w->relay, t);
	else
		t->in -= t->in < c->header ? t->in : c->header;
	c->bytes_in = t->in;
	c->bytes_out = t->out;
	if (t->in == 0)
		return true;
	c->first_byte_at = 0;
	if (c->heard != NULL)
		atomic_store_explicit(c->heard, 1, memory_order_relaxed);
	return true;
}

/* The master wants room for others: when the client has been silent. */
static void
make_room(struct watch *w, int64_t now)
{
	struct traffic t;

	handler_room = 0;
	if (count_traffic(w, &t) && t.in == 0 &&
	    now - w->conn->started >= CONN_SILENT)
		end_program(w, now, CONN_MADE_ROOM);
}

/* Whether a byte has come, and when the last one has moved. */
static void
look_at_traffic(struct watch *w, int64_t now)
{
	struct conn *c = w->conn;
	int64_t idle_at = 0, slow_at = 0;
	struct traffic t;

	w->look_at = 0;
	if (!count_traffic(w, &t))
		return;
	if (t.moved != w->moved)
		w->moved_at = t.stuck ? now : now - t.quiet;
	w->moved = t.moved;
	if (c->idle_timeout != 0)
		idle_at = w->moved_at + c->idle_timeout;
	if (c->min_rate.count != 0)
		slow_at = conn_slow_at(c);
	if (c->first_byte_at != 0 && now > c->first_byte_at)
		end_program(w, now, CONN_FIRST_BYTE_TIMEOUT);
	else if (idle_at != 0 && now > idle_at)
		end_program(w, now, CONN_IDLE_TIMEOUT);
	else if (slow_at != 0 && now > slow_at)
		end_program(w, now, CONN_TOO_SLOW);
	w->look_at = earlier(earlier(c->first_byte_at, idle_at), slow_at);
	if (idle_at != 0 && t.stuck)
		w->look_at = earlier(w->look_at, now + STUCK_EVERY);
}

static void
keep_deadlines(struct watch *w, int64_t now)
{
	struct conn *c = w->conn;
	int64_t from;

	if (handler_retired && w->drain_at == 0) {
		from = atomic_load(&self->board->shown->stop_from);
		w->drain_at = (from != 0 ? from : now) +
		    service->drain_timeout;
		if (w->relay != NULL) {
			prespawn_retire(w->program, SIGTERM);
			w->others_at = now + PROGRAM_GRACE;
		}
	}
	if (w->others_at != 0 && now > w->others_at) {
		prespawn_retire(w->program, SIGKILL);
		w->others_at = 0;
	}
	if (c->total_at != 0 && now > c->total_at)
		end_program(w, now, CONN_TOTAL_TIMEOUT);
	if (w->drain_at != 0 && now > w->drain_at)
		end_program(w, now, CONN_DRAIN_TIMEOUT);
	if (handler_room != 0 && !w->told)
		make_room(w, now);
	if (!w->told && w->look_at != 0 && now > w->look_at)
		look_at_traffic(w, now);
	if (w->kill_at != 0 && now > w->kill_at) {
		session_signal(&w->program->session, SIGKILL);
		w->kill_at = 0;
	}
	launch_tell(now);
}

/* How long to wait; -1: for ever.  A deadline passes a millisecond later. */
static int64_t
time_left(const struct watch *w)
{
	int64_t until = earlier(launch_due(), w->others_at), left;

	if (w->told)
		until = earlier(until, w->kill_at);
	else {
		until = earlier(until, w->look_at);
		until = earlier(until, w->program->session.look_at);
		until = earlier(until, w->conn->total_at);
		until = earlier(until, w->drain_at);
	}
	if (until == 0)
		return -1;
	left = until - clock_now() + 1;
	return left < 0 ? 0 : left;
}

static void
watch_begin(struct watch *w)
{
	const struct conn *c = w->conn;

	w->moved_at = c->started;
	w->look_at = c->first_byte_at;
	if (c->idle_timeout != 0)
		w->look_at = earlier(w->look_at, c->started + c->idle_timeout);
	if (c->min_rate.count != 0)
		w->look_at = earlier(w->look_at, conn_slow_at(c));
}

/* The program has ended: what it has left behind is still to be relayed. */
static void
begin_last(struct watch *w)
{
	struct conn *c = w->conn;

	relay_last(w->relay);
	c->first_byte_at = 0;
	c->idle_timeout = earlier(c->idle_timeout, LAST_WORDS);
	w->look_at = earlier(w->look_at, clock_now() + c->idle_timeout);
}

/* Whether there is nothing more to wait for. */
static bool
is_over(struct watch *w)
{
	if (!w->program->session.over)
		return false;
	if (w->relay == NULL)
		return true;
	if (!w->last) {
		w->last = true;
		begin_last(w);
	}
	relay_move(w->relay);
	return w->told || relay_is_over(w->relay);
}

/*
 * When nobody is left who could say more, the client is let go before the
 * program is buried: the next one may come meanwhile.
 */
static void
hang_up(struct watch *w)
{
	struct traffic t;

	if (w->relay != NULL || !session_is_silent(&w->program->session))
		return;
	count_traffic(w, &t);
	w->counted = true;
	shutdown(w->conn->fd, SHUT_WR);
}

static void
watch(struct watch *w)
{
	struct pollfd pfd[3] = { { .fd = -1 }, { .fd = -1 }, { .fd = -1 } };
	int64_t now = w->conn->started;

	watch_begin(w);
	while (!is_over(w)) {
		if (handler_retired && w->drain_at == 0)
			keep_deadlines(w, clock_now());
		pfd[0] = (struct pollfd){ .fd = w->program->words[0],
		    .events = POLLIN };
		if (w->relay != NULL)
			relay_events(w->relay, pfd + 1);
		sig_poll(pfd, 3, time_left(w));
		quit_if_told();
		now = clock_now();
		if (pfd[0].revents != 0)
			launch_hear(w->program, now);
		if (pfd[1].revents != 0 || pfd[2].revents != 0)
			relay_move(w->relay);
		hang_up(w);
		session_reap();
		if (!w->program->session.over || w->relay != NULL)
			keep_deadlines(w, now);
	}
	launch_hear_last(w->program, now);
}

/*
 * How it ended, for the log.  What the program may have set for the end of
 * the connection would keep the worker, or cut the client off.
 */
static void
account(struct watch *w)
{
	const struct linger none = { 0, 0 };
	struct conn *c = w->conn;
	struct traffic t;
	char how[sizeof(c->note) - 1];

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	if (!w->counted)
		count_traffic(w, &t);
	if (w->relay != NULL && w->relay->reset && c->end == CONN_SERVED)
		c->end = CONN_RESET;
	snprintf(c->note, sizeof(c->note), " %s",
	    launch_status(w->program, how, sizeof(how)));
}

static void
serve(struct watch *w)
{
	launch_listen(w->program, w->conn->number);
	w->program->session.fd = w->conn->fd;
	watch(w);
	account(w);
}

/* By a program that was started for this client; NULL, or why not. */
static const char *
serve_started(struct conn *c)
{
	struct launch program;
	struct watch w = { .conn = c, .program = &program };
	const char *why;

	describe(c);
	if (!describe_by_rule())
		return "no room for the variables of its rule";
	if ((why = launch(&program, c->fd, env.variable)) == NULL)
		serve(&w);
	return why;
}

/* By one that was there before, or else has been started the same way. */
static const char *
serve_prespawned(struct conn *c)
{
	struct prespawned *p;
	struct relay relay;
	struct watch w = { .conn = c, .relay = &relay };
	const char *why;

	if ((why = prespawn_take(&p)) != NULL)
		return why;
	w.program = &p->launch;
	relay_begin(&relay, c->fd, p->fd);
	relay_move(&relay);
	serve(&w);
	prespawn_done(p);
	return NULL;
}

void
exec_serve(struct conn *c)
{
	const char *why;
	sigset_t old;

	sig_block(&old);
	quit_if_told();
	session_watch();
	if (service->prespawn > 0)
		why = serve_prespawned(c);
	else
		why = serve_started(c);
	if (why != NULL) {
		launch_failed(why);
		c->end = CONN_FAILED;
	}
	if (service->prespawn == 0)
		session_rest();
	sigprocmask(SIG_SETMASK, &old, NULL);
}
