/*
 * exec.c: a program for each connection, by the UCSPI contract.
 *
 * The connection is descriptor 0 and 1 of the program; its environment says
 * who is there (ucspi-tcp(8), and IPC for Unix sockets).  The worker stays and
 * waits for it, so that the connection ends as any other does.
 */

#include <sys/types.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

static const struct conf_service *service;
static char path[PATH_MAX];
static struct program_env fixed, env;

int
exec_start(const struct conf_service *conf)
{
	const char *why;

	service = conf;
	if ((why = program_find(conf->command[CONF_EXEC][0], path)) != NULL) {
		log_errorx("exec %s: %s", conf->command[CONF_EXEC][0], why);
		return -1;
	}
	program_env_start(&fixed, conf);
	return 0;
}

static void
describe_unix(struct conn *c)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	program_env_put(&env, "PROTO", "IPC");
	program_env_put(&env, "IPCLOCALPATH", "%s", conn_local_address(c));
	if (address_path(&c->peer) != NULL)
		program_env_put(&env, "IPCREMOTEPATH", "%s",
		    conn_peer_address(c));
	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
		return;
	program_env_put(&env, "IPCREMOTEEUID", "%u", (unsigned int)peer.uid);
	program_env_put(&env, "IPCREMOTEEGID", "%u", (unsigned int)peer.gid);
}

static void
describe(struct conn *c)
{
	env = fixed;
	program_env_put(&env, "PREFORKD_CLIENT", "%llu",
	    (unsigned long long)c->number);
	if (c->peer.ss.ss_family == AF_UNIX) {
		describe_unix(c);
		return;
	}
	program_env_put(&env, "PROTO", "TCP");
	program_env_put(&env, "TCPLOCALIP", "%s", conn_local_address(c));
	program_env_put(&env, "TCPLOCALPORT", "%u", conn_local_port(c));
	program_env_put(&env, "TCPREMOTEIP", "%s", conn_peer_address(c));
	program_env_put(&env, "TCPREMOTEPORT", "%u", conn_peer_port(c));
}

void
exec_serve(struct conn *c)
{
	struct program p = { .path = path, .env = env.variable,
	    .argv = service->command[CONF_EXEC],
	    .fd = { c->fd, c->fd, STDERR_FILENO, -1 } };
	int status;
	pid_t pid;

	describe(c);
	if ((pid = program_start(&p)) == -1) {
		log_error("exec %s service=%s", path, service->name);
		c->end = CONN_FAILED;
		return;
	}
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		continue;
}
