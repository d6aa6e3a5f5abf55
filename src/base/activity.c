#include "base/activity.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { TRIES = 200, NAME_WORDS = 2, ROUTE_WORDS = ACTIVITY_ROUTE_BYTES / 8 };

/* A seqlock a place: its thread is the only writer, and readers try again when
 * `version` was odd or has changed.  Stores of the content are release, so that none
 * is seen before the odd version; loads of it acquire, so that the second look at the
 * version comes after them.  All are atomic, so a torn view is only that. */
struct place {
	_Atomic bool taken;
	_Atomic unsigned version;
	_Atomic uint64_t name[NAME_WORDS];
	_Atomic int tid;
	_Atomic(const char *) what;
	_Atomic uint64_t route[ROUTE_WORDS];
	_Atomic unsigned number, total;
	_Atomic int64_t since;
};

static struct place places[ACTIVITY_THREADS];
static _Thread_local struct place *own;

static void store_text(_Atomic uint64_t *words, size_t n, const char *text)
{
	size_t len = strlen(text);

	if (len > n * 8 - 1)
		len = n * 8 - 1;
	for (size_t i = 0; i < n; i++) {
		uint64_t word = 0;
		size_t at = i * 8, left = len > at ? len - at : 0;
		memcpy(&word, text + (left ? at : 0), left < 8 ? left : 8);
		atomic_store_explicit(&words[i], word, memory_order_release);
	}
}

static void load_text(const _Atomic uint64_t *words, size_t n, char *text)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t word = atomic_load_explicit(&words[i], memory_order_acquire);
		memcpy(text + i * 8, &word, 8);
	}
	text[n * 8 - 1] = '\0';
}

/* relaxed: this thread's own count; see struct place for the order */
static void write_begin(struct place *p)
{
	atomic_store_explicit(&p->version, atomic_load_explicit(&p->version, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

static void write_end(struct place *p)
{
	atomic_store_explicit(&p->version, atomic_load_explicit(&p->version, memory_order_relaxed) + 1,
			      memory_order_release);
}

void activity_begin(const char *name)
{
	for (size_t i = 0; i < ACTIVITY_THREADS && !own; i++) {
		/* acquire: what its last thread left is not written after us */
		if (!atomic_exchange_explicit(&places[i].taken, true, memory_order_acquire))
			own = &places[i];
	}
	if (!own)
		return;
	write_begin(own);
	store_text(own->name, NAME_WORDS, name);
	atomic_store_explicit(&own->tid, (int)gettid(), memory_order_release);
	write_end(own);
	activity_set("starting");
}

void activity_end(void)
{
	if (!own)
		return;
	write_begin(own);
	atomic_store_explicit(&own->what, NULL, memory_order_release);
	write_end(own);
	/* release: pairs with activity_begin */
	atomic_store_explicit(&own->taken, false, memory_order_release);
	own = NULL;
}

void activity_set_on(const char *what, const char *route, unsigned number, unsigned total)
{
	if (!own)
		return;
	write_begin(own);
	atomic_store_explicit(&own->what, what, memory_order_release);
	store_text(own->route, ROUTE_WORDS, route);
	atomic_store_explicit(&own->number, number, memory_order_release);
	atomic_store_explicit(&own->total, total, memory_order_release);
	atomic_store_explicit(&own->since, clock_now(), memory_order_release);
	write_end(own);
}

void activity_set(const char *what)
{
	activity_set_on(what, "", 0, 0);
}

static bool read_place(const struct place *p, struct activity *a)
{
	unsigned version = atomic_load_explicit(&p->version, memory_order_acquire);

	load_text(p->name, NAME_WORDS, a->thread);
	a->tid = atomic_load_explicit(&p->tid, memory_order_acquire);
	a->what = atomic_load_explicit(&p->what, memory_order_acquire);
	load_text(p->route, ROUTE_WORDS, a->route);
	a->number = atomic_load_explicit(&p->number, memory_order_acquire);
	a->total = atomic_load_explicit(&p->total, memory_order_acquire);
	a->since = atomic_load_explicit(&p->since, memory_order_acquire);
	/* relaxed: the loads above are acquire */
	return !(version & 1) && version == atomic_load_explicit(&p->version, memory_order_relaxed);
}

size_t activity_list(struct activity *ret, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < ACTIVITY_THREADS && n < max; i++) {
		/* A write takes no time, unless its thread lost the processor in the
		 * middle of it.  One that gets none is told of as it was seen last. */
		for (int tries = 0; tries < TRIES && !read_place(&places[i], &ret[n]); tries++)
			if (tries >= TRIES / 2)
				usleep(1000);
		if (ret[n].what)
			n++;
	}
	return n;
}
