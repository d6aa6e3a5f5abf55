/* When the next process may be started. */
#include "handle/pace.h"

#include <check.h>
#include <stdlib.h>

#include "base/clock.h"

#define MS NSEC_PER_MSEC

static struct pace pace;

static void set_up(void)
{
	ck_assert_int_eq(pace_init(&pace, 100, 800, 0), 0);
}

static void tear_down(void)
{
	pace_release(&pace);
}

/* The wait after this death, in milliseconds, is between half of `most` and `most`. */
static void dies(bool was_of_use, int64_t lived_ms, int64_t most)
{
	int64_t now = 5000 * MS, wait = (pace_after_death(&pace, was_of_use, lived_ms, now) - now) / MS;

	ck_assert_msg(wait >= most / 2 && wait <= most, "%lld ms, not up to %lld", (long long)wait, (long long)most);
}

START_TEST(longer_after_each_death)
{
	dies(false, 0, 100);
	dies(false, 0, 200);
	dies(false, 0, 400);
	dies(false, 0, 800);
	dies(false, 0, 800);
}
END_TEST

START_TEST(who_lived_well_begins_anew)
{
	for (int i = 0; i < 4; i++)
		pace_after_death(&pace, false, 0, 1);
	dies(true, 0, 100);	/* of use */
	dies(false, 0, 200);
	for (int i = 0; i < 4; i++)
		pace_after_death(&pace, false, 0, 1);
	dies(false, 801, 100);	/* for longer than it would have waited */
	dies(false, 99, 200);	/* less than half of it */
	dies(false, 199, 400);
	pace_forget(&pace);
	dies(false, 0, 100);
}
END_TEST

/* Whatever the backoff, no minute has more than so many. */
START_TEST(so_many_within_a_minute)
{
	enum { MANY = 50, LIMIT = 7 };
	int64_t starts[MANY], now = 1;

	pace_release(&pace);
	ck_assert_int_eq(pace_init(&pace, 1, 2, LIMIT), 0);
	for (int i = 0; i < MANY; i++) {
		starts[i] = pace_after_death(&pace, true, 0, now);
		ck_assert_int_ge(starts[i], now);
		if (i < LIMIT)
			ck_assert_int_le(starts[i], now + 2 * MS);
		if (i >= LIMIT)
			ck_assert_int_ge(starts[i] - starts[i - LIMIT], 60 * NSEC_PER_SEC);
		now = starts[i] + (i % 3) * NSEC_PER_SEC;
	}
	/* An old minute counts no more. */
	now += 100 * NSEC_PER_SEC;
	ck_assert_int_le(pace_after_death(&pace, true, 0, now), now + 2 * MS);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pace");
	TCase *t = tcase_create("pace");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_loop_test(t, longer_after_each_death, 0, 20);
	tcase_add_test(t, who_lived_well_begins_anew);
	tcase_add_test(t, so_many_within_a_minute);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
