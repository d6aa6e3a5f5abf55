/* How far a generation's threads are, as they tell the main thread.
 *
 * The setters may be called by any thread, as often as it likes; a change signals
 * `news`, which the main thread waits for.  init, release and the rest: main thread.
 * The mutex is a leaf, and not on a strand's way: who is in trouble takes it.
 */
#ifndef STRANDD_STRAND_PROGRESS_H
#define STRANDD_STRAND_PROGRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/event.h"

/* Whose trouble it is. */
enum progress_who { PROGRESS_LISTENER, PROGRESS_SCANNER, PROGRESS_WHO };

struct progress {
	struct event *news;		/* borrowed */
	_Atomic bool scanning;		/* LISTEN is in force and the first pass has begun */
	_Atomic bool caught_up;		/* the first pass over every route is over */
	pthread_mutex_t lock;		/* of `trouble` */
	char trouble[PROGRESS_WHO][256];	/* why there is no connection; "" while there is one */
};

void progress_init(struct progress *p, struct event *news);
void progress_release(struct progress *p);

void progress_scanning(struct progress *p);
void progress_caught_up(struct progress *p);
void progress_trouble(struct progress *p, enum progress_who who, const char *why);	/* NULL: it is over */

bool progress_is_scanning(const struct progress *p);
bool progress_is_caught_up(const struct progress *p);
/* False when nobody is in trouble; else why, cut to `size`. */
bool progress_in_trouble(struct progress *p, char *ret_why, size_t size);

#endif
