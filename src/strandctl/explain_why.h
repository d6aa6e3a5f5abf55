/* Why a strand stands where it stands on a route, from what the database says of both.
 * Pure: no database, no output.
 */
#ifndef STRANDD_STRANDCTL_EXPLAIN_WHY_H
#define STRANDD_STRANDCTL_EXPLAIN_WHY_H

#include <stdbool.h>

struct explain_facts {
	bool tagged;		/* there is a tag that names a module */
	bool routed;		/* some route has this tag and source */
	bool exists;		/* the strand's row is there */
	bool attached, adopted, suspended;	/* the route is */
	bool history;		/* it was there before the route, whose history is unfinished */
	bool below;		/* its transaction id is below the route's position */
	bool foreign;		/* its transaction id is of another cluster */
	bool timed_out;		/* by a tag of its own */
	bool held;		/* a session has its lock */
	bool turn;		/* the route is serial, and another batch has its turn */
	bool served;		/* some strandd is connected */
	bool alive;		/* the instance of a `running` receipt is */
	bool due;		/* a retry: its time has come */
	bool again;		/* it was tagged after its receipt, and not with another tag */
	bool unknown;		/* failed, and nobody knows what its handler did */
	const char *state;	/* of its receipt, NULL without one */
};

struct explain_why {
	const char *code;	/* for programs, stable */
	const char *text;
	const char *remedy;	/* NULL: nothing is to be done */
};

/* Static storage. */
const struct explain_why *explain_why(const struct explain_facts *f);

#endif
