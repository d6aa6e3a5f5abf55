/* What the role is, and what strandd needs it to be able to do. */
#include <stdio.h>
#include <stdlib.h>

#include "strandctl/doctor.h"

/* Threads of strandd with a connection of their own beside the workers. */
#define CONNECTIONS_BESIDE 6

static const char role_sql[] =
	"SELECT r.rolsuper, r.rolconnlimit FROM pg_roles r WHERE r.rolname = current_user";

int doctor_role(struct doctor *d, struct err *e)
{
	const char *user = PQuser(conn_pg(d->ctl->conn));
	int limit, need = d->ctl->conf->workers_threads + CONNECTIONS_BESIDE;
	PGresult *res;
	int ret = doctor_query(d, role_sql, 0, NULL, &res, e);

	if (ret)
		return ret;
	limit = atoi(PQgetvalue(res, 0, 1));
	if (*PQgetvalue(res, 0, 0) == 't')
		doctor_find(d, SEVERITY_WARNING, user, "let strandd connect as an ordinary role: strandctl init --grant ROLE",
			    "the role is a superuser, and so is every SQL handler that strandd calls as it");
	if (limit >= 0 && limit < need)
		doctor_find(d, SEVERITY_WARNING, user, "ALTER ROLE ... CONNECTION LIMIT -1",
			    "the role may have %d connections, strandd wants about %d", limit, need);
	PQclear(res);
	return 0;
}

/* What strandd.grant_service gives and, with $1, some of what grant_cleanup gives.  Where
 * schema strandd itself is closed nothing else can be asked. */
static const char privileges_sql[] =
	"WITH tables (oid, privilege) AS ("
	"  SELECT s.source::oid, 'SELECT' FROM strandd.sources s"
	"  UNION SELECT t.rel::oid, p.privilege FROM strandd.receivers r, unnest(ARRAY[r.receiver, r.receipts]) t (rel),"
	"    unnest('{SELECT,INSERT,UPDATE}'::text[]) p (privilege)"
	"  UNION SELECT r.routes::oid, p.privilege FROM strandd.receivers r, unnest('{SELECT,UPDATE}'::text[]) p (privilege)"
	"  UNION SELECT t.rel::oid, 'DELETE' FROM (SELECT s.source FROM strandd.sources s UNION SELECT u.rel"
	"    FROM strandd.receivers r, unnest(ARRAY[r.receiver, r.receipts]) u (rel)) t (rel) WHERE $1::boolean)"
	" SELECT t.oid::regclass::text, 'lacks ' || t.privilege FROM tables t JOIN pg_class c ON c.oid = t.oid"
	"  WHERE NOT has_table_privilege(t.oid, t.privilege)"
	" UNION ALL SELECT s.source::text, format('lacks UPDATE of its column %s', a.attname) FROM strandd.sources s"
	"  JOIN pg_attribute a ON a.attrelid = s.source AND a.attname IN ('tags', 'updated_at') AND NOT a.attisdropped"
	"  WHERE NOT has_column_privilege(a.attrelid, a.attnum, 'UPDATE')"
	" UNION ALL SELECT n.nspname, 'lacks USAGE of the schema' FROM (SELECT DISTINCT c.relnamespace FROM tables t"
	"    JOIN pg_class c ON c.oid = t.oid) x JOIN pg_namespace n ON n.oid = x.relnamespace"
	"  WHERE NOT has_schema_privilege(n.oid, 'USAGE')"
	" UNION ALL SELECT 'strandd.instance_seq', 'lacks USAGE' WHERE NOT has_sequence_privilege('strandd.instance_seq', 'USAGE')"
	" UNION ALL SELECT p.oid::regprocedure::text, 'lacks EXECUTE' FROM pg_proc p"
	"  WHERE p.pronamespace = 'strandd'::regnamespace AND NOT has_function_privilege(p.oid, 'EXECUTE')"
	"    AND p.proname IN ('receipt_key', 'lock_seed', 'channel', 'new_id', 'unrouted_tags', 'qualified', 'prefix',"
	"     'routes', 'database_identifier', 'refuse_reply', 'update_strand', 'tags_after_update', 'timeouts', 'long_id',"
	"     'lost_claim')";

static const char row_security_sql[] =
	"SELECT t.rel::text, 'row security hides rows from this role', format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY,"
	" or a policy that lets it see all', t.rel) FROM (SELECT s.source FROM strandd.sources s UNION SELECT u.rel"
	"  FROM strandd.receivers r, unnest(ARRAY[r.receiver, r.receipts, r.routes]) u (rel)) t (rel)"
	"  JOIN pg_class c ON c.oid = t.rel WHERE row_security_active(c.oid)";

int doctor_privileges(struct doctor *d, struct err *e)
{
	const char *values[] = { d->ctl->conf->cleanup_enabled ? "t" : "f" };
	char remedy[200];
	PGresult *res;
	int ret = doctor_query(d, privileges_sql, 1, values, &res, e);

	if (ret)
		return ret;
	snprintf(remedy, sizeof(remedy), "strandctl init --grant%s %s, as the owner",
		 d->ctl->conf->cleanup_enabled ? "-cleanup" : "", PQuser(conn_pg(d->ctl->conn)));
	for (int row = 0; row < PQntuples(res); row++)
		doctor_find(d, SEVERITY_ERROR, PQgetvalue(res, row, 0), remedy, "role %s %s",
			    PQuser(conn_pg(d->ctl->conn)), PQgetvalue(res, row, 1));
	PQclear(res);
	return doctor_find_rows(d, SEVERITY_ERROR, row_security_sql, 0, NULL, e);
}
