/*
 * preforkd.h: the index of the program.  Every shared struct and prototype,
 * grouped by the file that owns it; calls go one way:
 *
 *	main -> master -> pool, spawn, reload -> worker -> conn, service
 *
 * The others are leaves.  Times are milliseconds of CLOCK_MONOTONIC unless a
 * name says otherwise; a duration of 0 means none.
 */
#ifndef PREFORKD_H
#define PREFORKD_H

#include <sys/types.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "hot.h"
#include "log.h"
#include "preforkd-module.h"

/*
 * Descriptors that have the same number in the master and in every worker,
 * so that a worker closes all others with one call.
 */
enum {
	FD_LOG = 3,		/* write end of the log pipe, non-blocking */
	FD_POKE,		/* write end of the wake-up pipe, likewise */
	FD_NULL,		/* /dev/null, to pull a listener away with */
	FD_LISTENER,		/* a worker's listening socket */
	FD_FIRST_FREE
};

/*
 * A worker's exit codes; preforkd(8) documents them.  None is 0, so that a
 * service that calls exit(3) is not taken for a worker that left in order.
 */
enum {
	WORKER_LEFT = 90,	/* retired or recycled, as asked */
	WORKER_START_FAILED,	/* could not set itself up */
	WORKER_SICK,		/* its listener is unusable */
	WORKER_ORPHAN,		/* the master is gone */
	WORKER_SERVICE_FAILED,	/* the service's start function failed */
	WORKER_PROGRAM_ENDED	/* its resident program, see its slot */
};

/* clock.c */

/* Milliseconds of CLOCK_MONOTONIC; and microseconds. */
int64_t	 clock_now(void);
int64_t	 clock_us(void);

/* address.c: socket addresses as text, and back; prefixes of them */

/* Room for any address as text: a Unix path, brackets, port, NUL. */
#define ADDRESS_TEXT	128

struct address {
	socklen_t		len;
	struct sockaddr_storage	ss;
};

/*
 * Parse `127.0.0.1:80', `[::1]:80', `*:80' or `:80' (every address: IPv4 and
 * IPv6, two results), `unix:/path'.  No name is resolved.  Fills at most two
 * addresses and returns how many, or -1 with *why set to what is wrong and
 * what is allowed (static text).
 */
int	 address_parse(const char *, struct address out[2], const char **why);
/* `127.0.0.1:80', `[::1]:80', `unix:/path'; returns buf. */
char	*address_text(const struct address *, char *buf, size_t size);
/* The address without port, brackets and `unix:'; `-' for a nameless one. */
char	*address_host(const struct address *, char *buf, size_t size);
/* The port in host order; 0 for a Unix socket. */
unsigned int address_port(const struct address *);
/* Whether b keeps a from being bound; a port 0 is always free. */
bool	 address_conflict(const struct address *a, const struct address *b);
/* Whether it is 0.0.0.0 or ::, which stand for every address. */
bool	 address_is_any(const struct address *);
/* One of TCP, from numbers in network order; unmapped. */
void	 address_inet(struct address *, int family, const void *ip,
	    in_port_t port);
/* What an inherited IPv6 socket calls an IPv4 address becomes that. */
void	 address_unmap(struct address *);
/* The path of a Unix socket, or NULL for other families. */
const char *address_path(const struct address *);

/* The first bits of an address; those that do not count are 0. */
struct prefix {
	bool		 ipv6;
	uint64_t	 bits[2];	/* IPv4: the top half of [0] */
	int		 length;
};

/*
 * Parse `10.0.0.0/8', `2001:db8::/32', or an address, which is all of it.
 * Returns false with *why set to what is wrong and what is allowed (static
 * text): also for bits behind the prefix, and for IPv4-mapped IPv6.
 */
bool	 address_parse_prefix(const char *, struct prefix *, const char **why);
/* All bits of an address; false for a Unix socket, which has none. */
bool	 address_bits(const struct address *, struct prefix *);
/* Leave the first bits only. */
void	 address_cut(struct prefix *, int length);
bool	 address_within(const struct prefix *, const struct prefix *network);

/* parse.c: configuration text as lines of words, and words as values */

#define PARSE_LINE	16384	/* bytes of a line */
#define PARSE_WORDS	256	/* of a line */

struct parse {
	const char	*text, *end;	/* not read yet */
	int		 line;		/* number of the last line read */
	int		 nwords;
	const char	*word[PARSE_WORDS];
	char		 buf[PARSE_LINE + 1];
};

/*
 * The bytes of a regular file of at most so many, whole MB, to be freed.  One
 * that is written or replaced meanwhile is read again, once.  Returns NULL
 * with *why set; never waits for a FIFO or a device.
 */
char	*parse_file(const char *path, size_t most, size_t *size,
	    const char **why);
/* NULL, or what is wrong with the bytes of a line; static text. */
const char *parse_bad_bytes(const char *line, size_t size, bool first);
void	 parse_start(struct parse *, const char *text, size_t size);
/*
 * The next line that has words.  Returns 1, 0 at the end, or -1 with *why set
 * to what is wrong with the line and what is allowed (static text).
 */
int	 parse_next(struct parse *, const char **why);
/* Whether text is a number in this range; sets *value if so. */
bool	 parse_number(const char *text, int64_t min, int64_t max,
	    int64_t *value);
/* The same for a duration, `500ms', `30s', `5m', `2h', `30'; in ms. */
bool	 parse_duration(const char *text, int64_t min, int64_t max,
	    int64_t *value);
/* With the largest unit that has no remainder; returns buf. */
char	*parse_duration_text(int64_t ms, char *buf, size_t size);
/* Write a word so that it is read as the same word, quoted if need be. */
void	 parse_put(FILE *, const char *word);

/* error.c: what went wrong, for a caller */

#define CONF_ERROR_MAX	1024		/* of such a line, with NUL */

/* Write one line into error; returns -1. */
__attribute__((__format__(printf, 2, 3)))
int	 error_say(char error[CONF_ERROR_MAX], const char *, ...);
/* The line `WHAT PATH: WHY', with the path escaped; returns -1. */
int	 error_at(char error[CONF_ERROR_MAX], const char *what,
	    const char *path, const char *why);
#define ERROR_PLACE	256
/* `FILE:LINE', or for line 0 `FILE' alone, escaped; returns buf. */
char	*error_place(char buf[ERROR_PLACE], const char *file, int line);

/* conf.c: a configuration, checked as a whole, compared and freed */

/* One `listen' line. */
struct conf_listen {
	TAILQ_ENTRY(conf_listen) entry;
	char		*text;		/* as written: names a port 0 */
	struct address	 address[2];	/* what it means */
	int		 naddress;
	mode_t		 mode;		/* Unix socket: permissions */
	uid_t		 uid;		/* Unix socket: owner, or -1 */
	gid_t		 gid;		/* Unix socket: group, or -1 */
};

enum conf_connections {		/* log-connections */
	CONF_CONNECTIONS_NO,
	CONF_CONNECTIONS_END,
	CONF_CONNECTIONS_BOTH
};

enum conf_crash_loop {		/* on-crash-loop */
	CONF_CRASH_LOOP_KEEP_TRYING,
	CONF_CRASH_LOOP_EXIT
};

/* What serves the clients of a service. */
enum conf_kind {
	CONF_RUN,		/* code that is built in */
	CONF_EXEC,		/* a program for each connection */
	CONF_RESIDENT,		/* programs that accept by themselves */
	CONF_MODULE		/* a function of a shared object */
};
#define CONF_KINDS	4
/* The keyword of a kind. */
const char *conf_kind_name(enum conf_kind);

#define CONF_NAME_MAX	31	/* bytes of a service's name */
#define CONF_GROUPS_MAX	64	/* supplementary groups of a user */
#define CONF_ROOT_MAX	256	/* bytes of a chroot, with NUL */
#define CONF_LIMITS	8	/* rlimit-*, in the order of the table */
#define CONF_UNLIMITED	INT64_MAX

/* Who serves: numbers, so that the master asks no name service. */
struct conf_user {
	bool		 set;
	uid_t		 uid;
	gid_t		 gid;
	int		 ngroups;
	gid_t		 groups[CONF_GROUPS_MAX];
};

enum conf_stderr {		/* exec-stderr */
	CONF_STDERR_LOG,
	CONF_STDERR_SOCKET
};

enum conf_log_kind {
	CONF_LOG_STDERR,
	CONF_LOG_FILE,
	CONF_LOG_SYSLOG
};

/* Where the log goes. */
struct conf_log {
	enum conf_log_kind kind;
	char		*path;		/* of the file, absolute; or NULL */
	int		 facility;	/* as in syslog(3) */
};

/* How many of the first bits of an address make a source. */
struct conf_lengths {
	int		 ipv4, ipv6;
};

/* So many in a time, and so many at once; count 0: any. */
struct conf_rate {
	int64_t		 count;
	int64_t		 per;		/* ms */
	int64_t		 burst;
};

#define CONF_EXCEPTIONS_MAX	64	/* lines of per-source-for */

/* What holds for a prefix in the place of per-source, and per-source-rate. */
struct conf_limit {
	struct prefix	 network;
	int		 most;
	bool		 rated;		/* the rate too */
	struct conf_rate rate;
};

enum conf_otherwise {		/* default */
	CONF_OTHERWISE_ALLOW,
	CONF_OTHERWISE_DENY
};

/* Of tcp(7): all of it, or idle is 0. */
struct conf_keepalive {
	int64_t		 idle;		/* ms */
	int64_t		 interval;	/* ms */
	int64_t		 count;
};

enum conf_when_full {
	CONF_FULL_QUEUE,
	CONF_FULL_DROP_SILENT
};

enum conf_refuse_how {
	CONF_REFUSE_CLOSE,
	CONF_REFUSE_RESET,
	CONF_REFUSE_MESSAGE
};

/* What `run' says; service is NULL: nothing. */
struct conf_run {
	const struct preforkd_service *service;
	char		 about[CONF_NAME_MAX + 1];	/* service, or "" */
};

#define CONF_REFUSE_MAX	200		/* bytes of a message, with NUL */

struct conf_refuse {
	enum conf_refuse_how how;
	char		 text[CONF_REFUSE_MAX];
};

/* One `service' section, with the defaults before it applied. */
struct conf_service {
	TAILQ_ENTRY(conf_service) entry;
	char		*name;
	TAILQ_HEAD(, conf_listen) listens;
	enum conf_kind	 kind;
	struct conf_run	 run;
	char		**command[CONF_KINDS];	/* words, NULL-ended; or NULL */
	char		**env;		/* NAME=VALUE, NULL-ended; or NULL */
	int		 backlog;
	int		 tcp_nodelay;
	struct conf_keepalive tcp_keepalive;
	int64_t		 tcp_defer_accept;
	int64_t		 tcp_user_timeout;
	int		 workers_min;
	int		 workers_spare;	/* idle, per listening socket */
	int		 workers_max;
	int		 workers_surge;	/* more during a reload; -1: as many */
	int64_t		 workers_idle_time;
	long long	 max_connections; /* per worker; 0: no limit */
	int64_t		 first_byte_timeout;
	int64_t		 idle_timeout;
	int64_t		 connection_timeout;
	int64_t		 drain_timeout;
	int		 log_connections; /* enum conf_connections */
	int		 on_crash_loop;	/* enum conf_crash_loop */
	int64_t		 ready_time;	/* of resident, as all of these */
	int64_t		 max_age;
	int64_t		 max_memory;	/* bytes; -1: none */
	int64_t		 max_memory_hard;
	int		 stop_signal;	/* index of value_stop_signal() */
	struct conf_user user;
	bool		 user_is_nobody;	/* for want of DEFAULT_USER */
	int64_t		 group;		/* -1: the user's */
	char		 chroot[CONF_ROOT_MAX];	/* empty: none */
	char		**allow, **deny;	/* NULL-ended; or NULL */
	int		 otherwise;	/* enum conf_otherwise */
	char		 rules[CONF_ROOT_MAX];	/* path; empty: none */
	int		 per_source;	/* connections at once; 0: any */
	struct conf_lengths per_source_prefix;
	struct conf_rate per_source_rate;
	char		**per_source_for;	/* conf_limit, NULL-ended */
	char		**proxy_protocol;	/* prefixes, `unix'; or NULL */
	struct conf_rate rate;
	struct conf_rate min_rate;	/* bytes; burst means nothing */
	int		 when_full;	/* enum conf_when_full */
	struct conf_refuse refuse;
	int		 new_privileges;
	char		 chdir[CONF_ROOT_MAX];
	mode_t		 umask;
	int		 nice;
	int		 exec_stderr;	/* enum conf_stderr */
	int		 prespawn;	/* programs waiting in each worker */
	int64_t		 limit[CONF_LIMITS];	/* -1: as the caller's */
};

