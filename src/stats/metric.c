#include "stats/metric.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "strandd_"
#define CACHE_LINE 64

/* One row a metric; everything else about it follows from this. */
static const struct metric_row {
	const char *name;	/* between PREFIX and _total */
	bool by_route;
	const char *help;
} rows[METRIC_COUNT] = {
	[METRIC_NOTIFICATIONS] = { "notifications", true, "Notifications received by the listener." },
	[METRIC_DUPLICATES] = { "duplicates", true, "Hints of strands already queued, running or settled." },
	[METRIC_FORGED] = { "forged", true, "Hints without a strand that bears the tag." },
	[METRIC_OVERFLOWS] = { "overflows", true, "Hints dropped by the full queue and left to the scan." },
	[METRIC_SETTLED] = { "settled", true, "Receipts written as done." },
	[METRIC_FAILED] = { "failed", true, "Receipts written as failed." },
	[METRIC_EXPIRED] = { "expired", true, "Receipts written as expired." },
	[METRIC_RETRIED] = { "retried", true, "Attempts that failed, with another to follow." },
	[METRIC_MARKED] = { "marked", true, "Strands whose tags were made to say that they failed or expired." },
	[METRIC_ODD_TIMEOUTS] = { "odd_timeouts", true, "Tags timeout: that make no sense and were ignored." },
	[METRIC_SUSPENSIONS] = { "suspensions", true, "Times that the route was suspended." },
	[METRIC_REPLIES] = { "replies", true, "Replies written." },
	[METRIC_UNROUTED_TAGS] = { "unrouted_tags", true, "Tags of replies that no route is attached for." },
	[METRIC_BATCHES] = { "batches", true, "Batches committed." },
	[METRIC_ROLLBACKS] = { "rollbacks", true, "Batches rolled back." },
	[METRIC_CONTENDED] = { "contended", true, "Deliveries left to another instance." },
	[METRIC_PUT_OFF] = { "put_off", true, "Deliveries put off: an outage, a lost race, no resources." },
	[METRIC_SCAN_PASSES] = { "scan_passes", true, "Passes of the scanner." },
	[METRIC_SCAN_ROWS] = { "scan_rows", true, "Rows read by passes of the scanner." },
	[METRIC_SCAN_FOUND] = { "scan_found", true, "Hints found by passes of the scanner." },
	[METRIC_RECONNECTS] = { "reconnects", false, "Connections that had to be opened again." },
};

struct gauge {
	struct gauge *next;
	const char *name, *help;
	bool by_route;
	metric_gauge_fn *fn;
	void *arg;
};

/* The numbers of one thread.  `owner` is the address of a variable of that
 * thread: a later thread that gets the same address carries on its block, so
 * threads that come and go do not pile blocks up. */
struct block {
	struct block *next;	/* set before the block is published, then constant */
	const void *owner;
	_Atomic uint64_t cells[];	/* [metric][route] */
};

struct metrics {
	uint64_t serial;	/* never used twice, unlike an address */
	unsigned n_routes;
	unsigned width;		/* cells a metric, at least 1 */
	const char *const *tags, *const *sources;
	struct gauge *gauges, **last_gauge;
	pthread_mutex_t linking;	/* held while a thread looks for or links its block */
	_Atomic(struct block *) blocks;
	struct block *shared;	/* last of `blocks`: of threads that got no memory */
};

static _Atomic uint64_t last_serial;

static __thread struct {
	uint64_t serial;	/* of the struct metrics that `block` is part of; 0 = none */
	struct block *block;
} mine;

static struct block *block_new(const struct metrics *m, const void *owner)
{
	size_t size = sizeof(struct block) + sizeof(_Atomic uint64_t) * METRIC_COUNT * m->width;
	struct block *b;

	/* Whole cache lines, so that no two threads write to one. */
	size = (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	b = aligned_alloc(CACHE_LINE, size);
	if (b) {
		memset(b, 0, size);
		b->owner = owner;
	}
	return b;
}

int metrics_new(struct metrics **ret_metrics, const char *const *route_tags,
		const char *const *route_sources, unsigned n_routes)
{
	struct metrics *m = calloc(1, sizeof(*m));

	if (!m)
		return STRAND_ENOMEM;
	m->n_routes = n_routes;
	m->width = n_routes ? n_routes : 1;
	m->tags = route_tags;
	m->sources = route_sources;
	m->last_gauge = &m->gauges;
	m->shared = block_new(m, NULL);
	if (!m->shared) {
		free(m);
		return STRAND_ENOMEM;
	}
	/* Relaxed: only uniqueness matters. */
	m->serial = atomic_fetch_add_explicit(&last_serial, 1, memory_order_relaxed) + 1;
	atomic_init(&m->blocks, m->shared);
	pthread_mutex_init(&m->linking, NULL);
	*ret_metrics = m;
	return 0;
}

void metrics_free(struct metrics *m)
{
	struct block *b, *next_block;
	struct gauge *g, *next_gauge;

	if (!m)
		return;
	/* Relaxed: every other thread is joined. */
	for (b = atomic_load_explicit(&m->blocks, memory_order_relaxed); b; b = next_block) {
		next_block = b->next;
		free(b);
	}
	for (g = m->gauges; g; g = next_gauge) {
		next_gauge = g->next;
		free(g);
	}
	pthread_mutex_destroy(&m->linking);
	free(m);
}

/* The first count of a thread: finds or links its block. */
static struct block *block_of_thread(struct metrics *m)
{
	struct block *b, *head;

