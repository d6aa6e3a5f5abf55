/* strandctl withdraw: takes unread strands off their routes. */
#include <string.h>

#include "base/buf.h"
#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/options.h"
#include "strandctl/strands.h"
#include "strandctl/table.h"

struct args {
	struct ctl *ctl;
	struct options_list ids;
	const char *table, *tag;
};

enum { OPTION_TAG = OPTION_FIRST };

static const struct argp_option options[] = {
	{ "table", 't', "TABLE", 0, "The strand is in this table", 0 },
	{ "tag", OPTION_TAG, "TAG", 0, "Withdraw it from the routes with this tag only", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case 't':
		args->table = arg;
		return 0;
	case OPTION_TAG:
		args->tag = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "give the id of a strand");
		return 0;
	default:
		return options_list(key, state, "the id of a strand", &args->ids);
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "ID...",
	.doc = "Takes unread strands off their routes: a receipt says `withdrawn', and they are not delivered."
	       "  One that a handler has in hand is refused, and so is one that is settled.  Exit code 1 when"
	       " a strand could not be withdrawn, 3 when there is none with the id.",
	.children = options_children,
};

enum { AT_ID, AT_TABLE, AT_TAG, AT_RECEIVER, AT_WITHDRAWN, AT_STATE, N_COLUMNS };

static const struct column columns[N_COLUMNS] = {
	[AT_ID] = { "ID", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_TABLE] = { "TABLE", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_TAG] = { "TAG", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_RECEIVER] = { "RECEIVER", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_WITHDRAWN] = { "WITHDRAWN", COLUMN_BOOLEAN, FOR_PROGRAMS },
	[AT_STATE] = { "STATE", COLUMN_TEXT, FOR_PROGRAMS },
};

struct work {
	const struct args *args;
	struct catalog catalog;
	const struct module_table *only;	/* --table */
	struct table *table;
	int code;	/* the worst of all strands */
};

static void worse(struct work *w, int code)
{
	w->code = code > w->code ? code : w->code;
}

static const char *reason(const char *state)
{
	static const struct {
		const char *state, *text;
	} reasons[] = {
		{ "locked", "is being handled now; ask again when it is settled" },
		{ "running", "is being handled now; ask again when it is settled" },
		{ "failed", "has failed, which is final; strandctl failed discard gives it up" },
		{ "expired", "has expired, which is final; strandctl failed discard gives it up" },
		{ "withdrawn", "is withdrawn already" },
		{ "skipped", "is history: it is never delivered" },
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++)
		if (!strcmp(reasons[i].state, state))
			return reasons[i].text;
	return "is done already";
}

static void tell(struct work *w, const char *id, const struct attachment *a, bool done, const char *state)
{
	const char *values[N_COLUMNS] = { id, a->source->name, a->tag, a->receiver->name, done ? "t" : "f", state };

	table_fill(w->table, values);
	if (done)
		ctl_say(w->args->ctl, "%s of %s on %s to %s: withdrawn", id, a->source->name, a->tag,
			a->receiver->name);
	else
		ctl_warn("%s of %s on %s to %s: %s", id, a->source->name, a->tag, a->receiver->name, reason(state));
}

struct counts {
	size_t known, done, busy;
};

/* One route, one transaction. */
static int from_route(struct work *w, const char *id, const struct attachment *a, struct counts *counts,
		      struct err *e)
{
	const char *values[] = { a->receiver->oid, a->number, id }, *state;
	bool done;
	PGresult *res;
	int ret = ctl_query(w->args->ctl,
			    "SELECT w.done, w.state FROM strandd.withdraw($1::oid::regclass, $2::integer, $3::text) w",
			    3, values, &res, e);

	if (ret)
		return ret;
	done = *PQgetvalue(res, 0, 0) == 't';
	state = cell(res, 0, 1);
	if (state && (done || a->attached)) {
		counts->known++;
		counts->done += done;
		counts->busy += !strcmp(state, "locked") || !strcmp(state, "running");
		tell(w, id, a, done, state);
	}
	PQclear(res);
	return 0;
}

/* The first table that holds the strand, or NULL. */
static int find(const struct module_table **ret_table, struct work *w, const char *id, struct err *e)
{
	const char *values[] = { id };
	int ret = 0;

	*ret_table = NULL;
	for (size_t i = 0; !ret && !*ret_table && i < w->catalog.n_tables; i++) {
		const struct module_table *t = &w->catalog.tables[i];
		struct buf sql = BUF_INIT;
		PGresult *res;

		if (w->only && w->only != t)
			continue;
		buf_init(&sql);
		buf_addf(&sql, "SELECT FROM %s s WHERE s.id = $1", t->sql);
		ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
			: ctl_query(w->args->ctl, sql.data, 1, values, &res, e);
		buf_release(&sql);
		if (ret)
			return ret;
		if (PQntuples(res))
			*ret_table = t;
		PQclear(res);
	}
	return ret;
}

static int tell_unknown(struct work *w, const char *id, struct err *e)
{
	const struct module_table *t;
	char names[400];
	int ret = find(&t, w, id, e);

	if (ret)
		return ret;
	if (t) {
		ctl_warn("strand %s of %s %s%s: nothing is to be delivered", id, t->name,
			 w->args->tag ? "does not bear " : "bears no tag of a route",
			 w->args->tag ? w->args->tag : "");
		worse(w, EXIT_FAULT);
		return 0;
	}
	catalog_names(&w->catalog, names, sizeof(names));
	ctl_warn("no strand %s in %s", id, w->only ? w->only->name : names);
	worse(w, EXIT_NOT_FOUND);
	return 0;
}

static int withdraw(struct work *w, const char *id, struct err *e)
{
	struct counts counts = { 0 };
	int ret = 0;

	for (size_t i = 0; !ret && i < w->catalog.n_routes; i++) {
		const struct attachment *a = &w->catalog.routes[i];

		if ((!w->only || a->source == w->only) && (!w->args->tag || !strcmp(a->tag, w->args->tag)))
			ret = from_route(w, id, a, &counts, e);
	}
	if (ret)
		return ret;
	if (!counts.known)
		return tell_unknown(w, id, e);
	if (!counts.done || counts.busy)
		worse(w, EXIT_FAULT);
	return 0;
}

static int run(struct work *w, struct err *e)
{
	struct ctl *ctl = w->args->ctl;
	int ret = strands_start(ctl, &w->catalog, e);

	if (!ret && w->args->table)
		ret = catalog_find(&w->only, &w->catalog, ctl, w->args->table, e);
	if (!ret && w->args->tag)
		ret = catalog_check_tag(&w->catalog, w->args->tag, w->only, e);
	for (size_t i = 0; !ret && i < w->args->ids.n; i++)
		ret = withdraw(w, w->args->ids.items[i], e);
	return ret;
}

int command_withdraw(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };
	struct work w = { .args = &args };
	struct err e;
	int ret;

	options_parse(&argp, argc, argv, &args);
	w.table = table_new("withdrawn", true, columns, N_COLUMNS);
	ret = run(&w, &e);
	if (ctl->json)
		table_print(w.table);
	table_free(w.table);
	catalog_release(&w.catalog);
	return ret ? ctl_fail(ctl, &e) : w.code;
}