#define CONF_DEFAULT_USER	"_preforkd"

struct conf {
	char		*status_file;	/* path; NULL: main decides */
	char		*pidfile;	/* path; NULL: main decides */
	struct conf_log	 log;
	int		 dumpable;
	int		 log_level;	/* enum log_level */
	int		 rules;		/* compiled, and sealed; or -1 */
	TAILQ_HEAD(, conf_service) services;
};

/* Where a configuration comes from. */
struct conf_source {
	const char	*path;		/* file, or NULL for none */
	char *const	*overrides;	/* -o "keyword value", NULL-ended */
	char *const	*listens;	/* -l address, NULL-ended */
	const char	*service;	/* of the command line, or NULL: ... */
	char *const	*program;	/* ... what it execs; NULL: it is run */
	bool		 foreground;	/* -d: another default for the log */
	int		 rules;		/* where to compile them; 0: anew */
};

/* Limits of what the scoreboard has room for. */
#define CONF_SERVICES_MAX	64
#define CONF_LISTENERS_MAX	256	/* sockets; `*:80' is two */
#define CONF_FILE_MAX		(1 << 20)	/* bytes */
#define CONF_SLOTS_MAX		65535	/* workers-max + surge, all services;
					   what a cell of a source can tell */
#define CONF_RULES_MAX		1000	/* by lines of a service */

/*
 * Read and check a configuration.  Binds nothing, writes nothing.  Returns
 * it, or NULL with one line in error: `file:line: what is wrong, and what is
 * allowed' (`-o:' and `-l:' stand for the file of a command-line setting).
 */
struct conf *conf_load(const struct conf_source *, char error[CONF_ERROR_MAX]);
/* The same from text as dump_conf() writes it; name stands for the file. */
struct conf *conf_load_text(const char *name, const char *text, size_t size,
	    char error[CONF_ERROR_MAX]);
void	 conf_free(struct conf *);
void	 conf_free_listens(struct conf_service *);
/*
 * Whether a running server can go from one to the other.  Returns true, or
 * false with a line in error that names the setting that needs a restart.
 */
bool	 conf_reloadable(const struct conf *from, const struct conf *to,
	    char error[CONF_ERROR_MAX]);
/* The slots the scoreboard needs for it: max + surge, all services. */
int	 conf_slots(const struct conf *);
/* Whether so many slots do; false with a line in error. */
bool	 conf_fits(const struct conf *, int nslots, char error[CONF_ERROR_MAX]);
/* Whether somebody may be refused for who it is. */
bool	 conf_has_rules(const struct conf_service *);
/* Whether it tells of this server, as long as there is something to tell. */
bool	 conf_tells(const struct conf_service *);
/* workers-surge with its default resolved. */
int	 conf_surge(const struct conf_service *);

/* rules.c: who may come in: rules, compiled and looked up */

#define RULES_MOST	1000000		/* of a service */
#define RULES_TEXT	(32 << 20)	/* bytes of their variables */

enum rules_table {
	RULES_IPV4,
	RULES_IPV6,
	RULES_UID,		/* of a Unix socket's client */
	RULES_GID,
	RULES_ANY		/* whoever is in none of these */
};

/* Where a rule is from; one word each for the log. */
enum rules_by {
	RULES_BY_LINE,		/* allow, deny */
	RULES_BY_FILE,		/* rules */
	RULES_BY_DEFAULT	/* default */
};

struct rule {
	enum rules_table table;
	struct prefix	 who;
	bool		 deny;
	enum rules_by	 by;
	size_t		 variables;	/* in the text of the list; 0: none */
	const char	*file;		/* where it stands */
	int		 line;
};

/* Starts as all zero. */
struct rule_list {
	struct rule	*rule;
	size_t		 n, room;
	char		*text;
	size_t		 size, text_room;
	bool		 no_variables;	/* there may be none */
};

/* Add a copy; false when there is no memory. */
bool	 rules_add(struct rule_list *, const struct rule *);
/*
 * Add variables: strings `NAME=VALUE', each with its NUL.  Returns where they
 * are, or 0 when there is no room.
 */
size_t	 rules_add_text(struct rule_list *, const char *, size_t size);
/* A user or a group. */
void	 rules_id(struct rule *, enum rules_table, uint32_t id);
void	 rules_free(struct rule_list *);
/*
 * Sort, and leave out what is there twice.  Returns false when two rules for
 * the same prefix do not say the same: these are in clash then.
 */
bool	 rules_settle(struct rule_list *, const struct rule *clash[2]);
/* `10.0.0.0/8', `::1', `uid=0'; returns buf. */
char	*rules_text(const struct rule *, char *buf, size_t size);

/* The rules of a service, settled. */
struct rules_source {
	const char	*service;
	bool		 deny;		/* whom no rule is for */
	struct rule_list list;
};

/* The compiled form of all of them, to be freed; NULL: out of memory. */
char	*rules_compile(const struct rules_source *, int n, size_t *size);

struct rules_part {
	uint64_t	 keys, values;	/* offsets */
	uint64_t	 n;
};

/* A service in the compiled form. */
struct rules_service {
	char		 name[CONF_NAME_MAX + 1];
	struct rules_part part[RULES_ANY];
	uint64_t	 text, text_size;
	uint64_t	 otherwise;
};

struct rules {
	const char	*image;
	struct rules_service service;	/* a copy that was checked */
};

struct rules_answer {
	bool		 deny;
	enum rules_by	 by;
	const char	*variables;	/* strings, and an empty one */
};

/*
 * Begin to use a compiled form, which is aligned as by malloc(3) and must stay
 * there.  Returns false when it is none, or has no such service.
 */
bool	 rules_open(struct rules *, const void *image, size_t size,
	    const char *service);
/* What the longest prefix says; false when there is none in the table. */
bool	 rules_find(const struct rules *, enum rules_table,
	    const struct prefix *, struct rules_answer *);
/* What is said of everybody else. */
void	 rules_otherwise(const struct rules *, struct rules_answer *);

/* rulefile.c: rules in the syntax of tcprules */

#define RULEFILE_MAX	(16 << 20)	/* bytes */

struct rulefile {
	const char	*path;		/* must live as long as the list */
	const char	*text;
	size_t		 size;
};

/*
 * Add the rules of a file; path must live as long as the list.  Returns NULL,
 * or what is wrong: error, with `FILE:LINE: ' in front, or static text about
 * the whole file.
 */
const char *rulefile_read(const char *path, struct rule_list *,
	    char error[CONF_ERROR_MAX]);
/* The same from text; 0, or -1 with the line in error. */
int	 rulefile_parse(const struct rulefile *, struct rule_list *,
	    char error[CONF_ERROR_MAX]);

/* ruleset.c: rules compiled by a child, into a memory file that is sealed */

struct ruleset {
	struct rules_source source;
	const char	*file;		/* NULL: none; and where that ... */
	const char	*named_in;	/* ... is said */
	int		 named_at;
};

/* A memory file for them, or -1 with errno. */
int	 ruleset_create(void);
/*
 * Have a child compile them into it.  Waits, for 8 s at most.  Returns 0, or
 * -1 with a line in error.
 */
int	 ruleset_compile(int fd, struct ruleset *, int n,
	    char error[CONF_ERROR_MAX]);
/* From now on nobody can change it; 0, or -1 with errno.  May be repeated. */
int	 ruleset_seal(int fd);
/*
 * In a worker: map it, to look up the rules of a service.  Returns 0, or -1
 * when it cannot be used.
 */
int	 ruleset_map(struct rules *, int fd, const char *service);

/* setting.c: the table of settings, what is allowed for each */

enum setting_type {
	TYPE_NUMBER,		/* int */
	TYPE_COUNT,		/* long long */
	TYPE_DURATION,		/* int64_t, milliseconds */
	TYPE_CHOICE,		/* int, index into choices */
	TYPE_PATH,		/* char *, absolute; NULL: not set */
	TYPE_USER,		/* struct conf_user */
	TYPE_GROUP,		/* int64_t, -1: not set */
	TYPE_ROOT,		/* char [CONF_ROOT_MAX], absolute */
	TYPE_MODE,		/* mode_t, in octal */
	TYPE_LIMIT,		/* int64_t, bytes or a count; -1: not set */
	TYPE_LOG,		/* struct conf_log, of one or two words */
	TYPE_RUN,		/* a built-in service */
	TYPE_COMMAND,		/* char **, words */
	TYPE_ENV,		/* char **, a NAME=VALUE a line */
	TYPE_LENGTHS,		/* struct conf_lengths */
	TYPE_RATE,		/* struct conf_rate */
	TYPE_KEEPALIVE,		/* struct conf_keepalive */
	TYPE_PREFIX_LIMIT,	/* char **, a struct conf_limit a line */
	TYPE_WHO,		/* char **, a prefix, uid or gid a word */
	TYPE_FROM,		/* char **, prefixes after `from' */
	TYPE_REFUSE,		/* struct conf_refuse */
	TYPE_LISTEN,		/* a struct conf_listen each */
	TYPE_SERVICE,		/* opens a section */
	TYPE_INCLUDE
};

enum setting_scope {
	SCOPE_ANY,
	SCOPE_GLOBAL,		/* before the first service only */
	SCOPE_SERVICE		/* before it: a default for every service */
};

struct setting {
	const char	*name;
	enum setting_type type;
	enum setting_scope scope;
	size_t		 offset;	/* in struct conf, conf_service */
	bool		 reload;	/* may change it; false: global only */
	int64_t		 min, max;
	const char	*const *choices;	/* NULL-ended */
	const char	*fallback;	/* as written; NULL: none */
	const char	*help;		/* one line */
};

#define SETTINGS	65
#define SETTING_YEAR	(8760 * INT64_C(3600000))	/* 8760h in ms */
#define SETTING_WHO	"ADDRESS/LENGTH, an address, uid=USER or gid=GROUP"
extern const struct setting settings[SETTINGS];

/* The setting of this name, or NULL. */
const struct setting *setting_find(const char *name);
/* The name that is spelt most like it, or NULL. */
const char *setting_nearest(const char *name);
/* What is allowed, in words; returns buf. */
char	*setting_range(const struct setting *, char *buf, size_t size);
/* The most words that a value may have. */
int	 setting_most_words(const struct setting *);
/* Whether it is `module', whose file must be an absolute path. */
bool	 setting_is_module(const struct setting *);
/* Whether a setting may be repeated, and each of its lines is a value. */
bool	 setting_is_list(const struct setting *);
/*
 * Whether a setting means something to this kind of service: a program that
 * accepts by itself has no clients that anybody else knows of.
 */
bool	 setting_is_for(const struct setting *, enum conf_kind);
/*
 * The table as lines of tab-separated fields for tests of the documents:
 * name, scope, type, range, default, reload, help.
 */
void	 setting_table(FILE *);

/* value.c: the value of a setting, from text */

/*
 * Set one value in the struct conf or conf_service at base; one of several
 * words has a blank between them.  Returns false
 * when text is not allowed there; listen, service and include never are.
 */
bool	 value_set(const struct setting *, void *base, const char *text);
/*
 * The same for words after a keyword: those of a TYPE_COMMAND, or one more
 * line of a list.
 */
bool	 value_set_words(const struct setting *, void *base,
	    const char *const *word, int nwords);
void	 value_free_words(char **);
bool	 value_is_set(const struct setting *, const void *base);
/*
 * Who serves when no `user' says it: CONF_DEFAULT_USER, or else nobody.
 * Returns the name, or NULL when there is neither.
 */
const char *value_default_user(struct conf_user *);
/* From the numbers that dump_user() has written; false if it has not. */
bool	 value_user_numbers(struct conf_user *, const char *text);
/* What is wrong with a word after `from' of a TYPE_FROM; NULL: nothing. */
const char *value_not_from(const char *word);
/* The same for the first one of per-source-for. */
const char *value_not_limited(const struct conf_service *, const char *word);
/* A line of per-source-for, behind the keyword. */
bool	 value_limit(const char *text, struct conf_limit *);
/*
 * A word of a TYPE_WHO as table, who and, for a dump, as text.  Returns NULL,
 * or what is wrong and what is allowed (static text).
 */
