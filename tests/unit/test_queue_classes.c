/* Two classes of workers, capped routes and closed ones: no wakeup is lost, and no
 * reserved worker gets normal work. */
#include "queue/queue.h"

#include "queue_support.h"

#include <sched.h>

#include "base/event.h"

#define ROUTES 3
#define WORKERS 4

static struct queue *q;
static unsigned reserved;
static _Atomic bool stopping;
static _Atomic unsigned done;
static struct event stop;

static void setup(void)
{
	reader_start();
	atomic_store(&stopping, false);
	atomic_store(&done, 0);
	ck_assert_int_eq(event_init(&stop), 0);
}

static void teardown(void)
{
	event_release(&stop);
	reader_stop();
}

static void open_queue(unsigned n_reserved, const unsigned *caps, unsigned share_every)
{
	struct queue_config config = { .n_routes = ROUTES, .max_entries = 1000, .max_bytes = 100000,
				       .n_workers = WORKERS, .max_workers = caps,
				       .reserved_for_high = n_reserved, .normal_share_every = share_every };

	reserved = n_reserved;
	ck_assert_int_eq(queue_new(&q, &config), 0);
}

static void close_queue(struct crew *workers)
{
	atomic_store(&stopping, true);
	event_signal(&stop);
	crew_join(workers);
	ck_assert_uint_eq(atomic_load(&wrong), 0);
	ck_assert_uint_eq(queue_in_flight(q), 0);
	queue_free(q);
}

static void offer(unsigned route, unsigned number, bool high)
{
	char id[16];
	size_t len = (size_t)snprintf(id, sizeof(id), "%u", number);

	MUST(queue_offer(q, route, id, len, high ? QUEUE_HIGH : 0) == QUEUE_ADDED);
}

/* A moment, so as to meet others at each of their steps. */
static void pause_randomly(uint32_t *seed)
{
	for (unsigned k = random_next(seed) % 4000; k; k--)
		__asm__ volatile("");
}

static void wait_for(_Atomic unsigned *number, unsigned least, const char *what)
{
	int64_t late = clock_after_ms(LONG_MS / 2);

	while (atomic_load(number) < least) {
		ck_assert_msg(clock_now() < late, "a wakeup was lost: %u of %u %s", atomic_load(number), least, what);
		sched_yield();
	}
}

/* --- a held pool leaves the reserved ------------------------------------------- */

static _Atomic unsigned held, released, urgent;

/* Normal work holds its worker until the round is over. */
static void run_or_hold(unsigned me)
{
	while (!atomic_load(&stopping)) {
		struct delivery *d;
		unsigned route, round;
		bool high;

		if (!queue_take(q, me, &d, 1, &route)) {
			MUST(queue_wait(q, me, clock_after_ms(LONG_MS), stop.fd) != STRAND_ETIMEOUT);
			continue;
		}
		round = (unsigned)atoi(d->id) / 16;
		high = d->high;
		MUST(high || me >= reserved);
		queue_finish(q, d);
		if (high) {
			atomic_fetch_add(&urgent, 1);
		} else {
			atomic_fetch_add(&held, 1);
			while (atomic_load(&released) <= round && !atomic_load(&stopping))
				sched_yield();
		}
		queue_leave(q, route);
	}
}

/* As many normal ones as hold all who may take them, and two high ones somewhere
 * between: all of them are taken, though nobody who holds one comes back. */
static void one_round(unsigned round, uint32_t *seed)
{
	unsigned general = WORKERS - reserved, n = general + 2, highs = 0;

	for (unsigned i = 0; i < n; i++) {
		bool high = highs < 2 && (random_next(seed) % n < 2 || n - i <= 2 - highs);

		highs += high;
		offer(random_next(seed) % ROUTES, round * 16 + i, high);
		pause_randomly(seed);
	}
	wait_for(&urgent, (round + 1) * 2, "high ones");
	wait_for(&held, (round + 1) * general, "normal ones");
	atomic_store(&released, round + 1);
	while (queue_in_flight(q))
		sched_yield();
}

