/*
 * dump.c: a configuration back to text, a value or all of it.
 *
 * What it writes is read again by load.c and value.c to the same values, and
 * asks no name service: users and owners are numbers.
 */

#include <stdio.h>

#include "preforkd.h"

void
dump_user(FILE *out, const struct conf_user *user)
{
	int i;

	fprintf(out, "%u:%u", (unsigned int)user->uid, (unsigned int)user->gid);
	for (i = 0; i < user->ngroups; i++)
		if (user->groups[i] != user->gid)
			fprintf(out, ",%u", (unsigned int)user->groups[i]);
}

static void
put_limit(FILE *out, int64_t limit)
{
	if (limit == CONF_UNLIMITED)
		fputs("unlimited", out);
	else
		fprintf(out, "%lld", (long long)limit);
}

static void
put_log(FILE *out, const struct conf_log *log)
{
	switch (log->kind) {
	case CONF_LOG_STDERR:
		fputs("stderr", out);
		break;
	case CONF_LOG_FILE:
		fputs("file ", out);
		parse_put(out, log->path);
		break;
	case CONF_LOG_SYSLOG:
		fprintf(out, "syslog %s", value_facility(log->facility));
		break;
	}
}

static void
put_run(FILE *out, const struct conf_run *run)
{
	fprintf(out, "%s%s%s", run->service->name,
	    run->about[0] != '\0' ? " " : "", run->about);
}

static void
put_words(FILE *out, char *const *word)
{
	for (; *word != NULL; word++) {
		parse_put(out, *word);
		if (word[1] != NULL)
			fputc(' ', out);
	}
}

static void
put_rate(FILE *out, const struct setting *row, const struct conf_rate *rate)
{
	char per[24];

	if (rate->count == 0)
		fputc('0', out);
	else
		fprintf(out, "%lld/%s", (long long)rate->count,
		    parse_duration_text(rate->per, per, sizeof(per)));
	if (row->max > 0 && rate->count > 0)
		fprintf(out, " burst %lld", (long long)rate->burst);
}

static void
put_keepalive(FILE *out, const struct conf_keepalive *alive)
{
	char idle[24], interval[24];

	parse_duration_text(alive->idle, idle, sizeof(idle));
	parse_duration_text(alive->interval, interval, sizeof(interval));
	if (alive->idle == 0)
		fputc('0', out);
	else
		fprintf(out, "%s %s %lld", idle, interval,
		    (long long)alive->count);
}

static void
put_refuse(FILE *out, const struct conf_refuse *refuse)
{
	static const char *const how[] = { "close", "reset", "message " };

	fputs(how[refuse->how], out);
	if (refuse->how == CONF_REFUSE_MESSAGE)
		parse_put(out, refuse->text);
}

static void
put_phrase(FILE *out, const struct setting *row, const void *field)
{
	const struct conf_lengths *lengths = field;

	if (row->type == TYPE_RATE)
		put_rate(out, row, field);
	else if (row->type == TYPE_REFUSE)
		put_refuse(out, field);
	else if (row->type == TYPE_KEEPALIVE)
		put_keepalive(out, field);
	else
		fprintf(out, "%d %d", lengths->ipv4, lengths->ipv6);
}

void
dump_value(FILE *out, const struct setting *row, const void *base)
{
	const void *field = (const char *)base + row->offset;
	char buf[24];

	if (!value_is_set(row, base))
		return;
	switch (row->type) {
	case TYPE_NUMBER:
		fprintf(out, "%d", *(const int *)field);
		break;
	case TYPE_COUNT:
		fprintf(out, "%lld", *(const long long *)field);
		break;
	case TYPE_DURATION:
		fputs(parse_duration_text(*(const int64_t *)field, buf,
		    sizeof(buf)), out);
		break;
	case TYPE_CHOICE:
		fputs(row->choices[*(const int *)field], out);
		break;
	case TYPE_PATH:
		parse_put(out, *(char *const *)field);
		break;
	case TYPE_USER:
		dump_user(out, field);
		break;
	case TYPE_ROOT:
		parse_put(out, field);
		break;
	case TYPE_MODE:
		fprintf(out, "%03o", (unsigned int)*(const mode_t *)field);
		break;
	case TYPE_GROUP:
	case TYPE_LIMIT:
		put_limit(out, *(const int64_t *)field);
		break;
	case TYPE_LOG:
		put_log(out, field);
		break;
	case TYPE_RUN:
		put_run(out, field);
		break;
	case TYPE_COMMAND:
		put_words(out, *(char **const *)field);
		break;
	case TYPE_LENGTHS:
	case TYPE_RATE:
	case TYPE_KEEPALIVE:
	case TYPE_REFUSE:
		put_phrase(out, row, field);
		break;
	case TYPE_ENV:
	case TYPE_PREFIX_LIMIT:
	case TYPE_WHO:
	case TYPE_FROM:
	case TYPE_LISTEN:
	case TYPE_SERVICE:
	case TYPE_INCLUDE:
		break;
	}
}

static void
put_list(FILE *out, const struct setting *row, const void *base)
{
	char *const *line;

	line = *(char **const *)(const void *)((const char *)base +
	    row->offset);
	for (; line != NULL && *line != NULL; line++) {
		fprintf(out, "\t%s %s", row->name,
		    row->type == TYPE_FROM ? "from " : "");
		if (row->type == TYPE_ENV)
			parse_put(out, *line);
		else
			fputs(*line, out);
		fputc('\n', out);
	}
}

static void
put_listen(FILE *out, const struct conf_listen *line)
{
	parse_put(out, line->text);
	if (address_path(&line->address[0]) != NULL)
		fprintf(out, " mode=%04o", (unsigned int)line->mode);
	if (line->uid != (uid_t)-1)
		fprintf(out, " owner=%u", (unsigned int)line->uid);
	if (line->gid != (gid_t)-1)
		fprintf(out, ":%u", (unsigned int)line->gid);
}

static void
put_service(FILE *out, const struct conf_service *service)
{
	struct conf_service resolved = *service;
	const struct conf_listen *line;
	const struct setting *row;

	resolved.workers_surge = conf_surge(service);
	fprintf(out, "\nservice %s\n", service->name);
	TAILQ_FOREACH(line, &service->listens, entry) {
		fputs("\tlisten ", out);
		put_listen(out, line);
		fputc('\n', out);
	}
	for (row = settings; row < settings + SETTINGS; row++) {
		if (row->scope != SCOPE_SERVICE || row->type == TYPE_LISTEN)
			continue;
		if (!setting_is_for(row, service->kind))
			continue;
		if (setting_is_list(row)) {
			put_list(out, row, service);
			continue;
		}
		if (!value_is_set(row, &resolved))
			continue;
		fprintf(out, "\t%s ", row->name);
		dump_value(out, row, &resolved);
		fputc('\n', out);
	}
}

void
dump_conf(const struct conf *conf, FILE *out)
{
	const struct conf_service *service;
	const struct setting *row;

	for (row = settings; row < settings + SETTINGS; row++) {
		if (row->scope != SCOPE_GLOBAL || !value_is_set(row, conf))
			continue;
		fprintf(out, "%s ", row->name);
		dump_value(out, row, conf);
		fputc('\n', out);
	}
	TAILQ_FOREACH(service, &conf->services, entry)
		put_service(out, service);
}
