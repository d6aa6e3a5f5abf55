#include "queue/queue.h"

#include "queue_support.h"

#include <inttypes.h>
#include <sched.h>
#include <time.h>

#include "base/event.h"
#include "queue/retire.h"

#define ROUTES 3
#define BATCH 64
#define WORKERS 4

static struct queue *q;

static void open_queue(const unsigned *caps, size_t entries)
{
	struct queue_config config = {
		.n_routes = ROUTES,
		.max_workers = caps,
		.max_entries = entries,
		.max_bytes = 8 << 20,
		.n_workers = WORKERS,
	};

	ck_assert_int_eq(queue_new(&q, &config), 0);
}

static void close_queue(void)
{
	ck_assert_uint_eq(atomic_load(&wrong), 0);
	ck_assert_uint_eq(queue_in_flight(q), 0);
	for (unsigned i = 0; i < ROUTES; i++) {
		ck_assert_uint_eq(queue_depth(q, i), 0);
		ck_assert_uint_eq(queue_in_flight_on(q, i), 0);
	}
	queue_free(q);
	ck_assert_uint_eq(retire_pending(), 0);
}

static void sleep_us(unsigned us)
{
	nanosleep(&(struct timespec){ .tv_nsec = (long)us * 1000 }, NULL);
}

/* --- each once, in order ------------------------------------------------ */

#define PRODUCERS 2

static unsigned per_producer;
static _Atomic unsigned left;
static _Atomic unsigned char *taken;	/* of each producer's numbers */
static struct event all_done;
static bool with_returns;

static void produce(unsigned me)
{
	for (unsigned i = 0; i < per_producer; i++) {
		char id[32];
		size_t len = (size_t)snprintf(id, sizeof(id), "%u-%u", me, i);
		enum queue_answer answer;

		while ((answer = queue_offer(q, i % ROUTES, id, len, i % 7 ? 0 : QUEUE_HIGH)) == QUEUE_FULL)
			sleep_us(200);
		MUST(answer == QUEUE_ADDED);
	}
}

static void settle(struct delivery *d, unsigned last[PRODUCERS][ROUTES][2], uint32_t *seed)
{
	unsigned who, number;
	bool known = sscanf(d->id, "%u-%u", &who, &number) == 2 && who < PRODUCERS && number < per_producer;

	MUST(known);
	if (!known)
		return;
	MUST(d->route == number % ROUTES && d->high == (number % 7 == 0));
	if (!d->in_doubt) {
		MUST(number + 1 > last[who][d->route][d->high]);
		last[who][d->route][d->high] = number + 1;
	}
	if (with_returns && random_next(seed) % 16 == 0) {
		d->in_doubt = true;
		queue_return(q, d);
		return;
	}
	MUST(atomic_fetch_add(&taken[who * per_producer + number], 1) == 0);
	queue_finish(q, d);
	if (atomic_fetch_sub(&left, 1) == 1)
		event_signal(&all_done);
}

static void consume(unsigned me)
{
	unsigned last[PRODUCERS][ROUTES][2] = { 0 };
	uint32_t seed = me + 1;

	while (atomic_load(&left)) {
		struct delivery *out[BATCH];
		unsigned route;
		size_t n = queue_take(q, me, out, 1 + random_next(&seed) % BATCH, &route);
		bool high;

		if (n == 0) {
			MUST(queue_wait(q, me, clock_after_ms(LONG_MS), all_done.fd) != STRAND_ETIMEOUT);
			continue;
		}
		high = out[0]->high;
		for (size_t i = 0; i < n; i++) {
			MUST(out[i]->route == route && out[i]->high == high);
			settle(out[i], last, &seed);
		}
		queue_leave(q, route);
	}
}

