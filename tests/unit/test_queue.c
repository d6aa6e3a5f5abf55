#include "queue/queue.h"

#include "queue_support.h"

#include <malloc.h>
#include <unistd.h>

#include "base/event.h"
#include "queue/inflight.h"
#include "queue/retire.h"

static struct queue *q;

static void open_queue(unsigned n_routes, const unsigned *caps, size_t entries, size_t bytes)
{
	struct queue_config config = {
		.n_routes = n_routes,
		.max_workers = caps,
		.max_entries = entries,
		.max_bytes = bytes,
		.n_workers = 2,
	};

	ck_assert_int_eq(queue_new(&q, &config), 0);
}

static void setup(void)
{
	reader_start();
	open_queue(3, NULL, 100, 1000);
}

static void teardown(void)
{
	queue_free(q);
	reader_stop();
}

static enum queue_answer offer(unsigned route, const char *id, bool high)
{
	return queue_offer(q, route, id, strlen(id), high ? QUEUE_HIGH : 0);
}

static unsigned take_one(char id[32], unsigned *ret_route)
{
	struct delivery *d;
	size_t n = queue_take(q, 0, &d, 1, ret_route);

	if (n) {
		ck_assert_uint_lt(d->id_len, 32);
		ck_assert_uint_eq(strlen(d->id), d->id_len);
		memcpy(id, d->id, d->id_len + 1);
		ck_assert_uint_eq(d->route, *ret_route);
		queue_finish(q, d);
		queue_leave(q, *ret_route);
	}
	return (unsigned)n;
}

START_TEST(refuses_a_senseless_configuration)
{
	struct queue_config good = { .n_routes = 1, .max_entries = 1, .max_bytes = 1, .n_workers = 1 };
	struct queue_config bad;
	struct queue *none = NULL;

	bad = good;
	bad.n_routes = 0;
	ck_assert_int_eq(queue_new(&none, &bad), STRAND_EINVAL);
	bad = good;
	bad.max_entries = 0;
	ck_assert_int_eq(queue_new(&none, &bad), STRAND_EINVAL);
	bad = good;
	bad.max_bytes = 0;
	ck_assert_int_eq(queue_new(&none, &bad), STRAND_EINVAL);
	bad = good;
	bad.n_workers = 0;
	ck_assert_int_eq(queue_new(&none, &bad), STRAND_EINVAL);
	bad = good;
	bad.n_workers = 65;
	ck_assert_int_eq(queue_new(&none, &bad), STRAND_EINVAL);
	ck_assert_ptr_null(none);
	good.n_workers = 64;
	ck_assert_int_eq(queue_new(&none, &good), 0);
	queue_free(none);
	queue_free(NULL);
}
END_TEST

START_TEST(gives_back_what_was_offered_in_order)
{
	struct delivery *out[10];
	unsigned route;
	char id[16];

	for (int i = 0; i < 7; i++) {
		snprintf(id, sizeof(id), "AD_%d", i);
		ck_assert_int_eq(offer(1, id, false), QUEUE_ADDED);
	}
	ck_assert_uint_eq(queue_depth(q, 1), 7);
	ck_assert_uint_eq(queue_depth(q, 0), 0);
	ck_assert_uint_eq(queue_in_flight(q), 7);

	ck_assert_uint_eq(queue_take(q, 0, out, 0, &route), 0);
	ck_assert_uint_eq(queue_take(q, 0, out, 5, &route), 5);
	ck_assert_uint_eq(route, 1);
	ck_assert_uint_eq(queue_depth(q, 1), 2);
	ck_assert_uint_eq(queue_in_flight(q), 7);
	ck_assert_uint_eq(queue_take(q, 0, out + 5, 5, &route), 2);
	for (int i = 0; i < 7; i++) {
		snprintf(id, sizeof(id), "AD_%d", i);
		ck_assert_str_eq(out[i]->id, id);
		ck_assert(!out[i]->high && !out[i]->in_doubt);
		queue_finish(q, out[i]);
	}
	queue_leave(q, 1);
	queue_leave(q, 1);
	ck_assert_uint_eq(queue_in_flight(q), 0);
	ck_assert_uint_eq(queue_take(q, 0, out, 10, &route), 0);
}
END_TEST

