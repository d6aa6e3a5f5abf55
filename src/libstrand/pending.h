/* Strands that were announced or found, and are still to be read.
 *
 * Two lines: urgent ones before the others.  One thread.
 */
#ifndef STRANDD_LIBSTRAND_PENDING_H
#define STRANDD_LIBSTRAND_PENDING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct pending_entry {
	struct pending_entry *next;
	unsigned route;
	char id[];
};

struct pending_line {
	struct pending_entry *first, **last_next;
};

struct pending {
	struct pending_line lines[2];	/* normal, urgent */
	size_t n, bytes;
};

void pending_init(struct pending *p);
void pending_release(struct pending *p);

int pending_add(struct pending *p, unsigned route, const char *id, bool urgent) MUST_CHECK;	/* STRAND_ENOMEM */

/* Takes the first one of a line, which the caller frees. */
struct pending_entry *pending_take(struct pending *p, bool urgent);

#endif