START_TEST(a_held_pool_leaves_the_reserved)
{
	struct crew workers;
	uint32_t seed = (uint32_t)_i;

	atomic_store(&held, 0);
	atomic_store(&urgent, 0);
	atomic_store(&released, 0);
	open_queue((unsigned)_i, NULL, 2);
	crew_start(&workers, WORKERS, run_or_hold);
	for (unsigned round = 0; round < scaled(10000); round++)
		one_round(round, &seed);
	close_queue(&workers);
}
END_TEST

/* --- caps, closing, opening and probes, all at once ------------------------------ */

static const unsigned caps[ROUTES] = { 1, 2, 0 };
static _Atomic unsigned on_route[ROUTES];

static void run_batch(struct delivery **out, size_t n, unsigned route, uint32_t *seed)
{
	MUST(atomic_fetch_add(&on_route[route], 1) < (caps[route] ? caps[route] : WORKERS));
	pause_randomly(seed);
	for (size_t i = 0; i < n; i++) {
		if (random_next(seed) % 8 == 0)
			queue_return(q, out[i]);
		else {
			queue_finish(q, out[i]);
			atomic_fetch_add(&done, 1);
		}
	}
	atomic_fetch_sub(&on_route[route], 1);
	queue_leave(q, route);
}

static void run_and_probe(unsigned me)
{
	uint32_t seed = me + 1;

	while (!atomic_load(&stopping)) {
		struct delivery *out[4];
		unsigned route = random_next(&seed) % ROUTES;
		bool probe = random_next(&seed) % 16 == 0;
		size_t n = probe ? queue_take_closed(q, route, out, 1) : queue_take(q, me, out, 4, &route);

		MUST(!n || probe || out[0]->high || me >= reserved);
		if (n)
			run_batch(out, n, route, &seed);
		else if (!probe)
			MUST(queue_wait(q, me, clock_after_ms(LONG_MS), stop.fd) != STRAND_ETIMEOUT);
	}
}

static unsigned rounds;
static pthread_barrier_t together;

/* Two threads: one offers while the other closes and opens; then all are open, and
 * everything has to be done without any further call. */
static void offer_or_close(unsigned me)
{
	uint32_t seed = me + 77;
	unsigned number = 0;

	for (unsigned round = 0; round < rounds; round++) {
		pthread_barrier_wait(&together);
		for (unsigned i = 0; i < 12; i++) {
			unsigned route = random_next(&seed) % ROUTES;

			if (me == 0)
				offer(route, number++, random_next(&seed) % 2);
			else if (random_next(&seed) % 2)
				queue_close(q, route);
			else
				queue_open(q, route);
			pause_randomly(&seed);
		}
		for (unsigned route = 0; me && route < ROUTES; route++)
			queue_open(q, route);
		wait_for(&done, (round + 1) * 12, "deliveries");
		pthread_barrier_wait(&together);
	}
}

START_TEST(what_waits_is_taken_when_all_are_open)
{
	struct crew workers, crew;

	rounds = scaled(8000);
	ck_assert_int_eq(pthread_barrier_init(&together, NULL, 2), 0);
	open_queue((unsigned)_i, caps, 3);
	crew_start(&workers, WORKERS, run_and_probe);
	crew_start(&crew, 2, offer_or_close);
	crew_join(&crew);
	pthread_barrier_destroy(&together);
	close_queue(&workers);
}
END_TEST

/* --- an offer beside an opening -------------------------------------------------- */

static void run_open(unsigned me)
{
	while (!atomic_load(&stopping)) {
		struct delivery *d;
		unsigned route;

		if (!queue_take(q, me, &d, 1, &route)) {
			MUST(queue_wait(q, me, clock_after_ms(LONG_MS), stop.fd) != STRAND_ETIMEOUT);
			continue;
		}
		MUST(d->high || me >= reserved);
		queue_finish(q, d);
		queue_leave(q, route);
		atomic_fetch_add(&done, 1);
	}
}

