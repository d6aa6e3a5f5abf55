/* strandctl doctor: what is wrong with the server, the database, the role and the way
 * between them, and what to do about it. */
#include "strandctl/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "strandctl/options.h"
#include "strandctl/strands.h"
#include "strandctl/table.h"

#define STATEMENT_MS 10000
#define ANSWER_MS 15000

struct args {
	struct ctl *ctl;
	int64_t old_ms;
};

enum { OPTION_OLD = OPTION_FIRST };

static const struct argp_option options[] = {
	{ "old", OPTION_OLD, "DURATION", 0, "What counts as an old transaction (default 10min)", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case OPTION_OLD:
		args->old_ms = options_duration(state, "old", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Examines the server, the database, the role and the way between them, and tells what to do about"
	       " what is wrong.  It changes nothing.  Exit code 0 when nothing is wrong, 1 when there are errors"
	       " or warnings, 3 when the database is not prepared.",
	.children = options_children,
};

static const struct {
	const char *name;
	doctor_check *check;
	bool installed;		/* makes sense in a prepared database only */
} checks[] = {
	{ "server version", doctor_version, false },
	{ "libpq version", doctor_libpq, false },
	{ "settings", doctor_settings, false },
	{ "role", doctor_role, false },
	{ "schema", doctor_schema, false },
	{ "privileges", doctor_privileges, true },
	{ "service", doctor_service, true },
	{ "routes", doctor_routes, true },
	{ "triggers", doctor_triggers, true },
	{ "trigger functions", doctor_functions, true },
	{ "indexes", doctor_indexes, true },
	{ "tags", doctor_tags, true },
	{ "replication", doctor_replication, false },
	{ "notify queue", doctor_queue, false },
	{ "old transactions", doctor_old, false },
	{ "clock", doctor_clock, false },
	{ "pooler", doctor_pooler, false },
	{ "notification", doctor_notification, false },
};

static void *need(void *p)
{
	if (!p) {
		ctl_warn("out of memory");
		exit(EXIT_FAULT);
	}
	return p;
}

void doctor_find(struct doctor *d, enum severity severity, const char *where, const char *remedy,
		 const char *fmt, ...)
{
	struct finding *f;
	va_list ap;
	int len;

	d->findings = need(realloc(d->findings, (d->n + 1) * sizeof(*d->findings)));
	f = &d->findings[d->n];
	*f = (struct finding){ .severity = severity, .check = d->check };
	f->where = where ? need(strdup(where)) : NULL;
	f->remedy = remedy ? need(strdup(remedy)) : NULL;
	va_start(ap, fmt);
	len = vasprintf(&f->what, fmt, ap);
	va_end(ap);
	need(len < 0 ? NULL : f->what);
	d->n++;
}

int doctor_query(struct doctor *d, const char *sql, int n_values, const char *const *values,
		 PGresult **ret_result, struct err *e)
{
	int ret = conn_query(d->ctl->conn, sql, n_values, values, clock_after_ms(ANSWER_MS), ret_result, e);

	if (ret == STRAND_ESTOPPED)
		conn_kill(d->ctl->conn, false);
	return ret;
}

int doctor_find_rows(struct doctor *d, enum severity severity, const char *sql, int n_values,
		     const char *const *values, struct err *e)
{
	PGresult *res;
	int ret = doctor_query(d, sql, n_values, values, &res, e);

	if (ret)
		return ret;
	for (int row = 0; row < PQntuples(res); row++)
		doctor_find(d, severity, cell(res, row, 0), cell(res, row, 2), "%s", PQgetvalue(res, row, 1));
	PQclear(res);
	return 0;
}

/* What a check could not see is said, and the next one runs. */
static int run(struct doctor *d, size_t i, struct err *e)
{
	size_t before = d->n;
	int ret;

	d->check = checks[i].name;
	ret = checks[i].check(d, e);
	if (ret == STRAND_ESQL)
		doctor_find(d, SEVERITY_UNSEEN, NULL, strcmp(e->sqlstate, "42501") ? NULL
			    : "run it as the role that owns the module tables", "%s", e->text);
	else if (ret)
		return ret;
	else if (d->n == before)
		doctor_find(d, SEVERITY_OK, NULL, NULL, "nothing wrong");
	return 0;
}

int doctor_examine(struct doctor *d, struct err *e)
{
	char sql[64];
	int ret = strands_pin_plans(d->ctl, e);

	snprintf(sql, sizeof(sql), "SET statement_timeout = %d", STATEMENT_MS);
	if (!ret)
		ret = ctl_exec(d->ctl, sql, e);
	for (size_t i = 0; !ret && i < sizeof(checks) / sizeof(*checks); i++)
		if (d->installed || !checks[i].installed)
			ret = run(d, i, e);
	return ret;
}

enum { AT_SEVERITY, AT_CHECK, AT_WHERE, AT_WHAT, AT_REMEDY, AT_FINDING, N_COLUMNS };

static const struct column columns[N_COLUMNS] = {
	[AT_SEVERITY] = { "SEVERITY", COLUMN_TEXT, FOR_BOTH },
	[AT_CHECK] = { "CHECK", COLUMN_TEXT, FOR_BOTH },
	[AT_WHERE] = { "WHERE", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_WHAT] = { "WHAT", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_REMEDY] = { "REMEDY", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_FINDING] = { "FINDING", COLUMN_WRAP, FOR_PEOPLE },
};

/* For people the remedy has a row of its own below. */
static void print_one(struct table *table, const struct finding *f, bool json)
{
	static const char *const names[N_SEVERITIES] = { "error", "warning", "note", "unseen", "ok" };
	struct buf text = BUF_INIT;

	buf_init(&text);
	buf_addf(&text, "%s%s%s", f->where ? f->where : "", f->where ? ": " : "", f->what);
	table_fill(table, (const char *[N_COLUMNS]){ names[f->severity], f->check, f->where, f->what, f->remedy,
						      need(text.data) });
	buf_clear(&text);
	buf_addf(&text, "Remedy: %s", f->remedy ? f->remedy : "");
	if (f->remedy && !json)
		table_set(table, table_row(table, NULL), AT_FINDING, need(text.data));
	buf_release(&text);
}

void doctor_print(const struct doctor *d)
{
	struct table *table = table_new("findings", d->ctl->json, columns, N_COLUMNS);

	for (int severity = 0; severity < N_SEVERITIES; severity++)
		for (size_t i = 0; i < d->n; i++)
			if ((int)d->findings[i].severity == severity)
				print_one(table, &d->findings[i], d->ctl->json);
	table_print(table);
	table_free(table);
}

int doctor_code(const struct doctor *d)
{
	if (d->missing)
		return EXIT_NOT_FOUND;
	for (size_t i = 0; i < d->n; i++)
		if (d->findings[i].severity <= SEVERITY_WARNING)
			return EXIT_FAULT;
	return EXIT_OK;
}

void doctor_release(struct doctor *d)
{
	for (size_t i = 0; i < d->n; i++) {
		free(d->findings[i].where);
		free(d->findings[i].what);
		free(d->findings[i].remedy);
	}
	free(d->findings);
	catalog_release(&d->catalog);
}

int command_doctor(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl, .old_ms = DOCTOR_OLD_MS };
	struct doctor d = { .ctl = ctl };
	struct err e;
	int ret, code;

	options_parse(&argp, argc, argv, &args);
	d.old_ms = args.old_ms;
	ret = ctl_connect(ctl, 0, &e);
	if (!ret)
		ret = doctor_examine(&d, &e);
	if (d.n)
		doctor_print(&d);
	code = ret ? ctl_fail(ctl, &e) : doctor_code(&d);
	doctor_release(&d);
	return code;
}
