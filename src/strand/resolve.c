#include "strand/resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "strand/unattached.h"

#define SCHEMA_VERSION "2"
#define RESOLVE_TIMEOUT_MS 30000

#define NAME_OF(oid) \
	"(SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c" \
	"  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = " oid ")"

/* $1 a name as SQL would write it; the answer is empty when nothing bears it.  A
 * receiver's own tables are found by number: they keep their names when it gets
 * another. */
static const char table_sql[] =
	"SELECT " NAME_OF("t.oid") ", " NAME_OF("v.routes") ", " NAME_OF("v.receipts")
	"  FROM (SELECT pg_catalog.to_regclass($1)::pg_catalog.oid AS oid OFFSET 0) t"
	"  LEFT JOIN strandd.receivers v ON v.receiver = t.oid WHERE t.oid IS NOT NULL";

static const char filtered_sql[] =
	"SELECT pg_catalog.string_agg(t.name, ', ') FROM (VALUES ($1), ($2), ($3), ($4)) AS t(name)"
	" WHERE pg_catalog.row_security_active(t.name)";

static const char near_tables_sql[] =
	"SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c"
	"  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
	" WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'strandd')"
	"   AND c.relname LIKE '%\\_strands' ORDER BY c.relname LIMIT 8";

static const char route_sql[] =
	"SELECT r.route, strandd.lock_seed(%s::pg_catalog.regclass, r.route),"
	"       pg_catalog.quote_literal(pg_catalog.jsonb_build_array($2::text)::text),"
	"       pg_catalog.format('l.route = %%s AND l.tag = %%L AND l.source = %%s::pg_catalog.oid AND l.detached_at IS NULL',"
	"         r.route, r.tag, r.source::pg_catalog.oid), r.suspended_at IS NOT NULL"
	"  FROM %s r WHERE r.source = pg_catalog.to_regclass($1) AND r.tag = $2 AND r.detached_at IS NULL";

/* Functions that the configured name means, with what they take and return. */
static const char handler_sql[] =
	"SELECT pg_catalog.format('%I.%I', n.nspname, p.proname),"
	"       p.proargtypes[0] = 'jsonb'::pg_catalog.regtype,"
	"       p.prorettype = 'jsonb'::pg_catalog.regtype AND p.prokind = 'f',"
	"       pg_catalog.has_function_privilege(p.oid, 'EXECUTE'),"
	"       pg_catalog.pg_get_function_identity_arguments(p.oid),"
	"       CASE p.prokind WHEN 'p' THEN 'a procedure' WHEN 'a' THEN 'an aggregate'"
	"        WHEN 'w' THEN 'a window function'"
	"        ELSE 'a function that returns ' || pg_catalog.pg_get_function_result(p.oid) END"
	"  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
	" WHERE p.oid IN (pg_catalog.to_regprocedure($1 || '(' || $2 || ')'),"
	"                 pg_catalog.to_regprocedure($1 || '(jsonb)'))"
	" ORDER BY 2";

static const char near_functions_sql[] =
	"SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p"
	"  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
	" WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'strandd')"
	"   AND p.prorettype = 'jsonb'::pg_catalog.regtype AND p.prokind = 'f'"
	" ORDER BY p.proname = pg_catalog.regexp_replace($1, '^.*\\.', '') DESC, 1 LIMIT 8";

static int64_t soon(void)
{
	return clock_after_ms(RESOLVE_TIMEOUT_MS);
}

/* A right is missing, which is another remedy than a missing thing. */
static bool refused_right(const struct err *e)
{
	return !strcmp(e->sqlstate, "42501");
}

/* "; there are: a, b" from a query's first column, or nothing. */
static void near_names(struct conn *c, const char *sql, const char *name, char *out, size_t size)
{
	const char *values[] = { name };
	PGresult *res;
	size_t used;

	*out = '\0';
	if (conn_query(c, sql, strstr(sql, "$1") ? 1 : 0, values, soon(), &res, NULL))
		return;
	used = (size_t)snprintf(out, size, "%s", PQntuples(res) ? "; there are: " : "");
	for (int i = 0; i < PQntuples(res) && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "",
					 PQgetvalue(res, i, 0));
	PQclear(res);
}

static int no_service(struct conn *c, struct err *e)
{
	return err_set(e, STRAND_EINVAL, "user \"%s\" may not serve database \"%s\" (%s); run:"
		       " strandctl init --grant %s", PQuser(conn_pg(c)), PQdb(conn_pg(c)), e->text,
		       PQuser(conn_pg(c)));
}

/* The server would not even look the name up. */
static int bad_name(struct conn *c, const char *name, const char *kind, struct err *e)
{
	if (refused_right(e))
		return err_set(e, STRAND_EINVAL, "user \"%s\" may not use \"%s\": %s; grant it",
			       PQuser(conn_pg(c)), name, e->text);
	return err_set(e, STRAND_EINVAL, "\"%s\" is no %s's name: %s", name, kind, e->text);
}

