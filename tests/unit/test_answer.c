/* Lines that a handler's process may write, and requests that it gets. */
#include "handle/protocol.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include <json.h>

#include "base/utf8.h"

#define T(text) text, sizeof(text) - 1
#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))

static int parse(const char *text, size_t len, char **ret_line, struct answer *a, struct err *e)
{
	char *line = malloc(len + 1);

	/* Of its very size: what is read beyond is seen by AddressSanitizer. */
	ck_assert_ptr_nonnull(line);
	line = realloc(line, len ? len : 1);
	memcpy(line, text, len);
	*ret_line = line;
	*e = (struct err){ 0 };
	return answer_parse(line, len, a, e);
}

static const struct {
	const char *line;
	size_t len;
	enum answer_kind kind;
	const char *id;
	unsigned attempt;
	const char *text;
	size_t n;
	bool final;
} good[] = {
	{ T("{\"id\":\"AD_1\",\"attempt\":3,\"replies\":[]}"), ANSWER_REPLIES, "AD_1", 3, "[]", 0, false },
	{ T("{\"replies\":[{}],\"id\":\"x\"}"), ANSWER_REPLIES, "x", 0, "[{}]", 1, false },
	{ T(" { \"id\" : \"x\" , \"replies\" : [ 1 , [2,3] , {\"a\":[4,5],\"b\":6} ] } \r"),
	  ANSWER_REPLIES, "x", 0, "[ 1 , [2,3] , {\"a\":[4,5],\"b\":6} ]", 3, false },
	/* to the last digit, and what PostgreSQL will refuse of one strand alone */
	{ T("{\"id\":\"x\",\"replies\":[{\"a\":9223372036854775807,\"b\":0.123456789012345678901234567890}]}"),
	  ANSWER_REPLIES, "x", 0, "[{\"a\":9223372036854775807,\"b\":0.123456789012345678901234567890}]", 1, false },
	{ T("{\"id\":\"x\",\"replies\":[NaN,-Infinity,\"\\u0000\",\"\\q\"]}"),
	  ANSWER_REPLIES, "x", 0, "[NaN,-Infinity,\"\\u0000\",\"\\q\"]", 4, false },
	{ T("{\"id\":\"x\",\"replies\":[\"]}\\\"\\\\\",\"[{\"]}"),
	  ANSWER_REPLIES, "x", 0, "[\"]}\\\"\\\\\",\"[{\"]", 2, false },
	{ T("{\"id\":\"\\u00e4\\ud83d\\ude00\\\"\\n\xc3\xbc\",\"replies\":[]}"),
	  ANSWER_REPLIES, "\xc3\xa4\xf0\x9f\x98\x80\"\n\xc3\xbc", 0, "[]", 0, false },
	{ T("{\"i\\u0064\":\"x\",\"replie\\u0073\":[]}"), ANSWER_REPLIES, "x", 0, "[]", 0, false },
	{ T("{\"id\":\"x\",\"replies\":[],\"took_ms\":12,\"took_ms\":{\"id\":\"y\"}}"),
	  ANSWER_REPLIES, "x", 0, "[]", 0, false },
	{ T("{\"id\":\"x\",\"attempt\":null,\"replies\":[],\"error\":null,\"retry\":null}"),
	  ANSWER_REPLIES, "x", 0, "[]", 0, false },
	{ T("{\"id\":\"x\",\"error\":\"no\"}"), ANSWER_ERROR, "x", 0, "no", 0, false },
	{ T("{\"id\":\"x\",\"error\":\"no\",\"retry\":true}"), ANSWER_ERROR, "x", 0, "no", 0, false },
	{ T("{\"id\":\"x\",\"attempt\":999999999,\"error\":\"\",\"retry\":false}"),
	  ANSWER_ERROR, "x", 999999999, "", 0, true },
	{ T("{\"id\":\"x\",\"error\":\"a\\tb\\u0000c\\ud800\"}"), ANSWER_ERROR, "x", 0, "a\tb?c\xef\xbf\xbd", 0, false },
	{ T("{\"ready\":true}"), ANSWER_READY, NULL, 0, NULL, 0, false },
	{ T("{\"ready\":true,\"version\":\"1.2\"}"), ANSWER_READY, NULL, 0, NULL, 0, false },
};

