#include "strandctl/history.h"

#include <stdio.h>
#include <stdlib.h>

#include "strandctl/catalog.h"
#include "strandctl/progress.h"

#define BATCH "1000"

static const char batch_sql[] =
	"SELECT seen, skipped, finished FROM strandd.skip_history($1::regclass, $2::integer, " BATCH ")";

static const char estimate_sql[] =
	"SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = $1::oid";

struct history_count {
	long long seen, skipped, last;
};

long long history_estimate(struct ctl *ctl, const char *table_oid)
{
	const char *values[] = { table_oid };
	long long estimate = 0;
	PGresult *res;

	if (ctl_query(ctl, estimate_sql, 1, values, &res, NULL))
		return 0;
	if (PQntuples(res))
		estimate = atoll(PQgetvalue(res, 0, 0));
	PQclear(res);
	return estimate;
}

/* One batch; *ret_seen 0 without *ret_finished: a producer is just updating a
 * row that is next. */
static int batch(struct locked *l, const struct attachment *a, const char *label,
		 struct history_count *count, bool *ret_finished, struct err *e)
{
	const char *values[] = { a->receiver->oid, a->number };
	PGresult *res;
	int ret = locked_query(l, label, batch_sql, 2, values, &res, e);

	if (ret)
		return ret;
	count->last = atoll(PQgetvalue(res, 0, 0));
	count->seen += count->last;
	count->skipped += atoll(PQgetvalue(res, 0, 1));
	*ret_finished = *PQgetvalue(res, 0, 2) == 't';
	PQclear(res);
	return 0;
}

static int finish_route(struct locked *l, const struct attachment *a, struct err *e)
{
	struct history_count count = { 0 };
	struct locked_wait wait;
	struct progress bar;
	bool finished = false;
	char label[160];
	int ret = 0;

	snprintf(label, sizeof(label), "history of %s on %s", a->tag, a->source->name);
	progress_start(&bar, label, history_estimate(l->ctl, a->source->oid));
	locked_wait_start(&wait, l);
	while (!ret && !finished) {
		ret = batch(l, a, label, &count, &finished, e);
		progress_show(&bar, count.seen, count.seen);
		if (!ret && count.last)
			locked_wait_start(&wait, l);
		else if (!ret && !finished)
			ret = locked_wait(&wait, l, label, e);
	}
	progress_wipe(&bar);
	if (!ret)
		ctl_say(l->ctl, "%s: %lld rows read, %lld of them skipped", label, count.seen,
			count.skipped);
	return ret;
}

int history_finish(struct locked *l, struct err *e)
{
	struct catalog c;
	int ret = catalog_load(&c, l->ctl, e);

	for (size_t i = 0; !ret && i < c.n_routes; i++)
		if (c.routes[i].attached && c.routes[i].history)
			ret = finish_route(l, &c.routes[i], e);
	catalog_release(&c);
	return ret;
}
