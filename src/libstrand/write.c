/* Writing strands: one transaction, whose outcome is known or said to be unknown. */
#include "libstrand/client.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "libstrand/input.h"
#include "pg/array.h"
#include "pg/record.h"

/* Between two questions whether a transaction has ended. */
enum { ASK_AGAIN_MS = 50 };

struct writing {
	struct strand_client *client;
	const struct table *table;
	struct input *inputs;
	size_t n;
	char xid[24];			/* of the transaction */
	int64_t deadline;
};

/* Columns that are not named get the table's defaults.  $4 is the module. */
static void insert_sql(struct buf *sql, const struct table *t, const struct input *shape)
{
	buf_addf(sql, "INSERT INTO %s (id%s%s%s%s) SELECT u.id%s%s%s", t->sql, shape->tags ? ", tags" : "",
		 shape->fill_module ? ", module" : "", shape->fill_created_at ? ", created_at" : "", shape->columns,
		 shape->tags ? ", u.tags::pg_catalog.jsonb" : "", shape->fill_module ? ", $4::text" : "",
		 shape->fill_created_at ? ", pg_catalog.now()" : "");
	record_fields(sql, shape->columns);
	buf_addf(sql, " FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY"
		 " u (line, id, tags, n), LATERAL pg_catalog.jsonb_populate_record(NULL::%s,"
		 " u.line::pg_catalog.jsonb OPERATOR(pg_catalog.-) '{id,tags}'::text[]) r"
		 " WHERE $4::text IS NOT NULL ORDER BY u.n", t->sql);
}

/* `n` inputs of one shape, sent. */
static int send_insert(struct writing *w, const struct input *in, size_t n)
{
	struct buf sql = BUF_INIT, lines = BUF_INIT, ids = BUF_INIT, tags = BUF_INIT;
	struct strand_client *c = w->client;
	int ret;

	insert_sql(&sql, w->table, in);
	array_begin(&lines);
	array_begin(&ids);
	array_begin(&tags);
	for (size_t i = 0; i < n; i++) {
		const char *own = in[i].tags ? in[i].tags : "";

		array_item(&lines, in[i].text, strlen(in[i].text));
		array_item(&ids, in[i].id, strlen(in[i].id));
		array_item(&tags, own, strlen(own));
	}
	array_end(&lines);
	array_end(&ids);
	array_end(&tags);
	if (sql.failed || lines.failed || ids.failed || tags.failed) {
		ret = err_set(&c->err, STRAND_ENOMEM, "out of memory");
	} else {
		const char *values[] = { lines.data, ids.data, tags.data, c->module };

		ret = link_send(&c->link, sql.data, 4, values, &c->err);
	}
	buf_release(&sql);
	buf_release(&lines);
	buf_release(&ids);
	buf_release(&tags);
	return ret;
}

static int send_all(struct writing *w)
{
	size_t from = 0;
	int ret = 0;

	while (!ret && from < w->n) {
		size_t n = 1;

		while (from + n < w->n && input_same_shape(&w->inputs[from], &w->inputs[from + n]))
			n++;
		ret = send_insert(w, &w->inputs[from], n);
		from += n;
	}
	return ret;
}

/* Everything but the COMMIT, in one round trip.  The transaction is left open only if
 * all is well. */
static int insert(struct writing *w)
{
	struct strand_client *c = w->client;
	struct link *l = &c->link;
	PGresult *res = NULL;
	int ret = link_batch_begin(l, &c->err);

	if (!ret)
		ret = link_send(l, "BEGIN", 0, NULL, &c->err);
	if (!ret)
		ret = send_all(w);
	if (!ret)
		ret = link_send(l, "SELECT pg_catalog.pg_current_xact_id()", 0, NULL, &c->err);
	if (!ret)
		ret = link_batch_run(l, w->deadline, &res, &c->err);
	else
		link_drop(l);
	if (!ret)
		snprintf(w->xid, sizeof(w->xid), "%s", PQgetvalue(res, 0, 0));
	PQclear(res);
	return ret;
}

static void roll_back(struct writing *w)
{
	struct err ignored;

	if (w->client->link.state == LINK_UP &&
	    link_query(&w->client->link, "ROLLBACK", 0, NULL, w->deadline, NULL, &ignored))
		link_drop(&w->client->link);
}

/* Is the transaction committed?  0: yes; STRAND_ECONN: no; LINK_AGAIN: not ended yet;
 * STRAND_EDOUBT: nobody knows.  After a failover another transaction may bear its
 * number: so the strands must be there, too. */
static int ask(struct writing *w, const char *table)
{
	struct strand_client *c = w->client;
	struct buf sql = BUF_INIT;
	const char *values[] = { w->xid, w->inputs[0].id };
	const char *status;
	PGresult *res;
	int ret;

	buf_addf(&sql, "SELECT pg_catalog.pg_xact_status($1::pg_catalog.xid8), EXISTS (SELECT FROM %s t WHERE t.id = $2)",
		 table);
	ret = sql.failed ? STRAND_ENOMEM : link_query(&c->link, sql.data, 2, values, w->deadline, &res, &c->err);
	buf_release(&sql);
	if (ret)
		return STRAND_EDOUBT;
	status = PQgetvalue(res, 0, 0);
	if (!strcmp(status, "in progress"))
		ret = LINK_AGAIN;
	else if (!strcmp(status, "aborted"))
		ret = STRAND_ECONN;
	else
		ret = !strcmp(status, "committed") && *PQgetvalue(res, 0, 1) == 't' ? 0 : STRAND_EDOUBT;
	PQclear(res);
	return ret;
}

