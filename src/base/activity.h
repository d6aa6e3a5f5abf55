/* What each thread is doing, for people who ask (SIGUSR1).
 *
 * A thread says so before it waits: a few atomic stores into a place of its own, no
 * system call.  Who lists reads them without stopping anybody.  Threads that have not
 * begun (a library's) say nothing.
 */
#ifndef STRANDD_BASE_ACTIVITY_H
#define STRANDD_BASE_ACTIVITY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Room for four generations of 64 workers (strandd/dump.c). */
enum { ACTIVITY_THREADS = 288, ACTIVITY_ROUTE_BYTES = 64 };

/* The calling thread's place; end gives it back.  Without a free place it goes
 * unlisted. */
void activity_begin(const char *name);
void activity_end(void);

/* From now on the calling thread does `what`, a literal. */
void activity_set(const char *what);

/* ... on a route (its tag, copied): `number` of `total` strands, 0: not one by one. */
void activity_set_on(const char *what, const char *route, unsigned number, unsigned total);

struct activity {
	char thread[16];
	pid_t tid;			/* as ps -L shows it */
	const char *what;
	char route[ACTIVITY_ROUTE_BYTES];	/* "": none */
	unsigned number, total;
	int64_t since;			/* clock_now() based */
};

/* Fills up to `max`; returns how many.  Any thread. */
size_t activity_list(struct activity *ret, size_t max);

#endif
