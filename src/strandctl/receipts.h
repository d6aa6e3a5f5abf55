/* Receipts of given strands on a route, with what one would ask about them.
 * The main thread's, as all that talks through a struct ctl.
 */
#ifndef STRANDD_STRANDCTL_RECEIPTS_H
#define STRANDD_STRANDCTL_RECEIPTS_H

#include "strandctl/catalog.h"

/* Columns of the result, in this order. */
enum receipt_column {
	RECEIPT_ID,		/* of the strand */
	RECEIPT_STATE,		/* "waiting" when there is none yet */
	RECEIPT_FINAL,
	RECEIPT_SHOWN,		/* the state for people: when a retry is due, a suspension */
	RECEIPT_ATTEMPT,
	RECEIPT_HOP_MS,		/* tagged_at to finished_at */
	RECEIPT_WAIT_MS,	/* tagged_at to started_at */
	RECEIPT_RUN_MS,		/* started_at to finished_at */
	RECEIPT_ERROR,		/* with its SQLSTATE, one line */
	RECEIPT_REPLY_IDS,	/* parted by newlines */
	RECEIPT_JSON,		/* an object with all of it */
	RECEIPT_REPLIES,	/* with replies: "id kind tags", a line each */
	RECEIPT_REPLIES_JSON,	/* with replies: an array of rows */
};

/* Of the strands of a->source with these ids (a PostgreSQL array): a row for
 * each that has a receipt on the route or bears its tag.  `replies`: look the
 * reply rows up as well.  The caller PQclears the result.  Errors of ctl_query,
 * STRAND_ENOMEM. */
int receipts_query(struct ctl *ctl, const struct attachment *a, const char *ids, bool replies,
		   PGresult **ret_result, struct err *e) MUST_CHECK;

#endif