START_TEST(drops_what_is_in_flight)
{
	struct delivery *d;
	unsigned route;

	ck_assert_int_eq(offer(0, "AD_1", false), QUEUE_ADDED);
	ck_assert_int_eq(offer(0, "AD_1", false), QUEUE_DUPLICATE);
	ck_assert_int_eq(offer(0, "AD_1", true), QUEUE_DUPLICATE);
	ck_assert_int_eq(offer(0, "AD_11", false), QUEUE_ADDED);
	ck_assert_int_eq(offer(0, "AD_", false), QUEUE_ADDED);
	ck_assert_int_eq(offer(0, "", false), QUEUE_ADDED);
	ck_assert_int_eq(offer(0, "", false), QUEUE_DUPLICATE);
	ck_assert_int_eq(offer(1, "AD_1", false), QUEUE_ADDED);	/* another route */

	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	ck_assert_str_eq(d->id, "AD_1");
	ck_assert_int_eq(queue_offer(q, route, "AD_1", 4, 0), QUEUE_DUPLICATE);	/* running */
	queue_finish(q, d);
	ck_assert_int_eq(queue_offer(q, route, "AD_1", 4, 0), QUEUE_ADDED);
	queue_leave(q, route);
}
END_TEST

START_TEST(keeps_the_bound_of_entries)
{
	struct delivery *d;
	unsigned route;
	char id[16];

	for (int i = 0; i < 100; i++) {
		snprintf(id, sizeof(id), "%d", i);
		ck_assert_int_eq(offer(0, id, false), QUEUE_ADDED);
	}
	ck_assert_int_eq(offer(0, "x", false), QUEUE_FULL);
	ck_assert_int_eq(offer(1, "x", false), QUEUE_FULL);
	ck_assert_int_eq(offer(0, "99", false), QUEUE_DUPLICATE);	/* known, though full */
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	ck_assert_int_eq(offer(0, "x", false), QUEUE_FULL);	/* running counts */
	queue_finish(q, d);
	ck_assert_int_eq(offer(0, "x", false), QUEUE_ADDED);
	ck_assert_int_eq(offer(0, "y", false), QUEUE_FULL);
	queue_leave(q, route);
}
END_TEST

START_TEST(keeps_the_bound_of_bytes)
{
	static const char id[1001];	/* of NULs: the length counts */
	struct delivery *d;
	unsigned route;

	ck_assert_int_eq(queue_offer(q, 0, id, 600, 0), QUEUE_ADDED);
	ck_assert_int_eq(queue_offer(q, 0, id, 401, 0), QUEUE_FULL);
	ck_assert_int_eq(queue_offer(q, 0, id, 400, 0), QUEUE_ADDED);
	ck_assert_int_eq(queue_offer(q, 0, id, 0, 0), QUEUE_ADDED);
	ck_assert_int_eq(queue_offer(q, 0, id, 1, 0), QUEUE_FULL);
	ck_assert_int_eq(queue_offer(q, 0, id, 400, 0), QUEUE_DUPLICATE);
	ck_assert_uint_eq(queue_in_flight(q), 3);
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	ck_assert_uint_eq(d->id_len, 600);
	queue_finish(q, d);
	queue_leave(q, route);
	ck_assert_int_eq(queue_offer(q, 0, id, 600, 0), QUEUE_ADDED);
	ck_assert_int_eq(queue_offer(q, 0, id, 1, 0), QUEUE_FULL);
}
END_TEST

