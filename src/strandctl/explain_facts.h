/* What the database says of a strand and each of its routes, looked up by key alone.
 * The main thread's, as all that talks through a struct ctl.
 */
#ifndef STRANDD_STRANDCTL_EXPLAIN_FACTS_H
#define STRANDD_STRANDCTL_EXPLAIN_FACTS_H

#include "strandctl/catalog.h"
#include "strandctl/explain_why.h"

/* Columns of a line's facts: first what explain_why wants, then texts. */
enum explain_fact {
	FACT_EXISTS, FACT_BEARS, FACT_HISTORY, FACT_BELOW, FACT_FOREIGN, FACT_TIMED_OUT, FACT_DUE, FACT_AGAIN,
	FACT_STATE, FACT_ATTEMPT, FACT_DUE_AT, FACT_DUE_S, FACT_ERROR, FACT_SQLSTATE, FACT_HOLDER, FACT_HOLDER_PID, FACT_TURN,
	FACT_INSTANCE, FACT_INSTANCE_ALIVE, FACT_INSTANCE_HOLDER, FACT_TAGGED, FACT_STARTED, FACT_FINISHED,
	FACT_REPLIES,
};

/* A strand on a route; or a tag of it that no route has; or that it has no such tag. */
struct explain_line {
	const struct module_table *source;
	const char *tag;			/* NULL: none */
	const struct attachment *route;		/* NULL: none, and no facts */
	PGresult *facts;
};

struct explain_lines {
	struct explain_line *lines;
	size_t n;
	size_t n_tables;		/* that hold the strand */
	bool served;			/* some strandd is connected */
	struct json_object **tags;	/* of the strand, by table of the catalog */
};

/* Fills *x with what is known of the id: in the table `only`, or in any (NULL).  No line
 * is left where nothing is.  Release it in any case, before the catalog. */
int explain_find(struct explain_lines *x, struct ctl *ctl, const struct catalog *c, const char *id,
		 const struct module_table *only, struct err *e) MUST_CHECK;
void explain_release(struct explain_lines *x, const struct catalog *c);

const struct explain_why *explain_line_why(const struct explain_lines *x, const struct explain_line *line);

#endif
