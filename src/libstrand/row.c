#include "libstrand/row.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libstrand/text.h"

void row_init(struct strand_row *row)
{
	buf_init(&row->columns);
	buf_init(&row->tags);
	buf_init(&row->whole);
	row->fault = (struct err){ 0 };
}

void row_release(struct strand_row *row)
{
	buf_release(&row->columns);
	buf_release(&row->tags);
	buf_release(&row->whole);
}

struct strand_row *strand_row_new(void)
{
	struct strand_row *row = calloc(1, sizeof(*row));

	if (row)
		row_init(row);
	return row;
}

void strand_row_free(struct strand_row *row)
{
	if (!row)
		return;
	row_release(row);
	free(row);
}

void strand_row_clear(struct strand_row *row)
{
	buf_clear(&row->columns);
	buf_clear(&row->tags);
	row->has_tags = false;
	row->fault = (struct err){ 0 };
}

/* Up to the value. */
static int begin(struct strand_row *row, const char *column)
{
	if (row->fault.code)
		return row->fault.code;
	buf_adds(&row->columns, row->columns.len ? ", " : "{");
	if (!text_add_string(&row->columns, column))
		return err_set(&row->fault, STRAND_EINVAL, "the name of column \"%s\" is not UTF-8", column);
	buf_adds(&row->columns, ": ");
	row->has_tags |= !strcmp(column, "tags");
	return 0;
}

static int end(struct strand_row *row)
{
	return row->columns.failed ? err_set(&row->fault, STRAND_ENOMEM, "out of memory") : 0;
}

/* A value that needs no look. */
static int set(struct strand_row *row, const char *column, const char *value)
{
	int ret = begin(row, column);

	if (ret)
		return ret;
	buf_adds(&row->columns, value);
	return end(row);
}

int strand_row_set_text(struct strand_row *row, const char *column, const char *value)
{
	int ret;

	if (!value)
		return set(row, column, "null");
	ret = begin(row, column);
	if (ret)
		return ret;
	if (!text_add_string(&row->columns, value))
		return err_set(&row->fault, STRAND_EINVAL, "the text for column \"%s\" is not UTF-8", column);
	return end(row);
}

int strand_row_set_int(struct strand_row *row, const char *column, int64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, value);
	return set(row, column, text);
}

/* The shortest digits that mean this number again. */
static void print_double(char text[32], double value)
{
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, 32, "%.*g", digits, value);
		if (memcmp(&(double){ strtod(text, NULL) }, &value, sizeof(value)) == 0)
			break;
	}
}

/* The program's locale may have another decimal point, of several bytes even. */
static void mend_point(char *text)
{
	char *point = text + strspn(text, "-0123456789e+");
	size_t len = strcspn(point, "-0123456789e+");

	if (!*point)
		return;
	*point = '.';
	memmove(point + 1, point + len, strlen(point + len) + 1);
}

int strand_row_set_double(struct strand_row *row, const char *column, double value)
{
	char text[32];

	if (!isfinite(value)) {
		int ret = begin(row, column);

		return ret ? ret : err_set(&row->fault, STRAND_EINVAL, "the number for column \"%s\" is not finite: %f",
					   column, value);
	}
	print_double(text, value);
	mend_point(text);
	return set(row, column, text);
}

int strand_row_set_bool(struct strand_row *row, const char *column, int value)
{
	return set(row, column, value ? "true" : "false");
}

int strand_row_set_json(struct strand_row *row, const char *column, const char *json)
{
	struct json_span value;
	struct err e;
	int ret;

	if (!json)
		return set(row, column, "null");
	ret = begin(row, column);
	if (ret)
		return ret;
	if (text_check(json, strlen(json), &value, &e))
		return err_set(&row->fault, STRAND_EINVAL, "the value for column \"%s\" is not JSON: %s", column, e.text);
	json_line_add(&row->columns, value.at, value.len);
	return end(row);
}

int strand_row_add_tag(struct strand_row *row, const char *tag)
{
	if (row->fault.code)
		return row->fault.code;
	if (!tag)
		return err_set(&row->fault, STRAND_EINVAL, "a tag is NULL");
	if (row->tags.len)
		buf_adds(&row->tags, ", ");
	if (!text_add_string(&row->tags, tag))
		return err_set(&row->fault, STRAND_EINVAL, "the tag \"%s\" is not UTF-8", tag);
	return row->tags.failed ? err_set(&row->fault, STRAND_ENOMEM, "out of memory") : 0;
}

const char *strand_row_json(struct strand_row *row)
{
	if (!row->fault.code && row->has_tags && row->tags.len)
		err_set(&row->fault, STRAND_EINVAL, "\"tags\" are set, and a tag is added, too");
	if (row->fault.code)
		return NULL;
	buf_clear(&row->whole);
	buf_add(&row->whole, row->columns.data, row->columns.len);
	if (row->tags.len)
		buf_addf(&row->whole, "%s\"tags\": [%s]", row->columns.len ? ", " : "{", row->tags.data);
	buf_adds(&row->whole, row->whole.len ? "}" : "{}");
	if (row->whole.failed)
		err_set(&row->fault, STRAND_ENOMEM, "out of memory");
	return row->fault.code ? NULL : row->whole.data;
}

const char *row_finish(struct strand_row *row, struct err *e)
{
	const char *json = strand_row_json(row);

	if (!json)
		*e = row->fault;
	return json;
}

const char *strand_row_error(const struct strand_row *row)
{
	return row->fault.text;
}
