/* Strands and how `original_strand:<id>` links them: pure memory, no database.
 *
 * A strand can have several origins (an updated one keeps the earlier), and
 * origins can form rings, so this is a graph; printing makes trees of it.
 */
#ifndef STRANDD_STRANDCTL_FOREST_H
#define STRANDD_STRANDCTL_FOREST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "strandctl/catalog.h"

#define NODE_NO_TIME INT64_MIN

struct node {
	const struct module_table *table;
	char *id, *kind, *tags_json, *created, *tagged;	/* owned; NULL where NULL */
	int64_t tagged_us;	/* microseconds since 1970, or NODE_NO_TIME */
	struct buf tags;	/* but for the origins; newlines between */
	char **origins;		/* ids, owned */
	size_t n_origins;
	struct node **children;
	size_t n_children;
	struct buf receipts;	/* "tag state ...", newlines between */
	struct buf receipts_json;
	bool asked;		/* it is the one that the user named */
	bool has_parent;	/* one of its origins is here */
	bool printed;
};

struct forest {
	struct node **nodes;	/* in the order they were found */
	size_t n;
	void *index;		/* tsearch(3) by table and id */
};

/* The node (table, id), made when new; *ret_new says so.  NULL: out of memory. */
struct node *forest_node(struct forest *f, const struct module_table *table, const char *id, bool *ret_new);

/* NULL: not there. */
struct node *forest_find(struct forest *f, const struct module_table *table, const char *id);

/* Fills a new node from a row of strands_select. */
int node_fill(struct node *n, const PGresult *res, int row) MUST_CHECK;

/* `child` comes from `parent`; nothing when that is known. */
int node_link(struct node *parent, struct node *child) MUST_CHECK;

/* Sorts everybody's children by age. */
void forest_sort(struct forest *f);

void forest_release(struct forest *f);

#endif
