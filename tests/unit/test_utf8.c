#include "base/utf8.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static const struct {
	const char *text, *mended;
} rows[] = {
	{ "", "" },
	{ "plain", "plain" },
	{ "gr\xc3\xbc\xc3\x9f" "e", "gr\xc3\xbc\xc3\x9f" "e" },
	{ "\xe6\x97\xa5\xe6\x9c\xac", "\xe6\x97\xa5\xe6\x9c\xac" },
	{ "\xf0\x9f\x98\x80!", "\xf0\x9f\x98\x80!" },
	{ "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf" },	/* the last letter there is */
	{ "\xed\x9f\xbf\xee\x80\x80", "\xed\x9f\xbf\xee\x80\x80" },	/* around the surrogates */
	/* cut off at the end */
	{ "a\xc3", "a" },
	{ "a\xe6\x97", "a" },
	{ "a\xe6", "a" },
	{ "a\xf0\x9f\x98", "a" },
	{ "a\xf0\x9f", "a" },
	{ "\xf0", "" },
	/* broken in the middle */
	{ "gr\xfc\xdf" "e", "gr??e" },	/* LATIN1 */
	{ "a\xc3z", "a?z" },
	{ "a\xe6\x97z", "a??z" },
	{ "\x80\xbf", "??" },
	{ "\xff\xfe", "??" },
	/* never to be: long forms, surrogates, too high */
	{ "\xc0\xaf", "??" },
	{ "\xc1\x81", "??" },
	{ "\xe0\x80\xaf", "???" },
	{ "\xf0\x80\x80\xaf", "????" },
	{ "\xed\xa0\x80", "???" },
	{ "\xf4\x90\x80\x80", "????" },
	{ "\xf5\x80\x80\x80", "????" },
};

START_TEST(mends)
{
	char text[32];

	strcpy(text, rows[_i].text);
	utf8_mend(text);
	ck_assert_str_eq(text, rows[_i].mended);
	utf8_mend(text);
	ck_assert_str_eq(text, rows[_i].mended);
}
END_TEST

/* What has to be mended is not valid, and what is mended is. */
START_TEST(tells_valid_from_other)
{
	const char *text = rows[_i].text, *mended = rows[_i].mended;

	ck_assert_int_eq(utf8_valid(text, strlen(text)), !strcmp(text, mended));
	ck_assert(utf8_valid(mended, strlen(mended)));
}
END_TEST

START_TEST(a_nul_is_not_valid)
{
	ck_assert(utf8_valid("a\0b", 1));
	ck_assert(!utf8_valid("a\0b", 3));
	ck_assert(!utf8_valid("", 1));
	/* A letter may end before the text, not behind it. */
	ck_assert(!utf8_valid("\xe6\x97\xa5", 2));
}
END_TEST

/* Whatever its length, a text that does not fit ends with a whole letter. */
START_TEST(error_text_is_cut_between_letters)
{
	char text[2000] = "";
	struct err e;
	size_t len;

	memset(text, 'x', (size_t)_i);
	for (int i = 0; i < 400; i++)
		strcat(text, "\xf0\x9f\x98\x80");
	err_set(&e, STRAND_ESQL, "%s", text);
	len = strlen(e.text);
	ck_assert_uint_ge(len, sizeof(e.text) - 4);
	ck_assert_uint_eq((len - (size_t)_i) % 4, 0);
	ck_assert_int_eq(memcmp(e.text, text, len), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("utf8");
	TCase *t = tcase_create("mend");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(t, mends, 0, (int)(sizeof(rows) / sizeof(rows[0])));
	tcase_add_loop_test(t, tells_valid_from_other, 0, (int)(sizeof(rows) / sizeof(rows[0])));
	tcase_add_test(t, a_nul_is_not_valid);
	tcase_add_loop_test(t, error_text_is_cut_between_letters, 0, 5);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
