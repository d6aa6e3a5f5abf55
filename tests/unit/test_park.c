#include "queue/park.h"

#include "queue_support.h"

static struct park park;

static void setup(void)
{
	ck_assert_int_eq(park_init(&park, PARK_MAX_WORKERS), 0);
}

static void teardown(void)
{
	park_release(&park);
}

static int sleep_shortly(unsigned worker)
{
	return park_sleep(&park, worker, clock_now(), -1);
}

START_TEST(a_wake_is_for_one)
{
	ck_assert(!park_any(&park, PARK_ALL));
	park_wake(&park, PARK_ALL);	/* nobody there: nothing is kept for later */
	park_enter(&park, 5);
	park_enter(&park, 63);
	ck_assert(park_any(&park, PARK_ALL));
	ck_assert_int_eq(sleep_shortly(5), STRAND_ETIMEOUT);

	park_wake(&park, PARK_ALL);
	ck_assert_int_eq(sleep_shortly(63), STRAND_ETIMEOUT);
	ck_assert_int_eq(sleep_shortly(5), 0);
	ck_assert_int_eq(sleep_shortly(5), STRAND_ETIMEOUT);	/* cleared */
	park_wake(&park, PARK_ALL);
	ck_assert_int_eq(sleep_shortly(63), 0);
	ck_assert(!park_any(&park, PARK_ALL));
	ck_assert(park_leave(&park, 5));
	ck_assert(park_leave(&park, 63));
}
END_TEST

START_TEST(who_leaves_learns_of_its_wake)
{
	park_enter(&park, 0);
	ck_assert(!park_leave(&park, 0));
	park_enter(&park, 0);
	park_wake(&park, PARK_ALL);
	ck_assert(park_leave(&park, 0));
	park_enter(&park, 1);
	park_wake(&park, PARK_ALL);
	park_enter(&park, 0);	/* the signal of its earlier wake is still there */
	ck_assert_int_eq(sleep_shortly(0), 0);
	ck_assert(!park_leave(&park, 0));
	ck_assert(park_leave(&park, 1));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("park");
	TCase *t = tcase_create("park");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_wake_is_for_one);
	tcase_add_test(t, who_leaves_learns_of_its_wake);
	suite_add_tcase(s, t);
	return run_suite(s);
}
