/* The server, libpq and the settings that sessions begin with. */
#include <stdio.h>
#include <string.h>

#include "strandctl/doctor.h"
#include "strandctl/known_bad.h"

#define LEAST_SERVER 140000	/* CREATE OR REPLACE TRIGGER */
#define LEAST_LIBPQ 140000	/* pipelines */

/* "15.18" */
static void version_text(int version, char *out, size_t size)
{
	snprintf(out, size, "%d.%d", version / 10000, version % 10000);
}

int doctor_version(struct doctor *d, struct err *e)
{
	int version = PQserverVersion(conn_pg(d->ctl->conn));
	const struct known_bad *bad;
	size_t at = 0, before = d->n;
	char text[32];

	(void)e;
	version_text(version, text, sizeof(text));
	if (version < LEAST_SERVER)
		doctor_find(d, SEVERITY_ERROR, text, "upgrade the server", "strandd needs PostgreSQL 14 at least");
	while ((bad = known_bad_server(version, &at)))
		doctor_find(d, SEVERITY_WARNING, text, bad->remedy, "%s", bad->what);
	if (d->n == before)
		doctor_find(d, SEVERITY_OK, NULL, NULL, "%s has no fault that strandd is known to meet", text);
	return 0;
}

int doctor_libpq(struct doctor *d, struct err *e)
{
	const struct known_bad *bad;
	size_t at = 0, before = d->n;
	char text[32];

	(void)e;
	version_text(PQlibVersion(), text, sizeof(text));
	if (PQlibVersion() < LEAST_LIBPQ)
		doctor_find(d, SEVERITY_ERROR, text, "install a newer libpq5", "strandd needs libpq 14 at least");
	while ((bad = known_bad_libpq(PQlibVersion(), &at)))
		doctor_find(d, SEVERITY_WARNING, text, bad->remedy, "%s", bad->what);
	if (d->n == before)
		doctor_find(d, SEVERITY_OK, NULL, NULL, "%s has no fault that strandd is known to meet", text);
	return 0;
}

/* What a setting should be, and what another value does.  strandd pins those of which
 * `pinned` is said, and handlers run with them too; a listener or a producer that is
 * somebody else's does not. */
struct wanted {
	const char *name, *value;
	enum severity severity;
	const char *what;
};

#define PINNED "strandd's own sessions set it otherwise; "

static const struct wanted wanted[] = {
	{ "fsync", "on", SEVERITY_ERROR, "a crash can bring strands back that were handled, and lose others" },
	{ "full_page_writes", "on", SEVERITY_WARNING, "a crash can leave pages torn" },
	{ "autovacuum", "on", SEVERITY_WARNING, "dead rows stay, and every look-up gets slower" },
	{ "session_replication_role", "origin", SEVERITY_ERROR, "sessions that begin so do not announce what they write" },
	{ "transaction_timeout", "0", SEVERITY_WARNING, "it ends batches whose handlers take longer, again and again" },
	{ "old_snapshot_threshold", "-1", SEVERITY_WARNING, "a long statement can fail with \"snapshot too old\"" },
	{ "synchronous_commit", "on", SEVERITY_WARNING,
		PINNED "what a producer has written can be lost in a crash although its COMMIT was answered" },
	{ "track_activities", "on", SEVERITY_NOTE, "explain and doctor see less of other sessions" },
	{ "statement_timeout", "0", SEVERITY_NOTE, PINNED "it ends long statements of others, as attach by psql" },
	{ "idle_session_timeout", "0", SEVERITY_NOTE, PINNED "it ends other listeners, which are idle by their nature" },
	{ "idle_in_transaction_session_timeout", "0", SEVERITY_NOTE, PINNED "it ends producers that pause in a transaction" },
	{ "default_transaction_isolation", "read committed", SEVERITY_NOTE,
		PINNED "attach by psql refuses another level, and a producer must repeat what fails with 40001" },
	{ "default_transaction_read_only", "off", SEVERITY_NOTE, PINNED "producers cannot write" },
};

