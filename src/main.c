/*
 * main.c: the command line, then start-up as named steps.
 *
 * Errors up to the first worker go to standard error as `preforkd: MESSAGE';
 * from there on through the logger.  Exit codes: 0 served and stopped, 1 could
 * not start, 2 stopped with clients cut, 64 usage.
 */

#include <sys/stat.h>
#include <sys/types.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "preforkd.h"

#ifndef SYSCONFDIR
#error SYSCONFDIR and RUNSTATEDIR come from config.mk
#endif

#define SLOTS_LEAST	4096	/* of the scoreboard */
#define OPTIONS_MAX	64	/* of -l, and of -o */

struct options {
	struct conf_source source;
	char	*listens[OPTIONS_MAX + 1];
	char	*overrides[OPTIONS_MAX + 1];
	int	 nlistens, noverrides;
	bool	 print_ready;		/* -1 */
	int	 check;			/* -n, -nn */
};

static struct options options;
static HOT struct master master;

__attribute__((__noreturn__))
static void
usage(void)
{
	fprintf(stderr, "usage: preforkd [-1dnVv] [-f file] [-l address] "
	    "[-o \"keyword value\"]\n"
	    "                [service | -- program [argument ...]]\n");
	exit(EX_USAGE);
}

static void
append(char *list[], int *n, char *text)
{
	if (*n == OPTIONS_MAX) {
		log_errorx("more than %d of an option", OPTIONS_MAX);
		exit(EX_USAGE);
	}
	list[(*n)++] = text;
}

static void
apply_option(struct options *o, int option)
{
	static char verbose[] = "log-level debug";

	switch (option) {
	case '1':
		o->print_ready = true;
		break;
	case 'd':
		o->source.foreground = true;
		break;
	case 'f':
		o->source.path = optarg;
		break;
	case 'l':
		append(o->listens, &o->nlistens, optarg);
		break;
	case 'n':
		o->check++;
		break;
	case 'o':
		append(o->overrides, &o->noverrides, optarg);
		break;
	case 'V':
		printf("preforkd %s\n", PACKAGE_VERSION);
		exit(0);
	case 'v':
		append(o->overrides, &o->noverrides, verbose);
		break;
	default:
		usage();
	}
}

/*
 * A reload reads the same file, wherever the server has gone since.  What is
 * no path stays as it is, for conf_load() to say so.
 */
static const char *
absolute(const char *path)
{
	static char buf[PATH_MAX];
	size_t len;

	if (getcwd(buf, sizeof(buf)) == NULL)
		fatal("getcwd");
	len = strlen(buf);
	if (path[0] == '\0' || (size_t)snprintf(buf + len,
	    sizeof(buf) - len, "/%s", path) >= sizeof(buf) - len)
		return path;
	return buf;
}

/* A service that the command line execs is called as its program is. */
static const char *
program_name(const char *path)
{
	static char name[CONF_NAME_MAX + 1];
	const char *slash = strrchr(path, '/');
	char *p;

	strlcpy(name, slash == NULL ? path : slash + 1, sizeof(name));
	for (p = name; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && strchr("._-", *p) == NULL)
			*p = '_';
	return name;
}

static void
parse_options(struct options *o, int argc, char *argv[])
{
	int option;

	while ((option = getopt(argc, argv, "+1df:l:no:Vv")) != -1)
		apply_option(o, option);
	o->source.listens = o->listens;
	o->source.overrides = o->overrides;
	o->source.service = argv[optind];
	if (optind > 1 && strcmp(argv[optind - 1], "--") == 0) {
		if (optind == argc)
			usage();
		o->source.program = argv + optind;
		o->source.service = program_name(argv[optind]);
	} else if (argc - optind > 1)
		usage();
	if (o->source.path == NULL && o->source.service == NULL)
		o->source.path = SYSCONFDIR "/preforkd.conf";
	if (o->source.path != NULL && o->source.path[0] != '/')
		o->source.path = absolute(o->source.path);
}

