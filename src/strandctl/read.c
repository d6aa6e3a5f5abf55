/* strandctl read: one strand, column by column, and its receipts. */
#include <stdio.h>

#include "base/buf.h"
#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/options.h"
#include "strandctl/receipts.h"
#include "strandctl/strands.h"
#include "strandctl/table.h"

struct args {
	struct ctl *ctl;
	const char *id, *table;
};

static const struct argp_option options[] = {
	{ "table", 't', "TABLE", 0, "Look in this table only", 0 },
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
	default:
		return options_id(key, arg, state, &args->id);
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "ID",
	.doc = "Shows the strand with this id, wherever it is, and its receipts.  Exit code 3 when there is"
	       " none.",
	.children = options_children,
};

enum { RECEIPT_COLUMNS = 7 };

static const struct column receipt_columns[RECEIPT_COLUMNS] = {
	{ "TAG", COLUMN_TEXT, FOR_BOTH },
	{ "RECEIVER", COLUMN_TEXT, FOR_BOTH },
	{ "STATE", COLUMN_WRAP, FOR_BOTH },
	{ "ATTEMPT", COLUMN_NUMBER, FOR_BOTH },
	{ "HOP MS", COLUMN_NUMBER, FOR_BOTH },
	{ "REPLIES", COLUMN_WRAP, FOR_BOTH },
	{ "ERROR", COLUMN_WRAP, FOR_BOTH },
};

enum { JSON_TABLE, JSON_STRAND, JSON_RECEIPTS, JSON_COLUMNS };

static const struct column json_columns[JSON_COLUMNS] = {
	{ "TABLE", COLUMN_TEXT, FOR_BOTH },
	{ "STRAND", COLUMN_JSON, FOR_BOTH },
	{ "RECEIPTS", COLUMN_JSON, FOR_BOTH },
};

static const struct column value_columns[] = {
	{ "COLUMN", COLUMN_TEXT, FOR_PEOPLE },
	{ "VALUE", COLUMN_WRAP, FOR_PEOPLE },
};

struct output {
	struct table *json;	/* NULL: for people */
	size_t found;
};

static void show_columns(const struct module_table *t, const PGresult *res)
{
	struct table *table = table_new("columns", false, value_columns, 2);
	struct libscols_line *row = table_row(table, NULL);

	table_set(table, row, 0, "(table)");
	table_set(table, row, 1, t->name);
	/* The last column is the whole row as JSON. */
	for (int i = 0; i < PQnfields(res) - 1; i++) {
		if (PQgetisnull(res, 0, i))
			continue;
		row = table_row(table, NULL);
		table_set(table, row, 0, PQfname(res, i));
		table_set(table, row, 1, PQgetvalue(res, 0, i));
	}
	table_print(table);
	table_free(table);
}

static void show_receipt(struct table *table, const struct attachment *a, const PGresult *res)
{
	static const enum receipt_column from[RECEIPT_COLUMNS] = {
		0, 0, RECEIPT_SHOWN, RECEIPT_ATTEMPT, RECEIPT_HOP_MS, RECEIPT_REPLY_IDS, RECEIPT_ERROR,
	};
	struct libscols_line *row = table_row(table, NULL);

	table_set(table, row, 0, a->tag);
	table_set(table, row, 1, a->receiver->name);
	for (size_t i = 2; i < RECEIPT_COLUMNS; i++)
		table_set(table, row, i, cell(res, 0, (int)from[i]));
}

/* Receipts into a table for people and a JSON array at once. */
static int collect_receipts(struct args *args, const struct catalog *c, const struct module_table *t,
			    struct table *table, struct buf *json, struct err *e)
{
	struct buf ids = BUF_INIT;
	int ret = 0;

	buf_init(&ids);
	strands_ids_array(&ids, &args->id, 1);
	buf_adds(json, "[");
	for (size_t i = 0; !ret && i < c->n_routes; i++) {
		PGresult *res;

		if (c->routes[i].source != t)
			continue;
		ret = receipts_query(args->ctl, &c->routes[i], ids.data, false, &res, e);
		if (ret)
			break;
		if (PQntuples(res)) {
			show_receipt(table, &c->routes[i], res);
			buf_addf(json, "%s%s", json->len > 1 ? ", " : "", PQgetvalue(res, 0, RECEIPT_JSON));
		}
		PQclear(res);
	}
	buf_adds(json, "]");
	buf_release(&ids);
	return ret;
}

static int show(struct args *args, const struct catalog *c, const struct module_table *t,
		const PGresult *strand, struct output *out, struct err *e)
{
	struct table *receipts = table_new("receipts", false, receipt_columns, RECEIPT_COLUMNS);
	struct buf json = BUF_INIT;
	int ret;

	buf_init(&json);
	ret = collect_receipts(args, c, t, receipts, &json, e);
	if (!ret && out->json) {
		struct libscols_line *row = table_row(out->json, NULL);

		table_set(out->json, row, JSON_TABLE, t->name);
		table_set(out->json, row, JSON_STRAND,
			  PQgetvalue(strand, 0, PQnfields(strand) - 1));
		table_set(out->json, row, JSON_RECEIPTS, json.data);
	} else if (!ret) {
		if (out->found)
			putchar('\n');
		show_columns(t, strand);
		putchar('\n');
		table_print(receipts);
	}
	out->found++;
	buf_release(&json);
	table_free(receipts);
	return ret;
}

static int read_table(struct args *args, const struct catalog *c, const struct module_table *t,
		      struct output *out, struct err *e)
{
	const char *values[] = { args->id };
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_addf(&sql, "SELECT s.*, to_jsonb(s) FROM %s s WHERE s.id = $1", t->sql);
	ret = ctl_query(args->ctl, sql.data, 1, values, &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	if (PQntuples(res))
		ret = show(args, c, t, res, out, e);
	PQclear(res);
	return ret;
}

static int read_all(struct args *args, const struct catalog *c, struct output *out, struct err *e)
{
	const struct module_table *only = NULL;
	int ret = args->table ? catalog_find(&only, c, args->ctl, args->table, e) : 0;

	for (size_t i = 0; !ret && i < c->n_tables; i++)
		if (!only || only == &c->tables[i])
			ret = read_table(args, c, &c->tables[i], out, e);
	if (!ret && !out->found)
		ret = err_set(e, STRAND_ENOENT, "no strand %s in %s", args->id,
			      only ? only->name : "any module table");
	return ret;
}

int command_read(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };
	struct output out = { 0 };
	struct catalog c = { 0 };
	struct err e;
	int ret;

	options_parse(&argp, argc, argv, &args);
	if (ctl->json)
		out.json = table_new("strands", true, json_columns, JSON_COLUMNS);
	ret = strands_start(ctl, &c, &e);
	if (!ret)
		ret = read_all(&args, &c, &out, &e);
	if (out.json && (!ret || ret == STRAND_ENOENT))
		table_print(out.json);
	table_free(out.json);
	catalog_release(&c);
	return ret ? ctl_fail(ctl, &e) : EXIT_OK;
}
