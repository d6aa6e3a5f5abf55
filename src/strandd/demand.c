#include "strandd/demand.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/plural.h"

#define ASK_MS 5000

/* One row a limit: what it is called, how many it lets in, how many are in besides
 * this session.  reserved_connections came with PostgreSQL 16. */
static const char limits_sql[] =
	"WITH me AS (SELECT oid, rolname, rolconnlimit, rolsuper FROM pg_catalog.pg_roles"
	"            WHERE rolname = CURRENT_USER),"
	" others AS (SELECT datid, usesysid FROM pg_catalog.pg_stat_activity"
	"            WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid())"
	" SELECT 'the server', pg_catalog.current_setting('max_connections')::int"
	"   - CASE WHEN me.rolsuper THEN 0 ELSE"
	"       pg_catalog.current_setting('superuser_reserved_connections')::int"
	"       + coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0) END,"
	"   (SELECT count(*) FROM others), 'max_connections less the reserved ones' FROM me"
	" UNION ALL"
	" SELECT pg_catalog.format('database \"%s\"', d.datname), d.datconnlimit,"
	"   (SELECT count(*) FROM others o WHERE o.datid = d.oid), 'its CONNECTION LIMIT'"
	"   FROM me, pg_catalog.pg_database d"
	"  WHERE d.datname = pg_catalog.current_database() AND d.datconnlimit >= 0 AND NOT me.rolsuper"
	" UNION ALL"
	" SELECT pg_catalog.format('role \"%s\"', me.rolname), me.rolconnlimit,"
	"   (SELECT count(*) FROM others o WHERE o.usesysid = me.oid), 'its CONNECTION LIMIT'"
	"   FROM me WHERE me.rolconnlimit >= 0 AND NOT me.rolsuper";

static int listeners(const struct conf *conf)
{
	return conf->notifications_enabled ? 1 : 0;
}

static int cleaners(const struct conf *conf)
{
	return conf->cleanup_enabled ? 1 : 0;
}

static int processes(const struct conf *conf)
{
	int n = 0;

	for (size_t i = 0; i < conf->n_routes; i++)
		n += conf->routes[i].command ? conf->routes[i].processes : 0;
	return n;
}

int demand_connections(const struct conf *conf)
{
	int n = processes(conf);

	/* scanner and marker always; with processes the keeper */
	return conf->workers_threads + 2 + listeners(conf) + cleaners(conf) + (n ? n + 1 : 0);
}

static void judge(const struct conf *conf, const PGresult *res, int row)
{
	int needed = demand_connections(conf), others = needed - conf->workers_threads;
	int limit = atoi(PQgetvalue(res, row, 1)), used = atoi(PQgetvalue(res, row, 2));
	int workers = limit - used - others;
	char remedy[80] = "raise the limit";

	if (needed <= limit - used)
		return;
	if (workers > 0)
		snprintf(remedy, sizeof(remedy), "lower workers.threads to %d, or raise the limit", workers);
	log_warning("up to %d connections are needed, but %s lets in %d (%s) and %d are taken: %s", needed,
		    PQgetvalue(res, row, 0), limit, PQgetvalue(res, row, 3), used, remedy);
}

void demand_check(const struct conf *conf, struct conn *c)
{
	int needed = demand_connections(conf);
	char beside[48] = "";
	PGresult *res = NULL;
	struct err e;

	if (processes(conf))
		snprintf(beside, sizeof(beside), ", %d for processes, keeper", processes(conf));
	log_info("up to %d connections: %d worker%s, scanner, marker%s%s%s", needed, conf->workers_threads,
		 plural((unsigned)conf->workers_threads), listeners(conf) ? ", listener" : "",
		 cleaners(conf) ? ", cleaner" : "", beside);
	if (conn_query(c, limits_sql, 0, NULL, clock_after_ms(ASK_MS), &res, &e)) {
		log_debug("the server's limits on connections are not known: %s", e.text);
		return;
	}
	for (int row = 0; row < PQntuples(res); row++)
		judge(conf, res, row);
	PQclear(res);
}
