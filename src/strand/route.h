/* Routes: tag + source table + receiving module + handler, resolved against
 * the database.
 *
 * Built before the threads that serve it start, then only read; a reload builds
 * another one.  All strings are owned by the table.
 */
#ifndef STRANDD_STRAND_ROUTE_H
#define STRANDD_STRAND_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "conf/conf.h"
#include "pg/conn.h"

struct route {
	unsigned index;		/* place in the table; what a delivery bears */
	unsigned metric;	/* its slot in the metrics; set by who serves the table */
	const struct conf_route *conf;		/* borrowed */
	const struct conf_module *module;	/* the receiver; borrowed */
	char *channel;		/* "dm_evaluate_plan" */
	/* From the database; names are quoted and schema-qualified. */
	int number;		/* <X>_routes.route */
	char *source;		/* public.ad_strands */
	char *receiver;		/* public.dm_strands */
	char *receipts;		/* public.dm_receipts */
	char *routes;		/* public.dm_routes */
	char *handler;		/* trading.evaluate_plan; NULL: a process */
	bool handler_takes_json;	/* f(strand jsonb), not f(strand <row type>) */
	char *where;		/* what its row in `routes`, called l, must still be */
	char *tag_array;	/* '["dm:evaluate_plan"]', an SQL literal */
	int64_t lock_seed;	/* advisory locks of this route's strands are hashed with it */
	bool suspended;		/* when it was looked up */
	int64_t max_batch_bytes;	/* of the strands of one transaction */
	char timeout[32];	/* seconds after which a strand expires if it does not say, an SQL numeric or NULL */
};

/* Is its handler a process? */
static inline bool route_is_process(const struct route *r)
{
	return r->conf->command != NULL;
}

struct route_table {
	size_t n;
	struct route *routes;
	int64_t instance;	/* the table's number in the receipts, never used again: each reload takes another */
	char instance_text[24];	/* the same, as statements are given it */
};

/* Looks every configured route up.  STRAND_EINVAL: a table, function or
 * attachment is missing or of the wrong kind; the text names it, near names
 * and the remedy, and every fault is logged, not only the first.  STRAND_ECONN,
 * STRAND_ESTOPPED as conn_query. */
int route_table_resolve(struct route_table **ret_table, const struct conf *conf,
			struct conn *c, struct err *e) MUST_CHECK;
/* Looks this one up, for a client that serves nothing: its instance is 0, no service's,
 * and nothing is written.  Errors as above, but none is logged. */
int route_table_resolve_one(struct route_table **ret_table, const struct conf *conf, const struct conf_route *route,
			    struct conn *c, struct err *e) MUST_CHECK;
void route_table_free(struct route_table *t);

/* A connection to the routes' database, which the caller closes: conn_open, and then,
 * within the same deadline, is this still the database that the routes were attached in?
 * STRAND_EINVAL with the remedy when it is not; else as conn_open and conn_query. */
int route_table_connect(const struct route_table *t, struct conn **ret_conn, const struct conn_target *target,
			int64_t deadline, int stop_fd, struct err *e) MUST_CHECK;

#endif