#define VALUE_WHO	64
const char *value_who(const char *word, struct rule *, char text[VALUE_WHO]);
/* value_set_words() for a struct conf_log and the words after `log'. */
bool	 value_set_log(struct conf_log *, const char *const *word,
	    int nwords);
/* The name of a facility of syslog(3) that value_set_log() has set. */
const char *value_facility(int code);
/*
 * The words after `listen': fills all but text.  Returns false with *why set
 * to what is wrong and what is allowed (static text).
 */
bool	 value_set_listen(struct conf_listen *, const char *const *word,
	    int nwords, const char **why);
/* The number of the signal that a service's stop-signal names. */
int	 value_stop_signal(const struct conf_service *);

/* dump.c: a configuration back to text */

/* Write a value so that value_set() reads the same. */
void	 dump_value(FILE *, const struct setting *, const void *base);
/* UID:GID[,GID ...] */
void	 dump_user(FILE *, const struct conf_user *);
/* Every setting in effect, as a file that loads to the same configuration. */
void	 dump_conf(const struct conf *, FILE *);

/* load.c: a configuration's lines to sections, for conf.c */

/* A line of a file; line 0: the command line's `-o', `-l'. */
struct load_where {
	const char	*file;
	int		 line;
};

/* A `service' section, or what stands before the first; until all is read. */
struct load_section {
	TAILQ_ENTRY(load_section) entry;
	struct conf_service *service;
	struct load_where	 at;
	struct load_where	 seen[SETTINGS];
	struct rule_list rules;		/* of allow and deny */
};

/* The name of a file, which lives as long as a `where' can mean it. */
struct load_name {
	SLIST_ENTRY(load_name) entry;
	char		 text[];
};

/* The state of it; what it is given must live as long. */
struct loader {
	struct conf	*conf;
	struct conf_service defaults;
	struct load_section	 first;		/* its service: the defaults */
	TAILQ_HEAD(, load_section) sections;
	SLIST_HEAD(, load_name) names;
	struct load_section	*section;	/* in force */
	struct load_where	 at;
	struct load_where	 file;		/* the main file, no line */
	bool		 included;	/* no include from here */
	char		*error;
};

/* Defaults in place, nothing read.  Returns 0, or -1 with a line in error. */
int	 load_open(struct loader *, bool foreground,
	    char error[CONF_ERROR_MAX]);
/* The configuration when rv is 0; else NULL, with all of it freed. */
struct conf *load_close(struct loader *, int rv);
/* Each returns 0, or -1 with a line in error. */
int	 load_file(struct loader *, const char *path);
int	 load_text(struct loader *, const char *text, size_t size);
/* `preforkd greet', `preforkd -- PROGRAM': a service of that name. */
int	 load_service(struct loader *, const struct conf_source *);
/* All of -l: they replace the listen lines of the one service. */
int	 load_listens(struct loader *, char *const *text);
/* All of -o. */
int	 load_overrides(struct loader *, char *const *text);
/* The one place that makes an error; always -1. */
int	 load_wrong(struct loader *, const struct load_where *, const char *fmt,
	    ...) __attribute__((__format__(printf, 3, 4)));
/* Where a section has its value of a setting from. */
const struct load_where *load_origin(const struct loader *,
	    const struct load_section *, const char *name);

/* service/builtin.c: the services that `run' knows */

/* NULL-ended. */
extern const struct preforkd_service *const builtin_services[];

/* listen.c: addresses to listening sockets, inherited ones, farewell */

enum listener_state {
	LISTENER_OPENING,	/* takes no client yet, but for a Unix one */
	LISTENER_OPEN,
	LISTENER_LEAVING,	/* refuses new clients, its queue is served */
	LISTENER_PULLED,	/* its workers were told to leave */
	LISTENER_CLOSED
};

/*
 * One listening socket; several for a `listen' line such as `*:80'.  In
 * reloads it is known by its address, and one that was asked for with port 0
 * by the line that it was opened for.
 */
struct listener {
	TAILQ_ENTRY(listener) entry;
	char		*service;	/* name of the service, ... */
	char		*text;		/* ... the line, ... */
	int		 part;		/* ... which address of it: 0, 1 */
	bool		 inherited;	/* from our caller, who owns it */
	int		 fd;		/* close-on-exec, blocking */
	struct address	 address;	/* as bound: port 0 resolved */
	char		 name[ADDRESS_TEXT];	/* the same as text */
	dev_t		 dev;		/* Unix socket: what we created, ... */
	ino_t		 ino;		/* ... so that no other is unlinked */
	int		 index;		/* its row in the scoreboard */
	enum listener_state state;
	int64_t		 empty_since;	/* leaving: 0 while the queue is not */
	int64_t		 leave_by;	/* leaving: then the queue is cut */
	int		 users;		/* pools of all generations */
	bool		 broken;	/* by a resident program, for good */
	int64_t		 revive_at;	/* not earlier */
	int		 backlog;	/* that was asked for */
	int		 limit;		/* length of the queue, last asked */
	int		 waiting;	/* in the queue, last asked */
	int		 number;	/* in what an upgrade hands over */
};

/*
 * How many sockets were handed to this process, by LISTEN_FDS and LISTEN_PID,
 * which leave the environment; they begin at FD_LOG.  Returns 0 for none, or
 * -1 with a line in error.
 */
int	 listen_handed_over(char error[CONF_ERROR_MAX]);
/* Keep that many, elsewhere.  Returns 0, or -1 with a line in error. */
int	 listen_adopt(int n, char error[CONF_ERROR_MAX]);
/* Whether each has a `listen' line; 0, or -1 with a line in error. */
int	 listen_all_wanted(const struct conf *, char error[CONF_ERROR_MAX]);
/*
 * Take the inherited socket with this address, or bind and listen.  A family
 * that the kernel lacks fails with EAFNOSUPPORT.  A stale Unix socket is
 * replaced; one that answers, and any other file, is not.  One of our own takes
 * no client before listen_welcome().  Returns NULL with a line in error that
 * names the address.
 */
struct listener *listen_open(const struct conf_service *,
	    const struct conf_listen *, int part, char error[CONF_ERROR_MAX]);
/* Take clients from now on, or again; 0, or -1 with errno. */
int	 listen_welcome(struct listener *);
/* Ask for waiting and limit; 0 when the system cannot tell. */
void	 listen_measure(struct listener *);
/*
 * What the service sets of its socket, unless that is another's: the length of
 * the queue, and the options of TCP.  Returns 0, or -1 with a line in error.
 */
int	 listen_settle(struct listener *, const struct conf_service *,
	    char error[CONF_ERROR_MAX]);
/*
 * Farewell, step 1: no new client; what is queued stays.  An inherited socket
 * stays as it is, for its owner: it is quiet at once, and nothing is pending.
 */
void	 listen_refuse(struct listener *);
/* Farewell: whether the queue has been empty for 200 ms. */
bool	 listen_quiet(struct listener *, int64_t now);
/* Whether a client waits in the queue right now. */
bool	 listen_pending(const struct listener *);
/*
 * For an upgrade: the next socket, from *at on, that was inherited and that no
 * listener uses; its name, or NULL at the end.
 */
const char *listen_unused(int *at, int *fd);
/* In a new program: a socket that the old one had inherited. */
int	 listen_keep(const char *name, int fd, bool used);
/* Whether somebody has shut it down. */
bool	 listen_is_shut(const struct listener *);
/* Listen again, then; 0, or -1: a Unix socket cannot. */
int	 listen_again(const struct listener *, int backlog);
/*
 * Last step: no worker's copy can accept or hold the port; frees it.  An
 * inherited one stays open, for a `listen' line that comes back.
 */
void	 listen_close(struct listener *);

/* daemon.c: descriptors, background with readiness, pid file */

/* 0, 1 and 2 are open whatever the caller left, and n that follow. */
void	 daemon_descriptors(int n);
/*
 * Goes on in a child; the caller's process ends when that is ready.  The
 * caller's standard error is kept for good when the log goes there.
 */
void	 daemon_background(bool log_is_stderr);
/* The start is over for this process: it lets go of the caller's terminal. */
void	 daemon_let_go(void);
/* In the master: it serves, the caller may go. */
void	 daemon_ready(void);
/*
 * Lock the pid file, without a pid in it yet.  Returns 0, or -1 with a line in
 * error, such as `preforkd is running already, pid 123'.
 */
int	 daemon_lock(const char *path, char error[CONF_ERROR_MAX]);
/* The locked pid file, for an upgrade: its path, NULL for none, and *fd. */
const char *daemon_pid_file(int *fd);
/* The same, inherited.  Returns 0, or -1 when there is no memory. */
int	 daemon_keep_pid_file(const char *path, int fd);
/* 0, or -1 with errno; nothing to do when there is no pid file. */
int	 daemon_write_pid(void);
void	 daemon_remove_pid(void);

/* sources.c: how many connections each source has, over all workers */

struct source;

struct source_limit {
	int64_t		 now;		/* us */
	int		 most;		/* at once; 0: any number */
	int64_t		 interval;	/* us for each; 0: no rate */
	int64_t		 burst;		/* at least 1 */
};

/* A cell that a connection holds; key is set by the caller. */
struct source_claim {
	uint64_t	 key;
	struct source	*source;	/* NULL: none */
	int		 cell;
};

enum source_answer {
	SOURCE_ADMITTED,
	SOURCE_UNKNOWN,		/* admitted, there is no room to count it */
	SOURCE_FULL,
	SOURCE_TOO_FAST
};

/* What a source is known by: a prefix, at the service of this row. */
uint64_t source_key(const struct prefix *, int service,
	    const uint64_t secret[2]);
/* One more connection of the source, for the worker of this slot. */
enum source_answer source_claim(struct source *table, struct source_claim *,
	    int slot, const struct source_limit *);
void	 source_release(struct source_claim *, int slot);
/* In the master: what a dead worker of this slot held. */
void	 sources_forget(struct source *table, int slot);
/* In the master: what no live worker holds. */
void	 sources_repair(struct source *table, const pid_t *pid, int nslots);

/* program.c: a program to run: its file, its environment, its start */

#define PROGRAM_PATH	"/usr/local/sbin:/usr/local/bin:" \
			    "/usr/sbin:/usr/bin:/sbin:/bin"
#define PROGRAM_VARIABLES	256
#define PROGRAM_TEXT		32768	/* bytes of all variables */
/* What `env' may take of it; the rest is for what is said of a client. */
#define PROGRAM_OWN_VARIABLES	200
#define PROGRAM_OWN_TEXT	16384
#define PROGRAM_NAME		256	/* of a variable, with NUL */

struct program_env {
	int		 n;
	char		*variable[PROGRAM_VARIABLES + 1];
	size_t		 used;
	char		 text[PROGRAM_TEXT];
};

/* A program whose time is over has this long between SIGTERM and SIGKILL. */
#define PROGRAM_GRACE	1000	/* ms */

/* What a program starts with; its descriptors are not inherited otherwise. */
struct program {
	const char	*path;		/* of the file */
	char *const	*argv;
	char *const	*env;
	int		 fd[4];		/* as 0 to 3; fd[3] is -1: nothing */
	char		*pid_text;	/* its pid is written here, or NULL */
};

/*
 * The file of a program: an absolute path, or a name that is looked for in
 * PROGRAM_PATH; *path is it, then, or else in `room'.  Returns NULL, or what is
 * wrong (static text).
 */
const char *program_find(const char *name, char room[PATH_MAX],
	    const char **path);
/*
 * How much later than its own deadlines a worker of the service is late: what
 * it takes it to end a program.
 */
int64_t	 program_grace(const struct conf_service *);
/* Empty but for PATH, PREFORKD_SERVICE and what `env' says. */
void	 program_env_start(struct program_env *, const struct conf_service *);
/* Add or replace a variable; false when there is no room. */
__attribute__((__format__(printf, 3, 4)))
bool	 program_env_put(struct program_env *, const char *name,
	    const char *fmt, ...);
/*
 * Add a variable for the program's own pid, and return where that is to be
 * written; NULL when there is no room.
 */
char	*program_env_pid(struct program_env *, const char *name);
/*
 * Start it in a session of its own, with signals as at login; it is killed
 * when this process ends.  The caller has blocked all signals.  Returns its
 * pid, or -1 with errno, of execve(2) too.
 */
pid_t	 program_start(const struct program *);
/*
 * Whether it has ended, without waiting.  Then what is left of its process
 * group is killed, while its number still is its own, and *status is set as by
 * waitpid(2).
 */
