#include "base/beat.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/clock.h"

struct beat {
	struct beat *next, **link;	/* in the list; `link` is what points here */
	char name[16];
	_Atomic int64_t at;		/* clock_now() based; ahead of it where silence is allowed */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct beat *beats;
static _Atomic int slice_ms = BEAT_SLICE_MAX_MS;
static _Thread_local struct beat own;

void beat_register(const char *name)
{
	snprintf(own.name, sizeof(own.name), "%s", name);
	beat_now();
	pthread_mutex_lock(&lock);
	own.next = beats;
	own.link = &beats;
	if (beats)
		beats->link = &own.next;
	beats = &own;
	pthread_mutex_unlock(&lock);
}

void beat_unregister(void)
{
	pthread_mutex_lock(&lock);
	*own.link = own.next;
	if (own.next)
		own.next->link = own.link;
	pthread_mutex_unlock(&lock);
}

void beat_now(void)
{
	beat_allow_ms(0);
}

void beat_allow_ms(int64_t ms)
{
	/* Relaxed: a time on its own, nothing is published with it. */
	atomic_store_explicit(&own.at, clock_after_ms(ms), memory_order_relaxed);
}

int beat_left_ms(int64_t deadline)
{
	/* Relaxed: set before threads start. */
	int left = clock_left_ms(deadline), slice = atomic_load_explicit(&slice_ms, memory_order_relaxed);

	return left < slice ? left : slice;
}

void beat_set_slice_ms(int ms)
{
	ms = ms < 1 ? 1 : ms > BEAT_SLICE_MAX_MS ? BEAT_SLICE_MAX_MS : ms;
	/* Relaxed: as above. */
	atomic_store_explicit(&slice_ms, ms, memory_order_relaxed);
}

bool beat_overdue(int64_t limit_ms, struct beat_silence *ret_silence)
{
	int64_t now = clock_now(), longest = limit_ms * NSEC_PER_MSEC;
	bool found = false;

	pthread_mutex_lock(&lock);
	for (struct beat *b = beats; b; b = b->next) {
		/* Relaxed: see beat_allow_ms. */
		int64_t silent = now - atomic_load_explicit(&b->at, memory_order_relaxed);
		if (silent <= longest)
			continue;
		found = true;
		longest = silent;
		snprintf(ret_silence->name, sizeof(ret_silence->name), "%s", b->name);
		ret_silence->ms = silent / NSEC_PER_MSEC;
	}
	pthread_mutex_unlock(&lock);
	return found;
}