START_TEST(taken)
{
	struct answer a;
	struct err e;
	char *line;
	int ret = parse(good[_i].line, good[_i].len, &line, &a, &e);

	ck_assert_msg(ret == 0, "%s: %s", good[_i].line, e.text);
	ck_assert_int_eq(a.kind, good[_i].kind);
	if (good[_i].id) {
		ck_assert_uint_eq(a.id_len, strlen(good[_i].id));
		ck_assert_mem_eq(a.id, good[_i].id, a.id_len);
		ck_assert_uint_eq(a.text_len, strlen(good[_i].text));
		ck_assert_mem_eq(a.text, good[_i].text, a.text_len);
	}
	ck_assert_uint_eq(a.attempt, good[_i].attempt);
	ck_assert_uint_eq(a.n_replies, good[_i].n);
	ck_assert_int_eq(a.final, good[_i].final);
	free(line);
}
END_TEST

static const struct {
	const char *line;
	size_t len;
	int code;
	const char *reason;
} bad[] = {
	/* no answer, to whatever strand */
	{ T(""), STRAND_EPROTO, "wrote a line that is not JSON: \"\"" },
	{ T("Hello, debugging"), STRAND_EPROTO, "wrote a line that is not JSON: \"Hello, debugging\"" },
	{ T("tab\there\x1b[1m\xfc\0!"), STRAND_EPROTO, "wrote a line that is not JSON: \"tab?here?[1m?" "?!\"" },
	{ T("{\"id\":\"x\",\"replies\":["), STRAND_EPROTO, "is not JSON: \"{\"id\":\"x\",\"replies\":[\"" },
	{ T("{\"id\":\"x\",\"replies\":[]}{"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\",\"replies\":[]}{\"id\":\"y\",\"replies\":[]}"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\",\"replies\":[}]"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\",\"replies\":[1 2]}"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\",\"replies\":[1,]}"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\",\"replies\":[,]}"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\",\"replies\":[{\"a\"}]}"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\",\"replies\":[{\"a\":}]}"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\",\"replies\":[{\"a\":1,}]}"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\" \"replies\":[]}"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\",}"), STRAND_EPROTO, "is not JSON" },
	{ T("{'id':'x','replies':[]}"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\\"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\\\""), STRAND_EPROTO, "is not JSON" },
	{ T("{"), STRAND_EPROTO, "is not JSON" },
	{ T("{\"id\":\"x\",\"replies\":#}"), STRAND_EPROTO, "is not JSON" },
	{ T("[1,2]"), STRAND_EPROTO, "is no JSON object: \"[1,2]\"" },
	{ T("\"text\""), STRAND_EPROTO, "is no JSON object" },
	{ T("-12.5"), STRAND_EPROTO, "is no JSON object" },
	{ T("null"), STRAND_EPROTO, "is no JSON object" },
	{ T("NaN"), STRAND_EPROTO, "is not JSON" },
	{ T("{}"), STRAND_EPROTO, "without an \"id\": \"{}\"" },
	{ T("{\"id\":null,\"replies\":[]}"), STRAND_EPROTO, "without an \"id\"" },
	{ T("{\"replies\":[]}"), STRAND_EPROTO, "without an \"id\"" },
	{ T("{\"ready\":false}"), STRAND_EPROTO, "without an \"id\"" },
	{ T("{\"id\":17,\"replies\":[]}"), STRAND_EPROTO, "whose \"id\" is no string" },
	{ T("{\"id\":\"\",\"replies\":[]}"), STRAND_EPROTO, "whose \"id\" is no text" },
	{ T("{\"id\":\"a\\u0000b\",\"replies\":[]}"), STRAND_EPROTO, "whose \"id\" is no text" },
	{ T("{\"id\":\"a\\qb\",\"replies\":[]}"), STRAND_EPROTO, "whose \"id\" is no text" },
	{ T("{\"id\":\"gr\xfcn\",\"replies\":[]}"), STRAND_EPROTO, "whose \"id\" is no text: \"{\"id\":\"gr?n\"" },
	{ T("{\"id\":\"x\",\"id\":\"y\",\"replies\":[]}"), STRAND_EPROTO, "two \"id\"" },
	{ T("{\"id\":\"x\",\"i\\u0064\":\"y\",\"replies\":[]}"), STRAND_EPROTO, "two \"id\"" },
	/* to the strand "x", and cannot be taken */
	{ T("{\"id\":\"x\"}"), STRAND_EINVAL, "with neither \"replies\" nor \"error\"" },
	{ T("{\"id\":\"x\",\"reply\":[]}"), STRAND_EINVAL, "with neither \"replies\" nor \"error\"" },
	{ T("{\"id\":\"x\",\"replies\":null}"), STRAND_EINVAL, "with neither \"replies\" nor \"error\"" },
	{ T("{\"id\":\"x\",\"replies\":[],\"error\":\"\"}"), STRAND_EINVAL, "with both \"replies\" and \"error\"" },
	{ T("{\"id\":\"x\",\"replies\":{}}"), STRAND_EINVAL, "whose \"replies\" are no array" },
	{ T("{\"id\":\"x\",\"replies\":\"[]\"}"), STRAND_EINVAL, "whose \"replies\" are no array" },
	{ T("{\"id\":\"x\",\"replies\":[],\"replies\":[]}"), STRAND_EINVAL, "with two \"replies\"" },
	{ T("{\"error\":\"a\",\"id\":\"x\",\"error\":\"b\"}"), STRAND_EINVAL, "with two \"error\"" },
	{ T("{\"id\":\"x\",\"attempt\":1,\"attempt\":1,\"replies\":[]}"), STRAND_EINVAL, "with two \"attempt\"" },
	{ T("{\"id\":\"x\",\"attempt\":\"1\",\"replies\":[]}"), STRAND_EINVAL, "whose \"attempt\" is no number" },
	{ T("{\"id\":\"x\",\"attempt\":-1,\"replies\":[]}"), STRAND_EINVAL, "whose \"attempt\" is no number" },
	{ T("{\"id\":\"x\",\"attempt\":1.0,\"replies\":[]}"), STRAND_EINVAL, "whose \"attempt\" is no number" },
	{ T("{\"id\":\"x\",\"attempt\":4294967297,\"replies\":[]}"), STRAND_EINVAL, "whose \"attempt\" is no number" },
	{ T("{\"id\":\"x\",\"error\":17}"), STRAND_EINVAL, "whose \"error\" is no string" },
	{ T("{\"id\":\"x\",\"error\":\"\\q\"}"), STRAND_EINVAL, "whose \"error\" is no string" },
	{ T("{\"id\":\"x\",\"error\":\"a\",\"retry\":0}"), STRAND_EINVAL, "whose \"retry\" is neither true nor false" },
	{ T("{\"id\":\"x\",\"replies\":[\"gr\xfcn\"]}"), STRAND_EINVAL, "is not UTF-8" },
	{ T("{\"id\":\"x\",\"replies\":[\"\xed\xa0\x80\"]}"), STRAND_EINVAL, "is not UTF-8" },
	{ T("{\"id\":\"x\",\"replies\":[\"\0\"]}"), STRAND_EINVAL, "is not UTF-8" },
};