/* Reserve the numbers that master and workers share. */
static void
fixed_descriptors(struct master *m)
{
	int fd, log[2], poke[2];

	for (fd = FD_LOG; fd < FD_FIRST_FREE; fd++)
		if (open("/dev/null", O_RDWR | O_CLOEXEC) != fd)
			fatal("open /dev/null");
	if (logger_pipe(log) == -1)
		fatal("pipe of the log");
	if (pipe2(poke, O_CLOEXEC | O_NONBLOCK) == -1)
		fatal("pipe to wake up");
	if (dup3(log[1], FD_LOG, O_CLOEXEC) == -1 ||
	    dup3(poke[1], FD_POKE, O_CLOEXEC) == -1)
		fatal("dup3");
	close(log[1]);
	close(poke[1]);
	m->log_fd = log[0];
	m->poke_fd = poke[0];
}

/* The name of this server: of its file, or of its service. */
static void
server_name(const struct conf_source *source, char *buf, size_t size)
{
	const char *base = source->path;
	size_t len;

	if (base == NULL)
		base = source->service;
	else if (strrchr(base, '/') != NULL)
		base = strrchr(base, '/') + 1;
	len = strlcpy(buf, base, size);
	if (len < size && len > 5 && strcmp(buf + len - 5, ".conf") == 0)
		buf[len - 5] = '\0';
}

/* Where the files of a running server go; NULL when there is no place. */
static char *
run_file(const struct conf_source *source, const char *suffix)
{
	const char *dir = geteuid() == 0 ? RUNSTATEDIR :
	    getenv("XDG_RUNTIME_DIR");
	char name[64], *path;

	if (dir == NULL || access(dir, W_OK | X_OK) == -1)
		return NULL;
	server_name(source, name, sizeof(name));
	if (asprintf(&path, "%s/preforkd/%s%s", dir, name, suffix) == -1)
		fatal("asprintf");
	return path;
}

/*
 * A server in the background has a pid file; one that a supervisor watches
 * has one when told to.
 */
static void
lock_pid_file(const struct conf *conf, const struct conf_source *source)
{
	char error[CONF_ERROR_MAX], *path = conf->pidfile, *slash;

	if (path == NULL && source->foreground)
		return;
	if (path == NULL) {
		if ((path = run_file(source, ".pid")) == NULL)
			fatalx("no place for a pid file: name one by "
			    "-o 'pidfile PATH'");
		slash = strrchr(path, '/');
		*slash = '\0';
		if (mkdir(path, 0755) == -1 && errno != EEXIST)
			fatal("mkdir %s", path);
		*slash = '/';
	}
	if (daemon_lock(path, error) == -1)
		fatalx("%s", error);
	if (path != conf->pidfile)
		free(path);
}

/* The pid file and the status would stay. */
__attribute__((__noreturn__))
static void
give_up(const char *status, const char *error)
{
	if (status != NULL)
		scoreboard_discard(status);
	daemon_remove_pid();
	fatalx("%s", error);
}

static void
warn_of_user(const struct conf_service *s)
{
	if (geteuid() != 0) {
		if ((s->user.set && s->user.uid != geteuid()) ||
		    s->group != -1 || s->chroot[0] != '\0')
			log_warnx("only root can change these: user, group "
			    "and chroot ignored service=%s", s->name);
		return;
	}
	if (s->user_is_nobody)
		log_warnx("no user %s here, serving as nobody service=%s",
		    CONF_DEFAULT_USER, s->name);
	if (s->user.uid == 0)
		log_warnx("serving as root service=%s", s->name);
	else if (s->user.gid == 0)
		log_warnx("serving in the group of root service=%s", s->name);
}

/* Slots, with room for what reloads may add. */
static int
room(const struct conf *conf)
{
	int need = conf_slots(conf) * 2;

	if (need < SLOTS_LEAST)
		return SLOTS_LEAST;
	return need < CONF_SLOTS_MAX ? need : CONF_SLOTS_MAX;
}

