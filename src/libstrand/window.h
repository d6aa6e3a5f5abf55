/* The last ids that were seen, so that none is handed out twice in a row of events.
 *
 * Exact: whole ids are compared, because a hash that two strands share would lose one.
 * Bounded: the oldest go when there are too many, or too many bytes.  One thread.
 */
#ifndef STRANDD_LIBSTRAND_WINDOW_H
#define STRANDD_LIBSTRAND_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "queue/siphash.h"

struct window_entry;

struct window {
	struct siphash_key key;		/* ids are chosen by others */
	struct window_entry **buckets;	/* a power of two */
	struct window_entry *oldest, **newest_next;
	size_t n, bytes;
	size_t n_max, bytes_max;
};

/* `n_max`: a power of two.  STRAND_ENOMEM. */
int window_init(struct window *w, size_t n_max, size_t bytes_max) MUST_CHECK;
void window_release(struct window *w);		/* takes zeroed ones */

/* Remembers an id of a route.  1: it is new; 0: it is remembered already; STRAND_ENOMEM. */
int window_add(struct window *w, unsigned route, const char *id) MUST_CHECK;

/* It was not there after all: the next time it is new. */
void window_forget(struct window *w, unsigned route, const char *id);

#endif
