/* strandctl recent: the newest strands, of those that bear given tags. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/options.h"
#include "strandctl/strands.h"
#include "strandctl/table.h"
#include "strandctl/tags.h"

#define DEFAULT_LIMIT 10
#define LAST_READ 10000	/* of the last written, in search of those without created_at */

struct args {
	struct ctl *ctl;
	struct json_object *tags;
	const char *table;
	int limit;
};

enum { OPTION_TAG = OPTION_FIRST };

static const struct argp_option options[] = {
	{ "tags", 'T', "TAG,...", 0, "Strands that bear all of these tags", 0 },
	{ "tag", OPTION_TAG, "TAG", 0, "One tag, which may hold a comma; may be repeated", 0 },
	{ "table", 't', "TABLE", 0, "Look in this table only", 0 },
	{ "limit", 'n', "N", 0, "How many (default 10)", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case 'T':
		tags_add_list(args->tags, arg);
		return 0;
	case OPTION_TAG:
		tags_add(args->tags, arg);
		return 0;
	case 't':
		args->table = arg;
		return 0;
	case 'n':
		args->limit = (int)options_number(state, "limit", arg, 1, 100000);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Shows the newest strands of all module tables, newest first.",
	.children = options_children,
};

enum { AT_TABLE, AT_ID, AT_KIND, AT_TAGS, AT_TAGS_JSON, AT_CREATED, AT_TAGGED, AT_STRAND, N_COLUMNS };

static const struct column columns[N_COLUMNS] = {
	[AT_TABLE] = { "TABLE", COLUMN_TEXT, FOR_BOTH },
	[AT_ID] = { "ID", COLUMN_TEXT, FOR_BOTH },
	[AT_KIND] = { "KIND", COLUMN_TEXT, FOR_BOTH },
	[AT_TAGS] = { "TAGS", COLUMN_WRAP, FOR_PEOPLE },
	[AT_TAGS_JSON] = { "TAGS", COLUMN_JSON, FOR_PROGRAMS },
	[AT_CREATED] = { "CREATED AT", COLUMN_TIME, FOR_BOTH },
	[AT_TAGGED] = { "TAGGED AT", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_STRAND] = { "STRAND", COLUMN_JSON, FOR_PROGRAMS },
};

/* One row of one table's result. */
struct found {
	const struct module_table *table;
	const PGresult *res;
	int row;
};

struct results {
	PGresult **res;		/* a table each */
	struct found *found;
	size_t n_res, n_found;
};

/* Rows with a created_at come by its index.  Those without (ORMs write NULL) would
 * come first in its order: they are looked for among the last written. */
static void query_text(struct buf *sql, const struct args *args, const struct module_table *t)
{
	const char *tags = json_object_array_length(args->tags) ? "s.tags @> $1::jsonb" : "$1::text IS NOT NULL";
	const char *order = t->is_source ? " ORDER BY s.xact_id DESC" : "";
	int last = args->limit > LAST_READ ? args->limit : LAST_READ;

	if (t->has_created_at) {
		buf_adds(sql, "(");
		strands_select(sql, t);
		buf_addf(sql, ", to_jsonb(s) FROM %s s WHERE s.created_at IS NOT NULL AND %s"
			 " ORDER BY s.created_at DESC LIMIT %d) UNION ALL (", t->sql, tags, args->limit);
	}
	strands_select(sql, t);
	buf_addf(sql, ", to_jsonb(s) FROM (SELECT * FROM %s s WHERE %s%s LIMIT %d) s%s%s LIMIT %d%s",
		 t->sql, tags, order, last, t->has_created_at ? " WHERE s.created_at IS NULL" : "", order,
		 args->limit, t->has_created_at ? ")" : "");
}

static int query(struct args *args, const struct module_table *t, PGresult **ret_result, struct err *e)
{
	const char *values[] = { json_object_to_json_string_ext(args->tags, TAGS_JSON_FLAGS) };
	struct buf sql = BUF_INIT;
	int ret;

	buf_init(&sql);
	query_text(&sql, args, t);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: ctl_query(args->ctl, sql.data, 1, values, ret_result, e);
	buf_release(&sql);
	return ret;
}

static const char *time_of(const struct found *f)
{
	const char *created = cell(f->res, f->row, STRAND_CREATED);
	const char *tagged = cell(f->res, f->row, STRAND_TAGGED);

	return created ? created : tagged ? tagged : "";
}

static int newest_first(const void *a, const void *b)
{
	return strands_compare_times(time_of(b), time_of(a));
}

static int collect(struct args *args, const struct catalog *c, struct results *r, struct err *e)
{
	const struct module_table *only = NULL;
	int ret = args->table ? catalog_find(&only, c, args->ctl, args->table, e) : 0;

	r->res = calloc(c->n_tables + 1, sizeof(*r->res));
	r->found = calloc(c->n_tables * 2 * (size_t)args->limit + 1, sizeof(*r->found));
	if (!r->res || !r->found)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	for (size_t i = 0; !ret && i < c->n_tables; i++) {
		PGresult *res;

		if (only && only != &c->tables[i])
			continue;
		ret = query(args, &c->tables[i], &res, e);
		if (ret)
			break;
		r->res[r->n_res++] = res;
		for (int row = 0; row < PQntuples(res); row++)
			r->found[r->n_found++] = (struct found){ &c->tables[i], res, row };
	}
	qsort(r->found, r->n_found, sizeof(*r->found), newest_first);
	return ret;
}

static void show(const struct args *args, const struct results *r)
{
	struct table *table = table_new("strands", args->ctl->json, columns, N_COLUMNS);

	for (size_t i = 0; i < r->n_found && i < (size_t)args->limit; i++) {
		const struct found *f = &r->found[i];
		struct libscols_line *row = table_row(table, NULL);

		table_set(table, row, AT_TABLE, f->table->name);
		table_set(table, row, AT_ID, cell(f->res, f->row, STRAND_ID));
		table_set(table, row, AT_KIND, cell(f->res, f->row, STRAND_KIND));
		table_set(table, row, AT_TAGS, cell(f->res, f->row, STRAND_TAGS));
		table_set(table, row, AT_TAGS_JSON, cell(f->res, f->row, STRAND_TAGS_JSON));
		table_set(table, row, AT_CREATED, cell(f->res, f->row, STRAND_CREATED));
		table_set(table, row, AT_TAGGED, cell(f->res, f->row, STRAND_TAGGED));
		table_set(table, row, AT_STRAND, cell(f->res, f->row, STRAND_N_COLUMNS));
	}
	table_print(table);
	table_free(table);
}

static void results_release(struct results *r)
{
	for (size_t i = 0; i < r->n_res; i++)
		PQclear(r->res[i]);
	free(r->res);
	free(r->found);
}

static bool is_known(const struct catalog *c, const char *tag)
{
	for (size_t i = 0; i < c->n_routes; i++)
		if (!strcmp(c->routes[i].tag, tag))
			return true;
	return false;
}

/* Nothing found: was it misspelt? */
static void doubt_tags(struct json_object *tags, const struct catalog *c)
{
	for (size_t i = 0; i < json_object_array_length(tags); i++) {
		const char *tag = json_object_get_string(json_object_array_get_idx(tags, i)), *near;

		if (!tag_is_route(tag) || is_known(c, tag))
			continue;
		near = catalog_near_tag(c, tag, NULL);
		ctl_warn("no strand found, and no route has the tag \"%s\"%s%s%s", tag,
			 near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	}
}

int command_recent(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl, .tags = json_object_new_array(), .limit = DEFAULT_LIMIT };
	struct results r = { 0 };
	struct catalog c = { 0 };
	struct err e;
	int ret;

	options_parse(&argp, argc, argv, &args);
	ret = strands_start(ctl, &c, &e);
	if (!ret)
		ret = collect(&args, &c, &r, &e);
	if (!ret)
		show(&args, &r);
	if (!ret && !r.n_found)
		doubt_tags(args.tags, &c);
	results_release(&r);
	catalog_release(&c);
	json_object_put(args.tags);
	return ret ? ctl_fail(ctl, &e) : EXIT_OK;
}