static void each_once(unsigned n, size_t entries, unsigned consumers)
{
	struct crew producers, workers;

	per_producer = scaled(n);
	atomic_store(&left, per_producer * PRODUCERS);
	taken = calloc((size_t)per_producer * PRODUCERS, 1);
	ck_assert_ptr_nonnull((void *)taken);
	ck_assert_int_eq(event_init(&all_done), 0);
	open_queue(NULL, entries);
	crew_start(&workers, consumers, consume);
	crew_start(&producers, PRODUCERS, produce);
	crew_join(&producers);
	crew_join(&workers);
	for (unsigned i = 0; i < per_producer * PRODUCERS; i++)
		ck_assert_uint_eq(taken[i], 1);
	close_queue();
	event_release(&all_done);
	free((void *)taken);
}

START_TEST(each_is_out_once_and_in_order)
{
	with_returns = false;
	each_once(1000000, 20000, WORKERS);
}
END_TEST

START_TEST(each_is_finished_once_with_returns)
{
	with_returns = true;
	each_once(300000, 20000, WORKERS);
}
END_TEST

/* One consumer sees a producer's whole order; a queue that is always full. */
START_TEST(a_small_queue_and_one_consumer)
{
	with_returns = false;
	each_once(50000, 100, 1);
}
END_TEST

/* --- duplicates ---------------------------------------------------------- */

#define IDS 512

static _Atomic unsigned added[IDS];
static unsigned rounds;
static pthread_barrier_t together;

static void offer_the_same(unsigned me)
{
	for (unsigned r = 0; r < rounds; r++) {
		pthread_barrier_wait(&together);
		for (unsigned i = 0; i < IDS; i++) {
			char id[32];
			size_t len = (size_t)snprintf(id, sizeof(id), "%u", i);
			enum queue_answer answer = queue_offer(q, i % ROUTES, id, len, 0);

			MUST(answer != QUEUE_FULL);
			if (answer == QUEUE_ADDED)
				atomic_fetch_add(&added[i], 1);
			else
				MUST(queue_in_flight_on(q, i % ROUTES) > 0);
		}
		pthread_barrier_wait(&together);
		if (me)
			continue;
		for (unsigned i = 0; i < IDS; i++)
			MUST(atomic_exchange(&added[i], 0) == 1);
		for (;;) {
			struct delivery *out[BATCH];
			unsigned route;
			size_t n = queue_take(q, me, out, BATCH, &route);

			if (n == 0)
				break;
			for (size_t i = 0; i < n; i++)
				queue_finish(q, out[i]);
			queue_leave(q, route);
		}
		MUST(queue_in_flight(q) == 0);
	}
}

START_TEST(of_equal_offers_one_is_added)
{
	struct crew crew;

	rounds = scaled(1000);
	ck_assert_int_eq(pthread_barrier_init(&together, NULL, 4), 0);
	/* Room for what is reserved while it turns out to be a duplicate. */
	open_queue(NULL, IDS + 8);
	crew_start(&crew, 4, offer_the_same);
	crew_join(&crew);
	pthread_barrier_destroy(&together);
	close_queue();
}
END_TEST

static _Atomic bool running[IDS];
static _Atomic bool stopping;
static _Atomic unsigned offers;

static void offer_any(unsigned me)
{
	uint32_t seed = me + 1;

	for (unsigned i = 0; i < rounds; i++) {
		unsigned number = random_next(&seed) % IDS;
		char id[32];
		size_t len = (size_t)snprintf(id, sizeof(id), "%u", number);

		if (queue_offer(q, number % ROUTES, id, len, random_next(&seed) % 2 ? QUEUE_HIGH : 0) == QUEUE_ADDED)
			atomic_fetch_add(&offers, 1);
	}
}

static void run_any(unsigned me)
{
	for (;;) {
		bool last = atomic_load(&stopping);
		struct delivery *out[BATCH];
		unsigned route;
		size_t n = queue_take(q, me, out, BATCH, &route);

		if (n == 0 && last)
			return;
		if (n == 0) {
			queue_wait(q, me, clock_after_ms(20), -1);
			continue;
		}
		for (size_t i = 0; i < n; i++) {
			unsigned number = (unsigned)atoi(out[i]->id);

			MUST(!atomic_exchange(&running[number], true));
			if (number % 5 == 0)
				sched_yield();
			MUST(atomic_exchange(&running[number], false));
			queue_finish(q, out[i]);
			atomic_fetch_sub(&offers, 1);
		}
		queue_leave(q, route);
	}
}

