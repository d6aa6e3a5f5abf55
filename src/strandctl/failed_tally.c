#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "strandctl/failed_change.h"
#include "strandctl/table.h"
#include "strand/sqlstate.h"

static bool is_retry(const struct change *c)
{
	return c->verb == &failed_retry;
}

/* With a limit, the newest of all routes together: of each route its newest. */
static void count_text(struct buf *sql, const struct failed *f)
{
	char limit[60] = "";

	if (f->args->limit != FAILED_ALL)
		snprintf(limit, sizeof(limit), " LIMIT %" PRId64, f->args->limit);
	buf_adds(sql, "SELECT x.i, count(*), count(*) FILTER (WHERE x.state = 'expired'),"
		 " count(*) FILTER (WHERE x.sqlstate = '" SQLSTATE_UNKNOWN "') FROM (SELECT * FROM (");
	for (size_t i = 0; i < f->n_routes; i++) {
		buf_addf(sql, "%s(SELECT %zu AS i, r.state, r.finished_at, r.strand_id, r.sqlstate", i ? " UNION ALL " : "", i);
		failed_from(sql, f, f->routes[i]);
		buf_addf(sql, "%s%s)", *limit ? FAILED_ORDER : "", limit);
	}
	buf_addf(sql, ") x%s%s) x GROUP BY x.i", *limit ? " ORDER BY 3 DESC, 4" : "", limit);
}

int failed_count(struct change *c, struct err *e)
{
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	if (!c->f->n_routes)
		return 0;
	buf_init(&sql);
	count_text(&sql, c->f);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory") : failed_query(c->f, sql.data, NULL, &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	for (int row = 0; row < PQntuples(res); row++) {
		size_t i = strtoul(PQgetvalue(res, row, 0), NULL, 10);
		const struct attachment *a = c->f->routes[i];

		if (is_retry(c) && !a->attached) {
			ctl_warn("%s from %s to %s is detached: %s failed strands stay as they are", a->tag,
				 a->source->name, a->receiver->name, PQgetvalue(res, row, 1));
			continue;
		}
		c->tallies[i].selected = atoll(PQgetvalue(res, row, 1));
		c->tallies[i].expired = atoll(PQgetvalue(res, row, 2));
		c->sum.selected += c->tallies[i].selected;
		c->sum.expired += c->tallies[i].expired;
		c->sum.unknown += atoll(PQgetvalue(res, row, 3));
	}
	PQclear(res);
	return 0;
}

enum { AT_TAG, AT_SOURCE, AT_RECEIVER, AT_SELECTED, AT_CHANGED, AT_HELD, AT_GONE, N_COLUMNS };

static const struct column columns[N_COLUMNS] = {
	[AT_TAG] = { "TAG", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_SOURCE] = { "SOURCE", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_RECEIVER] = { "RECEIVER", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_SELECTED] = { "SELECTED", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_CHANGED] = { "CHANGED", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_HELD] = { "HELD", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_GONE] = { "GONE", COLUMN_NUMBER, FOR_PROGRAMS },
};

static void tell_json(const struct change *c)
{
	struct table *table = table_new(c->f->args->dry_run ? c->verb->would : c->verb->done, true, columns, N_COLUMNS);

	for (size_t i = 0; i < c->f->n_routes; i++) {
		const struct attachment *a = c->f->routes[i];
		const struct tally *t = &c->tallies[i];
		const int64_t numbers[] = { t->selected, t->changed, t->held, t->gone };
		const char *values[N_COLUMNS] = { a->tag, a->source->name, a->receiver->name };
		char text[4][24];

		if (!t->selected)
			continue;
		for (int n = 0; n < 4; n++) {
			snprintf(text[n], sizeof(text[n]), "%" PRId64, numbers[n]);
			values[AT_SELECTED + n] = text[n];
		}
		table_fill(table, values);
	}
	table_print(table);
	table_free(table);
}

static void tell_route(const struct change *c, const struct attachment *a, const struct tally *t)
{
	bool dry = c->f->args->dry_run;

	if (!t->selected)
		return;
	ctl_say(c->f->ctl, "%s from %s to %s: %" PRId64 "%s %s", a->tag, a->source->name, a->receiver->name,
		dry ? t->selected : t->changed, dry ? " would be" : "", c->verb->done);
	if (t->held)
		ctl_warn("%" PRId64 " of them are held by other sessions: run it again", t->held);
	if (t->gone)
		ctl_warn("%" PRId64 " of their strands are gone: discard them", t->gone);
	if (is_retry(c) && (dry ? t->expired : t->again_expired))
		ctl_warn("%" PRId64 " of them had expired: a timeout counts from when a strand was tagged, so they expire"
			 " again unless the route's timeout is longer by now; to send one anew, write a new strand",
			 dry ? t->expired : t->again_expired);
	if (is_retry(c) && a->suspended_at)
		ctl_warn("the route is suspended: they wait until strandctl resume %s", a->tag);
}

void failed_tell(const struct change *c)
{
	for (size_t i = 0; i < c->f->n_routes; i++)
		tell_route(c, c->f->routes[i], &c->tallies[i]);
	if (!c->sum.selected && !c->f->args->ids.n)
		ctl_say(c->f->ctl, FAILED_NOTHING);
	if (c->f->ctl->json)
		tell_json(c);
}

bool failed_changed_some(const struct change *c)
{
	for (size_t i = 0; i < c->f->n_routes; i++)
		if (c->tallies[i].changed)
			return true;
	return false;
}

bool failed_left_some(const struct change *c)
{
	for (size_t i = 0; i < c->f->n_routes; i++)
		if (c->tallies[i].held || c->tallies[i].gone)
			return true;
	return false;
}
