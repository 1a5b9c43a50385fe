/*
 * handler.c: what runs in a signal handler, and nothing else.
 *
 * Owns the flags that handlers set.  A handler saves errno and calls nothing
 * but dup2, close, getppid and alarm (a test reads the symbols of this
 * object).  The dispositions are set in sig.c.
 *
 * handler_retire() is how a worker is told to leave.  Its listener, and no
 * other process's, becomes /dev/null: an accept(2) to come fails, one that
 * sleeps is restarted on /dev/null and fails, one that has returned is served
 * to its end.  When the master has gone nobody is left to enforce the drain
 * time, so SIGALRM, whose disposition in a worker is the default one, will.
 * handler_quit() does the same, and notes that it is to be at once.
 */

#include <errno.h>
#include <unistd.h>

#include "preforkd.h"

HOT volatile sig_atomic_t handler_pending[NSIG];
HOT volatile sig_atomic_t handler_retired;
HOT volatile sig_atomic_t handler_room;
HOT volatile sig_atomic_t handler_asleep;
HOT volatile sig_atomic_t handler_woken;
HOT pid_t handler_master;
HOT unsigned int handler_drain_seconds;
HOT _Atomic uint32_t *handler_slot_state;

void
handler_note(int sig)
{
	handler_pending[sig] = 1;
}

void
handler_retire(int sig)
{
	uint32_t busy = SLOT_BUSY;
	int saved = errno;

	(void)sig;
	handler_retired = 1;
	if (dup2(FD_NULL, FD_LISTENER) == -1)
		close(FD_LISTENER);
	if (getppid() != handler_master)
		alarm(handler_drain_seconds);
	atomic_compare_exchange_strong(handler_slot_state, &busy,
	    SLOT_DRAINING);
	errno = saved;
}

void
handler_quit(int sig)
{
	handler_note(sig);
	handler_retire(sig);
}

void
handler_program_ended(int sig)
{
	int saved = errno;

	(void)sig;
	if (!handler_asleep)
		return;
	handler_woken = 1;
	if (dup2(FD_NULL, FD_LISTENER) == -1)
		close(FD_LISTENER);
	errno = saved;
}

void
handler_make_room(int sig)
{
	(void)sig;
	handler_room = 1;
}

void
handler_nothing(int sig)
{
	(void)sig;
}
