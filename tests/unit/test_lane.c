#include "queue/lane.h"

#include "queue_support.h"

#include "queue/retire.h"

#define PRODUCERS 2
#define CONSUMERS 3
#define BATCH 32

/* A delivery as the queue would hold it: with the place of its first push. */
struct item {
	struct lane_node place;
	struct delivery delivery;
	unsigned producer, number;
	_Atomic unsigned taken;
};

static struct item *item_of(struct delivery *d)
{
	return (struct item *)(void *)((char *)d - offsetof(struct item, delivery));
}

START_TEST(first_in_first_out)
{
	struct lane lane;
	struct item items[10] = { 0 };
	struct delivery *out[10];

	lane_init(&lane);
	ck_assert_uint_eq(lane_take(&lane, out, 10), 0);
	for (int i = 0; i < 10; i++)
		lane_push(&lane, &items[i].place, &items[i].delivery);
	ck_assert_uint_eq(lane_queued(&lane), 10);
	ck_assert_uint_eq(lane_take(&lane, out, 4), 4);
	ck_assert_uint_eq(lane_take(&lane, out + 4, 10), 6);
	ck_assert_uint_eq(lane_take(&lane, out, 0), 0);
	for (int i = 0; i < 10; i++)
		ck_assert_ptr_eq(out[i], &items[i].delivery);
	ck_assert_uint_eq(lane_queued(&lane), 0);
	lane_release(&lane);
}
END_TEST

START_TEST(pushed_again_goes_to_the_end)
{
	struct lane lane;
	struct item items[3] = { 0 };
	struct delivery *out[3];

	lane_init(&lane);
	for (int i = 0; i < 3; i++)
		lane_push(&lane, &items[i].place, &items[i].delivery);
	ck_assert_uint_eq(lane_take(&lane, out, 1), 1);
	ck_assert_int_eq(lane_push_again(&lane, out[0]), 0);
	ck_assert_uint_eq(lane_take(&lane, out, 3), 3);
	ck_assert_ptr_eq(out[0], &items[1].delivery);
	ck_assert_ptr_eq(out[1], &items[2].delivery);
	ck_assert_ptr_eq(out[2], &items[0].delivery);
	lane_release(&lane);
	retire_wait();
	ck_assert_uint_eq(retire_pending(), 0);
}
END_TEST

START_TEST(drain_empties)
{
	struct lane lane;
	struct item items[3] = { 0 };

	lane_init(&lane);
	lane_push(&lane, &items[0].place, &items[0].delivery);
	ck_assert_int_eq(lane_push_again(&lane, &items[1].delivery), 0);
	lane_push(&lane, &items[2].place, &items[2].delivery);
	lane_drain(&lane);
	ck_assert_uint_eq(lane_queued(&lane), 0);
	lane_release(&lane);
	synchronize_rcu();
}
END_TEST

static struct lane shared;
static struct item *stock;
static unsigned per_producer;
static _Atomic unsigned left;

static void produce(unsigned me)
{
	for (unsigned i = 0; i < per_producer; i++) {
		struct item *it = &stock[me * per_producer + i];

		it->producer = me;
		it->number = i;
		lane_push(&shared, &it->place, &it->delivery);
	}
}

/* Takes until all are out, now and then putting one back once. */
static void consume(unsigned me)
{
	unsigned last[PRODUCERS] = { 0 };
	uint32_t seed = me;

	while (atomic_load(&left)) {
		struct delivery *out[BATCH];
		size_t n = lane_take(&shared, out, 1 + random_next(&seed) % BATCH);

		for (size_t i = 0; i < n; i++) {
			struct item *it = item_of(out[i]);
			unsigned times = atomic_fetch_add(&it->taken, 1);

			MUST(times <= 1);
			if (times == 1) {
				MUST(it->number % 64 == 0);
				atomic_fetch_sub(&left, 1);
				continue;
			}
			MUST(it->number + 1 > last[it->producer]);
			last[it->producer] = it->number + 1;
			if (it->number % 64 == 0)
				MUST(lane_push_again(&shared, out[i]) == 0);
			else
				atomic_fetch_sub(&left, 1);
		}
	}
}

START_TEST(many_threads_each_out_once_and_in_order)
{
	struct crew producers, consumers;
	unsigned total;

	per_producer = scaled(2000000);
	total = per_producer * PRODUCERS;
	stock = calloc(total, sizeof(*stock));
	ck_assert_ptr_nonnull(stock);
	atomic_store(&left, total);
	lane_init(&shared);
	crew_start(&producers, PRODUCERS, produce);
	crew_start(&consumers, CONSUMERS, consume);
	crew_join(&producers);
	crew_join(&consumers);

	ck_assert_uint_eq(atomic_load(&wrong), 0);
	ck_assert_uint_eq(lane_queued(&shared), 0);
	for (unsigned i = 0; i < total; i++)
		ck_assert_uint_eq(stock[i].taken, stock[i].number % 64 == 0 ? 2 : 1);
	lane_release(&shared);
	retire_wait();
	ck_assert_uint_eq(retire_pending(), 0);
	free(stock);
}
END_TEST

/* Far more than a grace period's worth, faster than the callbacks run. */
START_TEST(what_waits_for_a_grace_period_is_bounded)
{
	size_t most = 0;

	for (unsigned i = 0; i < 2000; i++) {
		struct rcu_head *block = malloc(64 << 10);

		ck_assert_ptr_nonnull(block);
		retire(block);
		if (retire_pending() > most)
			most = retire_pending();
	}
	ck_assert_uint_gt(most, 0);
	ck_assert_uint_le(most, RETIRE_MAX_BYTES + (128 << 10));
	retire_wait();
	ck_assert_uint_eq(retire_pending(), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("lane");
	TCase *t = tcase_create("lane");

	tcase_add_checked_fixture(t, reader_start, reader_stop);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, first_in_first_out);
	tcase_add_test(t, pushed_again_goes_to_the_end);
	tcase_add_test(t, drain_empties);
	tcase_add_test(t, many_threads_each_out_once_and_in_order);
	tcase_add_test(t, what_waits_for_a_grace_period_is_bounded);
	suite_add_tcase(s, t);
	return run_suite(s);
}
