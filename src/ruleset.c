/*
 * ruleset.c: rules compiled by a child, into a memory file that is sealed.
 *
 * A rules file may be large, or anything at all; so a child reads it, and is
 * thrown away.  The master knows a descriptor and nothing of what is in there.
 * It is sealed when the child has ended, against workers, who map it, and
 * checked by each of them, for whoever compiled it may have failed.
 *
 * Called where a configuration is read, and by workers.
 */

#include <sys/mman.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define SEALS	(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

struct job {
	int		 fd;
	struct ruleset	*set;
	int		 n;
};

/* Out of the way of those that have a number. */
int
ruleset_create(void)
{
	int error, fd, moved;

	fd = memfd_create("preforkd-rules", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd == -1 || fd >= FD_FIRST_FREE)
		return fd;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, FD_FIRST_FREE);
	error = errno;
	close(fd);
	errno = error;
	return moved;
}

int
ruleset_seal(int fd)
{
	const int seals = fcntl(fd, F_GET_SEALS);

	if (seals == -1)
		return -1;
	return (seals & SEALS) == SEALS ? 0 : fcntl(fd, F_ADD_SEALS, SEALS);
}

static int
contradiction(const struct rule *const clash[2], char error[CONF_ERROR_MAX])
{
	char first[ERROR_PLACE], second[ERROR_PLACE], who[VALUE_WHO];

	rules_text(clash[1], who, sizeof(who));
	error_place(first, clash[0]->file, clash[0]->line);
	error_place(second, clash[1]->file, clash[1]->line);
	return error_say(error, "%s: %s:%s: must say the same as %s, which "
	    "has %s", second, who, clash[1]->deny ? "deny" : "allow", first,
	    clash[0]->deny == clash[1]->deny ? "other variables" :
	    clash[0]->deny ? "deny" : "allow");
}

/* All rules of a service, from lines and file. */
static int
collect(struct ruleset *set, char error[CONF_ERROR_MAX])
{
	const struct rule *clash[2];
	char where[ERROR_PLACE], name[CONF_ERROR_MAX / 2];
	const char *why;

	if (set->file != NULL && (why = rulefile_read(set->file,
	    &set->source.list, error)) != NULL) {
		if (why == error)
			return -1;
		return error_say(error, "%s: service %s: rules %s: %s",
		    error_place(where, set->named_in, set->named_at),
		    set->source.service, log_quote(name, sizeof(name),
		    set->file, strlen(set->file)), why);
	}
	return rules_settle(&set->source.list, clash) ? 0 :
	    contradiction(clash, error);
}

static int
compile(const struct job *job, char error[CONF_ERROR_MAX])
{
	struct rules_source source[CONF_SERVICES_MAX];
	size_t at = 0, size;
	ssize_t n;
	char *image;
	int i;

	for (i = 0; i < job->n; i++) {
		if (collect(&job->set[i], error) == -1)
			return -1;
		source[i] = job->set[i].source;
	}
	if ((image = rules_compile(source, job->n, &size)) == NULL)
		return error_say(error, "rules: out of memory");
	while (at < size) {
		n = write(job->fd, image + at, size - at);
		if (n == -1 && errno != EINTR)
			return error_say(error, "rules: write: %s",
			    strerror(errno));
		if (n > 0)
			at += (size_t)n;
	}
	return 0;
}

/* In the child. */
static void
work(void *arg, int fd)
{
	char error[CONF_ERROR_MAX] = "";

	if (compile(arg, error) == 0)
		error[0] = '\0';
	error[CONF_ERROR_MAX - 64] = '\0';
	_exit(write(fd, error, strlen(error) + 1) == -1 ? 1 : 0);
}

int
ruleset_compile(int fd, struct ruleset *set, int n,
    char error[CONF_ERROR_MAX])
{
	struct job job = { fd, set, n };
	char said[CONF_ERROR_MAX - 32];

	switch (trial_child(work, &job, said, sizeof(said))) {
	case VERDICT_SAID:
		strlcpy(error, said, CONF_ERROR_MAX);
		return error[0] == '\0' ? 0 : -1;
	case VERDICT_NONE:
		return error_say(error, "rules: no child to compile them: %s",
		    strerror(errno));
	case VERDICT_DIED:
	case VERDICT_LATE:
		break;
	}
	return error_say(error, "rules: %s", said);
}

/*
 * A private mapping: some kernels take a shared one of a sealed file for a
 * writer.
 */
int
ruleset_map(struct rules *rules, int fd, const char *service)
{
	struct stat st;
	void *image;

	if (fstat(fd, &st) == -1)
		return -1;
	image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (image == MAP_FAILED)
		return -1;
	if (rules_open(rules, image, (size_t)st.st_size, service))
		return 0;
	munmap(image, (size_t)st.st_size);
	errno = EINVAL;
	return -1;
}