START_TEST(an_id_longer_than_the_bound_goes_alone)
{
	static const char id[1500];
	struct delivery *d;
	unsigned route;

	ck_assert_int_eq(queue_offer(q, 0, id, 10, 0), QUEUE_ADDED);
	ck_assert_int_eq(queue_offer(q, 0, id, 1500, 0), QUEUE_FULL);
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	queue_finish(q, d);
	queue_leave(q, route);
	ck_assert_int_eq(queue_offer(q, 0, id, 1500, 0), QUEUE_ADDED);
	ck_assert_int_eq(queue_offer(q, 0, id, 1, 0), QUEUE_FULL);
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	ck_assert_uint_eq(d->id_len, 1500);
	queue_finish(q, d);
	queue_leave(q, route);
	ck_assert_int_eq(queue_offer(q, 0, id, 1, 0), QUEUE_ADDED);
}
END_TEST

START_TEST(counts_each_route)
{
	struct delivery *d;
	unsigned route;
	char id[32];

	offer(0, "a", false);
	offer(2, "a", false);
	offer(2, "b", true);
	offer(2, "b", true);	/* a duplicate */
	ck_assert_uint_eq(queue_in_flight_on(q, 0), 1);
	ck_assert_uint_eq(queue_in_flight_on(q, 1), 0);
	ck_assert_uint_eq(queue_in_flight_on(q, 2), 2);
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	ck_assert_uint_eq(queue_in_flight_on(q, 2), 2);
	queue_finish(q, d);
	queue_leave(q, route);
	ck_assert_uint_eq(queue_in_flight_on(q, 2), 1);
	while (take_one(id, &route))
		;
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(queue_in_flight_on(q, i), 0);
}
END_TEST

START_TEST(high_comes_first_over_all_routes)
{
	char id[32];
	unsigned route;

	offer(0, "n0", false);
	offer(1, "n1", false);
	offer(2, "n2", false);
	offer(2, "h2", true);
	offer(1, "h1", true);
	offer(1, "h1b", true);
	for (int i = 0; i < 3; i++) {
		ck_assert_uint_eq(take_one(id, &route), 1);
		ck_assert_int_eq(id[0], 'h');
	}
	for (int i = 0; i < 3; i++) {
		ck_assert_uint_eq(take_one(id, &route), 1);
		ck_assert_int_eq(id[0], 'n');
	}
}
END_TEST

START_TEST(a_batch_is_of_one_route_and_lane)
{
	struct delivery *out[10];
	unsigned route;

	offer(0, "a", false);
	offer(0, "b", true);
	offer(1, "c", true);
	offer(0, "d", false);
	for (int i = 0; i < 3; i++) {
		size_t n = queue_take(q, 0, out, 10, &route);

		ck_assert_uint_eq(n, i < 2 ? 1 : 2);
		for (size_t k = 0; k < n; k++) {
			ck_assert_uint_eq(out[k]->route, route);
			ck_assert_int_eq(out[k]->high, i < 2);
			queue_finish(q, out[k]);
		}
		queue_leave(q, route);
	}
}
END_TEST

START_TEST(routes_take_turns)
{
	unsigned times[3] = { 0 };
	unsigned last = 3;
	char id[32];

	for (int i = 0; i < 20; i++) {
		snprintf(id, sizeof(id), "%d", i);
		offer(0, id, false);
		offer(2, id, false);
	}
	for (int i = 0; i < 20; i++) {
		unsigned route;

		ck_assert_uint_eq(take_one(id, &route), 1);
		ck_assert_uint_ne(route, last);
		last = route;
		times[route]++;
	}
	ck_assert_uint_eq(times[0], 10);
	ck_assert_uint_eq(times[2], 10);
}
END_TEST

