/* Watches, from a second connection and thread, what holds a statement up.
 *
 * A statement that waits for a lock cannot say for whom, and once it has given
 * up nobody can.  So init and its like run their statements under this watch:
 * it names the sessions in the way while the wait lasts, and shows how far a
 * CREATE INDEX has come.
 * Every function is for the main thread.  Without the second connection (a
 * server at its limit) nothing is watched and nothing fails.
 */
#ifndef STRANDD_STRANDCTL_WATCH_H
#define STRANDD_STRANDCTL_WATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "strandctl/ctl.h"

/* A row `a` of pg_stat_activity, for people: pid, user, program, state, age. */
#define WATCH_SESSION_SQL \
	"format('pid %s (%s)', a.pid, concat_ws(', '," \
	" 'user ' || a.usename, nullif(a.application_name, ''), a.state," \
	" 'transaction open for ' ||" \
	" extract(epoch FROM clock_timestamp() - a.xact_start)::bigint || ' s'))"

struct watch;

/* Watches ctl->conn, which must outlive the watch; NULL when out of memory. */
struct watch *watch_start(struct ctl *ctl);
void watch_stop(struct watch *w);	/* takes NULL */

/* Around a statement.  `patient`: it waits without a timeout, so tell the user
 * whom it waits for.  Both take NULL. */
void watch_begin(struct watch *w, bool patient);
void watch_end(struct watch *w);

/* Who was in the way of the last statement, "" if nobody was seen. */
void watch_blockers(struct watch *w, char *out, size_t size);

#endif
