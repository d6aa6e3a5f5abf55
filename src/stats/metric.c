#include "stats/metric.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "stats/exposition.h"
#include "stats/metric_table.h"

#define CACHE_LINE 64

struct gauge {
	struct gauge *next;
	const char *name, *help;
	bool by_route;
	metric_gauge_fn *fn;
	void *arg;
};

/* The numbers of some slots of one thread; allocated when the first is counted. */
#define CHUNK_SLOTS 16u
#define N_CHUNKS (METRIC_SLOTS_MAX / CHUNK_SLOTS)

struct chunk {
	_Atomic uint64_t cells[CHUNK_SLOTS][METRIC_COUNT];
};

/* All numbers of one thread.  `owner` is the address of a variable of that
 * thread, NULL when it has ended: the next new thread carries on here. */
struct block {
	struct block *next;	/* set before the block is published, then constant */
	const void *owner;	/* under the mutex */
	_Atomic(struct chunk *) chunks[N_CHUNKS];	/* set once, by the owner */
};

struct slot {
	char *tag, *source;
	_Atomic uint64_t asked;		/* a bit a metric: see metric_first */
};

_Static_assert(METRIC_COUNT <= 64, "a bit of `asked` for each metric");

struct metrics {
	uint64_t serial;	/* never used twice, unlike an address */
	pthread_key_t key;	/* tells that a thread with a block ends */
	struct gauge *gauges, **last_gauge;
	pthread_mutex_t lock;	/* of owners, of the list's head, of new slots */
	_Atomic(struct block *) blocks;
	struct block *shared;	/* last of `blocks`, with a chunk for every slot: of
				 * threads that got no memory */
	_Atomic unsigned n_slots;
	struct slot slots[METRIC_SLOTS_MAX];	/* names are constant below n_slots */
};

static _Atomic uint64_t last_serial;

static __thread struct {
	uint64_t serial;	/* of the struct metrics that `block` is part of; 0 = none */
	struct block *block;
} mine;

