/* What every stage of a strand's way needs.  Filled by the main thread before
 * threads start; each part says in its own header who may call it.
 */
#ifndef STRANDD_STRAND_CONTEXT_H
#define STRANDD_STRAND_CONTEXT_H

#include "base/stop.h"
#include "conf/conf.h"
#include "pg/conn.h"
#include "queue/queue.h"
#include "stats/metric.h"
#include "strand/progress.h"
#include "strand/route.h"
#include "strand/suspension.h"

struct scanner;
struct marker;
struct keeper;

struct context {
	const struct conf *conf;
	const struct conn_target *target;
	const struct route_table *routes;
	struct queue *const *queues;	/* by route; a crew's routes share one */
	struct metrics *metrics;
	struct stop *stop;		/* the generation's own */
	struct progress *progress;	/* what the main thread is told */
	struct suspensions *suspensions;
	struct scanner *scanner;	/* told when a retry is due */
	struct marker *marker;		/* told of receipts to be marked */
	struct keeper *keeper;		/* of leases behind which processes run */
};

/* `route` is an index in the table; METRIC_NO_ROUTE for a metric of the whole service. */
static inline void count(const struct context *x, enum metric which, unsigned route, uint64_t n)
{
	if (n)
		metric_add(x->metrics, which, x->routes->routes[route].metric, n);
}

#endif
