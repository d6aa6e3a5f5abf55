/* Whose fault a failed statement is.  Pure; any thread. */
#ifndef STRANDD_WORK_OUTCOME_H
#define STRANDD_WORK_OUTCOME_H

#include "base/err.h"

/* Which statement of a batch failed. */
enum stage {
	STAGE_PREPARE,	/* building or preparing the route's statements */
	STAGE_CLAIM,
	STAGE_HANDLE,	/* the handler's call, its replies, the receipts */
	STAGE_COMMIT,
	STAGE_COUNT
};

enum fault {
	FAULT_CONNECTION,	/* the server or the way to it; nothing is charged */
	FAULT_TRANSACTION,	/* this transaction lost a race; run it again */
	FAULT_RESOURCES,	/* memory, disk, locks, connections: later */
	FAULT_CONFIGURATION,	/* a missing table, column, function or right */
	FAULT_HANDLER,		/* the handler's own; charged to its strand */
	FAULT_COUNT
};

/* `e` as a statement of src/pg filled it; `receipts_bare` is the name of the
 * route's receipts table without schema or quotes. */
enum fault outcome_classify(enum stage stage, const struct err *e, const char *receipts_bare);

const char *outcome_name(enum fault fault);	/* "connection", ... */

#endif
