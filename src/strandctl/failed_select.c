#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strandctl/failed.h"
#include "strandctl/strands.h"

static int choose_routes(struct failed *f, struct err *e)
{
	const struct failed_args *args = f->args;
	const struct module_table *source = NULL;
	struct catalog *c = &f->catalog;
	int ret = args->table ? catalog_find(&source, c, f->ctl, args->table, e) : 0;

	if (!ret && args->tag)
		ret = catalog_check_tag(c, args->tag, source, e);
	if (ret)
		return ret;
	f->routes = calloc(c->n_routes + 1, sizeof(const struct attachment *));
	if (!f->routes)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	for (size_t i = 0; i < c->n_routes; i++)
		if ((!source || c->routes[i].source == source) &&
		    (!args->tag || !strcmp(c->routes[i].tag, args->tag)))
			f->routes[f->n_routes++] = &c->routes[i];
	return 0;
}

/* Taken once: what fails while a command runs is not its business. */
static int set_bounds(struct failed *f, struct err *e)
{
	static const char sql[] =
		"SELECT CASE WHEN $1::bigint < 0 THEN clock_timestamp() ELSE clock_timestamp() - $1 * interval '1 ms' END,"
		" CASE WHEN $2::bigint < 0 THEN '-infinity' ELSE clock_timestamp() - $2 * interval '1 ms' END";
	char older[24], newer[24];
	const char *values[] = { older, newer };
	PGresult *res;
	int ret;

	snprintf(older, sizeof(older), "%lld", (long long)f->args->older_ms);
	snprintf(newer, sizeof(newer), "%lld", (long long)f->args->newer_ms);
	ret = ctl_query(f->ctl, sql, 2, values, &res, e);
	if (ret == STRAND_ESQL)
		return err_set(e, STRAND_EINVAL, "--older, --newer: %s", e->text);
	if (ret)
		return ret;
	snprintf(f->before, sizeof(f->before), "%s", PQgetvalue(res, 0, 0));
	snprintf(f->after, sizeof(f->after), "%s", PQgetvalue(res, 0, 1));
	PQclear(res);
	return 0;
}

static int set_ids(struct failed *f, struct err *e)
{
	const struct options_list *ids = &f->args->ids;
	struct buf array = BUF_INIT;

	if (!ids->n)
		return 0;
	buf_init(&array);
	strands_ids_array(&array, (const char *const *)ids->items, ids->n);
	f->ids = buf_steal(&array);
	return f->ids ? 0 : err_set(e, STRAND_ENOMEM, "out of memory");
}

/* The newest come by an index in its order: a bitmap or a sort would read all that
 * failed first, and a table never analysed tempts the planner to that. */
static const char pins[] = "SET enable_bitmapscan = off; SET enable_sort = off";

int failed_start(struct failed *f, const struct failed_args *args, struct err *e)
{
	int ret;

	*f = (struct failed){ .args = args, .ctl = args->ctl };
	ret = strands_start(f->ctl, &f->catalog, e);
	if (!ret)
		ret = ctl_exec(f->ctl, pins, e);
	if (!ret)
		ret = choose_routes(f, e);
	if (!ret)
		ret = set_bounds(f, e);
	return ret ? ret : set_ids(f, e);
}

void failed_release(struct failed *f)
{
	catalog_release(&f->catalog);
	free(f->routes);
	free(f->ids);
}

/* Named strands are looked up one by one by the receipts' key; OFFSET 0 keeps the list
 * of states out of that, which would tempt the planner to read all that failed. */
static const char by_id[] =
	" FROM (SELECT DISTINCT strandd.receipt_key(u.id) AS key FROM unnest($3::text[]) u (id)) k"
	" CROSS JOIN LATERAL (SELECT p.* FROM %s p WHERE p.route = %s AND p.strand_id = k.key COLLATE \"C\" OFFSET 0) r"
	" WHERE";
static const char all[] = " FROM %s r WHERE r.route = %s AND $3::text[] IS NULL AND";

/* Every value is named, given or not: the server plans with the values in hand, so
 * what does not apply costs nothing. */
