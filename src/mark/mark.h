/* Marking the strands of one route; private to src/mark, the marker's thread. */
#ifndef STRANDD_MARK_MARK_H
#define STRANDD_MARK_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/stop.h"
#include "pg/conn.h"
#include "strand/route.h"

#define MARK_KEY_SIZE 1024	/* a receipt's key has at most 1,000 bytes */

/* What is kept of a route between two rounds; all zero at first. */
struct mark_route {
	char *page, *mark;		/* texts, made when they are first needed */
	/* A turn goes once around all keys, and may take several rounds. */
	char after[MARK_KEY_SIZE];	/* the last one tried; "": go on at the beginning */
	char until[MARK_KEY_SIZE];	/* where the turn began; "": at the beginning */
	bool wrapped;			/* it has come to the end, and goes on at the beginning */
	bool news;			/* something came new before it began */
	bool unfinished;		/* it has met one that could not be marked */
	bool left;			/* the turn is not over, or was unfinished */
	int64_t again_at, news_at;	/* the marker's: when that, and what comes new, has its turn */
};

struct mark_result {
	size_t marked;
	bool held;	/* some could not be had: others hold their rows */
};

/* On a new connection. */
int mark_prepare(struct conn *c, int64_t deadline, struct err *e) MUST_CHECK;

/* One round over what the route has to mark; `news`: a receipt was committed since the
 * last one.  It is left when marks fail in a row, and the next one begins behind the
 * last that was tried: so what is refused keeps nothing else from its mark for good.
 * STRAND_ESQL: at least one failed; STRAND_ESTOPPED; STRAND_ECONN. */
int mark_route(struct mark_route *m, const struct route *r, bool news, struct conn *c, const struct stop *stop,
	       struct mark_result *ret_result, struct err *e) MUST_CHECK;
void mark_route_release(struct mark_route *m);

#endif
