/* strandctl cleanup: one run of the cleanup, now and in the foreground. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "clean/sweep.h"
#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/options.h"
#include "strandctl/progress.h"
#include "strandctl/table.h"

#define LOCK_TIMEOUT "2s"
#define LOCK_PATIENCE_MS 1000

struct args {
	struct ctl *ctl;
	const char *table;
	int retention_days;	/* 0: not given */
	bool dry_run, drop_unprocessed;
};

enum { OPTION_DRY_RUN = OPTION_FIRST, OPTION_RETENTION, OPTION_DROP, OPTION_TABLE };

static const struct argp_option options[] = {
	{ "dry-run", OPTION_DRY_RUN, 0, 0, "Count what would be deleted and what kept, and change nothing", 0 },
	{ "retention-days", OPTION_RETENTION, "DAYS", 0,
	  "Delete strands older than so many days (default: as configured, or 7)", 0 },
	{ "drop-unprocessed", OPTION_DROP, 0, 0,
	  "Delete old strands also where a route has not finished them: they are lost", 0 },
	{ "table", OPTION_TABLE, "TABLE", 0, "Delete strands of this table only", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case OPTION_DRY_RUN:
		args->dry_run = true;
		return 0;
	case OPTION_RETENTION:
		args->retention_days = (int)options_number(state, "retention-days", arg, 1, 36500);
		return 0;
	case OPTION_DROP:
		args->drop_unprocessed = true;
		return 0;
	case OPTION_TABLE:
		args->table = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Deletes old strands, as strandd does by itself where cleanup is enabled: those that have a final"
	       " receipt on every route whose tag they bear; the others are kept, and counted.  Receipts follow"
	       " once their strands have been gone for the configured interval.  Safe to interrupt and to"
	       " repeat.",
	.children = options_children,
};

static struct sweep_config config_of(const struct args *args)
{
	const struct conf *conf = args->ctl->conf;

	return (struct sweep_config){
		.retention_days = args->retention_days ? args->retention_days : conf->cleanup_retention_days,
		.fence_hours = conf->cleanup_interval_hours,
		.batch = conf->cleanup_batch,
		.pause_ms = conf->cleanup_pause_ms,
		.drop_unprocessed = args->drop_unprocessed || conf->cleanup_drop_unprocessed,
		.dry_run = args->dry_run,
	};
}

static void on_step(const struct sweep *s, void *arg)
{
	struct progress *bar = arg;
	struct sweep_counts sum = sweep_total(s);
	uint64_t n = s->at < s->n_tables ? s->tables[s->at].counts.seen : s->receipts;

	bar->label = s->at < s->n_tables ? s->tables[s->at].name : "receipts";
	progress_show(bar, (int64_t)n, (int64_t)(sum.seen + s->receipts));
}

enum { COLUMN_NAME, COLUMN_OLD, COLUMN_DELETED, COLUMN_KEPT, COLUMN_BUSY, COLUMN_REFUSED, COLUMN_OLDEST,
       COLUMN_OLDEST_AT, COLUMN_FAULT, N_COLUMNS };

static const struct column columns[N_COLUMNS] = {
	[COLUMN_NAME] = { "TABLE", COLUMN_TEXT, FOR_BOTH },
	[COLUMN_OLD] = { "OLD", COLUMN_NUMBER, FOR_BOTH },
	[COLUMN_DELETED] = { "DELETED", COLUMN_NUMBER, FOR_BOTH },
	[COLUMN_KEPT] = { "KEPT", COLUMN_NUMBER, FOR_BOTH },
	[COLUMN_BUSY] = { "IN USE", COLUMN_NUMBER, FOR_BOTH },
	[COLUMN_REFUSED] = { "REFUSED", COLUMN_NUMBER, FOR_BOTH },
	[COLUMN_OLDEST] = { "OLDEST KEPT", COLUMN_WRAP, FOR_BOTH },
	[COLUMN_OLDEST_AT] = { "OF", COLUMN_TIME, FOR_BOTH },
	[COLUMN_FAULT] = { "FAULT", COLUMN_WRAP, FOR_PROGRAMS },
};

static void fill(struct table *out, const struct sweep_table *t)
{
	char numbers[N_COLUMNS][24];
	const uint64_t counts[] = { t->counts.seen, t->counts.deleted, t->counts.kept, t->counts.busy,
				    t->counts.refused };
	const char *values[N_COLUMNS] = { [COLUMN_NAME] = t->name };

	for (size_t i = COLUMN_OLD; i <= COLUMN_REFUSED; i++) {
		snprintf(numbers[i], sizeof(numbers[i]), "%" PRIu64, counts[i - COLUMN_OLD]);
		values[i] = numbers[i];
	}
	if (*t->oldest_kept_at) {
		values[COLUMN_OLDEST] = t->oldest_kept;
		values[COLUMN_OLDEST_AT] = t->oldest_kept_at;
	}
	values[COLUMN_FAULT] = t->failure.code ? t->failure.text : *t->refusal ? t->refusal : NULL;
	table_fill(out, values);
}

static void print_json(const struct sweep *s, bool finished, struct table *tables)
{
	static const struct column whole[] = {
		{ "DRY RUN", COLUMN_BOOLEAN, FOR_BOTH },
		{ "FINISHED", COLUMN_BOOLEAN, FOR_BOTH },
		{ "DELETED", COLUMN_NUMBER, FOR_BOTH },
		{ "KEPT", COLUMN_NUMBER, FOR_BOTH },
		{ "RECEIPTS", COLUMN_NUMBER, FOR_BOTH },
		{ "TABLES", COLUMN_JSON, FOR_BOTH },
	};
	struct sweep_counts sum = sweep_total(s);
	char deleted[24], kept[24], receipts[24], *json = table_rows_json(tables);
	const char *values[] = { s->config->dry_run ? "t" : "f", finished ? "t" : "f", deleted, kept, receipts,
				 json };

	snprintf(deleted, sizeof(deleted), "%" PRIu64, sum.deleted);
	snprintf(kept, sizeof(kept), "%" PRIu64, sum.kept);
	snprintf(receipts, sizeof(receipts), "%" PRIu64, s->receipts);
	table_print_one("cleanup", whole, 6, values);
	free(json);
}

/* Also of a run that was given up: what it has done stays done. */
static void report(const struct ctl *ctl, const struct sweep *s, bool finished)
{
	struct table *tables = table_new("tables", ctl->json, columns, N_COLUMNS);
	struct sweep_counts sum = sweep_total(s);

	for (size_t i = 0; i < s->n_tables; i++) {
		const struct sweep_table *t = &s->tables[i];

		fill(tables, t);
		if (t->failure.code)
			ctl_warn("%s: left off: %s", t->name, t->failure.text);
		else if (t->counts.refused)
			ctl_warn("%s: %" PRIu64 " strands could not be deleted: %s", t->name, t->counts.refused,
				 t->refusal);
	}
	if (ctl->json)
		print_json(s, finished, tables);
	else
		table_print(tables);
	table_free(tables);
	ctl_say(ctl, "%" PRIu64 " strands and %" PRIu64 " receipts %s, %" PRIu64 " old strands kept because a route"
		" has not finished them", sum.deleted, s->receipts,
		s->config->dry_run ? "would be deleted" : "deleted", sum.kept);
}

/* Another run may just be over, and its session not yet. */
static int lock(struct ctl *ctl, struct err *e)
{
	int64_t patience = clock_after_ms(LOCK_PATIENCE_MS);
	char holder[300] = "";
	int ret = ctl_exec(ctl, "SET lock_timeout = '" LOCK_TIMEOUT "'", e);

	while (!ret) {
		ret = sweep_lock(ctl->conn, INT64_MAX, holder, sizeof(holder), e);
		if (ret || !*holder || clock_now() > patience ||
		    event_wait(&ctl->interrupted, clock_after_ms(100)) != STRAND_ETIMEOUT)
			break;
	}
	if (!ret && *holder)
		ret = err_set(e, STRAND_ESYS, "another cleanup is at work in this database: %s", holder);
	return ret;
}

static int choose(struct sweep *s, const struct args *args, struct err *e)
{
	struct relation table = { 0 };
	int ret = args->table ? relation_find(&table, args->ctl, args->table, e) : 0;

	if (!ret)
		ret = sweep_start(s, args->table ? table.oid : NULL, e);
	if (!ret && args->table && !s->n_tables)
		ret = err_set(e, STRAND_EINVAL, "%s is no module's table: attach a route to it first", table.name);
	return ret;
}

/* A table that was left is a fault; kept strands are none. */
static int failure(const struct sweep *s, struct err *e)
{
	for (size_t i = 0; i < s->n_tables; i++) {
		if (s->tables[i].failure.code)
			return err_set(e, STRAND_ESYS, "not every table was cleaned up");
	}
	return 0;
}

static int run(struct args *args, struct err *e)
{
	struct progress bar;
	struct sweep_config config = config_of(args);
	struct sweep s = { .conn = args->ctl->conn, .stop = &args->ctl->interrupted, .config = &config,
			   .step = on_step, .step_arg = &bar };
	int ret = config.dry_run ? 0 : lock(args->ctl, e);

	progress_start(&bar, "cleanup", 0);
	if (!ret)
		ret = choose(&s, args, e);
	if (!ret) {
		ret = sweep_run(&s, e);
		progress_wipe(&bar);
		report(args->ctl, &s, !ret);
	}
	if (!ret)
		ret = failure(&s, e);
	sweep_release(&s);
	return ret;
}

int command_cleanup(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };
	struct err e;
	int ret;

	options_parse(&argp, argc, argv, &args);
	ret = ctl_connect_installed(ctl, &e);
	if (!ret)
		ret = run(&args, &e);
	return ret ? ctl_fail(ctl, &e) : EXIT_OK;
}