START_TEST(returned_goes_to_the_end_and_stays_in_flight)
{
	struct delivery *d;
	unsigned route;
	char id[32];

	offer(0, "a", false);
	offer(0, "b", false);
	for (int i = 0; i < 5; i++) {
		ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
		ck_assert_str_eq(d->id, i % 2 ? "b" : "a");
		d->in_doubt = true;
		queue_return(q, d);
		queue_leave(q, route);
		ck_assert_int_eq(offer(0, "a", false), QUEUE_DUPLICATE);
		ck_assert_uint_eq(queue_depth(q, 0), 2);
	}
	ck_assert_uint_eq(take_one(id, &route), 1);
	ck_assert_str_eq(id, "b");
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	ck_assert_str_eq(d->id, "a");
	ck_assert(d->in_doubt);
	queue_finish(q, d);
	queue_leave(q, route);
	ck_assert_uint_eq(queue_in_flight(q), 0);
}
END_TEST

START_TEST(forgotten_unless_offered_again)
{
	struct delivery *d;
	unsigned route;
	char id[32];

	offer(0, "a", false);
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	queue_forget(q, d);
	queue_leave(q, route);
	ck_assert_uint_eq(queue_in_flight(q), 0);

	offer(0, "b", true);
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	ck_assert_int_eq(offer(0, "b", false), QUEUE_DUPLICATE);
	queue_forget(q, d);
	queue_leave(q, route);
	ck_assert_uint_eq(queue_depth(q, 0), 1);
	/* an offer before it was taken is not one since */
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	ck_assert_str_eq(d->id, "b");
	queue_forget(q, d);
	queue_leave(q, route);
	ck_assert_uint_eq(queue_in_flight(q), 0);
	ck_assert_uint_eq(take_one(id, &route), 0);
}
END_TEST

START_TEST(a_capped_route_is_passed_over)
{
	static const unsigned caps[] = { 1, 0, 2 };
	struct delivery *a, *b, *c;
	unsigned route;

	queue_free(q);
	open_queue(3, caps, 100, 1000);
	offer(0, "a1", true);
	offer(0, "a2", true);
	offer(1, "b1", false);
	ck_assert_uint_eq(queue_take(q, 0, &a, 1, &route), 1);
	ck_assert_str_eq(a->id, "a1");
	ck_assert_uint_eq(queue_take(q, 0, &b, 1, &route), 1);
	ck_assert_str_eq(b->id, "b1");
	ck_assert_uint_eq(queue_take(q, 0, &c, 1, &route), 0);
	queue_finish(q, b);
	queue_leave(q, 1);
	ck_assert_uint_eq(queue_take(q, 0, &c, 1, &route), 0);
	queue_finish(q, a);
	queue_leave(q, 0);
	ck_assert_uint_eq(queue_take(q, 0, &c, 1, &route), 1);
	ck_assert_str_eq(c->id, "a2");
	queue_finish(q, c);
	queue_leave(q, 0);

	for (int i = 0; i < 3; i++)
		offer(2, (const char *[]){ "c1", "c2", "c3" }[i], false);
	ck_assert_uint_eq(queue_take(q, 0, &a, 1, &route), 1);
	ck_assert_uint_eq(queue_take(q, 0, &b, 1, &route), 1);
	ck_assert_uint_eq(queue_take(q, 0, &c, 1, &route), 0);
	ck_assert_uint_eq(queue_depth(q, 2), 1);
	queue_finish(q, a);
	queue_finish(q, b);
	queue_leave(q, 2);
	queue_leave(q, 2);
}
END_TEST

START_TEST(waiting_ends_with_work_deadline_or_stop)
{
	struct event stop;
	int64_t start;

	ck_assert_int_eq(event_init(&stop), 0);
	start = clock_now();
	ck_assert_int_eq(queue_wait(q, 0, clock_after_ms(30), -1), STRAND_ETIMEOUT);
	ck_assert_int_eq(queue_wait(q, 0, clock_after_ms(30), stop.fd), STRAND_ETIMEOUT);
	ck_assert_int_ge(clock_now() - start, 60 * NSEC_PER_MSEC);
	ck_assert_int_eq(queue_wait(q, 0, clock_now() - NSEC_PER_SEC, -1), STRAND_ETIMEOUT);

	event_signal(&stop);
	ck_assert_int_eq(queue_wait(q, 1, clock_after_ms(LONG_MS), stop.fd), STRAND_ESTOPPED);
	event_clear(&stop);

	offer(2, "a", false);
	ck_assert_int_eq(queue_wait(q, 0, clock_after_ms(LONG_MS), stop.fd), 0);
	event_release(&stop);
}
END_TEST

