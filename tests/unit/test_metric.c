#include "stats/metric.h"

#include <check.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_THREADS 4
#define N_ADDS 20000

static const char *const tags[] = { "dm:evaluate_plan", "alpha:decision_feedback" };
static const char *const sources[] = { "AD_strands", "DM_strands" };

static struct metrics *metrics_of(const char *const *route_tags, const char *const *route_sources, unsigned n)
{
	struct metrics *m = NULL;

	ck_assert_int_eq(metrics_new(&m), 0);
	for (unsigned i = 0; i < n; i++) {
		unsigned slot = 99;

		ck_assert_int_eq(metric_slot(m, route_tags[i], route_sources[i], &slot), 0);
		ck_assert_uint_eq(slot, i);
	}
	return m;
}

static struct metrics *new_metrics(void)
{
	return metrics_of(tags, sources, 2);
}

static char *exposition(struct metrics *m)
{
	struct buf b;
	char *text;

	buf_init(&b);
	metrics_write(m, &b);
	text = buf_steal(&b);
	ck_assert_ptr_nonnull(text);
	return text;
}

START_TEST(counts_by_route)
{
	struct metrics *m = new_metrics();

	metric_add(m, METRIC_SETTLED, 0, 3);
	metric_add(m, METRIC_SETTLED, 1, 5);
	metric_add(m, METRIC_SETTLED, 1, 0);
	ck_assert_uint_eq(metric_sum(m, METRIC_SETTLED, 0), 3);
	ck_assert_uint_eq(metric_sum(m, METRIC_SETTLED, 1), 5);
	ck_assert_uint_eq(metric_sum(m, METRIC_FAILED, 0), 0);
	metrics_free(m);
}
END_TEST

START_TEST(whole_service_metric_has_one_cell)
{
	struct metrics *m = new_metrics();

	metric_add(m, METRIC_RECONNECTS, METRIC_NO_ROUTE, 1);
	metric_add(m, METRIC_RECONNECTS, 1, 1);
	ck_assert_uint_eq(metric_sum(m, METRIC_RECONNECTS, METRIC_NO_ROUTE), 2);
	metrics_free(m);
}
END_TEST

START_TEST(no_metrics_count_nothing)
{
	struct buf b;

	metric_add(NULL, METRIC_SETTLED, 0, 1);
	ck_assert_uint_eq(metric_sum(NULL, METRIC_SETTLED, 0), 0);
	buf_init(&b);
	metrics_write(NULL, &b);
	ck_assert_uint_eq(b.len, 0);
	buf_release(&b);
	metrics_free(NULL);
}
END_TEST

/* A thread's remembered block must not be taken for one of a later struct,
 * which may well lie at the same address. */
START_TEST(a_new_struct_starts_at_zero)
{
	for (unsigned i = 0; i < 50; i++) {
		struct metrics *m = new_metrics();

		ck_assert_uint_eq(metric_sum(m, METRIC_FORGED, 0), 0);
		metric_add(m, METRIC_FORGED, 0, i + 1);
		ck_assert_uint_eq(metric_sum(m, METRIC_FORGED, 0), i + 1);
		metrics_free(m);
	}
}
END_TEST

START_TEST(two_structs_in_turn)
{
	struct metrics *a = new_metrics(), *b = new_metrics();

	for (int i = 0; i < 1000; i++) {
		metric_add(a, METRIC_REPLIES, 0, 1);
		metric_add(b, METRIC_REPLIES, 0, 2);
	}
	ck_assert_uint_eq(metric_sum(a, METRIC_REPLIES, 0), 1000);
	ck_assert_uint_eq(metric_sum(b, METRIC_REPLIES, 0), 2000);
	metrics_free(a);
	metrics_free(b);
}
END_TEST

static void *add_many(void *arg)
{
	struct metrics *m = arg;

	for (int i = 0; i < N_ADDS; i++) {
		metric_add(m, METRIC_SETTLED, (unsigned)i % 2, 1);
		metric_add(m, METRIC_SCAN_ROWS, 1, 1000);
		metric_add(m, METRIC_RECONNECTS, METRIC_NO_ROUTE, 1);
	}
	return NULL;
}

struct reader {
	struct metrics *m;
	_Atomic bool stop;
};

/* Sums and expositions while others add: never more than there can be, and
 * never less than before. */
static void *read_many(void *arg)
{
	struct reader *r = arg;
	uint64_t last = 0;

	while (!atomic_load(&r->stop)) {
		uint64_t sum = metric_sum(r->m, METRIC_RECONNECTS, METRIC_NO_ROUTE);

		ck_assert(sum >= last);
		last = sum;
		free(exposition(r->m));
	}
	return NULL;
}

