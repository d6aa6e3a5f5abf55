/* JSON that libstrand is given: whether it is some, what a request and a strand to be
 * written say. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "libstrand/input.h"
#include "libstrand/request.h"
#include "libstrand/text.h"

static const char *const good[] = {
	"{}", "[]", "\"\"", "0", "-1.5e300", "true", " null ", "[\n]", "{\"a\":\t1,\n\"b\":[1,{\"c\":null}]}",
	"123456789012345678901234567890.5", "\"\\\"\\u20ac\\n\"", "\"gr\xc3\xbc\"", "{\"[\":\"}\"}",
};

static const char *const bad[] = {
	"", " ", "{", "}", "[1,]", "[1 2]", "[1}", "{\"a\"}", "{\"a\":}", "{a:1}", "{\"a\":1,}", "{} {}", "1, 2", "NaN", "{\"a\": NaN}", "[\"\\u0000\"]", "01", "tru",
	"-Infinity", "'a'", "\"a", "\"a\\\"", "\"a\nb\"", "[\"a\tb\"]", "\"\xfc\"", "[\"\xc3\"]", "\"\xed\xa0\x80\"",
};

START_TEST(takes_json)
{
	struct json_span value;
	struct err e;

	ck_assert_int_eq(text_check(good[_i], strlen(good[_i]), &value, &e), 0);
	ck_assert(value.len && *value.at != ' ' && value.at[value.len - 1] != ' ');
	ck_assert(!text_check_object(good[_i], strlen(good[_i]), &e) == (*value.at == '{'));
}
END_TEST

START_TEST(refuses_the_rest)
{
	struct json_span value;
	struct err e;

	ck_assert_msg(text_check(bad[_i], strlen(bad[_i]), &value, &e) == STRAND_EINVAL, "%s", bad[_i]);
	ck_assert_ptr_nonnull(strstr(e.text, "column "));
}
END_TEST

START_TEST(a_nul_is_no_end)
{
	struct json_span value;
	struct err e;

	ck_assert_int_eq(text_check("1\0", 2, &value, &e), STRAND_EINVAL);
	ck_assert_int_eq(text_check("\"\0\"", 3, &value, &e), STRAND_EINVAL);
}
END_TEST

START_TEST(elements)
{
	static const char text[] = "[ \"a\\u0062\", 7 , [1, [2]], {\"x\": [3]} ]", open[] = "[1, 2", empty[] = "[ ]";
	static const char *const wanted[] = { "\"a\\u0062\"", "7", "[1, [2]]", "{\"x\": [3]}" };
	struct json_span element;
	const char *at = text;

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		ck_assert(text_element(&at, text + strlen(text), &element));
		ck_assert_uint_eq(element.len, strlen(wanted[i]));
		ck_assert_mem_eq(element.at, wanted[i], element.len);
	}
	ck_assert(!text_element(&at, text + strlen(text), &element));
	at = empty;
	ck_assert(!text_element(&at, empty + strlen(empty), &element));
	/* of tags that are still added to */
	at = open;
	ck_assert(text_element(&at, open + strlen(open), &element));
	ck_assert(text_element(&at, open + strlen(open), &element));
	ck_assert(!text_element(&at, open + strlen(open), &element));
}
END_TEST

START_TEST(strings)
{
	struct buf b = BUF_INIT;
	char *text;

	json_string_add(&b, "a\"\\\n\x01\xc3\xbc", 7);
	ck_assert_str_eq(b.data, "\"a\\\"\\\\\\u000a\\u0001\xc3\xbc\"");
	ck_assert_int_eq(json_string_copy((struct json_span){ b.data + 1, b.len - 2 }, &text), 0);
	ck_assert_str_eq(text, "a\"\\\n\x01\xc3\xbc");
	ck_assert(json_string_is((struct json_span){ b.data + 1, b.len - 2 }, text, 7));
	free(text);
	buf_clear(&b);
	json_line_add(&b, "{\n\"a\":\n1}", 9);
	ck_assert_str_eq(b.data, "{ \"a\": 1}");
	buf_release(&b);
}
END_TEST

