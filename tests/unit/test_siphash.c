#include "queue/siphash.h"

#include <check.h>
#include <stdlib.h>

static const struct siphash_key paper_key = {
	UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908),
};

/* The example of the paper's appendix A. */
START_TEST(answers_the_papers_example)
{
	unsigned char text[15];

	for (unsigned char i = 0; i < sizeof(text); i++)
		text[i] = i;
	ck_assert_uint_eq(siphash(paper_key, text, sizeof(text)), UINT64_C(0xa129ca6149be45e5));
}
END_TEST

/* First and last of the reference's table of 64: lengths 0 and 8. */
START_TEST(answers_whole_words)
{
	unsigned char text[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };

	ck_assert_uint_eq(siphash(paper_key, text, 0), UINT64_C(0x726fdb47dd0e0e31));
	ck_assert_uint_eq(siphash(paper_key, text, 8), UINT64_C(0x93f5f5799a932462));
}
END_TEST

START_TEST(depends_on_key_and_every_byte)
{
	struct siphash_key other = { paper_key.k0 ^ 1, paper_key.k1 };
	char text[24] = "AD_0123456789AB";
	uint64_t h = siphash(paper_key, text, sizeof(text));

	ck_assert_uint_ne(h, siphash(other, text, sizeof(text)));
	for (size_t i = 0; i < sizeof(text); i++) {
		text[i] ^= 1;
		ck_assert_uint_ne(h, siphash(paper_key, text, sizeof(text)));
		text[i] ^= 1;
	}
	ck_assert_uint_ne(h, siphash(paper_key, text, sizeof(text) - 1));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("siphash");
	TCase *t = tcase_create("siphash");
	SRunner *sr;
	int failed;

	tcase_add_test(t, answers_the_papers_example);
	tcase_add_test(t, answers_whole_words);
	tcase_add_test(t, depends_on_key_and_every_byte);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
