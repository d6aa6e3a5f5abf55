/* What the statements of a route need to know of the receiving table, as SQL
 * text quoted by the server; private to src/work.  All calls: the thread that has the
 * connection.
 */
#ifndef STRANDD_WORK_COLUMNS_H
#define STRANDD_WORK_COLUMNS_H

#include "base/err.h"
#include "pg/conn.h"
#include "strand/route.h"

/* Another number after anything about the columns has changed, defaults included: a
 * column's row in the catalog is then another transaction's.  The server makes the
 * plan of an INSERT anew by itself, but not its text.  `oid` is the table, as SQL. */
#define COLUMNS_SHAPE(oid) \
	"(SELECT pg_catalog.sum(a.attnum * a.xmin::text::pg_catalog.int8)::text" \
	" FROM pg_catalog.pg_attribute a WHERE a.attrelid = " oid " AND a.attnum > 0)"

/* All strings are owned. */
struct columns {
	char *names;		/* id, module, kind: for INSERT INTO t (...) */
	char *values;		/* their expressions over handled g and record r */
	char *definitions;	/* id text, module text: how a reply is read into record r */
	char *known;		/* '{id,module,...}'::text[]: keys that a reply may have */
	char *id_prefix;	/* 'DM' */
	char *receiver_literal;	/* 'public.dm_strands'::regclass */
	char *attached;		/* ARRAY of tags attached to the receiving table, for counting the others */
	char *attached_json;	/* the same as a jsonb array */
	char *shape;		/* what COLUMNS_SHAPE was */
};

/* One statement.  Errors of conn_query, STRAND_ENOMEM; what is not a table any more is
 * STRAND_ESQL. */
int columns_read(struct columns *ret, const struct route *r, struct conn *c, int64_t deadline,
		 struct err *e) MUST_CHECK;
void columns_release(struct columns *cols);	/* takes a zeroed one */

#endif
