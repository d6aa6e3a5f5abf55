#include "libstrand/text.h"

#include <string.h>

#include "base/utf8.h"
#include "handle/json_check.h"

int text_check(const char *text, size_t len, struct json_span *ret_value, struct err *e)
{
	int ret = json_check(text, len, e);

	if (!ret && !json_scan_value((char *)text, len, ret_value))
		return err_set(e, STRAND_EINVAL, "line 1, column 1: nested too deep");
	return ret;
}

int text_check_object(const char *text, size_t len, struct err *e)
{
	struct json_span value;
	int ret = text_check(text, len, &value, e);

	if (!ret && *value.at != '{')
		return err_set(e, STRAND_EINVAL, "it is another value");
	return ret;
}

bool text_element(const char **at, const char *end, struct json_span *ret)
{
	const char *text;
	size_t len;

	if (!json_element(at, end, &text, &len))
		return false;
	*ret = (struct json_span){ (char *)text, len };
	return true;
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
