/* Which routes are suspended, and when each is probed. */
#include "strand/suspension.h"

#include "queue_support.h"

#include <sched.h>

#include "queue/queue.h"

#define ROUTES 3
#define FIRST_MS 1000
#define CAP_MS 30000

static struct queue *q;
static struct queue *queues[ROUTES];
static struct suspensions s;

static void setup(void)
{
	struct queue_config config = { .n_routes = ROUTES, .max_entries = 100, .max_bytes = 10000, .n_workers = 1 };

	reader_start();
	ck_assert_int_eq(queue_new(&q, &config), 0);
	for (int i = 0; i < ROUTES; i++)
		queues[i] = q;
	ck_assert_int_eq(suspensions_init(&s, queues, ROUTES), 0);
	for (unsigned route = 0; route < ROUTES; route++)
		ck_assert_int_eq(queue_offer(q, route, "a", 1, 0), QUEUE_ADDED);
}

static void teardown(void)
{
	suspensions_release(&s);
	queue_free(q);
	reader_stop();
}

static bool closed(unsigned route)
{
	struct queue_look look;

	queue_look(q, route, &look);
	return look.closed;
}

/* The next probe's time was chosen between these two: it is `low` to `high`
 * milliseconds later. */
static void next_is(int64_t before, int64_t after, int64_t low, int64_t high)
{
	int64_t next = suspension_next(&s, q);

	ck_assert_msg(next >= before + low * NSEC_PER_MSEC && next <= after + high * NSEC_PER_MSEC,
		      "%lld ms, not %lld to %lld", (long long)((next - before) / NSEC_PER_MSEC),
		      (long long)low, (long long)high);
}

static void begin(unsigned route, bool recorded)
{
	int64_t before = clock_now();

	ck_assert(suspension_begin(&s, route, recorded));
	next_is(before, clock_now(), FIRST_MS / 2, FIRST_MS);
}

/* A probe of the only route that is suspended, made when it is due; the next one
 * follows `low` to `high` milliseconds later. */
static void probe(unsigned route, bool tried, int64_t low, int64_t high)
{
	int64_t before;

	ck_assert_int_eq(suspension_due(&s, q, suspension_next(&s, q)), (int)route);
	before = clock_now();
	suspension_probed(&s, route, tried);
	next_is(before, clock_now(), low, high);
}

START_TEST(begins_and_ends_once)
{
	ck_assert(!suspension_on(&s, 1) && !suspension_end(&s, 1));
	begin(1, false);
	ck_assert(suspension_on(&s, 1) && closed(1) && !suspension_recorded(&s, 1));
	ck_assert(!suspension_on(&s, 0) && !closed(0));
	ck_assert(!suspension_begin(&s, 1, true));	/* it is now in the database, too */
	ck_assert(suspension_recorded(&s, 1));
	ck_assert(!suspension_begin(&s, 1, false));	/* which takes nothing back */
	ck_assert(suspension_recorded(&s, 1));
	ck_assert(suspension_end(&s, 1));
	ck_assert(!suspension_on(&s, 1) && !closed(1) && !suspension_recorded(&s, 1));
	ck_assert(!suspension_end(&s, 1));
}
END_TEST

START_TEST(a_second_begin_does_not_put_the_probe_off)
{
	int64_t next;

	begin(0, false);
	next = suspension_next(&s, q);
	for (int i = 0; i < 100; i++)
		ck_assert(!suspension_begin(&s, 0, i % 2));
	ck_assert_int_eq(suspension_next(&s, q), next);
}
END_TEST

/* From a second to half a minute, for as long as it takes. */
START_TEST(probes_back_off)
{
	int64_t high = FIRST_MS;

	begin(2, true);
	for (int i = 0; i < 200; i++) {
		high = high * 2 < CAP_MS ? high * 2 : CAP_MS;
		probe(2, true, high / 2, high);
	}
}
END_TEST

