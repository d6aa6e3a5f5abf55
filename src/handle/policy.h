/* A policy of one's own (child.h), and what it means for a process that is started.
 * Private to src/handle; pure but for the look-ups, which say so.
 */
#ifndef STRANDD_HANDLE_POLICY_H
#define STRANDD_HANDLE_POLICY_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "handle/child.h"

/* A copy, strings too.  Released by child_policy_release, which also takes one that is
 * all zero. */
int child_policy_copy(struct child_policy *ret, const struct child_policy *from) MUST_CHECK;
void child_policy_release(struct child_policy *p);

/* Do they serve the same route? */
bool child_policy_same_route(const struct child_policy *a, const struct child_policy *b);

/* Whom a process is to be. */
struct run_as {
	bool other;		/* than strandd itself */
	uid_t uid;
	gid_t gid;
	char *name, *home, *shell;	/* NULL unless `other` */
};

/* Asks the system's user database, which may take its time. */
int run_as_find(struct run_as *ret, const char *user, struct err *e) MUST_CHECK;
void run_as_release(struct run_as *r);

/* The environment: strandd's own without what is meant for strandd alone, then the
 * user's, then the policy's; of several with one name the last.  Ends with NULL. */
struct environment {
	char **list;
	char *own[4];		/* of its entries, the ones to be freed */
};

int environment_init(struct environment *ret, const struct child_policy *p, const struct run_as *who) MUST_CHECK;
void environment_release(struct environment *v);
const char *environment_get(const struct environment *v, const char *name);	/* NULL: not there */

#endif
