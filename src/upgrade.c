/*
 * upgrade.c: another program takes this one's place, under its pid.
 *
 * SIGUSR2 opens the program once, by the path that this one was started from.
 * A child runs that very descriptor, with the state of the master in a memory
 * file: it must say that it can read it, that it knows every setting in force,
 * and what the configuration means to it.  That is a reload's check by another
 * program, and reload.c runs it: a deadline, and one at a time.  Only then is
 * the state written once more and the descriptor executed in place, with every
 * signal blocked until the new program has its handlers.  What can be refused
 * is refused before, for after that there is no way back.  The new program
 * restores what the old one was (handover.c), and begins a generation with the
 * settings that were checked, as a reload does.
 *
 * Limits: a file that is written to between the check and the end is not
 * noticed; install(1), mv(1) and package managers make new files.  Programs
 * only: a script cannot be run by a descriptor that closes on exec.
 */

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "preforkd.h"

#define VARIABLE	"PREFORKD_UPGRADE"	/* `check', or `take=FD' */
#define STATE_MAX	(64 << 20)

/* The lines around what a check child says; comments, as settings go. */
#define SAID_BEGIN	"# preforkd that reads the state: "
#define SAID_END	"# end of what it would serve\n"

/* Descriptors of the check child; those below are /dev/null. */
enum {
	CHECK_STATE = FD_FIRST_FREE,
	CHECK_BINARY,
	CHECK_RULES,
	CHECK_LAST
};

static int state_fd;		/* when taking over */

enum upgrade_role
upgrade_start(int argc, char *argv[])
{
	const char *value = getenv(VARIABLE);
	enum upgrade_role role = UPGRADE_NONE;
	int64_t fd;

	if (value != NULL && strcmp(value, "check") == 0)
		role = UPGRADE_CHECK;
	else if (value != NULL && strncmp(value, "take=", 5) == 0 &&
	    parse_number(value + 5, FD_FIRST_FREE, INT_MAX, &fd)) {
		role = UPGRADE_TAKE;
		state_fd = (int)fd;
	}
	unsetenv(VARIABLE);
	self_save(argc, argv);
	return role;
}

/* The whole of a memory file, to be freed. */
static char *
read_all(int fd, size_t *size, char error[CONF_ERROR_MAX])
{
	struct stat st;
	char *text;
	ssize_t n;

	errno = EFBIG;
	if (fstat(fd, &st) == -1 || st.st_size > STATE_MAX ||
	    (text = malloc((size_t)st.st_size + 1)) == NULL) {
		error_say(error, "the state cannot be read: %s",
		    strerror(errno));
		return NULL;
	}
	/* Memory is read in one piece; a state that is cut has no end. */
	n = pread(fd, text, (size_t)st.st_size, 0);
	*size = n > 0 ? (size_t)n : 0;
	return text;
}

static int
load(struct state *s, int fd, char error[CONF_ERROR_MAX])
{
	size_t size;
	char *text;
	int rv;

	if ((text = read_all(fd, &size, error)) == NULL)
		return -1;
	rv = state_read(s, text, size, error);
	free(text);
	return rv;
}

static int
put_state(struct master *m, const char *next, FILE *out)
{
	struct state s = { .list = { { NULL, 0 } } };
	struct state_master *r;
	struct state_next *n;
	int rv = -1;

	if (handover_save(m, &s) == 0) {
		r = s.list[STATE_MASTER].item;
		if ((r->binary = strdup(self_path())) != NULL)
			rv = 0;
	}
	if (rv == 0 && next != NULL) {
		n = state_add(&s, STATE_NEXT);
		if (n == NULL || (n->text = strdup(next)) == NULL)
			rv = -1;
		else
			n->rules = m->reload.rules;
	}
	if (rv == 0)
		state_write(&s, out);
	state_free(&s);
	return rv;
}

/* Returns the descriptor of the state, or -1 with errno. */
static int
write_state(struct master *m, const char *next)
{
	int copied = -1, fd, rv, saved;
	FILE *out = NULL;

	if ((fd = memfd_create("preforkd-state", MFD_CLOEXEC)) != -1)
		copied = fcntl(fd, F_DUPFD_CLOEXEC, FD_FIRST_FREE);
	if (copied != -1 && (out = fdopen(copied, "w")) != NULL) {
		rv = put_state(m, next, out);
		saved = errno;
		if (fclose(out) == 0 && rv == 0)
			return fd;
		if (rv == -1)
			errno = saved;
	} else if (copied != -1)
		close(copied);
	saved = errno;
	if (fd != -1)
		close(fd);
	errno = saved;
	return -1;
}