bool	 program_ended(pid_t, int *status);

/* session.c: the sessions that programs of this worker lead */

struct session {
	LIST_ENTRY(session) entry;
	pid_t		 pid;
	int		 fd;		/* of its client, or -1 */
	bool		 told;		/* to end: not waited for */
	bool		 silent;	/* ended, and nobody else lives */
	int64_t		 last_at;	/* its program ended: then ... */
	int64_t		 look_at;	/* ... others must, or silent then */
	uint64_t	 moved;		/* bytes of the client, last asked */
	bool		 over;		/* and reaped, with all of it */
	int		 status;	/* then: as from waitpid(2), ... */
	int64_t		 ended;		/* ... and when */
};

/* In a worker, before its first program; 0, or -1 with errno. */
int	 session_setup(void);
/* Before a program is started; and when there is none for a while. */
void	 session_watch(void);
void	 session_rest(void);
/* A program has been started; the session is known until it is over. */
void	 session_begin(struct session *, pid_t);
/* For the process group of the program. */
void	 session_signal(struct session *, int);
/* All there are: SIGTERM, so many ms later SIGKILL, and wait for them. */
void	 session_end_all(int64_t grace);
/*
 * Whether its program has ended and this worker has no other child that lives:
 * nobody is left who could have the client's connection from it.
 */
bool	 session_is_silent(struct session *);
/*
 * Reap whoever has ended, and end the sessions of programs among them: one
 * that serves a client when nobody is left in it, or at look_at, to be called
 * again then.  Waits at most 0.5 s, for processes that it has killed.
 */
void	 session_reap(void);

/* traffic.c: what has passed over a connection */

struct traffic {
	uint64_t	 in, out;	/* bytes, received; written */
	uint64_t	 moved;		/* grows with each byte that ... */
	int64_t		 quiet;		/* ... moved, so many ms ago ... */
	bool		 stuck;		/* ... or less, if more is under way */
};

/* Ask; false when nothing is known, as of a Unix socket. */
bool	 traffic_of(int fd, struct traffic *);
/* ms since the client was last heard of; -1 when nothing is known. */
int64_t	 traffic_silence(int fd);

/* says.c: what a program says on its standard error, as lines of the log */

#define SAYS_TEXT	800	/* bytes of a line */
#define SAYS_LINES	20
#define SAYS_WINDOW	1000	/* ms */

/* All zero at first, but for service. */
struct says {
	const char	*service;	/* whose program, ... */
	uint64_t	 client;	/* ... for whom, 0: nobody alone, ... */
	pid_t		 pid;		/* ... and which */
	int64_t		 window_end;
	int		 left;		/* lines that it may still say */
	unsigned long long suppressed;	/* ... and has not, to be told */
	int64_t		 told;		/* when the last ones were */
	size_t		 size;
	char		 text[SAYS_TEXT];	/* the line so far */
};

/* Whose words follow; one that spoke before has come to its end. */
void	 says_begin(struct says *, uint64_t client, pid_t);
/* Bytes that it has written; with none, a suppressed number that is due. */
void	 says_feed(struct says *, int64_t now, const char *, size_t);
/* When to feed it, be it nothing; 0: no need. */
int64_t	 says_due(const struct says *);
/* The end of its words: a line without newline is one as well. */
void	 says_end(struct says *, int64_t now);
/* The same, and nobody will speak any more. */
void	 says_finish(struct says *, int64_t now);

/* trial.c: whether a service could serve, tried by a child */

/*
 * Whether the program or the module of a service is there for whom it is to
 * run as.  Waits for at most 8 s.  Returns 0, or -1 with a line in error.
 */
int	 trial(const struct conf_service *, char error[CONF_ERROR_MAX]);

enum verdict {
	VERDICT_SAID,		/* text: what is wrong; empty: nothing */
	VERDICT_DIED,		/* text: how */
	VERDICT_LATE,		/* text: that it was */
	VERDICT_NONE		/* there is no child: errno */
};

/*
 * Have a child work, which says what is wrong, or an empty text, with its NUL
 * to a descriptor, and is thrown away.  Waits for at most 8 s.
 */
enum verdict trial_child(void (*work)(void *, int fd), void *, char *text,
	    size_t size);

/* admit.c: whether a connection may come in */

struct worker;

/*
 * In a worker: first the rules, while it has their descriptor, 0 or -1; and
 * the rest before its first client.
 */
int	 admit_open(const struct worker *);
/* Returns whether the number of connections of a source is limited. */
bool	 admit_start(const struct worker *);
/* Variables by the rule for who was admitted: strings, and an empty one. */
const char *admit_variables(void);
/*
 * Whether it may be served.  Returns NULL, or one word why not; it is then
 * for the caller to end it by admit_refuse().
 */
const char *admit(const struct conn *);
/*
 * Say what there is to be said, in one write that does not wait.  Returns
 * whether it said something that must not be lost when it is closed.
 */
bool	 admit_refuse(const struct conn *);
/* The worker leaves, and with it a turn of the rate that it waited for. */
void	 admit_give_back(void);
/* The connection is over. */
void	 admit_left(void);
/* ... but its client keeps the worker: whether it may, until admit_left(). */
bool	 admit_again(void);
/*
 * Milliseconds to wait for the rate of the service, and then ask again; 0: the
 * next client may be accepted.
 */
int	 admit_pause(void);

/* proxyproto.c: the header of a proxy, which tells whose connection it is */

#define PROXY_TIME	3000	/* ms for it to arrive */
#define PROXY_HEAD	107	/* most bytes of it that say something */

enum proxy_answer {
	PROXY_MORE,		/* right so far */
	PROXY_DONE,
	PROXY_WRONG,
	PROXY_GONE		/* only to proxy_read(): not a byte came */
};

struct proxy_header {
	size_t		 size;		/* of all of it; may be more than n */
	bool		 told;		/* else it is the connection's own */
	struct address	 peer, local;
};

/* What the first n bytes of a connection are; n may be more than the header. */
enum proxy_answer proxy_parse(const char *, size_t n, struct proxy_header *);
/* In a worker, before its first client; dies when memory is short. */
void	 proxy_start(const struct conf_service *);
/* Whether this peer is one that may send a header. */
bool	 proxy_trusts(const struct address *);
/*
 * Take the header from the connection, and nothing that follows, and its
 * addresses for those of the connection.  Returns NULL, or words why not; none,
 * "", when who connected has left without a byte, as a health check does.
 */
const char *proxy_read(struct conn *);

/* module.c: a service, built in or of a shared object, in its process */

/*
 * Load it if need be, open and start it.  Returns NULL with *service set, or
 * what is wrong, not escaped, in one text that the next call changes.
 */
const char *module_enter(const struct conf_service *,
	    const struct preforkd_service **service);
/* Stop and close it.  SIGALRM ends this process after so many seconds. */
void	 module_leave(const struct preforkd_service *, unsigned int seconds);

/* launch.c: programs of an exec service: found, started, and heard */

struct launch {
	struct session	 session;
	int		 words[2];	/* its standard error, or -1 */
};

/* In a worker, before its first program. */
void	 launch_setup(const struct worker *);
/*
 * Start the program of the service with this descriptor as 0 and 1, signals
 * being blocked.  Returns NULL, or why not.
 */
const char *launch(struct launch *, int fd, char *const *env);
/* Say so in the log, unless a worker of the service just did. */
void	 launch_failed(const char *why);
/* From now on it is this program that is heard, for a client; 0: for none. */
void	 launch_listen(const struct launch *, uint64_t client);
/* Some of what it has said so far; there is something. */
void	 launch_hear(struct launch *, int64_t now);
/* Its last words; not those of others that may still have its pipe. */
void	 launch_hear_last(struct launch *, int64_t now);
/* When to call launch_tell(), for lines that were suppressed; 0: no need. */
int64_t	 launch_due(void);
void	 launch_tell(int64_t now);
/* The worker leaves. */
void	 launch_stop(void);
/* How it has ended, for the log: exit=0, signal=SIGTERM. */
char	*launch_status(const struct launch *, char *buf, size_t size);

/* relay.c: bytes between a client and a program that share no socket */

#define RELAY_ROOM	65536		/* bytes, each way */

struct relay_way {
	int		 from, to;
	char		*room;
	size_t		 start, end;	/* what is yet to be sent */
	uint64_t	 left;		/* UINT64_MAX: to the end */
	uint64_t	 moved;
	bool		 over;		/* and the end was passed on */
};

struct relay {
	struct relay_way in, out;	/* from the client, and to it */
	int64_t		 moved_at;
	bool		 reset;		/* by the client, or lost */
};

void	 relay_begin(struct relay *, int client, int program);
/* What to wait for, from the client and from the program. */
void	 relay_events(const struct relay *, struct pollfd pfd[2]);
/* Move what can be moved now. */
void	 relay_move(struct relay *);
/* Nobody is there to send to, and what has been written is all. */
void	 relay_last(struct relay *);
bool	 relay_is_over(const struct relay *);
/* What it has moved; and when, unless the kernel has told for the client. */
void	 relay_traffic(const struct relay *, struct traffic *);

/* prespawn.c: programs that are started before their clients come */

#define PRESPAWN_MAX	16		/* in each worker */

struct prespawned {
	struct launch	 launch;
	int		 fd;		/* our end of its sockets; -1: none */
	int64_t		 born;
	unsigned int	 round;		/* with others */
	bool		 settled;	/* taken, or it has ended and may be */
};

/* In a worker, before its first client; 0, or -1 after having said why. */
int	 prespawn_setup(const struct conf_service *, char *const *env);
/* Before each accept(2): have as many waiting as there should be. */
void	 prespawn_rest(void);
/*
 * One for a client, until prespawn_done(): that has waited longest, or else
 * one that is started now.  Returns NULL, or why there is none.
 */
const char *prespawn_take(struct prespawned **);
void	 prespawn_done(struct prespawned *);
/*
 * The worker has been told to leave: those that wait get this signal, and see
 * the end of their input.  They are known to session_end_all().
 */
void	 prespawn_retire(const struct launch *but, int signal);
/* All have ended. */
void	 prespawn_stop(void);

/* exec.c: a program for each connection */

/* In a worker, before its first client; 0, or -1 after having said why. */
int	 exec_start(const struct worker *);
void	 exec_serve(struct conn *);
/* Before each accept(2). */
void	 exec_rest(void);
/* The worker leaves. */
void	 exec_stop(void);

/* usage.c: what another process uses, from /proc */

struct usage {
	char		 state;		/* as in proc(5); Z: it has ended */
	pid_t		 parent;
	int64_t		 cpu;		/* ms, all its threads */
	int64_t		 memory;	/* bytes, resident */
};

/* 0, or -1 when there is no such process, or no /proc. */
int	 usage_of(pid_t, struct usage *);

/* privs.c: the one way down */

/* In the master: not to be chosen when memory runs out, not to be dumped. */
void	 privs_shield(bool dumpable);
/* Whether it is safer than the caller's processes, which have this score. */
bool	 privs_shielded(int *score);
/* After an upgrade, before privs_shield(): what was before stays. */
void	 privs_keep_shield(int score);
/* Who writes the log, or NULL: the user of the master; the same to be kept. */
const struct conf_user *privs_logger_user(void);
void	 privs_keep_logger_user(const struct conf_user *);
/*
 * Whether workers can become what the service is to run as.  Returns NULL, or
 * the name of the setting that cannot be had, and in why what is wrong.
 */
const char *privs_check(const struct conf_service *,
	    char why[CONF_ERROR_MAX]);
/*
 * Whether a directory, given by its absolute path, is root's alone (or this
 * user's), so that nobody else can replace what is in it; for root, this holds
 * of all above it, too.  Returns NULL, or what is wrong with dir, which is
 * PATH_MAX large.
 */
const char *privs_directory(const char *path, char *dir);
/* Its directory and umask; 0, or -1 with errno, of chdir(2). */
int	 privs_settle(const struct conf_service *);
/* In a worker: become what the service is to run as, or die. */
void	 privs_drop(const struct conf_service *, bool dumpable);
/* In the logger: become nobody in particular, or die; root when it must. */
void	 privs_drop_logger(bool opens_files);

/* sig.c: the table of signals */

/* Forget every disposition, and the mask, too, that the caller left us with. */
void	 sig_default(void);
void	 sig_reset(void);
/* Block everything; the master waits with *waiting, which blocks nothing. */
void	 sig_block(sigset_t *old);
void	 sig_unblock_all(void);
/*
 * For a program, in the child of vfork(2) of a worker that has programs and
 * does not ignore their end: after execve(2) every disposition is the default,
 * and nothing is blocked.
 */
