/* The files of sql/ as they were when this program was built.
 * sql_embed.c is made at build time by embed-sql.sh.  Constant data: any thread.
 */
#ifndef STRANDD_STRANDCTL_SQL_EMBED_H
#define STRANDD_STRANDCTL_SQL_EMBED_H

#include <stddef.h>

struct sql_file {
	const char *name;	/* "10_schema.sql"; NULL ends the array */
	const char *text;	/* NUL-terminated */
	size_t len;
};

/* In the order in which they run. */
extern const struct sql_file sql_files[];

#endif