int
upgrade_prepare(struct master *m, char error[CONF_ERROR_MAX])
{
	struct upgrade *u = &m->upgrade;
	struct stat st;

	u->binary = open(self_path(), O_RDONLY | O_CLOEXEC | O_NONBLOCK |
	    O_NOCTTY);
	if (u->binary == -1 || fstat(u->binary, &st) == -1)
		return error_say(error, "%s: %s", self_path(), strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_say(error, "%s: must be a regular file",
		    self_path());
	if ((u->state = write_state(m, NULL)) == -1)
		return error_say(error, "write of the state: %s",
		    strerror(errno));
	return 0;
}

static const char *
exec_error(void)
{
	return errno == ENOENT ? "must be a program, not a script, and its "
	    "loader must be there" : strerror(errno);
}

/* Copies first, out of the way of the numbers. */
static int
take_check_descriptors(const struct master *m, int fd)
{
	const struct upgrade *u = &m->upgrade;
	const int say = fcntl(fd, F_DUPFD_CLOEXEC, CHECK_LAST);
	const int state = fcntl(u->state, F_DUPFD_CLOEXEC, CHECK_LAST);
	const int binary = fcntl(u->binary, F_DUPFD_CLOEXEC, CHECK_LAST);
	const int rules = fcntl(m->reload.rules, F_DUPFD_CLOEXEC, CHECK_LAST);
	int i;

	for (i = 0; i < FD_FIRST_FREE; i++)
		if (i != FD_NULL && dup2(FD_NULL, i) == -1)
			return -1;
	if (fcntl(FD_NULL, F_SETFD, 0) == -1 ||
	    dup2(say, STDOUT_FILENO) == -1 || dup2(say, STDERR_FILENO) == -1 ||
	    dup2(state, CHECK_STATE) == -1 ||
	    dup2(rules, CHECK_RULES) == -1 ||
	    dup3(binary, CHECK_BINARY, O_CLOEXEC) == -1)
		return -1;
	closefrom(CHECK_LAST);
	return 0;
}

void
upgrade_run_check(const struct master *m, int fd)
{
	char variable[] = VARIABLE "=check", only_check[] = "-n";

	log_forked();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != m->board.status->pid)
		_exit(1);
	sig_reset();
	if (take_check_descriptors(m, fd) == -1)
		_exit(1);
	/* One that knows nothing of upgrades checks its configuration. */
	self_exec(CHECK_BINARY, only_check, variable);
	dprintf(STDERR_FILENO, "%s: %s\n", self_path(), exec_error());
	_exit(1);
}

/* In a scoreboard that is only memory: whether all can be restored. */
static int
try(struct conf_source *source, const struct state *s,
    char error[CONF_ERROR_MAX])
{
	static struct master m;
	const struct state_board *b = s->list[STATE_BOARD].item;
	const struct generation *newest;
	struct conf *conf;

	if ((conf = conf_load(source, error)) == NULL)
		return -1;
	m.source = source;
	m.now = clock_now();
	m.board.nslots = (int)b->nslots;
	m.board.status = calloc(1, sizeof(*m.board.status));
	m.board.commons = aligned_alloc(_Alignof(struct slot),
	    scoreboard_slots_size(m.board.nslots));
	if (m.board.status == NULL || m.board.commons == NULL)
		return error_say(error, "calloc: %s", strerror(errno));
	memset(m.board.commons, 0, scoreboard_slots_size(m.board.nslots));
	master_allocate(&m);
	if (handover_restore(&m, s, error) == -1)
		return -1;
	newest = TAILQ_FIRST(&m.generations);
	if (!conf_reloadable(newest->conf, conf, error) ||
	    !conf_fits(conf, m.board.nslots, error))
		return -1;
	printf(SAID_BEGIN "%s\n", PACKAGE_VERSION);
	dump_conf(conf, stdout);
	printf(SAID_END);
	return fflush(stdout) == 0 ? 0 : error_say(error, "write: %s",
	    strerror(errno));
}

void
upgrade_check(struct conf_source *source)
{
	char error[CONF_ERROR_MAX];
	const struct state_master *r;
	struct state s;

	sig_reset();
	if (load(&s, CHECK_STATE, error) == 0) {
		r = s.list[STATE_MASTER].item;
		source->path = r->config;
		source->rules = CHECK_RULES;
		if (try(source, &s, error) == 0)
			_exit(0);
	}
	log_errorx("%s", error);
	_exit(1);
}

