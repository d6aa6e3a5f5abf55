/* Which work goes first, and which worker may take it. */
#include "queue/queue.h"

#include "queue_support.h"

#include <sched.h>

#include "base/event.h"
#include "queue/ageing.h"
#include "queue/gate.h"

#define RESERVED 0	/* the worker, in queues with one reserved */
#define GENERAL 1

static struct queue *q;

static void open_queue(struct queue_config config)
{
	config.n_routes = config.n_routes ? config.n_routes : 3;
	config.max_entries = config.max_entries ? config.max_entries : 1000;
	config.max_bytes = 100000;
	config.n_workers = config.n_workers ? config.n_workers : 2;
	ck_assert_int_eq(queue_new(&q, &config), 0);
}

static void teardown(void)
{
	queue_free(q);
	q = NULL;
	reader_stop();
}

static enum queue_answer offer(unsigned route, const char *id, unsigned flags)
{
	return queue_offer(q, route, id, strlen(id), flags);
}

static void offer_many(unsigned route, char kind, unsigned n, unsigned flags)
{
	char id[16];

	for (unsigned i = 0; i < n; i++) {
		snprintf(id, sizeof(id), "%c%u", kind, i);
		ck_assert_int_eq(offer(route, id, flags), QUEUE_ADDED);
	}
}

static size_t finish(struct delivery **out, size_t n, unsigned route)
{
	for (size_t i = 0; i < n; i++)
		queue_finish(q, out[i]);
	if (n)
		queue_leave(q, route);
	return n;
}

/* Takes one and finishes it; the first letter of its id, 0: there was none. */
static char take_letter(unsigned worker)
{
	struct delivery *d;
	unsigned route;
	char letter;

	if (!queue_take(q, worker, &d, 1, &route))
		return 0;
	letter = *d->id;
	finish(&d, 1, route);
	return letter;
}

static size_t take_all(unsigned worker)
{
	struct delivery *out[100];
	unsigned route;
	size_t n, total = 0;

	while ((n = queue_take(q, worker, out, 100, &route)))
		total += finish(out, n, route);
	return total;
}

/* --- reserved workers ---------------------------------------------------- */

START_TEST(somebody_is_left_for_normal_work)
{
	struct queue_config config = { .n_routes = 1, .max_entries = 1, .max_bytes = 1, .n_workers = 2,
				       .reserved_for_high = 2 };

	ck_assert_int_eq(queue_new(&q, &config), STRAND_EINVAL);
	config.reserved_for_high = 1;
	ck_assert_int_eq(queue_new(&q, &config), 0);
}
END_TEST

START_TEST(a_reserved_worker_takes_high_work_only)
{
	open_queue((struct queue_config){ .reserved_for_high = 1 });
	offer(0, "n", 0);
	ck_assert_int_eq(take_letter(RESERVED), 0);
	offer(2, "h", QUEUE_HIGH);
	ck_assert_int_eq(take_letter(RESERVED), 'h');
	ck_assert_int_eq(take_letter(RESERVED), 0);
	offer(1, "h", QUEUE_HIGH);
	ck_assert_int_eq(take_letter(GENERAL), 'h');
	ck_assert_int_eq(take_letter(GENERAL), 'n');
}
END_TEST

START_TEST(a_reserved_worker_sleeps_beside_normal_work)
{
	open_queue((struct queue_config){ .reserved_for_high = 1 });
	offer(0, "n", 0);
	ck_assert_int_eq(queue_wait(q, RESERVED, clock_after_ms(50), -1), STRAND_ETIMEOUT);
	ck_assert_int_eq(queue_wait(q, GENERAL, clock_after_ms(LONG_MS), -1), 0);
	offer(0, "h", QUEUE_HIGH);
	ck_assert_int_eq(queue_wait(q, RESERVED, clock_after_ms(LONG_MS), -1), 0);
}
END_TEST

/* Both workers asleep: who is woken? */
static struct {
	struct crew crew;
	struct event stop;
	_Atomic int result[2];	/* of each worker's wait; 1: it sleeps */
} sleepers;

static void sleep_once(unsigned me)
{
	atomic_store(&sleepers.result[me], queue_wait(q, me, clock_after_ms(LONG_MS), sleepers.stop.fd));
}

static void sleep_both(void)
{
	atomic_store(&sleepers.result[RESERVED], 1);
	atomic_store(&sleepers.result[GENERAL], 1);
	ck_assert_int_eq(event_init(&sleepers.stop), 0);
	crew_start(&sleepers.crew, 2, sleep_once);
	while (queue_idle(q) < 2)
		sched_yield();
}

