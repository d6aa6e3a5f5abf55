#include "scan/urgent.h"

#include "base/clock.h"
#include "scan/page.h"
#include "scan/pass.h"

#define PAGES_A_LOOK 8		/* then the pass goes on, and the other routes */
#define APART_MS 20		/* marks may come without end; a look costs half a millisecond */

void urgent_begin(struct scan_route *sr, const struct snapshot *now)
{
	sr->urgent = (struct scan_urgent){ .from = now->xmin, .hash = INT64_MIN };
}

void urgent_mark(struct scan_route *sr)
{
	int64_t soon = clock_after_ms(APART_MS);

	if (soon < sr->urgent.look_at)
		sr->urgent.look_at = soon;
}

/* Pages from where the last look stopped; the place is put back by the caller. */
static int read_pages(struct scanner *s, unsigned route, struct err *e)
{
	struct scan_pass *p = &s->routes[route].pass;
	int ret = 0;

	for (unsigned n = 0; !ret && n < PAGES_A_LOOK && p->from < p->to; n++)
		ret = queue_has_room(s->context->queues[route], route, QUEUE_HIGH) ? page_take(s, route, e) : STRAND_EFULL;
	return ret;
}

int urgent_look(struct scanner *s, unsigned route, struct err *e)
{
	struct scan_route *sr = &s->routes[route];
	struct scan_urgent *u = &sr->urgent;
	struct scan_pass aside = sr->pass;
	struct snapshot now;
	int ret;

	/* The first pages of a full pass are the urgent ones. */
	if (!u->from || sr->pass.high || clock_now() < u->look_at)
		return 0;
	ret = pass_take_snapshot(s, &now, e);
	if (ret)
		return ret;
	/* What could still commit when this began is read again next time. */
	if (!u->midway)
		u->next_from = now.xmin;
	sr->pass = (struct scan_pass){ .now = now, .high = true, .from = u->from, .hash = u->hash, .to = now.xmax };
	ret = read_pages(s, route, e);
	u->midway = sr->pass.from < sr->pass.to;
	u->look_at = clock_after_ms(u->midway ? APART_MS : s->context->conf->scan_interval_ms);
	u->from = u->midway ? sr->pass.from : u->next_from;
	u->hash = u->midway ? sr->pass.hash : INT64_MIN;
	sr->pass = aside;
	snapshot_release(&now);
	return ret == STRAND_EFULL ? 0 : ret;
}