void	 sig_reset_exec(void);
/* Handlers of the master, all blocked until ppoll(2). */
void	 sig_master(void);
/*
 * Dispositions of a worker, set before unblocking, and of the logger, which
 * unblocks only while it waits.  To one that has programs SIGQUIT is SIGTERM
 * that is noted, and a child that ends interrupts what it does.
 */
void	 sig_worker(bool programs);
void	 sig_logger(void);
/* There: whether children that end are ignored instead. */
void	 sig_children(bool ignore);
/*
 * ppoll(2) that lets all signals in, whether or not a descriptor is ready; -1
 * ms: for ever.  Returns what it does.
 */
int	 sig_poll(struct pollfd *, nfds_t, int64_t ms);
/* `SIGSEGV'; `signal 99' into a static buffer for unknown ones. */
const char *sig_name(int);
/* The table as tab-separated lines: name, effect.  For tests. */
void	 sig_table(FILE *);

/* handler.c: what runs in a signal handler, and nothing else */

/* Master, logger: set by a signal, cleared by whoever acts on it. */
extern volatile sig_atomic_t handler_pending[];	/* by signal number */
/* Worker: leave after this connection. */
extern volatile sig_atomic_t handler_retired;
/* Worker: the client is to go if it has been silent; it clears it. */
extern volatile sig_atomic_t handler_room;
/*
 * A worker sleeps in accept(2), or is about to, and a program that ends is to
 * wake it; it has: the listener is pulled away, for prespawn.c to put back.
 */
extern volatile sig_atomic_t handler_asleep;
extern volatile sig_atomic_t handler_woken;
/* Worker: known before the handler is installed. */
extern pid_t handler_master;
extern unsigned int handler_drain_seconds;
extern _Atomic uint32_t *handler_slot_state;
void	 handler_note(int);	/* master: remember the signal */
void	 handler_retire(int);	/* worker: pull the listener away */
void	 handler_quit(int);	/* ... with programs: and leave at once */
void	 handler_make_room(int);	/* worker: a silent client goes */
void	 handler_program_ended(int);	/* worker */
void	 handler_nothing(int);

/* numbers.c: what is counted, by each worker in its slot */

/* Why a client was turned away; one word each, as in the log. */
enum refusal {
	REFUSAL_DENY,
	REFUSAL_RULES,
	REFUSAL_DEFAULT,
	REFUSAL_PER_SOURCE,
	REFUSAL_PER_SOURCE_RATE,
	REFUSAL_PROXY,
	REFUSALS
};
extern const char *const refusal_names[REFUSALS];

/* How a worker died; one word each. */
enum death_cause {
	DEATH_EXIT,		/* exited, unasked */
	DEATH_SIGNAL,		/* crashed, or was sent a signal */
	DEATH_SIGKILL,		/* by somebody else, the kernel perhaps */
	DEATH_KILLED,		/* by the master: past a deadline */
	DEATH_START,		/* could not set itself up */
	DEATH_CAUSES
};
extern const char *const death_names[DEATH_CAUSES];

/* Times up to each bound, in us, and one more for what is longer. */
#define HISTOGRAM_BOUNDS	14
extern const int64_t histogram_bounds[HISTOGRAM_BOUNDS];

/* Of connections, bytes and us; each only grows. */
enum number {
	NUMBER_SERVED,		/* connections come to an end */
	NUMBER_ACCEPTED,
	NUMBER_IN,		/* bytes */
	NUMBER_OUT,
	NUMBER_REFUSED,		/* of them, by refusal */
	/* The sum of times, then how many of them up to each bound alone. */
	NUMBER_WAIT = NUMBER_REFUSED + REFUSALS,
	NUMBER_SERVICE = NUMBER_WAIT + 1 + HISTOGRAM_BOUNDS + 1,
	NUMBERS = NUMBER_SERVICE + 1 + HISTOGRAM_BOUNDS + 1
};

struct slot;

/* By the worker that owns the slot: it has accepted so many clients so far. */
void	 numbers_accepted(struct slot *, uint64_t);
/* Words that admit() or proxy_read() gave. */
void	 numbers_refused(struct slot *, const char *why);
/* One has waited so many us for a worker. */
void	 numbers_waited(struct slot *, int64_t us);
/* One has been served; so many us since it was accepted. */
void	 numbers_served(struct slot *, uint64_t in, uint64_t out, int64_t us);
/* Add what a slot says, be it lies: no sum wraps or exceeds INT64_MAX. */
void	 numbers_add(uint64_t to[NUMBERS], const struct slot *);
uint64_t numbers_refusals(const uint64_t[NUMBERS]);	/* of all reasons */

/* scoreboard.c: the shared mappings */

#define SCOREBOARD_MAGIC	0x7072656676316264ULL
#ifndef SCOREBOARD_VERSION
#define SCOREBOARD_VERSION	3
#endif
#define SCOREBOARD_DEATHS	64
#define SCOREBOARD_CLIENTS	999999999999	/* no worker has had more */
#define SCOREBOARD_GENERATIONS	32
#define SCOREBOARD_BURIALS	256

enum slot_state {
	SLOT_FREE,
	SLOT_STARTING,
	SLOT_IDLE,
	SLOT_BUSY,
	SLOT_DRAINING,		/* serving its last client */
	SLOT_CLOSING,		/* client served, but it still sends */
	SLOT_LEAVING		/* the same, and no client will follow */
};
const char *slot_state_name(uint32_t);	/* "?" for a number out of range */

/*
 * What workers write: gossip.  One writer at a moment, the worker, or the
 * master while no process owns the slot.  `seq' is odd while it changes.
 */
struct slot {
	_Alignas(64)			/* what the master reads often */
	_Atomic uint32_t seq;
	_Atomic uint32_t state;		/* enum slot_state */
	_Atomic uint32_t epoch;		/* which worker of this slot */
	_Atomic uint32_t lingering;	/* connections, while idle */
	_Atomic uint32_t heard;		/* the client has sent something */
	_Atomic uint32_t generation;
	_Atomic int64_t	 since;		/* start of the connection, or idling */
	_Atomic uint64_t client;	/* number of the last client */
	_Atomic int32_t	 pid;
	_Atomic uint16_t service;	/* rows of struct status */
	_Atomic uint16_t listener;
	_Atomic uint64_t number[NUMBERS];	/* by this worker */
	_Atomic int64_t	 born;
	_Atomic uint64_t peer[2];	/* IPv4 or IPv6, network order */
	_Atomic uint32_t peer_port;
	_Atomic uint32_t peer_family;
	_Atomic int32_t	 program;	/* pid, of a resident one; or 0 */
	_Atomic int32_t	 program_status;	/* when it has ended */
#ifdef SCOREBOARD_PADDING		/* another layout, for tests */
	char		 padding[SCOREBOARD_PADDING];
#endif
};

/* Of each service: its rate, and hints among workers. */
struct commons_service {
	_Alignas(64)
	_Atomic int64_t	 full_at;	/* us: when the rate is forgotten */
	_Atomic int64_t	 said_at;	/* ms: that it was reached, and ... */
	_Atomic uint64_t paused;	/* ... pauses since */
	_Atomic int64_t	 told;		/* when a failure was logged, and ... */
	_Atomic uint32_t failures;	/* ... how many were not, since */
};

/* Of each listener: hints among workers, repaired by the master. */
struct commons_listener {
	_Alignas(64)
	_Atomic int32_t	 idle;
};

#define SOURCES		1024
#define SOURCE_CELLS	120	/* connections of a source that can be told */

/* sources.c: a source of connections; which one is known by its hash. */
struct source {
	_Alignas(64)
	_Atomic uint64_t key;
	_Atomic int64_t	 full_at;	/* us: when its rate is forgotten */
	_Atomic uint16_t cell[SOURCE_CELLS];	/* slot + 1; 0: free */
};

/* Head of the `slots' object; struct slot [nslots] follows. */
struct commons {
	uint64_t	 magic;
	uint32_t	 version;
	uint32_t	 nslots;
	_Alignas(64)
	_Atomic unsigned long long log_dropped;	/* lines, all processes */
	_Atomic uint32_t log_reopened;	/* SIGUSR1 done by the logger, or ... */
	_Atomic uint32_t log_reopen_failed;	/* ... it keeps the old file */
	_Atomic uint32_t log_begun;	/* loggers that can write, so far */
	struct commons_listener listener[CONF_LISTENERS_MAX];
	struct commons_service service[CONF_SERVICES_MAX];
	struct source	 source[SOURCES];
	struct slot	 slot[];
};

enum master_state {
	MASTER_STARTING,
	MASTER_RUNNING,
	MASTER_DRAINING,	/* listeners leave, clients finish */
	MASTER_KILLING,		/* told again, or the deadline has passed */
	MASTER_STOPPED
};
const char *master_state_name(uint32_t);

struct status_service {
	char		 name[CONF_NAME_MAX + 1];
	uint32_t	 used;
	uint32_t	 tells;		/* of this server: conf_tells() */
	uint32_t	 workers_min, workers_spare, workers_max;
	uint32_t	 per_source;	/* as configured; 0: no limit, ... */
	uint32_t	 source_bits[2];	/* ... of IPv4 and IPv6 */
	uint32_t	 delayed;	/* workers it lacks while throttled */
	uint64_t	 number[NUMBERS];	/* by workers that are gone */
	uint64_t	 deaths[DEATH_CAUSES];	/* not asked for */
	_Atomic uint32_t full;		/* workers-max, and all are busy */
	int64_t		 retry_at;	/* next try while throttled, or 0 */
};

struct status_listener {
	char		 name[ADDRESS_TEXT];
	uint32_t	 used;
	uint32_t	 service;	/* its row */
	uint32_t	 waiting, limit;
	_Atomic int32_t	 low;		/* poke when fewer are idle */
};

struct status_death {
	int64_t		 at;		/* seconds since the epoch */
	int32_t		 pid;
	int32_t		 wait_status;	/* as from waitpid(2) */
	uint32_t	 slot, generation;
	uint32_t	 killed;	/* by the master, at a deadline */
	int32_t		 program;	/* pid; the status is of that one */
	int64_t		 age;
	uint64_t	 served;
	uint64_t	 client;	/* being served, or 0 */
	char		 service[CONF_NAME_MAX + 1];
};

/* One that serves, is coming up, or leaves: then it has a deadline. */
struct status_generation {
	uint32_t	 number;
	uint32_t	 workers;
	uint32_t	 clients;
	int64_t		 since;		/* when it was made */
	int64_t		 until;		/* then its clients are cut; or 0 */
};

/* A worker that is no more: its numbers are in its service's. */
struct status_burial {
	uint32_t	 slot, epoch;
};

enum reload_outcome {
	RELOAD_NONE,
	RELOAD_DONE,
	RELOAD_FAILED
};

#define STATUS_PRODUCT	32	/* a version of preforkd, with NUL */

/* Upgrades, as reloads below. */
struct status_upgrade {
	uint32_t	 outcome;	/* enum reload_outcome of the last */
	uint32_t	 ended, begun, done;
	int64_t		 at;
	char		 from[STATUS_PRODUCT];	/* what it replaced */
	char		 why[256];
};

/*
 * What the master alone writes; workers map it read-only.  Up to `upgrade' it
 * is the same in every layout, so that preforkctl(8) can follow an upgrade.
 */
