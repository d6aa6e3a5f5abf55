/* Rows that are written in one transaction.
 */
#ifndef STRANDD_STRANDCTL_BATCH_H
#define STRANDD_STRANDCTL_BATCH_H

#include <stddef.h>

#include "strandctl/row.h"
#include "strandctl/target.h"

#define BATCH_ROWS 1000
#define BATCH_BYTES (8 << 20)

struct batch {
	struct row rows[BATCH_ROWS];	/* owned */
	size_t n, bytes;
};

/* Takes the row. */
void batch_add(struct batch *b, struct row *row);
bool batch_full(const struct batch *b);
void batch_clear(struct batch *b);	/* releases the rows */

/* Writes all rows, in their order, and commits; or writes none.  STRAND_EINVAL
 * names the line, and where it can the column, that the server refused.
 * STRAND_EPROTO, STRAND_ECONN: the text says whether the outcome is known. */
int batch_write(const struct batch *b, const struct target *t, struct err *e) MUST_CHECK;

#endif
