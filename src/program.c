/*
 * program.c: a program to run: its file, its environment, its start.
 *
 * Owns what every program starts with, whichever kind of service it is of:
 * an environment that is built anew, so that the administrator's shell does
 * not leak in; the descriptors it is given and no others; a session of its
 * own; signals as at login.  A worker calls it, after its privileges are gone.
 * It must not log and not wait.
 *
 * vfork(2): the child has this process's memory until it has called
 * execve(2), so it costs no copy of page tables, and can say what errno was.
 * All signals are blocked by the caller, and those with a handler that writes
 * are reset before they are unblocked: it would write into the parent
 * (measured).
 */

#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

/* NULL, or why the file cannot be executed. */
static const char *
look_at(const char *path)
{
	struct stat st;

	if (stat(path, &st) == -1)
		return strerror(errno);
	if (!S_ISREG(st.st_mode))
		return "must be a regular file";
	return eaccess(path, X_OK) == -1 ? strerror(errno) : NULL;
}

const char *
program_find(const char *name, char room[PATH_MAX], const char **path)
{
	char search[] = PROGRAM_PATH, *rest = search, *dir;

	*path = name;
	if (name[0] == '/')
		return look_at(name);
	*path = room;
	while ((dir = strsep(&rest, ":")) != NULL) {
		if (snprintf(room, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
			return strerror(ENAMETOOLONG);
		if (look_at(room) == NULL)
			return NULL;
	}
	return "not found in " PROGRAM_PATH;
}

/* Where a variable of that name is, or the end of the list. */
static int
find_variable(const struct program_env *e, const char *name, size_t len)
{
	int i;

	for (i = 0; i < e->n; i++)
		if (strncmp(e->variable[i], name, len) == 0 &&
		    e->variable[i][len] == '=')
			break;
	return i;
}

bool
program_env_put(struct program_env *e, const char *name, const char *fmt, ...)
{
	const size_t len = strlen(name), room = sizeof(e->text) - e->used;
	char *text = e->text + e->used;
	va_list ap;
	int i, n;

	if ((i = find_variable(e, name, len)) == PROGRAM_VARIABLES)
		return false;
	if (room <= len + 1)
		return false;
	memcpy(text, name, len);
	text[len] = '=';
	va_start(ap, fmt);
	n = vsnprintf(text + len + 1, room - len - 1, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room - len - 1)
		return false;
	e->used += len + 1 + (size_t)n + 1;
	e->variable[i] = text;
	if (i == e->n)
		e->variable[++e->n] = NULL;
	return true;
}

void
program_env_start(struct program_env *e, const struct conf_service *conf)
{
	char *const *word;
	char name[PROGRAM_NAME];
	size_t len;

	e->n = 0;
	e->used = 0;
	e->variable[0] = NULL;
	program_env_put(e, "PATH", "%s", PROGRAM_PATH);
	program_env_put(e, "PREFORKD_SERVICE", "%s", conf->name);
	for (word = conf->env; word != NULL && *word != NULL; word++) {
		len = strcspn(*word, "=");	/* conf.c saw to its length */
		memcpy(name, *word, len);
		name[len] = '\0';
		program_env_put(e, name, "%s", *word + len + 1);
	}
}

/* Twice the grace: a program that is killed takes its time to die, too. */
int64_t
program_grace(const struct conf_service *conf)
{
	return conf->kind == CONF_EXEC || conf->kind == CONF_RESIDENT ?
	    2 * PROGRAM_GRACE : 0;
}

char *
program_env_pid(struct program_env *e, const char *name)
{
	static const char room[] = "0000000000";	/* INT_MAX has ten */

	if (!program_env_put(e, name, "%s", room))
		return NULL;
	return e->text + e->used - sizeof(room);
}

/* By hand: stdio may not be used in a child of vfork(2). */
static void
put_pid(char *text, pid_t pid)
{
	pid_t power = 1;

	while (pid / power >= 10)
		power *= 10;
	for (; power > 0; power /= 10)
		*text++ = (char)('0' + pid / power % 10);
	*text = '\0';
}

/*
 * In the child, which shares its parent's memory: no call that changes it, and
 * nothing is written but what the parent has set aside for it.
 */
__attribute__((__noreturn__))
static void
become(const struct program *p, pid_t parent, volatile int *error)
{
	int i;

	sig_reset_exec();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	setsid();
	if (p->pid_text != NULL)
		put_pid(p->pid_text, getpid());
	for (i = 0; i < 4; i++)
		if (p->fd[i] != -1 && dup2(p->fd[i], i) == -1)
			break;
	if (i == 4) {
		closefrom(p->fd[3] == -1 ? 3 : 4);
		execve(p->path, p->argv, p->env);
	}
	*error = errno;
	_exit(127);
}

pid_t
program_start(const struct program *p)
{
	const pid_t self = getpid();
	volatile int error = 0;
	pid_t pid;

	if ((pid = vfork()) == 0)
		become(p, self, &error);
	if (pid == -1)
		error = errno;
	if (error == 0)
		return pid;
	if (pid != -1)
		waitpid(pid, NULL, 0);
	errno = error;
	return -1;
}

bool
program_ended(pid_t pid, int *status)
{
	siginfo_t info = { .si_pid = 0 };

	if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) ==
	    -1 || info.si_pid == 0)
		return false;
	kill(-pid, SIGKILL);
	return waitpid(pid, status, 0) == pid;
}