START_TEST(no_id_is_in_flight_twice)
{
	struct crew producers, workers;

	rounds = scaled(1000000);
	open_queue(NULL, 20000);
	crew_start(&workers, 2, run_any);
	crew_start(&producers, 3, offer_any);
	crew_join(&producers);
	atomic_store(&stopping, true);
	crew_join(&workers);
	ck_assert_uint_eq(atomic_load(&offers), 0);
	close_queue();
}
END_TEST

/* --- caps ---------------------------------------------------------------- */

static const unsigned caps[ROUTES] = { 1, 2, 0 };
static _Atomic unsigned on_route[ROUTES];
static _Atomic unsigned long waits, batches;

static void run_capped(unsigned me)
{
	uint32_t seed = me + 1;

	while (atomic_load(&left)) {
		struct delivery *out[8];
		unsigned route;
		size_t n = queue_take(q, me, out, 8, &route);

		if (n == 0) {
			atomic_fetch_add(&waits, 1);
			MUST(queue_wait(q, me, clock_after_ms(LONG_MS), all_done.fd) != STRAND_ETIMEOUT);
			continue;
		}
		atomic_fetch_add(&batches, 1);
		MUST(atomic_fetch_add(&on_route[route], 1) < (caps[route] ? caps[route] : WORKERS));
		if (random_next(&seed) % 4 == 0)
			sleep_us(100);
		for (size_t i = 0; i < n; i++) {
			queue_finish(q, out[i]);
			if (atomic_fetch_sub(&left, 1) == 1)
				event_signal(&all_done);
		}
		atomic_fetch_sub(&on_route[route], 1);
		queue_leave(q, route);
	}
}

START_TEST(caps_hold)
{
	struct crew producer, workers;

	per_producer = scaled(200000);
	atomic_store(&left, per_producer);
	ck_assert_int_eq(event_init(&all_done), 0);
	open_queue(caps, 20000);
	crew_start(&workers, WORKERS, run_capped);
	crew_start(&producer, 1, produce);
	crew_join(&producer);
	crew_join(&workers);
	/* Nobody turns in a circle before a route at its cap. */
	ck_assert_msg(waits <= per_producer + 3 * batches + WORKERS, "%lu waits for %lu batches",
		      waits, batches);
	close_queue();
	event_release(&all_done);
}
END_TEST

/* --- wakeups ------------------------------------------------------------- */

static _Atomic unsigned done, met;
static struct event stop;

/* A moment, so as to meet a sleeper at each of its steps. */
static void pause_randomly(uint32_t *seed)
{
	for (unsigned k = random_next(seed) % 4000; k; k--)
		__asm__ volatile("");
}

static void finish_all(struct delivery **out, size_t n, unsigned route)
{
	for (size_t i = 0; i < n; i++)
		queue_finish(q, out[i]);
	queue_leave(q, route);
	atomic_fetch_add(&done, (unsigned)n);
}

/* Offers number `i` alone and waits until it was run; returns how long. */
static int64_t one_by_one(unsigned i)
{
	char id[32];
	size_t len = (size_t)snprintf(id, sizeof(id), "%u", i);
	int64_t start = clock_now(), late = clock_after_ms(LONG_MS / 2);

	ck_assert_int_eq(queue_offer(q, i % ROUTES, id, len, i % 2 ? QUEUE_HIGH : 0), QUEUE_ADDED);
	while (atomic_load(&done) <= i) {
		ck_assert_msg(clock_now() < late, "a wakeup was lost, number %u", i);
		sched_yield();
	}
	return clock_now() - start;
}

static void run_idle(unsigned me)
{
	while (!atomic_load(&stopping)) {
		struct delivery *out[1];
		unsigned route;
		size_t n = queue_take(q, me, out, 1, &route);

		if (n)
			finish_all(out, n, route);
		else
			MUST(queue_wait(q, me, clock_after_ms(LONG_MS), stop.fd) != STRAND_ETIMEOUT);
	}
}