/* Returns the path of the status, to be freed; NULL when it has none. */
static char *
create_scoreboard(struct master *m, const struct conf *conf)
{
	char error[CONF_ERROR_MAX], *path;

	if (conf->status_file == NULL)
		path = run_file(m->source, ".status");
	else if ((path = strdup(conf->status_file)) == NULL)
		fatal("strdup");
	if (scoreboard_create(&m->board, path, room(conf), error) == -1)
		give_up(NULL, error);
	if (path == NULL)
		log_notice("no directory for the status, kept in memory: "
		    "preforkctl cannot see this server");
	return path;
}

/* What the logger will open; every time, for it may be rotated away. */
static void
try_log(const struct conf *conf)
{
	struct sink sink = { .conf = &conf->log, .fd = -1 };
	char error[CONF_ERROR_MAX];

	if (sink_open(&sink, error) == -1)
		give_up(NULL, error);
	sink_close(&sink);
}

/* Everything that can fail while the caller's terminal still listens. */
static void
prepare(struct master *m, struct conf *conf)
{
	const struct conf_service *s;
	char error[CONF_ERROR_MAX], *path;

	fixed_descriptors(m);
	log_set_level((enum log_level)conf->log_level);
	lock_pid_file(conf, m->source);
	try_log(conf);
	path = create_scoreboard(m, conf);
	master_allocate(m);
	m->now = clock_now();
	if (reload_generation(m, conf, error) == NULL)
		give_up(path, error);
	m->logger = logger_start(m->log_fd, &conf->log, &m->board);
	if (m->logger == -1) {
		error_say(error, "fork of the logger: %s", strerror(errno));
		give_up(path, error);
	}
	log_to_pipe(FD_LOG, &m->board.commons->log_dropped);
	log_echo(conf->log.kind != CONF_LOG_STDERR);
	if (path != NULL && !scoreboard_in_memory(path))
		log_warnx("status-file %s: on a disk, which may hold up "
		    "workers", path);
	free(path);
	TAILQ_FOREACH(s, &conf->services, entry)
		warn_of_user(s);
}

/* Those of the caller go, but for sockets that we are to serve. */
static void
descriptors(const struct options *o)
{
	char error[CONF_ERROR_MAX];
	int n;

	if ((n = listen_handed_over(error)) == -1)
		fatalx("%s", error);
	if (o->check > 0)
		n = 0;
	daemon_descriptors(n);
	if (listen_adopt(n, error) == -1)
		fatalx("%s", error);
}

/* The new program's start in the place of the old one. */
static int
go_on(struct master *m)
{
	notify_take();
	upgrade_take(m, &options.source);
	setproctitle("master");
	return master_run(m);
}

int
main(int argc, char *argv[])
{
	char error[CONF_ERROR_MAX];
	enum upgrade_role role;
	struct conf *conf;

	log_init("preforkd");
	if (argc < 1)
		usage();
	role = upgrade_start(argc, argv);
	parse_options(&options, argc, argv);
	master.source = &options.source;
	if (role == UPGRADE_CHECK)
		upgrade_check(&options.source);
	if (role == UPGRADE_TAKE)
		return go_on(&master);
	descriptors(&options);
	sig_reset();	/* a check that hangs can be interrupted */
	if ((conf = conf_load(&options.source, error)) == NULL) {
		log_errorx("%s", error);
		return 1;
	}
	if (options.check > 0) {
		if (options.check > 1)
			dump_conf(conf, stdout);
		conf_free(conf);
		return 0;
	}
	if (listen_all_wanted(conf, error) == -1)
		fatalx("%s", error);
	sig_block(NULL);
	if (!options.source.foreground)
		daemon_background(conf->log.kind == CONF_LOG_STDERR);
	notify_take();
	umask(022);
	tzset();	/* while the file can be read: see chroot */
	if (chdir("/") == -1)
		fatal("chdir /");
	privs_shield(conf->dumpable);
	master.print_ready = options.print_ready;
	prepare(&master, conf);
	setproctitle("master");
	return master_run(&master);
}