	pthread_mutex_lock(&m->linking);
	/* Relaxed: written under this mutex only. */
	head = atomic_load_explicit(&m->blocks, memory_order_relaxed);
	for (b = head; b && b->owner != &mine; b = b->next)
		;
	if (!b) {
		b = block_new(m, &mine);
		if (b) {
			b->next = head;
			/* Release: a scrape that sees the block sees its zeros and next. */
			atomic_store_explicit(&m->blocks, b, memory_order_release);
		}
	}
	pthread_mutex_unlock(&m->linking);
	if (!b)
		return m->shared;	/* not remembered: tried again next time */
	mine.serial = m->serial;
	mine.block = b;
	return b;
}

static size_t cell_of(const struct metrics *m, enum metric which, unsigned route)
{
	assert((unsigned)which < METRIC_COUNT);
	if (!rows[which].by_route)
		route = 0;
	assert(route < m->width);
	return (size_t)which * m->width + route;
}

void metric_add(struct metrics *m, enum metric which, unsigned route, uint64_t n)
{
	struct block *b;

	if (!m || n == 0)
		return;
	b = mine.serial == m->serial ? mine.block : block_of_thread(m);
	/* Relaxed: a lone number, nothing is published by it.  Read-modify-write
	 * because the shared block has many writers. */
	atomic_fetch_add_explicit(&b->cells[cell_of(m, which, route)], n, memory_order_relaxed);
}

uint64_t metric_sum(const struct metrics *m, enum metric which, unsigned route)
{
	const struct block *b;
	uint64_t sum = 0;
	size_t cell;

	if (!m)
		return 0;
	cell = cell_of(m, which, route);
	/* Acquire: pairs with the release that published the block. */
	for (b = atomic_load_explicit(&m->blocks, memory_order_acquire); b; b = b->next)
		sum += atomic_load_explicit(&b->cells[cell], memory_order_relaxed);
	return sum;
}

static bool name_is_good(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");

	return n > 0 && name[n] == '\0' && strncmp(name, PREFIX, strlen(PREFIX)) != 0;
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

/* Backslash and line feed everywhere, the quote in label values only. */
static void write_escaped(struct buf *out, const char *text, bool label)
{
	for (; *text; text++) {
		if (*text == '\n')
			buf_adds(out, "\\n");
		else if (*text == '\\')
			buf_adds(out, "\\\\");
		else if (*text == '"' && label)
			buf_adds(out, "\\\"");
		else
			buf_add(out, text, 1);
	}
}

static void write_head(struct buf *out, const char *name, const char *suffix, const char *type,
		       const char *help)
{
	buf_addf(out, "# HELP " PREFIX "%s%s ", name, suffix);
	write_escaped(out, help, false);
	buf_addf(out, "\n# TYPE " PREFIX "%s%s %s\n", name, suffix, type);
}

/* A sample's name and, with `by_route`, its labels, up to the value. */
static void write_sample(const struct metrics *m, struct buf *out, const char *name,
			 const char *suffix, bool by_route, unsigned route)
{
	buf_addf(out, PREFIX "%s%s", name, suffix);
	if (by_route) {
		buf_adds(out, "{tag=\"");
		write_escaped(out, m->tags[route], true);
		buf_adds(out, "\",source=\"");
		write_escaped(out, m->sources[route], true);
		buf_adds(out, "\"}");
	}
	buf_adds(out, " ");
}

/* A full stop for the decimal point, whatever the locale says. */
static void write_double(struct buf *out, double value)
{
	char text[64], *comma;

	if (isnan(value)) {
		buf_adds(out, "NaN\n");
	} else if (isinf(value)) {
		buf_adds(out, value > 0 ? "+Inf\n" : "-Inf\n");
	} else {
		snprintf(text, sizeof(text), "%.15g", value);
		comma = strchr(text, ',');
		if (comma)
			*comma = '.';
		buf_addf(out, "%s\n", text);
	}
}

void metrics_write(const struct metrics *m, struct buf *out)
{
	const struct gauge *g;
	unsigned route;

	if (!m)
		return;
	for (int i = 0; i < METRIC_COUNT; i++) {
		const struct metric_row *row = &rows[i];

		write_head(out, row->name, "_total", "counter", row->help);
		for (route = 0; route < (row->by_route ? m->n_routes : 1); route++) {
			write_sample(m, out, row->name, "_total", row->by_route, route);
			buf_addf(out, "%llu\n", (unsigned long long)metric_sum(m, (enum metric)i, route));
		}
	}
	for (g = m->gauges; g; g = g->next) {
		write_head(out, g->name, "", "gauge", g->help);
		for (route = 0; route < (g->by_route ? m->n_routes : 1); route++) {
			write_sample(m, out, g->name, "", g->by_route, route);
			write_double(out, g->fn(g->arg, route));
		}
	}
}
