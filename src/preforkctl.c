/*
 * preforkctl.c: the administrator's tool: its command line, and which server
 * is meant.
 *
 * It finds the status file and has snapshot.c copy and check it; show.c prints
 * that, control.c sends signals and waits for what becomes of them.  It works
 * as well when the master is stopped, hangs or is dead.
 *
 * Limits: a scoreboard that is kept in memory (no status-file) cannot be seen
 * from outside.
 */

#include <sys/types.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "preforkd.h"

#define STATUS_SUFFIX	".status"
#define PID_SUFFIX	".pid"
#define TIMEOUT		60		/* s */
#define TIMEOUT_MAX	86400

static const struct command {
	const char	*name;
	int		(*run)(struct server *);
	bool		 any_layout;
} commands[] = {
	{ "deaths", show_deaths, false },
	{ "json", show_json, false },
	{ "metrics", show_metrics, false },
	{ "reload", control_reload, false },
	{ "reopen", control_reopen, false },
	{ "status", show_status, false },
	{ "sources", list_sources, false },
	{ "stop", control_stop, false },
	{ "upgrade", control_upgrade, true },
	{ "workers", list_workers, false }
};

/* -i status */
static const struct command rates_command = { "status", rates_show, false };

static const struct command *
command_find(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static bool
has_suffix(const char *name, const char *suffix)
{
	size_t n = strlen(name), len = strlen(suffix);

	return n > len && strcmp(name + n - len, suffix) == 0;
}

static int
is_status_file(const struct dirent *entry)
{
	return has_suffix(entry->d_name, STATUS_SUFFIX);
}

/* Where preforkd puts status files by default, and those that are there. */
struct status_files {
	char		 dir[PATH_MAX];
	struct dirent	**entry;
	int		 n;
};

static int
status_directory(char dir[PATH_MAX], char *error)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		snprintf(dir, PATH_MAX, "%s/preforkd", RUNSTATEDIR);
	else if (runtime != NULL && runtime[0] == '/')
		snprintf(dir, PATH_MAX, "%s/preforkd", runtime);
	else
		return error_say(error, "no -s status-file, and no "
		    "XDG_RUNTIME_DIR to look for one");
	return 0;
}

/* Whether a server holds the lock of this status file. */
static bool
lives(const char *dir, const char *name)
{
	char path[PATH_MAX];
	bool held;
	int fd;

	if (snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX ||
	    (fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW |
	    O_CLOEXEC)) == -1)
		return false;
	held = holder_of(fd) != -1;
	close(fd);
	return held;
}

/* The only one, or the only one that lives; -1: none, or it is not clear. */
static int
only(const struct status_files *f)
{
	int i, found = -1;

	if (f->n <= 1)
		return f->n - 1;
	for (i = 0; i < f->n; i++) {
		if (!lives(f->dir, f->entry[i]->d_name))
			continue;
		if (found != -1)
			return -1;
		found = i;
	}
	return found;
}

static int
status_choose(const struct status_files *f, char path[PATH_MAX], char *error)
{
	int i = only(f);

	if (f->n <= 0)
		return error_say(error, "%s: no status file: preforkd has not "
		    "been started here; else name it with -s", f->dir);
	if (i != -1) {
		if (snprintf(path, PATH_MAX, "%s/%s", f->dir,
		    f->entry[i]->d_name) < PATH_MAX)
			return 0;
		return error_say(error, "%s: name too long", f->dir);
	}
	error_say(error, "%s: several status files, choose one with -s:",
	    f->dir);
	for (i = 0; i < f->n; i++) {
		strlcat(error, " ", CONF_ERROR_MAX);
		strlcat(error, f->entry[i]->d_name, CONF_ERROR_MAX);
	}
	return -1;
}

/* Where preforkd puts it by default. */
static int
status_find(char path[PATH_MAX], char *error)
{
	struct status_files f = { .n = 0 };
	int result;

	if (status_directory(f.dir, error) == -1)
		return -1;
	f.n = scandir(f.dir, &f.entry, is_status_file, alphasort);
	if (f.n == -1 && errno != ENOENT)
		return error_say(error, "%s: %s", f.dir, strerror(errno));
	result = status_choose(&f, path, error);
	while (f.n > 0)
		free(f.entry[--f.n]);
	free(f.entry);
	return result;
}

