#include "base/buf.h"
#include "base/clock.h"

#include <check.h>
#include <stdlib.h>

START_TEST(buf_grows)
{
	struct buf b = BUF_INIT;
	char *text;

	for (int i = 0; i < 1000; i++)
		buf_addf(&b, "%d,", i % 10);
	ck_assert_uint_eq(b.len, 2000);
	text = buf_steal(&b);
	ck_assert_int_eq(text[1998], '9');
	free(text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base");
	TCase *t = tcase_create("buf");
	SRunner *sr;
	int failed;

	tcase_add_test(t, buf_grows);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