/* Asks until somebody knows, or the deadline passes. */
static int ask_on(struct writing *w, const char *table)
{
	struct strand_client *c = w->client;
	int ret = STRAND_EDOUBT;

	while (clock_now() < w->deadline) {
		ret = client_connect(c, w->deadline) ? STRAND_EDOUBT : ask(w, table);
		if (ret != LINK_AGAIN && (ret != STRAND_EDOUBT || c->link.state == LINK_UP))
			break;
		poll(NULL, 0, ASK_AGAIN_MS);
	}
	return ret == LINK_AGAIN ? STRAND_EDOUBT : ret;
}

/* The COMMIT was sent and not answered: asks on another connection. */
static int resolve(struct writing *w)
{
	struct strand_client *c = w->client;
	/* The table itself was found on the lost one, and goes with it. */
	char *table = strdup(w->table->sql);
	int ret = table ? ask_on(w, table) : STRAND_EDOUBT;

	free(table);
	if (ret == STRAND_ECONN)
		return err_set(&c->err, ret, "connection lost before the COMMIT: nothing was written");
	if (ret)
		return err_set(&c->err, ret, "connection lost in the COMMIT: whether strand %s%s written is not known",
			       w->inputs[0].id, w->n > 1 ? " and those after it are" : " is");
	return 0;
}

static int commit(struct writing *w)
{
	struct strand_client *c = w->client;
	PGresult *res = NULL;
	int ret = link_query(&c->link, "COMMIT", 0, NULL, w->deadline, &res, &c->err);
	/* Of a transaction that has failed it is ROLLBACK, with a good status. */
	bool done = !ret && !strcmp(PQcmdStatus(res), "COMMIT");

	PQclear(res);
	if (done)
		return 0;
	if (!ret)
		return err_set(&c->err, STRAND_EPROTO, "the server rolled back instead of committing");
	/* A deferred constraint may refuse it. */
	if (ret == STRAND_ESQL)
		return ret;
	link_drop(&c->link);
	return resolve(w);
}

static int write_inputs(struct writing *w)
{
	int ret = insert(w);

	if (ret)
		roll_back(w);
	return ret ? ret : commit(w);
}

static int read_inputs(struct writing *w, const char *const *data, const struct input_context *x)
{
	struct err *e = &w->client->err;
	struct err own;
	int ret = 0;

	for (size_t i = 0; !ret && i < w->n; i++) {
		ret = input_read(&w->inputs[i], data[i], x, &own);
		if (ret && w->n > 1)
			err_set(e, ret, "strand %zu: %s", i + 1, own.text);
		else if (ret)
			*e = own;
	}
	return ret;
}

/* The ids outlive the call: the client keeps them until the next one. */
static void keep_ids(struct writing *w, const char **ret_ids)
{
	struct strand_client *c = w->client;

	for (size_t i = 0; i < w->n; i++) {
		c->ids[i] = w->inputs[i].id;
		w->inputs[i].id = NULL;
		if (ret_ids)
			ret_ids[i] = c->ids[i];
	}
	c->n_ids = w->n;
}

static int prepare(struct writing *w, const char *table, const char *const *data, const char *const *tags,
		   size_t n_tags)
{
	struct strand_client *c = w->client;
	struct input_context x = { .tags = tags, .n_tags = n_tags };
	int ret = client_connect(c, w->deadline);

	if (!ret)
		ret = client_table(c, table, w->deadline, &w->table);
	if (ret)
		return ret;
	x.table = w->table;
	x.own = !table || !strcasecmp(table, c->table_name);
	return read_inputs(w, data, &x);
}

static void release_inputs(struct writing *w)
{
	for (size_t i = 0; w->inputs && i < w->n; i++)
		input_release(&w->inputs[i]);
}

/* From reading the inputs to the COMMIT. */
static int attempt(struct writing *w, const char *table, const char *const *data, const char *const *tags,
		   size_t n_tags)
{
	int ret = prepare(w, table, data, tags, n_tags);

	return ret ? ret : write_inputs(w);
}

int strand_client_write_many(struct strand_client *c, const char *table, const char *const *data, size_t n,
			     const char *const *tags, size_t n_tags, const char **ret_ids)
{
	struct writing w = { .client = c, .n = n, .deadline = client_begin(c) };
	bool was_up = c->link.state == LINK_UP;
	int ret;

	client_forget_ids(c);
	if (!n)
		return 0;
	w.inputs = calloc(n, sizeof(*w.inputs));
	c->ids = calloc(n, sizeof(*c->ids));
	if (!w.inputs || !c->ids) {
		free(w.inputs);
		return err_set(&c->err, STRAND_ENOMEM, "out of memory");
	}
	ret = attempt(&w, table, data, tags, n_tags);
	if (was_up && client_may_repeat(ret, w.deadline)) {
		release_inputs(&w);
		ret = attempt(&w, table, data, tags, n_tags);
	}
	if (!ret) {
		c->err = (struct err){ 0 };
		keep_ids(&w, ret_ids);
	}
	release_inputs(&w);
	free(w.inputs);
	return ret;
}

int strand_client_write(struct strand_client *c, const char *table, const char *data,
			const char *const *tags, size_t n_tags, const char **ret_id)
{
	return strand_client_write_many(c, table, &data, 1, tags, n_tags, ret_id);
}
