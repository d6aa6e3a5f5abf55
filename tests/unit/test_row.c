/* Rows that are written, strands that are read. */
#include <check.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libstrand/row.h"
#include "libstrand/view.h"

static struct strand_row *row;

static void set_up(void)
{
	row = strand_row_new();
	ck_assert_ptr_nonnull(row);
}

static void tear_down(void)
{
	strand_row_free(row);
}

static void check_fault(const char *begin)
{
	ck_assert_ptr_null(strand_row_json(row));
	ck_assert_msg(!strncmp(strand_row_error(row), begin, strlen(begin)), "%s", strand_row_error(row));
	/* it is kept, and whatever comes returns it */
	ck_assert_int_eq(strand_row_set_int(row, "later", 1), STRAND_EINVAL);
	ck_assert_int_eq(strand_row_add_tag(row, "a:b"), STRAND_EINVAL);
	strand_row_clear(row);
	ck_assert_str_eq(strand_row_json(row), "{}");
	ck_assert_str_eq(strand_row_error(row), "");
}

START_TEST(all_kinds)
{
	ck_assert_str_eq(strand_row_json(row), "{}");
	ck_assert_int_eq(strand_row_set_text(row, "a \"b\"", "it's\n\"so\""), 0);
	ck_assert_int_eq(strand_row_set_text(row, "n", NULL), 0);
	ck_assert_int_eq(strand_row_set_int(row, "i", INT64_MIN), 0);
	ck_assert_int_eq(strand_row_set_json(row, "m", NULL), 0);
	ck_assert_int_eq(strand_row_set_bool(row, "t", 7), 0);
	ck_assert_int_eq(strand_row_set_json(row, "j", " {\n\"x\": 123456789012345678901.50} "), 0);
	ck_assert_int_eq(strand_row_add_tag(row, "dm:evaluate_plan"), 0);
	ck_assert_int_eq(strand_row_add_tag(row, "priority:high"), 0);
	ck_assert_str_eq(strand_row_json(row),
			 "{\"a \\\"b\\\"\": \"it's\\u000a\\\"so\\\"\", \"n\": null, \"i\": -9223372036854775808, \"m\": null,"
			 " \"t\": true,"
			 " \"j\": { \"x\": 123456789012345678901.50}, \"tags\": [\"dm:evaluate_plan\", \"priority:high\"]}");
	strand_row_clear(row);
	strand_row_add_tag(row, "a:b");
	ck_assert_str_eq(strand_row_json(row), "{\"tags\": [\"a:b\"]}");
}
END_TEST

static const struct {
	double value;
	const char *text;
} doubles[] = {
	{ 0.1, "0.1" }, { -2.5, "-2.5" }, { 1e300, "1e+300" }, { 100, "100" }, { 1.0 / 3, "0.3333333333333333" },
	{ 0.1 + 0.2, "0.30000000000000004" }, { 5e-324, "4.94065645841247e-324" },
};

START_TEST(doubles_mean_the_same_again)
{
	char expected[64];

	/* where the machine has such a locale, the point stays a point */
	if (_i % 2)
		setlocale(LC_NUMERIC, "de_DE.UTF-8");
	ck_assert_int_eq(strand_row_set_double(row, "d", doubles[_i / 2].value), 0);
	setlocale(LC_NUMERIC, "C");
	snprintf(expected, sizeof(expected), "{\"d\": %s}", doubles[_i / 2].text);
	ck_assert_str_eq(strand_row_json(row), expected);
}
END_TEST