struct status {
	uint64_t	 magic;
	uint32_t	 version;
	uint32_t	 size;		/* of this struct */
	_Atomic uint32_t seq;		/* odd while it changes */
	_Atomic uint32_t look;		/* 0: the master sleeps, poke it */
	_Atomic uint32_t slots_used;	/* those after it never were */
	_Atomic int64_t	 stop_from;	/* begin of a graceful stop, or 0 */
	int32_t		 pid;
	uint32_t	 state;		/* enum master_state */
	char		 product[STATUS_PRODUCT];
	struct status_upgrade upgrade;
	uint32_t	 generation;
	uint32_t	 nslots;
	int64_t		 started;	/* and ... */
	int64_t		 started_at;	/* ... in seconds since the epoch */
	int64_t		 updated;
	uint32_t	 reload;	/* enum reload_outcome of the last */
	uint32_t	 reloads;	/* have ended so far */
	uint32_t	 reloads_begun;	/* more than ended: one runs */
	uint32_t	 reloaded;	/* the last one of them to succeed */
	uint32_t	 reloads_failed;	/* how many ... */
	uint32_t	 upgrades_failed;	/* ... have */
	int64_t		 reload_at;	/* its begin or end, since the epoch */
	uint32_t	 reload_waits;	/* for a generation to leave, or 0 */
	uint32_t	 reload_waits_for;	/* how many of its workers */
	char		 reload_why[256];
	uint64_t	 secret[2];	/* of the hash of sources */
	uint64_t	 forks;
	uint64_t	 cut;		/* clients cut by a stop */
	uint64_t	 ndeaths;	/* ever; the last are in the ring */
	uint64_t	 nburials;	/* likewise */
	struct status_burial burial[SCOREBOARD_BURIALS];
	uint32_t	 ngenerations;	/* the newest of them in rows */
	struct status_generation generations[SCOREBOARD_GENERATIONS];
	struct status_death death[SCOREBOARD_DEATHS];
	struct status_service service[CONF_SERVICES_MAX];
	struct status_listener listener[CONF_LISTENERS_MAX];
};

/* The views of the process that uses them. */
struct scoreboard {
	struct status	*status;	/* master: writable */
	const struct status *shown;	/* workers: the same, read-only */
	struct commons	*commons;
	_Atomic uint64_t *counter;	/* clients ever accepted */
	int		 nslots;
	/*
	 * For an upgrade, which must map the objects again; workers close
	 * them before they meet a client.
	 */
	char		*path;		/* NULL: in memory */
	int		 lock;		/* status, read only; holds the lock */
	int		 fd[3];		/* status, slots, counter */
};

/*
 * Create the objects for nslots workers: PATH, PATH.slots and PATH.counter,
 * renaming earlier ones to .last; or in memory when path is NULL.  Creates
 * the directory of PATH when only that is missing.  A status file that lives
 * is waited for up to 1 s.  Returns 0, or -1 with a line in error (`in use by
 * preforkd PID') and nothing left behind.
 */
int	 scoreboard_create(struct scoreboard *, const char *path, int nslots,
	    char error[CONF_ERROR_MAX]);
/* Whether the file at path is in memory, as far as the system can tell. */
bool	 scoreboard_in_memory(const char *path);
/* A start that went no further: the files are the earlier ones again. */
void	 scoreboard_discard(const char *path);
/*
 * After an upgrade: b has path, nslots, lock and fd.  Map these objects, which
 * have this layout; or, when they have another, map new ones that take their
 * place, with the counter, which is the same in all.  Returns 0, or -1 with a
 * line in error.
 */
int	 scoreboard_keep(struct scoreboard *b, char error[CONF_ERROR_MAX]);
int	 scoreboard_renew(struct scoreboard *b, char error[CONF_ERROR_MAX]);
/* In a child: give up the writable view of status; 0, or -1 and errno. */
int	 scoreboard_confine(struct scoreboard *);
/* Write the head of `slots', which a worker may have spoilt, for readers. */
void	 scoreboard_head(struct scoreboard *);
/* The master's changes of status go between these. */
void	 scoreboard_begin(struct scoreboard *);
void	 scoreboard_end(struct scoreboard *);
/*
 * The changes of a slot go between these, by the worker that owns it or by
 * the master when none does; as relaxed stores.
 */
void	 slot_begin(struct slot *);
void	 slot_end(struct slot *);
/* The number of bytes of the slots object. */
size_t	 scoreboard_slots_size(int nslots);

/* snapshot.c: the scoreboard, copied and checked, for who shows it */

struct snapshot_file {
	char		 name[PATH_MAX];
	int		 fd;		/* or -1 */
	const void	*map;		/* ... and a mapping instead, or NULL */
	off_t		 size;
};

struct snapshot {
	struct snapshot_file file[2];	/* PATH and PATH.slots */
	uid_t		 owner;		/* of PATH */
	bool		 alive;		/* its lock is held, by ... */
	pid_t		 holder;	/* ... this process; 0: unknown */
	uint64_t	 log_dropped;
	uint32_t	 log_reopened, log_reopen_failed;
	struct status	 status;
	uint32_t	 nslots;	/* that were used, once they are read */
	struct slot	*slot;		/* seq is odd: not stable */
};

/* Which files to read.  Returns 0, or -1 when the name is too long. */
int	 snapshot_init(struct snapshot *, const char *path);
/* In a worker instead: read what it has mapped, of its living master. */
void	 snapshot_attach(struct snapshot *, const struct scoreboard *);
/*
 * Read all but the slots; again, the same files, whatever has taken their
 * names meanwhile.  Whatever they hold: text ends within its array, pids are 0
 * or possible, times are not negative, and rows and sizes are in range.
 * Returns 0, or -1 with a line in error that names the file.
 */
int	 snapshot_read(struct snapshot *, char error[CONF_ERROR_MAX]);
/*
 * What is the same in every layout, of the file that has the name now: the
 * status up to `upgrade', who holds the lock, and the owner.
 */
int	 snapshot_read_head(struct snapshot *, char error[CONF_ERROR_MAX]);
/*
 * Then the slots, and the status once more, so that no worker that dies
 * meanwhile is counted twice, or not.  A slot that was being changed each time
 * is not stable: its words do not belong together, but each alone is true.
 */
int	 snapshot_read_slots(struct snapshot *, char error[CONF_ERROR_MAX]);
void	 snapshot_free(struct snapshot *);

/*
 * tally.c: what a snapshot with slots adds up to, and how it is put in words
 * that are the same wherever it is shown
 */

/* Of one service. */
struct tally {
	uint64_t	 number[NUMBERS];	/* the dead and the living */
	unsigned int	 starting, idle, busy, draining, programs;
};

/* Fill one for each row of services; returns how many slots are unstable. */
unsigned int tally(const struct snapshot *, struct tally[CONF_SERVICES_MAX]);
/* Starts are tried one at a time, after early deaths, and it lacks workers. */
bool	 tally_is_throttled(const struct status_service *,
	    const struct tally *);
/*
 * Write why a server that lives does not serve well, each reason with `; '
 * behind it, escaped; nothing when it does.
 */
void	 tally_troubles(FILE *, const struct snapshot *, const struct tally *);
/* Escaped, until the next call. */
const char *tally_quoted(const char *);
/* The same without the last `; ', to be freed; NULL when it serves well. */
char	*tally_why(const struct snapshot *, const struct tally *);
/* ms from one time to another; 0 when that makes no sense. */
int64_t	 tally_elapsed(int64_t from, int64_t to);
/* Now; of a dead master, whose clock stands still, when it last wrote. */
int64_t	 tally_now(const struct snapshot *);
/* `starting', `ready' of a resident program, or as slot_state_name(). */
const char *tally_worker_state(const struct slot *);
/* `starting', `serving' or `leaving'. */
const char *tally_generation_state(const struct status *,
	    const struct status_generation *);
/* Since when a worker is in its state. */
int64_t	 tally_since(const struct slot *);
/* The address of its client; false when there is none, or none to show. */
bool	 tally_peer(const struct slot *, struct address *);
/* The same as text, `unix', or `-'; returns buf. */
const char *tally_peer_text(const struct slot *, char buf[ADDRESS_TEXT]);
#define TALLY_TEXT	32
/* How a worker died, as `SIGSEGV+core', `exit 3', `start failed'. */
const char *tally_death(const struct status_death *, char buf[TALLY_TEXT]);
/* `2026-11-23T15:02:27Z', or `-'. */
const char *tally_time(int64_t at, char buf[TALLY_TEXT]);

/* metrics.c: the same as Prometheus scrapes it, text format 0.0.4 */

/* The snapshot has slots.  Errors are the stream's. */
void	 metrics_write(FILE *, const struct snapshot *);

/* json.c: the same as one JSON object */

void	 json_write(FILE *, const struct snapshot *);

/* holder.c: who holds the lock of a file, without taking it */

/* The process with flock(2) on it; 0: one that is not shown; -1: none seen. */
pid_t	 holder_of(int fd);
/* Whether that one has ended: workers that still serve keep its lock. */
bool	 holder_is_gone(pid_t);
/*
 * Whether the file at path holds this pid and is locked by this process, and
 * is root's or ours.  Returns 0, or -1 with a line in error.
 */
int	 holder_check_pid_file(const char *path, pid_t,
	    char error[CONF_ERROR_MAX]);

/*
 * preforkctl.c: the administrator's tool; show.c, listing.c, rates.c, human.c
 * and control.c are its own
 */

/* preforkctl(8) documents them. */
enum {
	CTL_OK = 0,		/* serving; done */
	CTL_BAD,		/* serving, but not well; not done */
	CTL_DOWN,		/* no master */
	CTL_UNKNOWN		/* cannot tell */
};

/* Which workers, or clients of which, and in what order. */
enum order {
	ORDER_SLOT,
	ORDER_AGE,		/* in their state, the longest first */
	ORDER_SERVED,		/* the most first */
	ORDER_SERVICE,
	ORDER_STATE
};

struct selection {
	const char	*state;		/* NULL: any, ... */
	const char	*service;	/* ... likewise */
	int64_t		 age;		/* ms, in their state; or more */
	enum order	 order;
};

struct server {
	struct snapshot	 now;
	int		(*read)(struct snapshot *, char *);	/* it anew */
	const char	*pid_file;	/* -p, or NULL */
	int		 timeout;	/* s; 0: none */
	struct selection selection;
	int64_t		 interval;	/* ms; 0: once */
	int64_t		 count;		/* of intervals; 0: no end */
};

/*
 * Whether the lock, the pid file and the status file name one process, and,
 * to signal it, whether that is beyond doubt.  Returns 0, or -1 with a line
 * in error.
 */
int	 server_identify(const struct server *, bool to_signal,
	    char error[CONF_ERROR_MAX]);

/* show.c: print a snapshot; each returns the exit code */

int	 show_status(struct server *);
int	 show_deaths(struct server *);
int	 show_json(struct server *);
int	 show_metrics(struct server *);
/* Warn when what follows is not of a living master; returns the exit code. */
int	 show_warning(const struct server *);

/* listing.c: rows for workers, and for sources of clients */

int	 list_workers(struct server *);
int	 list_sources(struct server *);

/* rates.c: a line of rates for each interval */

int	 rates_show(struct server *);

/* human.c: durations, sizes and counts, humane on a terminal, else exact */

#define HUMAN_TEXT	24

bool	 human_is_on(void);
char	*human_time(char buf[HUMAN_TEXT], int64_t ms);	/* else: seconds */
/* Of two sums; 0 when the later one is smaller, as after a restart. */
uint64_t human_grown(uint64_t from, uint64_t to);
/* The mean of the times that a histogram has got since; `-': none. */
char	*human_mean(char buf[HUMAN_TEXT], const uint64_t *from,
	    const uint64_t *to);
char	*human_count(char buf[HUMAN_TEXT], uint64_t);
char	*human_size(char buf[HUMAN_TEXT], uint64_t bytes);
char	*human_kilobytes(char buf[HUMAN_TEXT], int64_t bytes);

/* control.c: a signal and its outcome; each returns the exit code */

int	 control_reload(struct server *);
int	 control_reopen(struct server *);
int	 control_stop(struct server *);
int	 control_upgrade(struct server *);

/* pool.c: policy, a pure function */

struct pool_counts {		/* of one listening socket */
	int	starting;
	int	idle;
	int	busy;
	int	draining;	/* told to leave, still there */
	int	queued;		/* clients waiting in the queue */
	int	least_idle;	/* over workers-idle-time; -1: unknown */
	int	pressed;	/* resident: looks that found clients queued */
	bool	calm;		/* ... none did for workers-idle-time */
};

struct pool_limits {
	int	min;		/* of this socket */
	int	spare;
	int	room;		/* workers that may be added, by all limits */
	int	batch;		/* at most at once */
	bool	throttled;	/* one try at a time */
};

struct pool_plan {
	int	start;
	int	retire;
};

/* How many workers to start or retire now; never both. */
struct pool_plan pool_plan(const struct pool_counts *,
	    const struct pool_limits *);
#define POOL_PRESSED	3	/* looks in a row, before there are more */
/* The same for programs that accept by themselves; spare is not used. */
struct pool_plan pool_plan_resident(const struct pool_counts *,
	    const struct pool_limits *);

/* worker.c: a worker's life */

