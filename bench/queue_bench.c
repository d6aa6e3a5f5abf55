/* Deliveries a second through the queue: offer, take, finish.
 *
 * Every thread offers a batch of ids of its own, takes a batch (of whoever's
 * ids), and finishes it, over and over.  The same work is done with a mutex
 * around lists and a hash set in the same run, turn and turn about; each figure
 * is the median of the rounds.  Processor time is the whole process's, that of
 * liburcu's thread, which frees, included.
 */
#include <argp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <urcu.h>

#include "base/clock.h"
#include "base/thread.h"
#include "mutex_queue.h"
#include "queue/queue.h"

#define ROUTES 5
#define LIMIT 20000
#define MAX_THREADS 64
#define MAX_BATCH 1000
#define MAX_ROUNDS 99

static struct {
	unsigned threads, rounds;
	unsigned long deliveries;
} options = { 4, 5, 500000 };

static const unsigned batches[] = { 1, 10, 100 };

/* --- the two rivals ------------------------------------------------------ */

static struct queue *lock_free;
static struct mutex_queue *locked;

static enum queue_answer offer_lock_free(unsigned route, const char *id, size_t len, bool high)
{
	return queue_offer(lock_free, route, id, len, high ? QUEUE_HIGH : 0);
}

static size_t run_lock_free(struct delivery **out, size_t max)
{
	unsigned route;
	size_t n = queue_take(lock_free, 0, out, max, &route);

	for (size_t i = 0; i < n; i++)
		queue_finish(lock_free, out[i]);
	if (n)
		queue_leave(lock_free, route);
	return n;
}

static enum queue_answer offer_locked(unsigned route, const char *id, size_t len, bool high)
{
	return mutex_queue_offer(locked, route, id, len, high);
}

static size_t run_locked(struct delivery **out, size_t max)
{
	size_t n = mutex_queue_take(locked, out, max);

	for (size_t i = 0; i < n; i++)
		mutex_queue_finish(locked, out[i]);
	return n;
}

static const struct rival {
	enum queue_answer (*offer)(unsigned route, const char *id, size_t len, bool high);
	size_t (*run)(struct delivery **out, size_t max);
} rivals[] = { { offer_lock_free, run_lock_free }, { offer_locked, run_locked } };

/* --- one round ----------------------------------------------------------- */

static struct {
	const struct rival *rival;
	unsigned batch;
	unsigned long each;
	_Atomic unsigned next_number;
} job;

static void turn(void *arg)
{
	unsigned me = atomic_fetch_add(&job.next_number, 1);
	struct delivery *out[MAX_BATCH];

	(void)arg;
	for (unsigned long i = 0; i < job.each;) {
		unsigned route = (unsigned)(i / job.batch) % ROUTES;

		for (unsigned k = 0; k < job.batch && i < job.each; k++, i++) {
			char id[32];
			size_t len = (size_t)snprintf(id, sizeof(id), "AD_%02X%010lX", me, i);

			while (job.rival->offer(route, id, len, k % 16 == 0) == QUEUE_FULL)
				job.rival->run(out, job.batch);
		}
		job.rival->run(out, job.batch);
	}
}

struct figures {
	double speed;	/* deliveries a second */
	double cost;	/* nanoseconds of processor time a delivery */
};

static double processor_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Negative when a thread cannot be started. */
static int measure(const struct rival *rival, unsigned n_threads, unsigned batch, struct figures *ret_figures)
{
	struct thread threads[MAX_THREADS] = { 0 };
	struct delivery *out[MAX_BATCH];
	unsigned started = 0;
	int64_t start = clock_now();
	double busy = processor_time();
	double n;

	job.rival = rival;
	job.batch = batch;
	job.each = options.deliveries / n_threads;
	atomic_store(&job.next_number, 0);
	while (started < n_threads && !thread_start(&threads[started], "bench", turn, NULL, NULL))
		started++;
	for (unsigned i = 0; i < started; i++)
		thread_join(&threads[i]);
	while (rival->run(out, MAX_BATCH))
		;
	if (started < n_threads)
		return -1;
	n = (double)(job.each * n_threads);
	ret_figures->speed = n / ((double)(clock_now() - start) / NSEC_PER_SEC);
	ret_figures->cost = (processor_time() - busy) / n;
	return 0;
}

static int by_speed(const void *a, const void *b)
{
	double x = ((const struct figures *)a)->speed, y = ((const struct figures *)b)->speed;

	return (x > y) - (x < y);
}

static int compare(unsigned n_threads, unsigned batch)
{
	struct figures all[2][MAX_ROUNDS];
	const struct figures *mine = &all[0][options.rounds / 2], *plain = &all[1][options.rounds / 2];

	for (unsigned r = 0; r < options.rounds; r++)
		for (int i = 0; i < 2; i++)
			if (measure(&rivals[i], n_threads, batch, &all[i][r]))
				return -1;
	for (int i = 0; i < 2; i++)
		qsort(all[i], options.rounds, sizeof(all[i][0]), by_speed);
	printf("%7u %6u %11.0f %11.0f %6.2f %9.0f %9.0f %6.2f\n", n_threads, batch,
	       mine->speed, plain->speed, mine->speed / plain->speed,
	       mine->cost, plain->cost, mine->cost / plain->cost);
	fflush(stdout);
	return 0;
}

/* --- program ------------------------------------------------------------- */

static unsigned long number(const char *text, unsigned long max, struct argp_state *state)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || n == 0 || n > max)
		argp_error(state, "\"%s\" is not a number from 1 to %lu", text, max);
	return n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case 't':
		options.threads = (unsigned)number(arg, MAX_THREADS, state);
		return 0;
	case 'n':
		options.deliveries = number(arg, 1000000000, state);
		return 0;
	case 'r':
		options.rounds = (unsigned)number(arg, MAX_ROUNDS, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int run_all(void)
{
	printf("%14s %23s %6s %19s\n", "", "deliveries a second", "", "processor ns each");
	printf("%7s %6s %11s %11s %6s %9s %9s %6s\n", "threads", "batch", "queue", "mutex+list", "ratio",
	       "queue", "mutex", "ratio");
	for (size_t b = 0; b < sizeof(batches) / sizeof(*batches); b++)
		for (unsigned n = 1; n <= options.threads; n++)
			if (compare(n, batches[b]))
				return EXIT_FAULT;
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	static const struct argp_option table[] = {
		{ "threads", 't', "N", 0, "Most threads (4)", 0 },
		{ "deliveries", 'n', "N", 0, "Deliveries a round (500000)", 0 },
		{ "rounds", 'r', "N", 0, "Rounds of each (5)", 0 },
		{ 0 },
	};
	static const struct argp argp = { table, parse, NULL, "Compares strandd's queue with a mutex and lists.",
					  NULL, NULL, NULL };
	struct queue_config config = { .n_routes = ROUTES, .max_entries = LIMIT,
				       .max_bytes = 8 << 20, .n_workers = MAX_THREADS };
	int status = EXIT_FAULT;

	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	rcu_register_thread();
	locked = mutex_queue_new(ROUTES, LIMIT);
	if (locked && queue_new(&lock_free, &config) == 0) {
		status = run_all();
		queue_free(lock_free);
	} else {
		fprintf(stderr, "queue_bench: out of memory\n");
	}
	if (locked)
		mutex_queue_free(locked);
	rcu_unregister_thread();
	return status;
}