START_TEST(refused)
{
	struct answer a;
	struct err e;
	char *line;
	int ret = parse(bad[_i].line, bad[_i].len, &line, &a, &e);

	ck_assert_msg(ret == bad[_i].code && strstr(e.text, bad[_i].reason), "%s: %d: %s", bad[_i].line, ret, e.text);
	ck_assert_int_eq(e.code, ret);
	ck_assert(utf8_valid(e.text, strlen(e.text)));
	if (ret == STRAND_EINVAL) {
		ck_assert_uint_eq(a.id_len, 1);
		ck_assert_int_eq(*a.id, 'x');
	}
	free(line);
}
END_TEST

/* Of nothing but brackets: the depth that is taken, and one more. */
static int nested(size_t depth, bool objects, struct err *e)
{
	char *text = malloc(depth * 6 + 64), *at = text, *line;
	struct answer a;
	int ret;

	ck_assert_ptr_nonnull(text);
	at = stpcpy(at, "{\"id\":\"x\",\"replies\":[");
	for (size_t i = 0; i < depth - 1; i++)
		at = stpcpy(at, objects ? "{\"a\":" : "[");
	*at++ = '1';
	for (size_t i = 0; i < depth - 1; i++)
		*at++ = objects ? '}' : ']';
	at = stpcpy(at, "]}");
	ret = parse(text, (size_t)(at - text), &line, &a, e);
	if (!ret)
		ck_assert_uint_eq(a.n_replies, 1);
	free(line);
	free(text);
	return ret;
}