void failed_from(struct buf *sql, const struct failed *f, const struct attachment *a)
{
	if (f->ids)
		buf_addf(sql, by_id, a->receiver->receipts, a->number);
	else
		buf_addf(sql, all, a->receiver->receipts, a->number);
	buf_adds(sql, " r.state IN ('failed', 'expired')"
		 " AND r.finished_at <= $1::timestamptz AND r.finished_at >= $2::timestamptz"
		 " AND ($4::text IS NULL OR strpos(lower(r.error), lower($4)) > 0)"
		 " AND ($5::text IS NULL OR starts_with(r.sqlstate, $5))"
		 " AND ($6::text IS NULL OR r.finished_at < $1::timestamptz OR r.strand_id > $6)");
	/* One of the two words that the parser lets pass. */
	if (f->args->state)
		buf_addf(sql, " AND r.state = '%s'", f->args->state);
}

int failed_query(struct failed *f, const char *sql, const struct failed_position *position,
		 PGresult **ret_result, struct err *e)
{
	const char *values[] = { position && position->key ? position->finished : f->before, f->after, f->ids,
				 f->args->error, f->args->sqlstate, position ? position->key : NULL };

	return ctl_query(f->ctl, sql, 6, values, ret_result, e);
}

/* Has any table the strand, or any route a receipt of it?  The receipt's state is
 * told, of whichever route. */
static int look_for(struct failed *f, const char *id, bool *ret_known, char *state, size_t size, struct err *e)
{
	const struct catalog *c = &f->catalog;
	const char *values[] = { id };
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_adds(&sql, "SELECT max(x.tag || ' ' || x.state), count(*) FROM (SELECT NULL, NULL WHERE false");
	for (size_t i = 0; i < c->n_tables; i++)
		buf_addf(&sql, " UNION ALL SELECT NULL, NULL FROM %s s WHERE s.id = $1", c->tables[i].sql);
	for (size_t i = 0; i < c->n_routes; i++)
		buf_addf(&sql, " UNION ALL SELECT (SELECT o.tag FROM %s o WHERE o.route = r.route), r.state FROM %s r"
			 " WHERE r.route = %s AND r.strand_id = strandd.receipt_key($1) COLLATE \"C\"",
			 c->routes[i].receiver->routes, c->routes[i].receiver->receipts, c->routes[i].number);
	buf_adds(&sql, ") x (tag, state)");
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: ctl_query(f->ctl, sql.data, 1, values, &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	*ret_known = strcmp(PQgetvalue(res, 0, 1), "0") != 0;
	snprintf(state, size, "%s", PQgetvalue(res, 0, 0));
	PQclear(res);
	return 0;
}

static int check_id(struct failed *f, const char *id, bool *ret_known, struct err *e)
{
	char state[200], names[300];
	bool known;
	int ret = look_for(f, id, &known, state, sizeof(state), e);

	if (ret)
		return ret;
	*ret_known = known;
	catalog_names(&f->catalog, names, sizeof(names));
	if (!known)
		ctl_warn("no strand %s in %s, and no receipt of it", id, names);
	else if (*state)
		ctl_warn("strand %s: " FAILED_NOTHING " (%s)", id, state);
	else
		ctl_warn("strand %s: nothing has failed or expired, no route has a receipt of it", id);
	return 0;
}

/* The ids that the selection finds. */
static int found_ids(struct failed *f, PGresult **ret_found, struct err *e)
{
	struct buf sql = BUF_INIT;
	int ret;

	buf_init(&sql);
	buf_adds(&sql, "SELECT x.id FROM (SELECT NULL WHERE false");
	for (size_t i = 0; i < f->n_routes; i++) {
		buf_adds(&sql, " UNION SELECT coalesce(r.long_id, r.strand_id)");
		failed_from(&sql, f, f->routes[i]);
	}
	buf_adds(&sql, ") x (id)");
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: failed_query(f, sql.data, NULL, ret_found, e);
	buf_release(&sql);
	return ret;
}

int failed_check_ids(struct failed *f, size_t *ret_missed, struct err *e)
{
	const struct options_list *ids = &f->args->ids;
	size_t unknown = 0;
	PGresult *found;
	int ret;

	*ret_missed = 0;
	if (!ids->n)
		return 0;
	ret = found_ids(f, &found, e);
	if (ret)
		return ret;
	for (size_t i = 0; !ret && i < ids->n; i++) {
		bool known = false;

		for (int row = 0; !known && row < PQntuples(found); row++)
			known = !strcmp(PQgetvalue(found, row, 0), ids->items[i]);
		if (known)
			continue;
		(*ret_missed)++;
		ret = check_id(f, ids->items[i], &known, e);
		unknown += !ret && !known;
	}
	PQclear(found);
	if (!ret && unknown)
		return err_set(e, STRAND_ENOENT, "nothing was changed or shown: %zu of %zu ids are unknown", unknown, ids->n);
	return ret;
}
