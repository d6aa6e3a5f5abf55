/* Reads a strand's tree out of the database, level by level: up to its roots,
 * then everything that comes from them.
 */
#ifndef STRANDD_STRANDCTL_GROW_H
#define STRANDD_STRANDCTL_GROW_H

#include "strandctl/forest.h"

/* No tree is meant to be larger; what is cut off is said. */
#define GROW_MAX_NODES 10000

struct grow {
	struct ctl *ctl;
	const struct catalog *catalog;
	struct forest forest;
	bool cut;		/* GROW_MAX_NODES was reached */
};

/* STRAND_ENOENT when no table holds `id`. */
int grow_from(struct grow *g, const char *id, struct err *e) MUST_CHECK;

/* What happened to each strand on its routes. */
int grow_receipts(struct grow *g, struct err *e) MUST_CHECK;

#endif
