/* What becomes of a batch's deliveries when it is over. */
#include "work/run.h"

#include <stdio.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "mark/marker.h"
#include "scan/scanner.h"

#define AGAIN_FIRST_MS 20
#define CONTENDED_CAP_MS 500	/* another instance has it, which takes no longer than a batch */
#define TRIES_CAP 30

void worker_put_off(struct worker *w, struct delivery *d, int64_t cap_ms)
{
	if (d->tries < TRIES_CAP)
		d->tries++;
	if (again_add(w->again, d, clock_after_ms(backoff_ms(d->tries, AGAIN_FIRST_MS, cap_ms))))
		queue_return(w->queue, d);
}

static void end_one(struct worker *w, struct delivery *d, enum item_state state, bool ran)
{
	struct queue *q = w->queue;

	switch (state) {
	case ITEM_TAKEN:
		worker_put_off(w, d, ran || d->leased ? CONTENDED_CAP_MS : AGAIN_CAP_MS);
		break;
	case ITEM_OURS:
	case ITEM_PUT_OFF:
		/* A lease is not to look left behind. */
		worker_put_off(w, d, d->leased ? CONTENDED_CAP_MS : AGAIN_CAP_MS);
		break;
	case ITEM_LEFT:
		queue_return(q, d);
		break;
	case ITEM_GONE:
		d->leased = 0;
		d->lost[0] = '\0';
		queue_forget(q, d);
		break;
	default:
		queue_finish(q, d);
	}
}

static void count_all(const struct batch *b, const uint64_t n[ITEM_STATES], bool ran)
{
	const struct context *x = b->context;
	unsigned route = b->route->index;

	count(x, METRIC_SETTLED, route, n[ITEM_SETTLED]);
	count(x, METRIC_FAILED, route, n[ITEM_FAILED]);
	count(x, METRIC_EXPIRED, route, n[ITEM_EXPIRED]);
	count(x, METRIC_RETRIED, route, n[ITEM_RETRY]);
	count(x, METRIC_CONTENDED, route, ran ? n[ITEM_TAKEN] : 0);
	count(x, METRIC_PUT_OFF, route, n[ITEM_OURS] + n[ITEM_PUT_OFF] + (ran ? 0 : n[ITEM_TAKEN]));
	count(x, METRIC_BATCHES, route, b->committed);
	count(x, METRIC_ROLLBACKS, route, !ran && !b->committed);
	count(x, METRIC_REPLIES, route, b->committed ? b->replies : 0);
	count(x, METRIC_UNROUTED_TAGS, route, b->committed ? b->unrouted : 0);
	count(x, METRIC_ODD_TIMEOUTS, route, b->committed ? b->odd_timeouts : 0);
}

/* Once a route, in the life of the process. */
static void tell_odd_timeout(const struct batch *b)
{
	const struct conf_route *conf = b->route->conf;

	if (!b->odd_timeouts || !metric_first(b->context->metrics, METRIC_ODD_TIMEOUTS, b->route->metric))
		return;
	log_event(LOG_LEVEL_WARNING, &(const struct log_fields){ .route = conf->tag, .source = conf->source,
		  .strand = b->items[b->odd_item]->id, .fold = LOG_FOLD_NEVER },
		  "a strand bears a timeout: tag that is no number of seconds; such tags are ignored"
		  " (strandd_odd_timeouts_total counts them)");
}

static void tell_expired(const struct batch *b, const struct delivery *d)
{
	const struct conf_route *conf = b->route->conf;

	log_event(LOG_LEVEL_WARNING, &(const struct log_fields){ .route = conf->tag, .source = conf->source,
		  .strand = d->id }, "strand expired: it was not handled within its timeout");
}

/* Others have to do something now. */
static void tell_others(const struct batch *b, const uint64_t n[ITEM_STATES])
{
	const struct context *x = b->context;

	if (b->due_ms != INT64_MAX)
		scanner_due(x->scanner, b->route->index, b->due_ms);
	if (n[ITEM_FAILED] || n[ITEM_EXPIRED])
		marker_wake(x->marker, b->route->index);
}

void batch_end(struct worker *w, struct batch *b, bool ran)
{
	uint64_t n[ITEM_STATES] = { 0 };

	if (ran)
		tell_odd_timeout(b);
	for (size_t i = 0; i < b->n; i++) {
		n[b->states[i]]++;
		if (ran && b->states[i] == ITEM_EXPIRED)
			tell_expired(b, b->items[i]);
		end_one(w, b->items[i], b->states[i], ran);
	}
	count_all(b, n, ran);
	/* Also when it was not learnt what became of those that were left out. */
	if (b->committed)
		tell_others(b, n);
}

void worker_tell_trouble(struct worker *w, const struct batch *b, const char *who, enum fault fault,
			 const struct err *e)
{
	const struct log_fields fields = { .route = b->route->conf->tag, .source = b->route->conf->source };
	char what[80];

	snprintf(what, sizeof(what), "%s put off (%s)", who, outcome_name(fault));
	outage_failed_on(&w->trouble[b->route->index], &fields, e, what);
}
