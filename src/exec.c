/*
 * exec.c: a program for each connection, by the UCSPI contract.
 *
 * The connection is descriptor 0 and 1 of the program; its environment says
 * who is there (ucspi-tcp(8), and IPC for Unix sockets).  The worker stays and
 * watches: it takes down what the program says on its standard error, and when
 * a timeout has passed, or the drain time of a worker that leaves, it ends the
 * program: SIGTERM, PROGRAM_GRACE, SIGKILL.  Bytes pass it by; the kernel
 * tells how many there were, and when.  So the connection ends as any other
 * does, whoever else may still hold it.
 *
 * Signals are blocked while a client is served, but for the wait, so none is
 * overlooked before it.  SIGQUIT is the master's word to end at once.
 */

#include <sys/types.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define FAILURES_EVERY	1000	/* ms between lines about exec that fails */
#define LAST_READS	32	/* a pipe holds no more, unless it is fed */
#define STUCK_EVERY	1000	/* ms between looks when bytes are under way */

/* A program that runs. */
struct watch {
	struct conn	*conn;
	struct session	 session;
	int		 words[2];	/* its standard error, or -1 */
	uint64_t	 moved;		/* bytes, at the last look, and ... */
	int64_t		 moved_at;	/* ... when the last of them did */
	int64_t		 look_at;	/* deadlines; 0: none */
	int64_t		 drain_at;
	int64_t		 kill_at;	/* ... and it was told to end */
	bool		 told;
};

static const struct worker *self;
static const struct conf_service *service;
static int service_row;
static char path[PATH_MAX];
static struct program_env fixed, env;
static struct says says;
static char words[65536];

/* As the master says it: at once, and without a word to the client. */
static void
quit_if_told(struct session *s)
{
	if (handler_pending[SIGQUIT] == 0)
		return;
	if (s != NULL) {
		session_signal(s, SIGKILL);
		while (!s->over) {
			sig_poll(NULL, 0, -1);
			session_reap();
		}
	}
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
	says.service = service->name;
	if (session_setup() == -1) {
		log_error("prctl PR_SET_CHILD_SUBREAPER");
		return -1;
	}
	program_env_start(&fixed, service);
	return 0;
}

void
exec_interrupted(void)
{
	quit_if_told(NULL);
}

