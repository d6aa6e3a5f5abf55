/* strandctl explain: where a strand stands on each of its routes, and why it does not
 * run.  Everything is looked up by key: it costs the same on any table. */
#include <stdio.h>

#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/explain_facts.h"
#include "strandctl/options.h"
#include "strandctl/strands.h"
#include "strandctl/table.h"

struct args {
	struct ctl *ctl;
	const char *id, *source;
};

static const struct argp_option options[] = {
	{ "source", 's', "TABLE", 0, "The strand of this table only, where several have the id", 0 },
	{ "table", 't', 0, OPTION_ALIAS, 0, 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case 's':
	case 't':
		args->source = arg;
		return 0;
	default:
		return options_id(key, arg, state, &args->id);
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "ID",
	.doc = "Tells, for each route that the strand is on, where it stands, why it does not run, and what to do"
	       " about it.  Exit code 3 when no table and no receipt knows the id.",
	.children = options_children,
};

enum { AT_ID, AT_SOURCE, AT_TAG, AT_RECEIVER, AT_REASON, AT_WHY, AT_REMEDY, AT_FACTS };

enum { N_FACTS = FACT_REPLIES - FACT_STATE + 1, N_COLUMNS = AT_FACTS + N_FACTS };

/* From AT_FACTS on in the order of enum explain_fact. */
static const struct column columns[N_COLUMNS] = {
	[AT_ID] = { "ID", COLUMN_TEXT, FOR_BOTH },
	[AT_SOURCE] = { "SOURCE", COLUMN_TEXT, FOR_BOTH },
	[AT_TAG] = { "TAG", COLUMN_TEXT, FOR_BOTH },
	[AT_RECEIVER] = { "RECEIVER", COLUMN_TEXT, FOR_BOTH },
	[AT_REASON] = { "REASON", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_WHY] = { "WHY", COLUMN_TEXT, FOR_BOTH },
	[AT_REMEDY] = { "REMEDY", COLUMN_TEXT, FOR_BOTH },
	[AT_FACTS] = { "RECEIPT", COLUMN_TEXT, FOR_BOTH },
	{ "ATTEMPT", COLUMN_NUMBER, FOR_BOTH },
	{ "DUE AT", COLUMN_TEXT, FOR_BOTH },
	{ "DUE IN S", COLUMN_NUMBER, FOR_BOTH },
	{ "ERROR", COLUMN_TEXT, FOR_BOTH },
	{ "SQLSTATE", COLUMN_TEXT, FOR_BOTH },
	{ "IN HAND OF", COLUMN_TEXT, FOR_BOTH },
	{ "HOLDER PID", COLUMN_NUMBER, FOR_PROGRAMS },
	{ "TURN IS WITH", COLUMN_TEXT, FOR_BOTH },
	{ "INSTANCE", COLUMN_NUMBER, FOR_BOTH },
	{ "INSTANCE ALIVE", COLUMN_BOOLEAN, FOR_BOTH },
	{ "INSTANCE IS", COLUMN_TEXT, FOR_BOTH },
	{ "TAGGED AT", COLUMN_TEXT, FOR_BOTH },
	{ "STARTED AT", COLUMN_TEXT, FOR_BOTH },
	{ "FINISHED AT", COLUMN_TEXT, FOR_BOTH },
	{ "REPLY IDS", COLUMN_JSON, FOR_BOTH },
};

/* A line a value: side by side they are wider than any terminal. */
static void show(const char *const *values)
{
	static const struct column lines[] = { { "ABOUT", COLUMN_TEXT, FOR_PEOPLE },
					       { "", COLUMN_WRAP, FOR_PEOPLE } };
	struct table *table = table_new("explained", false, lines, 2);

	for (size_t i = 0; i < N_COLUMNS; i++) {
		struct libscols_line *row;
		const char *value = values[i];

		if (!value || columns[i].whom == FOR_PROGRAMS)
			continue;
		if (columns[i].kind == COLUMN_BOOLEAN)
			value = *value == 't' ? "yes" : "no";
		row = table_row(table, NULL);
		table_set(table, row, 0, columns[i].title);
		table_set(table, row, 1, value);
	}
	table_print(table);
	table_free(table);
}

/* The remedy, with the nearest tag where no route has this one. */
static const char *remedy_of(const struct catalog *c, const struct explain_line *line, const char *remedy,
			     char *out, size_t size)
{
	const char *near = line->tag && !line->route ? catalog_near_tag(c, line->tag, line->source->oid) : NULL;

	if (!near)
		return remedy;
	snprintf(out, size, "did you mean %s?  %s", near, remedy);
	return out;
}

static void show_all(const struct args *args, const struct catalog *c, const struct explain_lines *x)
{
	char text[300];
	struct table *table = table_new("explained", true, columns, N_COLUMNS);

	for (size_t i = 0; i < x->n; i++) {
		const struct explain_line *line = &x->lines[i];
		const struct explain_why *why = explain_line_why(x, line);
		const char *values[N_COLUMNS] = { args->id, line->source->name, line->tag,
						  line->route ? line->route->receiver->name : NULL, why->code,
						  why->text,
						  remedy_of(c, line, why->remedy, text, sizeof(text)) };

		for (int fact = 0; line->facts && fact < N_FACTS; fact++)
			values[AT_FACTS + fact] = cell(line->facts, 0, FACT_STATE + fact);
		table_fill(table, values);
		if (args->ctl->json)
			continue;
		if (i)
			putchar('\n');
		show(values);
	}
	if (args->ctl->json)
		table_print(table);
	table_free(table);
}

static int run(const struct args *args, const struct catalog *c, struct explain_lines *x, struct err *e)
{
	const struct module_table *only = NULL;
	char names[400];
	int ret = args->source ? catalog_find(&only, c, args->ctl, args->source, e) : 0;

	if (!ret)
		ret = explain_find(x, args->ctl, c, args->id, only, e);
	if (ret)
		return ret;
	show_all(args, c, x);
	if (x->n_tables > 1)
		ctl_warn("%zu tables know strand %s; --source names one", x->n_tables, args->id);
	if (x->n)
		return 0;
	catalog_names(c, names, sizeof(names));
	return err_set(e, STRAND_ENOENT, "no strand %.100s in %s, and no receipt of one", args->id,
		       only ? only->name : names);
}

int command_explain(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };
	struct explain_lines x = { 0 };
	struct catalog c = { 0 };
	struct err e;
	int ret;

	options_parse(&argp, argc, argv, &args);
	ret = strands_start(ctl, &c, &e);
	if (!ret)
		ret = run(&args, &c, &x, &e);
	explain_release(&x, &c);
	catalog_release(&c);
	return ret ? ctl_fail(ctl, &e) : EXIT_OK;
}