START_TEST(threads_add_and_nothing_is_lost)
{
	struct metrics *m = new_metrics();
	struct reader reader = { .m = m };
	pthread_t ids[N_THREADS], reading;

	ck_assert_int_eq(pthread_create(&reading, NULL, read_many, &reader), 0);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < N_THREADS; i++)
			ck_assert_int_eq(pthread_create(&ids[i], NULL, add_many, m), 0);
		for (int i = 0; i < N_THREADS; i++)
			pthread_join(ids[i], NULL);
	}
	atomic_store(&reader.stop, true);
	pthread_join(reading, NULL);
	ck_assert_uint_eq(metric_sum(m, METRIC_SETTLED, 0), UINT64_C(3) * N_THREADS * N_ADDS / 2);
	ck_assert_uint_eq(metric_sum(m, METRIC_SETTLED, 1), UINT64_C(3) * N_THREADS * N_ADDS / 2);
	ck_assert_uint_eq(metric_sum(m, METRIC_SCAN_ROWS, 1), UINT64_C(3000) * N_THREADS * N_ADDS);
	ck_assert_uint_eq(metric_sum(m, METRIC_RECONNECTS, METRIC_NO_ROUTE), UINT64_C(3) * N_THREADS * N_ADDS);
	metrics_free(m);
}
END_TEST

static double ten_and_route(void *arg, unsigned route)
{
	(void)arg;
	return 10.0 + route;
}

static double value_of(void *arg, unsigned route)
{
	(void)route;
	return *(double *)arg;
}

struct asker {
	struct metrics *m;
	pthread_barrier_t *barrier;
	unsigned first;
};

static void *ask_first(void *arg)
{
	struct asker *a = arg;

	for (unsigned i = 0; i < METRIC_COUNT; i++) {
		pthread_barrier_wait(a->barrier);
		a->first += metric_first(a->m, (enum metric)i, 0);
	}
	return NULL;
}

/* However many ask at once, of each metric and slot one is told that it is the first. */
START_TEST(one_is_the_first)
{
	struct metrics *m = new_metrics();
	struct asker askers[N_THREADS];
	pthread_t threads[N_THREADS];
	pthread_barrier_t barrier;
	unsigned first = 0;

	pthread_barrier_init(&barrier, NULL, N_THREADS);
	for (int i = 0; i < N_THREADS; i++) {
		askers[i] = (struct asker){ .m = m, .barrier = &barrier };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_first, &askers[i]), 0);
	}
	for (int i = 0; i < N_THREADS; i++) {
		pthread_join(threads[i], NULL);
		first += askers[i].first;
	}
	pthread_barrier_destroy(&barrier);
	ck_assert_uint_eq(first, METRIC_COUNT);
	ck_assert(!metric_first(m, METRIC_ODD_TIMEOUTS, 0));
	ck_assert(metric_first(m, METRIC_ODD_TIMEOUTS, 1));
	ck_assert(!metric_first(m, METRIC_ODD_TIMEOUTS, 1));
	/* of the whole service: whatever the slot */
	ck_assert(!metric_first(m, METRIC_RELOADS, 1));
	ck_assert(metric_first(NULL, METRIC_ODD_TIMEOUTS, 0));
	ck_assert(metric_first(NULL, METRIC_ODD_TIMEOUTS, 0));
	metrics_free(m);
}
END_TEST

START_TEST(sample_lines)
{
	struct metrics *m = new_metrics();
	char *text;

	metric_add(m, METRIC_SETTLED, 0, 7);
	metric_add(m, METRIC_SCAN_ROWS, 1, UINT64_C(18446744073709551615));
	metric_add(m, METRIC_RECONNECTS, METRIC_NO_ROUTE, 2);
	ck_assert_int_eq(metric_gauge(m, "queue_depth", "Queued.", true, ten_and_route, NULL), 0);
	text = exposition(m);
	ck_assert_ptr_nonnull(strstr(text, "\nstrandd_settled_total{tag=\"dm:evaluate_plan\",source=\"AD_strands\"} 7\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nstrandd_settled_total{tag=\"alpha:decision_feedback\",source=\"DM_strands\"} 0\n"));
	ck_assert_ptr_nonnull(strstr(text, "\"} 18446744073709551615\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nstrandd_reconnects_total 2\n"));
	ck_assert_ptr_nonnull(strstr(text, "\n# TYPE strandd_reconnects_total counter\n"));
	ck_assert_ptr_nonnull(strstr(text, "\n# HELP strandd_queue_depth Queued.\n# TYPE strandd_queue_depth gauge\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nstrandd_queue_depth{tag=\"alpha:decision_feedback\",source=\"DM_strands\"} 11\n"));
	free(text);
	metrics_free(m);
}
END_TEST