void
exec_stop(void)
{
	says_finish(&says, clock_now());
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
	program_env_copy(&env, &fixed);
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

/* One line in a second, of all workers of the service. */
static void
say_failure(const char *why)
{
	struct commons_service *s =
	    &self->board->commons->service[service_row];
	int64_t now = clock_now(), told = atomic_load(&s->told);
	unsigned int n = atomic_fetch_add(&s->failures, 1) + 1;

	if (told != 0 && now >= told && now < told + FAILURES_EVERY)
		return;
	if (!atomic_compare_exchange_strong(&s->told, &told, now))
		return;
	atomic_store(&s->failures, 0);
	log_errorx("exec %s service=%s failures=%u: %s",
	    service->command[CONF_EXEC][0], service->name, n, why);
}

/*
 * Its standard error, for the program.  Both ends of the pipe stay open, or
 * the program would wake this worker when it closes its own, just before the
 * end that it waits for.
 */
static int
open_words(struct watch *w, int fd)
{
	if (service->exec_stderr == CONF_STDERR_SOCKET)
		return fd;
	if (pipe2(w->words, O_CLOEXEC) == -1)
		return -1;
	return w->words[1];
}

static void
close_words(struct watch *w)
{
	if (w->words[0] == -1)
		return;
	close(w->words[0]);
	close(w->words[1]);
	w->words[0] = -1;
}

/*
 * Looked for by the first client, and then not again unless it was not found.
 * Returns NULL, or what is wrong.
 */
static const char *
find(void)
{
	const char *why;

	if (path[0] != '\0')
		return NULL;
	if ((why = program_find(service->command[CONF_EXEC][0], path)) != NULL)
		path[0] = '\0';
	return why;
}

/* Returns NULL, or why not. */
static const char *
start(struct watch *w)
{
	const int fd = w->conn->fd, err = open_words(w, fd);
	struct program p = { .path = path, .env = env.variable,
	    .argv = service->command[CONF_EXEC], .fd = { fd, fd, err, -1 } };
	pid_t pid = -1;
	int error;

	if (err != -1)
		pid = program_start(&p);
	if (pid == -1) {
		error = errno;
		close_words(w);
		return strerror(error);
	}
	session_begin(&w->session, pid);
	says_begin(&says, w->conn->number, pid);
	return NULL;
}

/* Some of what it has said so far; there is something. */
static void
listen_to(struct watch *w, int64_t now)
{
	ssize_t n = read(w->words[0], words, sizeof(words));

	if (n > 0)
		says_feed(&says, now, words, (size_t)n);
	else if (n == 0 || errno != EINTR)
		close_words(w);
}

/* Its last words; not those of others that may still have its pipe. */
static void
end_words(struct watch *w, int64_t now)
{
	int i, size;

	for (i = 0; i < LAST_READS && w->words[0] != -1; i++) {
		if (ioctl(w->words[0], FIONREAD, &size) == -1 || size == 0)
			break;
		listen_to(w, now);
	}
	close_words(w);
	says_end(&says, now);
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
	session_signal(&w->session, SIGTERM);
}

/* Ask what has passed so far; false when that cannot be known. */
static bool
count_traffic(struct conn *c, struct traffic *t)
{
	if (!traffic_of(c->fd, t))
		return false;
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
	if (count_traffic(w->conn, &t) && t.in == 0 &&
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
	if (!count_traffic(c, &t))
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
		session_signal(&w->session, SIGKILL);
		w->kill_at = 0;
	}
	if (says_due(&says) != 0 && now >= says_due(&says))
		says_feed(&says, now, "", 0);
}

/* How long to wait; -1: for ever.  A deadline passes a millisecond later. */
static int64_t
time_left(const struct watch *w)
{
	int64_t until = says_due(&says), left;

	if (w->told)
		until = earlier(until, w->kill_at);
	else {
		until = earlier(until, w->look_at);
		until = earlier(until, w->conn->total_at);
		until = earlier(until, w->drain_at);
	}
	if (until == 0)
		return -1;
	left = until - clock_now() + 1;
	return left < 0 ? 0 : left;
}

static void
watch(struct watch *w)
{
	const struct conn *c = w->conn;
	int64_t now = c->started;
	struct pollfd pfd;

	w->moved_at = now;
	w->look_at = c->first_byte_at;
	if (c->idle_timeout != 0)
		w->look_at = earlier(w->look_at, now + c->idle_timeout);
	if (c->min_rate.count != 0)
		w->look_at = earlier(w->look_at, conn_slow_at(c));
	while (!w->session.over) {
		if (handler_retired && w->drain_at == 0)
			keep_deadlines(w, clock_now());
		pfd = (struct pollfd){ .fd = w->words[0], .events = POLLIN };
		sig_poll(&pfd, 1, time_left(w));
		quit_if_told(&w->session);
		now = clock_now();
		if (pfd.revents != 0)
			listen_to(w, now);
		session_reap();
		if (!w->session.over)
			keep_deadlines(w, now);
	}
	end_words(w, now);
}

/*
 * How it ended, for the log.  What the program may have set for the end of
 * the connection would keep the worker, or cut the client off.
 */
static void
account(struct conn *c, int status)
{
	const struct linger none = { 0, 0 };
	struct traffic t;

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	count_traffic(c, &t);
	if (WIFSIGNALED(status))
		snprintf(c->note, sizeof(c->note), " signal=%s",
		    sig_name(WTERMSIG(status)));
	else
		snprintf(c->note, sizeof(c->note), " exit=%d",
		    WEXITSTATUS(status));
}

void
exec_serve(struct conn *c)
{
	struct watch w = { .conn = c, .words = { -1, -1 } };
	const char *why;
	sigset_t old;

	describe(c);
	sig_block(&old);
	session_watch();
	why = describe_by_rule() ? find() :
	    "no room for the variables of its rule";
	if (why != NULL || (why = start(&w)) != NULL) {
		say_failure(why);
		c->end = CONN_FAILED;
	} else {
		watch(&w);
		account(c, w.session.status);
	}
	session_rest();
	sigprocmask(SIG_SETMASK, &old, NULL);
}