/* What the check child has said, if it is not what it should be. */
static int
said_wrong(const struct reload *r, char error[CONF_ERROR_MAX])
{
	static const char name[] = "preforkd: ";
	char line[CONF_ERROR_MAX / 4];
	const char *p = r->text, *last = NULL, *end = NULL;

	for (; *p != '\0'; p += strcspn(p, "\n"), p += *p != '\0')
		if (*p != '\n') {
			last = p;
			end = p + strcspn(p, "\n");
		}
	if (WEXITSTATUS(r->wait_status) == 0 || last == NULL)
		return error_say(error, "%s: exit %d: no preforkd that can "
		    "take over", self_path(), WEXITSTATUS(r->wait_status));
	if (strncmp(last, name, sizeof(name) - 1) == 0)
		last += sizeof(name) - 1;
	log_quote(line, sizeof(line), last, (size_t)(end - last));
	return error_say(error, "%s", line);
}

/* The settings that it has said, and its version; NULL when it has not. */
static char *
settings_said(struct master *m)
{
	const struct reload *r = &m->reload;
	const size_t head = sizeof(SAID_BEGIN) - 1, tail = sizeof(SAID_END) - 1;
	char *begin, *said, version[STATUS_PRODUCT];

	if (WEXITSTATUS(r->wait_status) != 0 || r->size < tail ||
	    strcmp(r->text + r->size - tail, SAID_END) != 0 ||
	    (begin = strstr(r->text, SAID_BEGIN)) == NULL ||
	    (said = strchr(begin, '\n')) == NULL)
		return NULL;
	*said++ = '\0';
	strlcpy(version, begin + head, sizeof(version));
	log_quote(m->upgrade.to, sizeof(m->upgrade.to), version,
	    strlen(version));
	return said;
}

/* Whether what the new program needs is closed when it is executed. */
static int
close_on_exec(const struct master *m, int flag)
{
	const struct scoreboard *b = &m->board;
	const struct generation *g;
	const struct listener *l;
	int at = 0, fd, i, pid_fd, rv = 0;

	for (fd = FD_LOG; fd < FD_FIRST_FREE; fd++)
		rv |= fcntl(fd, F_SETFD, flag);
	for (i = 0; i < 3; i++)
		rv |= fcntl(b->fd[i], F_SETFD, flag);
	rv |= fcntl(b->lock, F_SETFD, flag);
	rv |= fcntl(m->log_fd, F_SETFD, flag);
	rv |= fcntl(m->poke_fd, F_SETFD, flag);
	if (daemon_pid_file(&pid_fd) != NULL)
		rv |= fcntl(pid_fd, F_SETFD, flag);
	TAILQ_FOREACH(l, &m->listeners, entry)
		rv |= fcntl(l->fd, F_SETFD, flag);
	while (listen_unused(&at, &fd) != NULL)
		rv |= fcntl(fd, F_SETFD, flag);
	TAILQ_FOREACH(g, &m->generations, entry)
		if (g->conf->rules != -1)
			rv |= fcntl(g->conf->rules, F_SETFD, flag);
	if (m->reload.rules != -1)
		rv |= fcntl(m->reload.rules, F_SETFD, flag);
	if (m->upgrade.state != -1)
		rv |= fcntl(m->upgrade.state, F_SETFD, flag);
	return rv;
}

/* Signals that have come and wait for their turn: pending, while blocked. */
static void
hand_over_signals(void)
{
	int i;

	for (i = 1; i < NSIG; i++)
		if (handler_pending[i]) {
			handler_pending[i] = 0;
			raise(i);
		}
}

void
upgrade_exec(struct master *m, char error[CONF_ERROR_MAX])
{
	struct upgrade *u = &m->upgrade;
	char *said = settings_said(m), variable[64];

	if (said == NULL) {
		said_wrong(&m->reload, error);
		return;
	}
	close(u->state);	/* written anew: children come and go */
	if ((u->state = write_state(m, said)) == -1) {
		error_say(error, "write of the state: %s", strerror(errno));
		return;
	}
	snprintf(variable, sizeof(variable), VARIABLE "=take=%d", u->state);
	hand_over_signals();
	if (close_on_exec(m, 0) == 0)
		self_exec(u->binary, NULL, variable);
	error_say(error, "%s: %s", self_path(), strerror(errno));
	if (close_on_exec(m, FD_CLOEXEC) == -1)
		log_error("fcntl FD_CLOEXEC");
}

static void
forget(struct upgrade *u)
{
	if (u->binary != -1)
		close(u->binary);
	if (u->state != -1)
		close(u->state);
	*u = (struct upgrade){ .binary = -1, .state = -1 };
}

