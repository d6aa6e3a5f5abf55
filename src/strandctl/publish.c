/* strandctl publish: writes strands. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "strandctl/await.h"
#include "strandctl/batch.h"
#include "strandctl/ctl.h"
#include "strandctl/lines.h"
#include "strandctl/progress.h"
#include "strandctl/publish_args.h"
#include "strandctl/strands.h"

#define DEFAULT_TIMEOUT_MS 60000
/* A pipe that rests this long is not kept waiting for a full batch. */
#define QUIET_MS 100

struct publish {
	struct ctl *ctl;
	const struct publish_args *args;
	struct catalog catalog;
	struct target target;
	struct await await;
	struct batch *batch;
	struct json_object *ids;	/* of what is committed, for JSON or a wait cut short */
	int64_t committed;
	int64_t last_line;		/* of what is committed */
};

static bool prints_ids(const struct publish *p)
{
	return !p->ctl->json && !p->args->from_stdin;
}

/* After the commit: what the user is told and what is waited for. */
static int remember(struct publish *p, struct err *e)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < p->batch->n; i++) {
		const struct row *row = &p->batch->rows[i];

		if (p->ctl->json || (prints_ids(p) && p->args->wait))
			json_object_array_add(p->ids, json_object_new_string(row->id));
		else if (prints_ids(p))
			ctl_say(p->ctl, "%s", row->id);
		if (p->args->wait)
			ret = await_add(&p->await, row, e);
	}
	return ret;
}

static int flush(struct publish *p, struct err *e)
{
	int ret = p->batch->n ? batch_write(p->batch, &p->target, e) : 0;

	if (ret || !p->batch->n)
		return ret;
	p->committed += (int64_t)p->batch->n;
	p->last_line = p->batch->rows[p->batch->n - 1].line;
	ret = remember(p, e);
	batch_clear(p->batch);
	return ret;
}

static int add_text(struct publish *p, const char *text, size_t len, int64_t line, struct err *e)
{
	struct row row;
	int ret = row_parse(&row, &p->target, text, len, line, p->args->tags, e);

	if (ret)
		return ret;
	batch_add(p->batch, &row);
	return batch_full(p->batch) ? flush(p, e) : 0;
}

static bool is_blank(const char *line)
{
	return !line[strspn(line, " \t\r")];
}

static int take_line(struct publish *p, struct lines *lines, char *line, size_t len, struct err *e)
{
	if (strlen(line) != len)
		return err_set(e, STRAND_EINVAL, "line %lld: a NUL byte at column %zu",
			       (long long)lines->number, strlen(line) + 1);
	return is_blank(line) ? 0 : add_text(p, line, len, lines->number, e);
}

static int publish_lines(struct publish *p, struct err *e)
{
	struct stat st;
	struct lines lines;
	struct progress bar;
	int ret = 0;

	lines_init(&lines, p->ctl, STDIN_FILENO);
	progress_start(&bar, "publishing",
		       fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : 0);
	/* Typed input and a bar would write over each other. */
	bar.on = bar.on && !isatty(STDIN_FILENO);
	while (!ret) {
		char *line;
		size_t len;
		int got = lines_next(&lines, p->batch->n ? QUIET_MS : -1, &line, &len, e);

		if (got == LINES_END)
			break;
		if (got == LINES_GOT)
			ret = take_line(p, &lines, line, len, e);
		else
			ret = got == LINES_QUIET ? flush(p, e) : got;
		progress_show(&bar, lines.bytes, p->committed);
	}
	if (!ret)
		ret = flush(p, e);
	progress_wipe(&bar);
	lines_release(&lines);
	return ret;
}

static int publish_one(struct publish *p, struct err *e)
{
	char *text;
	int ret = publish_args_text(p->args, &p->target, &text, e);

	if (ret)
		return ret;
	ret = add_text(p, text, strlen(text), 0, e);
	free(text);
	return ret ? ret : flush(p, e);
}

/* With --allow-unrouted and without --wait nothing of strandd's schema is
 * needed, so that a mere producer can publish. */
