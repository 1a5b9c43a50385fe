/*
 * privs.c: the one way down, and whether it can be gone.
 *
 * privs_drop() is what every worker goes through before it meets a client:
 * limits, root directory, groups, group, user, no new privileges, no core for
 * strangers; then it looks at what it has become and tries to come back.  Any
 * failure is fatal to that process.  privs_check() finds what would fail there
 * while a configuration is read, so that it is an error with a line and not a
 * pool of workers that die.
 *
 * The master asks for nothing but a lower chance of being killed when memory
 * runs out.  What root opens, locks or makes a root directory must be in a
 * place where nobody else can put something: privs_directory().
 *
 * Started by an ordinary user, it is that user who serves, and processes can
 * be inspected: under one uid nothing of this is a boundary (R9).
 */

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#ifdef __linux__
#include <linux/capability.h>
#endif

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define OOM_SCORE	"/proc/self/oom_score_adj"
#define SHIELD		(-500)

static const struct {
	int		 resource;
	const char	*name;		/* of the setting */
} limits[CONF_LIMITS] = {
	{ RLIMIT_AS, "rlimit-as" },
	{ RLIMIT_CORE, "rlimit-core" },
	{ RLIMIT_CPU, "rlimit-cpu" },
	{ RLIMIT_DATA, "rlimit-data" },
	{ RLIMIT_FSIZE, "rlimit-fsize" },
	{ RLIMIT_NOFILE, "rlimit-nofile" },
	{ RLIMIT_NPROC, "rlimit-nproc" },
	{ RLIMIT_STACK, "rlimit-stack" }
};

static bool shielded;
static char oom_score[16];		/* the caller's, for children */
static struct conf_user logger;		/* who writes the log, if set */

static int
set_oom_score(const char *score)
{
	int fd, n;

	if ((fd = open(OOM_SCORE, O_WRONLY | O_CLOEXEC)) == -1)
		return -1;
	n = write(fd, score, strlen(score)) == -1 ? -1 : 0;
	close(fd);
	return n;
}

/* Whoever is safer already stays so. */
static void
shield_from_oom(void)
{
	char score[16];
	ssize_t n;
	int fd;

	if (shielded || (fd = open(OOM_SCORE, O_RDONLY | O_CLOEXEC)) == -1)
		return;
	n = read(fd, oom_score, sizeof(oom_score) - 1);
	close(fd);
	if (n <= 0 || atoi(oom_score) <= SHIELD)
		return;
	snprintf(score, sizeof(score), "%d", SHIELD);
	shielded = set_oom_score(score) == 0;
}

static void
unshield(void)
{
	if (shielded && set_oom_score(oom_score) == -1)
		log_warn("oom_score_adj");
}

bool
privs_shielded(int *score)
{
	*score = shielded ? atoi(oom_score) : 0;
	return shielded;
}

void
privs_keep_shield(int score)
{
	snprintf(oom_score, sizeof(oom_score), "%d", score);
	shielded = true;
}

#ifdef __linux__
static bool
capable(int capability)
{
	struct __user_cap_header_struct head = {
	    .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &head, data) == -1)
		return false;
	return (data[CAP_TO_INDEX(capability)].effective &
	    CAP_TO_MASK(capability)) != 0;
}

/* What root lacks here to serve as somebody else, and to stop that; or NULL. */
static const char *
missing_capability(bool root_directory)
{
	if (!capable(CAP_SETUID))
		return "CAP_SETUID";
	if (!capable(CAP_SETGID))
		return "CAP_SETGID";
	if (!capable(CAP_KILL))
		return "CAP_KILL";
	if (root_directory && !capable(CAP_SYS_CHROOT))
		return "CAP_SYS_CHROOT";
	return NULL;
}
#else
#define CAP_SYS_NICE	0

static bool
capable(int capability)
{
	(void)capability;
	return geteuid() == 0;
}

static const char *
missing_capability(bool root_directory)
{
	(void)root_directory;
	return NULL;
}
#endif

/* In a user namespace that forbids setgroups(2), root stays what it is. */
static bool
can_change_groups(void)
{
	gid_t groups[CONF_GROUPS_MAX];
	int n = getgroups(CONF_GROUPS_MAX, groups);

	return n != -1 && setgroups((size_t)n, groups) == 0;
}

