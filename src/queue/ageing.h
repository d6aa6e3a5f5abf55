/* Ageing: normal work keeps its share under endless high load.
 *
 * After `every` high batches, each taken while normal work waited and with no
 * normal batch between them, one normal batch goes first: so normal work gets at
 * least one of every + 1 batches.  `every` 0: never, normal work waits for as long
 * as there is high work.
 *
 * Any thread.  Fairness only: it orders no memory, all of it is relaxed.
 */
#ifndef STRANDD_QUEUE_AGEING_H
#define STRANDD_QUEUE_AGEING_H

#include <stdatomic.h>
#include <stdbool.h>

struct ageing {
	unsigned every, most;
	_Atomic unsigned high;	/* batches that no normal one has answered for, at most `most` */
};

/* `n_workers`: how many may take a high batch before they see that a normal one is
 * due; they are made good for. */
void ageing_init(struct ageing *a, unsigned every, unsigned n_workers);

/* Is a normal batch due?  Who is told so has to try for one: the others are not
 * told of it until ageing_restore. */
bool ageing_claim(struct ageing *a);
void ageing_restore(struct ageing *a);		/* the claimed one was not to be had */

void ageing_took_high(struct ageing *a, bool normal_waits);
void ageing_took_normal(struct ageing *a);

#endif
