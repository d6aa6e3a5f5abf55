/* One wrapper for every thread that we start.
 *
 * The new thread has all signals blocked, bears its name (15 bytes, shown by
 * ps -L and gdb), and is a registered liburcu reader for its whole life.
 * Whether it still renews its waits is watched: see base/beat.h.
 * thread_start and thread_join are called by the owner of the struct.
 */
#ifndef STRANDD_BASE_THREAD_H
#define STRANDD_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>

#include "base/err.h"

typedef void thread_fn(void *arg);

struct thread {
	pthread_t id;
	bool started;
	char name[16];
	thread_fn *fn;	/* borrows arg until joined */
	void *arg;
};

int thread_start(struct thread *t, const char *name, thread_fn *fn, void *arg, struct err *e) MUST_CHECK;
void thread_join(struct thread *t);	/* nothing if never started */
const char *thread_name(void);		/* the calling thread's name; "main" for the first */

#endif