START_TEST(labels_and_help_are_escaped)
{
	static const char *const odd_tags[] = { "a\\b:\"c\"\nd{}=, " };
	static const char *const odd_sources[] = { "Größe \"x\"" };
	struct metrics *m = metrics_of(odd_tags, odd_sources, 1);
	char *text;

	ck_assert_int_eq(metric_gauge(m, "g", "a \"b\" \\ c\nd", false, ten_and_route, NULL), 0);
	text = exposition(m);
	ck_assert_ptr_nonnull(strstr(text, "{tag=\"a\\\\b:\\\"c\\\"\\nd{}=, \",source=\"Größe \\\"x\\\"\"} 0\n"));
	ck_assert_ptr_nonnull(strstr(text, "# HELP strandd_g a \"b\" \\\\ c\\nd\n"));
	free(text);
	metrics_free(m);
}
END_TEST

static void check_gauge_text(double value, const char *wanted)
{
	struct metrics *m = new_metrics();
	char *text, line[64];

	ck_assert_int_eq(metric_gauge(m, "g", "G.", false, value_of, &value), 0);
	text = exposition(m);
	snprintf(line, sizeof(line), "\nstrandd_g %s\n", wanted);
	ck_assert_msg(strstr(text, line) != NULL, "no %s in\n%s", line, text);
	free(text);
	metrics_free(m);
}

START_TEST(gauge_values)
{
	/* Where it is installed, a locale with a decimal comma. */
	setlocale(LC_NUMERIC, "de_DE.UTF-8");
	check_gauge_text(0, "0");
	check_gauge_text(-1.5, "-1.5");
	check_gauge_text(1700000000.25, "1700000000.25");
	check_gauge_text((double)NAN, "NaN");
	check_gauge_text((double)INFINITY, "+Inf");
	check_gauge_text((double)-INFINITY, "-Inf");
	setlocale(LC_NUMERIC, "C");
}
END_TEST

START_TEST(bad_gauge_names)
{
	struct metrics *m = new_metrics();

	ck_assert_int_eq(metric_gauge(m, "", "h", false, value_of, NULL), STRAND_EINVAL);
	ck_assert_int_eq(metric_gauge(m, "Queue depth", "h", false, value_of, NULL), STRAND_EINVAL);
	ck_assert_int_eq(metric_gauge(m, "strandd_x", "h", false, value_of, NULL), STRAND_EINVAL);
	ck_assert_int_eq(metric_gauge(m, "x", "h", false, ten_and_route, NULL), 0);
	ck_assert_int_eq(metric_gauge(m, "x", "h", false, ten_and_route, NULL), STRAND_EINVAL);
	metrics_free(m);
}
END_TEST

/* One line of the exposition format; a reader written from its description. */
static void check_line(const char *line, const char *family)
{
	static const char name_chars[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
	size_t n;
	char *end;

	n = strspn(line, name_chars);
	ck_assert_msg(n == strlen(family) && strncmp(line, family, n) == 0,
		      "sample outside its family %s: %s", family, line);
	line += n;
	if (*line == '{') {
		do {
			line++;
			n = strspn(line, name_chars);
			ck_assert_msg(n > 0, "label without a name: %s", line);
			line += n;
			ck_assert(line[0] == '=' && line[1] == '"');
			for (line += 2; *line != '"'; line++) {
				ck_assert_msg(*line != '\0', "label without an end");
				if (*line == '\\') {
					line++;
					ck_assert(*line == '\\' || *line == '"' || *line == 'n');
				}
			}
			line++;
		} while (*line == ',');
		ck_assert_int_eq(*line, '}');
		line++;
	}
	ck_assert_int_eq(*line, ' ');
	strtod(line + 1, &end);
	ck_assert_msg(end != line + 1 && *end == '\0', "no number: %s", line);
}

START_TEST(every_line_parses)
{
	static const char *const odd_tags[] = { "dm:evaluate_plan", "a\"}\\:\nb" };
	struct metrics *m = metrics_of(odd_tags, sources, 2);
	char *text, *line, *rest, family[128] = "";
	int samples = 0, families = 0;

	ck_assert_int_eq(metric_gauge(m, "in_flight", "Queued or running.", false, ten_and_route, NULL), 0);
	ck_assert_int_eq(metric_gauge(m, "queue_depth", "Queued.", true, ten_and_route, NULL), 0);
	text = exposition(m);
	ck_assert_int_eq(text[strlen(text) - 1], '\n');
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char name[128], kind[16];

		if (sscanf(line, "# HELP %127s", name) == 1) {
			families++;
			snprintf(family, sizeof(family), "%s", name);
			ck_assert_int_eq(strncmp(name, "strandd_", 8), 0);
		} else if (sscanf(line, "# TYPE %127s %15s", name, kind) == 2) {
			ck_assert_str_eq(name, family);
			ck_assert((strcmp(kind, "counter") == 0) == (strstr(name, "_total") != NULL));
		} else {
			check_line(line, family);
			samples++;
		}
	}
	ck_assert_int_eq(families, METRIC_COUNT + 2);
	ck_assert_int_eq(samples, 2 * METRIC_RECONNECTS + (METRIC_COUNT - METRIC_RECONNECTS) + 1 + 2);
	free(text);
	metrics_free(m);
}
END_TEST

