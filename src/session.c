/*
 * session.c: the sessions that programs of this worker lead, to their end.
 *
 * When a program has ended, what is left of its session is killed, before its
 * pid can be anybody else's.  While a client is served, that is put off: what
 * hands the last words of the program on, as the other half of recordio(1)
 * does, has until nothing has moved for 0.2 s, and 1 s at most.  What has left
 * the session, by setsid(2), is its own: it goes on, and is reaped here when it
 * ends, for orphans of the programs become children of the worker
 * (PR_SET_CHILD_SUBREAPER).  So no zombie stays, and only children that have
 * not been reaped are signalled.
 *
 * SIGCHLD has a handler that does nothing, so that ppoll(2) fails with EINTR;
 * the owner calls session_reap() then.  A worker that rests and has no program
 * ignores it, so that the kernel reaps what ends meanwhile.  Calls sig.c and
 * log.c.
 *
 * Limits: in a root directory without /proc, what has a process group of its
 * own in a session is not found.  A member whose parent has left the session
 * is found when it has lost that parent, at the end of the next program.
 */

#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "preforkd.h"

#define MEMBERS_TIME	500	/* ms, for those killed to die */
#define MEMBERS_EVERY	5
#define LAST_SILENT	200	/* ms, for those that are left, ... */
#define LAST_TIME	1000	/* ... and while they go on */

static HOT LIST_HEAD(, session) sessions = LIST_HEAD_INITIALIZER(sessions);
static HOT bool strays;		/* there are children of none */
static HOT bool ignored;		/* and SIGCHLD is, for them */

int
session_setup(void)
{
	return prctl(PR_SET_CHILD_SUBREAPER, 1);
}

void
session_watch(void)
{
	if (ignored)
		sig_children(false);
	ignored = false;
}

void
session_rest(void)
{
	if (!strays || !LIST_EMPTY(&sessions))
		return;
	sig_children(true);
	ignored = true;
	session_reap();
}

void
session_begin(struct session *s, pid_t pid)
{
	*s = (struct session){ .pid = pid, .fd = -1 };
	LIST_INSERT_HEAD(&sessions, s, entry);
}

void
session_signal(struct session *s, int number)
{
	s->told = true;
	if (!s->over && kill(-s->pid, number) == -1)
		log_warn("kill of a program pid=%ld", (long)s->pid);
}

/*
 * The children that belong to a session whose leader has ended: number and
 * session stay the same while one is not reaped.  Reaps those that have ended,
 * once all are killed when `end' says so.  Returns how many there were, and
 * whether all are dead.
 */
static int
look_at_members(pid_t session, bool end, bool *dead)
{
	FILE *children;
	int n = 0;
	pid_t pid;

	*dead = true;
	if ((children = fopen("/proc/thread-self/children", "re")) == NULL)
		return 0;
	while (fscanf(children, "%d", &pid) == 1) {
		if (pid <= 1 || pid == session || getsid(pid) != session)
			continue;
		if (end && kill(pid, SIGKILL) == -1) {
			log_warn("kill of a program's child pid=%ld",
			    (long)pid);
			continue;
		}
		if (waitpid(pid, NULL, WNOHANG) == 0)
			*dead = false;
		n++;
	}
	fclose(children);
	return n;
}

/* Orphans of those that die come to light: look until there is nobody. */
static void
end_members(pid_t session)
{
	const int64_t until = clock_now() + MEMBERS_TIME;
	bool dead;

	while (look_at_members(session, true, &dead) > 0 &&
	    clock_now() < until)
		if (!dead)
			sig_poll(NULL, 0, MEMBERS_EVERY);
}

/* Somebody who has ended, not reaped yet; 0: nobody; -1: no child is left. */
static pid_t
who_ended(void)
{
	siginfo_t info = { .si_pid = 0 };

	while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == -1)
		if (errno != EINTR)
			return -1;
	return info.si_pid;
}

/*
 * No child but such as have ended: those alone are none to wait for until they
 * stop, says waitid(2), and that is cheaper than to read who there is.
 */
static bool
nobody_lives(void)
{
	siginfo_t info;

	return waitid(P_ALL, 0, &info, WSTOPPED | WNOHANG | WNOWAIT) == -1 &&
	    errno == ECHILD;
}

bool
session_is_silent(struct session *s)
{
	s->silent = who_ended() == s->pid && nobody_lives();
	return s->silent;
}

/* Whether the others of a session whose program has ended may go on. */
static bool
goes_on(struct session *s)
{
	const int64_t now = clock_now();
	struct traffic t;
	bool dead;

	if (s->fd == -1 || s->told || s->silent || nobody_lives())
		return false;
	look_at_members(s->pid, false, &dead);
	if (dead)
		return false;
	if (s->last_at == 0) {
		s->last_at = now + LAST_TIME;
		s->look_at = now + LAST_SILENT;
	}
	if (traffic_of(s->fd, &t) && t.moved != s->moved) {
		s->moved = t.moved;
		s->look_at = now + LAST_SILENT;
	}
	return now < s->look_at && now < s->last_at;
}

static struct session *
find(pid_t pid)
{
	struct session *s;

	LIST_FOREACH(s, &sessions, entry)
		if (s->pid == pid)
			break;
	return s;
}

void
session_reap(void)
{
	struct session *s;
	pid_t pid;

	while ((pid = who_ended()) > 0) {
		if ((s = find(pid)) == NULL) {
			waitpid(pid, NULL, WNOHANG);
			continue;
		}
		if (goes_on(s))
			break;
		kill(-pid, SIGKILL);
		waitpid(pid, &s->status, WNOHANG);
		s->over = true;
		s->ended = clock_now();
		s->look_at = 0;
		LIST_REMOVE(s, entry);
		if (who_ended() == -1) {
			pid = -1;
			break;
		}
		end_members(pid);
	}
	strays = pid >= 0;
}

/* Until there is none, or until then; 0: for ever. */
static void
wait_for_all(int64_t until)
{
	int64_t left = -1;

	for (;;) {
		session_reap();
		if (until != 0 && (left = until - clock_now()) < 0)
			left = 0;
		if (LIST_EMPTY(&sessions) || left == 0 ||
		    (until != 0 && handler_pending[SIGQUIT]))
			break;
		sig_poll(NULL, 0, left);
	}
}

static void
signal_all(int number)
{
	struct session *s;

	LIST_FOREACH(s, &sessions, entry)
		session_signal(s, number);
}

void
session_end_all(int64_t grace)
{
	sigset_t old;

	if (LIST_EMPTY(&sessions))
		return;
	sig_block(&old);
	if (grace > 0) {
		signal_all(SIGTERM);
		wait_for_all(clock_now() + grace);
	}
	signal_all(SIGKILL);
	wait_for_all(0);
	sigprocmask(SIG_SETMASK, &old, NULL);
}
