/* Which repetitions are written, and what is told of the others. */
#include "base/fold.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

#define WINDOW (FOLD_WINDOW_MS * NSEC_PER_MSEC)

static int64_t now = 1;
static uint64_t told, tellings;
static int64_t told_seconds;
static char told_last[64];

static void tell(struct log_record *like, uint64_t more, int64_t seconds)
{
	tellings++;
	told += more;
	told_seconds = seconds;
	snprintf(told_last, sizeof(told_last), "%s", like->message);
	free(like);
}

static struct log_record *record(enum log_level level, const struct log_fields *fields, const char *fmt,
				 const char *text)
{
	struct log_record *r = log_record_new(level, fields, text);

	ck_assert_ptr_nonnull(r);
	r->key = fold_key(r, fmt);
	return r;
}

/* How many of `n` such events are written. */
static unsigned written(unsigned n, enum log_level level, const struct log_fields *fields, const char *fmt,
			const char *text)
{
	unsigned count = 0;

	for (unsigned i = 0; i < n; i++) {
		struct log_record *r = record(level, fields, fmt, text);
		if (fold_admit(r, now)) {
			count++;
			free(r);
		}
	}
	return count;
}

static void teardown(void)
{
	fold_sweep(now, true, tell);
}

START_TEST(the_first_are_written)
{
	const struct log_fields f = { .route = "r", .sqlstate = "P0001" };

	ck_assert_uint_eq(written(10000, LOG_LEVEL_WARNING, &f, "fmt", "text"), FOLD_FIRST);
	ck_assert(fold_sweep(now + WINDOW - 1, false, tell));
	ck_assert_uint_eq(tellings, 0);
	now += WINDOW;
	ck_assert(fold_sweep(now, false, tell));	/* a window of another sort has begun */
	ck_assert_uint_eq(tellings, 1);
	ck_assert_uint_eq(told, 10000 - FOLD_FIRST);
	ck_assert_int_eq(told_seconds, 60);
	ck_assert_str_eq(told_last, "text");
	ck_assert_uint_eq(written(100, LOG_LEVEL_WARNING, &f, "fmt", "text"), FOLD_FIRST);
	now += WINDOW;
	fold_sweep(now, false, tell);
	ck_assert_uint_eq(told, 10100 - 2 * FOLD_FIRST);
	now += WINDOW;
	ck_assert(!fold_sweep(now, false, tell));	/* quiet: forgotten */
	ck_assert_uint_eq(tellings, 2);
}
END_TEST

START_TEST(few_are_not_told_of)
{
	ck_assert_uint_eq(written(FOLD_FIRST, LOG_LEVEL_INFO, NULL, "fmt", "text"), FOLD_FIRST);
	now += WINDOW;
	ck_assert(!fold_sweep(now, false, tell));
	ck_assert_uint_eq(tellings, 0);
}
END_TEST

START_TEST(kinds_are_told_apart)
{
	const struct log_fields a = { .route = "r", .sqlstate = "P0001" };
	const struct log_fields other[] = {
		{ .route = "s", .sqlstate = "P0001" }, { .route = "r", .sqlstate = "22012" },
		{ .route = "r", .sqlstate = "P0001", .source = "t" },
		{ .route = "r", .sqlstate = "P0001", .fold = LOG_FOLD_TEXT },
	};

	ck_assert_uint_eq(written(20, LOG_LEVEL_WARNING, &a, "fmt", "text"), FOLD_FIRST);
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
		ck_assert_uint_eq(written(20, LOG_LEVEL_WARNING, &other[i], "fmt", "text"), FOLD_FIRST);
	ck_assert_uint_eq(written(20, LOG_LEVEL_ERROR, &a, "fmt", "text"), FOLD_FIRST);
	ck_assert_uint_eq(written(20, LOG_LEVEL_WARNING, &a, "another", "text"), FOLD_FIRST);
	/* The text and the strand make no other kind. */
	ck_assert_uint_eq(written(20, LOG_LEVEL_WARNING, &a, "fmt", "another text"), 0);
	ck_assert_uint_eq(written(1, LOG_LEVEL_WARNING, &(struct log_fields){ .route = "r", .sqlstate = "P0001",
			  .strand = "AD_2", .attempt = 2 }, "fmt", "text"), 0);
	/* But the text does where it is asked to. */
	ck_assert_uint_eq(written(20, LOG_LEVEL_WARNING, &other[3], "fmt", "another text"), FOLD_FIRST);
}
END_TEST

