/* What PostgreSQL's jsonb takes, and where something else stands. */
#include "handle/json_check.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const char *const good[] = {
	"{}", "[]", " [ ] ", "0", "-0", "-12.50e+3", "1E5", "true", "false", "null", "\"\"",
	"{\"a\": [1, {\"b\": null}], \"c\": \"]},\"}",
	"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
	"\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\"",
	"123456789012345678901234567890.123456789",
	"\t[\r\n1 ]\n",
};

START_TEST(takes)
{
	struct err e;

	ck_assert_msg(!json_check(good[_i], strlen(good[_i]), &e), "%s: %s", good[_i], e.text);
}
END_TEST

static const struct {
	const char *text, *place, *what;
} bad[] = {
	{ "", "line 1, column 1: ", "ends where a value is due" },
	{ " ", "line 1, column 2: ", "ends where" },
	{ "{", "line 1, column 2: ", "a key" },
	{ "[1,\n 2,\n NaN]", "line 3, column 2: ", "\"NaN\" is no JSON value" },
	{ "[Infinity]", "line 1, column 2: ", "Infinity" },
	{ "[TRUE]", "line 1, column 2: ", "TRUE" },
	{ "[01]", "line 1, column 2: ", "01" },
	{ "[.5]", "line 1, column 2: ", ".5" },
	{ "[5.]", "line 1, column 2: ", "5." },
	{ "[+1]", "line 1, column 2: ", "+1" },
	{ "[1e]", "line 1, column 2: ", "1e" },
	{ "[-]", "line 1, column 2: ", "-" },
	{ "[1,]", "line 1, column 4: ", "a value is due" },
	{ "[1 2]", "line 1, column 4: ", "a comma or ]" },
	{ "[1}", "line 1, column 3: ", "a comma or ]" },
	{ "{\"a\" 1}", "line 1, column 6: ", "a colon" },
	{ "{\"a\":}", "line 1, column 6: ", "a value is due" },
	{ "{\"a\":1,}", "line 1, column 8: ", "a key" },
	{ "{a:1}", "line 1, column 2: ", "a key" },
	{ "{'a':1}", "line 1, column 2: ", "a key" },
	{ "[1] x", "line 1, column 5: ", "more behind" },
	{ "[/**/1]", "line 1, column 2: ", "no JSON value" },
	{ "\"a", "line 1, column 1: ", "no end" },
	{ "\"a\\\"", "line 1, column 1: ", "no end" },
	{ "\"a\nb\"", "line 1, column 3: ", "control character" },
	{ "\"\\x\"", "line 1, column 2: ", "escape" },
	{ "\"\\u12g4\"", "line 1, column 2: ", "four hexadecimal" },
	{ "\"\\u12", "line 1, column 2: ", "four hexadecimal" },
	{ "\"\\u0000\"", "line 1, column 2: ", "\\u0000" },
	{ "\"\\ud83d\"", "line 1, column 2: ", "surrogate" },
	{ "\"\\ud83d\\u0041\"", "line 1, column 2: ", "surrogate" },
	{ "\"\\ude00\"", "line 1, column 2: ", "surrogate" },
	{ "[\n\"\xc3\xa9\xff\"]", "line 2, column 4: ", "not UTF-8" },
	{ "\"\xc3", "line 1, column 2: ", "not UTF-8" },
};

START_TEST(refuses)
{
	struct err e;

	ck_assert_int_eq(json_check(bad[_i].text, strlen(bad[_i].text), &e), STRAND_EINVAL);
	ck_assert_msg(!strncmp(e.text, bad[_i].place, strlen(bad[_i].place)) && strstr(e.text, bad[_i].what),
		      "%s: %s", bad[_i].text, e.text);
}
END_TEST

/* Each cut of a text ends it: nothing behind it is read. */
START_TEST(reads_no_further)
{
	static const char text[] = "{\"a\\u00e9\": [1.5e3, true, {\"b\": \"\\ud83d\\ude00\"}]}";

	for (size_t n = 0; n < strlen(text); n++) {
		char *cut = malloc(n ? n : 1);

		memcpy(cut, text, n);
		ck_assert_int_eq(json_check(cut, n, NULL), STRAND_EINVAL);
		free(cut);
	}
	ck_assert_int_eq(json_check("1\0", 2, NULL), STRAND_EINVAL);
}
END_TEST

START_TEST(depth_has_a_bound)
{
	char text[4 * JSON_CHECK_DEPTH];
	size_t n = JSON_CHECK_DEPTH;

	memset(text, '[', n);
	memset(text + n, ']', n);
	ck_assert_int_eq(json_check(text, 2 * n, NULL), 0);
	memset(text, '[', n + 1);
	memset(text + n + 1, ']', n + 1);
	ck_assert_int_eq(json_check(text, 2 * n + 2, NULL), STRAND_EINVAL);
}
END_TEST

START_TEST(elements)
{
	static const char text[] = "[ {\"a\": \"],[\"} ,[1, 2],\n3]";
	static const char *const wanted[] = { "{\"a\": \"],[\"}", "[1, 2]", "3" };
	const char *at = text, *end = text + strlen(text), *element;
	size_t len, n = 0;

	while (json_element(&at, end, &element, &len)) {
		ck_assert_uint_lt(n, 3);
		ck_assert_uint_eq(len, strlen(wanted[n]));
		ck_assert(!memcmp(element, wanted[n++], len));
	}
	ck_assert_uint_eq(n, 3);
	at = "[ ]";
	ck_assert(!json_element(&at, at + 3, &element, &len));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("json_check");
	TCase *t = tcase_create("json_check");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, takes, 0, sizeof(good) / sizeof(*good));
	tcase_add_loop_test(t, refuses, 0, sizeof(bad) / sizeof(*bad));
	tcase_add_test(t, reads_no_further);
	tcase_add_test(t, depth_has_a_bound);
	tcase_add_test(t, elements);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