/* Nobody is on the way to the other one, which sleeps until it is told to stop. */
static void woken_is(unsigned worker)
{
	thread_join(&sleepers.crew.threads[worker]);
	ck_assert_int_eq(atomic_load(&sleepers.result[worker]), 0);
	ck_assert_uint_eq(queue_idle(q), 1);
	event_signal(&sleepers.stop);
	thread_join(&sleepers.crew.threads[!worker]);
	ck_assert_int_eq(atomic_load(&sleepers.result[!worker]), STRAND_ESTOPPED);
	event_release(&sleepers.stop);
}

START_TEST(an_offer_wakes_one_who_may_take_it)
{
	open_queue((struct queue_config){ .reserved_for_high = 1 });
	sleep_both();
	offer(0, "a", _i ? QUEUE_HIGH : 0);
	woken_is(_i ? RESERVED : GENERAL);
}
END_TEST

/* Whoever opens the route, or leaves it and does not come again, looks for those
 * who are idle. */
START_TEST(what_is_left_wakes_one_who_may_take_it)
{
	static const unsigned caps[] = { 1, 0, 0 };
	struct delivery *d;

	open_queue((struct queue_config){ .reserved_for_high = 1, .max_workers = caps });
	offer(0, "h", QUEUE_HIGH);
	ck_assert_uint_eq(queue_take_closed(q, 0, &d, 1), 1);
	sleep_both();
	offer(0, "a", _i % 2 ? QUEUE_HIGH : 0);
	queue_close(q, 0);
	if (_i < 2) {
		finish(&d, 1, 0);
		ck_assert_uint_eq(queue_idle(q), 2);
		queue_open(q, 0);
	} else {
		queue_open(q, 0);
		ck_assert_uint_eq(queue_idle(q), 2);
		finish(&d, 1, 0);
	}
	woken_is(_i % 2 ? RESERVED : GENERAL);
}
END_TEST

/* --- ageing --------------------------------------------------------------- */

START_TEST(normal_work_keeps_its_share)
{
	unsigned normal = 0;

	open_queue((struct queue_config){ .normal_share_every = 4 });
	offer_many(0, 'n', 20, 0);
	offer_many(1, 'h', 100, QUEUE_HIGH);
	for (int i = 1; i <= 50; i++) {
		char letter = take_letter(0);

		ck_assert_int_eq(letter, i % 5 ? 'h' : 'n');
		normal += letter == 'n';
	}
	ck_assert_uint_eq(normal, 10);
}
END_TEST

START_TEST(without_ageing_normal_work_waits)
{
	open_queue((struct queue_config){ .normal_share_every = 0 });
	offer_many(0, 'n', 5, 0);
	offer_many(1, 'h', 200, QUEUE_HIGH);
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(take_letter(0), 'h');
	ck_assert_int_eq(take_letter(0), 'n');
}
END_TEST

START_TEST(only_what_normal_work_waited_for_is_counted)
{
	open_queue((struct queue_config){ .normal_share_every = 4 });
	offer_many(1, 'h', 50, QUEUE_HIGH);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(take_letter(0), 'h');
	offer_many(0, 'n', 5, 0);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(take_letter(0), 'h');
	ck_assert_int_eq(take_letter(0), 'n');
}
END_TEST

START_TEST(reserved_workers_neither_count_nor_give_way)
{
	open_queue((struct queue_config){ .normal_share_every = 4, .reserved_for_high = 1 });
	offer_many(0, 'n', 5, 0);
	offer_many(1, 'h', 50, QUEUE_HIGH);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(take_letter(RESERVED), 'h');
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(take_letter(GENERAL), 'h');
	ck_assert_int_eq(take_letter(RESERVED), 'h');
	ck_assert_int_eq(take_letter(GENERAL), 'n');
}
END_TEST

/* What is due while its route is at the cap stays due. */
START_TEST(a_due_batch_is_not_lost_at_the_cap)
{
	static const unsigned caps[] = { 1, 0, 0 };
	struct delivery *held;
	unsigned route;

	open_queue((struct queue_config){ .normal_share_every = 2, .max_workers = caps,
					   .n_workers = 1 });
	offer(0, "h", QUEUE_HIGH);
	ck_assert_uint_eq(queue_take(q, 0, &held, 1, &route), 1);
	offer_many(0, 'n', 2, 0);
	offer_many(1, 'h', 50, QUEUE_HIGH);
	for (int i = 0; i < 11; i++)
		ck_assert_int_eq(take_letter(0), 'h');
	finish(&held, 1, route);
	ck_assert_int_eq(take_letter(0), 'n');
	ck_assert_int_eq(take_letter(0), 'h');
	ck_assert_int_eq(take_letter(0), 'h');
	ck_assert_int_eq(take_letter(0), 'n');
}
END_TEST

