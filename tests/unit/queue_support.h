/* What the tests of the queue share: threads, volume, checks off the main thread. */
#ifndef TESTS_UNIT_QUEUE_SUPPORT_H
#define TESTS_UNIT_QUEUE_SUPPORT_H

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "base/clock.h"
#include "base/thread.h"
#include "base/tsan.h"

#if defined(STRANDD_TSAN) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#ifdef STRANDD_TSAN
/* Each test is a process, and each would sleep a second at its end. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "atexit_sleep_ms=20";
}
#endif

/* Long enough that only a lost wakeup reaches it. */
#define LONG_MS 20000

/* How many operations a test does: STRANDD_TEST_SCALE percent of `full`, and a
 * fifth of that where a sanitizer makes each one slow. */
static inline unsigned scaled(unsigned full)
{
	const char *percent = getenv("STRANDD_TEST_SCALE");
	uint64_t n = (uint64_t)full * (percent ? strtoull(percent, NULL, 10) : 100) / 100;

	n /= SANITIZED ? 5 : 1;
	return n < 100 ? 100 : (unsigned)n;
}

/* ck_assert belongs to the test's own thread; others count what is wrong. */
static _Atomic unsigned wrong;

#define MUST(condition)                                                                    \
	do {                                                                               \
		if (!(condition) && atomic_fetch_add(&wrong, 1) == 0)                      \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
	} while (0)

#define CREW_MAX 8

/* Threads that do the same thing, each with its number. */
struct crew {
	struct thread threads[CREW_MAX];
	struct member {
		struct crew *crew;
		unsigned number;
	} members[CREW_MAX];
	unsigned n;
	void (*fn)(unsigned number);
};

static inline void crew_member(void *arg)
{
	struct member *m = arg;

	m->crew->fn(m->number);
}

static inline void crew_start(struct crew *c, unsigned n, void (*fn)(unsigned))
{
	c->n = n;
	c->fn = fn;
	for (unsigned i = 0; i < n; i++) {
		char name[16];

		c->members[i] = (struct member){ c, i };
		snprintf(name, sizeof(name), "crew-%u", i);
		ck_assert_int_eq(thread_start(&c->threads[i], name, crew_member, &c->members[i], NULL), 0);
	}
}

static inline void crew_join(struct crew *c)
{
	for (unsigned i = 0; i < c->n; i++)
		thread_join(&c->threads[i]);
}

/* Small and private to its thread; the seed makes a run repeatable. */
static inline uint32_t random_next(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static inline void reader_start(void)
{
	atomic_store(&wrong, 0);
	rcu_register_thread();
}

static inline void reader_stop(void)
{
	rcu_unregister_thread();
}

static inline int run_suite(Suite *s)
{
	SRunner *sr = srunner_create(s);
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
