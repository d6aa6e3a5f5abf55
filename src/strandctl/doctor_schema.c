/* Schema strandd, routes, and what stands on the module tables: triggers, indexes, tags. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "pg/array.h"
#include "strandctl/doctor.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define STRANDS_READ 1000	/* the newest of each table, for their tags */
#define TAGS_SHOWN 20

int doctor_schema(struct doctor *d, struct err *e)
{
	const char *db = PQdb(conn_pg(d->ctl->conn));
	int version, ret = ctl_schema_version(d->ctl, &version, e);

	if (ret == STRAND_ESQL && !strcmp(e->sqlstate, "42501")) {
		doctor_find(d, SEVERITY_ERROR, db, "strandctl init --grant ROLE, as the owner", "%s", e->text);
		return 0;
	}
	if (ret)
		return ret;
	d->missing = !version;
	if (!version)
		doctor_find(d, SEVERITY_ERROR, db, "strandctl init", "the database is not prepared for strandd");
	else if (version > CTL_SCHEMA_VERSION)
		doctor_find(d, SEVERITY_ERROR, db, "install the newer strandd",
			    "the schema has version %d, newer than this strandctl's %d", version, CTL_SCHEMA_VERSION);
	else if (version < CTL_SCHEMA_VERSION)
		doctor_find(d, SEVERITY_ERROR, db, "strandctl init",
			    "the schema has version %d, older than this strandctl's %d", version, CTL_SCHEMA_VERSION);
	if (version != CTL_SCHEMA_VERSION)
		return 0;
	d->installed = true;
	return catalog_load(&d->catalog, d->ctl, e);
}

static void find_route(struct doctor *d, const struct attachment *a)
{
	char where[300], remedy[300];

	snprintf(where, sizeof(where), "%s from %s to %s", a->tag, a->source->name, a->receiver->name);
	if (!a->attached)
		return;
	if (!a->same_system)
		doctor_find(d, SEVERITY_ERROR, where, "strandctl adopt --continue, --deliver or --skip",
			    "it was attached in another database cluster: strandd does not serve it");
	if (a->suspended_at) {
		snprintf(remedy, sizeof(remedy), "mend its handler, then: strandctl resume %s --source %s", a->tag,
			 a->source->name);
		doctor_find(d, SEVERITY_ERROR, where, remedy, "it is suspended since %s: %s", a->suspended_at,
			    d->redact ? "(not shown)" : a->suspended_error ? a->suspended_error : "no error told");
	}
	if (a->history) {
		snprintf(remedy, sizeof(remedy), "strandctl attach --tag %s --source %s --receiver %s", a->tag,
			 a->source->name, a->receiver->name);
		doctor_find(d, SEVERITY_WARNING, where, remedy, "its history is not all in receipts: each UPDATE of an old"
			    " row looks for it");
	}
}

int doctor_routes(struct doctor *d, struct err *e)
{
	(void)e;
	for (size_t i = 0; i < d->catalog.n_routes; i++)
		find_route(d, &d->catalog.routes[i]);
	if (!d->catalog.n_routes)
		doctor_find(d, SEVERITY_WARNING, NULL, "strandctl attach", "no route is attached");
	return 0;
}

/* As strandd.write_stamps and write_announcements make them; conditions as the server
 * shows them.  Those that announce are there once a route is attached.  A trigger that
 * was altered and not dropped looks to prepare_source as if it were its own. */