START_TEST(a_due_batch_is_claimed_once)
{
	struct ageing a;

	ageing_init(&a, 2, 1);
	ageing_took_high(&a, true);
	ck_assert(!ageing_claim(&a));
	for (int i = 0; i < 10; i++)
		ageing_took_high(&a, true);
	ck_assert(ageing_claim(&a));
	ck_assert(!ageing_claim(&a));
	ageing_restore(&a);
	ck_assert(ageing_claim(&a));
	ageing_restore(&a);
	ageing_took_normal(&a);
	ck_assert(!ageing_claim(&a));
	/* four workers: three more may have taken a high one before they see it */
	ageing_init(&a, 2, 4);
	for (int i = 0; i < 10; i++)
		ageing_took_high(&a, true);
	ck_assert(ageing_claim(&a) && ageing_claim(&a));
	ck_assert(!ageing_claim(&a));
	ageing_init(&a, 0, 1);
	for (int i = 0; i < 10; i++)
		ageing_took_high(&a, true);
	ck_assert(!ageing_claim(&a));
}
END_TEST

/* --- batches and turns ------------------------------------------------------ */

START_TEST(a_route_has_its_own_batch)
{
	static const unsigned batch[] = { 3, 0, 50 };
	struct delivery *out[10];
	unsigned route;

	open_queue((struct queue_config){ .batch = batch });
	for (unsigned i = 0; i < 3; i++) {
		offer_many(i, 'n', 20, 0);
		ck_assert_uint_eq(queue_take(q, 0, out, 10, &route), i ? 10 : 3);
		ck_assert_uint_eq(route, i);
		finish(out, i ? 10 : 3, route);
		queue_close(q, i);
		ck_assert_uint_eq(queue_take_closed(q, i, out, 10), i ? 10 : 3);
		finish(out, i ? 10 : 3, i);
	}
}
END_TEST

/* One with much work and one with little: each gets every other batch. */
START_TEST(a_long_lane_gets_no_more_turns)
{
	struct delivery *out[10];
	unsigned route;

	open_queue((struct queue_config){ 0 });
	offer_many(0, 'a', 200, 0);
	offer_many(2, 'b', 40, 0);
	for (unsigned i = 0; i < 8; i++) {
		ck_assert_uint_eq(queue_take(q, 0, out, 10, &route), 10);
		ck_assert_uint_eq(route, i % 2 ? 2 : 0);
		finish(out, 10, route);
	}
}
END_TEST

START_TEST(an_offer_may_ask_to_go_alone)
{
	struct delivery *d;
	unsigned route;

	open_queue((struct queue_config){ 0 });
	for (unsigned flags = 0; flags < 4; flags++) {
		ck_assert_int_eq(offer(1, "a", flags), QUEUE_ADDED);
		ck_assert_int_eq(offer(1, "a", ~flags & 3), QUEUE_DUPLICATE);	/* changes nothing */
		ck_assert_uint_eq(queue_take(q, 0, &d, 1, &route), 1);
		ck_assert(d->high == !!(flags & QUEUE_HIGH) && d->alone == !!(flags & QUEUE_ALONE));
		finish(&d, 1, route);
	}
}
END_TEST

/* --- room ------------------------------------------------------------------ */

START_TEST(each_kind_has_room_of_its_own)
{
	open_queue((struct queue_config){ .max_entries = 80 });
	offer_many(0, 'n', 80, 0);
	ck_assert_int_eq(offer(1, "n", 0), QUEUE_FULL);
	ck_assert(!queue_has_room(q, 0, 0));
	ck_assert(queue_has_room(q, 0, QUEUE_HIGH));
	offer_many(0, 'h', 80, QUEUE_HIGH);
	ck_assert_int_eq(offer(2, "h", QUEUE_HIGH), QUEUE_FULL);
	ck_assert(!queue_has_room(q, 0, QUEUE_HIGH));
	ck_assert_int_eq(take_letter(0), 'h');
	ck_assert_int_eq(offer(0, "n_more", 0), QUEUE_FULL);
	ck_assert_int_eq(offer(0, "h_more", QUEUE_HIGH), QUEUE_ADDED);
	ck_assert_uint_eq(take_all(0), 160);
	offer_many(1, 'h', 41, QUEUE_HIGH);
	ck_assert(!queue_has_room(q, 1, 0) && !queue_has_room(q, 1, QUEUE_HIGH));
}
END_TEST

