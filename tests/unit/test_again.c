#include "work/again.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

static struct queue *new_queue(void)
{
	struct queue_config config = { .n_routes = 1, .max_entries = 10000, .max_bytes = 1 << 20, .n_workers = 1 };
	struct queue *q;

	ck_assert_int_eq(queue_new(&q, &config), 0);
	return q;
}

/* A delivery that is ours, as a worker takes it. */
static struct delivery *taken(struct queue *q, unsigned number)
{
	struct delivery *d;
	unsigned route;
	char id[16];

	snprintf(id, sizeof(id), "%u", number);
	ck_assert_int_eq(queue_offer(q, 0, id, strlen(id), 0), QUEUE_ADDED);
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	queue_leave(q, route);
	return d;
}

static unsigned long number_of(const struct delivery *d)
{
	return strtoul(d->id, NULL, 10);
}

/* What the queue holds now, in its order; finishes them. */
static size_t drain(struct queue *q, unsigned long *numbers, size_t max)
{
	struct delivery *d;
	unsigned route;
	size_t n = 0;

	while (queue_take(q, 0, &d, 1, &route)) {
		ck_assert_uint_lt(n, max);
		numbers[n++] = number_of(d);
		queue_finish(q, d);
		queue_leave(q, route);
	}
	return n;
}

START_TEST(nothing_in_it)
{
	struct queue *q = new_queue();
	struct again a;

	again_init(&a);
	ck_assert_int_eq(again_next(&a), INT64_MAX);
	again_return_due(&a, q, INT64_MAX);
	again_release(&a);
	ck_assert_uint_eq(queue_in_flight(q), 0);
	queue_free(q);
}
END_TEST

START_TEST(only_what_is_due_comes_back)
{
	struct queue *q = new_queue();
	struct again a;
	unsigned long numbers[4];

	again_init(&a);
	for (unsigned i = 1; i <= 4; i++)
		ck_assert_int_eq(again_add(&a, taken(q, i), i * 100), 0);
	ck_assert_int_eq(again_next(&a), 100);
	ck_assert_uint_eq(queue_depth(q, 0), 0);
	ck_assert_uint_eq(queue_in_flight(q), 4);

	again_return_due(&a, q, 99);
	ck_assert_uint_eq(queue_depth(q, 0), 0);
	again_return_due(&a, q, 200);
	ck_assert_uint_eq(drain(q, numbers, 4), 2);
	ck_assert(numbers[0] == 1 && numbers[1] == 2);
	ck_assert_int_eq(again_next(&a), 300);

	again_return_due(&a, q, 1000);
	ck_assert_uint_eq(drain(q, numbers, 4), 2);
	ck_assert(numbers[0] == 3 && numbers[1] == 4);
	ck_assert_int_eq(again_next(&a), INT64_MAX);
	ck_assert_uint_eq(queue_in_flight(q), 0);
	again_release(&a);
	queue_free(q);
}
END_TEST

/* In the order of their times, whatever the order in which they came. */
START_TEST(earliest_first)
{
	enum { N = 2000 };
	struct queue *q = new_queue();
	struct again a;
	static unsigned long numbers[N];

	again_init(&a);
	for (unsigned i = 0; i < N; i++) {
		unsigned due = i * 7919 % N;
		ck_assert_int_eq(again_add(&a, taken(q, due), due), 0);
	}
	ck_assert_uint_eq(a.n, N);
	for (unsigned due = 0; due < N; due += 100) {
		ck_assert_int_eq(again_next(&a), due);
		again_return_due(&a, q, due + 99);
		ck_assert_uint_eq(drain(q, numbers, N), 100);
		for (unsigned i = 0; i < 100; i++)
			ck_assert_uint_eq(numbers[i], due + i);
	}
	again_release(&a);
	ck_assert_uint_eq(queue_in_flight(q), 0);
	queue_free(q);
}
END_TEST

START_TEST(equal_times)
{
	struct queue *q = new_queue();
	struct again a;
	unsigned long numbers[50], sum = 0;

	again_init(&a);
	for (unsigned i = 1; i <= 50; i++)
		ck_assert_int_eq(again_add(&a, taken(q, i), 7), 0);
	again_return_due(&a, q, 6);
	ck_assert_uint_eq(queue_depth(q, 0), 0);
	again_return_due(&a, q, 7);
	ck_assert_uint_eq(drain(q, numbers, 50), 50);
	for (unsigned i = 0; i < 50; i++)
		sum += numbers[i];
	ck_assert_uint_eq(sum, 50 * 51 / 2);
	again_release(&a);
	queue_free(q);
}
END_TEST

/* What is never due is freed with the queue. */
START_TEST(released_with_the_queue)
{
	struct queue *q = new_queue();
	struct again a;

	again_init(&a);
	for (unsigned i = 1; i <= 200; i++)
		ck_assert_int_eq(again_add(&a, taken(q, i), INT64_MAX - i), 0);
	again_release(&a);
	ck_assert_uint_eq(queue_in_flight(q), 200);
	queue_free(q);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("again");
	TCase *t = tcase_create("heap");
	SRunner *sr;
	int failed;

	rcu_register_thread();
	tcase_add_test(t, nothing_in_it);
	tcase_add_test(t, only_what_is_due_comes_back);
	tcase_add_test(t, earliest_first);
	tcase_add_test(t, equal_times);
	tcase_add_test(t, released_with_the_queue);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	/* liburcu's own thread would not be there in a forked test */
	srunner_set_fork_status(sr, CK_NOFORK);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	rcu_unregister_thread();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
