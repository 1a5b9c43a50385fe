/*
 * privs.c: the one way down.
 *
 * privs_drop() is what every process but the master and the logger goes
 * through before it meets a client: limits, root directory, groups, group,
 * user, no new privileges, no core for strangers; then it tries to come back
 * and dies if it can.  Any failure is fatal to that process.  The master asks
 * for nothing but a lower chance of being killed when memory runs out.
 */

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define SHIELD		"-500"

static bool shielded;

static int
set_oom_score(const char *score)
{
	int fd, n;

	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd == -1)
		return -1;
	n = write(fd, score, strlen(score)) == -1 ? -1 : 0;
	close(fd);
	return n;
}

void
privs_shield(bool dumpable)
{
	shielded = set_oom_score(SHIELD) == 0;
	if (geteuid() == 0 && !dumpable &&
	    prctl(PR_SET_DUMPABLE, 0) == -1)
		log_warn("prctl PR_SET_DUMPABLE");
}

static void
set_limits(const struct conf_service *conf)
{
	static const int resource[CONF_LIMITS] = { RLIMIT_AS, RLIMIT_CORE,
	    RLIMIT_CPU, RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_NOFILE,
	    RLIMIT_NPROC, RLIMIT_STACK };
	struct rlimit rl;
	int i;

	for (i = 0; i < CONF_LIMITS; i++) {
		if (conf->limit[i] == -1)
			continue;
		rl.rlim_cur = rl.rlim_max = (rlim_t)conf->limit[i];
		if (setrlimit(resource[i], &rl) == -1)
			fatal("setrlimit service=%s limit=%d", conf->name, i);
	}
}

static void
become(const struct conf_user *user)
{
	uid_t r, e, s;

	if (setgroups((size_t)user->ngroups, user->groups) == -1)
		fatal("setgroups");
	if (setresgid(user->gid, user->gid, user->gid) == -1)
		fatal("setresgid %u", (unsigned int)user->gid);
	if (setresuid(user->uid, user->uid, user->uid) == -1)
		fatal("setresuid %u", (unsigned int)user->uid);
	if (getresuid(&r, &e, &s) == -1 || r != user->uid || e != r || s != r)
		fatalx("the user is not what was set");
	if (user->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0 ||
	    (user->gid != 0 && setegid(0) == 0)))
		fatalx("a way leads back to root");
}

void
privs_drop(const struct conf_service *conf, bool dumpable)
{
	if (shielded && set_oom_score("0") == -1)
		log_warn("oom_score_adj");
	set_limits(conf);
	if (geteuid() != 0)
		return;
	if (conf->chroot[0] != '\0' &&
	    (chroot(conf->chroot) == -1 || chdir("/") == -1))
		fatal("chroot %s", conf->chroot);
	become(&conf->user);
	if (!conf->new_privileges &&
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		fatal("prctl PR_SET_NO_NEW_PRIVS");
	if (prctl(PR_SET_DUMPABLE, dumpable ? 1 : 0) == -1)
		fatal("prctl PR_SET_DUMPABLE");
}
