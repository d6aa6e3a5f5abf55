/* JSON that callers give us, looked at before it goes anywhere: whole, UTF-8, and such
 * that it can be put into one line beside other JSON.  Words that are none of JSON's
 * (NaN) within it are left to PostgreSQL, which names them.  Pure; any thread. */
#ifndef STRANDD_LIBSTRAND_TEXT_H
#define STRANDD_LIBSTRAND_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "handle/json_scan.h"
#include "handle/json_string.h"

/* *ret_value is the value without the blanks around it. */
bool text_is_json(const char *text, size_t len, struct json_span *ret_value);
bool text_is_object(const char *text, size_t len);

bool text_is_null(struct json_span value);

/* Appends a JSON string; false, and nothing appended, when `text` is not UTF-8. */
bool text_add_string(struct buf *out, const char *text);

/* Appends `["a","b"]`; false when a tag is not UTF-8. */
bool text_add_tags(struct buf *out, const char *const *tags, size_t n);

#endif
