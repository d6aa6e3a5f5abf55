#include "pg/roster.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"

/* Relaxed throughout, but for `taken`: numbers to look at. */
struct roster_entry {
	_Atomic bool taken;
	_Atomic uint64_t owner[2];	/* the name's bytes */
	_Atomic int pid, state;
	_Atomic int64_t opened_at, since;
};

static struct roster_entry entries[ROSTER_CONNECTIONS];

static const char *const names[] = {
	[ROSTER_CONNECTING] = "connecting",
	[ROSTER_WAITING] = "awaiting the server",
	[ROSTER_LISTENING] = "listening",
	[ROSTER_IDLE] = "idle",
	[ROSTER_IN_TRANSACTION] = "in a transaction",
	[ROSTER_FAILED_TRANSACTION] = "in a failed transaction",
	[ROSTER_BROKEN] = "broken",
};

const char *roster_state_name(enum roster_state state)
{
	return names[state];
}

static void fill(struct roster_entry *e)
{
	int64_t now = clock_now();
	char name[16] = "";
	uint64_t words[2];

	strncpy(name, thread_name(), sizeof(name) - 1);
	memcpy(words, name, sizeof(words));
	for (size_t i = 0; i < 2; i++)
		atomic_store_explicit(&e->owner[i], words[i], memory_order_relaxed);
	atomic_store_explicit(&e->pid, 0, memory_order_relaxed);
	atomic_store_explicit(&e->opened_at, now, memory_order_relaxed);
	roster_state(e, ROSTER_CONNECTING, now);
}

struct roster_entry *roster_enter(void)
{
	for (size_t i = 0; i < ROSTER_CONNECTIONS; i++) {
		/* acquire: what its last owner wrote does not come after us */
		if (atomic_exchange_explicit(&entries[i].taken, true, memory_order_acquire))
			continue;
		fill(&entries[i]);
		return &entries[i];
	}
	return NULL;
}

void roster_leave(struct roster_entry *entry)
{
	/* release: pairs with roster_enter */
	if (entry)
		atomic_store_explicit(&entry->taken, false, memory_order_release);
}

void roster_state(struct roster_entry *entry, enum roster_state state, int64_t now)
{
	if (!entry)
		return;
	atomic_store_explicit(&entry->state, (int)state, memory_order_relaxed);
	atomic_store_explicit(&entry->since, now, memory_order_relaxed);
}

void roster_pid(struct roster_entry *entry, int pid)
{
	if (entry)
		atomic_store_explicit(&entry->pid, pid, memory_order_relaxed);
}

size_t roster_list(struct roster_view *ret, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < ROSTER_CONNECTIONS && n < max; i++) {
		struct roster_entry *e = &entries[i];
		struct roster_view *v = &ret[n];
		uint64_t words[2];
		if (!atomic_load_explicit(&e->taken, memory_order_relaxed))
			continue;
		for (size_t k = 0; k < 2; k++)
			words[k] = atomic_load_explicit(&e->owner[k], memory_order_relaxed);
		memcpy(v->owner, words, sizeof(words));
		v->owner[sizeof(v->owner) - 1] = '\0';
		v->pid = atomic_load_explicit(&e->pid, memory_order_relaxed);
		v->state = (enum roster_state)atomic_load_explicit(&e->state, memory_order_relaxed);
		v->opened_at = atomic_load_explicit(&e->opened_at, memory_order_relaxed);
		v->since = atomic_load_explicit(&e->since, memory_order_relaxed);
		n++;
	}
	return n;
}