START_TEST(requests)
{
	char full[] = "{\"v\":1,\"tag\":\"a:\\u0062\",\"source\":\"ad_strands\",\"attempt\":3,\"deadline_ms\":50,"
		"\"strand\":{\"id\":\"AD_1\",\"x\":{\"strand\":1}},\"later\":[{}]}";
	char bare[] = "{\"strand\":{\"id\":\"AD_2\"},\"tag\":\"c:d\",\"v\":1}";
	char none[] = "{\"strand\":{\"id\":\"AD_3\"},\"v\":1}";
	struct request r = { 0 };
	struct err e;

	ck_assert_int_eq(request_read(&r, full, strlen(full), &e), 0);
	ck_assert_str_eq(strand_tag(&r.strand), "a:b");
	ck_assert_str_eq(strand_source(&r.strand), "ad_strands");
	ck_assert_int_eq(strand_attempt(&r.strand), 3);
	ck_assert(strand_deadline_ms(&r.strand) >= 0 && strand_deadline_ms(&r.strand) <= 50);
	ck_assert_str_eq(strand_json(&r.strand), "{\"id\":\"AD_1\",\"x\":{\"strand\":1}}");
	ck_assert_int_eq(request_read(&r, bare, strlen(bare), &e), 0);
	ck_assert_str_eq(strand_tag(&r.strand), "c:d");
	ck_assert_str_eq(strand_source(&r.strand), "");
	ck_assert_int_eq(strand_deadline_ms(&r.strand), -1);
	ck_assert_int_eq(request_read(&r, none, strlen(none), &e), STRAND_EPROTO);
	ck_assert_ptr_nonnull(strstr(e.text, "without a tag"));
	request_release(&r);
}
END_TEST

static struct table table = { .prefix = (char[]){ "AD" }, .has_module = true, .fills_created_at = true };

START_TEST(inputs)
{
	static const char *const tags[] = { "a:b", "x:y" };
	struct input_context x = { .table = &table, .own = true, .tags = tags, .n_tags = 2 };
	struct input in, other;
	struct err e;

	ck_assert_int_eq(input_read(&in, "{\"id\": \"AD_1\", \"q\\\"\\u0041\": 1, \"tags\": [\"c:d\", \"a:\\u0062\"]}", &x, &e), 0);
	ck_assert_str_eq(in.id, "AD_1");
	ck_assert_str_eq(in.tags, "[\"c:d\", \"a:b\", \"x:y\"]");
	ck_assert_str_eq(in.columns, ", \"q\"\"A\"");
	ck_assert(in.fill_module && !in.fill_created_at);
	x.n_tags = 0;
	ck_assert_int_eq(input_read(&other, "{\"module\": null}", &x, &e), 0);
	ck_assert(!other.tags && !other.fill_module && !strncmp(other.id, "AD_", 3) && strlen(other.id) == 15);
	ck_assert(!input_same_shape(&in, &other) && input_same_shape(&in, &in));
	input_release(&in);
	input_release(&other);
	ck_assert_int_eq(input_read(&in, "{\"id\": \"1\", \"id\": \"2\", \"tags\": [1]}", &x, &e), STRAND_EINVAL);
	ck_assert_str_eq(e.text, "an element of \"tags\" is not a string");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("text");
	TCase *t = tcase_create("text");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(t, takes_json, 0, (int)(sizeof(good) / sizeof(good[0])));
	tcase_add_loop_test(t, refuses_the_rest, 0, (int)(sizeof(bad) / sizeof(bad[0])));
	tcase_add_test(t, a_nul_is_no_end);
	tcase_add_test(t, elements);
	tcase_add_test(t, strings);
	tcase_add_test(t, requests);
	tcase_add_test(t, inputs);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