/* With a backlog that only the holder of the route may take, others sleep. */
START_TEST(a_capped_route_wakes_nobody)
{
	static const unsigned caps[] = { 1 };
	struct delivery *out[10];
	unsigned route;
	int64_t start = clock_now();

	queue_free(q);
	open_queue(1, caps, 100, 1000);
	for (int i = 0; i < 50; i++)
		offer(0, (char[]){ 'a', (char)('0' + i), 0 }, i % 2);
	ck_assert_uint_eq(queue_take(q, 0, out, 10, &route), 10);
	ck_assert_int_eq(queue_wait(q, 1, clock_after_ms(100), -1), STRAND_ETIMEOUT);
	ck_assert_int_ge(clock_now() - start, 100 * NSEC_PER_MSEC);
	for (int i = 0; i < 10; i++)
		queue_return(q, out[i]);
	ck_assert_int_eq(queue_wait(q, 1, clock_after_ms(50), -1), STRAND_ETIMEOUT);
	queue_leave(q, route);
	ck_assert_int_eq(queue_wait(q, 1, clock_after_ms(LONG_MS), -1), 0);
}
END_TEST

static _Atomic int slept;	/* what the sleeper's wait returned; 1 before */

static void sleep_as_one(unsigned me)
{
	(void)me;
	atomic_store(&slept, queue_wait(q, 1, clock_after_ms(LONG_MS), -1));
}

static void wait_for_sleeper(struct crew *sleeper)
{
	for (int i = 0; i < LONG_MS / 20 && atomic_load(&slept) == 1; i++)
		usleep(10000);
	ck_assert_int_eq(atomic_load(&slept), 0);
	crew_join(sleeper);
}

/* _i says how the sleeper gets its work. */
START_TEST(work_wakes_a_sleeper)
{
	static const unsigned caps[] = { 1, 0 };
	struct delivery *d;
	struct crew sleeper;
	unsigned route;

	queue_free(q);
	open_queue(2, caps, 100, 1000);
	offer(0, "a", false);
	offer(0, "b", true);
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	atomic_store(&slept, 1);
	crew_start(&sleeper, 1, sleep_as_one);
	usleep(50000);
	ck_assert_int_eq(atomic_load(&slept), 1);
	if (_i == 0) {
		offer(1, "c", false);
		wait_for_sleeper(&sleeper);
		queue_leave(q, route);
	} else if (_i == 1) {
		queue_leave(q, route);	/* and does not come again */
		wait_for_sleeper(&sleeper);
	} else {
		queue_return(q, d);	/* at its cap: nobody is woken */
		usleep(50000);
		ck_assert_int_eq(atomic_load(&slept), 1);
		queue_leave(q, route);
		wait_for_sleeper(&sleeper);
	}
}
END_TEST

