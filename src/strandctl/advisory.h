/* Who holds strandd's advisory locks, and whether a strandd is there: SQL for look-ups
 * in pg_locks and pg_stat_activity, which take nothing and wait for nobody.
 */
#ifndef STRANDD_STRANDCTL_ADVISORY_H
#define STRANDD_STRANDCTL_ADVISORY_H

/* A condition on a row `l` of pg_locks: it is the advisory lock with this key, held in
 * this database. */
#define ADVISORY_HELD(key) \
	"l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted" \
	" AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())" \
	" AND (l.classid::bigint << 32 | l.objid::bigint) = " key

/* The lock that says that an instance with processes lives (src/instance/keeper.c). */
#define ADVISORY_INSTANCE(number) "hashtextextended('strandd instance ' || " number ", 6005)"

/* How many sessions of strandd there are in this database.  Names of programs are told
 * to every role. */
#define SERVICE_SESSIONS_SQL \
	"SELECT count(*) FROM pg_stat_activity a" \
	" WHERE a.datname = current_database() AND a.application_name = 'strandd'"

#endif
