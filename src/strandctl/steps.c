#include "strandctl/steps.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "strandctl/sql_embed.h"

static const char mark[] = "-- step: ";
static const char gexec_line[] = "\\gexec\n";
/* For psql, which shows no progress; history_finish does the same. */
static const char psql_only[] = "CALL strandd.finish_histories";

/* The next line at or after `text` that begins with the mark. */
static const char *find_mark(const char *text)
{
	while (strncmp(text, mark, sizeof(mark) - 1)) {
		text = strchr(text, '\n');
		if (!text)
			return NULL;
		text++;
	}
	return text;
}

/* Takes a `\gexec` line off the end; comments and blanks may follow it. */
static bool cut_gexec(char *sql)
{
	char *at = strstr(sql, gexec_line);

	if (!at || (at > sql && at[-1] != '\n'))
		return false;
	*at = '\0';
	return true;
}

int step_next(struct step *ret_step, const char **cursor)
{
	const char *start = find_mark(*cursor), *body, *end;
	struct step s;

	if (!start)
		return 0;
	start += sizeof(mark) - 1;
	body = start + strcspn(start, "\n");
	end = find_mark(body);
	if (!end)
		end = body + strlen(body);
	s.title = strndup(start, (size_t)(body - start));
	s.sql = strndup(body, (size_t)(end - body));
	if (!s.title || !s.sql) {
		step_release(&s);
		return STRAND_ENOMEM;
	}
	s.gexec = cut_gexec(s.sql);
	*cursor = end;
	*ret_step = s;
	return 1;
}

void step_release(struct step *s)
{
	free(s->title);
	free(s->sql);
}

int step_run(const struct step *s, struct locked *l, struct err *e)
{
	if (s->gexec)
		return locked_gexec(l, s->title, s->sql, 0, NULL, e);
	return locked_exec(l, s->title, s->sql, e);
}

static const char *text_of(const char *name)
{
	for (const struct sql_file *f = sql_files; f->name; f++)
		if (!strcmp(f->name, name))
			return f->text;
	return NULL;
}

int steps_run_file(const char *name, struct locked *l, struct err *e)
{
	const char *cursor = text_of(name);
	int64_t started = clock_now();
	struct step s;
	int ret, n = 0;

	if (!cursor)
		return err_set(e, STRAND_EPROTO, "this strandctl was built without %s", name);
	while ((ret = step_next(&s, &cursor)) > 0) {
		ret = strstr(s.sql, psql_only) ? 0 : step_run(&s, l, e);
		step_release(&s);
		if (ret)
			return ret;
		n++;
	}
	if (ret)
		return err_set(e, ret, "out of memory");
	ctl_say(l->ctl, "%s: %d steps (%lld ms)", name, n,
		(long long)((clock_now() - started) / NSEC_PER_MSEC));
	return 0;
}
