/*
 * self.c: how this program was started, to be started again in its place.
 *
 * Owns copies of the arguments and of the environment, for setproctitle(3)
 * writes over where they were, and the absolute path of the program.  That is
 * the one by which it was called, so that a link that is changed leads to the
 * new release; when it cannot be told which that was, it is that of the file.
 */

#include <sys/stat.h>

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

static struct {
	char	**argv;		/* argv[1] is free: the others are behind */
	char	**env;		/* with room for one more */
	int	 nenv;
	char	*path;
} self;

static char *
copy(const char *text)
{
	char *p = strdup(text);

	if (p == NULL)
		fatal("strdup");
	return p;
}

static char **
room_for(int n)
{
	char **list = calloc((size_t)n + 2, sizeof(*list));

	if (list == NULL)
		fatal("calloc");
	return list;
}

/* Sockets that were handed to this process are for it alone. */
static bool
is_spent(const char *variable)
{
	return strncmp(variable, "LISTEN_PID=", 11) == 0 ||
	    strncmp(variable, "LISTEN_FDS=", 11) == 0 ||
	    strncmp(variable, "LISTEN_FDNAMES=", 15) == 0;
}

/* Whether `DIRECTORY/NAME' is the program that runs. */
static bool
is_self(char path[PATH_MAX], const char *dir, size_t len, const char *name)
{
	struct stat one, two;

	return snprintf(path, PATH_MAX, "%.*s%s%s", (int)len, dir,
	    len > 0 ? "/" : "", name) < PATH_MAX && path[0] == '/' &&
	    stat(path, &one) == 0 && stat("/proc/self/exe", &two) == 0 &&
	    one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

static bool
find_in_path(char path[PATH_MAX], const char *name)
{
	const char *dir = getenv("PATH");
	size_t len;

	for (; dir != NULL && *dir != '\0'; dir += len + (dir[len] == ':')) {
		len = strcspn(dir, ":");
		if (is_self(path, dir, len, name))
			return true;
	}
	return false;
}

static bool
find(char path[PATH_MAX], const char *name)
{
	char cwd[PATH_MAX];

	if (name[0] == '/')
		return is_self(path, "", 0, name);
	if (strchr(name, '/') == NULL)
		return find_in_path(path, name);
	if (strncmp(name, "./", 2) == 0)
		name += 2;
	return getcwd(cwd, sizeof(cwd)) != NULL &&
	    is_self(path, cwd, strlen(cwd), name);
}

void
self_save(int argc, char *argv[])
{
	char path[PATH_MAX];
	ssize_t n;
	int i;

	self.argv = room_for(argc);
	self.argv[0] = copy(argv[0]);
	for (i = 1; i < argc; i++)
		self.argv[i + 1] = copy(argv[i]);
	/* libbsd leaves NULL where there was no variable. */
	for (i = 0; environ != NULL && environ[i] != NULL; i++)
		continue;
	self.env = room_for(i);
	for (i = 0; environ != NULL && environ[i] != NULL; i++)
		if (!is_spent(environ[i]))
			self.env[self.nenv++] = copy(environ[i]);
	if (!find(path, argv[0])) {
		n = readlink("/proc/self/exe", path, sizeof(path) - 1);
		path[n > 0 ? n : 0] = '\0';
	}
	self_set_path(path);
}

const char *
self_path(void)
{
	return self.path;
}

void
self_set_path(const char *path)
{
	free(self.path);
	self.path = copy(path);
}

void
self_exec(int fd, char *option, char *variable)
{
	char **argv = self.argv, *name = argv[0];

	argv[1] = option;
	if (option == NULL) {
		argv++;
		argv[0] = name;
	}
	self.env[self.nenv] = variable;
	fexecve(fd, argv, self.env);
	self.env[self.nenv] = NULL;
}
