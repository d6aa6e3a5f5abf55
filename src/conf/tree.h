/* Options as text in libconfig's form: groups, literals, bounds.
 * A tree belongs to one thread.
 */
#ifndef STRANDD_CONF_TREE_H
#define STRANDD_CONF_TREE_H

#include "base/buf.h"
#include "conf/option.h"

#define TREE_PATH_SIZE 128

/* The groups that are open at the end of `out`. */
struct tree {
	struct buf *out;
	char path[TREE_PATH_SIZE];	/* of the last option, or "" */
	int indent;			/* blanks before everything; then no empty lines */
};

/* Closes and opens groups so that the option's line may follow. */
void tree_enter(struct tree *t, const char *path);
/* Closes all. */
void tree_leave(struct tree *t);

/* How many groups are around the option, and its name in the innermost. */
int tree_depth(const char *path);
const char *tree_leaf(const char *path);

/* Adds a literal: "x", 5, true, [ "a", "b" ]. */
void literal_text(struct buf *out, const struct option *o, const char *text);	/* of a row's own text */
void literal_value(struct buf *out, const struct option *o, const void *base);	/* which must have one */

/* Adds "1 to 64 threads", "100ms to 10min", 'one of "a", "b"'; nothing where
 * everything goes. */
void bounds_text(struct buf *out, const struct option *o);

#endif
