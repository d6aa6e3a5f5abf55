/* Time inside the process: CLOCK_MONOTONIC in nanoseconds.
 * Deadlines are absolute values of clock_now().  Due times of strands are the
 * database's business and never come from here.  Any thread.
 */
#ifndef STRANDD_BASE_CLOCK_H
#define STRANDD_BASE_CLOCK_H

#include <stdint.h>

#define NSEC_PER_MSEC INT64_C(1000000)
#define NSEC_PER_SEC INT64_C(1000000000)

int64_t clock_now(void);

/* clock_now() plus milliseconds. */
int64_t clock_after_ms(int64_t ms);

/* Milliseconds left until `deadline`, rounded up, at least 0, for poll(2). */
int clock_left_ms(int64_t deadline);

#endif
