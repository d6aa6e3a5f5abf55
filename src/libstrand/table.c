#include "libstrand/table.h"

#include <stdlib.h>
#include <string.h>

enum { AT_SQL, AT_PREFIX, AT_FIT, AT_MODULE, AT_CREATED, AT_TIME, AT_FILLS, AT_XACT };

/* Nothing of strandd's schema: it may not be there.  Names resolve as SQL's do. */
const char table_sql[] =
	"SELECT pg_catalog.format('%I.%I', n.nspname, c.relname),"
	" pg_catalog.upper(coalesce(substring(c.relname::pg_catalog.text FROM '^(.+)_strands$'), c.relname::pg_catalog.text)),"
	" coalesce(k.fit, false), coalesce(k.module, false), coalesce(k.created, false), coalesce(k.time, false), coalesce(k.fills, true),"
	" coalesce(k.xact, false)"
	" FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace,"
	" LATERAL (SELECT pg_catalog.count(*) FILTER (WHERE (a.attname, a.atttypid) IN (('id', 'text'::pg_catalog.regtype),"
	"    ('tags', 'jsonb'::pg_catalog.regtype))) = 2 AS fit,"
	"   pg_catalog.bool_or(a.attname = 'module') AS module,"
	"   pg_catalog.bool_or(a.attname = 'created_at') AS created,"
	"   pg_catalog.bool_or((a.attname, a.atttypid) = ('created_at', 'timestamptz'::pg_catalog.regtype)) AS time,"
	"   NOT pg_catalog.bool_or((a.attname, a.atttypid) = ('created_at', 'timestamptz'::pg_catalog.regtype)"
	"    AND NOT a.atthasdef AND a.attidentity = '') AS fills,"
	"   pg_catalog.bool_or((a.attname, a.atttypid) = ('xact_id', 'xid8'::pg_catalog.regtype)) AS xact"
	"  FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) k"
	" WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)";

static bool is_true(const PGresult *res, int column)
{
	return *PQgetvalue(res, 0, column) == 't';
}

int table_read(struct table *ret, const char *name, const PGresult *res, struct err *e)
{
	struct table t = { 0 };

	if (!PQntuples(res))
		return err_set(e, STRAND_EINVAL, "there is no table %s", name);
	if (!is_true(res, AT_FIT))
		return err_set(e, STRAND_EINVAL, "%s is no module's table: it lacks a column id of type text, or tags"
			       " of type jsonb", name);
	t.name = strdup(name);
	t.sql = strdup(PQgetvalue(res, 0, AT_SQL));
	t.prefix = strdup(PQgetvalue(res, 0, AT_PREFIX));
	t.has_module = is_true(res, AT_MODULE);
	t.has_created_at = is_true(res, AT_CREATED);
	t.tells_time = is_true(res, AT_TIME);
	t.fills_created_at = is_true(res, AT_FILLS);
	t.has_xact_id = is_true(res, AT_XACT);
	if (!t.name || !t.sql || !t.prefix) {
		table_release(&t);
		return err_set(e, STRAND_ENOMEM, "out of memory");
	}
	*ret = t;
	return 0;
}

void table_release(struct table *t)
{
	free(t->name);
	free(t->sql);
	free(t->prefix);
	*t = (struct table){ 0 };
}
