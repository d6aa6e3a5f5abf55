#include "base/beat.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/event.h"

static struct event go;

static int64_t silent_for(int64_t limit_ms)
{
	struct beat_silence s;

	return beat_overdue(limit_ms, &s) ? s.ms : -1;
}

/* Registered, silent until `go`, then waits for an event that nobody signals. */
static void *silent_thread(void *arg)
{
	struct event never;

	ck_assert_int_eq(event_init(&never), 0);
	beat_register(arg);
	while (event_wait(&go, 0) != 0)
		beat_allow_ms(-5000);	/* as if the last sign were older */
	beat_now();
	(void)!event_wait(&never, clock_after_ms(3000));
	beat_unregister();
	event_release(&never);
	return NULL;
}

START_TEST(nobody_is_overdue)
{
	ck_assert_int_eq(silent_for(0), -1);
}
END_TEST

START_TEST(a_silent_thread_is_named)
{
	char name[] = "a-name-that-is-cut-to-fit";
	struct beat_silence s = { .ms = -1 };
	pthread_t id;

	beat_set_slice_ms(50);
	ck_assert_int_eq(event_init(&go), 0);
	ck_assert_int_eq(pthread_create(&id, NULL, silent_thread, name), 0);
	while (!beat_overdue(4000, &s))
		usleep(1000);
	ck_assert(s.ms >= 4000 && s.ms < 60000);
	ck_assert_str_eq(s.name, "a-name-that-is-");
	event_signal(&go);
	while (silent_for(4000) >= 0)
		usleep(1000);
	/* it waits, and says so several times within its wait */
	for (int i = 0; i < 25; i++) {
		ck_assert_int_eq(silent_for(1500), -1);
		usleep(100000);
	}
	pthread_join(id, NULL);
	ck_assert_int_eq(silent_for(0), -1);
	event_release(&go);
}
END_TEST

/* The longest silence is the one that is told; an allowance is not one. */
START_TEST(silence_may_be_allowed)
{
	beat_register("main");
	beat_allow_ms(-3000);
	ck_assert(silent_for(2000) >= 3000);
	beat_allow_ms(5000);
	ck_assert_int_eq(silent_for(0), -1);
	beat_now();
	ck_assert_int_eq(silent_for(1000), -1);
	beat_unregister();
}
END_TEST

START_TEST(slices_have_bounds)
{
	beat_set_slice_ms(100);
	ck_assert_int_eq(beat_left_ms(INT64_MAX), 100);
	ck_assert_int_eq(beat_left_ms(0), 0);
	ck_assert(beat_left_ms(clock_after_ms(50)) <= 50);
	beat_set_slice_ms(0);
	ck_assert_int_eq(beat_left_ms(INT64_MAX), 1);
	beat_set_slice_ms(1000000);
	ck_assert_int_eq(beat_left_ms(INT64_MAX), BEAT_SLICE_MAX_MS);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("beat");
	TCase *tc = tcase_create("beat");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, nobody_is_overdue);
	tcase_add_test(tc, a_silent_thread_is_named);
	tcase_add_test(tc, silence_may_be_allowed);
	tcase_add_test(tc, slices_have_bounds);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
