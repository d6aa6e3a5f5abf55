/* What a generation is made of: started in order by the main thread, stopped by it
 * in reverse.  A part's stop takes one that never started, and is called when no
 * thread of the generation runs any more: it joins without waiting.
 * A new part is a row in generation.c's table, its fields in struct generation and
 * its two functions here; a thread is started by start_member.
 */
#ifndef STRANDD_STRANDD_PARTS_H
#define STRANDD_STRANDD_PARTS_H

#include "strandd/generation.h"

/* Starts a thread of the generation; its body returns when x->stop says so. */
int start_member(struct generation *g, struct member *m, const char *name, thread_fn *fn, void *arg,
		 struct err *e) MUST_CHECK;

int start_crews(struct generation *g, struct err *e) MUST_CHECK;	/* without their threads */
void stop_crews(struct generation *g);
int start_scanner(struct generation *g, struct err *e) MUST_CHECK;
void stop_scanner(struct generation *g);
int start_marker(struct generation *g, struct err *e) MUST_CHECK;
void stop_marker(struct generation *g);
int start_cleaner(struct generation *g, struct err *e) MUST_CHECK;
void stop_cleaner(struct generation *g);
int start_keeper(struct generation *g, struct err *e) MUST_CHECK;
void stop_keeper(struct generation *g);
int start_children(struct generation *g, struct err *e) MUST_CHECK;	/* the handlers' processes */
void stop_children(struct generation *g);
int start_workers(struct generation *g, struct err *e) MUST_CHECK;
void stop_workers(struct generation *g);
int start_listener(struct generation *g, struct err *e) MUST_CHECK;
void stop_listener(struct generation *g);

#endif