/* reset_val is what this session began with, before it was pinned. */
static const char settings_sql[] =
	"SELECT s.name, s.reset_val, coalesce((SELECT string_agg(concat_ws(' in ', nullif('role ' || r.rolname, 'role '),"
	"   'database ' || d.datname), ', ') FROM pg_db_role_setting x LEFT JOIN pg_roles r ON r.oid = x.setrole"
	"   LEFT JOIN pg_database d ON d.oid = x.setdatabase, unnest(x.setconfig) c (setting)"
	"  WHERE starts_with(c.setting, s.name || '=') AND (x.setrole = 0 OR r.rolname = session_user)"
	"    AND (x.setdatabase = 0 OR d.datname = current_database())), 'server')"
	" FROM pg_settings s";

/* A role that others write with. */
static const char replica_sql[] =
	"SELECT concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname),"
	" 'what it writes is not announced, and waits for a scan: it sets session_replication_role',"
	" format('ALTER ROLE %I%s RESET session_replication_role', r.rolname, ' IN DATABASE ' || quote_ident(d.datname))"
	" FROM pg_db_role_setting x JOIN pg_roles r ON r.oid = x.setrole LEFT JOIN pg_database d ON d.oid = x.setdatabase"
	" WHERE 'session_replication_role=replica' = ANY (x.setconfig) AND r.rolname <> session_user"
	"   AND (x.setdatabase = 0 OR d.datname = current_database())";

static const struct wanted *find_wanted(const char *name)
{
	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
		if (!strcmp(wanted[i].name, name))
			return &wanted[i];
	return NULL;
}

int doctor_settings(struct doctor *d, struct err *e)
{
	PGresult *res;
	int ret = doctor_query(d, settings_sql, 0, NULL, &res, e);

	if (ret)
		return ret;
	for (int row = 0; row < PQntuples(res); row++) {
		const struct wanted *w = find_wanted(PQgetvalue(res, row, 0));
		const char *value = PQgetvalue(res, row, 1);
		char remedy[200];

		if (!w || !strcmp(w->value, value))
			continue;
		/* stronger ones */
		if (!strcmp(w->name, "synchronous_commit") && !strcmp(value, "remote_apply"))
			continue;
		snprintf(remedy, sizeof(remedy), "set %s to '%s' there", w->name, w->value);
		doctor_find(d, w->severity, PQgetvalue(res, row, 2), remedy, "%s is %s: %s", w->name, value, w->what);
	}
	PQclear(res);
	return doctor_find_rows(d, SEVERITY_WARNING, replica_sql, 0, NULL, e);
}

static size_t count_at_most_once(const struct conf *c, const char **ret_tag)
{
	size_t n = 0;

	for (size_t i = c->n_routes; i-- > 0;) {
		if (c->routes[i].delivery != DELIVERY_AT_MOST_ONCE)
			continue;
		*ret_tag = c->routes[i].tag;
		n++;
	}
	return n;
}

/* Without a standby there is nothing to fail over to, but a backup. */
static const char standbys_sql[] =
	"SELECT current_setting('synchronous_standby_names') <> '', (SELECT count(*) FROM pg_stat_replication)";

int doctor_replication(struct doctor *d, struct err *e)
{
	const char *tag = NULL;
	size_t routes = count_at_most_once(d->ctl->conf, &tag);
	bool synchronous, standbys;
	PGresult *res;
	int ret = doctor_query(d, standbys_sql, 0, NULL, &res, e);

	if (ret)
		return ret;
	synchronous = *PQgetvalue(res, 0, 0) == 't';
	standbys = strcmp(PQgetvalue(res, 0, 1), "0") != 0;
	PQclear(res);
	if (!routes)
		doctor_find(d, SEVERITY_OK, NULL, NULL, "no configured route delivers at most once");
	else if (!synchronous)
		doctor_find(d, standbys ? SEVERITY_WARNING : SEVERITY_NOTE, tag,
			    "synchronous replication (synchronous_standby_names), or do not fail over to a standby or backup",
			    "%zu route%s %s at most once and replication is not synchronous: a standby that takes over may"
			    " not know of the last leases, and runs those strands again",
			    routes, routes > 1 ? "s" : "", routes > 1 ? "deliver" : "delivers");
	return 0;
}
