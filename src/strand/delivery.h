/* A delivery: one strand on one route, in memory.
 *
 * It is only a hint: PostgreSQL is the queue.  Created by queue_offer, owned by
 * the queue until queue_take hands it to a worker, then by that worker until
 * queue_finish (gone) or queue_return (back into its lane).
 */
#ifndef STRANDD_STRAND_DELIVERY_H
#define STRANDD_STRAND_DELIVERY_H

#include <stdbool.h>
#include <stddef.h>

struct delivery {
	unsigned route;		/* index in the daemon's route table */
	bool high;		/* bears priority:high, as announced */
	bool in_doubt;		/* a COMMIT that held it had no answer */
	bool counted;		/* the hint that it stands for was counted as a duplicate already */
	bool alone;		/* a connection was lost while it was handled: no batch mates, behind a lease */
	bool guards;		/* its batch failed, and lost its claim before it was run with guards */
	/* Its worker's own: */
	unsigned tries;		/* how often it was put off */
	/* What costs no attempt at first, each kind with a budget of its own: how often */
	unsigned races;		/* ... its handler lost a race, lacked a resource or the like */
	unsigned suspicions;	/* ... an error of its handler may have been the route's */
	unsigned losses;	/* ... its session was lost behind a lease */
	unsigned successes;	/* of its route, when it was last suspected */
	unsigned leased;	/* the attempt that its `running` receipt charged; 0: none */
	char lost[6];		/* a connection was lost while it was handled behind that lease: the
				 * SQLSTATE to charge; "" if not */
	size_t id_len;
	char *id;		/* NUL-terminated strand id, at most 1 GB, mostly 15 bytes */
};

#endif