/* NAME.pid lies beside NAME.status. */
static int
status_beside(const char *pid_file, char path[PATH_MAX], char *error)
{
	int stem = (int)strlen(pid_file) - (int)strlen(PID_SUFFIX);

	if (!has_suffix(pid_file, PID_SUFFIX))
		return error_say(error, "%s: no name that ends in .pid: name "
		    "the status file, too, with -s", pid_file);
	if (snprintf(path, PATH_MAX, "%.*s%s", stem, pid_file,
	    STATUS_SUFFIX) < PATH_MAX)
		return 0;
	return error_say(error, "%s: name too long", pid_file);
}

int
server_identify(const struct server *server, bool to_signal,
    char error[CONF_ERROR_MAX])
{
	const struct snapshot *s = &server->now;
	const char *name = s->file[0].name;

	if (s->holder > 0 && s->holder != s->status.pid)
		return error_say(error, "%s: locked by process %d, written by "
		    "process %d", name, s->holder, s->status.pid);
	if (server->pid_file != NULL && holder_check_pid_file(server->pid_file,
	    s->status.pid, error) == -1)
		return -1;
	if (!to_signal)
		return 0;
	if (s->holder == 0)
		return error_say(error, "%s: cannot tell which process has "
		    "locked it: it may be of another pid namespace", name);
	if (s->owner != 0 && s->owner != geteuid())
		return error_say(error, "%s: file of another user", name);
	return 0;
}

static int
server_open(struct server *server, const char *path, bool head, char *error)
{
	char found[PATH_MAX];

	if (path == NULL && server->pid_file != NULL) {
		if (status_beside(server->pid_file, found, error) == -1)
			return -1;
		path = found;
	} else if (path == NULL) {
		if (status_find(found, error) == -1)
			return -1;
		path = found;
	}
	if (snapshot_init(&server->now, path) == -1)
		return error_say(error, "%s: name too long", path);
	server->read = head ? snapshot_read_head : snapshot_read;
	if (server->read(&server->now, error) == -1)
		return -1;
	if (head)
		return 0;
	return snapshot_read_slots(&server->now, error);
}

__attribute__((__noreturn__))
static void
usage(void)
{
	fprintf(stderr,
	    "usage: preforkctl [-p pid-file] [-s status-file]\n"
	    "                  status | deaths | json | metrics\n"
	    "       preforkctl [-c count] -i seconds [-n service] "
	    "[-p pid-file]\n"
	    "                  [-s status-file] status\n"
	    "       preforkctl [-a age] [-n service] [-o order] "
	    "[-p pid-file] [-S state]\n"
	    "                  [-s status-file] workers\n"
	    "       preforkctl [-a age] [-n service] [-p pid-file] "
	    "[-S state]\n"
	    "                  [-s status-file] sources\n"
	    "       preforkctl [-p pid-file] [-s status-file] [-t seconds]\n"
	    "                  reload | reopen | stop | upgrade\n"
	    "       preforkctl -V\n");
	exit(EX_USAGE);
}

/* Say what is allowed. */
__attribute__((__noreturn__))
static void
bad(int option, const char *value, const char *allowed)
{
	log_warnx("-%c %s: must be %s", option, value, allowed);
	exit(EX_USAGE);
}

/* With -n. */
static void
check_service(const struct server *server)
{
	const char *name = server->selection.service;
	int i;

	if (name == NULL)
		return;
	for (i = 0; i < CONF_SERVICES_MAX; i++)
		if (server->now.status.service[i].used &&
		    strcmp(server->now.status.service[i].name, name) == 0)
			return;
	bad('n', name, "a service of this server");
}

static int
run(struct server *server, const struct command *command, const char *path)
{
	char error[CONF_ERROR_MAX];
	int code;

	if (server_open(server, path, command->any_layout, error) == 0) {
		check_service(server);
		code = command->run(server);
	} else {
		code = CTL_UNKNOWN;
		if (command->run == show_status)
			printf("preforkd UNKNOWN: %s\n", error);
		else
			log_warnx("%s", error);
	}
	snapshot_free(&server->now);
	if (fflush(stdout) == EOF || ferror(stdout)) {
		log_warn("standard output");
		return CTL_UNKNOWN;
	}
	return code;
}

