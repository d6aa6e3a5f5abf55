/* A handler's process for the floor: started, spoken to and ended with no limits, no
 * supervision and no checks.  One thread's.
 */
#ifndef STRANDD_BENCH_FLOOR_PROCESS_H
#define STRANDD_BENCH_FLOOR_PROCESS_H

#include <libpq-fe.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/buf.h"

struct floor_process {
	pid_t pid;
	int in;			/* its standard input */
	FILE *out;		/* its standard output */
	char *line;
	size_t line_size;
	struct buf sent;
};

/* 0, or -1 with errno. */
int floor_process_start(struct floor_process *p, char *const *argv);
void floor_process_stop(struct floor_process *p);

/* Sends the rows of `handed` (n, state, attempt, row), all of a first attempt, and
 * appends to three arrays, already begun, the id, attempt and replies of each as it
 * answers.  -1: it said something else. */
int floor_process_exchange(struct floor_process *p, const PGresult *handed, const char *tag, const char *source,
			   struct buf *ids, struct buf *attempts, struct buf *replies);

#endif