static int prepare(struct publish *p, struct err *e)
{
	bool plain = p->args->allow_unrouted && !p->args->wait;
	int ret = plain ? ctl_connect(p->ctl, 0, e) : ctl_connect_installed(p->ctl, e);

	if (!ret && !plain)
		ret = catalog_load(&p->catalog, p->ctl, e);
	if (!ret && p->args->wait)
		ret = strands_pin_plans(p->ctl, e);
	if (!ret)
		ret = target_load(&p->target, p->ctl, p->args->table, plain ? NULL : &p->catalog,
				  p->args->allow_unrouted, e);
	return ret;
}

static void show_published(struct publish *p, bool complete)
{
	static const struct column columns[] = {
		{ "TABLE", COLUMN_TEXT, FOR_BOTH },
		{ "COUNT", COLUMN_NUMBER, FOR_BOTH },
		{ "IDS", COLUMN_JSON, FOR_BOTH },
	};
	char count[24];
	const char *values[] = { p->target.relation.name, count,
				 json_object_to_json_string_ext(p->ids, JSON_C_TO_STRING_PLAIN) };

	snprintf(count, sizeof(count), "%lld", (long long)p->committed);
	if (p->args->from_stdin && complete)
		ctl_say(p->ctl, "%s strands written to %s", count, p->target.relation.name);
	if (p->ctl->json && !(p->args->wait && complete))
		table_print_one("published", columns, 3, values);
}

/* What an error leaves behind must be told: those strands will be delivered. */
static int failed(struct publish *p, const struct err *e)
{
	int code = ctl_fail(p->ctl, e);

	if (p->args->from_stdin && p->committed)
		ctl_warn("%lld strands, up to line %lld, are written and stay", (long long)p->committed,
			 (long long)p->last_line);
	else if (p->args->from_stdin)
		ctl_warn("no strand was written");
	if (p->ctl->json)
		show_published(p, false);
	return code;
}

/* Whom the wait was cut short on must still learn what will be delivered. */
static int gave_up(struct publish *p, int ret, const struct err *e)
{
	int code = ctl_fail(p->ctl, e);

	await_tell_unsettled(&p->await);
	table_print(p->await.table);
	for (size_t i = 0; prints_ids(p) && i < json_object_array_length(p->ids); i++)
		ctl_say(p->ctl, "%s", json_object_get_string(json_object_array_get_idx(p->ids, i)));
	/* The server answered; it is strandd that did not. */
	return ret == STRAND_ETIMEOUT ? EXIT_FAULT : code;
}

static int wait_for_receipts(struct publish *p, struct err *e)
{
	int64_t timeout_ms = p->args->timeout_ms < 0 ? DEFAULT_TIMEOUT_MS : p->args->timeout_ms;
	int ret = await_all(&p->await, timeout_ms, e);

	if (ret)
		return gave_up(p, ret, e);
	table_print(p->await.table);
	if (!p->await.n)
		ctl_warn("no route takes what was written: there is nothing to wait for");
	if (p->await.n_failed)
		ctl_warn("%zu of %zu deliveries failed", p->await.n_failed, p->await.n);
	if (p->await.n_expired)
		ctl_warn("%zu of %zu deliveries expired", p->await.n_expired, p->await.n);
	return p->await.n_failed || p->await.n_expired ? EXIT_FAULT : EXIT_OK;
}

static int run(struct publish *p)
{
	struct err e;
	int ret = prepare(p, &e);

	if (ret)
		return ctl_fail(p->ctl, &e);
	ret = p->args->from_stdin ? publish_lines(p, &e) : publish_one(p, &e);
	if (ret)
		return failed(p, &e);
	show_published(p, true);
	return p->args->wait ? wait_for_receipts(p, &e) : EXIT_OK;
}

int command_publish(struct ctl *ctl, int argc, char **argv)
{
	struct publish_args args = { .ctl = ctl, .tags = json_object_new_array(),
				     .timeout_ms = -1 };
	struct publish p = { .ctl = ctl, .args = &args, .await = { .ctl = ctl } };
	int code;

	options_parse(&publish_argp, argc, argv, &args);
	p.await.target = &p.target;
	p.ids = json_object_new_array();
	p.batch = calloc(1, sizeof(*p.batch));
	if (!p.batch) {
		ctl_warn("out of memory");
		return EXIT_FAULT;
	}
	code = run(&p);
	batch_clear(p.batch);
	free(p.batch);
	json_object_put(p.ids);
	await_release(&p.await);
	target_release(&p.target);
	catalog_release(&p.catalog);
	publish_args_release(&args);
	return code;
}