void
upgrade_failed(struct master *m, const char *why)
{
	if (m->upgrade.from[0] == '\0')
		log_errorx("upgrade failed, everything stays as it was: %s",
		    why);
	else
		log_errorx("upgraded, but the old workers go on from=%s "
		    "to=%s: %s", m->upgrade.from, m->upgrade.to, why);
	status_upgrade_ended(m, RELOAD_FAILED, why);
	forget(&m->upgrade);
}

void
upgrade_done(struct master *m)
{
	const struct upgrade *u = &m->upgrade;

	log_notice("upgraded from=%s to=%s generation=%u", u->from, u->to,
	    m->generation);
	status_upgrade_ended(m, RELOAD_DONE, "");
	forget(&m->upgrade);
	m->reload.upgrade = false;
}

/* No way back: the workers see that the master has gone, and finish. */
__attribute__((__noreturn__))
static void
lost(const char *why)
{
	daemon_remove_pid();
	fatalx("the upgrade cannot go on: %s", why);
}

/* A text of the state, for good. */
static char *
kept(const char *text)
{
	char *p = NULL;

	if (text != NULL && (p = strdup(text)) == NULL)
		lost("out of memory");
	return p;
}

/* The same objects, or new ones in their place. */
static void
take_board(struct master *m, const struct state *s)
{
	const struct state_board *r = s->list[STATE_BOARD].item;
	struct scoreboard *b = &m->board;
	char error[CONF_ERROR_MAX];

	b->path = kept(r->file);
	b->nslots = (int)r->nslots;
	b->lock = (int)r->lock;
	b->fd[0] = (int)r->status;
	b->fd[1] = (int)r->slots;
	b->fd[2] = (int)r->counter;
	if ((handover_same_layout(s) ? scoreboard_keep(b, error) :
	    scoreboard_renew(b, error)) == -1)
		lost(error);
	log_to_pipe(FD_LOG, &b->commons->log_dropped);
}

static void
take_process(struct master *m, const struct state *s)
{
	const struct state_master *r = s->list[STATE_MASTER].item;
	const struct conf *conf = TAILQ_FIRST(&m->generations)->conf;
	struct conf_user user = { .set = false };

	/* With older kernels it would be the number of the descriptor. */
	prctl(PR_SET_NAME, basename(r->binary));
	if (r->shielded)
		privs_keep_shield((int)r->oom_score);
	/* No name service may be asked by what there is no way back from. */
	if (r->logger_user != NULL &&
	    value_user_numbers(&user, r->logger_user))
		privs_keep_logger_user(&user);
	privs_shield(conf->dumpable);
	log_set_level((enum log_level)conf->log_level);
	/* sig_default() has dropped one that waited: who has died? */
	handler_pending[SIGCHLD] = 1;
	m->state = MASTER_RUNNING;
	if (m->logger != 0 && kill(m->logger, SIGUSR2) == 0)
		m->logger_leaves = true;
}

/* The settings that were checked become a generation, or do not. */
static void
begin(struct master *m, const struct state *s)
{
	const struct state_master *r = s->list[STATE_MASTER].item;
	const struct state_next *next = s->list[STATE_NEXT].item;

	strlcpy(m->upgrade.from, r->version, sizeof(m->upgrade.from));
	strlcpy(m->upgrade.to, PACKAGE_VERSION, sizeof(m->upgrade.to));
	m->reload.upgrade = true;
	m->reload.text = kept(next->text);
	m->reload.size = strlen(next->text);
	reload_apply(m);
}

void
upgrade_take(struct master *m, struct conf_source *source)
{
	char error[CONF_ERROR_MAX];
	const struct state_master *r;
	const struct state_next *next;
	struct state s;

	sig_block(NULL);
	sig_default();
	log_to_pipe(FD_LOG, NULL);
	if (load(&s, state_fd, error) == -1)
		lost(error);
	close(state_fd);
	r = s.list[STATE_MASTER].item;
	if (r->pid_file != NULL && daemon_keep_pid_file(r->pid_file,
	    (int)r->pid_fd) == -1)
		lost(strerror(errno));
	if (s.list[STATE_NEXT].n == 0)
		lost("no settings to begin with");
	self_set_path(r->binary);
	source->path = kept(r->config);
	m->now = clock_now();
	tzset();
	take_board(m, &s);
	master_allocate(m);
	if (handover_restore(m, &s, error) == -1)
		lost(error);
	next = s.list[STATE_NEXT].item;
	if (next->rules != 0)
		m->reload.rules = (int)next->rules;
	if (close_on_exec(m, FD_CLOEXEC) == -1)
		lost("not all descriptors are there");
	take_process(m, &s);
	begin(m, &s);
	state_free(&s);
}