static int
seconds(const char *text)
{
	const char *wrong;
	int n = (int)strtonum(text, 0, TIMEOUT_MAX, &wrong);

	if (wrong != NULL) {
		log_warnx("--timeout %s: %s: must be seconds, 0 (none) to %d",
		    text, wrong, TIMEOUT_MAX);
		exit(EX_USAGE);
	}
	return n;
}

static enum order
order_of(const char *name)
{
	static const char *const names[] = {
		[ORDER_SLOT] = "slot",
		[ORDER_AGE] = "age",
		[ORDER_SERVED] = "served",
		[ORDER_SERVICE] = "service",
		[ORDER_STATE] = "state"
	};
	unsigned int i;

	for (i = ORDER_SLOT; i <= ORDER_STATE; i++)
		if (strcmp(name, names[i]) == 0)
			return i;
	bad('o', name, "age, served, service, slot or state");
}

/* One that workers can be in, or nothing would ever be shown. */
static const char *
state_of(const char *name)
{
	uint32_t state;

	for (state = SLOT_STARTING; state <= SLOT_LEAVING; state++)
		if (strcmp(name, slot_state_name(state)) == 0)
			return name;
	if (strcmp(name, "ready") == 0)
		return name;
	bad('S', name, "starting, idle, ready, busy, draining, closing or "
	    "leaving");
}

/* Options of what is shown. */
static bool
take_option(struct server *server, int ch)
{
	switch (ch) {
	case 'a':
		if (!parse_duration(optarg, 0, SETTING_YEAR,
		    &server->selection.age))
			bad('a', optarg, "a duration, as 30s, 5m or 2h");
		return true;
	case 'c':
		if (!parse_number(optarg, 1, INT32_MAX, &server->count))
			bad('c', optarg, "a number, 1 or more");
		return true;
	case 'i':
		if (!parse_duration(optarg, 1, SETTING_YEAR,
		    &server->interval))
			bad('i', optarg, "seconds, or a duration as 500ms");
		return true;
	case 'n':
		server->selection.service = optarg;
		return true;
	case 'o':
		server->selection.order = order_of(optarg);
		return true;
	case 'S':
		server->selection.state = state_of(optarg);
		return true;
	default:
		return false;
	}
}

/* Whether the options that were given mean something to the command. */
static bool
is_for(const struct command *command, const struct server *server)
{
	const struct selection *s = &server->selection;

	if (command->run == list_workers || command->run == list_sources)
		return server->interval == 0 && server->count == 0 &&
		    (command->run == list_workers ||
		    s->order == ORDER_SLOT);
	if (s->state != NULL || s->age != 0 || s->order != ORDER_SLOT)
		return false;
	if (command->run == rates_show)
		return true;
	return server->interval == 0 && server->count == 0 &&
	    s->service == NULL;
}

int
main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "timeout", required_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 }
	};
	static struct server server = { .timeout = TIMEOUT };
	const struct command *command;
	const char *path = NULL;
	int ch;

	log_init("preforkctl");
	while ((ch = getopt_long(argc, argv, "a:c:i:n:o:p:S:s:t:V", options,
	    NULL)) != -1) {
		switch (ch) {
		case 'p':
			server.pid_file = optarg;
			break;
		case 's':
			path = optarg;
			break;
		case 't':
			server.timeout = seconds(optarg);
			break;
		case 'V':
			printf("preforkctl %s\n", PACKAGE_VERSION);
			return 0;
		default:
			if (!take_option(&server, ch))
				usage();
		}
	}
	if (argc - optind != 1)
		usage();
	if ((command = command_find(argv[optind])) == NULL) {
		log_warnx("%s: no such command", argv[optind]);
		usage();
	}
	if (server.interval != 0 && command->run == show_status)
		command = &rates_command;
	if (!is_for(command, &server)) {
		log_warnx("%s: not with these options", command->name);
		usage();
	}
	return run(&server, command, path);
}