START_TEST(ids_of_each_kind_have_room_of_their_own)
{
	static char id[100001];

	open_queue((struct queue_config){ 0 });
	memset(id, 'x', 100000);
	ck_assert_int_eq(queue_offer(q, 0, id, 100000, 0), QUEUE_ADDED);
	ck_assert_int_eq(queue_offer(q, 1, id, 1, 0), QUEUE_FULL);
	ck_assert_int_eq(queue_offer(q, 0, id, 99999, QUEUE_HIGH), QUEUE_ADDED);
	ck_assert_int_eq(queue_offer(q, 1, id, 2, QUEUE_HIGH), QUEUE_FULL);
	ck_assert_uint_eq(take_all(0), 2);
	ck_assert_int_eq(queue_offer(q, 1, id, 100000, 0), QUEUE_ADDED);
}
END_TEST

/* Routes that nobody works on, closed or at the cap, fill their shares only. */
START_TEST(a_route_that_stands_still_leaves_room_for_others)
{
	static const unsigned caps[] = { 0, 1, 0 };
	struct delivery *held;
	unsigned route;

	open_queue((struct queue_config){ .max_entries = 300, .max_per_route = 100, .max_workers = caps });
	queue_close(q, 0);
	offer(1, "h", QUEUE_HIGH);
	ck_assert_uint_eq(queue_take(q, 0, &held, 1, &route), 1);
	for (unsigned i = 0; i < 2; i++) {
		offer_many(i, 'n', 100, 0);
		offer_many(i, 'h', 100 - i, QUEUE_HIGH);
		ck_assert_int_eq(offer(i, "n_more", 0), QUEUE_FULL);
		ck_assert_int_eq(offer(i, "h_more", QUEUE_HIGH), QUEUE_FULL);
		ck_assert(!queue_has_room(q, i, 0));
	}
	for (unsigned i = 0; i < 20; i++) {
		ck_assert(queue_has_room(q, 2, 0));
		offer_many(2, 'n', 50, 0);
		offer_many(2, 'm', 50, 0);
		ck_assert_uint_eq(take_all(0), 100);
	}
	finish(&held, 1, route);
	queue_open(q, 0);
	ck_assert_uint_eq(take_all(0), 399);
}
END_TEST

/* --- closed routes ---------------------------------------------------------- */

START_TEST(nothing_is_taken_of_a_closed_route)
{
	struct delivery *out[10];

	open_queue((struct queue_config){ .reserved_for_high = 1 });
	offer(1, "h1", QUEUE_HIGH);
	queue_close(q, 1);
	queue_close(q, 1);
	offer(1, "h2", QUEUE_HIGH);
	offer(1, "n", 0);
	ck_assert_int_eq(take_letter(RESERVED), 0);
	ck_assert_int_eq(take_letter(GENERAL), 0);
	for (unsigned worker = 0; worker < 2; worker++)
		ck_assert_int_eq(queue_wait(q, worker, clock_after_ms(20), -1), STRAND_ETIMEOUT);
	ck_assert_uint_eq(queue_depth(q, 1), 3);

	ck_assert_uint_eq(queue_take_closed(q, 0, out, 10), 0);
	ck_assert_uint_eq(queue_take_closed(q, 1, out, 1), 1);
	ck_assert_str_eq(out[0]->id, "h1");
	queue_return(q, out[0]);	/* the probe failed */
	queue_leave(q, 1);
	ck_assert_int_eq(queue_wait(q, GENERAL, clock_after_ms(20), -1), STRAND_ETIMEOUT);
	/* by any worker, of both lanes, and those of another first each time */
	ck_assert_uint_eq(queue_take_closed(q, 1, out, 1), 1);
	ck_assert_str_eq(out[0]->id, "n");
	queue_return(q, out[0]);
	queue_leave(q, 1);
	ck_assert_uint_eq(queue_take_closed(q, 1, out, 2), 2);
	ck_assert_str_eq(out[0]->id, "h2");
	ck_assert_str_eq(out[1]->id, "n");
	queue_return(q, out[1]);
	finish(out, 1, 1);
	ck_assert_uint_eq(queue_take_closed(q, 1, out, 10), 2);
	ck_assert_str_eq(out[0]->id, "n");
	ck_assert_str_eq(out[1]->id, "h1");
	queue_return(q, out[0]);
	finish(out + 1, 1, 1);

	queue_open(q, 1);
	queue_open(q, 1);
	ck_assert_int_eq(take_letter(RESERVED), 0);
	ck_assert_int_eq(take_letter(GENERAL), 'n');
}
END_TEST

