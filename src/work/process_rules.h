/* What a route's configuration means for its processes, and what an exchange with one
 * means for a strand's receipt.  Pure; any thread.  strandctl asks it too.
 */
#ifndef STRANDD_WORK_PROCESS_RULES_H
#define STRANDD_WORK_PROCESS_RULES_H

#include "conf/conf.h"
#include "handle/child.h"

/* Borrows the route's strings. */
struct child_policy process_policy(const struct conf_route *c);

/* What a request that FAILED, or was LOST and cost an attempt, is charged with.  True
 * when it is not to be tried again; `once`: its route delivers at most once. */
bool process_charge(const struct exchange *x, const struct request *q, bool once, struct err *ret_why);

/* The same where the process has worked, and `why` is all that we have of it. */
bool process_charge_work(const struct err *why, bool once, struct err *ret_why);

#endif