static void offer_singly(unsigned n_workers)
{
	struct crew workers;
	unsigned n = scaled(50000);
	uint32_t seed = 1;
	int64_t worst = 0;

	ck_assert_int_eq(event_init(&stop), 0);
	open_queue(NULL, 100);
	crew_start(&workers, n_workers, run_idle);
	for (unsigned i = 0; i < n; i++) {
		int64_t took = one_by_one(i);

		worst = took > worst ? took : worst;
		pause_randomly(&seed);
	}
	atomic_store(&stopping, true);
	event_signal(&stop);
	crew_join(&workers);
	ck_assert_msg(worst < LONG_MS / 10 * NSEC_PER_MSEC, "%" PRId64 " us", worst / 1000);
	close_queue();
	event_release(&stop);
}

START_TEST(no_wakeup_is_lost)
{
	offer_singly(_i ? WORKERS : 1);
}
END_TEST

/* Two offers, each to a worker of its own, that waits until both are taken. */
static void run_paired(unsigned me)
{
	while (!atomic_load(&stopping)) {
		struct delivery *out[1];
		unsigned route, both;
		size_t n = queue_take(q, me, out, 1, &route);

		if (n == 0) {
			MUST(queue_wait(q, me, clock_after_ms(LONG_MS), stop.fd) != STRAND_ETIMEOUT);
			continue;
		}
		both = ((unsigned)atoi(out[0]->id) / 2 + 1) * 2;
		atomic_fetch_add(&met, 1);
		while (atomic_load(&met) < both && !atomic_load(&stopping))
			sched_yield();
		finish_all(out, n, route);
	}
}

START_TEST(two_offers_reach_two_workers)
{
	struct crew workers;
	unsigned n = scaled(50000);
	uint32_t seed = 1;

	ck_assert_int_eq(event_init(&stop), 0);
	open_queue(NULL, 100);
	crew_start(&workers, 2, run_paired);
	for (unsigned i = 0; i < 2 * n; i += 2) {
		char id[32];

		ck_assert_int_eq(queue_offer(q, 0, id, (size_t)snprintf(id, sizeof(id), "%u", i), 0),
				 QUEUE_ADDED);
		one_by_one(i + 1);
		while (atomic_load(&done) < i + 2)
			sched_yield();
		pause_randomly(&seed);
	}
	atomic_store(&stopping, true);
	event_signal(&stop);
	crew_join(&workers);
	close_queue();
	event_release(&stop);
}
END_TEST

/* Worker 0 leaves by a deadline that is past and then does not look at the queue
 * until the delivery was run.  A wake that was spent on it must not be lost. */
static void run_leaving(unsigned me)
{
	uint32_t seed = 7;

	while (!atomic_load(&stopping)) {
		struct delivery *out[1];
		unsigned route, before = atomic_load(&done);
		size_t n = queue_take(q, me, out, 1, &route);
		int64_t deadline = clock_after_ms(LONG_MS);

		if (n) {
			finish_all(out, n, route);
			continue;
		}
		if (me == 0) {
			pause_randomly(&seed);
			deadline = 0;
		}
		if (queue_wait(q, me, deadline, stop.fd) != STRAND_ETIMEOUT)
			continue;
		MUST(me == 0);
		while (atomic_load(&done) == before && !atomic_load(&stopping))
			sched_yield();
	}
}

START_TEST(a_wake_spent_on_one_who_leaves_is_not_lost)
{
	struct crew workers;
	unsigned n = scaled(100000);
	uint32_t seed = 1;

	ck_assert_int_eq(event_init(&stop), 0);
	open_queue(NULL, 100);
	crew_start(&workers, 2, run_leaving);
	for (unsigned i = 0; i < n; i++) {
		one_by_one(i);
		pause_randomly(&seed);
	}
	atomic_store(&stopping, true);
	event_signal(&stop);
	crew_join(&workers);
	close_queue();
	event_release(&stop);
}
END_TEST

