#include "strandctl/receipts.h"

#include "base/buf.h"

#define FINAL "coalesce(r.state IN ('done', 'failed', 'expired', 'withdrawn', 'skipped'), false)"
#define MS(from, to, digits) \
	"round(extract(epoch FROM CASE WHEN " FINAL " AND isfinite(" from ") THEN " to " - " from " END) * 1000, " digits ")"
#define HOP(digits) MS("s.tagged_at", "r.finished_at", digits)
#define WAIT(digits) MS("s.tagged_at", "r.started_at", digits)
#define RUN(digits) MS("r.started_at", "r.finished_at", digits)

static const char columns_sql[] =
	"SELECT s.id, coalesce(r.state, 'waiting'), " FINAL ","
	" concat(coalesce(r.state, 'waiting'), CASE WHEN r.state = 'retry' THEN ' due ' || r.due_at::timestamptz(0) END,"
	"  CASE WHEN r.state = 'retry' AND r.attempt > 0 THEN ' after attempt ' || r.attempt END,"
	"  CASE WHEN $6::boolean AND NOT " FINAL " THEN ', route suspended' END),"
	" r.attempt, " HOP("1") ", " WAIT("1") ", " RUN("1") ","
	" translate(concat_ws(' ', nullif('[' || r.sqlstate || ']', '[]'), r.error), E'\\n\\r\\t', '   '),"
	" array_to_string(r.reply_ids, E'\\n'),"
	" jsonb_build_object('tag', $3::text, 'receiver', $4::text, 'state', coalesce(r.state, 'waiting'),"
	"  'route_suspended', $6::boolean, 'hop_ms', " HOP("3") ","
	"  'wait_ms', " WAIT("3") ", 'run_ms', " RUN("3") ")"
	"  || coalesce(to_jsonb(r) - 'state' - 'strand_id' - 'long_id' - 'marked' - 'instance', '{}')";

static const char replies_sql[] =
	", (SELECT string_agg(concat_ws(' ', x.id, to_jsonb(x) ->> 'kind', x.tags), E'\\n')"
	"     FROM unnest(r.reply_ids) i (id) JOIN %1$s x ON x.id = i.id),"
	"  (SELECT coalesce(jsonb_agg(to_jsonb(x)), '[]')"
	"     FROM unnest(r.reply_ids) i (id) JOIN %1$s x ON x.id = i.id)";

/* The coalesce keeps the index on tags out: the primary key is the way in. */
static const char from_sql[] =
	" FROM unnest($1::text[]) k (id) JOIN %s s ON s.id = k.id"
	" LEFT JOIN %s r ON r.route = $2::integer AND r.strand_id = strandd.receipt_key(s.id)"
	" WHERE r.route IS NOT NULL"
	"    OR ($5::boolean AND coalesce(s.tags @> jsonb_build_array($3::text), false))";

int receipts_query(struct ctl *ctl, const struct attachment *a, const char *ids, bool replies,
		   PGresult **ret_result, struct err *e)
{
	const char *values[] = { ids, a->number, a->tag, a->receiver->name, a->attached ? "t" : "f",
				 a->suspended_at ? "t" : "f" };
	struct buf sql = BUF_INIT;
	int ret;

	buf_init(&sql);
	buf_adds(&sql, columns_sql);
	if (replies)
		buf_addf(&sql, replies_sql, a->receiver->sql);
	buf_addf(&sql, from_sql, a->source->sql, a->receiver->receipts);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: ctl_query(ctl, sql.data, 6, values, ret_result, e);
	buf_release(&sql);
	return ret;
}
