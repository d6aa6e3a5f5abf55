/* SQLSTATEs of our own, in receipts and in the log: what a handler did that no SQLSTATE
 * of PostgreSQL says.  Constant data; any thread.
 */
#ifndef STRANDD_STRAND_SQLSTATE_H
#define STRANDD_STRAND_SQLSTATE_H

/* A handler that raises or answers this is not tried again, whatever the policy. */
#define SQLSTATE_FINAL "SRFIN"

/* What a handler did with a strand that may run once only is not known. */
#define SQLSTATE_UNKNOWN "SROUT"

/* A process: it answered "error"; exited, or was killed by a signal; gave no answer in
 * time; wrote what is no answer, or went over a limit; cannot be started. */
#define SQLSTATE_HANDLER_ERROR "SRERR"
#define SQLSTATE_HANDLER_DIED "SRDIE"
#define SQLSTATE_HANDLER_SILENT "SRDUE"
#define SQLSTATE_HANDLER_GARBAGE "SRGAR"
#define SQLSTATE_HANDLER_START "SRNEW"

#endif
