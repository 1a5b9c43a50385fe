/*
 * log.h: the vocabulary of the log.
 *
 * Every line reads `TIME preforkd[PID] LEVEL: words key=value ...'.  The
 * words are ours; values from outside pass log_quote().  Levels, in order:
 *	alert	it cannot go on, or a bug
 *	error	something was lost: a worker crashed, a reload failed
 *	warning	it may get worse; repeated warnings are suppressed and counted
 *	notice	the life of the server: started, reloaded, stopped
 *	info	connections
 *	debug	births and decisions
 */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LOG_LEVEL_ALERT,
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_NOTICE,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

#define LOG_PRINTF	__attribute__((__format__(printf, 1, 2)))

/*
 * Until log_to_pipe() is called, messages go to standard error as
 * `preforkd: MESSAGE', for the person who typed the command.
 */
void	log_init(const char *progname);	/* keeps the pointer */
/*
 * From now on each message is one line, written with one write(2) of at most
 * PIPE_BUF bytes to this non-blocking pipe, whose other end the logger reads.
 * A full pipe is waited for at most 20 ms, and not at all after a line was
 * dropped until one is written again.  Drops are counted in *drops, if not
 * NULL, and said before the next line that gets through.  With -1, messages
 * go to standard error again.  The process must survive SIGPIPE.
 */
void	log_to_pipe(int fd, _Atomic unsigned long long *drops);
/*
 * Whether errors and alerts also go to standard error, as before: to the
 * person who typed the command, while the server starts.
 */
void	log_echo(bool);
/*
 * First thing in a child: its own pid in its lines, its own count of drops,
 * and fatal() ends it with _exit(2).
 */
void	log_forked(void);
void	log_set_level(enum log_level);
/* For callers that would otherwise format in vain. */
int	log_wants(enum log_level);
/* Names of levels as in the configuration, NULL-ended. */
extern const char *const log_levels[];
int	log_level_parse(const char *);	/* -1 when unknown */

/* With errno's text appended: `MESSAGE: No such file or directory'. */
__attribute__((__noreturn__))
void	fatal(const char *, ...) LOG_PRINTF;	/* alert, exit status 1 */
__attribute__((__noreturn__))
void	fatalx(const char *, ...) LOG_PRINTF;	/* the same without errno */
void	log_error(const char *, ...) LOG_PRINTF;	/* error, with errno */
void	log_errorx(const char *, ...) LOG_PRINTF;
void	log_warn(const char *, ...) LOG_PRINTF;	/* warning, with errno */
void	log_warnx(const char *, ...) LOG_PRINTF;
void	log_notice(const char *, ...) LOG_PRINTF;
void	log_info(const char *, ...) LOG_PRINTF;
void	log_debug(const char *, ...) LOG_PRINTF;

/*
 * Escape size bytes from outside for a quoted value: C0, DEL, C1, invalid
 * UTF-8, backslash and double quote become C-style escapes that decode to the
 * input; valid UTF-8 stays.  Writes at most dstsize bytes with NUL, never half
 * an escape or half a character; returns dst.
 */
char	*log_quote(char *dst, size_t dstsize, const void *src, size_t size);
/*
 * The same for text that has been escaped once, but is not trusted for it:
 * backslash and double quote stay.
 */
char	*log_quoted(char *dst, size_t dstsize, const char *text);

/*
 * The next character of src, or the escape of its next byte if it is not a
 * printable one, without NUL; backslash and quote stay.  Returns the bytes
 * written, and in *used those taken; size must not be 0.
 */
#define LOG_UNIT_MAX	4
size_t	log_unit(char dst[LOG_UNIT_MAX], const void *src, size_t size,
	    size_t *used);
/*
 * A message as the line that goes to the pipe, whatever the level set:
 * stamped, cut to fit, ended with a newline, without NUL.  Returns its length;
 * size is at least 256.
 */
size_t	log_line(char *line, size_t size, enum log_level, const char *, ...)
	    __attribute__((__format__(printf, 4, 5)));

#endif /* LOG_H */
