/* Durations, sizes and decimal numbers as text: "500ms", "8MiB", "2.5".
 * Pure functions: any thread.
 *
 * Nothing is rounded and nothing wraps: what a whole number of milliseconds or
 * bytes cannot say is refused.
 */
#ifndef STRANDD_CONF_UNIT_H
#define STRANDD_CONF_UNIT_H

#include <stdint.h>

#include "base/err.h"

enum unit_fault {
	UNIT_OK,
	UNIT_SYNTAX,	/* no number at its start */
	UNIT_MISSING,	/* a number alone */
	UNIT_UNKNOWN,	/* a number and something else */
	UNIT_RANGE,	/* more than 64 bits hold */
	UNIT_INEXACT,	/* a fraction of a millisecond, byte, or too many digits */
};

/* The units that a text may end with, for messages; static storage. */
#define DURATION_UNITS "ms, s, min, h, d"
#define SIZE_UNITS "B, KiB, MiB, GiB, kB, MB, GB"

#define UNIT_TEXT_SIZE 32

/* Milliseconds of "500ms", "5s", "2min" or "2m", "1h", "7d", "1.5s".  *ret is set
 * on UNIT_OK only. */
enum unit_fault duration_parse(const char *text, int64_t *ret_ms) MUST_CHECK;
/* Bytes of "64KiB" (powers of 1024) or "1GB" (powers of 1000). */
enum unit_fault size_parse(const char *text, int64_t *ret_bytes) MUST_CHECK;
/* A number such as "2", "2.0", "1.25", without exponent. */
enum unit_fault decimal_parse(const char *text, double *ret_number) MUST_CHECK;

/* The shortest text that reads back as the same number; returns `out`.  Not
 * negative. */
const char *duration_format(int64_t ms, char out[UNIT_TEXT_SIZE]);
const char *size_format(int64_t bytes, char out[UNIT_TEXT_SIZE]);

#endif
