/* Handling strands for strandd: a handler is one function and a main.
 *
 *     static int decide(const struct strand *plan, struct strand_replies *replies, void *arg)
 *     {
 *             struct strand_row *reply = strand_replies_row(replies);
 *
 *             strand_row_set_text(reply, "kind", "decision");
 *             strand_row_set_text(reply, "symbol", strand_column(plan, "symbol"));
 *             strand_row_add_tag(reply, "alpha:decision_feedback");
 *             return 0;
 *     }
 *
 *     int main(void)
 *     {
 *             return strand_handler_run(decide, NULL) != 0;
 *     }
 *
 * strandd starts the program and talks to it over standard input and output, a line of
 * JSON for each strand; the library hides that.  From then on the program's standard
 * input is /dev/null and its standard output is standard error, whose lines strandd
 * puts into its log: printing harms nothing.
 *
 * An answer is written when no further strand waits; else together with those after it,
 * when the first of them was begun 10 milliseconds ago: so it waits for the strand in
 * hand at most.  A process that dies takes with it what it has not written: strands that
 * it had handled are then handled again.  Who does something that cannot be undone calls
 * strand_replies_flush before it: then the answers before it are written, and its own is
 * as soon as the function returns, so that no strand is at stake for another.
 *
 * Threads: strand_handler_run is called once in a process; the function runs in its
 * caller's thread, and what it is given belongs to that thread.  For more at the same
 * time strandd starts more processes.
 */
#ifndef STRAND_HANDLER_H
#define STRAND_HANDLER_H

#include <strand/data.h>
#include <strand/error.h>

#if defined(__GNUC__)
#define STRAND_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define STRAND_PRINTF(fmt, first)
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct strand_replies;

/* Handles one strand: adds replies (or none) and returns 0; or fails with
 * strand_replies_fail, or by returning another number.  A strand that fails has no
 * replies, and is tried again as its route says.  `strand` and `replies` are borrowed
 * until it returns.  It may take as long as strand_deadline_ms says; later its process
 * is killed. */
typedef int strand_handler_fn(const struct strand *strand, struct strand_replies *replies, void *arg);

/* Adds a reply: a JSON object whose keys are columns of the module's own table, and
 * "tags"; what it leaves out strandd or the table's defaults fill.  With "update" and
 * the id of a strand of this module it changes that one instead.  The text is copied
 * and reaches PostgreSQL as it is.
 * STRAND_EINVAL: NULL, or not a JSON object that PostgreSQL would take (NaN, invalid
 * UTF-8, \u0000): the strand has then failed, whatever is done with the code. */
int strand_replies_add(struct strand_replies *replies, const char *json);

/* Adds a reply that is then filled in column by column: borrowed until the next call
 * with these replies, or the function's return.  What is wrong with it fails the
 * strand.  Never NULL. */
struct strand_row *strand_replies_row(struct strand_replies *replies);

/* Fails the strand with a text for people.  `final`: other than 0, if it is not to be
 * tried again.  Returns a negative number, for the function to return. */
int strand_replies_fail(struct strand_replies *replies, int final, const char *format, ...)
	STRAND_PRINTF(3, 4);

/* Writes the answers to the strands before this one, if they are not written yet; this
 * one's will not wait for the next strand.  STRAND_ECONN: strandd is gone; do not do what
 * was to be done.  STRAND_ESYS, STRAND_ENOMEM: nor then. */
int strand_replies_flush(struct strand_replies *replies);

/* Handles strands until strandd closes standard input (then all that has arrived is
 * handled) or SIGTERM comes (then only the strand in hand is).  0 in both cases;
 * otherwise, with a line on standard error, STRAND_EPROTO: what arrives is no request;
 * STRAND_ECONN: strandd is gone; STRAND_ESYS, STRAND_ENOMEM; STRAND_EINVAL: it was
 * called before. */
int strand_handler_run(strand_handler_fn *fn, void *arg);

/* Tells strandd that the program is ready for strands, for routes that say `ready =
 * true`: after what takes long, before strand_handler_run.  From here on standard output
 * is standard error.  STRAND_ESYS, STRAND_ECONN. */
int strand_handler_ready(void);

#ifdef __cplusplus
}
#endif

#endif
