/* What is executed for a policy: its command, behind setpriv(1).
 *
 * setpriv, of util-linux, makes the process die with strandd (--pdeathsig) and be
 * another user, which posix_spawn(3) cannot.  It stands between us and the command, so
 * a command that is not there is looked for before.
 */
#ifndef STRANDD_HANDLE_COMMAND_H
#define STRANDD_HANDLE_COMMAND_H

#include "base/err.h"
#include "handle/policy.h"

/* 0, if the command can be executed from the directory `at` (AT_FDCWD: our own) with
 * such a PATH; STRAND_ENOENT, *e says why not.  Asks the file system. */
int command_check(const char *name, int at, const char *path, struct err *e) MUST_CHECK;

/* setpriv's argument list, which borrows the policy's strings. */
struct command {
	char **argv;
	char uid[32], gid[32];
};

int command_make(struct command *c, const struct child_policy *p, const struct run_as *who) MUST_CHECK;
void command_release(struct command *c);

#endif
