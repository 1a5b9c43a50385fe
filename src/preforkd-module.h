/*
 * preforkd-module.h: the public interface of a service.
 *
 * A service is one struct preforkd_service and a function that talks to one
 * client through the connection calls below.  The built-in services
 * (src/service/) use nothing else: read greet.c first, then copy it.  A
 * shared object has its service in a variable preforkd_module; see
 * preforkd-module(3).
 *
 * A service runs in a worker process that serves one client at a time.
 * Whatever it does, crash, leak or hang, stays in that process.  It must not
 * touch signal handlers or descriptors that it has not opened itself; threads
 * of its own must have all signals blocked.  Waiting calls of its own may fail
 * with EINTR: retry them.
 */
#ifndef PREFORKD_MODULE_H
#define PREFORKD_MODULE_H

#include <sys/types.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct conn;

/*
 * The functions are called in this order, each once but for serve, in every
 * worker, when its privileges are gone; and before, in a process that is
 * thrown away, all but serve, to see whether the service can be started at
 * all.  Only serve must be there, the others may be NULL.
 */
struct preforkd_service {
	unsigned int	 abi;		/* PREFORKD_ABI */
	const char	*name;		/* word after `run' */
	const char	*summary;	/* one line for people */
	/*
	 * Take the words of the configuration line, as main(): argv[0] is the
	 * file, argv[argc] is NULL.  NULL: a word after the file is an error.
	 * Returns 0, or -1 when they are wrong: return preforkd_error(...).
	 */
	int		(*open)(int argc, char *argv[]);
	/*
	 * Prepare for the first client, within 8 s.  Returns 0, or -1 when the
	 * worker cannot serve: return preforkd_error(...).
	 */
	int		(*start)(void);
	/*
	 * Talk to one client and return; the worker then ends the
	 * connection in an orderly way, so that nothing sent is lost.
	 */
	void		(*serve)(struct conn *);
	/*
	 * After the last client of a worker that leaves in order: undo what
	 * start and open have done, within drain-timeout.  A worker that dies
	 * does not come here.
	 */
	void		(*stop)(void);
	void		(*close)(void);
};

/*
 * The version of this interface, and in the lower half the size of the
 * structure: a module is only loaded by a preforkd that has the same.
 */
#define PREFORKD_ABI	\
    (1U << 16 | (unsigned int)sizeof(struct preforkd_service))

/* What a shared object must define. */
extern const struct preforkd_service preforkd_module;

/*
 * Say in open or start what is wrong, as printf(3), in one line of at most 400
 * bytes without a newline.  It reaches whoever checks, starts or reloads the
 * server, behind the file and the line of the configuration; the last call
 * counts, and nothing is said when the function then returns 0.  Returns -1.
 */
int	preforkd_error(const char *fmt, ...)
	    __attribute__((__format__(printf, 1, 2)));

/*
 * Write a line of level info or warning into the log of the server, as
 * printf(3), of at most 1,023 bytes; the rest is cut.  It is escaped, and the
 * name of the service stands before it.  Waits at most 20 ms.
 */
void	preforkd_log_info(const char *fmt, ...)
	    __attribute__((__format__(printf, 1, 2)));
void	preforkd_log_warn(const char *fmt, ...)
	    __attribute__((__format__(printf, 1, 2)));

/*
 * Read at most size bytes, waiting for the first one; fewer may come.
 * Returns the number read, 0 when the client has finished sending, or -1
 * with errno: ETIMEDOUT when a timeout of the configuration has passed,
 * ECONNRESET and the other errors of recv(2).
 */
ssize_t	conn_read(struct conn *, void *buf, size_t size);

/*
 * Read a line of at most size - 1 bytes into buf and end it with NUL; the
 * line terminator, LF or CR LF, is taken off.  Returns the length, which tells
 * more than strlen(3) when the client sent a NUL, or -1 with errno: ETIMEDOUT
 * and the errors of recv(2), EPIPE when the client finished before the end of
 * a line, EMSGSIZE for a line that does not fit or is longer than 4,094 bytes.
 * What is not returned as a line stays, for conn_read().
 */
ssize_t	conn_line(struct conn *, char *buf, size_t size);

/*
 * Write all of buf.  Returns 0, or -1 with errno: ETIMEDOUT when a timeout of
 * the configuration has passed (the idle one: the client has taken nothing
 * for so long), EPIPE, ECONNRESET and the other errors of send(2).
 */
int	conn_write(struct conn *, const void *buf, size_t size);

/*
 * Write formatted text of at most 1,023 bytes, as printf(3).  Returns as
 * conn_write(); EMSGSIZE when the text is longer.
 */
int	conn_printf(struct conn *, const char *fmt, ...)
	    __attribute__((__format__(printf, 2, 3)));

/* The client's number: counts every client this server has accepted. */
uint64_t conn_number(const struct conn *);

/*
 * The two ends as numeric text without port, and their ports.  A Unix
 * socket's address is its path, or "-" when it has none; its port is 0.
 * The text lives as long as the connection.
 */
const char *conn_local_address(struct conn *);
unsigned int conn_local_port(struct conn *);
const char *conn_peer_address(struct conn *);
unsigned int conn_peer_port(struct conn *);

/* The connected socket, for calls that this interface does not have. */
int	conn_fd(const struct conn *);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif /* PREFORKD_MODULE_H */