void
privs_shield(bool dumpable)
{
	shield_from_oom();
	if (geteuid() != 0)
		return;
	if (!dumpable && prctl(PR_SET_DUMPABLE, 0) == -1)
		log_warn("prctl PR_SET_DUMPABLE");
	if (missing_capability(false) != NULL || !can_change_groups())
		logger.set = false;
	else if (!logger.set)
		value_default_user(&logger);
}

const struct conf_user *
privs_logger_user(void)
{
	return logger.set ? &logger : NULL;
}

void
privs_keep_logger_user(const struct conf_user *user)
{
	logger = *user;
}

static rlim_t
limit_value(int64_t limit)
{
	return limit == CONF_UNLIMITED ? RLIM_INFINITY : (rlim_t)limit;
}

/* To know whether a limit can be raised, raise it, and go back. */
static bool
limit_possible(int resource, rlim_t value, struct rlimit *now)
{
	struct rlimit rl;

	if (getrlimit(resource, now) == -1)
		return false;
	rl = (struct rlimit){ now->rlim_cur, value };
	return value <= now->rlim_max || (setrlimit(resource, &rl) == 0 &&
	    setrlimit(resource, now) == 0);
}

static const char *
check_limits(const struct conf_service *conf, char why[CONF_ERROR_MAX])
{
	struct rlimit now;
	int i;

	for (i = 0; i < CONF_LIMITS; i++) {
		if (conf->limit[i] == -1 || limit_possible(limits[i].resource,
		    limit_value(conf->limit[i]), &now))
			continue;
		snprintf(why, CONF_ERROR_MAX, "%s: must be at most the hard "
		    "limit, %llu", limits[i].name,
		    (unsigned long long)now.rlim_max);
		return limits[i].name;
	}
	return NULL;
}

/* Whether the niceness can be had; more of it always can. */
static bool
nice_possible(int more)
{
	struct rlimit rl;
	int now;

	if (more >= 0 || capable(CAP_SYS_NICE))
		return true;
	errno = 0;
	now = getpriority(PRIO_PROCESS, 0);
	return errno == 0 && getrlimit(RLIMIT_NICE, &rl) == 0 &&
	    rl.rlim_cur >= (rlim_t)(20 - (now + more));
}

const char *
privs_check(const struct conf_service *conf, char why[CONF_ERROR_MAX])
{
	char dir[PATH_MAX], name[CONF_ERROR_MAX / 2];
	const char *what;

	if ((what = check_limits(conf, why)) != NULL)
		return what;
	if (!nice_possible(conf->nice)) {
		snprintf(why, CONF_ERROR_MAX, "nice: must be 0 or more: less "
		    "needs CAP_SYS_NICE");
		return "nice";
	}
	if (geteuid() != 0)
		return NULL;
	if (conf->chroot[0] != '\0' &&
	    (what = privs_directory(conf->chroot, dir)) != NULL) {
		snprintf(why, CONF_ERROR_MAX, "chroot: %s: %s", log_quote(name,
		    sizeof(name), dir, strlen(dir)), what);
		return "chroot";
	}
	if ((conf->user.uid != 0 || conf->chroot[0] != '\0') &&
	    (what = missing_capability(conf->chroot[0] != '\0')) != NULL) {
		snprintf(why, CONF_ERROR_MAX, "user: %s is missing: root needs "
		    "it to serve as another user", what);
		return "user";
	}
	return NULL;
}

/* What is wrong with one directory, or NULL. */
static const char *
bad_directory(const char *dir, bool last)
{
	const bool root = geteuid() == 0;
	struct stat st;

	if (stat(dir, &st) == -1)
		return strerror(errno);
	if (!S_ISDIR(st.st_mode))
		return "must be a directory";
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return root ? "must belong to root" :
		    "must belong to root or to this user";
	/* In a sticky directory what is root's cannot be replaced. */
	if (!last && (st.st_mode & S_ISVTX) != 0)
		return NULL;
	if ((st.st_mode & S_IWOTH) != 0 ||
	    (root && (st.st_mode & S_IWGRP) != 0 && st.st_gid != 0))
		return root ? "must be writable by root alone" :
		    "must not be writable by all";
	return NULL;
}

