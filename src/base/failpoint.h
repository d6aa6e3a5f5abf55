/* Named places where a test build can be made to fail for real.
 *
 * In a build configured with --enable-failpoints, FAILPOINT("name") looks the
 * name up in the environment variable STRANDD_FAILPOINTS, read once at start:
 *     name=action[:argument][@n];name=...
 * actions: kill (SIGKILL to itself), stop (SIGSTOP to itself), sleep:<ms>,
 * hold:<file> (wait, in 10 ms steps, while the file exists), error (FAILPOINT
 * yields true and the caller acts as if the step failed).  `@n` acts at the
 * n-th passage only; without it at each.
 * In every other build the macro is the constant false.
 * Any thread.
 */
#ifndef STRANDD_BASE_FAILPOINT_H
#define STRANDD_BASE_FAILPOINT_H

#include <stdbool.h>

#ifdef ENABLE_FAILPOINTS
bool failpoint_hit(const char *name);
#define FAILPOINT(name) failpoint_hit(name)
#else
#define FAILPOINT(name) false
#endif

#endif