static struct event stop_one;
static _Atomic unsigned stopped;	/* worker 0 has been stopped so often */

static void run_stopped(unsigned me)
{
	while (!atomic_load(&stopping)) {
		struct delivery *out[1];
		unsigned route;
		size_t n = queue_take(q, me, out, 1, &route);

		if (n) {
			finish_all(out, n, route);
			continue;
		}
		if (me || queue_wait(q, 0, clock_after_ms(LONG_MS), stop_one.fd) != STRAND_ESTOPPED) {
			if (me)
				queue_wait(q, me, clock_after_ms(LONG_MS), stop.fd);
			continue;
		}
		event_clear(&stop_one);
		/* Gone until the next round: the other one has the work. */
		for (unsigned round = atomic_fetch_add(&stopped, 1) + 1;
		     atomic_load(&done) < round && !atomic_load(&stopping);)
			sched_yield();
	}
}

static void offer_and_stop(unsigned me)
{
	for (unsigned i = 0; i < rounds; i++) {
		pthread_barrier_wait(&together);
		if (me)
			one_by_one(i);
		else
			event_signal(&stop_one);
		while (atomic_load(&done) <= i || atomic_load(&stopped) <= i)
			sched_yield();
		pthread_barrier_wait(&together);
	}
}

START_TEST(a_wake_spent_on_one_who_stops_is_passed_on)
{
	struct crew workers, crew;

	rounds = scaled(10000);
	ck_assert_int_eq(event_init(&stop), 0);
	ck_assert_int_eq(event_init(&stop_one), 0);
	ck_assert_int_eq(pthread_barrier_init(&together, NULL, 2), 0);
	open_queue(NULL, 100);
	crew_start(&workers, 2, run_stopped);
	crew_start(&crew, 2, offer_and_stop);
	crew_join(&crew);
	atomic_store(&stopping, true);
	event_signal(&stop);
	event_signal(&stop_one);
	crew_join(&workers);
	pthread_barrier_destroy(&together);
	close_queue();
	event_release(&stop);
	event_release(&stop_one);
}
END_TEST

/* --- epochs --------------------------------------------------------------- */

static _Atomic unsigned finished_below;	/* every number below it, and by one worker in order */

static void finish_in_order(unsigned me)
{
	while (!atomic_load(&stopping) || queue_in_flight(q)) {
		struct delivery *out[BATCH];
		unsigned route;
		size_t n = queue_take(q, me, out, BATCH, &route);

		for (size_t i = 0; i < n; i++) {
			atomic_store(&finished_below, (unsigned)strtoul(out[i]->id, NULL, 10) + 1);
			queue_finish(q, out[i]);
		}
		if (n)
			queue_leave(q, route);
	}
}

/* What this thread offered before an epoch's begin is finished when it is over. */
START_TEST(an_epoch_ends_after_its_offers)
{
	struct crew worker;
	unsigned epochs = 0, before = 0;
	bool begun = false;

	atomic_store(&finished_below, 0);
	open_queue(NULL, 100);
	crew_start(&worker, 1, finish_in_order);
	for (unsigned i = 0; i < scaled(200000) || begun; i++) {
		char id[32];
		size_t len = (size_t)snprintf(id, sizeof(id), "%u", i);

		while (queue_offer(q, 0, id, len, 0) == QUEUE_FULL)
			sleep_us(20);
		if (begun && queue_epoch_over(q, 0)) {
			ck_assert_uint_ge(atomic_load(&finished_below), before);
			begun = false;
			epochs++;
		}
		if (!begun && i < scaled(200000)) {
			ck_assert(queue_epoch_begin(q, 0));
			before = i + 1;
			begun = true;
		}
	}
	ck_assert_uint_gt(epochs, 0);
	atomic_store(&stopping, true);
	crew_join(&worker);
	close_queue();
}
END_TEST

/* --- forgotten and offered again ------------------------------------------- */