START_TEST(a_probe_counts_on_its_route)
{
	static const unsigned caps[] = { 1, 0, 0 };
	struct delivery *probe, *more;
	unsigned route;

	open_queue((struct queue_config){ .max_workers = caps });
	offer_many(0, 'n', 2, 0);
	queue_close(q, 0);
	ck_assert_uint_eq(queue_take_closed(q, 0, &probe, 1), 1);
	ck_assert_uint_eq(queue_take_closed(q, 0, &more, 1), 0);
	queue_open(q, 0);
	ck_assert_uint_eq(queue_take(q, 1, &more, 1, &route), 0);
	ck_assert_int_eq(queue_wait(q, 1, clock_after_ms(20), -1), STRAND_ETIMEOUT);
	finish(&probe, 1, 0);
	ck_assert_int_eq(take_letter(1), 'n');
}
END_TEST

/* A closed route's normal work is not what the others give way to. */
START_TEST(closed_work_does_not_age)
{
	open_queue((struct queue_config){ .normal_share_every = 2 });
	queue_close(q, 0);
	offer_many(0, 'n', 5, 0);
	offer_many(1, 'h', 20, QUEUE_HIGH);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(take_letter(0), 'h');
	queue_open(q, 0);
	ck_assert_int_eq(take_letter(0), 'h');
	ck_assert_int_eq(take_letter(0), 'h');
	ck_assert_int_eq(take_letter(0), 'n');
}
END_TEST

START_TEST(a_gate_counts_and_closes)
{
	struct gate g;

	gate_init(&g, 2);
	ck_assert(gate_enter(&g));
	gate_close(&g);
	ck_assert(gate_closed(&g) && !gate_passable(&g));
	ck_assert(!gate_enter(&g));
	ck_assert(gate_enter_closed(&g));
	ck_assert(!gate_enter_closed(&g));
	gate_open(&g);
	ck_assert(!gate_passable(&g));
	gate_leave(&g);
	ck_assert(gate_passable(&g));
	ck_assert(gate_enter(&g));
	gate_init(&g, 0);
	for (int i = 0; i < 100; i++)
		ck_assert(gate_enter(&g));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("queue policy");
	TCase *t = tcase_create("policy");

	tcase_add_checked_fixture(t, reader_start, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, somebody_is_left_for_normal_work);
	tcase_add_test(t, a_reserved_worker_takes_high_work_only);
	tcase_add_test(t, a_reserved_worker_sleeps_beside_normal_work);
	tcase_add_loop_test(t, an_offer_wakes_one_who_may_take_it, 0, 2);
	tcase_add_loop_test(t, what_is_left_wakes_one_who_may_take_it, 0, 4);
	tcase_add_test(t, normal_work_keeps_its_share);
	tcase_add_test(t, without_ageing_normal_work_waits);
	tcase_add_test(t, only_what_normal_work_waited_for_is_counted);
	tcase_add_test(t, reserved_workers_neither_count_nor_give_way);
	tcase_add_test(t, a_due_batch_is_not_lost_at_the_cap);
	tcase_add_test(t, a_due_batch_is_claimed_once);
	tcase_add_test(t, a_route_has_its_own_batch);
	tcase_add_test(t, a_long_lane_gets_no_more_turns);
	tcase_add_test(t, an_offer_may_ask_to_go_alone);
	tcase_add_test(t, each_kind_has_room_of_its_own);
	tcase_add_test(t, ids_of_each_kind_have_room_of_their_own);
	tcase_add_test(t, a_route_that_stands_still_leaves_room_for_others);
	tcase_add_test(t, nothing_is_taken_of_a_closed_route);
	tcase_add_test(t, a_probe_counts_on_its_route);
	tcase_add_test(t, closed_work_does_not_age);
	tcase_add_test(t, a_gate_counts_and_closes);
	suite_add_tcase(s, t);
	return run_suite(s);
}
