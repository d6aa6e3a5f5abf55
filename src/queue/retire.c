#include "queue/retire.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/tsan.h"

static _Atomic size_t pending;

static void free_retired(struct rcu_head *head)
{
	size_t size;

	HANDOVER_TAKE(head);
	size = malloc_usable_size(head);
	free(head);
	/* Relaxed: a statistic that only decides when to wait. */
	atomic_fetch_sub_explicit(&pending, size, memory_order_relaxed);
}

void retire_start(void)
{
	HANDOVER_OPAQUE_BEGIN();
	(void)get_default_call_rcu_data();
	HANDOVER_OPAQUE_END();
}

void retire(struct rcu_head *head)
{
	size_t size = malloc_usable_size(head);
	/* Relaxed: as above. */
	size_t before = atomic_fetch_add_explicit(&pending, size, memory_order_relaxed);

	HANDOVER_GIVE(head);
	call_rcu(head, free_retired);
	if (before + size > RETIRE_MAX_BYTES)
		retire_wait();
}

void retire_wait(void)
{
	HANDOVER_OPAQUE_BEGIN();
	rcu_barrier();
	HANDOVER_OPAQUE_END();
}

size_t retire_pending(void)
{
	/* Relaxed: as above. */
	return atomic_load_explicit(&pending, memory_order_relaxed);
}
