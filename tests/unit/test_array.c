#include "pg/array.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* The items as one text[] literal. */
static char *literal(size_t n, const char *const *items)
{
	struct buf b;
	char *text;

	buf_init(&b);
	array_begin(&b);
	for (size_t i = 0; i < n; i++)
		array_item(&b, items[i], strlen(items[i]));
	array_end(&b);
	text = buf_steal(&b);
	ck_assert_ptr_nonnull(text);
	return text;
}

static void expect(size_t n, const char *const *items, const char *wanted)
{
	char *text = literal(n, items);

	ck_assert_str_eq(text, wanted);
	free(text);
}

START_TEST(empty)
{
	expect(0, NULL, "{}");
}
END_TEST

START_TEST(separated_and_quoted)
{
	static const char *const items[] = { "AD_1", "AD_2", "AD_3" };

	expect(1, items, "{\"AD_1\"}");
	expect(3, items, "{\"AD_1\",\"AD_2\",\"AD_3\"}");
}
END_TEST

START_TEST(quotes_and_backslashes_escaped)
{
	static const char *const items[] = { "\"", "\\", "a\"b\\c", "\\\\\"\"", "end\\" };

	expect(5, items, "{\"\\\"\",\"\\\\\",\"a\\\"b\\\\c\",\"\\\\\\\\\\\"\\\"\",\"end\\\\\"}");
}
END_TEST

START_TEST(meaningless_inside_quotes)
{
	static const char *const items[] = { "", "NULL", "a,b", "{x}", "} ", "{", "\xc3\xbc" };

	expect(7, items, "{\"\",\"NULL\",\"a,b\",\"{x}\",\"} \",\"{\",\"\xc3\xbc\"}");
}
END_TEST

/* An item that ends like an array's beginning must not swallow the comma. */
START_TEST(brace_before_an_item)
{
	static const char *const items[] = { "{", "b" };

	expect(2, items, "{\"{\",\"b\"}");
}
END_TEST

START_TEST(length_counts_not_the_terminator)
{
	struct buf b;
	char *text;

	buf_init(&b);
	array_begin(&b);
	array_item(&b, "abcdef", 3);
	array_end(&b);
	text = buf_steal(&b);
	ck_assert_str_eq(text, "{\"abc\"}");
	free(text);
}
END_TEST

START_TEST(many)
{
	struct buf b;
	size_t commas = 0;

	buf_init(&b);
	array_begin(&b);
	for (int i = 0; i < 10000; i++)
		array_item(&b, "AD_0123456789ab", 15);
	array_end(&b);
	ck_assert(!b.failed);
	ck_assert_uint_eq(b.len, 2 + 10000 * 17 + 9999);
	for (size_t i = 0; i < b.len; i++)
		commas += b.data[i] == ',';
	ck_assert_uint_eq(commas, 9999);
	buf_release(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("array");
	TCase *t = tcase_create("literal");
	SRunner *sr;
	int failed;

	tcase_add_test(t, empty);
	tcase_add_test(t, separated_and_quoted);
	tcase_add_test(t, quotes_and_backslashes_escaped);
	tcase_add_test(t, meaningless_inside_quotes);
	tcase_add_test(t, brace_before_an_item);
	tcase_add_test(t, length_counts_not_the_terminator);
	tcase_add_test(t, many);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
