/* Errors of every function in this project that can fail.
 *
 * A function returns 0 (or a count) on success and one of the negative codes of
 * include/strand/error.h, which libstrand's callers see too, on failure; its `ret_`
 * parameters are then untouched.  Text for people is made where the fault is known
 * and carried in a `struct err`, so low layers need not log.
 */
#ifndef STRANDD_BASE_ERR_H
#define STRANDD_BASE_ERR_H

#include <stdbool.h>

#include "strand/error.h"

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* Within the service only; the number is not used again in strand/error.h. */
enum { STRAND_EHANDLER = -11 };	/* a handler failed, or says that it has */

/* What went wrong, for people.  Plain data: copy freely, nothing to release. */
struct err {
	int code;		/* enum strand_error */
	char sqlstate[6];	/* five characters, or "" */
	char relation[64];	/* the table that the server's error names, or "" */
	bool nested;		/* the server's error arose in a function that the statement called */
	char text[512];		/* one line of UTF-8, no newline; never a password */
};

/* Fills *e (which may be NULL) and returns `code`, so that a caller can write
 * `return err_set(e, STRAND_EINVAL, "...")`.  Any thread. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The code's name, "STRAND_ENOMEM"; static storage. */
const char *err_name(int code);

/* Exit codes of strandd and strandctl; stable, documented in the manual. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_FAULT = 1,		/* something went wrong while working */
	EXIT_USAGE = 2,		/* bad arguments, configuration or input */
	EXIT_NOT_FOUND = 3,	/* the strand, route or table asked for is not there */
	EXIT_UNREACHABLE = 4,	/* no connection to the server */
	EXIT_INTERRUPTED = 5,	/* stopped by a signal before the work was done */
	EXIT_HANDLER = 6,	/* a handler that is tested failed its strand */
};

#endif
