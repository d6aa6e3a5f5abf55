/* Waiting longer after each failure, never in step with others.  Pure but for
 * the random number; any thread. */
#ifndef STRANDD_BASE_BACKOFF_H
#define STRANDD_BASE_BACKOFF_H

#include <stdint.h>

/* Milliseconds to wait after `failures` (1, 2, ...) in a row: between half and
 * the whole of first * 2^(failures-1), at most `cap`. */
int64_t backoff_ms(unsigned failures, int64_t first_ms, int64_t cap_ms);

#endif
