#include "strandctl/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/nearest.h"
#include "strandctl/tags.h"

static const char columns_sql[] =
	"SELECT a.attname, quote_ident(a.attname), a.atttypid IN ('json'::regtype, 'jsonb'::regtype)"
	"  FROM pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped"
	" ORDER BY a.attnum";

static const char names_sql[] =
	"SELECT format('%I.%I', n.nspname, c.relname),"
	"       upper(coalesce(substring(c.relname::text FROM '^(.+)_strands$'), c.relname::text))"
	"  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::oid";

static int load_names(struct target *t, struct err *e)
{
	const char *values[] = { t->relation.oid };
	PGresult *res;
	int ret = ctl_query(t->ctl, names_sql, 1, values, &res, e);

	if (ret)
		return ret;
	if (PQntuples(res)) {
		t->sql = strdup(PQgetvalue(res, 0, 0));
		t->prefix = strdup(PQgetvalue(res, 0, 1));
	}
	PQclear(res);
	return t->sql && t->prefix ? 0 : err_set(e, STRAND_ENOMEM, "out of memory");
}

int target_load(struct target *t, struct ctl *ctl, const char *table, const struct catalog *c,
		bool allow_unrouted, struct err *e)
{
	static const char *const needed[] = { "id", "tags" };
	const char *values[] = { t->relation.oid };
	int ret;

	*t = (struct target){ .ctl = ctl, .catalog = c, .allow_unrouted = allow_unrouted };
	ret = relation_find(&t->relation, ctl, table, e);
	if (!ret)
		ret = load_names(t, e);
	if (!ret)
		ret = ctl_query(ctl, columns_sql, 1, values, &t->columns, e);
	for (size_t i = 0; !ret && i < 2; i++)
		if (target_column(t, needed[i]) < 0)
			ret = err_set(e, STRAND_EINVAL, "%s is no module's table: it has no column \"%s\"",
				      t->relation.name, needed[i]);
	return ret;
}

void target_release(struct target *t)
{
	free(t->sql);
	free(t->prefix);
	PQclear(t->columns);
}

int target_column(const struct target *t, const char *name)
{
	for (int i = 0; i < PQntuples(t->columns); i++)
		if (!strcmp(PQgetvalue(t->columns, i, 0), name))
			return i;
	return -1;
}

bool target_column_is_json(const struct target *t, int column)
{
	return *PQgetvalue(t->columns, column, 2) == 't';
}

int target_check_column(const struct target *t, const char *name, struct err *e)
{
	size_t n = (size_t)PQntuples(t->columns);
	const char **names, *near = NULL;

	if (!strcmp(name, "xact_id") || !strcmp(name, "tagged_at"))
		return err_set(e, STRAND_EINVAL, "column \"%s\" is filled by PostgreSQL: leave it out", name);
	if (target_column(t, name) >= 0)
		return 0;
	names = calloc(n + 1, sizeof(*names));
	for (size_t i = 0; names && i < n; i++)
		names[i] = PQgetvalue(t->columns, (int)i, 0);
	if (names)
		near = nearest(name, names, n);
	err_set(e, STRAND_EINVAL, "table %s has no column \"%.60s\"%s%s%s", t->relation.name, name,
		near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	free(names);
	return STRAND_EINVAL;
}

static const struct attachment *route_of(const struct target *t, const char *tag, bool any_table)
{
	for (size_t i = 0; i < t->catalog->n_routes; i++) {
		const struct attachment *a = &t->catalog->routes[i];

		if (a->attached && !strcmp(a->tag, tag) &&
		    (any_table || !strcmp(a->source->oid, t->relation.oid)))
			return a;
	}
	return NULL;
}

int target_check_tag(const struct target *t, const char *tag, struct err *e)
{
	const struct attachment *other;
	const char *near;

	if (t->allow_unrouted)
		return 0;
	if (tag_fault(tag))
		return err_set(e, STRAND_EINVAL, "tag \"%.80s\" would not be heeded: %s (--allow-unrouted writes it"
			       " all the same)", tag, tag_fault(tag));
	if (!t->catalog || !tag_is_route(tag) || route_of(t, tag, false))
		return 0;
	other = route_of(t, tag, true);
	if (other)
		return err_set(e, STRAND_EINVAL, "tag \"%s\" is attached to %s, not to %s: nobody would get it"
			       " (--allow-unrouted writes it all the same)", tag, other->source->name,
			       t->relation.name);
	near = catalog_near_tag(t->catalog, tag, t->relation.oid);
	if (!near)
		near = catalog_near_tag(t->catalog, tag, NULL);
	return err_set(e, STRAND_EINVAL, "tag \"%.80s\" is not attached to %s: nobody would get it%s%s%s"
		       " (--allow-unrouted writes it all the same)", tag, t->relation.name,
		       near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

char *target_new_id(const struct target *t)
{
	unsigned char random[6];
	char *id;

	if (getrandom(random, sizeof(random), 0) != sizeof(random) ||
	    asprintf(&id, "%s_%02x%02x%02x%02x%02x%02x", t->prefix, random[0], random[1], random[2],
		     random[3], random[4], random[5]) < 0)
		return NULL;
	return id;
}
