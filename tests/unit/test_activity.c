/* What threads say of themselves, and the roster of connections. */
#include "base/activity.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "pg/roster.h"

static struct activity list[ACTIVITY_THREADS + 1];

START_TEST(what_a_thread_says_is_listed)
{
	activity_set("nothing yet");	/* not begun: unheard */
	ck_assert_uint_eq(activity_list(list, ACTIVITY_THREADS), 0);
	activity_begin("a-name-of-15-by");
	ck_assert_uint_eq(activity_list(list, ACTIVITY_THREADS), 1);
	ck_assert_str_eq(list[0].thread, "a-name-of-15-by");
	ck_assert_str_eq(list[0].what, "starting");
	ck_assert_int_eq(list[0].tid, gettid());
	activity_set_on("handling", "dm:evaluate_plan", 3, 100);
	ck_assert_uint_eq(activity_list(list, ACTIVITY_THREADS), 1);
	ck_assert_str_eq(list[0].what, "handling");
	ck_assert_str_eq(list[0].route, "dm:evaluate_plan");
	ck_assert_uint_eq(list[0].number, 3);
	ck_assert_uint_eq(list[0].total, 100);
	ck_assert_int_le(list[0].since, clock_now());
	activity_set("idle");
	ck_assert_uint_eq(activity_list(list, ACTIVITY_THREADS), 1);
	ck_assert_str_eq(list[0].route, "");
	activity_end();
	ck_assert_uint_eq(activity_list(list, ACTIVITY_THREADS), 0);
}
END_TEST

START_TEST(a_long_tag_is_cut)
{
	char tag[200];

	memset(tag, 'x', sizeof(tag));
	tag[sizeof(tag) - 1] = '\0';
	activity_begin("t");
	activity_set_on("handling", tag, 0, 0);
	ck_assert_uint_eq(activity_list(list, ACTIVITY_THREADS), 1);
	ck_assert_uint_eq(strlen(list[0].route), ACTIVITY_ROUTE_BYTES - 1);
	activity_end();
}
END_TEST

static _Atomic bool enough;

/* As long as a read takes, or a few. */
static void dawdle(void)
{
	for (int i = 0; i < 500; i++)
		(void)!atomic_load_explicit(&enough, memory_order_relaxed);
}

/* Alternates between two states, of which no mixture may be seen. */
static void *work(void *arg)
{
	activity_begin(arg);
	while (!atomic_load_explicit(&enough, memory_order_relaxed)) {
		activity_set_on("aaaa", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 1, 1);
		dawdle();
		activity_set_on("bbbb", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", 2, 2);
		dawdle();
	}
	activity_end();
	return NULL;
}

static bool mixture(const struct activity *a)
{
	return a->what[0] != a->route[0] || a->route[0] != a->route[39] || a->number != a->total;
}

/* A few are allowed: of a thread that is kept off the processor for longer than a
 * look takes, 100 ms, in the middle of what it says. */
START_TEST(a_look_sees_no_mixture)
{
	static char one[] = "one", two[] = "two";
	pthread_t threads[2];
	unsigned mixtures = 0;

	pthread_create(&threads[0], NULL, work, one);
	pthread_create(&threads[1], NULL, work, two);
	for (int i = 0; i < 20000; i++) {
		size_t n = activity_list(list, ACTIVITY_THREADS);
		ck_assert_uint_le(n, 2);
		for (size_t k = 0; k < n; k++)
			mixtures += strcmp(list[k].what, "starting") && mixture(&list[k]);
	}
	ck_assert_uint_le(mixtures, 20);
	atomic_store_explicit(&enough, true, memory_order_relaxed);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(activity_list(list, ACTIVITY_THREADS), 0);
}
END_TEST

static void *begin_only(void *arg)
{
	(void)arg;
	activity_begin("many");
	activity_set("here");
	return NULL;	/* without its end: the place stays taken */
}

START_TEST(more_threads_than_places)
{
	for (int i = 0; i < ACTIVITY_THREADS + 5; i++) {
		pthread_t thread;
		pthread_create(&thread, NULL, begin_only, NULL);
		pthread_join(thread, NULL);
	}
	ck_assert_uint_eq(activity_list(list, ACTIVITY_THREADS + 1), ACTIVITY_THREADS);
	ck_assert_uint_eq(activity_list(list, 3), 3);
}
END_TEST

START_TEST(connections)
{
	struct roster_view views[4];
	struct roster_entry *a = roster_enter(), *b = roster_enter();
	int64_t now = clock_now();

	roster_pid(a, 4711);
	roster_state(a, ROSTER_IN_TRANSACTION, now);
	ck_assert_uint_eq(roster_list(views, 4), 2);
	ck_assert_str_eq(views[0].owner, "main");
	ck_assert_int_eq(views[0].pid, 4711);
	ck_assert_uint_eq(views[0].state, ROSTER_IN_TRANSACTION);
	ck_assert_int_eq(views[0].since, now);
	ck_assert_int_eq(views[1].pid, 0);
	ck_assert_uint_eq(views[1].state, ROSTER_CONNECTING);
	for (enum roster_state s = 0; s < ROSTER_STATES; s++)
		ck_assert_ptr_nonnull(roster_state_name(s));
	roster_leave(a);
	ck_assert_uint_eq(roster_list(views, 4), 1);
	roster_leave(b);
	ck_assert_uint_eq(roster_list(views, 4), 0);
	roster_leave(NULL);
	roster_state(NULL, ROSTER_IDLE, now);
	roster_pid(NULL, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("activity");
	TCase *t = tcase_create("activity");
	SRunner *runner;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, what_a_thread_says_is_listed);
	tcase_add_test(t, a_long_tag_is_cut);
	tcase_add_test(t, a_look_sees_no_mixture);
	tcase_add_test(t, more_threads_than_places);
	tcase_add_test(t, connections);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