/* Ids travel as UTF8; one without such a form would stop a whole page of others. */
static int check_encoding(struct conn *c, struct err *e)
{
	const char *encoding = PQparameterStatus(conn_pg(c), "server_encoding");

	if (encoding && !strcmp(encoding, "UTF8"))
		return 0;
	return err_set(e, STRAND_EINVAL, "database \"%s\" has the encoding %s, strandd needs UTF8: restore a"
		       " dump of it into a database made with CREATE DATABASE ... TEMPLATE template0 ENCODING"
		       " 'UTF8'", PQdb(conn_pg(c)), encoding ? encoding : "(unknown)");
}

int resolve_schema(struct conn *c, struct err *e)
{
	PGresult *res;
	int ret = check_encoding(c, e);

	if (ret)
		return ret;
	ret = conn_query(c, "SELECT pg_catalog.max(version)::text FROM strandd.version", 0, NULL,
			 soon(), &res, e);

	if (ret == STRAND_ESQL && refused_right(e))
		return no_service(c, e);
	if (ret == STRAND_ESQL)
		return err_set(e, STRAND_EINVAL, "database \"%s\" is not prepared for strandd (%s);"
			       " run: strandctl init", PQdb(conn_pg(c)), e->text);
	if (ret)
		return ret;
	if (strcmp(PQgetvalue(res, 0, 0), SCHEMA_VERSION))
		ret = err_set(e, STRAND_EINVAL, "database \"%s\" has strandd's schema in version %s,"
			      " this program needs " SCHEMA_VERSION "; run: strandctl init",
			      PQdb(conn_pg(c)), PQgetvalue(res, 0, 0));
	PQclear(res);
	return ret;
}

struct table {
	char *name;	/* quoted, qualified */
	char *receipts, *routes;	/* NULL when it is no receiver */
};

static void table_release(struct table *t)
{
	free(t->name);
	free(t->receipts);
	free(t->routes);
}

static int resolve_table(struct table *ret, struct conn *c, const char *configured, struct err *e)
{
	const char *values[] = { configured };
	char near[300];
	PGresult *res;
	int code = conn_query(c, table_sql, 1, values, soon(), &res, e);

	if (code == STRAND_ESQL)
		return bad_name(c, configured, "table", e);
	if (code)
		return code;
	if (PQntuples(res)) {
		ret->name = strdup(PQgetvalue(res, 0, 0));
		ret->routes = PQgetisnull(res, 0, 1) ? NULL : strdup(PQgetvalue(res, 0, 1));
		ret->receipts = PQgetisnull(res, 0, 2) ? NULL : strdup(PQgetvalue(res, 0, 2));
		code = ret->name ? 0 : err_set(e, STRAND_ENOMEM, "out of memory");
	} else {
		near_names(c, near_tables_sql, NULL, near, sizeof(near));
		code = err_set(e, STRAND_EINVAL, "table \"%s\" does not exist%s", configured, near);
	}
	PQclear(res);
	return code;
}

/* Row-level security hides rows without a word: a strand would be taken for forged. */
static int check_row_security(const struct route *r, struct conn *c, struct err *e)
{
	const char *values[] = { r->source, r->receiver, r->routes, r->receipts };
	PGresult *res;
	int ret = conn_query(c, filtered_sql, 4, values, soon(), &res, e);

	if (ret)
		return ret;
	if (!PQgetisnull(res, 0, 0))
		ret = err_set(e, STRAND_EINVAL, "row-level security may hide rows of %s from user \"%s\"; run:"
			      " ALTER ROLE %s BYPASSRLS, or ALTER TABLE ... DISABLE ROW LEVEL SECURITY",
			      PQgetvalue(res, 0, 0), PQuser(conn_pg(c)), PQuser(conn_pg(c)));
	PQclear(res);
	return ret;
}

static int resolve_number(struct route *r, struct conn *c, struct err *e)
{
	const char *values[] = { r->source, r->conf->tag };
	char *literal = PQescapeLiteral(conn_pg(c), r->receipts, strlen(r->receipts));
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_addf(&sql, route_sql, literal ? literal : "", r->routes);
	PQfreemem(literal);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: conn_query(c, sql.data, 2, values, soon(), &res, e);
	buf_release(&sql);
	if (ret == STRAND_ESQL && refused_right(e))
		return no_service(c, e);
	if (ret == STRAND_ESQL)
		return err_set(e, STRAND_EINVAL, "cannot read %s: %s", r->routes, e->text);
	if (ret)
		return ret;
	if (!PQntuples(res)) {
		PQclear(res);
		return unattached(r, c, e);
	}
	r->number = atoi(PQgetvalue(res, 0, 0));
	r->lock_seed = strtoll(PQgetvalue(res, 0, 1), NULL, 10);
	r->tag_array = strdup(PQgetvalue(res, 0, 2));
	r->where = strdup(PQgetvalue(res, 0, 3));
	r->suspended = *PQgetvalue(res, 0, 4) == 't';
	PQclear(res);
	return r->tag_array && r->where ? 0 : err_set(e, STRAND_ENOMEM, "out of memory");
}