static void offer_beside_opening(unsigned me)
{
	uint32_t seed = me + 5;

	for (unsigned round = 0; round < rounds; round++) {
		if (me == 0)
			queue_close(q, 0);
		pthread_barrier_wait(&together);
		pause_randomly(&seed);
		if (me == 0)
			queue_open(q, 0);
		else
			offer(0, round, round % 2);
		wait_for(&done, round + 1, "deliveries");
		pthread_barrier_wait(&together);
	}
}

START_TEST(an_offer_beside_an_opening_is_taken)
{
	struct crew workers, crew;

	rounds = scaled(50000);
	ck_assert_int_eq(pthread_barrier_init(&together, NULL, 2), 0);
	open_queue(1, NULL, 10);
	crew_start(&workers, 2, run_open);
	crew_start(&crew, 2, offer_beside_opening);
	crew_join(&crew);
	pthread_barrier_destroy(&together);
	close_queue(&workers);
}
END_TEST

/* --- the share of normal work ------------------------------------------------------ */

#define SHARE_EVERY 10

static _Atomic unsigned batches[2];	/* normal, high, of workers that take both */
static _Atomic unsigned next_number[2];

/* Each delivery that is done is offered again: there is never an end of either kind. */
static void run_for_ever(unsigned me)
{
	while (!atomic_load(&stopping)) {
		struct delivery *out[4];
		unsigned route;
		size_t n = queue_take(q, me, out, 4, &route);
		bool high;

		if (!n) {
			queue_wait(q, me, clock_after_ms(LONG_MS), stop.fd);
			continue;
		}
		high = out[0]->high;
		if (me >= reserved)
			atomic_fetch_add(&batches[high], 1);
		for (size_t i = 0; i < n; i++) {
			queue_finish(q, out[i]);
			if (!atomic_load(&stopping))
				offer(route, atomic_fetch_add(&next_number[high], 2), high);
		}
		queue_leave(q, route);
	}
}

/* Shares are counted in batches that were taken, so at the edge of one that every
 * worker has taken and not counted yet. */
START_TEST(normal_work_gets_its_share_of_batches)
{
	struct crew workers;
	unsigned normal, high;

	atomic_store(&next_number[0], 0);
	atomic_store(&next_number[1], 1);
	open_queue((unsigned)_i, NULL, SHARE_EVERY);
	for (unsigned i = 0; i < 400; i++)
		offer(i % ROUTES, atomic_fetch_add(&next_number[i % 2], 2), i % 2);
	crew_start(&workers, WORKERS, run_for_ever);
	while (atomic_load(&batches[1]) < scaled(100000) / 2)
		sched_yield();
	atomic_store(&stopping, true);
	event_signal(&stop);
	crew_join(&workers);
	normal = atomic_load(&batches[0]);
	high = atomic_load(&batches[1]);
	ck_assert_msg((normal + WORKERS) * SHARE_EVERY >= high && (normal - WORKERS) * SHARE_EVERY <= high,
		      "%u normal batches beside %u high ones", normal, high);
	ck_assert_uint_eq(atomic_load(&wrong), 0);
	queue_free(q);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("queue, classes of workers");
	TCase *t = tcase_create("threads");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 180);
	tcase_add_loop_test(t, a_held_pool_leaves_the_reserved, 1, WORKERS);
	tcase_add_loop_test(t, what_waits_is_taken_when_all_are_open, 0, WORKERS);
	tcase_add_test(t, an_offer_beside_an_opening_is_taken);
	tcase_add_loop_test(t, normal_work_gets_its_share_of_batches, 0, 2);
	suite_add_tcase(s, t);
	return run_suite(s);
}
