#include "strandctl/strands.h"

#include <string.h>

#include "pg/array.h"

void strands_select(struct buf *sql, const struct module_table *t)
{
	buf_adds(sql, "SELECT s.id, ");
	buf_adds(sql, t->has_kind ? "s.kind::text, " : "NULL, ");
	buf_adds(sql, "CASE jsonb_typeof(s.tags) WHEN 'array' THEN (SELECT string_agg(e #>> '{}', ', ')"
		 " FROM jsonb_array_elements(s.tags) e) ELSE s.tags::text END, s.tags, ");
	buf_adds(sql, t->has_created_at ? "s.created_at, " : "NULL, ");
	buf_adds(sql, t->is_source ? "s.tagged_at, CASE WHEN isfinite(s.tagged_at) THEN (extract(epoch FROM s.tagged_at) * 1000000)::bigint END"
		 : "NULL, NULL");
}

int strands_compare_times(const char *a, const char *b)
{
	size_t n = strcspn(a, "+"), m = strcspn(b, "+");
	int order = strncmp(a, b, n < m ? n : m);

	return order ? order : n < m ? -1 : n > m;
}

int strands_pin_plans(struct ctl *ctl, struct err *e)
{
	return ctl_exec(ctl, "SET enable_seqscan = off; SET enable_hashjoin = off;"
			" SET enable_mergejoin = off; SET max_parallel_workers_per_gather = 0", e);
}

int strands_start(struct ctl *ctl, struct catalog *c, struct err *e)
{
	int ret = ctl_connect_installed(ctl, e);

	if (!ret)
		ret = strands_pin_plans(ctl, e);
	return ret ? ret : catalog_load(c, ctl, e);
}

void strands_ids_array(struct buf *out, const char *const *ids, size_t n)
{
	array_begin(out);
	for (size_t i = 0; i < n; i++)
		array_item(out, ids[i], strlen(ids[i]));
	array_end(out);
}
