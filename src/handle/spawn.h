/* Starting one process of a policy.  Private to src/handle; the supervisor's thread. */
#ifndef STRANDD_HANDLE_SPAWN_H
#define STRANDD_HANDLE_SPAWN_H

#include <sys/types.h>

#include "base/err.h"
#include "handle/child.h"

/* Our side of it.  The pipes' ends are non-blocking, and all descriptors are closed
 * in whatever we start. */
struct process {
	pid_t pid;		/* its process group, too; 0: none */
	int pidfd;		/* readable when it has died; -1: none */
	int in, out, err;	/* its stdin (to be written), stdout and stderr (to be read); -1: none */
};

#define PROCESS_NONE { .pidfd = -1, .in = -1, .out = -1, .err = -1 }

/* In a process group of its own, with no signal blocked, ignored or caught, and no
 * descriptor but the three pipes.  On failure *e says why, to be put behind
 * "cannot be started:". */
int process_spawn(struct process *ret, const struct child_policy *p, struct err *e) MUST_CHECK;

/* Closes what is open; the process must be reaped. */
void process_release(struct process *p);

void close_fd(int *fd);		/* which is then -1 */

#endif