static const char triggers_sql[] =
	"WITH sources AS (SELECT c.oid, c.relname, c.oid::regclass AS shown, strandd.qualified(c.oid) AS full_name, n.nspname,"
	"   EXISTS (SELECT FROM strandd.routes() r WHERE r.source = c.oid AND r.detached_at IS NULL) AS announces"
	"  FROM strandd.sources s JOIN pg_class c ON c.oid = s.source JOIN pg_namespace n ON n.oid = c.relnamespace),"
	" wanted AS (SELECT s.*, format(w.pattern, s.relname) AS name, to_regprocedure(CASE w.called WHEN 'strandd.stamp_strand'"
	"    THEN 'strandd.stamp_strand()' ELSE format('%I.%I()', s.nspname, format(w.called, s.relname)) END) AS called,"
	"   w.event, w.condition, w.enabled"
	"  FROM sources s, (VALUES"
	"   ('%s_notify', 'notify_from_%s', 'AFTER INSERT', NULL, 'O'),"
	"   ('%s_notify_update', 'notify_from_%s', 'AFTER UPDATE', 'WHEN ((old.tags IS DISTINCT FROM new.tags))', 'O'),"
	"   ('zzz_%s_before_insert', 'strandd.stamp_strand', 'BEFORE INSERT', 'WHEN (((new.xact_id IS DISTINCT FROM"
	" pg_current_xact_id()) OR (new.tagged_at IS DISTINCT FROM now())))', 'A'),"
	"   ('zzz_%s_before_update', 'keep_tags_of_%s', 'BEFORE UPDATE', 'WHEN (((old.tags IS DISTINCT FROM new.tags) OR"
	" (old.xact_id IS DISTINCT FROM new.xact_id) OR (old.tagged_at IS DISTINCT FROM new.tagged_at) OR"
	" (old.id IS DISTINCT FROM new.id)))', 'A')) w (pattern, called, event, condition, enabled)"
	"  WHERE s.announces OR w.enabled = 'A')"
	" SELECT w.shown::text, format('trigger %I %s: %s', w.name, f.fault, CASE w.enabled WHEN 'O' THEN"
	"   'what is written is not announced as it should be, and waits for a scan'"
	"   ELSE 'strands can be lost to the scan, or lose a tag that is unread' END),"
	"  CASE WHEN f.altered THEN format('DROP TRIGGER %I ON %s; ', w.name, w.full_name) ELSE '' END"
	"   || format('SELECT strandd.prepare_source(%L)', w.full_name)"
	"  FROM wanted w LEFT JOIN pg_trigger g ON g.tgrelid = w.oid AND g.tgname = w.name AND NOT g.tgisinternal,"
	"  LATERAL (SELECT CASE WHEN g.oid IS NULL THEN 'is missing, or has the name of a table that was renamed'"
	"    WHEN g.tgenabled = 'D' THEN 'is disabled' WHEN g.tgenabled <> w.enabled THEN 'fires in other sessions than it should'"
	"    WHEN g.tgfoid IS DISTINCT FROM w.called THEN 'calls another function'"
	"    WHEN position(' ' || w.event || ' ON ' IN pg_get_triggerdef(g.oid)) = 0"
	"      OR coalesce(position(w.condition IN pg_get_triggerdef(g.oid)) = 0, position(' WHEN (' IN pg_get_triggerdef(g.oid)) > 0)"
	"    THEN 'was altered' END AS fault, g.oid IS NOT NULL AS altered) f WHERE f.fault IS NOT NULL";

/* What else runs before a row is written, and could undo it. */
static const char others_sql[] =
	"SELECT s.source::text, format('trigger %I runs after strandd''s own and could undo what it does', g.tgname),"
	"  'give it a name that sorts before zzz'"
	"  FROM strandd.sources s JOIN pg_class c ON c.oid = s.source JOIN pg_trigger g ON g.tgrelid = c.oid"
	"  WHERE NOT g.tgisinternal AND g.tgtype & 3 = 3 AND g.tgenabled <> 'D'"
	"    AND g.tgname::text COLLATE \"C\" > format('zzz_%s_before_update', c.relname)"
	" UNION ALL SELECT s.source::text, format('rule %I acts instead of a write: what it swallows fires no trigger', w.rulename),"
	"  format('DROP RULE %I ON %s', w.rulename, strandd.qualified(s.source))"
	"  FROM strandd.sources s JOIN pg_rewrite w ON w.ev_class = s.source WHERE w.is_instead AND w.ev_type IN ('2', '3')";

int doctor_triggers(struct doctor *d, struct err *e)
{
	int ret = doctor_find_rows(d, SEVERITY_ERROR, triggers_sql, 0, NULL, e);

	return ret ? ret : doctor_find_rows(d, SEVERITY_WARNING, others_sql, 0, NULL, e);
}

/* Only the owner's role may have the bodies made that they should have. */
static const char functions_sql[] =
	"SELECT s.source::text, format('the body of %s() is not what strandd writes', w.name),"
	"  format('SELECT strandd.prepare_source(%L)', strandd.qualified(s.source))"
	"  FROM strandd.sources s JOIN pg_class c ON c.oid = s.source,"
	"  LATERAL (VALUES (strandd.sibling(s.source, 'keep_tags_of_%s'), strandd.keep_text(s.source), true),"
	"    (strandd.sibling(s.source, 'notify_from_%s'), strandd.notify_text(s.source),"
	"     EXISTS (SELECT FROM strandd.routes() r WHERE r.source = s.source AND r.detached_at IS NULL))) w (name, body, ours)"
	"  WHERE w.ours AND (SELECT p.prosrc FROM pg_proc p WHERE p.oid = to_regprocedure(w.name || '()')) <> w.body";

int doctor_functions(struct doctor *d, struct err *e)
{
	return doctor_find_rows(d, SEVERITY_ERROR, functions_sql, 0, NULL, e);
}

