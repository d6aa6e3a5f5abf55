#include "base/backoff.h"

#include <check.h>
#include <limits.h>
#include <stdlib.h>

#define TRIES 2000

/* All that is promised of one number of failures. */
static void between(unsigned failures, int64_t first, int64_t cap, int64_t low, int64_t high)
{
	int64_t least = INT64_MAX, most = 0;

	for (int i = 0; i < TRIES; i++) {
		int64_t ms = backoff_ms(failures, first, cap);
		ck_assert_msg(ms >= low && ms <= high, "%lld ms after %u failures", (long long)ms, failures);
		least = ms < least ? ms : least;
		most = ms > most ? ms : most;
	}
	/* It spreads over most of its range, so that many do not come back in step. */
	if (high - low > 20)
		ck_assert_msg(most - least > (high - low) * 8 / 10, "%lld..%lld of %lld..%lld",
			      (long long)least, (long long)most, (long long)low, (long long)high);
}

START_TEST(doubles)
{
	between(1, 100, 5000, 50, 100);
	between(2, 100, 5000, 100, 200);
	between(3, 100, 5000, 200, 400);
	between(6, 100, 5000, 1600, 3200);
}
END_TEST

START_TEST(is_capped)
{
	between(7, 100, 5000, 2500, 5000);
	between(8, 100, 5000, 2500, 5000);
	between(1000, 100, 5000, 2500, 5000);
	between(UINT_MAX, 100, 5000, 2500, 5000);
	between(1, 100, 40, 20, 40);
}
END_TEST

/* Without end, and without overflow. */
START_TEST(large_cap)
{
	ck_assert_int_gt(backoff_ms(60, 1, INT64_C(86400000)), 0);
	ck_assert_int_le(backoff_ms(UINT_MAX, 1, INT64_C(86400000)), INT64_C(86400000));
}
END_TEST

START_TEST(no_failure_counts_as_one)
{
	between(0, 100, 5000, 50, 100);
}
END_TEST

START_TEST(small_times)
{
	between(1, 1, 5, 0, 1);
	between(1, 0, 5, 0, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("backoff");
	TCase *t = tcase_create("wait");
	SRunner *sr;
	int failed;

	tcase_add_test(t, doubles);
	tcase_add_test(t, is_capped);
	tcase_add_test(t, large_cap);
	tcase_add_test(t, no_failure_counts_as_one);
	tcase_add_test(t, small_times);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
