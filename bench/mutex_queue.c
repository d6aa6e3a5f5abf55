#include "mutex_queue.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "queue/siphash.h"

#define BUCKETS 32768

struct item {
	struct delivery delivery;	/* first */
	struct item *next_in_bucket, *next_in_lane;
	char id[];
};

struct list {
	struct item *first, **end;
};

struct mutex_queue {
	pthread_mutex_t lock;
	struct siphash_key key;
	unsigned n_routes, turn[2];
	size_t entries, max_entries;
	struct item *buckets[BUCKETS];
	struct list lanes[][2];
};

struct mutex_queue *mutex_queue_new(unsigned n_routes, size_t max_entries)
{
	struct mutex_queue *q = calloc(1, sizeof(*q) + n_routes * sizeof(q->lanes[0]));

	if (!q)
		return NULL;
	pthread_mutex_init(&q->lock, NULL);
	q->key = (struct siphash_key){ 1, 2 };
	q->n_routes = n_routes;
	q->max_entries = max_entries;
	for (unsigned i = 0; i < n_routes; i++)
		for (int lane = 0; lane < 2; lane++)
			q->lanes[i][lane].end = &q->lanes[i][lane].first;
	return q;
}

void mutex_queue_free(struct mutex_queue *q)
{
	pthread_mutex_destroy(&q->lock);
	free(q);
}

static struct item **place(struct mutex_queue *q, unsigned route, const char *id, size_t id_len)
{
	struct siphash_key key = { q->key.k0 ^ route, q->key.k1 };
	struct item **at = &q->buckets[siphash(key, id, id_len) % BUCKETS];

	while (*at && !((*at)->delivery.route == route && (*at)->delivery.id_len == id_len &&
			memcmp((*at)->id, id, id_len) == 0))
		at = &(*at)->next_in_bucket;
	return at;
}

static enum queue_answer add(struct mutex_queue *q, unsigned route, const char *id, size_t id_len, bool high)
{
	struct item **at = place(q, route, id, id_len);
	struct list *lane = &q->lanes[route][high ? 0 : 1];
	struct item *item;

	if (*at)
		return QUEUE_DUPLICATE;
	if (q->entries == q->max_entries)
		return QUEUE_FULL;
	item = calloc(1, sizeof(*item) + id_len + 1);
	if (!item)
		return QUEUE_FULL;
	memcpy(item->id, id, id_len);
	item->delivery = (struct delivery){ .route = route, .high = high, .id = item->id,
					    .id_len = id_len };
	*at = item;
	*lane->end = item;
	lane->end = &item->next_in_lane;
	q->entries++;
	return QUEUE_ADDED;
}

enum queue_answer mutex_queue_offer(struct mutex_queue *q, unsigned route, const char *id,
				    size_t id_len, bool high)
{
	enum queue_answer answer;

	pthread_mutex_lock(&q->lock);
	answer = add(q, route, id, id_len, high);
	pthread_mutex_unlock(&q->lock);
	return answer;
}

static size_t take_lane(struct list *lane, struct delivery **out, size_t max)
{
	size_t n = 0;

	while (n < max && lane->first) {
		struct item *item = lane->first;

		lane->first = item->next_in_lane;
		out[n++] = &item->delivery;
	}
	if (!lane->first)
		lane->end = &lane->first;
	return n;
}

size_t mutex_queue_take(struct mutex_queue *q, struct delivery **out, size_t max)
{
	size_t n = 0;

	pthread_mutex_lock(&q->lock);
	for (int lane = 0; lane < 2 && n == 0; lane++) {
		for (unsigned i = 0; i < q->n_routes && n == 0; i++) {
			unsigned route = (q->turn[lane] + i) % q->n_routes;

			n = take_lane(&q->lanes[route][lane], out, max);
			if (n)
				q->turn[lane] = (route + 1) % q->n_routes;
		}
	}
	pthread_mutex_unlock(&q->lock);
	return n;
}

void mutex_queue_finish(struct mutex_queue *q, struct delivery *d)
{
	struct item **at;

	pthread_mutex_lock(&q->lock);
	at = place(q, d->route, d->id, d->id_len);
	*at = (*at)->next_in_bucket;
	q->entries--;
	pthread_mutex_unlock(&q->lock);
	free(d);
}