START_TEST(no_routes_at_all)
{
	struct metrics *m = metrics_of(NULL, NULL, 0);
	char *text;

	metric_add(m, METRIC_RECONNECTS, METRIC_NO_ROUTE, 1);
	text = exposition(m);
	ck_assert_ptr_nonnull(strstr(text, "\nstrandd_reconnects_total 1\n"));
	ck_assert_ptr_null(strchr(text, '{'));
	free(text);
	metrics_free(m);
}
END_TEST

START_TEST(a_route_that_comes_back_goes_on_in_its_slot)
{
	struct metrics *m = new_metrics();
	unsigned slot = 99;

	metric_add(m, METRIC_SETTLED, 1, 5);
	ck_assert_int_eq(metric_slot(m, tags[1], sources[1], &slot), 0);
	ck_assert_uint_eq(slot, 1);
	ck_assert_int_eq(metric_slot(m, tags[1], sources[0], &slot), 0);
	ck_assert_uint_eq(slot, 2);
	ck_assert_uint_eq(metric_sum(m, METRIC_SETTLED, 1), 5);
	ck_assert_uint_eq(metric_sum(m, METRIC_SETTLED, 2), 0);
	metrics_free(m);
}
END_TEST

START_TEST(slots_have_an_end)
{
	struct metrics *m = metrics_of(NULL, NULL, 0);
	unsigned slot;
	char tag[24];

	for (unsigned i = 0; i < METRIC_SLOTS_MAX; i++) {
		snprintf(tag, sizeof(tag), "a:%u", i);
		ck_assert_int_eq(metric_slot(m, tag, "t", &slot), 0);
		metric_add(m, METRIC_SETTLED, slot, i);
	}
	slot = 99;
	ck_assert_int_eq(metric_slot(m, "a:more", "t", &slot), STRAND_EFULL);
	ck_assert_uint_eq(slot, 99);
	ck_assert_int_eq(metric_slot(m, "a:4000", "t", &slot), 0);
	ck_assert_uint_eq(metric_sum(m, METRIC_SETTLED, slot), 4000);
	metrics_free(m);
}
END_TEST

/* Slots are added while others count in those that there are, and read. */
START_TEST(slots_grow_while_threads_add)
{
	struct metrics *m = new_metrics();
	struct reader reader = { .m = m };
	pthread_t ids[N_THREADS], reading;
	unsigned slot;
	char tag[24];

	ck_assert_int_eq(pthread_create(&reading, NULL, read_many, &reader), 0);
	for (int i = 0; i < N_THREADS; i++)
		ck_assert_int_eq(pthread_create(&ids[i], NULL, add_many, m), 0);
	for (int i = 0; i < 200; i++) {
		snprintf(tag, sizeof(tag), "a:%d", i);
		ck_assert_int_eq(metric_slot(m, tag, "t", &slot), 0);
		metric_add(m, METRIC_SETTLED, slot, 1);
	}
	for (int i = 0; i < N_THREADS; i++)
		pthread_join(ids[i], NULL);
	atomic_store(&reader.stop, true);
	pthread_join(reading, NULL);
	ck_assert_uint_eq(metric_sum(m, METRIC_SETTLED, slot), 1);
	ck_assert_uint_eq(metric_sum(m, METRIC_SETTLED, 0), UINT64_C(1) * N_THREADS * N_ADDS / 2);
	metrics_free(m);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("metric");
	TCase *tc = tcase_create("metric");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, counts_by_route);
	tcase_add_test(tc, whole_service_metric_has_one_cell);
	tcase_add_test(tc, no_metrics_count_nothing);
	tcase_add_test(tc, a_new_struct_starts_at_zero);
	tcase_add_test(tc, two_structs_in_turn);
	tcase_add_test(tc, threads_add_and_nothing_is_lost);
	tcase_add_test(tc, one_is_the_first);
	tcase_add_test(tc, sample_lines);
	tcase_add_test(tc, labels_and_help_are_escaped);
	tcase_add_test(tc, gauge_values);
	tcase_add_test(tc, bad_gauge_names);
	tcase_add_test(tc, every_line_parses);
	tcase_add_test(tc, no_routes_at_all);
	tcase_add_test(tc, a_route_that_comes_back_goes_on_in_its_slot);
	tcase_add_test(tc, slots_have_an_end);
	tcase_add_test(tc, slots_grow_while_threads_add);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
