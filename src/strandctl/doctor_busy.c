/* Who is there, and what holds others up. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "strandctl/advisory.h"
#include "strandctl/doctor.h"
#include "strandctl/watch.h"

int doctor_service(struct doctor *d, struct err *e)
{
	PGresult *res;
	int ret = doctor_query(d, SERVICE_SESSIONS_SQL, 0, NULL, &res, e);

	if (ret)
		return ret;
	if (!strcmp(PQgetvalue(res, 0, 0), "0"))
		doctor_find(d, SEVERITY_WARNING, PQdb(conn_pg(d->ctl->conn)), "start strandd; its log says why it ended",
			    "no strandd is connected to this database");
	else
		doctor_find(d, SEVERITY_OK, NULL, NULL, "%s sessions of strandd", PQgetvalue(res, 0, 0));
	PQclear(res);
	return 0;
}

/* Transactions of others are shown without their age to a role that may not look. */
static int say_if_blind(struct doctor *d, struct err *e)
{
	PGresult *res;
	int ret = doctor_query(d, "SELECT pg_has_role('pg_read_all_stats', 'USAGE')", 0, NULL, &res, e);

	if (ret)
		return ret;
	if (*PQgetvalue(res, 0, 0) != 't')
		doctor_find(d, SEVERITY_UNSEEN, NULL, "GRANT pg_monitor to the role, for this look",
			    "how old the transactions of other roles are");
	PQclear(res);
	return 0;
}

/* Healthy listeners keep it empty: one in a hundred are 80 MB that somebody has not read.
 * A listener reads nothing inside a transaction, of whatever database, nor while its
 * client does not read.  Which of them is the last the server tells its log alone. */
static const char queue_sql[] =
	"SELECT u >= 0.01, u >= 0.5, round(u::numeric * 100, 2),"
	" (SELECT " WATCH_SESSION_SQL " || ', database ' || a.datname FROM pg_stat_activity a"
	"   WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()"
	"     AND (a.xact_start IS NOT NULL OR a.wait_event = 'ClientWrite')"
	"   ORDER BY a.wait_event = 'ClientWrite' DESC NULLS LAST, a.xact_start LIMIT 1)"
	" FROM pg_notification_queue_usage() u";

int doctor_queue(struct doctor *d, struct err *e)
{
	PGresult *res;
	int ret = doctor_query(d, queue_sql, 0, NULL, &res, e);

	if (ret)
		return ret;
	if (*PQgetvalue(res, 0, 0) == 't') {
		const char *holder = cell(res, 0, 3);

		doctor_find(d, *PQgetvalue(res, 0, 1) == 't' ? SEVERITY_ERROR : SEVERITY_WARNING, holder ? holder : "a session not seen",
			    "end that session (pg_terminate_backend) unless it ends by itself; the server's log names it, too, from"
			    " half full on",
			    "%s %% of the notify queue are unread by the slowest listener, most likely this one: once it is full,"
			    " no COMMIT that announces succeeds", PQgetvalue(res, 0, 2));
		ret = say_if_blind(d, e);
	} else {
		doctor_find(d, SEVERITY_OK, NULL, NULL, "%s %% full", PQgetvalue(res, 0, 2));
	}
	PQclear(res);
	return ret;
}

/* $1: what counts as old, in seconds. */
static const char old_sql[] =
	"SELECT " WATCH_SESSION_SQL " || coalesce(', database ' || a.datname, ''),"
	"  format('it pins what vacuum may remove (age of its xmin: %s transactions): receipts and strands bloat', age(a.backend_xmin)),"
	"  format('end it, if it is not meant to be: SELECT pg_terminate_backend(%s)', a.pid)"
	"  FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)"
	"   AND a.backend_type IN ('client backend', 'walsender', 'background worker')"
	"   AND extract(epoch FROM clock_timestamp() - a.xact_start) >= $1::numeric"
	" UNION ALL SELECT format('prepared transaction %L of %s, in database %s', p.gid, p.owner, p.database),"
	"  format('it is open since %s, through every restart, and pins what vacuum may remove', p.prepared::timestamptz(0)),"
	"  format('in that database: COMMIT PREPARED %L, or ROLLBACK PREPARED %L', p.gid, p.gid)"
	"  FROM pg_prepared_xacts p WHERE extract(epoch FROM clock_timestamp() - p.prepared) >= $1::numeric"
	" UNION ALL SELECT format('replication slot %L', s.slot_name),"
	"  format('nobody reads it, and it pins %s', concat_ws(' and ', CASE WHEN s.xmin IS NOT NULL THEN 'dead rows' END,"
	"   CASE WHEN s.catalog_xmin IS NOT NULL THEN 'dead rows of the catalog' END, 'the write-ahead log')),"
	"  format('start its reader, or SELECT pg_drop_replication_slot(%L)', s.slot_name)"
	"  FROM pg_replication_slots s WHERE NOT s.active AND NOT s.temporary AND s.restart_lsn IS NOT NULL";

static const char oldest_sql[] =
	"SELECT " WATCH_SESSION_SQL ", age(a.backend_xmin) FROM pg_stat_activity a"
	" WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid() ORDER BY age(a.backend_xmin) DESC LIMIT 1";

int doctor_old(struct doctor *d, struct err *e)
{
	size_t before = d->n;
	char seconds[32];
	const char *values[] = { seconds };
	PGresult *res;
	int ret;

	snprintf(seconds, sizeof(seconds), "%" PRId64 ".%03" PRId64, d->old_ms / 1000, d->old_ms % 1000);
	ret = doctor_find_rows(d, SEVERITY_WARNING, old_sql, 1, values, e);
	if (!ret)
		ret = say_if_blind(d, e);
	if (ret || d->n > before)
		return ret;
	ret = doctor_query(d, oldest_sql, 0, NULL, &res, e);
	if (ret)
		return ret;
	if (PQntuples(res))
		doctor_find(d, SEVERITY_OK, PQgetvalue(res, 0, 0), NULL, "the oldest, %s transactions back", PQgetvalue(res, 0, 1));
	PQclear(res);
	return 0;
}
