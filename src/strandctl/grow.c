#include "strandctl/grow.h"

#include <string.h>

#include "pg/array.h"
#include "strandctl/receipts.h"
#include "strandctl/strands.h"

static int out_of_memory(struct err *e)
{
	return err_set(e, STRAND_ENOMEM, "out of memory");
}

/* Adds a row's strand; NULL with `*ret` 0 when there are too many already. */
static struct node *take_row(struct grow *g, const struct module_table *t, const PGresult *res, int row,
			     int *ret, struct err *e)
{
	bool is_new;
	struct node *n;

	if (g->forest.n >= GROW_MAX_NODES) {
		g->cut = true;
		return NULL;
	}
	n = forest_node(&g->forest, t, PQgetvalue(res, row, STRAND_ID), &is_new);
	if (!n || (is_new && node_fill(n, res, row)))
		*ret = out_of_memory(e);
	return *ret ? NULL : n;
}

/* All strands of table `t` with ids of the array. */
static int find_ids(struct grow *g, const struct module_table *t, const char *ids, struct err *e)
{
	const char *values[] = { ids };
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	strands_select(&sql, t);
	buf_addf(&sql, " FROM unnest($1::text[]) k (id) JOIN %s s ON s.id = k.id", t->sql);
	ret = sql.failed ? out_of_memory(e) : ctl_query(g->ctl, sql.data, 1, values, &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	for (int row = 0; !ret && row < PQntuples(res); row++)
		(void)take_row(g, t, res, row, &ret, e);
	PQclear(res);
	return ret;
}

static int find_everywhere(struct grow *g, const struct buf *ids, struct err *e)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < g->catalog->n_tables; i++)
		ret = find_ids(g, &g->catalog->tables[i], ids->data, e);
	return ret;
}

/* Origins of the nodes from `from` on; each round finds the next generation, and
 * a ring adds nothing new. */
static int climb(struct grow *g, struct err *e)
{
	size_t from = 0;
	int ret = 0;

	while (!ret && from < g->forest.n && !g->cut) {
		struct buf ids = BUF_INIT;
		bool any = false;

		buf_init(&ids);
		array_begin(&ids);
		for (; from < g->forest.n; from++) {
			const struct node *n = g->forest.nodes[from];

			for (size_t i = 0; i < n->n_origins; i++, any = true)
				array_item(&ids, n->origins[i], strlen(n->origins[i]));
		}
		array_end(&ids);
		if (any)
			ret = ids.failed ? out_of_memory(e) : find_everywhere(g, &ids, e);
		buf_release(&ids);
	}
	return ret;
}

static int link_row(struct grow *g, const struct module_table *t, const PGresult *res, int row, struct err *e)
{
	int ret = 0;
	struct node *child = take_row(g, t, res, row, &ret, e);
	const char *origin = PQgetvalue(res, row, STRAND_N_COLUMNS);

	/* An id can be in several tables; each of them may be the origin. */
	for (size_t i = 0; child && !ret && i < g->catalog->n_tables; i++) {
		struct node *parent = forest_find(&g->forest, &g->catalog->tables[i], origin);

		if (parent && parent != child && node_link(parent, child))
			ret = out_of_memory(e);
	}
	return ret;
}

/* Strands of table `t` that came from one of the ids.  The tag is built in the
 * query, and the index on tags serves it. */
static int find_children(struct grow *g, const struct module_table *t, const char *ids, struct err *e)
{
	const char *values[] = { ids };
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_adds(&sql, "SELECT c.*, k.id FROM unnest($1::text[]) k (id), LATERAL (");
	strands_select(&sql, t);
	buf_addf(&sql, " FROM %s s WHERE s.tags @> jsonb_build_array('original_strand:' || k.id)"
		 " LIMIT %d) c ORDER BY 5, 1", t->sql, GROW_MAX_NODES);
	ret = sql.failed ? out_of_memory(e) : ctl_query(g->ctl, sql.data, 1, values, &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	for (int row = 0; !ret && row < PQntuples(res); row++)
		ret = link_row(g, t, res, row, e);
	PQclear(res);
	return ret;
}

/* Children of every node that has not been asked for them yet. */
static int descend(struct grow *g, struct err *e)
{
	size_t from = 0;
	int ret = 0;

	while (!ret && from < g->forest.n) {
		struct buf ids = BUF_INIT;

		buf_init(&ids);
		array_begin(&ids);
		for (; from < g->forest.n; from++)
			array_item(&ids, g->forest.nodes[from]->id, strlen(g->forest.nodes[from]->id));
		array_end(&ids);
		if (ids.failed)
			ret = out_of_memory(e);
		for (size_t i = 0; !ret && i < g->catalog->n_tables; i++)
			ret = find_children(g, &g->catalog->tables[i], ids.data, e);
		buf_release(&ids);
	}
	return ret;
}

int grow_from(struct grow *g, const char *id, struct err *e)
{
	struct buf ids = BUF_INIT;
	int ret;

	buf_init(&ids);
	strands_ids_array(&ids, &id, 1);
	ret = ids.failed ? out_of_memory(e) : find_everywhere(g, &ids, e);
	buf_release(&ids);
	if (!ret && !g->forest.n)
		return err_set(e, STRAND_ENOENT, "no strand %s in any module table", id);
	for (size_t i = 0; i < g->forest.n; i++)
		g->forest.nodes[i]->asked = true;
	if (!ret)
		ret = climb(g, e);
	if (!ret)
		ret = descend(g, e);
	forest_sort(&g->forest);
	return ret;
}

static void add_receipt(struct node *n, const struct attachment *a, const PGresult *res, int row)
{
	const char *hop = cell(res, row, RECEIPT_HOP_MS), *error = cell(res, row, RECEIPT_ERROR);
	const char *wait = cell(res, row, RECEIPT_WAIT_MS), *run = cell(res, row, RECEIPT_RUN_MS);

	buf_addf(&n->receipts, "%s%s %s", n->receipts.len ? "\n" : "", a->tag,
		 PQgetvalue(res, row, RECEIPT_SHOWN));
	if (hop)
		buf_addf(&n->receipts, " %s ms", hop);
	if (wait && run)
		buf_addf(&n->receipts, " (waited %s, ran %s)", wait, run);
	if (error && *error)
		buf_addf(&n->receipts, " %s", error);
	buf_addf(&n->receipts_json, "%s%s", n->receipts_json.len ? ", " : "",
		 PQgetvalue(res, row, RECEIPT_JSON));
}

static int route_receipts(struct grow *g, const struct attachment *a, struct err *e)
{
	struct buf ids = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&ids);
	array_begin(&ids);
	for (size_t i = 0; i < g->forest.n; i++)
		if (g->forest.nodes[i]->table == a->source)
			array_item(&ids, g->forest.nodes[i]->id, strlen(g->forest.nodes[i]->id));
	array_end(&ids);
	ret = ids.failed ? out_of_memory(e) : receipts_query(g->ctl, a, ids.data, false, &res, e);
	buf_release(&ids);
	if (ret)
		return ret;
	for (int row = 0; row < PQntuples(res); row++) {
		struct node *n = forest_find(&g->forest, a->source, PQgetvalue(res, row, RECEIPT_ID));

		if (n)
			add_receipt(n, a, res, row);
	}
	PQclear(res);
	return 0;
}

int grow_receipts(struct grow *g, struct err *e)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < g->catalog->n_routes; i++)
		ret = route_receipts(g, &g->catalog->routes[i], e);
	return ret;
}