/* One without a strand, or without a connection, has shown nothing. */
START_TEST(a_probe_that_tried_nothing_changes_nothing)
{
	begin(2, true);
	for (int i = 0; i < 100; i++)
		probe(2, false, FIRST_MS / 2, FIRST_MS);
	probe(2, true, FIRST_MS, 2 * FIRST_MS);
	for (int i = 0; i < 100; i++)
		probe(2, false, FIRST_MS, 2 * FIRST_MS);
	probe(2, true, 2 * FIRST_MS, 4 * FIRST_MS);
}
END_TEST

START_TEST(probes_are_made_when_they_are_due)
{
	int64_t next;

	ck_assert_int_eq(suspension_next(&s, q), INT64_MAX);
	ck_assert_int_eq(suspension_due(&s, q, INT64_MAX), -1);
	begin(1, false);
	next = suspension_next(&s, q);
	ck_assert_int_eq(suspension_due(&s, q, next - 1), -1);
	ck_assert_int_eq(suspension_due(&s, q, next), 1);
	/* somebody is at it */
	ck_assert_int_eq(suspension_due(&s, q, INT64_MAX), -1);
	ck_assert_int_eq(suspension_next(&s, q), INT64_MAX);
	suspension_probed(&s, 1, true);
	ck_assert_int_eq(suspension_due(&s, q, suspension_next(&s, q)), 1);
}
END_TEST

/* Each route by itself, and the one that is due first is waited for. */
START_TEST(several_routes)
{
	int64_t first;

	begin(0, false);
	for (int i = 0; i < 4; i++)
		probe(0, true, FIRST_MS, CAP_MS);
	probe(0, true, CAP_MS / 2, CAP_MS);
	begin(2, false);
	first = suspension_next(&s, q);
	ck_assert_int_eq(suspension_due(&s, q, first), 2);
	ck_assert_int_gt(suspension_next(&s, q), first);
	ck_assert_int_eq(suspension_due(&s, q, suspension_next(&s, q)), 0);
	ck_assert_int_eq(suspension_next(&s, q), INT64_MAX);
}
END_TEST

START_TEST(the_end_forgets_what_was_before)
{
	begin(1, true);
	for (int i = 0; i < 10; i++)
		probe(1, true, FIRST_MS, CAP_MS);
	suspension_add_row(&s, 1, false, 2);
	ck_assert_uint_eq(suspension_failures(&s, 1), 2);
	ck_assert_int_eq(suspension_due(&s, q, INT64_MAX), 1);
	ck_assert(suspension_end(&s, 1));	/* in the middle of a probe: by hand, say */
	ck_assert_int_eq(suspension_due(&s, q, INT64_MAX), -1);
	ck_assert_uint_eq(suspension_failures(&s, 1), 0);
	/* the next one is probed as if it were the first */
	begin(1, false);
	probe(1, true, FIRST_MS, 2 * FIRST_MS);
}
END_TEST

START_TEST(failures_in_a_row)
{
	unsigned successes = suspension_successes(&s, 0);

	for (unsigned i = 1; i <= 5; i++)
		suspension_add_row(&s, 0, false, i);
	suspension_add_row(&s, 1, false, 1);	/* another route's */
	ck_assert_uint_eq(suspension_failures(&s, 0), 15);
	ck_assert_uint_eq(suspension_successes(&s, 0), successes);
	suspension_success(&s, 0);
	ck_assert_uint_ne(suspension_successes(&s, 0), successes);
	ck_assert_uint_eq(suspension_failures(&s, 0), 15);
	suspension_add_row(&s, 0, true, 2);	/* behind one that went through */
	ck_assert_uint_eq(suspension_failures(&s, 0), 2);
	suspension_add_row(&s, 0, true, 0);
	ck_assert_uint_eq(suspension_failures(&s, 0), 0);
	ck_assert_uint_eq(suspension_failures(&s, 1), 1);
}
END_TEST