START_TEST(depth_is_bounded)
{
	struct err e;

	for (int objects = 0; objects < 2; objects++) {
		ck_assert_int_eq(nested(512, objects, &e), 0);
		ck_assert_int_eq(nested(513, objects, &e), STRAND_EPROTO);
		ck_assert_ptr_nonnull(strstr(e.text, "nested too deep"));
		ck_assert_int_eq(nested(100000, objects, &e), STRAND_EPROTO);
	}
}
END_TEST

START_TEST(quotes_are_cut)
{
	char text[1000], first[QUOTE_BYTES];

	memset(text, 'x', sizeof(text));
	ck_assert_str_eq(answer_quote(text, 3, first), "xxx");
	ck_assert_uint_eq(strlen(answer_quote(text, sizeof(text), first)), QUOTE_BYTES - 1);
	ck_assert_ptr_nonnull(strstr(first, "x..."));
	/* Between letters. */
	for (size_t i = 0; i + 3 < sizeof(text); i += 3)
		memcpy(text + i, "\xe6\x97\xa5", 3);
	answer_quote(text, 999, first);
	ck_assert(utf8_valid(first, strlen(first)));
	ck_assert_ptr_nonnull(strstr(first, "\xe6\x97\xa5..."));
}
END_TEST

/* --- properties ------------------------------------------------------------- */

static uint32_t seed;

