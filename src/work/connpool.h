/* One worker's own sessions, keyed by database (one today).
 * Opened when first needed, renewed when idle too long or too old, thrown away
 * after an error, never shared between threads.
 */
#ifndef STRANDD_WORK_CONNPOOL_H
#define STRANDD_WORK_CONNPOOL_H

#include "work/session.h"

#define CONNPOOL_DATABASES 1

struct connpool {
	const struct conn_target *targets[CONNPOOL_DATABASES];	/* borrowed */
	const struct route_table *routes;			/* borrowed */
	int64_t connect_timeout_ms, idle_timeout_ms, max_lifetime_ms;
	int stop_fd;
	struct session *sessions[CONNPOOL_DATABASES];
};

/* The usable session of `database`, which the pool keeps owning. */
int connpool_get(struct connpool *p, unsigned database, struct session **ret_session,
		 struct err *e) MUST_CHECK;

/* Closes the session of `database`, if there is one. */
void connpool_discard(struct connpool *p, unsigned database);

/* Closes what was idle for too long; called now and then by the worker. */
void connpool_tidy(struct connpool *p, int64_t now);

void connpool_release(struct connpool *p);

#endif