struct worker {
	struct scoreboard *board;
	const struct conf_service *conf;
	const struct listener *listener;
	int		 log_fd;	/* its service's ... */
	int		 poke_fd;	/* ... descriptions of the pipes */
	int		 rules;		/* its generation's, or -1 */
	struct slot	*slot;
	int		 number;	/* of the slot */
	int		 service;	/* its row in the scoreboard */
	uint32_t	 generation;
	pid_t		 master;
	bool		 dumpable;
};

/* Runs in the new process with all signals blocked; never returns. */
__attribute__((__noreturn__))
void	 worker_main(const struct worker *);

/* resident.c: a program that accepts by itself, and its watcher */

/* In a worker: 0, or -1 after having said why not.  Blocks all signals. */
int	 resident_start(const struct worker *);
/*
 * Start the program, have ready() called once, and watch until it has ended;
 * returns the exit code of the worker.
 */
int	 resident_watch(void (*ready)(void));

/* conn.c: one connection */

/*
 * How a connection ended: what conn_read() or conn_write() met last, or
 * CONN_SERVED when that was nothing.  CONN_CLIENT_CLOSED is no failure: it
 * tells of a client that finished sending before the service was done reading,
 * which is the ordinary end of echo and discard, and of one that was gone when
 * more was to be written to it.
 */
enum conn_end {
	CONN_SERVED,
	CONN_CLIENT_CLOSED,
	CONN_FIRST_BYTE_TIMEOUT,
	CONN_IDLE_TIMEOUT,
	CONN_TOTAL_TIMEOUT,
	CONN_DRAIN_TIMEOUT,
	CONN_TOO_SLOW,
	CONN_MADE_ROOM,
	CONN_RESET,
	CONN_FAILED
};
/* One word for the log: `served', `client-closed', `idle-timeout' ... */
const char *conn_end_name(enum conn_end);

#define CONN_FIRST	32	/* bytes kept for the log */
#define CONN_SILENT	200	/* ms, before it makes room for others */
#define CONN_LINE	4096	/* read-ahead of conn_line() */

struct conn {
	int		 fd;
	uint64_t	 number;
	struct address	 peer;
	struct address	 local;
	bool		 local_known;	/* else ask getsockname(2) */
	char		 peer_text[ADDRESS_TEXT];
	char		 local_text[ADDRESS_TEXT];
	int64_t		 started_us;
	int64_t		 started;
	int64_t		 first_byte_at;	/* deadlines; 0: none */
	int64_t		 total_at;
	int64_t		 idle_timeout;
	struct conf_rate min_rate;
	_Atomic uint32_t *heard;	/* set at the first byte, or NULL */
	uint64_t	 bytes_in, bytes_out;
	uint64_t	 header;	/* bytes before them, of a proxy */
	enum conn_end	 end;
	int		 nfirst;
	char		 first[CONN_FIRST];
	char		 note[32];	/* for the log: ` key=value' */
	size_t		 line_start, line_end;	/* unread part of line */
	char		 line[CONN_LINE];
};

/*
 * A connection just accepted, with the timeouts of its service.  The caller
 * then sets number, and local with local_known when the listener has one
 * address and not a wildcard: each connection anew.
 */
void	 conn_open(struct conn *, int fd, const struct address *peer,
	    const struct conf_service *);
/*
 * Wait until there is something to read, until this time and within the
 * timeouts.  Returns 0, or -1 with c->end saying why not.
 */
int	 conn_wait(struct conn *, int64_t until);
/* When it will have been slower than its min-rate, which is not 0. */
int64_t	 conn_slow_at(const struct conn *);

/* http.c: a request of HTTP/1.1, and its answer */

#define HTTP_HEAD	8192	/* bytes of a request */
#define HTTP_PATH	1024	/* with NUL */

struct http_request {
	bool		 get, head;	/* the method; or another one */
	char		 path[HTTP_PATH];	/* without the query */
};

struct http_answer {
	const char	*status;	/* `200 OK' */
	const char	*type;		/* of the content */
	const char	*policy;	/* `; script-src ...', or empty */
	const char	*body;
	size_t		 size;
};

/*
 * What a whole head says; it is cut to pieces.  Returns NULL, or the status to
 * refuse it with.
 */
const char *http_parse(char *head, size_t size, struct http_request *);
/* Read a request; false when it was refused, or the client is gone. */
bool	 http_read(struct conn *, struct http_request *);
/* The answer, the only one. */
void	 http_answer(struct conn *, const struct http_request *,
	    const struct http_answer *);
void	 http_refuse(struct conn *, const struct http_request *,
	    const char *status);

/* page.c: the status as a page of HTML; and pagetext.c, what is in it */

/* The snapshot has slots; the nonce is for its script and its style. */
void	 page_write(FILE *, const struct snapshot *, const char *nonce);
extern const char page_style[], page_script[];

/* web.c: services that speak HTTP */

extern const struct preforkd_service metrics_service, status_service;

/* agent.c: what HAProxy asks for: how much room there is */

extern const struct preforkd_service agent_service;

/* view.c: this server, as seen by those of its workers that tell of it */

/* In a worker, before its first client. */
void	 view_start(const struct worker *);
/* What `run' says besides the name; empty: nothing. */
const char *view_about(void);
/*
 * A copy of the scoreboard, to be freed by snapshot_free(), also after a
 * failure.  Returns 0, or -1 with a line in error.
 */
int	 view_take(struct snapshot *, char error[CONF_ERROR_MAX]);

/* linger.c: connections that are over but for the client's end */

#define LINGER_IDLE	2000	/* ms without a byte, then it is closed */
#define LINGER_MAX	16

struct lingering {
	int		 fd;
	int64_t		 since;		/* of its shutdown */
	int64_t		 heard;		/* its last byte, or since */
	bool		 refused;
};

/* Starts as all zero, but for hold. */
struct linger_ring {
	int		 count;
	/*
	 * Where sources are limited: whether this one, whose connection is
	 * ended, may keep the caller waiting.  All others then have 2 s.
	 */
	bool		 (*hold)(void);
	struct lingering entry[LINGER_MAX];	/* the oldest first */
};

/*
 * End a connection without loss and own its descriptor: shut it for writing,
 * take what the client has sent and, if that was anything, what it goes on to
 * send; then keep the descriptor in the ring until the client has ended too.
 * Waits for a client that sends, and for room in a full ring.
 */
void	 linger_end(struct linger_ring *, int fd);
/* The same for a client that was refused and told so: never waits. */
void	 linger_refuse(struct linger_ring *, int fd);
/*
 * Close those that have ended or are past their time.  Costs nothing while
 * count is 0, and least before the linger_end() of the next connection.
 * Waits only for a client that it finds sending in bulk, without hold.
 */
void	 linger_sweep(struct linger_ring *);
/* Wait for all of them, within their bounds. */
void	 linger_finish(struct linger_ring *);

/* sink.c: where log lines end up: standard error, a file, syslogd */

struct sink {
	const struct conf_log *conf;
	int		 fd;		/* -1: not open, or not connected */
};

/*
 * Open, or open anew: what was open stays so when that fails.  Starts with fd
 * -1.  Returns 0, or -1 with a line in error that names the path; standard
 * error and syslog always succeed.
 */
int	 sink_open(struct sink *, char error[CONF_ERROR_MAX]);
void	 sink_close(struct sink *);
/*
 * Write lines, each with its newline; returns how many bytes were taken, fewer
 * when it failed.  Waits for what is slow, up to 0.5 s for syslogd.
 */
size_t	 sink_write(struct sink *, char *lines, size_t size);

/* logger.c: the one process that writes the log */

/*
 * Fork the logger, which reads records from the pipe and writes lines until
 * all write ends are closed.  Returns its pid or -1.  When it is able to, it
 * counts in log_begun of the commons.
 */
pid_t	 logger_start(int readfd, const struct conf_log *,
	    struct scoreboard *);
/* The log pipe: as large as allowed, both ends close-on-exec. */
int	 logger_pipe(int fds[2]);

/* master.c: the loop, and what the master knows for itself */

enum child_state {
	CHILD_FREE,
	CHILD_STARTING,
	CHILD_READY,
	CHILD_LEAVING,		/* told to */
	CHILD_KILLED		/* SIGKILL is out */
};

/* The worker in a slot. */
struct child {
	enum child_state state;
	struct pool	*pool;
	uint32_t	 epoch;
	bool		 was_ready;
	bool		 trial;		/* started while throttled */
	bool		 blind;		/* writes to a scoreboard of the past */
	int64_t		 born;
	int64_t		 kill_at;	/* deadline; 0: none */
	const char	*kill_why;	/* ... and whose */
	uint64_t	 served;	/* as last seen */
	int64_t		 memory;	/* of a resident program, bytes */
	uint64_t	 client;	/* as last seen, and ... */
	int64_t		 client_seen;	/* ... since when; 0: not serving */
	int64_t		 nudged;	/* last */
};

/* A service of a generation: its throttle. */
struct service {
	TAILQ_ENTRY(service) entry;
	struct generation *generation;
	const struct conf_service *conf;
	int		 index;		/* row in the scoreboard */
	int		 log_fd;	/* for its workers: FD_LOG ... */
	int		 poke_fd;	/* ... and FD_POKE */
	int		 npools;
	int		 early_deaths;	/* in a row */
	int64_t		 delay;		/* of the throttle; 0: none */
	int64_t		 retry_at;
	int		 delayed;	/* workers that lack for it */
	bool		 full_said;	/* workers-max reached: said once */
	int		 number;	/* in what an upgrade hands over */
};

/* The workers of a service on one listening socket, of one generation. */
struct pool {
	TAILQ_ENTRY(pool) entry;
	struct service	*service;
	struct listener	*listener;
	struct pool_counts counts;	/* of the last look */
	bool		 leaving;	/* all told to leave, none started */
	int		 min;		/* its share of workers-min */
	int		 serving;	/* workers that have a client */
	bool		 no_room;	/* for one that it begins with */
	int		 first;		/* workers it begins with, and ... */
	int		 been_ready;	/* ... workers that have been idle */
	int		 alive;		/* children, leaving ones too */
	int		 window_least;	/* idle, in the window that runs */
	int64_t		 window_end;
	int		 pressed;	/* resident: as in pool_counts */
	int64_t		 look_at;	/* ... at its queue, next */
	int64_t		 weigh_at;	/* ... at its memory */
	int		 successor;	/* ... been_ready with it; 0: none */
	int		 number;	/* in what an upgrade hands over */
};

/* A configuration at work. */
struct generation {
	TAILQ_ENTRY(generation) entry;
	uint32_t	 number;
	struct conf	*conf;
	int64_t		 since;
	bool		 ready;		/* its spares were idle once */
	int64_t		 ready_by;
	int64_t		 leave_from;	/* drain-timeout counts; 0: stays */
	TAILQ_HEAD(, service) services;
};

enum reload_state {
	RELOAD_IDLE,
	RELOAD_CHECKING,	/* a child reads the file */
	RELOAD_STARTING		/* the new generation comes up */
};

struct reload {
	enum reload_state state;
	bool		 upgrade;	/* it is one */
	pid_t		 pid;		/* of the check child, or 0 */
	int		 fd;		/* what it says, or -1 */
	int		 rules;		/* what it compiles, or -1 */
	int		 wait_status;
	int64_t		 deadline;
	bool		 late;		/* killed at it */
	uint32_t	 waits;		/* for this generation; said once */
	char		*text;		/* the configuration, or its error */
	size_t		 size;
};

struct upgrade {
	int		 binary;	/* the new program, or -1 */
	int		 state;		/* what is handed over to it, or -1 */
	char		 to[STATUS_PRODUCT];	/* its version */
	char		 from[STATUS_PRODUCT];	/* "": not exec'ed yet */
};

struct master {
	const struct conf_source *source;
	struct scoreboard board;
	struct child	*child;		/* by slot */
	pid_t		*pid;		/* by slot; 0: free */
	int		*unused;	/* stack of free slots */
	int		 nunused;
	enum master_state state;
	int64_t		 now;		/* of this pass */
	int64_t		 wake_at;	/* of the next deadline; 0: none */
	int64_t		 look_at;	/* of the next look while busy */
	int		 busy;		/* workers, at the last look */
	int		 lingering;	/* idle workers that ended clients */
	uint64_t	 accepted_seen;	/* clients, at the last look */
	int64_t		 stop_from;	/* while draining */
	int64_t		 stop_by;	/* while draining */
	int64_t		 fork_retry_at;	/* after fork failed; 0: it works */
	int64_t		 fork_delay;
	int		 poke_fd;	/* read ends of the two pipes */
	int		 log_fd;
	pid_t		 logger;	/* 0: none */
	bool		 logger_leaves;	/* told to, to be replaced */
	const struct conf *last;	/* when all generations have ended */
	int64_t		 logger_retry_at;
	uint32_t	 generation;	/* number of the newest */
	uint64_t	 forks;
	uint64_t	 forks_seen;	/* before this pass, and ... */
	int		 vain;		/* ... passes in a row without any */
	uint64_t	 cut;		/* clients that a stop has cut */
	bool		 print_ready;	/* -1 */
	bool		 failed;	/* exit status 1 */
	bool		 crash_loop;	/* exit status EX_SOFTWARE */
	struct reload	 reload;
	struct upgrade	 upgrade;
	TAILQ_HEAD(generations, generation) generations; /* newest first */
	TAILQ_HEAD(, pool) pools;
	TAILQ_HEAD(, listener) listeners;
};