START_TEST(faults)
{
	ck_assert_int_eq(strand_row_set_double(row, "d", (double)NAN), STRAND_EINVAL);
	check_fault("the number for column \"d\" is not finite");
	ck_assert_int_eq(strand_row_set_double(row, "d", (double)-INFINITY), STRAND_EINVAL);
	check_fault("the number for column \"d\" is not finite");
	ck_assert_int_eq(strand_row_set_json(row, "j", "1, \"x\": 2"), STRAND_EINVAL);
	check_fault("the value for column \"j\" is not JSON: line 1, column 2: ");
	ck_assert_int_eq(strand_row_set_json(row, "j", "NaN"), STRAND_EINVAL);
	check_fault("the value for column \"j\" is not JSON: line 1, column 1: ");
	ck_assert_int_eq(strand_row_set_json(row, "j", "[\"a\nb\"]"), STRAND_EINVAL);
	check_fault("the value for column \"j\" is not JSON: line 1, column ");
	ck_assert_int_eq(strand_row_set_json(row, "j", "\"gr\xfc\""), STRAND_EINVAL);
	check_fault("the value for column \"j\" is not JSON: ");
	ck_assert_int_eq(strand_row_set_json(row, "j", ""), STRAND_EINVAL);
	check_fault("the value for column \"j\" is not JSON: ");
	ck_assert_int_eq(strand_row_set_text(row, "t", "gr\xfc"), STRAND_EINVAL);
	check_fault("the text for column \"t\" is not UTF-8");
	ck_assert_int_eq(strand_row_set_int(row, "gr\xfc", 1), STRAND_EINVAL);
	check_fault("the name of column");
	ck_assert_int_eq(strand_row_add_tag(row, "gr\xfc"), STRAND_EINVAL);
	check_fault("the tag");
	ck_assert_int_eq(strand_row_add_tag(row, NULL), STRAND_EINVAL);
	check_fault("a tag is NULL");
	strand_row_set_json(row, "tags", "[]");
	strand_row_add_tag(row, "a:b");
	check_fault("\"tags\" are set, and a tag is added, too");
}
END_TEST

START_TEST(columns_of_a_strand)
{
	static const char json[] = "{\"id\": \"AD_\\u0031\", \"n\": 12345678901234567890.10, \"s\": \"a\\\"b\", \"z\": null,"
		" \"t\": true, \"o\": {\"x\": [1]}, \"e\\n\": \"\", \"tags\": [\"dm:a\", 7, \"x\\ty\"]}";
	struct strand s = { .deadline = INT64_MAX };

	ck_assert_int_eq(view_row(&s, json, strlen(json)), 0);
	ck_assert_str_eq(strand_id(&s), "AD_1");
	ck_assert_str_eq(strand_json(&s), json);
	ck_assert_int_eq(strand_attempt(&s), 0);
	ck_assert_int_eq(strand_deadline_ms(&s), -1);
	ck_assert_str_eq(strand_column(&s, "n"), "12345678901234567890.10");
	ck_assert_str_eq(strand_column(&s, "s"), "a\"b");
	ck_assert_ptr_eq(strand_column(&s, "s"), strand_column(&s, "s"));
	ck_assert_str_eq(strand_column_json(&s, "s"), "\"a\\\"b\"");
	ck_assert_ptr_null(strand_column(&s, "z"));
	ck_assert_str_eq(strand_column_json(&s, "z"), "null");
	ck_assert_str_eq(strand_column(&s, "t"), "true");
	ck_assert_str_eq(strand_column(&s, "o"), "{\"x\": [1]}");
	ck_assert_str_eq(strand_column(&s, "e\n"), "");
	ck_assert_ptr_null(strand_column(&s, "none"));
	ck_assert_ptr_null(strand_column_json(&s, "none"));
	ck_assert(strand_has_tag(&s, "dm:a") && strand_has_tag(&s, "x\ty"));
	ck_assert(!strand_has_tag(&s, "7") && !strand_has_tag(&s, "dm"));
	view_forget(&s);
	ck_assert_int_eq(view_row(&s, "{\"id\": \"2\"}", 11), 0);
	ck_assert_str_eq(strand_id(&s), "2");
	ck_assert(!strand_has_tag(&s, "dm:a"));
	view_release(&s);
}
END_TEST

START_TEST(rows_that_are_no_strands)
{
	static const char *const rows[] = { "{}", "{\"id\": 7}", "{\"id\": null}", "[]", "{\"id\": \"1\"", "{\"id\": \"1\"} x" };
	struct strand s = { 0 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		ck_assert_int_eq(view_row(&s, rows[i], strlen(rows[i])), STRAND_EPROTO);
	view_release(&s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("row");
	TCase *t = tcase_create("row");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, all_kinds);
	tcase_add_loop_test(t, doubles_mean_the_same_again, 0, 2 * (int)(sizeof(doubles) / sizeof(doubles[0])));
	tcase_add_test(t, faults);
	tcase_add_test(t, columns_of_a_strand);
	tcase_add_test(t, rows_that_are_no_strands);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