START_TEST(told_once)
{
	const struct log_fields f = { .fold = LOG_FOLD_ONCE };

	ck_assert_uint_eq(written(100, LOG_LEVEL_WARNING, &f, "fmt", "down"), 1);
	now += WINDOW;
	fold_sweep(now, false, tell);
	ck_assert_uint_eq(told, 99);
	/* It goes on: counted only. */
	ck_assert_uint_eq(written(100, LOG_LEVEL_WARNING, &f, "fmt", "down"), 0);
	now += WINDOW;
	fold_sweep(now, false, tell);
	ck_assert_uint_eq(told, 199);
	ck_assert_uint_eq(tellings, 2);
}
END_TEST

START_TEST(told_again_when_it_was_over)
{
	const struct log_fields f = { .fold = LOG_FOLD_ONCE };
	struct log_record *r = record(LOG_LEVEL_WARNING, &f, "fmt", "down");
	uint64_t key = r->key;
	unsigned count = 0;

	free(r);
	for (int i = 0; i < 1000; i++) {
		count += written(5, LOG_LEVEL_WARNING, &f, "fmt", "down");
		fold_renew(key);
	}
	ck_assert_uint_eq(count, 1 + FOLD_RENEWALS);	/* one that flaps does not flood */
	fold_renew(key + 1);				/* of what is not there: nothing */
}
END_TEST

START_TEST(what_was_told_once_and_is_no_trouble_is_not_counted)
{
	ck_assert_uint_eq(written(8, LOG_LEVEL_INFO, &(struct log_fields){ .fold = LOG_FOLD_ONCE }, "fmt", "up"), 1);
	now += WINDOW;
	fold_sweep(now, false, tell);
	ck_assert_uint_eq(tellings, 0);
}
END_TEST

START_TEST(the_end_tells_all)
{
	written(100, LOG_LEVEL_WARNING, NULL, "fmt", "text");
	now += 5 * NSEC_PER_SEC;
	ck_assert(!fold_sweep(now, true, tell) || tellings);
	ck_assert_uint_eq(told, 100 - FOLD_FIRST);
	ck_assert_int_eq(told_seconds, 5);
}
END_TEST

/* Handlers choose their SQLSTATEs: no flood of kinds, and no growing memory. */
START_TEST(kinds_without_end)
{
	unsigned count = 0;

	for (unsigned i = 0; i < 100000; i++) {
		char text[32];
		snprintf(text, sizeof(text), "%u", i);
		count += written(1, LOG_LEVEL_WARNING, &(struct log_fields){ .fold = LOG_FOLD_TEXT }, "fmt", text);
	}
	ck_assert_uint_le(count, FOLD_KINDS + FOLD_FIRST);
	ck_assert_uint_ge(count, FOLD_KINDS / 2);
	now += WINDOW;
	fold_sweep(now, false, tell);
	ck_assert_uint_eq(told + count, 100000);
	now += WINDOW;
	ck_assert(!fold_sweep(now, false, tell));
}
END_TEST

enum { THREADS = 4, EACH = 20000 };

static _Atomic unsigned threads_wrote;

static void *log_along(void *arg)
{
	unsigned n = written(EACH, LOG_LEVEL_WARNING, arg, "fmt", "text");

	atomic_fetch_add_explicit(&threads_wrote, n, memory_order_relaxed);
	return NULL;
}

static void race(struct log_fields *f, unsigned expected)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, log_along, f), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(threads_wrote, expected);
	fold_sweep(now, true, tell);
	ck_assert_uint_eq(told, THREADS * EACH - expected);
	ck_assert_uint_eq(tellings, 1);
}

START_TEST(threads_share_a_kind)
{
	race(&(struct log_fields){ .route = "r" }, FOLD_FIRST);
}
END_TEST

START_TEST(threads_tell_once_between_them)
{
	race(&(struct log_fields){ .fold = LOG_FOLD_ONCE }, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fold");
	TCase *t = tcase_create("fold");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, NULL, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, the_first_are_written);
	tcase_add_test(t, few_are_not_told_of);
	tcase_add_test(t, kinds_are_told_apart);
	tcase_add_test(t, told_once);
	tcase_add_test(t, told_again_when_it_was_over);
	tcase_add_test(t, what_was_told_once_and_is_no_trouble_is_not_counted);
	tcase_add_test(t, the_end_tells_all);
	tcase_add_test(t, kinds_without_end);
	tcase_add_test(t, threads_share_a_kind);
	tcase_add_test(t, threads_tell_once_between_them);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