#define TABLES_SQL "(SELECT s.source FROM strandd.sources s UNION SELECT r.receipts FROM strandd.receivers r) t (rel)"

static const char invalid_sql[] =
	"SELECT t.rel::text, format('index %s is not valid: it costs its upkeep and serves nobody', i.indexrelid::regclass),"
	"  format('strandctl init, or DROP INDEX CONCURRENTLY %s', i.indexrelid::regclass)"
	"  FROM " TABLES_SQL " JOIN pg_index i ON i.indrelid = t.rel WHERE NOT (i.indisvalid AND i.indisready)";

static const char missing_sql[] =
	"SELECT t.rel::text, CASE WHEN x.statement LIKE 'ALTER INDEX%' THEN 'an index has another setting than it should'"
	"   ELSE 'an index is missing, not valid, or not the one that strandd''s statements need' END, x.statement"
	"  FROM " TABLES_SQL ", LATERAL strandd.index_statements(t.rel) x (statement)"
	"  WHERE x.statement LIKE 'CREATE INDEX%' OR x.statement LIKE 'ALTER INDEX%'";

int doctor_indexes(struct doctor *d, struct err *e)
{
	int ret = doctor_find_rows(d, SEVERITY_ERROR, invalid_sql, 0, NULL, e);

	return ret ? ret : doctor_find_rows(d, SEVERITY_ERROR, missing_sql, 0, NULL, e);
}

/* Read through the index on xact_id, or not at all. */
static const char tags_sql[] =
	"SELECT x.tag, count(*) FROM (SELECT s.tags FROM %s s"
	"   WHERE EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
	"    WHERE i.indrelid = $1::oid AND i.indisvalid AND i.indpred IS NULL AND a.attname = 'xact_id')"
	"   ORDER BY s.xact_id DESC LIMIT " TEXT(STRANDS_READ) ") s,"
	"  LATERAL (SELECT DISTINCT e #>> '{}' FROM jsonb_array_elements(CASE jsonb_typeof(s.tags) WHEN 'array' THEN s.tags END) e"
	"   WHERE jsonb_typeof(e) = 'string') x (tag)"
	" WHERE x.tag ~ '^[^:[:space:]]+:[^:[:space:]]+$' AND x.tag !~ '^(priority|timeout|original_strand|error):'"
	"  AND x.tag <> ALL ($2::text[]) GROUP BY x.tag ORDER BY 2 DESC, 1 LIMIT " TEXT(TAGS_SHOWN);

/* The tags that routes have, detached ones too: those are some operator's will. */
static void routed_tags(const struct doctor *d, const struct module_table *t, struct buf *out)
{
	array_begin(out);
	for (size_t i = 0; i < d->catalog.n_routes; i++)
		if (d->catalog.routes[i].source == t)
			array_item(out, d->catalog.routes[i].tag, strlen(d->catalog.routes[i].tag));
	array_end(out);
}

static void find_tag(struct doctor *d, const struct module_table *t, const char *tag, const char *count)
{
	const char *near = catalog_near_tag(&d->catalog, tag, t->oid);
	char remedy[400];

	if (d->redact)
		tag = "a tag (not shown)";
	snprintf(remedy, sizeof(remedy), "%s%s%sstrandctl attach --tag %.60s --source %s --receiver TABLE",
		 near ? "did you mean " : "", near ? near : "", near ? "?  Otherwise: " : "", d->redact ? "TAG" : tag, t->name);
	doctor_find(d, SEVERITY_WARNING, t->name, remedy, "%s of the newest " TEXT(STRANDS_READ) " strands %s %.200s,"
		    " which no route leads from here: nobody gets them", count, strcmp(count, "1") ? "bear" : "bears", tag);
}

static int look_at_tags(struct doctor *d, const struct module_table *t, struct err *e)
{
	struct buf sql = BUF_INIT, routed = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_init(&routed);
	buf_addf(&sql, tags_sql, t->sql);
	routed_tags(d, t, &routed);
	ret = sql.failed || routed.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: doctor_query(d, sql.data, 2, (const char *[]){ t->oid, routed.data }, &res, e);
	buf_release(&sql);
	buf_release(&routed);
	if (ret)
		return ret;
	for (int row = 0; row < PQntuples(res); row++)
		find_tag(d, t, PQgetvalue(res, row, 0), PQgetvalue(res, row, 1));
	PQclear(res);
	return 0;
}

int doctor_tags(struct doctor *d, struct err *e)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < d->catalog.n_tables; i++)
		if (d->catalog.tables[i].is_source)
			ret = look_at_tags(d, &d->catalog.tables[i], e);
	return ret;
}