/* An ordinary user has to trust those above. */
static const char *
bad_path(const char *path, char dir[PATH_MAX])
{
	const char *why;
	size_t n;

	for (n = 1; path[n - 1] != '\0'; n++) {
		if (n > 1 && path[n] != '/' && path[n] != '\0')
			continue;
		if (path[n] != '\0' && geteuid() != 0)
			continue;
		strlcpy(dir, path, n + 1);
		if ((why = bad_directory(dir, path[n] == '\0')) != NULL)
			return why;
	}
	return NULL;
}

const char *
privs_directory(const char *path, char *dir)
{
	char real[PATH_MAX];
	const char *why;

	if ((why = bad_path(path, dir)) != NULL)
		return why;
	if (realpath(path, real) == NULL)
		return strerror(errno);
	return bad_path(real, dir);
}

/*
 * While still root, which may raise them.  rlimit-nproc of root holds for
 * nobody; it counts the processes of the user, and holds from then on.
 */
static void
set_limits(const struct conf_service *conf)
{
	struct rlimit rl;
	int i;

	for (i = 0; i < CONF_LIMITS; i++) {
		if (conf->limit[i] == -1)
			continue;
		rl.rlim_cur = rl.rlim_max = limit_value(conf->limit[i]);
		if (setrlimit(limits[i].resource, &rl) == -1)
			fatal("setrlimit %s service=%s", limits[i].name,
			    conf->name);
	}
}

/* In another order than they were set, perhaps. */
static bool
same_groups(const struct conf_user *user)
{
	gid_t now[CONF_GROUPS_MAX];
	int i, j, n;

	n = getgroups(CONF_GROUPS_MAX, now);
	for (i = 0; i < n; i++) {
		for (j = 0; j < user->ngroups; j++)
			if (user->groups[j] == now[i])
				break;
		if (j == user->ngroups)
			return false;
	}
	return n == user->ngroups;
}

static bool
has_become(const struct conf_user *user)
{
	uid_t ru, eu, su;
	gid_t rg, eg, sg;

	if (getresuid(&ru, &eu, &su) == -1 || getresgid(&rg, &eg, &sg) == -1)
		return false;
	return ru == user->uid && eu == user->uid && su == user->uid &&
	    rg == user->gid && eg == user->gid && sg == user->gid &&
	    same_groups(user);
}

/* Whoever is that user already needs no capability to remain it. */
static void
become(const struct conf_user *user)
{
	if (has_become(user))
		return;
	if (setgroups((size_t)user->ngroups, user->groups) == -1)
		fatal("setgroups");
	if (setresgid(user->gid, user->gid, user->gid) == -1)
		fatal("setresgid %u", (unsigned int)user->gid);
	if (setresuid(user->uid, user->uid, user->uid) == -1)
		fatal("setresuid %u", (unsigned int)user->uid);
	if (!has_become(user))
		fatalx("the user is not what was set");
	if (user->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0 ||
	    (user->gid != 0 && setegid(0) == 0) ||
	    setgroups((size_t)user->ngroups, user->groups) == 0))
		fatalx("a way leads back to root");
}

static void
set_dumpable(bool dumpable)
{
	if (prctl(PR_SET_DUMPABLE, dumpable ? 1 : 0) == -1)
		fatal("prctl PR_SET_DUMPABLE");
}

/* While still root, who may be nicer than others to them. */
static void
set_nice(int more)
{
	errno = 0;
	if (more != 0 && nice(more) == -1 && errno != 0)
		fatal("nice %d", more);
}

static void
no_new_privileges(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		fatal("prctl PR_SET_NO_NEW_PRIVS");
}

void
privs_drop(const struct conf_service *conf, bool dumpable)
{
	unshield();
	set_limits(conf);
	set_nice(conf->nice);
	if (geteuid() == 0) {
		if (conf->chroot[0] != '\0' &&
		    (chroot(conf->chroot) == -1 || chdir("/") == -1))
			fatal("chroot %s", conf->chroot);
		become(&conf->user);
		set_dumpable(dumpable);
	}
	if (!conf->new_privileges)
		no_new_privileges();
}

int
privs_settle(const struct conf_service *conf)
{
	umask(conf->umask);
	return chdir(conf->chdir);
}

void
privs_drop_logger(bool opens_files)
{
	unshield();
	no_new_privileges();
	if (opens_files || !logger.set)
		return;
	become(&logger);
	set_dumpable(false);
}
