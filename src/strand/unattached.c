#include "strand/unattached.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/nearest.h"

#define ASK_TIMEOUT_MS 5000
#define NAMED_BYTES 160		/* of the tags that are told when none is near */

static const char tags_sql[] =
	"SELECT r.tag FROM %s r WHERE r.source = pg_catalog.to_regclass($1) AND r.detached_at IS NULL"
	" ORDER BY r.tag LIMIT 1000";

/* The tags attached from the route's source to its receiver; NULL: not to be had, which
 * must not hide the fault itself. */
static PGresult *attached_tags(const struct route *r, struct conn *c)
{
	const char *values[] = { r->source };
	struct buf sql = BUF_INIT;
	PGresult *res = NULL;

	if (!r->routes)
		return NULL;
	buf_init(&sql);
	buf_addf(&sql, tags_sql, r->routes);
	if (sql.failed || conn_query(c, sql.data, 1, values, clock_after_ms(ASK_TIMEOUT_MS), &res, NULL))
		res = NULL;
	buf_release(&sql);
	return res;
}

static const char *near_tag(const PGresult *res, const char *tag)
{
	size_t n = (size_t)PQntuples(res);
	const char **tags = calloc(n + 1, sizeof(*tags));
	const char *near;

	if (!tags)
		return NULL;
	for (size_t i = 0; i < n; i++)
		tags[i] = PQgetvalue(res, (int)i, 0);
	near = nearest(tag, tags, n);
	free(tags);
	return near;
}

/* "; attached there: a, b", as many as have room, or nothing. */
static void name_all(const PGresult *res, char *out, size_t size)
{
	size_t used = 0;

	*out = '\0';
	for (int i = 0; i < PQntuples(res); i++) {
		const char *tag = PQgetvalue(res, i, 0);
		bool fits = used + strlen(tag) + sizeof("; attached there: , ...") < size;

		used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "; attached there: ",
					 fits ? tag : "...");
		if (!fits)
			break;
	}
}

int unattached(const struct route *r, struct conn *c, struct err *e)
{
	PGresult *res = attached_tags(r, c);
	const char *near = res ? near_tag(res, r->conf->tag) : NULL;
	char text[NAMED_BYTES];
	int ret;

	if (near)
		snprintf(text, sizeof(text), "; did you mean \"%s\"? If not,", near);
	else
		name_all(res, text, sizeof(text));
	ret = err_set(e, STRAND_EINVAL, "the tag is not attached to %s for %s%s%s run: strandctl"
		      " attach --tag %s --source %s --receiver %s", r->source, r->receiver, text, near ? "" : ";",
		      r->conf->tag, r->conf->source, r->module->table);
	PQclear(res);
	return ret;
}
