/* Would PostgreSQL's jsonb take the text, and if not, what is wrong with it, and where?
 * (But for numbers and strings that are too large for it.)
 * Stricter than json-c, which lets NaN and control characters pass.  Pure; any thread.
 */
#ifndef STRANDD_HANDLE_JSON_CHECK_H
#define STRANDD_HANDLE_JSON_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define JSON_CHECK_DEPTH 512

/* 0: one JSON value and nothing else; STRAND_EINVAL: *e begins with the place, "line 1,
 * column 7: ".  Columns count bytes. */
int json_check(const char *text, size_t len, struct err *e) MUST_CHECK;

/* Of an array that json_check has passed: true with the next element's text, from *at,
 * which begins at the array's '['; false at its end. */
bool json_element(const char **at, const char *end, const char **ret_text, size_t *ret_len);

#endif
