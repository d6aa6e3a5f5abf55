#include "libstrand/window.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* In a chain of its bucket, and in one from the oldest to the newest. */
struct window_entry {
	struct window_entry *in_bucket, *newer;
	uint64_t hash;
	unsigned route;
	bool forgotten;		/* out of its bucket; goes when its turn comes */
	size_t len;
	char id[];
};

int window_init(struct window *w, size_t n_max, size_t bytes_max)
{
	*w = (struct window){ .n_max = n_max, .bytes_max = bytes_max };
	w->buckets = calloc(n_max, sizeof(struct window_entry *));
	if (!w->buckets)
		return STRAND_ENOMEM;
	/* Without randomness it is a hash that can be guessed: slow at worst. */
	if (getrandom(&w->key, sizeof(w->key), GRND_NONBLOCK) < 0)
		w->key = (struct siphash_key){ (uintptr_t)w, (uintptr_t)w->buckets };
	w->newest_next = &w->oldest;
	return 0;
}

void window_release(struct window *w)
{
	while (w->oldest) {
		struct window_entry *next = w->oldest->newer;

		free(w->oldest);
		w->oldest = next;
	}
	free(w->buckets);
	*w = (struct window){ 0 };
}

static struct window_entry **bucket(const struct window *w, uint64_t hash)
{
	return &w->buckets[hash & (w->n_max - 1)];
}

static uint64_t hash_of(const struct window *w, unsigned route, const char *id, size_t len)
{
	return siphash(w->key, id, len) + route;
}

/* Where the entry hangs, or the end of its chain. */
static struct window_entry **find(const struct window *w, uint64_t hash, unsigned route, const char *id, size_t len)
{
	struct window_entry **at = bucket(w, hash);

	while (*at && !((*at)->hash == hash && (*at)->route == route && (*at)->len == len &&
			!memcmp((*at)->id, id, len)))
		at = &(*at)->in_bucket;
	return at;
}

static void unchain(struct window *w, struct window_entry *entry)
{
	struct window_entry **at = bucket(w, entry->hash);

	while (*at != entry)
		at = &(*at)->in_bucket;
	*at = entry->in_bucket;
}

static void drop_oldest(struct window *w)
{
	struct window_entry *entry = w->oldest;

	if (!entry->forgotten)
		unchain(w, entry);
	w->oldest = entry->newer;
	if (!w->oldest)
		w->newest_next = &w->oldest;
	w->n--;
	w->bytes -= entry->len;
	free(entry);
}

int window_add(struct window *w, unsigned route, const char *id)
{
	size_t len = strlen(id);
	uint64_t hash = hash_of(w, route, id, len);
	struct window_entry **at = find(w, hash, route, id, len), *entry;

	if (*at)
		return 0;
	entry = malloc(sizeof(*entry) + len);
	if (!entry)
		return STRAND_ENOMEM;
	*entry = (struct window_entry){ .in_bucket = *bucket(w, hash), .hash = hash, .route = route, .len = len };
	memcpy(entry->id, id, len);
	*bucket(w, hash) = entry;
	*w->newest_next = entry;
	w->newest_next = &entry->newer;
	w->n++;
	w->bytes += len;
	while (w->n > w->n_max || (w->bytes > w->bytes_max && w->n > 1))
		drop_oldest(w);
	return 1;
}

void window_forget(struct window *w, unsigned route, const char *id)
{
	size_t len = strlen(id);
	uint64_t hash = hash_of(w, route, id, len);
	struct window_entry **at = find(w, hash, route, id, len), *entry = *at;

	if (!entry)
		return;
	*at = entry->in_bucket;
	entry->forgotten = true;
}
