/* JSON that callers give us, looked at before it goes anywhere.  Pure; any thread. */
#ifndef STRANDD_LIBSTRAND_TEXT_H
#define STRANDD_LIBSTRAND_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "handle/json_scan.h"
#include "handle/json_string.h"

/* Would PostgreSQL take it?  *ret_value is the value without the blanks around it.
 * STRAND_EINVAL, *e says what is wrong and where. */
int text_check(const char *text, size_t len, struct json_span *ret_value, struct err *e) MUST_CHECK;
int text_check_object(const char *text, size_t len, struct err *e) MUST_CHECK;

/* json_element, with a span. */
bool text_element(const char **at, const char *end, struct json_span *ret);

bool text_is_null(struct json_span value);

/* Appends a JSON string; false, and nothing appended, when `text` is not UTF-8. */
bool text_add_string(struct buf *out, const char *text);

/* Appends `["a","b"]`; false when a tag is not UTF-8. */
bool text_add_tags(struct buf *out, const char *const *tags, size_t n);

#endif
