#include "strandctl/explain_facts.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "strand/sqlstate.h"
#include "strandctl/advisory.h"
#include "strandctl/tags.h"

#define SESSION(a) \
	"concat_ws(', ', 'process ' || " a ".pid, " a ".usename, nullif(" a ".application_name, ''), " a ".state," \
	" 'transaction open for ' || round(extract(epoch FROM clock_timestamp() - " a ".xact_start), 1) || ' s')"
/* An instance that only probes whether another lives holds its lock too, shared. */
#define HOLDER_OF(key) \
	"LATERAL (SELECT a.pid, a.usename, a.application_name, a.state, a.xact_start FROM pg_locks l" \
	" JOIN pg_stat_activity a ON a.pid = l.pid WHERE " ADVISORY_HELD(key) " AND l.mode = 'ExclusiveLock' LIMIT 1)"

/* %1$s source, %2$s receipts, %3$s routes; $1 id, $2 route, $3 tag, $4 receipts.  The
 * coalesce around tags keeps their index out: the primary key is the way in. */
static const char facts_sql[] =
	"SELECT s.id IS NOT NULL, coalesce(s.tags @> jsonb_build_array($3::text), false),"
	" coalesce(pg_visible_in_snapshot(s.xact_id, o.history), false), coalesce(s.xact_id < o.position, false),"
	" coalesce(s.xact_id >= pg_snapshot_xmax(pg_current_snapshot()), false),"
	" coalesce(isfinite(s.tagged_at) AND extract(epoch FROM clock_timestamp() - s.tagged_at) >= (strandd.timeouts(s.tags))[1], false),"
	" coalesce(r.due_at <= clock_timestamp(), true), coalesce(s.tagged_at > r.finished_at, false),"
	" r.state, r.attempt, r.due_at, round(extract(epoch FROM r.due_at - clock_timestamp()), 1),"
	" coalesce(r.error, CASE WHEN r.state IS NULL THEN o.suspended_error END),"
	" coalesce(r.sqlstate, CASE WHEN r.state IS NULL THEN o.suspended_sqlstate END),"
	" CASE WHEN h.pid IS NOT NULL THEN " SESSION("h") " END, h.pid,"
	" CASE WHEN t.pid IS NOT NULL AND h.pid IS NULL AND coalesce(r.state = 'retry', true) THEN " SESSION("t") " END,"
	" r.instance, CASE WHEN r.state = 'running' THEN coalesce(i.pid, h.pid) IS NOT NULL END,"
	" CASE WHEN i.pid IS NOT NULL THEN " SESSION("i") " END,"
	" s.tagged_at, r.started_at, r.finished_at, to_json(r.reply_ids)"
	" FROM (SELECT) one LEFT JOIN %1$s s ON s.id = $1::text LEFT JOIN %3$s o ON o.route = $2::integer"
	" LEFT JOIN %2$s r ON r.route = $2::integer AND r.strand_id = strandd.receipt_key($1::text) COLLATE \"C\""
	" LEFT JOIN " HOLDER_OF("hashtextextended($1::text, strandd.lock_seed($4::text::regclass, $2::integer))") " h ON true"
	/* the seed itself is the lock of a serial route's turn */
	" LEFT JOIN " HOLDER_OF("strandd.lock_seed($4::text::regclass, $2::integer)") " t ON true"
	" LEFT JOIN " HOLDER_OF(ADVISORY_INSTANCE("r.instance")) " i ON true";

static bool is_true(const struct explain_line *line, enum explain_fact fact)
{
	return *PQgetvalue(line->facts, 0, (int)fact) == 't';
}

static int add(struct explain_lines *x, struct explain_line line, struct err *e)
{
	struct explain_line *grown = realloc(x->lines, (x->n + 1) * sizeof(*grown));

	if (!grown) {
		PQclear(line.facts);
		return err_set(e, STRAND_ENOMEM, "out of memory");
	}
	x->lines = grown;
	x->lines[x->n++] = line;
	return 0;
}

static int add_route(struct explain_lines *x, struct ctl *ctl, const char *id, const struct attachment *a,
		     struct err *e)
{
	const char *values[] = { id, a->number, a->tag, a->receiver->receipts };
	struct explain_line line = { .source = a->source, .tag = a->tag, .route = a };
	struct buf sql = BUF_INIT;
	int ret;

	buf_init(&sql);
	buf_addf(&sql, facts_sql, a->source->sql, a->receiver->receipts, a->receiver->routes);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: ctl_query(ctl, sql.data, 4, values, &line.facts, e);
	buf_release(&sql);
	if (ret)
		return ret;
	if (is_true(&line, FACT_BEARS) || !PQgetisnull(line.facts, 0, FACT_STATE))
		return add(x, line, e);
	PQclear(line.facts);
	return 0;
}

