#include "libstrand/text.h"

#include <string.h>

#include "base/utf8.h"

/* Within a string they want an escape. */
static bool has_bare_control(const char *text, size_t len)
{
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		if (in_string && text[i] == '\\')
			i++;
		else if (text[i] == '"')
			in_string = !in_string;
		else if (in_string && (unsigned char)text[i] < 0x20)
			return true;
	}
	return false;
}

bool text_is_json(const char *text, size_t len, struct json_span *ret_value)
{
	return utf8_valid(text, len) && !has_bare_control(text, len) && json_scan_value((char *)text, len, ret_value);
}

bool text_is_object(const char *text, size_t len)
{
	struct json_span value;

	return text_is_json(text, len, &value) && *value.at == '{';
}

bool text_is_null(struct json_span value)
{
	return value.len == 4 && *value.at == 'n';
}

bool text_add_string(struct buf *out, const char *text)
{
	size_t len = strlen(text);

	if (!utf8_valid(text, len))
		return false;
	json_string_add(out, text, len);
	return true;
}

bool text_add_tags(struct buf *out, const char *const *tags, size_t n)
{
	bool good = true;

	buf_adds(out, "[");
	for (size_t i = 0; good && i < n; i++) {
		if (i)
			buf_adds(out, ",");
		good = text_add_string(out, tags[i]);
	}
	buf_adds(out, "]");
	return good;
}