/* An offer that is answered DUPLICATE belongs with what it doubles. */
START_TEST(an_epoch_is_over_when_its_offers_are_finished)
{
	struct delivery *first, *d;
	unsigned route;
	char id[32];

	ck_assert(queue_epoch_over(q, 0));
	offer(0, "a", false);
	offer(0, "b", false);
	ck_assert_uint_eq(queue_take(q, 0, &first, 1, &route), 1);
	ck_assert(queue_epoch_begin(q, 0));
	ck_assert(!queue_epoch_over(q, 0));
	ck_assert(queue_epoch_over(q, 1));
	offer(0, "b", false);
	offer(0, "c", false);
	ck_assert(!queue_epoch_begin(q, 0));
	queue_return(q, first);	/* behind b and c, and still of the old epoch */
	queue_leave(q, route);
	ck_assert(take_one(id, &route));
	ck_assert_str_eq(id, "b");
	ck_assert(take_one(id, &route));
	ck_assert_str_eq(id, "c");
	ck_assert(!queue_epoch_over(q, 0));
	offer(0, "d", false);
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	ck_assert_str_eq(d->id, "a");
	queue_finish(q, d);
	queue_leave(q, route);
	ck_assert(queue_epoch_over(q, 0));	/* d is of the new one */
	ck_assert(queue_epoch_begin(q, 0));
	ck_assert(!queue_epoch_over(q, 0));
	ck_assert(take_one(id, &route));
	ck_assert(queue_epoch_over(q, 0));
}
END_TEST

/* A strand that was not there yet when it was looked for keeps its epoch open
 * while it is looked for again. */
START_TEST(a_forgotten_one_that_was_offered_again_keeps_its_epoch)
{
	struct delivery *d;
	unsigned route;

	offer(0, "a", false);
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	ck_assert(queue_epoch_begin(q, 0));
	offer(0, "a", false);
	queue_forget(q, d);
	queue_leave(q, route);
	ck_assert(!queue_epoch_over(q, 0));
	ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
	ck_assert(d->counted);
	queue_forget(q, d);
	queue_leave(q, route);
	ck_assert(queue_epoch_over(q, 0));
}
END_TEST

/* Another thread has begun to forget it and stands still: nobody waits for it,
 * and nobody takes its entry for an answer. */
START_TEST(an_offer_takes_a_leaving_entry_out)
{
	struct inflight f;
	struct entry *old, *next;

	ck_assert_int_eq(inflight_init(&f, 1, 2, 0, 100), 0);
	ck_assert_int_eq(inflight_add(&f, 0, "a", 1, 0, &old), QUEUE_ADDED);
	inflight_taken(old);
	atomic_store(&old->hint, HINT_LEAVING);
	if (_i) {	/* the set is full: looked up, not added */
		ck_assert_int_eq(inflight_add(&f, 0, "b", 1, 0, &next), QUEUE_ADDED);
		ck_assert_int_eq(inflight_add(&f, 0, "a", 1, 0, &next), QUEUE_FULL);
	} else {
		ck_assert_int_eq(inflight_add(&f, 0, "a", 1, 0, &next), QUEUE_ADDED);
		ck_assert_ptr_ne(next, old);
		ck_assert_int_eq(inflight_add(&f, 0, "a", 1, 0, &next), QUEUE_DUPLICATE);
	}
	ck_assert_uint_gt(retire_pending(), 0);
	inflight_release(&f);
	retire_wait();
}
END_TEST

START_TEST(freeing_takes_what_is_left)
{
	struct delivery *out[4];
	unsigned route;
	char id[16];

	for (int i = 0; i < 90; i++) {
		snprintf(id, sizeof(id), "%d", i);
		ck_assert_int_eq(offer((unsigned)i % 3, id, i % 4 == 0), QUEUE_ADDED);
	}
	ck_assert_uint_eq(queue_take(q, 0, out, 4, &route), 4);	/* never finished */
	queue_return(q, out[0]);
	queue_free(q);
	ck_assert_uint_eq(retire_pending(), 0);
	q = NULL;
}
END_TEST

#if !SANITIZED
/* Resident memory of this process in KiB. */
static long resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long size, pages;
	int n;

	ck_assert_ptr_nonnull(f);
	n = fscanf(f, "%ld %ld", &size, &pages);
	fclose(f);
	ck_assert_int_eq(n, 2);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

