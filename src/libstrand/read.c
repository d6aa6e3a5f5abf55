/* Reading strands, and sets of them. */
#include "libstrand/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libstrand/text.h"
#include "libstrand/view.h"

struct strand_set {
	PGresult *res;		/* one column, the rows as JSON, of which the strands are views */
	char *source;
	size_t n;
	struct strand strands[];
};

size_t strand_set_size(const struct strand_set *set)
{
	return set->n;
}

const struct strand *strand_set_get(const struct strand_set *set, size_t i)
{
	return i < set->n ? &set->strands[i] : NULL;
}

void strand_set_free(struct strand_set *set)
{
	if (!set)
		return;
	for (size_t i = 0; i < set->n; i++)
		view_release(&set->strands[i]);
	PQclear(set->res);
	free(set->source);
	free(set);
}

/* Takes the result. */
static int make_set(struct strand_client *c, const char *source, PGresult *res, struct strand_set **ret_set)
{
	size_t n = (size_t)PQntuples(res);
	struct strand_set *set = calloc(1, sizeof(*set) + n * sizeof(set->strands[0]));
	int ret = 0;

	if (!set) {
		PQclear(res);
		return err_set(&c->err, STRAND_ENOMEM, "out of memory");
	}
	set->res = res;
	set->source = strdup(source);
	if (!set->source)
		ret = STRAND_ENOMEM;
	while (!ret && set->n < n) {
		int row = (int)set->n;
		struct strand *s = &set->strands[set->n++];

		s->source = set->source;
		s->deadline = INT64_MAX;
		ret = view_row(s, PQgetvalue(res, row, 0), (size_t)PQgetlength(res, row, 0));
	}
	if (ret) {
		strand_set_free(set);
		return err_set(&c->err, ret, ret == STRAND_ENOMEM ? "out of memory"
			       : "a strand cannot be read: it is nested too deep, or has no id");
	}
	*ret_set = set;
	return 0;
}

struct question {
	const char *table;
	const char *by_id;		/* else by tags */
	const char *tags, *limit;	/* JSON array; NULL: any */
	int64_t deadline;
};

static const char *order(const struct table *t)
{
	return t->has_created_at ? " ORDER BY s.created_at DESC" : t->has_xact_id ? " ORDER BY s.xact_id DESC" : "";
}

/* The planner's choice between two indexes is its own; reading the whole table is none. */
static const char pin_sql[] = "SELECT pg_catalog.set_config('enable_seqscan', 'off', true)";

static int ask(struct strand_client *c, const struct question *q, const struct table *t, PGresult **ret_res)
{
	const char *values[] = { q->by_id ? q->by_id : q->tags, q->limit };
	struct buf sql = BUF_INIT;
	int ret;

	buf_addf(&sql, "SELECT pg_catalog.to_jsonb(s) FROM %s s WHERE %s", t->sql,
		 q->by_id ? "s.id = $1" : q->tags ? "s.tags @> $1::pg_catalog.jsonb" : "$1::text IS NULL");
	if (!q->by_id)
		buf_addf(&sql, "%s LIMIT $2", order(t));
	ret = sql.failed ? err_set(&c->err, STRAND_ENOMEM, "out of memory") : link_batch_begin(&c->link, &c->err);
	if (!ret)
		ret = link_send(&c->link, pin_sql, 0, NULL, &c->err);
	if (!ret)
		ret = link_send(&c->link, sql.data, q->by_id ? 1 : 2, values, &c->err);
	if (!ret)
		ret = link_batch_run(&c->link, q->deadline, ret_res, &c->err);
	buf_release(&sql);
	return ret;
}

static int attempt(struct strand_client *c, const struct question *q, struct strand_set **ret_set)
{
	const struct table *t;
	PGresult *res;
	int ret = client_connect(c, q->deadline);

	if (!ret)
		ret = client_table(c, q->table, q->deadline, &t);
	if (!ret)
		ret = ask(c, q, t, &res);
	if (ret)
		return ret;
	if (q->by_id && !PQntuples(res)) {
		PQclear(res);
		return err_set(&c->err, STRAND_ENOENT, "there is no strand %s in %s", q->by_id, t->name);
	}
	return make_set(c, t->name, res, ret_set);
}

static int answer(struct strand_client *c, const struct question *q, struct strand_set **ret_set)
{
	bool was_up = c->link.state == LINK_UP;
	int ret;

	client_forget_ids(c);
	ret = attempt(c, q, ret_set);
	if (was_up && client_may_repeat(ret, q->deadline))
		ret = attempt(c, q, ret_set);
	if (!ret)
		c->err = (struct err){ 0 };
	return ret;
}

int strand_client_read(struct strand_client *c, const char *table, const char *id, struct strand_set **ret_set)
{
	struct question q = { .table = table, .by_id = id, .deadline = client_begin(c) };

	return id ? answer(c, &q, ret_set) : err_set(&c->err, STRAND_EINVAL, "no id is given: NULL");
}

static bool has_null(const char *const *tags, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!tags[i])
			return true;
	return false;
}

int strand_client_recent(struct strand_client *c, const char *table, const char *const *tags, size_t n_tags,
			 int limit, struct strand_set **ret_set)
{
	struct question q = { .table = table, .deadline = client_begin(c) };
	struct buf json = BUF_INIT;
	char count[16];
	int ret;

	snprintf(count, sizeof(count), "%d", limit);
	q.limit = count;
	if (limit < 1)
		ret = err_set(&c->err, STRAND_EINVAL, "a limit of %d: ask for one strand or more", limit);
	else if (has_null(tags, n_tags))
		ret = err_set(&c->err, STRAND_EINVAL, "a tag is NULL");
	else if (n_tags && !text_add_tags(&json, tags, n_tags))
		ret = err_set(&c->err, STRAND_EINVAL, "a tag is not UTF-8");
	else if (json.failed)
		ret = err_set(&c->err, STRAND_ENOMEM, "out of memory");
	else {
		q.tags = json.data;
		ret = answer(c, &q, ret_set);
	}
	buf_release(&json);
	return ret;
}
