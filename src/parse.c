/*
 * parse.c: configuration text as lines of words, and words as values.
 *
 * Owns the syntax: blanks, comments, quotes, numbers and durations with
 * units, and what a file must be like to be read at all.  A leaf that knows
 * no setting; what it says is wrong goes to load.c, which adds file and line.
 * It must not trust a byte: text may be anything a disk holds.
 *
 * Limits: 16384 bytes a line, 256 words a line.  Control
 * characters other than tab are refused, CR too: a file with CRLF ends would
 * else have an invisible byte at the end of every value.
 */

#include <sys/stat.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

static const struct {
	const char	*name;
	int64_t		 ms;
} units[] = {			/* largest first, for duration_text */
	{ "h", 3600000 },
	{ "m", 60000 },
	{ "s", 1000 },
	{ "ms", 1 }
};

static const char changes[] = "changes while it is read: must be whole before";

/* A FIFO or a device is not waited for: opened without blocking, refused. */
static int
open_regular(const char *path, const char **why)
{
	struct stat st;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd == -1) {
		*why = strerror(errno);
		return -1;
	}
	if (fstat(fd, &st) == -1)
		*why = strerror(errno);
	else if (!S_ISREG(st.st_mode))
		*why = "must be a regular file";
	else
		return fd;
	close(fd);
	return -1;
}

/* What fstat(2) says of a size is not true of /proc. */
static char *
read_all(int fd, size_t most, size_t *size, const char **why)
{
	static char too_large[48];
	char *text;
	ssize_t n;

	*size = 0;
	if ((text = malloc(most + 1)) == NULL) {
		*why = strerror(errno);
		return NULL;
	}
	while ((n = read(fd, text + *size, most + 1 - *size)) != 0) {
		if (n > 0)
			*size += (size_t)n;
		else if (errno != EINTR)
			break;
	}
	if (n == 0 && *size <= most)
		return text;
	snprintf(too_large, sizeof(too_large), "too large: must be at most "
	    "%zu MB", most >> 20);
	*why = n == 0 ? too_large : strerror(errno);
	free(text);
	return NULL;
}

/* Whether it is the file that fd is, and nobody has written meanwhile. */
static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	    a->st_size == b->st_size &&
	    a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	    a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static char *
read_once(const char *path, size_t most, size_t *size, const char **why)
{
	struct stat before, after, named;
	char *text;
	int fd;

	if ((fd = open_regular(path, why)) == -1)
		return NULL;
	text = NULL;
	if (fstat(fd, &before) == -1)
		*why = strerror(errno);
	else
		text = read_all(fd, most, size, why);
	if (text != NULL && (fstat(fd, &after) == -1 ||
	    stat(path, &named) == -1 || !same_file(&before, &after) ||
	    !same_file(&after, &named))) {
		*why = changes;
		free(text);
		text = NULL;
	}
	close(fd);
	return text;
}

char *
parse_file(const char *path, size_t most, size_t *size, const char **why)
{
	char *text = read_once(path, most, size, why);

	if (text == NULL && *why == changes)
		text = read_once(path, most, size, why);
	return text;
}

void
parse_start(struct parse *p, const char *text, size_t size)
{
	p->text = text;
	p->end = text + size;
	p->line = 0;
	p->nwords = 0;
}

const char *
parse_bad_bytes(const char *line, size_t len, bool first)
{
	size_t i;

	if (first && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0)
		return "byte order mark: must be UTF-8 or ASCII without one";
	if (len > PARSE_LINE)
		return "line too long: must be at most 16384 bytes";
	for (i = 0; i < len; i++) {
		if (line[i] == '\0')
			return "NUL byte: must be text";
		if (line[i] == '\r')
			return "carriage return: lines must end in LF alone";
		if (iscntrl((unsigned char)line[i]) && line[i] != '\t')
			return "control character: must be text";
	}
	return NULL;
}

/*
 * Take the quotes off the word that starts at in, in place.  Returns what
 * follows it, or NULL.
 */
static char *
unquote(char *in, const char **why)
{
	char *out = in, *next;
	bool quoted = false;

	for (; *in != '\0' && (quoted || (*in != ' ' && *in != '\t')); in++) {
		if (*in == '"') {
			quoted = !quoted;
			continue;
		}
		if (quoted && *in == '\\' && *++in != '"' && *in != '\\') {
			*why = "backslash in quotes: must be \\\" or \\\\";
			return NULL;
		}
		*out++ = *in;
	}
	if (quoted) {
		*why = "quote without end: must end on its line";
		return NULL;
	}
	next = *in == '\0' ? in : in + 1;
	*out = '\0';
	return next;
}

static int
split(struct parse *p, const char **why)
{
	char *in = p->buf;

	p->nwords = 0;
	for (;;) {
		in += strspn(in, " \t");
		if (*in == '\0' || *in == '#')
			return 0;
		if (p->nwords == PARSE_WORDS) {
			*why = "too many words: must be at most 256";
			return -1;
		}
		p->word[p->nwords++] = in;
		if ((in = unquote(in, why)) == NULL)
			return -1;
	}
}

int
parse_next(struct parse *p, const char **why)
{
	const char *lf;
	size_t len;

	while (p->text < p->end) {
		len = (size_t)(p->end - p->text);
		if ((lf = memchr(p->text, '\n', len)) != NULL)
			len = (size_t)(lf - p->text);
		p->line++;
		*why = parse_bad_bytes(p->text, len, p->line == 1);
		if (*why != NULL)
			return -1;
		memcpy(p->buf, p->text, len);
		p->buf[len] = '\0';
		p->text += len + (lf != NULL);
		if (split(p, why) == -1)
			return -1;
		if (p->nwords > 0)
			return 1;
	}
	return 0;
}

bool
parse_number(const char *text, int64_t min, int64_t max, int64_t *value)
{
	const char *errstr;
	int64_t n;

	/* strtonum(3) would take blanks and a plus sign. */
	if (!isdigit((unsigned char)text[min < 0 && text[0] == '-']))
		return false;
	n = strtonum(text, min, max, &errstr);
	if (errstr == NULL)
		*value = n;
	return errstr == NULL;
}

bool
parse_duration(const char *text, int64_t min, int64_t max, int64_t *value)
{
	const size_t digits = strspn(text, "0123456789");
	const char *unit = text[digits] == '\0' ? "s" : text + digits;
	char number[20];
	int64_t n;
	size_t i;

	if (digits >= sizeof(number))
		return false;
	strlcpy(number, text, digits + 1);
	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(unit, units[i].name) != 0)
			continue;
		if (!parse_number(number, 0, max / units[i].ms, &n) ||
		    n * units[i].ms < min)
			return false;
		*value = n * units[i].ms;
		return true;
	}
	return false;
}

char *
parse_duration_text(int64_t ms, char *buf, size_t size)
{
	size_t i = 0;

	if (ms == 0) {
		strlcpy(buf, "0", size);
		return buf;
	}
	while (ms % units[i].ms != 0)
		i++;
	snprintf(buf, size, "%lld%s", (long long)(ms / units[i].ms),
	    units[i].name);
	return buf;
}

void
parse_put(FILE *out, const char *word)
{
	if (word[0] != '\0' && word[0] != '#' &&
	    strpbrk(word, " \t\"") == NULL) {
		fputs(word, out);
		return;
	}
	fputc('"', out);
	for (; *word != '\0'; word++) {
		if (*word == '"' || *word == '\\')
			fputc('\\', out);
		fputc(*word, out);
	}
	fputc('"', out);
}