/* Tables for the slots of the scoreboard, which is there. */
void	 master_allocate(struct master *);
/*
 * Serve until told to stop; the first generation has been made, the scoreboard,
 * the logger and the fixed descriptors are there, all signals are blocked.
 * Returns the exit status.
 */
int	 master_run(struct master *);
/* Have the next pass begin at this time or earlier. */
void	 master_wake_at(struct master *, int64_t when);
/* Tell the workers of a pool to leave; none is started any more. */
void	 master_pull(struct master *, struct pool *);
/* A listener takes no new client; its workers go when its queue is empty. */
void	 master_farewell(struct master *, struct listener *);

/* look.c: what the master sees of its workers, and does about it */

/* Whether the slot says that its worker has a client. */
bool	 look_serving(const struct slot *);
/* Count the pools, kill who is late. */
void	 look_at_workers(struct master *);
/* Start and retire workers as pool_plan() says. */
void	 look_plan(struct master *);
/* Say when to look again, or have the workers poke. */
void	 look_next(struct master *);
/*
 * Workers that the service may still have, for this pool, when it may have so
 * many at most.
 */
int	 look_room(const struct master *, const struct pool *, int most);

/* renew.c: resident programs that are too old or too large, and listeners */

/* Replace one of a pool that is due, when its successor is ready. */
void	 renew(struct master *, struct pool *);
/* Have listeners listen again that a program has shut down. */
void	 renew_listeners(struct master *);
/* What to wait for, to know that; returns how many, CONF_LISTENERS_MAX. */
unsigned int renew_watch(const struct master *, struct pollfd *);

/* status.c: what the master shows */

/* Rows for a service, by name, and for a listener; -1 when there is none. */
int	 status_service_row(struct master *, const char *name);
int	 status_listener_row(struct master *, const char *name, int service);
/* A service's row is freed when no generation has it any more. */
void	 status_free_service_row(struct master *, int row);
void	 status_free_listener_row(struct master *, int row);
/* A listener has become another service's. */
void	 status_hand_over(struct master *, int listener_row, int service_row);
void	 status_record_death(struct master *, const struct status_death *,
	    int service_row);
/* A dead worker's counts join its service's totals; its slot is free. */
void	 status_inherit(struct master *, int slot, int service_row,
	    uint32_t epoch);
void	 status_reload_begun(struct master *);
void	 status_reload_ended(struct master *, enum reload_outcome,
	    const char *why);
void	 status_upgrade_begun(struct master *);
void	 status_upgrade_ended(struct master *, enum reload_outcome,
	    const char *why);
/* A reload waits for the workers of a generation; 0: for none any more. */
void	 status_reload_waits(struct master *, uint32_t generation,
	    int workers);
/* All the rest, once a pass. */
void	 status_publish(struct master *);

/* notify.c: what a supervisor is told */

/*
 * Whom to tell, by NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which leave
 * the environment.  In the process that is the master.
 */
void	 notify_take(void);
/* Tell what has changed; once a pass. */
void	 notify(struct master *);

/* spawn.c: birth, burial, back-off */

/*
 * The log pipe and the wake-up pipe for the workers of a service, as open file
 * descriptions of their own: O_NONBLOCK belongs to that, and what a worker
 * does to it must not make the master wait, or another service.  Where /proc
 * is missing, or closed to us, they are the master's.  Returns 0, or -1 with
 * errno and none open.
 */
int	 spawn_open_pipes(struct service *);
void	 spawn_close_pipes(struct service *);
/* Start one worker; 0, or -1 when there is no slot or fork(2) failed. */
int	 spawn_worker(struct master *, struct pool *);
/* Tell a worker to leave, until kill_at (0: whenever); or kill it. */
void	 spawn_retire(struct master *, int slot, int64_t kill_at,
	    const char *why);
void	 spawn_kill(struct master *, int slot);
/* The same, but one with programs has a moment to kill them first. */
void	 spawn_quit(struct master *, int slot);
/* Have an idle worker look after the connections that linger. */
void	 spawn_nudge(struct master *, int slot);
/* Have a busy one leave its client, if that has been silent. */
void	 spawn_make_room(struct master *, int slot);
/* Reap whoever has died, account, log. */
void	 spawn_reap(struct master *);
/* A worker of the service has completed a connection. */
void	 spawn_succeeded(struct service *);
/* Whether so many tries in a row have failed that the server is to end. */
bool	 spawn_crash_loop(const struct service *);
/* ... why: the last deaths. */
void	 spawn_tell_crash_loop(const struct master *, const struct service *);
/* Whether a start may be tried now; asks for the wake-up when not. */
bool	 spawn_allowed(struct master *, const struct service *);

/* reload.c: generations: made, checked, committed, rolled back, buried */

/* Read the configuration anew; outcome in the log and in the status. */
void	 reload_begin(struct master *);
/* The same for SIGUSR2: with another program. */
void	 reload_begin_upgrade(struct master *);
/* Go on with it: the child has spoken, has ended, or time is up. */
void	 reload_continue(struct master *);
void	 reload_child_ended(struct master *, int wait_status);
/* What the child has said is right: make a generation of it. */
void	 reload_apply(struct master *);
/*
 * Make a generation of conf, which it owns, with its listeners, services and
 * pools.  Returns it, or NULL with a line in error and everything undone.
 */
struct generation *reload_generation(struct master *, struct conf *,
	    char error[CONF_ERROR_MAX]);
/*
 * For an upgrade: a generation that is older than those there are, without
 * pools, and a pool.  Both return NULL when there is no room.
 */
struct generation *reload_adopt(struct master *, struct conf *,
	    uint32_t number);
struct pool *reload_make_pool(struct master *, struct service *,
	    struct listener *);
/* Each pool's share of workers-min, once all are there. */
void	 reload_share_minimum(struct master *, const struct generation *);
/* A stop has come: forget about a reload that runs. */
void	 reload_cancel(struct master *);
/* The new generation is ready: the older ones leave. */
void	 reload_commit(struct master *);
/*
 * Whether the new generation has no room before workers of older ones have
 * left; says so, and puts off its deadline.
 */
bool	 reload_waits(struct master *);
/* The new generation did not become ready: it leaves. */
void	 reload_roll_back(struct master *, const char *why);
/* Free pools, generations and listeners that have come to their end. */
void	 reload_bury(struct master *);

/* state.c: what an upgrade hands over, as text; NULL for what is not there */

struct state_master {
	int64_t	 pid_fd, log_fd, poke_fd, logger, generation, forks, cut;
	int64_t	 shielded, oom_score;
	char	*version, *binary, *config, *pid_file;
	char	*logger_user;	/* its numbers; NULL: as the master */
};

struct state_board {
	int64_t	 layout, status_size, slots_size, nslots;
	int64_t	 lock, status, slots, counter;	/* descriptors */
	char	*file;
};

/* What the status shows, for a scoreboard of another layout. */
struct state_past {
	int64_t	 started, started_at;
	int64_t	 reload, reloads, reloads_begun, reloaded, reload_at;
	int64_t	 upgrades, upgrades_begun, upgraded, deaths, log_dropped;
	int64_t	 reloads_failed, upgrades_failed;
	char	*reload_why;
};

struct state_death {
	int64_t	 at, pid, wait_status, slot, generation, killed, age, served;
	int64_t	 client;
	char	*service;
};

struct state_total {
	int64_t	 number[NUMBERS], deaths[DEATH_CAUSES];
	char	*service;
};

struct state_listener {
	int64_t	 part, fd, dev, ino, row, state, empty_since, leave_by;
	int64_t	 inherited, broken, backlog;
	char	*service, *text, *name;
};

/* A socket of somebody else's that no listener uses. */
struct state_unused {
	int64_t	 fd;
	char	*name;
};

struct state_generation {
	int64_t	 number, since, leave_from;
	int64_t	 rules;		/* descriptor, or 0 */
	char	*text;		/* its configuration */
};

struct state_service {
	int64_t	 generation;	/* which record */
	int64_t	 early_deaths, delay, retry_at;
	char	*name;
};

struct state_pool {
	int64_t	 service, listener;	/* which records */
	int64_t	 leaving, been_ready;
};

struct state_child {
	int64_t	 pool;		/* which record */
	int64_t	 slot, pid, epoch, state, born, kill_at, was_ready, trial;
	int64_t	 blind, served, client, client_seen;
};

struct state_next {
	int64_t	 rules;		/* descriptor, or 0 */
	char	*text;		/* the configuration to begin with */
};

enum state_kind {
	STATE_MASTER,
	STATE_BOARD,
	STATE_PAST,
	STATE_DEATH,
	STATE_TOTAL,
	STATE_LISTENER,
	STATE_GENERATION,	/* newest first */
	STATE_SERVICE,
	STATE_POOL,
	STATE_CHILD,
	STATE_NEXT,
	STATE_UNUSED,
	STATE_KINDS
};

struct state_list {
	void	*item;		/* n of the struct of its kind */
	int	 n;
};

/* Starts as all zero. */
struct state {
	struct state_list list[STATE_KINDS];
};

/* A new record, all zero; NULL when there is no memory, or too many. */
void	*state_add(struct state *, enum state_kind);
void	 state_write(const struct state *, FILE *);
/*
 * Read what state_write() has written, or whatever else there is.  Returns 0,
 * with all numbers in range and all records there that others name, or -1
 * with a line in error.
 */
int	 state_read(struct state *, const char *text, size_t size,
	    char error[CONF_ERROR_MAX]);
void	 state_free(struct state *);

/* handover.c: a master as a state, and back */

/* Fill s, which is all zero; 0, or -1 when there is no memory. */
int	 handover_save(struct master *, struct state *s);
/* Whether its scoreboard is as this program has it. */
bool	 handover_same_layout(const struct state *);
/*
 * Make listeners, generations, pools and children of it; the scoreboard and
 * the tables are there.  Returns 0, or -1 with a line in error.
 */
int	 handover_restore(struct master *, const struct state *,
	    char error[CONF_ERROR_MAX]);

/* self.c: how this program was started, to be started again */

/* First thing: arguments, environment, and the path of the program. */
void	 self_save(int argc, char *argv[]);
const char *self_path(void);
void	 self_set_path(const char *);
/*
 * Execute what fd is, with the same arguments and environment, but with an
 * option before the others (NULL: none) and one more variable.  Returns only
 * when that fails, with errno.
 */
void	 self_exec(int fd, char *option, char *variable);

/* upgrade.c: another program takes this one's place */

enum upgrade_role {
	UPGRADE_NONE,		/* an ordinary start */
	UPGRADE_CHECK,		/* in the check child */
	UPGRADE_TAKE		/* in the master */
};

/* First thing: what a later upgrade needs, and whether this is part of one. */
enum upgrade_role upgrade_start(int argc, char *argv[]);
/* In the check child: say that the state can be read and what to serve. */
__attribute__((__noreturn__))
void	 upgrade_check(struct conf_source *);
/* In the master: become what the old one was; a failure is fatal. */
void	 upgrade_take(struct master *, struct conf_source *);
/* Open the new program and write the state; 0, or -1 with a line in error. */
int	 upgrade_prepare(struct master *, char error[CONF_ERROR_MAX]);
/* In a child of the master's: run it to check both; it speaks into fd. */
__attribute__((__noreturn__))
void	 upgrade_run_check(const struct master *, int fd);
/* The check has ended.  Returns only when there is no upgrade: why. */
void	 upgrade_exec(struct master *, char error[CONF_ERROR_MAX]);
/* How it ended: into the log and the status. */
void	 upgrade_failed(struct master *, const char *why);
void	 upgrade_done(struct master *);

#endif /* PREFORKD_H */