#define KINDS 4

static _Atomic unsigned written[KINDS], seen[KINDS];	/* versions of a strand */
static unsigned epochs_over;

static void look_and_forget(unsigned me)
{
	while (!atomic_load(&stopping) || queue_in_flight(q)) {
		struct delivery *out[2];
		unsigned route;
		size_t n = queue_take(q, me, out, 2, &route);

		for (size_t i = 0; i < n; i++) {
			unsigned kind = (unsigned)(out[i]->id[0] - 'a');
			unsigned now = atomic_load(&written[kind]), before = atomic_load(&seen[kind]);

			while (before < now && !atomic_compare_exchange_weak(&seen[kind], &before, now))
				;
			queue_forget(q, out[i]);
		}
		if (n)
			queue_leave(q, route);
	}
}

/* The first one also begins epochs: what it wrote before one has been looked at
 * when the epoch is over. */
static void write_and_offer(unsigned me)
{
	unsigned before[KINDS] = { 0 };
	bool begun = false;

	for (unsigned i = 0; i < scaled(200000); i++) {
		unsigned kind = i % KINDS;

		atomic_fetch_add(&written[kind], 1);
		while (queue_offer(q, 0, &"abcd"[kind], 1, 0) == QUEUE_FULL)
			sched_yield();
		if (me)
			continue;
		if (begun && queue_epoch_over(q, 0)) {
			for (unsigned k = 0; k < KINDS; k++)
				MUST(atomic_load(&seen[k]) >= before[k]);
			begun = false;
			epochs_over++;
		}
		if (!begun && kind == KINDS - 1) {
			/* Its own offer follows each number that it knows. */
			for (unsigned k = 0; k < KINDS; k++)
				before[k] = i / KINDS + 1;
			begun = queue_epoch_begin(q, 0);
		}
	}
}

/* An offer of a strand that is being forgotten is never lost. */
START_TEST(a_forgotten_strand_is_looked_at_after_its_last_offer)
{
	struct crew workers, crew;

	for (unsigned k = 0; k < KINDS; k++) {
		atomic_store(&written[k], 0);
		atomic_store(&seen[k], 0);
	}
	epochs_over = 0;
	open_queue(NULL, 100);
	crew_start(&workers, 2, look_and_forget);
	crew_start(&crew, 2, write_and_offer);
	crew_join(&crew);
	atomic_store(&stopping, true);
	crew_join(&workers);
	for (unsigned k = 0; k < KINDS; k++)
		ck_assert_uint_eq(atomic_load(&seen[k]), atomic_load(&written[k]));
	ck_assert_uint_gt(epochs_over, 0);
	close_queue();
}
END_TEST

static void setup(void)
{
	reader_start();
	atomic_store(&stopping, false);
	atomic_store(&done, 0);
	atomic_store(&met, 0);
	atomic_store(&stopped, 0);
}

int main(void)
{
	Suite *s = suite_create("queue with threads");
	TCase *t = tcase_create("threads");

	tcase_add_checked_fixture(t, setup, reader_stop);
	tcase_set_timeout(t, 180);
	tcase_add_test(t, each_is_out_once_and_in_order);
	tcase_add_test(t, each_is_finished_once_with_returns);
	tcase_add_test(t, a_small_queue_and_one_consumer);
	tcase_add_test(t, of_equal_offers_one_is_added);
	tcase_add_test(t, no_id_is_in_flight_twice);
	tcase_add_test(t, caps_hold);
	tcase_add_loop_test(t, no_wakeup_is_lost, 0, 2);
	tcase_add_test(t, two_offers_reach_two_workers);
	tcase_add_test(t, a_wake_spent_on_one_who_leaves_is_not_lost);
	tcase_add_test(t, a_wake_spent_on_one_who_stops_is_passed_on);
	tcase_add_test(t, an_epoch_ends_after_its_offers);
	tcase_add_test(t, a_forgotten_strand_is_looked_at_after_its_last_offer);
	suite_add_tcase(s, t);
	return run_suite(s);
}
