/* Columns of a record in a statement's text.  Pure; any thread.
 */
#ifndef STRANDD_PG_RECORD_H
#define STRANDD_PG_RECORD_H

#include "base/buf.h"

/* Appends `, "a", "b c"` as `, r."a", r."b c"`: the fields of the record `r`.  The names
 * are quoted as libpq does. */
void record_fields(struct buf *sql, const char *columns);

#endif
