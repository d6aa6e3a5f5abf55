/* The log's own thread, and what holds it up. */
#include "base/log.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_writer.h"

static int saved, read_end, write_end;
static char text[1 << 20];
static size_t len;

/* Standard error becomes a pipe of 64 KiB. */
static void set_up(void)
{
	int ends[2];
	struct err e;

	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(pipe(ends), 0);
	read_end = ends[0];
	write_end = ends[1];
	fcntl(read_end, F_SETFL, O_NONBLOCK);
	fcntl(write_end, F_SETPIPE_SZ, 65536);
	saved = dup(STDERR_FILENO);
	dup2(write_end, STDERR_FILENO);
	ck_assert_int_eq(log_start(&e), 0);
}

static void tear_down(void)
{
	log_stop();
	dup2(saved, STDERR_FILENO);
}

static void read_more(void)
{
	ssize_t n;

	while ((n = read(read_end, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
}

static const char *wait_for(const char *what)
{
	int64_t end = clock_after_ms(20000);
	const char *found;

	for (;;) {
		read_more();
		found = strstr(text, what);
		if (found)
			return found;
		if (clock_now() > end)
			ck_abort_msg("no \"%s\" in \"%s\"", what, text);
		usleep(10000);
	}
}

static unsigned count(const char *what)
{
	unsigned n = 0;

	for (const char *p = text; (p = strstr(p, what)); p++)
		n++;
	return n;
}

static void log_distinct(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		log_event(LOG_LEVEL_INFO, &(struct log_fields){ .fold = LOG_FOLD_NEVER }, "number %u.", i);
}

START_TEST(lines_come_in_order)
{
	log_distinct(0, 500);
	wait_for("number 499.");
	for (unsigned i = 0, at = 0; i < 500; i++) {
		char expected[64];
		snprintf(expected, sizeof(expected), "info main: number %u.\n", i);
		ck_assert(!strncmp(text + at, expected, strlen(expected)));
		at += (unsigned)strlen(expected);
	}
}
END_TEST

START_TEST(the_end_writes_what_is_left)
{
	log_distinct(0, 1000);
	log_stop();
	read_more();
	ck_assert_uint_eq(count("number "), 1000);
	log_stop();	/* again: nothing */
	log_info("afterwards");
	read_more();
	ck_assert_ptr_nonnull(strstr(text, "info main: afterwards\n"));
}
END_TEST

/* As all lines that tell of it say together. */
static unsigned lines_dropped(void)
{
	static const char begin[] = "\nwarning log: ", end[] = " lines of the log were dropped";
	unsigned sum = 0;

	for (const char *p = text; (p = strstr(p, begin)); ) {
		char *rest;
		unsigned long n = strtoul(p + strlen(begin), &rest, 10);
		if (!strncmp(rest, end, strlen(end)))
			sum += (unsigned)n;
		p = rest;
	}
	return sum;
}

START_TEST(a_reader_who_stalls_holds_up_nobody)
{
	int64_t before = clock_now(), end;

	log_distinct(0, 100000);
	ck_assert_int_lt((clock_now() - before) / NSEC_PER_MSEC, 10000);
	end = clock_after_ms(20000);
	while (lines_dropped() + count("number ") < 100000 && clock_now() < end) {
		usleep(10000);
		read_more();
	}
	ck_assert_uint_eq(lines_dropped() + count("number "), 100000);
	ck_assert_uint_gt(lines_dropped(), 0);
	ck_assert_uint_ge(count("number "), LOG_QUEUE_LINES);
	log_info("it goes on");
	wait_for("it goes on");
}
END_TEST

START_TEST(the_end_does_not_wait_for_ever)
{
	int64_t before;

	log_distinct(0, 100000);
	before = clock_now();
	log_stop();
	ck_assert_int_lt((clock_now() - before) / NSEC_PER_MSEC, 5000);
}
END_TEST

START_TEST(a_reader_who_leaves)
{
	close(read_end);
	log_distinct(0, 10);
	usleep(100000);
	ck_assert_int_eq(dup2(saved, STDERR_FILENO), STDERR_FILENO);
}
END_TEST

START_TEST(a_full_disk)
{
	int full = open("/dev/full", O_WRONLY);

	ck_assert_int_ge(full, 0);
	dup2(full, STDERR_FILENO);
	log_distinct(0, 20);
	usleep(2000000);	/* the thread tries them all, and to tell of it again and again */
	dup2(write_end, STDERR_FILENO);
	/* Without another line, too. */
	ck_assert_ptr_nonnull(strstr(wait_for("20 lines of the log could not be written"), "No space left on device"));
	log_distinct(20, 1);
	wait_for("number 20.");
	ck_assert_uint_eq(count("number "), 1);
	ck_assert_uint_eq(count("could not be written"), 1);
}
END_TEST

START_TEST(repetitions_are_told_at_the_end)
{
	for (int i = 0; i < 10000; i++)
		log_event(LOG_LEVEL_WARNING, &(struct log_fields){ .route = "dm:plan", .sqlstate = "P0001",
			  .strand = i % 2 ? "a" : "b" }, "strand failed: %s", "no such instrument");
	log_stop();
	read_more();
	ck_assert_uint_eq(count("warning main: strand failed: no such instrument route=dm:plan strand="), 10);
	ck_assert_uint_eq(count("\n"), 11);
	ck_assert_ptr_nonnull(strstr(text, "warning log: 9990 more like this in the last "));
	ck_assert_ptr_nonnull(strstr(text, " s: strand failed: no such instrument route=dm:plan sqlstate=P0001 more=9990\n"));
}
END_TEST

START_TEST(debug_lines_are_all_written)
{
	log_set_level(LOG_LEVEL_DEBUG);
	for (int i = 0; i < 100; i++)
		log_debug("the same");
	log_stop();
	read_more();
	ck_assert_uint_eq(count("the same"), 100);
}
END_TEST

enum { THREADS = 4, EACH = 300 };

static void *log_along(void *arg)
{
	(void)arg;
	log_distinct(0, EACH);
	return NULL;
}

START_TEST(threads_log_along)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, log_along, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	log_stop();
	read_more();
	ck_assert_uint_eq(count("number "), THREADS * EACH);
	ck_assert_uint_eq(count("\n"), THREADS * EACH);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("log_writer");
	TCase *t = tcase_create("log_writer");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, lines_come_in_order);
	tcase_add_test(t, the_end_writes_what_is_left);
	tcase_add_test(t, a_reader_who_stalls_holds_up_nobody);
	tcase_add_test(t, the_end_does_not_wait_for_ever);
	tcase_add_test(t, a_reader_who_leaves);
	tcase_add_test(t, a_full_disk);
	tcase_add_test(t, repetitions_are_told_at_the_end);
	tcase_add_test(t, debug_lines_are_all_written);
	tcase_add_test(t, threads_log_along);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
