/* The gate of one route: who may work on it now.
 *
 * It lets in as many workers as the route's cap allows, and none, except by
 * gate_enter_closed, while it is closed.
 *
 * gate_init: nobody else inside.  All others: any thread.  Loads and stores that
 * the waking protocol rests on (see the top of queue.c) are sequentially consistent.
 */
#ifndef STRANDD_QUEUE_GATE_H
#define STRANDD_QUEUE_GATE_H

#include <stdatomic.h>
#include <stdbool.h>

struct gate {
	unsigned cap;			/* workers at once; 0: no bound */
	_Atomic unsigned inside;	/* workers that entered and have not left */
	_Atomic bool closed;
};

void gate_init(struct gate *g, unsigned cap);

bool gate_passable(const struct gate *g);	/* open, and below the cap */
bool gate_closed(const struct gate *g);

/* Counts the caller in, if the gate is passable; a gate that is closed at this
 * very moment may still let it in. */
bool gate_enter(struct gate *g);
bool gate_enter_closed(struct gate *g);	/* the same whether it is closed or not */
void gate_leave(struct gate *g);

void gate_close(struct gate *g);
void gate_open(struct gate *g);

#endif