static unsigned pick(unsigned n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static struct json_object *random_value(unsigned depth)
{
	static const char *const texts[] = { "", "x", "]}", "{[\"", "\\", "\n\t", "gr\xc3\xbcn", "\xf0\x9f\x98\x80", "\",\"" };
	struct json_object *o;
	unsigned n;

	switch (pick(depth ? 7 : 4)) {
	case 0:
		return NULL;
	case 1:
		return json_object_new_boolean(pick(2));
	case 2:
		return json_object_new_int64((int64_t)pick(1u << 24) * pick(1u << 24) - 1000);
	case 3:
		return json_object_new_string(texts[pick(ARRAY(texts))]);
	case 4:
	case 5:
		o = json_object_new_array();
		for (n = pick(5); n; n--)
			json_object_array_add(o, random_value(depth - 1));
		return o;
	default:
		o = json_object_new_object();
		for (n = pick(5); n; n--)
			json_object_object_add(o, texts[pick(ARRAY(texts))], random_value(depth - 1));
		return o;
	}
}

/* An answer as json-c writes it. */
static char *random_answer(struct json_object **ret_replies, const char *id)
{
	static const int styles[] = { JSON_C_TO_STRING_PLAIN, JSON_C_TO_STRING_SPACED, JSON_C_TO_STRING_PLAIN };
	struct json_object *o = json_object_new_object(), *replies = json_object_new_array();
	char *text;

	for (unsigned n = pick(6); n; n--)
		json_object_array_add(replies, random_value(4));
	if (pick(2))
		json_object_object_add(o, "more", random_value(3));
	json_object_object_add(o, "id", json_object_new_string(id));
	json_object_object_add(o, "replies", json_object_get(replies));
	text = strdup(json_object_to_json_string_ext(o, styles[pick(3)]));
	ck_assert_ptr_nonnull(text);
	json_object_put(o);
	*ret_replies = replies;
	return text;
}

START_TEST(what_jsonc_writes_is_read)
{
	static const char *const ids[] = { "AD_1", "\"", "\\\n", "gr\xc3\xbcn/\xf0\x9f\x98\x80" };

	seed = (uint32_t)_i * 7919 + 1;
	for (int i = 0; i < 500; i++) {
		const char *id = ids[pick(ARRAY(ids))];
		struct json_object *replies, *again;
		char *text = random_answer(&replies, id), *line, *span;
		struct answer a;
		struct err e;

		ck_assert_msg(!parse(text, strlen(text), &line, &a, &e), "%s: %s", text, e.text);
		ck_assert_uint_eq(a.n_replies, json_object_array_length(replies));
		ck_assert_uint_eq(a.id_len, strlen(id));
		ck_assert_mem_eq(a.id, id, a.id_len);
		/* strndup may not read bytes that no NUL ends, says AddressSanitizer. */
		span = calloc(1, a.text_len + 1);
		memcpy(span, a.text, a.text_len);
		again = json_tokener_parse(span);
		ck_assert(json_object_equal(again, replies));
		json_object_put(again);
		json_object_put(replies);
		free(span);
		free(line);
		free(text);
	}
}
END_TEST

/* Cut anywhere it is no JSON; with a byte changed it is whatever it is, within bounds. */
START_TEST(broken_answers_break_nothing)
{
	seed = (uint32_t)_i * 104729 + 3;
	for (int i = 0; i < 100; i++) {
		struct json_object *replies;
		char *text = random_answer(&replies, "AD_1"), *line;
		size_t len = strlen(text);
		struct answer a;
		struct err e;
		int ret;

		for (size_t cut = 0; cut < len; cut++) {
			ck_assert_int_eq(parse(text, cut, &line, &a, &e), STRAND_EPROTO);
			free(line);
		}
		for (int k = 0; k < 50; k++) {
			size_t at = pick((unsigned)len);
			char was = text[at];
			text[at] = (char)pick(256);
			ret = parse(text, len, &line, &a, &e);
			ck_assert(ret == 0 || ret == STRAND_EPROTO || ret == STRAND_EINVAL);
			ck_assert(ret == 0 || (*e.text && utf8_valid(e.text, strlen(e.text))));
			text[at] = was;
			free(line);
		}
		json_object_put(replies);
		free(text);
	}
}
END_TEST

START_TEST(requests_are_lines)
{
	struct buf out;
	struct request_line r = { .tag = "dm:\"x\\\x01", .source = "ad_strands", .attempt = 2, .deadline_ms = 30000,
				  .row = "{\"id\":\n\"A\"}\n", .row_len = 12 };

	buf_init(&out);
	request_write(&out, &r);
	r.tag = "dm:plan";
	r.row = "{\"id\": \"B\", \"x\": 12345678901234567890.10}";
	r.row_len = strlen(r.row);
	request_write(&out, &r);
	ck_assert_str_eq(out.data,
		"{\"v\":1,\"tag\":\"dm:\\\"x\\\\\\u0001\",\"source\":\"ad_strands\",\"attempt\":2,"
		"\"deadline_ms\":30000,\"strand\":{\"id\": \"A\"} }\n"
		"{\"v\":1,\"tag\":\"dm:plan\",\"source\":\"ad_strands\",\"attempt\":2,"
		"\"deadline_ms\":30000,\"strand\":{\"id\": \"B\", \"x\": 12345678901234567890.10}}\n");
	buf_release(&out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("answer");
	TCase *t = tcase_create("answer");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, taken, 0, ARRAY(good));
	tcase_add_loop_test(t, refused, 0, ARRAY(bad));
	tcase_add_test(t, depth_is_bounded);
	tcase_add_test(t, quotes_are_cut);
	tcase_add_loop_test(t, what_jsonc_writes_is_read, 0, 8);
	tcase_add_loop_test(t, broken_answers_break_nothing, 0, 8);
	tcase_add_test(t, requests_are_lines);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
