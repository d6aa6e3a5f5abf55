#include "queue/lane.h"

#include <assert.h>
#include <stdlib.h>

#include "base/tsan.h"
#include "queue/container.h"
#include "queue/retire.h"

/* A node that the lane allocated. */
struct own_node {
	struct rcu_head rcu;	/* first, for retire() */
	struct lane_node node;
};

void lane_init(struct lane *l)
{
	HANDOVER_OPAQUE_BEGIN();
	cds_lfq_init_rcu(&l->fifo, call_rcu);
	HANDOVER_OPAQUE_END();
	atomic_init(&l->queued, 0);
}

void lane_release(struct lane *l)
{
	int r = cds_lfq_destroy_rcu(&l->fifo);

	assert(r == 0);
	(void)r;
}

static void push(struct lane *l, struct lane_node *node, struct delivery *d, bool allocated)
{
	cds_lfq_node_init_rcu(&node->link);
	node->delivery = d;
	node->allocated = allocated;

	HANDOVER_GIVE(node);
	rcu_read_lock();
	cds_lfq_enqueue_rcu(&l->fifo, &node->link);
	rcu_read_unlock();
	/* From here on the delivery may be gone.
	 * Sequentially consistent: the caller looks for sleepers next, and a
	 * worker that goes to sleep looks at this number last. */
	atomic_fetch_add_explicit(&l->queued, 1, memory_order_seq_cst);
}

void lane_push(struct lane *l, struct lane_node *node, struct delivery *d)
{
	push(l, node, d, false);
}

int lane_push_again(struct lane *l, struct delivery *d)
{
	struct own_node *own = malloc(sizeof(*own));

	if (!own)
		return STRAND_ENOMEM;
	push(l, &own->node, d, true);
	return 0;
}

/* Removes one node; the FIFO makes and retires its dummies inside. */
static struct lane_node *remove_first(struct lane *l)
{
	struct cds_lfq_node_rcu *link;
	struct lane_node *node;

	rcu_read_lock();
	HANDOVER_OPAQUE_BEGIN();
	link = cds_lfq_dequeue_rcu(&l->fifo);
	HANDOVER_OPAQUE_END();
	rcu_read_unlock();
	if (!link)
		return NULL;
	/* Only the one who removed it frees it, so it lives without the lock. */
	node = container_of(link, struct lane_node, link);
	HANDOVER_TAKE(node);
	return node;
}

static struct delivery *open_node(struct lane_node *node)
{
	struct delivery *d = node->delivery;

	if (node->allocated)
		retire(&container_of(node, struct own_node, node)->rcu);
	return d;
}

/* Lowers `queued` by up to `max`; returns by how much. */
static size_t claim(struct lane *l, size_t max)
{
	/* Relaxed: the exchange below decides. */
	size_t have = atomic_load_explicit(&l->queued, memory_order_relaxed);
	size_t n;

	do {
		n = have < max ? have : max;
		if (n == 0)
			return 0;
		/* Acquire: the nodes that were counted are seen in the FIFO. */
	} while (!atomic_compare_exchange_weak_explicit(&l->queued, &have, have - n,
			memory_order_acquire, memory_order_relaxed));
	return n;
}

size_t lane_take(struct lane *l, struct delivery **out, size_t max)
{
	size_t n = claim(l, max);

	for (size_t i = 0; i < n; i++) {
		struct lane_node *node = remove_first(l);

		assert(node);	/* claimed, see lane.h */
		out[i] = open_node(node);
	}
	return n;
}

void lane_drain(struct lane *l)
{
	struct lane_node *node;

	while ((node = remove_first(l)))
		open_node(node);
	/* Relaxed: nobody else is inside. */
	atomic_store_explicit(&l->queued, 0, memory_order_relaxed);
}

size_t lane_queued(const struct lane *l)
{
	/* Sequentially consistent: after a worker has said that it sleeps. */
	return atomic_load_explicit(&l->queued, memory_order_seq_cst);
}