/* The strand's tags, whether it has any or not: *ret_tags stays NULL without a strand. */
static int read_tags(struct json_object **ret_tags, struct ctl *ctl, const char *id, const struct module_table *t,
		     struct err *e)
{
	const char *values[] = { id };
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_addf(&sql, "SELECT CASE jsonb_typeof(s.tags) WHEN 'array' THEN s.tags ELSE '[]' END"
		 " FROM %s s WHERE s.id = $1::text", t->sql);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory") : ctl_query(ctl, sql.data, 1, values, &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	if (PQntuples(res))
		*ret_tags = json_tokener_parse(PQgetvalue(res, 0, 0));
	PQclear(res);
	return 0;
}

static bool has_route(const struct catalog *c, const struct module_table *t, const char *tag)
{
	for (size_t i = 0; i < c->n_routes; i++)
		if (c->routes[i].source == t && !strcmp(c->routes[i].tag, tag))
			return true;
	return false;
}

/* Tags of the strand that nobody receives; and that it has none at all. */
static int add_unrouted(struct explain_lines *x, const struct catalog *c, const struct module_table *t,
			const struct json_object *tags, size_t n_routed, struct err *e)
{
	size_t n = n_routed;
	int ret = 0;

	for (size_t i = 0; !ret && i < json_object_array_length(tags); i++) {
		struct json_object *item = json_object_array_get_idx(tags, i);
		const char *tag = json_object_is_type(item, json_type_string) ? json_object_get_string(item) : "";

		if (!tag_is_route(tag) || has_route(c, t, tag))
			continue;
		ret = add(x, (struct explain_line){ .source = t, .tag = tag }, e);
		n++;
	}
	return ret || n ? ret : add(x, (struct explain_line){ .source = t }, e);
}

static int find_in(struct explain_lines *x, struct ctl *ctl, const struct catalog *c, const char *id,
		   const struct module_table *t, struct err *e)
{
	struct json_object **tags = &x->tags[t - c->tables];
	size_t before = x->n;
	int ret = read_tags(tags, ctl, id, t, e);

	for (size_t i = 0; !ret && i < c->n_routes; i++)
		if (c->routes[i].source == t)
			ret = add_route(x, ctl, id, &c->routes[i], e);
	x->n_tables += *tags || x->n > before;
	return ret || !*tags ? ret : add_unrouted(x, c, t, *tags, x->n - before, e);
}

int explain_find(struct explain_lines *x, struct ctl *ctl, const struct catalog *c, const char *id,
		 const struct module_table *only, struct err *e)
{
	PGresult *res;
	int ret;

	x->tags = calloc(c->n_tables + 1, sizeof(struct json_object *));
	if (!x->tags)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	ret = ctl_query(ctl, SERVICE_SESSIONS_SQL, 0, NULL, &res, e);
	if (ret)
		return ret;
	x->served = strcmp(PQgetvalue(res, 0, 0), "0") != 0;
	PQclear(res);
	for (size_t i = 0; !ret && i < c->n_tables; i++)
		if (!only || only == &c->tables[i])
			ret = find_in(x, ctl, c, id, &c->tables[i], e);
	return ret;
}

void explain_release(struct explain_lines *x, const struct catalog *c)
{
	for (size_t i = 0; i < x->n; i++)
		PQclear(x->lines[i].facts);
	for (size_t i = 0; x->tags && i < c->n_tables; i++)
		json_object_put(x->tags[i]);
	free(x->lines);
	free(x->tags);
}

/* Any attached tag that is new renews tagged_at, and the others stay: where another tag
 * of the strand was not settled before, that one was the new one. */
static bool tagged_again(const struct explain_lines *x, const struct explain_line *line)
{
	if (!is_true(line, FACT_AGAIN))
		return false;
	for (size_t i = 0; i < x->n; i++) {
		const struct explain_line *other = &x->lines[i];

		if (other->facts && other->source == line->source && other->route->attached &&
		    !is_true(other, FACT_AGAIN))
			return false;
	}
	return true;
}

const struct explain_why *explain_line_why(const struct explain_lines *x, const struct explain_line *line)
{
	struct explain_facts f = { .tagged = line->tag, .exists = true, .served = x->served };

	if (!line->facts)
		return explain_why(&f);
	f = (struct explain_facts){
		.tagged = true,
		.routed = true,
		.exists = is_true(line, FACT_EXISTS),
		.attached = line->route->attached,
		.adopted = line->route->same_system,
		.suspended = line->route->suspended_at,
		.history = is_true(line, FACT_HISTORY),
		.below = is_true(line, FACT_BELOW),
		.foreign = is_true(line, FACT_FOREIGN),
		.timed_out = is_true(line, FACT_TIMED_OUT),
		.held = cell(line->facts, 0, FACT_HOLDER_PID),
		.turn = cell(line->facts, 0, FACT_TURN),
		.served = x->served,
		.alive = is_true(line, FACT_INSTANCE_ALIVE),
		.due = is_true(line, FACT_DUE),
		.again = tagged_again(x, line),
		.unknown = !strcmp(PQgetvalue(line->facts, 0, FACT_SQLSTATE), SQLSTATE_UNKNOWN),
		.state = cell(line->facts, 0, FACT_STATE),
	};
	return explain_why(&f);
}
