/* publish --wait: until every published strand has a final receipt on each of
 * its routes. */
#ifndef STRANDD_STRANDCTL_AWAIT_H
#define STRANDD_STRANDCTL_AWAIT_H

#include "strandctl/row.h"
#include "strandctl/table.h"
#include "strandctl/target.h"

struct awaited;		/* one strand on one route */

struct await {
	struct ctl *ctl;
	const struct target *target;
	struct awaited *list;
	size_t n, size;
	size_t first;		/* those before it are settled */
	size_t n_settled, n_failed, n_expired;	/* n_settled counts the others too */
	struct table *table;	/* what has come; NULL until await_all */
};

/* Remembers a committed row's id and the routes that its tags take. */
int await_add(struct await *a, const struct row *row, struct err *e) MUST_CHECK;

/* STRAND_ETIMEOUT after `timeout_ms`, STRAND_ESTOPPED, or as ctl_query; a->table
 * holds in every case what has come by then. */
int await_all(struct await *a, int64_t timeout_ms, struct err *e) MUST_CHECK;

/* After an await_all that returned an error: names on standard error what has no final
 * receipt, a bounded number of it; in JSON a->table gets a row for each, its state null. */
void await_tell_unsettled(struct await *a);
void await_release(struct await *a);

#endif