START_TEST(a_full_queue_is_small)
{
	size_t before, used;
	char id[32];

	queue_free(q);
	before = mallinfo2().uordblks;
	open_queue(5, NULL, 20000, 8 << 20);
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(id, sizeof(id), "AD_%012X", i);
		ck_assert_int_eq(offer(i % 5, id, false), QUEUE_ADDED);
	}
	ck_assert_int_eq(offer(0, "one more", false), QUEUE_FULL);
	used = mallinfo2().uordblks - before;
	ck_assert_msg(used < 4 << 20, "%zu bytes for 20,000 deliveries", used);
}
END_TEST

/* Two million deliveries go by, a tenth of them returned once, every one
 * offered three times: memory stays what it was after the first fifth. */
START_TEST(memory_stays_flat)
{
	unsigned total = scaled(2000000);
	long base = 0, most = 0;
	size_t held = 0;

	queue_free(q);
	open_queue(2, NULL, 20000, 8 << 20);
	for (unsigned i = 0; i < total;) {
		struct delivery *out[100];
		unsigned route;
		size_t n;
		char id[32];

		for (unsigned k = 0; k < 100; k++, i++) {
			snprintf(id, sizeof(id), "AD_%012X", i);
			ck_assert_int_eq(offer(0, id, false), QUEUE_ADDED);
			ck_assert_int_eq(offer(0, id, false), QUEUE_DUPLICATE);
			ck_assert_int_eq(offer(0, id, true), QUEUE_DUPLICATE);
		}
		while ((n = queue_take(q, 0, out, 100, &route))) {
			for (size_t k = 0; k < n; k++) {
				if (!out[k]->in_doubt && k % 10 == 0) {
					out[k]->in_doubt = true;
					queue_return(q, out[k]);
				} else {
					queue_finish(q, out[k]);
				}
			}
			queue_leave(q, route);
		}
		if (i >= total / 5 && !base) {
			retire_wait();
			base = resident();
			held = mallinfo2().uordblks;
		}
		if (i % 10000 == 0 && resident() > most)
			most = resident();
	}
	retire_wait();
	ck_assert_uint_eq(queue_in_flight(q), 0);
	ck_assert_msg(mallinfo2().uordblks < held + (64 << 10), "%zu bytes held, %zu before",
		      mallinfo2().uordblks, held);
	ck_assert_msg(most < base + 6 * 1024, "%ld KiB resident at most, %ld before", most, base);
}
END_TEST
#endif

int main(void)
{
	Suite *s = suite_create("queue");
	TCase *t = tcase_create("queue");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, refuses_a_senseless_configuration);
	tcase_add_test(t, gives_back_what_was_offered_in_order);
	tcase_add_test(t, drops_what_is_in_flight);
	tcase_add_test(t, keeps_the_bound_of_entries);
	tcase_add_test(t, keeps_the_bound_of_bytes);
	tcase_add_test(t, an_id_longer_than_the_bound_goes_alone);
	tcase_add_test(t, counts_each_route);
	tcase_add_test(t, high_comes_first_over_all_routes);
	tcase_add_test(t, a_batch_is_of_one_route_and_lane);
	tcase_add_test(t, routes_take_turns);
	tcase_add_test(t, returned_goes_to_the_end_and_stays_in_flight);
	tcase_add_test(t, forgotten_unless_offered_again);
	tcase_add_test(t, a_capped_route_is_passed_over);
	tcase_add_test(t, waiting_ends_with_work_deadline_or_stop);
	tcase_add_test(t, a_capped_route_wakes_nobody);
	tcase_add_loop_test(t, work_wakes_a_sleeper, 0, 3);
	tcase_add_test(t, an_epoch_is_over_when_its_offers_are_finished);
	tcase_add_loop_test(t, an_offer_takes_a_leaving_entry_out, 0, 2);
	tcase_add_test(t, a_forgotten_one_that_was_offered_again_keeps_its_epoch);
	tcase_add_test(t, freeing_takes_what_is_left);
#if !SANITIZED
	tcase_add_test(t, a_full_queue_is_small);
	tcase_add_test(t, memory_stays_flat);
#endif
	suite_add_tcase(s, t);
	return run_suite(s);
}
