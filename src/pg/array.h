/* PostgreSQL's text form of a text[] value.  Pure; any thread. */
#ifndef STRANDD_PG_ARRAY_H
#define STRANDD_PG_ARRAY_H

#include <stddef.h>

#include "base/buf.h"

/* Appends {"a","b"}: call begin, then item for each, then end. */
void array_begin(struct buf *b);
void array_item(struct buf *b, const char *text, size_t len);
void array_end(struct buf *b);

#endif
