/*
 * sig.c: the table of signals, and the dispositions of each kind of process.
 *
 * The table is the one source for what the master does with a signal: it
 * installs the handlers, and the test of preforkd(8) reads it.  Everything
 * handled is blocked except while ppoll(2) waits, so there is no window
 * between looking at a flag and sleeping.
 */

#include <sys/syscall.h>

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

struct sig_row {
	int		 number;
	const char	*name;
	void		(*master)(int);
	void		(*worker)(int);
	const char	*effect;	/* on the master; for people */
};

static const struct sig_row sig_rows[] = {
	{ SIGTERM, "SIGTERM", handler_note, handler_retire,
	    "stop gracefully; a second one stops at once" },
	{ SIGINT, "SIGINT", handler_note, SIG_IGN, "stop at once" },
	{ SIGQUIT, "SIGQUIT", handler_note, SIG_IGN, "stop at once" },
	{ SIGHUP, "SIGHUP", handler_note, SIG_IGN,
	    "reload the configuration" },
	{ SIGUSR1, "SIGUSR1", handler_note, SIG_IGN, "reopen the log" },
	{ SIGUSR2, "SIGUSR2", handler_note, SIG_IGN,
	    "upgrade: go on as the program that is installed now" },
	{ SIGCHLD, "SIGCHLD", handler_note, SIG_DFL,
	    "bury and replace dead workers" },
	{ SIGPIPE, "SIGPIPE", handler_nothing, handler_nothing, "nothing" },
	{ SIGXFSZ, "SIGXFSZ", SIG_IGN, SIG_IGN, "nothing" },
};

#define SIG_ROWS	(sizeof(sig_rows) / sizeof(sig_rows[0]))

static void
sig_set(int number, void (*handler)(int), int flags)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = handler;
	sa.sa_flags = flags;
	sigfillset(&sa.sa_mask);
	sigaction(number, &sa, NULL);
}

void
sig_default(void)
{
#ifdef SYS_rt_sigaction
	const unsigned long as_default[4] = { 0 };	/* as the kernel's */
#endif
	int i;

	for (i = 1; i < NSIG; i++)
		if (i != SIGKILL && i != SIGSTOP)
			sig_set(i, SIG_DFL, 0);
#ifdef SYS_rt_sigaction
	/* Those that the C library keeps for itself: make(1) ignores them. */
	for (i = 32; i < SIGRTMIN; i++)
		syscall(SYS_rt_sigaction, i, as_default, NULL,
		    sizeof(as_default[0]));
#endif
}

void
sig_reset(void)
{
	sig_default();
	sig_unblock_all();
}

void
sig_block(sigset_t *old)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, old);
}

void
sig_unblock_all(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void
sig_master(void)
{
	size_t i;

	for (i = 0; i < SIG_ROWS; i++)
		sig_set(sig_rows[i].number, sig_rows[i].master, 0);
}

/* What waits for its turn in the master is no news for its child. */
static void
forget(void)
{
	size_t i;

	for (i = 0; i < NSIG; i++)
		handler_pending[i] = 0;
}

/*
 * What a worker ignores has a handler in one with programs, so that execve(2)
 * makes it the default again, and their start need not.  None is ignored for
 * an instant: what the master has sent by now waits for its turn.
 */
void
sig_worker(bool programs)
{
	void (*handler)(int);
	size_t i;

	forget();
	for (i = 0; i < SIG_ROWS; i++) {
		handler = sig_rows[i].worker;
		if (programs && handler == SIG_IGN)
			handler = handler_nothing;
		sig_set(sig_rows[i].number, handler, SA_RESTART);
	}
	/* A nudge by the master: accept(2) is to fail with EINTR. */
	sig_set(SIGVTALRM, handler_nothing, 0);
	/* The same: a call that waits for the client is to fail. */
	sig_set(SIGUSR2, handler_make_room, 0);
	if (!programs)
		return;
	sig_set(SIGQUIT, handler_quit, 0);
	sig_children(false);
}

void
sig_children(bool ignore)
{
	sig_set(SIGCHLD, ignore ? SIG_IGN : handler_program_ended, 0);
}

/*
 * A descriptor that is ready comes before a signal in ppoll(2), so whoever
 * keeps one ready would keep signals out: the second call lets them in.
 */
int
sig_poll(struct pollfd *fds, nfds_t n, int64_t ms)
{
	const struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };
	const struct timespec at_once = { 0, 0 };
	sigset_t none;
	int ready;

	sigemptyset(&none);
	if ((ready = ppoll(fds, n, ms < 0 ? NULL : &ts, &none)) > 0)
		ppoll(NULL, 0, &at_once, &none);
	return ready;
}

/* Those whose handlers do more than nothing; execve(2) resets the others. */
void
sig_reset_exec(void)
{
	sig_set(SIGTERM, SIG_DFL, 0);
	sig_set(SIGQUIT, SIG_DFL, 0);
	sig_set(SIGUSR2, SIG_DFL, 0);
	sig_unblock_all();
}

/*
 * The logger ends when its pipe does; it reopens its file at SIGUSR1, and
 * leaves at SIGUSR2, for another to go on.
 */
void
sig_logger(void)
{
	size_t i;

	forget();
	for (i = 0; i < SIG_ROWS; i++)
		sig_set(sig_rows[i].number, SIG_IGN, 0);
	sig_set(SIGCHLD, SIG_DFL, 0);
	sig_set(SIGPIPE, handler_nothing, SA_RESTART);
	sig_set(SIGUSR1, handler_note, 0);
	sig_set(SIGUSR2, handler_note, 0);
}

const char *
sig_name(int number)
{
	static char text[16];
	const char *name;

	if ((name = sigabbrev_np(number)) != NULL)
		snprintf(text, sizeof(text), "SIG%s", name);
	else
		snprintf(text, sizeof(text), "signal %d", number);
	return text;
}

void
sig_table(FILE *out)
{
	size_t i;

	for (i = 0; i < SIG_ROWS; i++)
		fprintf(out, "%s\t%s\n", sig_rows[i].name, sig_rows[i].effect);
}
