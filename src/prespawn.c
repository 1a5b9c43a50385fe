/*
 * prespawn.c: programs that are started before their clients come.
 *
 * A worker of a service with `prespawn' keeps so many of them, each with one
 * end of a pair of sockets; exec.c takes one for a client, and relay.c carries
 * the bytes.  They know nothing of who will come.
 *
 * One that ends while it waits is replaced, and the third in a row not at
 * once: PAUSE_FIRST, doubled to PAUSE_LAST, until one that has waited gets a
 * client.  Of those that were there together only the first counts.  But one
 * that has spoken and ended well within ONE_SHOT has said all that it had to
 * say, and waits on as those words.
 *
 * The worker sleeps in accept(2) meanwhile.  That a program has ended, or that
 * a pause is over, is SIGCHLD, whose handler pulls the listener away as that of
 * SIGTERM does, so that no such news is slept through, whenever it comes; here
 * the listener is put back, from a second descriptor of it.
 */

#include <sys/types.h>
#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "preforkd.h"

#define FREE_DEATHS	3	/* replaced at once */
#define PAUSE_FIRST	100	/* ms */
#define PAUSE_LAST	30000
#define ONE_SHOT	5000	/* ms; no service is tired of waiting so soon */

static struct {
	int		 wanted;
	struct prespawned program[PRESPAWN_MAX + 1];	/* one has a client */
	char *const	*env;
	int		 listener;	/* to put back; -1: leaving */
	timer_t		 timer;
	unsigned int	 round;		/* of starts, until the next death */
	int		 deaths;	/* one of each round, in a row */
	int64_t		 pause;		/* ms */
	int64_t		 next_at;	/* when to try again */
} pool;

int
prespawn_setup(const struct conf_service *conf, char *const *env)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL,
	    .sigev_signo = SIGCHLD };
	int i;

	pool.wanted = conf->prespawn;
	pool.env = env;
	for (i = 0; i <= PRESPAWN_MAX; i++)
		pool.program[i].fd = -1;
	pool.listener = fcntl(FD_LISTENER, F_DUPFD_CLOEXEC, FD_FIRST_FREE);
	if (pool.listener == -1) {
		log_error("fcntl F_DUPFD_CLOEXEC");
		return -1;
	}
	if (timer_create(CLOCK_MONOTONIC, &event, &pool.timer) == -1) {
		log_error("timer_create");
		return -1;
	}
	return 0;
}

/* At some time in the future; or by a signal that has come meanwhile. */
static void
wake_at(int64_t when)
{
	const struct itimerspec at = { .it_value = { .tv_sec = when / 1000,
	    .tv_nsec = when % 1000 * 1000000 } };

	if (timer_settime(pool.timer, TIMER_ABSTIME, &at, NULL) == -1)
		log_error("timer_settime");
}

/* Workers that began together need not go on so. */
static void
pause_from(int64_t now)
{
	pool.next_at = now + pool.pause -
	    (int64_t)arc4random_uniform((uint32_t)pool.pause / 4);
	wake_at(pool.next_at);
}

/* A failure counts as a death. */
static void
back_off(int64_t now)
{
	pool.round++;
	if (++pool.deaths < FREE_DEATHS)
		return;
	pool.pause = pool.pause == 0 ? PAUSE_FIRST :
	    pool.pause < PAUSE_LAST / 2 ? pool.pause * 2 : PAUSE_LAST;
	pause_from(now);
}

static void
begin_anew(void)
{
	pool.deaths = 0;
	pool.pause = 0;
}

static const char *
start(struct prespawned *p)
{
	const char *why;
	sigset_t old;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == -1)
		return strerror(errno);
	sig_block(&old);
	why = launch(&p->launch, fds[1], pool.env);
	sigprocmask(SIG_SETMASK, &old, NULL);
	close(fds[1]);
	if (why != NULL) {
		close(fds[0]);
		return why;
	}
	p->fd = fds[0];
	p->born = clock_now();
	p->round = pool.round;
	p->settled = false;
	return NULL;
}

void
prespawn_done(struct prespawned *p)
{
	close(p->fd);
	p->fd = -1;
}

static bool
has_spoken(const struct prespawned *p)
{
	char byte;

	return recv(p->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

/* With its last words, which are for no client. */
static void
bury(struct prespawned *p)
{
	launch_listen(&p->launch, 0);
	launch_hear_last(&p->launch, clock_now());
	prespawn_done(p);
}

/* It has ended before its client came. */
static void
settle(struct prespawned *p)
{
	const struct session *s = &p->launch.session;
	const int64_t lived = s->ended - p->born;
	char how[32], why[64];

	p->settled = true;
	if (s->status == 0 && lived < ONE_SHOT && has_spoken(p))
		return;
	bury(p);
	if (pool.listener == -1)
		return;
	snprintf(why, sizeof(why), "%s while it waited for a client",
	    launch_status(&p->launch, how, sizeof(how)));
	launch_failed(why);
	if (p->round != pool.round)
		return;
	if (lived >= PAUSE_LAST)
		begin_anew();
	back_off(clock_now());
}

/* Those that wait, without those that waited in vain; and one with none. */
static int
count(struct prespawned **first, struct prespawned **unused)
{
	struct prespawned *p;
	int n = 0;

	*first = *unused = NULL;
	session_reap();
	for (p = pool.program; p <= pool.program + PRESPAWN_MAX; p++) {
		if (p->fd != -1 && p->launch.session.over && !p->settled)
			settle(p);
		if (p->fd == -1)
			*unused = p;
		else if (n++ == 0 || p->born < (*first)->born)
			*first = p;
	}
	return n;
}

/* Put the listener back, unless the worker has been told to leave. */
static void
restore_listener(void)
{
	sigset_t old;

	sig_block(&old);
	handler_woken = 0;
	if (!handler_retired &&
	    dup3(pool.listener, FD_LISTENER, O_CLOEXEC) == -1)
		log_error("dup3 of the listener");
	sigprocmask(SIG_SETMASK, &old, NULL);
}

void
prespawn_rest(void)
{
	struct prespawned *first, *unused;
	const char *why;

	/* From here on no news is slept through. */
	handler_asleep = 1;
	if (handler_woken)
		restore_listener();
	while (!handler_retired && count(&first, &unused) < pool.wanted) {
		if (pool.deaths >= FREE_DEATHS && clock_now() < pool.next_at)
			break;
		if ((why = start(unused)) != NULL) {
			launch_failed(why);
			back_off(clock_now());
		} else if (pool.deaths >= FREE_DEATHS)
			pause_from(clock_now());
	}
}

const char *
prespawn_take(struct prespawned **taken)
{
	struct prespawned *first, *unused;

	handler_asleep = 0;
	if (count(&first, &unused) == 0) {
		*taken = unused;
		return start(unused);
	}
	/* Whatever becomes of it, it is no longer one that waits. */
	first->settled = true;
	*taken = first;
	begin_anew();
	return NULL;
}

void
prespawn_retire(const struct launch *but, int signal)
{
	struct prespawned *p;

	if (pool.listener != -1)
		close(pool.listener);
	pool.listener = -1;
	for (p = pool.program; p <= pool.program + PRESPAWN_MAX; p++) {
		if (p->fd == -1 || &p->launch == but)
			continue;
		session_signal(&p->launch.session, signal);
		shutdown(p->fd, SHUT_RDWR);
	}
}

void
prespawn_stop(void)
{
	struct prespawned *p;

	for (p = pool.program; p <= pool.program + PRESPAWN_MAX; p++)
		if (p->fd != -1)
			bury(p);
}
