/*
 * session.c: the sessions that programs of this worker lead, to their end.
 *
 * When a program has ended, what is left of its session is killed, before its
 * pid can be anybody else's.  What has left the session, by setsid(2), is its
 * own: it goes on, and is reaped here when it ends, for orphans of the
 * programs become children of the worker (PR_SET_CHILD_SUBREAPER).  So no
 * zombie stays, and only children that have not been reaped are signalled.
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

static LIST_HEAD(, session) sessions = LIST_HEAD_INITIALIZER(sessions);
static bool strays;			/* there are children of none */
static bool ignored;			/* and SIGCHLD is, for them */

int
session_setup(void)
{
	sig_programs(false);
	return prctl(PR_SET_CHILD_SUBREAPER, 1);
}

void
session_watch(void)
{
	if (ignored)
		sig_programs(false);
	ignored = false;
}

void
session_rest(void)
{
	if (!strays || !LIST_EMPTY(&sessions))
		return;
	sig_programs(true);
	ignored = true;
	session_reap();
}

void
session_begin(struct session *s, pid_t pid)
{
	s->pid = pid;
	s->over = false;
	LIST_INSERT_HEAD(&sessions, s, entry);
}

void
session_signal(const struct session *s, int number)
{
	if (!s->over && kill(-s->pid, number) == -1)
		log_warn("kill of a program pid=%ld", (long)s->pid);
}

/*
 * Kill and reap the children that belong to a session that has lost its
 * leader: number and session stay the same while one is not reaped.  Returns
 * how many there were, and whether all are dead.
 */
static int
kill_members(pid_t session, bool *dead)
{
	FILE *children;
	int n = 0;
	pid_t pid;

	*dead = true;
	if ((children = fopen("/proc/thread-self/children", "re")) == NULL)
		return 0;
	while (fscanf(children, "%d", &pid) == 1) {
		if (pid <= 1 || getsid(pid) != session)
			continue;
		if (kill(pid, SIGKILL) == -1) {
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

	while (kill_members(session, &dead) > 0 && clock_now() < until)
		if (!dead)
			sig_poll(NULL, 0, MEMBERS_EVERY);
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
		kill(-pid, SIGKILL);
		waitpid(pid, &s->status, WNOHANG);
		s->over = true;
		LIST_REMOVE(s, entry);
		if (who_ended() == -1) {
			pid = -1;
			break;
		}
		end_members(pid);
	}
	strays = pid == 0;
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
	const struct session *s;

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