/* Whole cache lines, so that no two threads write to one. */
static void *zeroed_lines(size_t size)
{
	void *p;

	size = (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	p = aligned_alloc(CACHE_LINE, size);
	return p ? memset(p, 0, size) : NULL;
}

static struct chunk *chunk_of(const struct block *b, unsigned slot)
{
	/* Acquire: pairs with add_chunk; who sees the chunk sees its zeros. */
	return atomic_load_explicit(&b->chunks[slot / CHUNK_SLOTS], memory_order_acquire);
}

static struct chunk *add_chunk(struct block *b, unsigned slot)
{
	struct chunk *c = zeroed_lines(sizeof(*c));

	/* Release: see chunk_of. */
	if (c)
		atomic_store_explicit(&b->chunks[slot / CHUNK_SLOTS], c, memory_order_release);
	return c;
}

/* A thread with a block ends: the block is the next thread's. */
static void give_back(void *arg)
{
	struct metrics *m = arg;
	struct block *b;

	pthread_mutex_lock(&m->lock);
	/* Relaxed: written under this mutex only. */
	b = atomic_load_explicit(&m->blocks, memory_order_relaxed);
	for (; b; b = b->next)
		if (b->owner == &mine)
			b->owner = NULL;
	pthread_mutex_unlock(&m->lock);
}

int metrics_new(struct metrics **ret_metrics)
{
	struct metrics *m = calloc(1, sizeof(*m));

	if (!m)
		return STRAND_ENOMEM;
	m->last_gauge = &m->gauges;
	m->shared = zeroed_lines(sizeof(*m->shared));
	if (!m->shared || !add_chunk(m->shared, METRIC_NO_ROUTE) || pthread_key_create(&m->key, give_back)) {
		free(m->shared ? chunk_of(m->shared, METRIC_NO_ROUTE) : NULL);
		free(m->shared);
		free(m);
		return STRAND_ENOMEM;
	}
	/* No thread's own, so that none takes it over. */
	m->shared->owner = m;
	/* Relaxed: only uniqueness matters. */
	m->serial = atomic_fetch_add_explicit(&last_serial, 1, memory_order_relaxed) + 1;
	atomic_init(&m->blocks, m->shared);
	pthread_mutex_init(&m->lock, NULL);
	*ret_metrics = m;
	return 0;
}

static void block_free(struct block *b)
{
	for (unsigned slot = 0; slot < METRIC_SLOTS_MAX; slot += CHUNK_SLOTS)
		free(chunk_of(b, slot));
	free(b);
}

void metrics_free(struct metrics *m)
{
	struct block *b, *next_block;
	struct gauge *g, *next_gauge;

	if (!m)
		return;
	pthread_key_delete(m->key);
	/* Relaxed: every other thread is joined. */
	for (b = atomic_load_explicit(&m->blocks, memory_order_relaxed); b; b = next_block) {
		next_block = b->next;
		block_free(b);
	}
	for (g = m->gauges; g; g = next_gauge) {
		next_gauge = g->next;
		free(g);
	}
	/* Relaxed: as above. */
	for (unsigned i = 0; i < atomic_load_explicit(&m->n_slots, memory_order_relaxed); i++) {
		free(m->slots[i].tag);
		free(m->slots[i].source);
	}
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static unsigned slots_of(const struct metrics *m)
{
	/* Acquire: pairs with add_slot; who sees the number sees the labels. */
	return atomic_load_explicit(&m->n_slots, memory_order_acquire);
}

static int add_slot(struct metrics *m, const char *tag, const char *source)
{
	unsigned n = slots_of(m);
	struct slot *s = &m->slots[n];

	s->tag = strdup(tag);
	s->source = strdup(source);
	if (s->tag && s->source && (chunk_of(m->shared, n) || add_chunk(m->shared, n))) {
		/* Release: see slots_of. */
		atomic_store_explicit(&m->n_slots, n + 1, memory_order_release);
		return 0;
	}
	free(s->tag);
	free(s->source);
	return STRAND_ENOMEM;
}

int metric_slot(struct metrics *m, const char *tag, const char *source, unsigned *ret_slot)
{
	unsigned i, n;
	int ret = 0;

	pthread_mutex_lock(&m->lock);
	n = slots_of(m);
	for (i = 0; i < n && (strcmp(m->slots[i].tag, tag) || strcmp(m->slots[i].source, source)); i++)
		;
	if (i == METRIC_SLOTS_MAX)
		ret = STRAND_EFULL;
	else if (i == n)
		ret = add_slot(m, tag, source);
	pthread_mutex_unlock(&m->lock);
	if (!ret)
		*ret_slot = i;
	return ret;
}

/* One that an ended thread left, or a new one. */
static struct block *take_block(struct metrics *m)
{
	/* Relaxed: written under the mutex, which is held, only. */
	struct block *b, *head = atomic_load_explicit(&m->blocks, memory_order_relaxed);

	for (b = head; b && b->owner != &mine; b = b->next)
		;
	for (b = b ? b : head; b && b->owner && b->owner != &mine; b = b->next)
		;
	if (b) {
		b->owner = &mine;
		return b;
	}
	b = zeroed_lines(sizeof(*b));
	if (!b)
		return NULL;
	b->owner = &mine;
	b->next = head;
	/* Release: a scrape that sees the block sees its zeros and next. */
	atomic_store_explicit(&m->blocks, b, memory_order_release);
	return b;
}

/* The first count of a thread: finds or links its block. */
static struct block *block_of_thread(struct metrics *m)
{
	struct block *b = NULL;

	pthread_mutex_lock(&m->lock);
	/* Without the key its end would go unnoticed. */
	if (!pthread_setspecific(m->key, m))
		b = take_block(m);
	pthread_mutex_unlock(&m->lock);
	if (!b)
		return m->shared;	/* not remembered: tried again next time */
	mine.serial = m->serial;
	mine.block = b;
	return b;
}

static unsigned slot_of(const struct metrics *m, enum metric which, unsigned slot)
{
	assert((unsigned)which < METRIC_COUNT);
	if (!metric_rows[which].by_route)
		return METRIC_NO_ROUTE;
	assert(slot < slots_of(m));
	return slot;
}

void metric_add(struct metrics *m, enum metric which, unsigned slot, uint64_t n)
{
	struct block *b;
	struct chunk *c;

	if (!m || n == 0)
		return;
	slot = slot_of(m, which, slot);
	b = mine.serial == m->serial ? mine.block : block_of_thread(m);
	c = chunk_of(b, slot);
	if (!c)
		c = add_chunk(b, slot);
	if (!c)
		c = chunk_of(m->shared, slot);
	/* Relaxed: a lone number, nothing is published by it.  Read-modify-write
	 * because the shared block has many writers. */
	atomic_fetch_add_explicit(&c->cells[slot % CHUNK_SLOTS][which], n, memory_order_relaxed);
}

uint64_t metric_sum(const struct metrics *m, enum metric which, unsigned slot)
{
	const struct block *b;
	uint64_t sum = 0;

	if (!m)
		return 0;
	slot = slot_of(m, which, slot);
	/* Acquire: pairs with the release that published the block. */
	for (b = atomic_load_explicit(&m->blocks, memory_order_acquire); b; b = b->next) {
		struct chunk *c = chunk_of(b, slot);
		if (c)
			sum += atomic_load_explicit(&c->cells[slot % CHUNK_SLOTS][which], memory_order_relaxed);
	}
	return sum;
}

bool metric_first(struct metrics *m, enum metric which, unsigned slot)
{
	const uint64_t bit = UINT64_C(1) << which;

	if (!m)
		return true;
	/* Relaxed: one of those who ask is the first, which is all there is to it. */
	return !(atomic_fetch_or_explicit(&m->slots[slot_of(m, which, slot)].asked, bit, memory_order_relaxed) & bit);
}

static bool name_is_good(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");

	return n > 0 && name[n] == '\0' && strncmp(name, METRIC_PREFIX, strlen(METRIC_PREFIX)) != 0;
}

int metric_gauge(struct metrics *m, const char *name, const char *help, bool by_route,
		 metric_gauge_fn *fn, void *arg)
{
	struct gauge *g;

	if (!m)
		return 0;
	if (!name_is_good(name))
		return STRAND_EINVAL;
	for (g = m->gauges; g; g = g->next) {
		if (strcmp(g->name, name) == 0)
			return STRAND_EINVAL;
	}
	g = malloc(sizeof(*g));
	if (!g)
		return STRAND_ENOMEM;
	*g = (struct gauge){ .name = name, .help = help, .by_route = by_route, .fn = fn, .arg = arg };
	*m->last_gauge = g;
	m->last_gauge = &g->next;
	return 0;
}

static void write_counter(const struct metrics *m, struct buf *out, enum metric which, unsigned n_slots)
{
	const struct metric_row *row = &metric_rows[which];
	const struct exposition x = { row->name, "_total", "counter", row->help };

	exposition_head(out, &x);
	if (!row->by_route)
		exposition_count(out, &x, NULL, NULL, metric_sum(m, which, METRIC_NO_ROUTE));
	for (unsigned slot = 0; row->by_route && slot < n_slots; slot++)
		exposition_count(out, &x, m->slots[slot].tag, m->slots[slot].source, metric_sum(m, which, slot));
}

static void write_gauge(const struct metrics *m, struct buf *out, const struct gauge *g, unsigned n_slots)
{
	const struct exposition x = { g->name, "", "gauge", g->help };

	exposition_head(out, &x);
	if (!g->by_route)
		exposition_value(out, &x, NULL, NULL, g->fn(g->arg, METRIC_NO_ROUTE));
	for (unsigned slot = 0; g->by_route && slot < n_slots; slot++)
		exposition_value(out, &x, m->slots[slot].tag, m->slots[slot].source, g->fn(g->arg, slot));
}

void metrics_write(const struct metrics *m, struct buf *out)
{
	unsigned n = m ? slots_of(m) : 0;

	if (!m)
		return;
	for (int i = 0; i < METRIC_COUNT; i++)
		write_counter(m, out, (enum metric)i, n);
	for (const struct gauge *g = m->gauges; g; g = g->next)
		write_gauge(m, out, g, n);
}