static int resolve_handler(struct route *r, struct conn *c, struct err *e)
{
	const char *values[] = { r->conf->handler, r->source };
	char near[300];
	PGresult *res;
	int ret = conn_query(c, handler_sql, 2, values, soon(), &res, e);

	if (ret == STRAND_ESQL)
		return bad_name(c, r->conf->handler, "function", e);
	if (ret)
		return ret;
	if (!PQntuples(res)) {
		near_names(c, near_functions_sql, r->conf->handler, near, sizeof(near));
		ret = err_set(e, STRAND_EINVAL, "handler %s(%s) or %s(jsonb) does not exist%s",
			      r->conf->handler, r->source, r->conf->handler, near);
	} else if (strcmp(PQgetvalue(res, 0, 2), "t")) {
		ret = err_set(e, STRAND_EINVAL, "handler %s(%s) is %s; it must be a function that"
			      " returns jsonb or SETOF jsonb", PQgetvalue(res, 0, 0),
			      PQgetvalue(res, 0, 4), PQgetvalue(res, 0, 5));
	} else if (strcmp(PQgetvalue(res, 0, 3), "t")) {
		ret = err_set(e, STRAND_EINVAL, "user \"%s\" may not execute handler %s(%s); grant it",
			      PQuser(conn_pg(c)), PQgetvalue(res, 0, 0), PQgetvalue(res, 0, 4));
	} else {
		r->handler = strdup(PQgetvalue(res, 0, 0));
		r->handler_takes_json = !strcmp(PQgetvalue(res, 0, 1), "t");
		ret = r->handler ? 0 : err_set(e, STRAND_ENOMEM, "out of memory");
	}
	PQclear(res);
	return ret;
}

int resolve_route(struct route *r, struct conn *c, struct err *e)
{
	struct table source = { 0 }, receiver = { 0 };
	int ret = resolve_table(&source, c, r->conf->source, e);

	if (!ret)
		ret = resolve_table(&receiver, c, r->module->table, e);
	if (!ret) {
		r->source = source.name;
		r->receiver = receiver.name;
		r->receipts = receiver.receipts;
		r->routes = receiver.routes;
		source.name = receiver.name = receiver.receipts = receiver.routes = NULL;
		ret = r->routes && r->receipts ? check_row_security(r, c, e) : unattached(r, c, e);
	}
	if (!ret)
		ret = resolve_number(r, c, e);
	if (!ret)
		ret = resolve_system(r, c, soon(), e);
	if (!ret && !route_is_process(r))
		ret = resolve_handler(r, c, e);
	table_release(&source);
	table_release(&receiver);
	return ret;
}

int resolve_system(const struct route *r, struct conn *c, int64_t deadline, struct err *e)
{
	char number[16];
	const char *values[] = { number };
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	snprintf(number, sizeof(number), "%d", r->number);
	buf_init(&sql);
	buf_addf(&sql, "SELECT r.database_identifier, s.here, r.database_identifier = s.here"
		 " FROM %s r, strandd.database_identifier() s (here) WHERE r.route = $1::integer", r->routes);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: conn_query(c, sql.data, 1, values, deadline, &res, e);
	buf_release(&sql);
	if (ret == STRAND_ESQL && refused_right(e))
		return no_service(c, e);
	if (ret)
		return ret;
	if (!PQntuples(res))
		ret = err_set(e, STRAND_EINVAL, "route %d is gone from %s", r->number, r->routes);
	else if (strcmp(PQgetvalue(res, 0, 2), "t"))
		ret = err_set(e, STRAND_EINVAL, "%s was attached in the database %s (system"
			      " identifier/oid), this one is %s: a copy must not trade; run: strandctl adopt"
			      " --continue, --deliver or --skip", r->routes, PQgetvalue(res, 0, 0),
			      PQgetvalue(res, 0, 1));
	PQclear(res);
	return ret;
}

int resolve_instance(int64_t *ret_instance, struct conn *c, struct err *e)
{
	PGresult *res;
	int ret = conn_query(c, "SELECT pg_catalog.nextval('strandd.instance_seq')", 0, NULL, soon(),
			     &res, e);

	if (ret == STRAND_ESQL)
		return no_service(c, e);
	if (ret)
		return ret;
	*ret_instance = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
	PQclear(res);
	return 0;
}
