/* A row that is being written, column by column; what strand/data.h promises. */
#ifndef STRANDD_LIBSTRAND_ROW_H
#define STRANDD_LIBSTRAND_ROW_H

#include "base/err.h"
#include "base/buf.h"
#include "strand/data.h"

struct strand_row {
	struct buf columns;	/* {"a": 1, "b": 2 */
	struct buf tags;	/* "a:b", "c:d" */
	struct buf whole;	/* what strand_row_json answered last */
	bool has_tags;		/* the column "tags" was set as a whole */
	struct err fault;	/* the first; code 0: none */
};

void row_init(struct strand_row *row);
void row_release(struct strand_row *row);

/* The row's JSON, or NULL with its fault in *e. */
const char *row_finish(struct strand_row *row, struct err *e);

#endif
