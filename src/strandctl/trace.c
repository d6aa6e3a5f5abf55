/* strandctl trace: the tree of strands that one strand belongs to. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/grow.h"
#include "strandctl/options.h"
#include "strandctl/strands.h"
#include "strandctl/table.h"

struct args {
	struct ctl *ctl;
	const char *id;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	if (key != ARGP_KEY_INIT)
		return options_id(key, arg, state, &args->id);
	state->child_inputs[0] = args->ctl;
	return 0;
}

static const struct argp argp = {
	.parser = parse,
	.args_doc = "ID",
	.doc = "Shows the tree of strands that original_strand tags link, from the root of the given strand"
	       " down, over all module tables, with the receipt of each hop: the milliseconds from a strand's"
	       " tagging to its receipt, how long of that it waited and its handler ran, and how long after"
	       " the strand that it came from each one was tagged.  Exit code 3 when there is no such strand.",
	.children = options_children,
};

enum { AT_ID, AT_TABLE, AT_KIND, AT_AFTER, AT_SINCE_ROOT, AT_TAGS, AT_TAGS_JSON, AT_RECEIPTS_JSON, AT_CREATED, AT_TAGGED,
       AT_ASKED, AT_REPEATED, N_COLUMNS };

static const struct column columns[N_COLUMNS] = {
	[AT_ID] = { "ID", COLUMN_TREE, FOR_BOTH },
	[AT_TABLE] = { "TABLE", COLUMN_TEXT, FOR_BOTH },
	[AT_KIND] = { "KIND", COLUMN_TEXT, FOR_BOTH },
	[AT_AFTER] = { "AFTER MS", COLUMN_NUMBER, FOR_BOTH },
	[AT_SINCE_ROOT] = { "SINCE ROOT MS", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_TAGS] = { "TAGS AND RECEIPTS", COLUMN_WRAP, FOR_PEOPLE },
	[AT_TAGS_JSON] = { "TAGS", COLUMN_JSON, FOR_PROGRAMS },
	[AT_RECEIPTS_JSON] = { "RECEIPTS", COLUMN_JSON, FOR_PROGRAMS },
	[AT_CREATED] = { "CREATED AT", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_TAGGED] = { "TAGGED AT", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_ASKED] = { "ASKED", COLUMN_BOOLEAN, FOR_PROGRAMS },
	[AT_REPEATED] = { "REPEATED", COLUMN_BOOLEAN, FOR_PROGRAMS },
};

/* Has this tag a receipt, or waits it for one?  Then it stands there. */
static bool is_told(const struct node *n, const char *tag, size_t len)
{
	for (const char *line = n->receipts.data; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, tag, len) && line[len] == ' ')
			return true;
	}
	return false;
}

/* A line a tag, with its receipt. */
static void show_tags(struct table *table, struct libscols_line *row, const struct node *n)
{
	struct buf lines = BUF_INIT;
	size_t len;

	buf_init(&lines);
	buf_adds(&lines, n->receipts.data);
	for (const char *tag = n->tags.data; *tag; tag += len + (tag[len] == '\n')) {
		len = strcspn(tag, "\n");
		if (!is_told(n, tag, len))
			buf_addf(&lines, "%s%.*s", lines.len ? "\n" : "", (int)len, tag);
	}
	table_set(table, row, AT_TAGS, lines.data);
	buf_release(&lines);
}

static void show_node(struct table *table, struct libscols_line *row, const struct node *n)
{
	struct buf receipts = BUF_INIT;

	buf_init(&receipts);
	buf_addf(&receipts, "[%s]", n->receipts_json.data);
	table_set(table, row, AT_KIND, n->kind);
	show_tags(table, row, n);
	table_set(table, row, AT_TAGS_JSON, n->tags_json);
	table_set(table, row, AT_RECEIPTS_JSON, receipts.data);
	table_set(table, row, AT_CREATED, n->created);
	table_set(table, row, AT_TAGGED, n->tagged);
	buf_release(&receipts);
}

/* Where a strand is shown. */
struct place {
	struct libscols_line *row;	/* of its origin, NULL for a root */
	const struct node *origin, *root;
};

/* Milliseconds between two taggings.  In integers: a locale may have no point in its
 * numbers. */
static void set_ms(struct table *table, struct libscols_line *row, size_t column, const struct node *from,
		   const struct node *to)
{
	int64_t us, size;
	char text[48];

	if (from->tagged_us == NODE_NO_TIME || to->tagged_us == NODE_NO_TIME)
		return;
	us = to->tagged_us - from->tagged_us;
	size = us < 0 ? -us : us;
	snprintf(text, sizeof(text), "%s%" PRId64 ".%03" PRId64, us < 0 ? "-" : "", size / 1000, size % 1000);
	table_set(table, row, column, text);
}

/* A strand that several came from is shown in full once, and by name below the
 * others: that ends rings too. */
static void show(struct table *table, const struct place *place, struct node *n, bool json)
{
	struct libscols_line *row = table_row(table, place->row);
	const struct place below = { row, n, place->root ? place->root : n };
	struct buf label = BUF_INIT;

	buf_init(&label);
	buf_addf(&label, "%s%s", n->id, json ? "" : n->printed ? " (see above)" : n->asked ? " *" : "");
	table_set(table, row, AT_ID, label.data);
	table_set(table, row, AT_TABLE, n->table->name);
	if (place->origin)
		set_ms(table, row, AT_AFTER, place->origin, n);
	set_ms(table, row, AT_SINCE_ROOT, below.root, n);
	table_set(table, row, AT_ASKED, n->asked ? "t" : "f");
	table_set(table, row, AT_REPEATED, n->printed ? "t" : "f");
	buf_release(&label);
	if (n->printed)
		return;
	n->printed = true;
	show_node(table, row, n);
	for (size_t i = 0; i < n->n_children; i++)
		show(table, &below, n->children[i], json);
}

static void show_forest(struct forest *f, bool json)
{
	struct table *table = table_new("strands", json, columns, N_COLUMNS);
	const struct place nowhere = { 0 };

	for (size_t i = 0; i < f->n; i++)
		if (!f->nodes[i]->has_parent)
			show(table, &nowhere, f->nodes[i], json);
	/* What is left hangs on rings without a root. */
	for (size_t i = 0; i < f->n; i++)
		if (!f->nodes[i]->printed)
			show(table, &nowhere, f->nodes[i], json);
	table_print(table);
	table_free(table);
}

int command_trace(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };
	struct catalog c = { 0 };
	struct grow g = { .ctl = ctl, .catalog = &c };
	struct err e;
	int ret;

	options_parse(&argp, argc, argv, &args);
	ret = strands_start(ctl, &c, &e);
	if (!ret)
		ret = grow_from(&g, args.id, &e);
	if (!ret)
		ret = grow_receipts(&g, &e);
	if (!ret || ret == STRAND_ENOENT)
		show_forest(&g.forest, ctl->json);
	if (!ret && g.cut)
		ctl_warn("only the first %d strands of the tree are shown", GROW_MAX_NODES);
	forest_release(&g.forest);
	catalog_release(&c);
	return ret ? ctl_fail(ctl, &e) : EXIT_OK;
}