/* --- threads --------------------------------------------------------------- */

static _Atomic unsigned at_it, probes_made, begun, ended, arrived;
static unsigned rounds;

static void compete(unsigned me)
{
	for (unsigned i = 0; i < rounds; i++) {
		int route = suspension_due(&s, q, INT64_MAX);
		if (route < 0)
			continue;
		MUST(atomic_fetch_add(&at_it, 1) == 0);
		atomic_fetch_add(&probes_made, 1);
		sched_yield();
		atomic_fetch_sub(&at_it, 1);
		suspension_probed(&s, (unsigned)route, (i + me) % 2);
	}
}

START_TEST(one_prober_at_a_time)
{
	struct crew crew;

	rounds = scaled(20000);
	begin(1, true);
	crew_start(&crew, 4, compete);
	crew_join(&crew);
	ck_assert_uint_eq(atomic_load(&wrong), 0);
	ck_assert_uint_gt(atomic_load(&probes_made), 0);
}
END_TEST

/* Both threads have come here for the n-th time. */
static void meet(unsigned n)
{
	atomic_fetch_add(&arrived, 1);
	for (unsigned i = 0; atomic_load(&arrived) < 2 * n; i++)
		if (i > 1000)
			sched_yield();
}

/* A worker suspends the route, or the scanner that reads so, while another resumes it. */
static void change_minds(unsigned me)
{
	for (unsigned i = 0; i < rounds; i++) {
		meet(2 * i + 1);
		if (me)
			atomic_fetch_add(&begun, suspension_begin(&s, 0, i % 2));
		else
			atomic_fetch_add(&ended, suspension_end(&s, 0));
		meet(2 * i + 2);
		MUST(closed(0) == suspension_on(&s, 0));
		MUST(atomic_load(&begun) - atomic_load(&ended) == suspension_on(&s, 0));
	}
}

START_TEST(the_gate_is_as_it_was_left)
{
	struct crew crew;

	rounds = scaled(200000);
	crew_start(&crew, 2, change_minds);
	crew_join(&crew);
	ck_assert_uint_eq(atomic_load(&wrong), 0);
	ck_assert_uint_gt(atomic_load(&begun), 0);
}
END_TEST

/* A crew probes the routes of its own queue alone. */
START_TEST(each_queue_has_its_own_probes)
{
	struct queue *other = NULL;
	struct queue_config config = { .n_routes = ROUTES, .max_entries = 100, .max_bytes = 10000, .n_workers = 1 };

	ck_assert_int_eq(queue_new(&other, &config), 0);
	queues[1] = other;
	ck_assert(suspension_begin(&s, 0, false));
	ck_assert(suspension_begin(&s, 1, false));
	ck_assert_int_eq(suspension_due(&s, other, INT64_MAX), 1);
	ck_assert_int_eq(suspension_due(&s, other, INT64_MAX), -1);
	ck_assert_int_eq(suspension_next(&s, other), INT64_MAX);
	ck_assert_int_lt(suspension_next(&s, q), INT64_MAX);
	ck_assert_int_eq(suspension_due(&s, q, INT64_MAX), 0);
	queues[1] = q;
	queue_free(other);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("suspension");
	TCase *t = tcase_create("suspension");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, begins_and_ends_once);
	tcase_add_test(t, a_second_begin_does_not_put_the_probe_off);
	tcase_add_test(t, probes_back_off);
	tcase_add_test(t, a_probe_that_tried_nothing_changes_nothing);
	tcase_add_test(t, probes_are_made_when_they_are_due);
	tcase_add_test(t, several_routes);
	tcase_add_test(t, the_end_forgets_what_was_before);
	tcase_add_test(t, failures_in_a_row);
	tcase_add_test(t, one_prober_at_a_time);
	tcase_add_test(t, the_gate_is_as_it_was_left);
	tcase_add_test(t, each_queue_has_its_own_probes);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
