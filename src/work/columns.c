#include "work/columns.h"

#include <stdlib.h>
#include <string.h>

/* One row.  $1 the receiving table, $2 the receiving module.
 * A column that a reply leaves out gets its default, or its domain's; of those
 * without one, `id` is made, `module` is the module's name and `created_at` the
 * present.  A reply's value is read as what its column's domain is made of: the
 * domain is checked when the row is inserted, and not of a key that is missing.
 * xact_id and tagged_at are the service's own and never in a reply. */
static const char columns_sql[] =
	"WITH RECURSIVE col AS (SELECT a.attnum, a.attname, pg_catalog.quote_ident(a.attname) AS name,"
	"   a.atttypid, a.atttypmod, coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid),"
	"     pg_catalog.pg_get_expr(t.typdefaultbin, 0)) AS def"
	"  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
	"   LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
	"  WHERE a.attrelid = $1::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped"
	"   AND a.attgenerated = '' AND a.attidentity = '' AND a.attname NOT IN ('xact_id', 'tagged_at')),"
	" base (attnum, typid, typmod) AS (SELECT c.attnum, c.atttypid, c.atttypmod FROM col c"
	"  UNION ALL SELECT b.attnum, t.typbasetype, t.typtypmod"
	"   FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typid AND t.typtype = 'd'),"
	" read AS (SELECT c.attnum, c.name || ' ' || pg_catalog.format_type(b.typid, b.typmod) AS expr"
	"  FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typid AND t.typtype <> 'd'"
	"   JOIN col c ON c.attnum = b.attnum),"
	" val AS (SELECT c.attnum, CASE c.attname WHEN 'id' THEN 'g.reply_id'"
	"   WHEN 'tags' THEN $$coalesce(nullif(g.reply -> 'tags', 'null'), '[]') || CASE WHEN"
	" coalesce((g.reply -> 'tags') OPERATOR(pg_catalog.@>) pg_catalog.jsonb_build_array('original_strand:' || g.id), false)"
	" THEN '[]' ELSE pg_catalog.jsonb_build_array('original_strand:' || g.id) END$$"
	"   ELSE CASE WHEN coalesce(c.def, f.fill) IS NULL THEN 'r.' || c.name"
	"     ELSE pg_catalog.format('CASE WHEN g.reply ? %L THEN r.%s ELSE %s END', c.attname, c.name,"
	"       coalesce(c.def, f.fill)) END END AS expr"
	"  FROM col c, LATERAL (SELECT CASE c.attname WHEN 'module' THEN pg_catalog.quote_literal($2)"
	"    WHEN 'created_at' THEN 'pg_catalog.now()' END AS fill) f)"
	" SELECT (SELECT pg_catalog.string_agg(c.name, ', ' ORDER BY c.attnum) FROM col c),"
	"  (SELECT pg_catalog.string_agg(v.expr, ', ' ORDER BY v.attnum) FROM val v),"
	"  (SELECT pg_catalog.string_agg(r.expr, ', ' ORDER BY r.attnum) FROM read r),"
	"  (SELECT pg_catalog.quote_literal(pg_catalog.array_agg(c.attname::text)::text) || '::text[]' FROM col c),"
	"  pg_catalog.quote_literal(pg_catalog.upper(strandd.prefix($1::pg_catalog.regclass))),"
	"  pg_catalog.quote_literal($1) || '::pg_catalog.regclass',"
	"  pg_catalog.quote_literal(t.tags::text) || '::text[]',"
	"  pg_catalog.quote_literal(pg_catalog.to_jsonb(t.tags)::text), " COLUMNS_SHAPE("$1::pg_catalog.regclass")
	" FROM (SELECT coalesce(pg_catalog.array_agg(DISTINCT x.tag), '{}') AS tags FROM strandd.routes() x"
	"  WHERE x.source = $1::pg_catalog.regclass AND x.detached_at IS NULL) t";

int columns_read(struct columns *ret, const struct route *r, struct conn *c, int64_t deadline,
		 struct err *e)
{
	const char *values[] = { r->receiver, r->module->name };
	struct columns cols = { 0 };
	char **fields[] = { &cols.names, &cols.values, &cols.definitions, &cols.known, &cols.id_prefix,
			    &cols.receiver_literal, &cols.attached, &cols.attached_json,
			    &cols.shape };
	PGresult *res;
	bool complete = true;
	int code = conn_query(c, columns_sql, 2, values, deadline, &res, e);

	if (code)
		return code;
	for (int i = 0; i < (int)(sizeof(fields) / sizeof(fields[0])); i++) {
		*fields[i] = strdup(PQgetvalue(res, 0, i));
		complete = complete && *fields[i];
	}
	PQclear(res);
	if (!complete) {
		columns_release(&cols);
		return err_set(e, STRAND_ENOMEM, "out of memory");
	}
	*ret = cols;
	return 0;
}

void columns_release(struct columns *cols)
{
	free(cols->names);
	free(cols->values);
	free(cols->definitions);
	free(cols->known);
	free(cols->id_prefix);
	free(cols->receiver_literal);
	free(cols->attached);
	free(cols->attached_json);
	free(cols->shape);
	*cols = (struct columns){ 0 };
}
