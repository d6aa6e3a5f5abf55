#include "strandctl/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"

static const char tables_sql[] =
	"SELECT u.t::oid, u.t::text, strandd.qualified(u.t), strandd.prefix(u.t),"
	"       (SELECT strandd.qualified(r.receipts) FROM strandd.receivers r WHERE r.receiver = u.t),"
	"       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = u.t AND a.attname = 'created_at'"
	"               AND NOT a.attisdropped),"
	"       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = u.t AND a.attname = 'kind'"
	"               AND NOT a.attisdropped),"
	"       u.t IN (SELECT source FROM strandd.sources),"
	"       (SELECT strandd.qualified(r.routes) FROM strandd.receivers r WHERE r.receiver = u.t)"
	"  FROM (SELECT source FROM strandd.sources UNION SELECT receiver FROM strandd.receivers) u (t)"
	"  JOIN pg_class c ON c.oid = u.t ORDER BY u.t::oid";

static const char routes_sql[] =
	"SELECT r.receiver::oid, r.source::oid, r.route, r.tag, r.attached_at::timestamptz(0),"
	"       r.detached_at IS NULL, r.history IS NOT NULL, r.position,"
	"       r.database_identifier = strandd.database_identifier(),"
	"       r.suspended_at::timestamptz(0), regexp_replace(r.suspended_error, '[[:cntrl:]]', ' ', 'g')"
	"  FROM strandd.routes() r ORDER BY r.receiver::oid, r.route";

static const char near_sql[] =
	"SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
	" WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('information_schema', 'strandd')"
	"   AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1 LIMIT 5000";

static bool is_true(const PGresult *res, int row, int column)
{
	return *PQgetvalue(res, row, column) == 't';
}

static void read_table(struct module_table *t, const PGresult *res, int row)
{
	*t = (struct module_table){
		.oid = PQgetvalue(res, row, 0),
		.name = PQgetvalue(res, row, 1),
		.sql = PQgetvalue(res, row, 2),
		.prefix = PQgetvalue(res, row, 3),
		.receipts = cell(res, row, 4),
		.has_created_at = is_true(res, row, 5),
		.has_kind = is_true(res, row, 6),
		.is_source = is_true(res, row, 7),
		.routes = cell(res, row, 8),
	};
}

static const struct module_table *by_oid(const struct catalog *c, const char *oid)
{
	for (size_t i = 0; i < c->n_tables; i++)
		if (!strcmp(c->tables[i].oid, oid))
			return &c->tables[i];
	return NULL;
}

static void read_route(struct attachment *a, const struct catalog *c, const PGresult *res, int row)
{
	*a = (struct attachment){
		.receiver = by_oid(c, PQgetvalue(res, row, 0)),
		.source = by_oid(c, PQgetvalue(res, row, 1)),
		.number = PQgetvalue(res, row, 2),
		.tag = PQgetvalue(res, row, 3),
		.attached_at = PQgetvalue(res, row, 4),
		.attached = is_true(res, row, 5),
		.history = is_true(res, row, 6),
		.position = PQgetvalue(res, row, 7),
		.same_system = is_true(res, row, 8),
		.suspended_at = cell(res, row, 9),
		.suspended_error = cell(res, row, 10),
	};
}

static int fill(struct catalog *c, struct err *e)
{
	size_t n_tables = (size_t)PQntuples(c->tables_result);
	size_t n_routes = (size_t)PQntuples(c->routes_result);

	c->tables = calloc(n_tables + 1, sizeof(*c->tables));
	c->routes = calloc(n_routes + 1, sizeof(*c->routes));
	if (!c->tables || !c->routes)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	for (; c->n_tables < n_tables; c->n_tables++)
		read_table(&c->tables[c->n_tables], c->tables_result, (int)c->n_tables);
	for (size_t i = 0; i < n_routes; i++) {
		struct attachment *a = &c->routes[c->n_routes];

		read_route(a, c, c->routes_result, (int)i);
		/* A route whose source table was dropped leads from nowhere. */
		c->n_routes += a->source && a->receiver;
	}
	return 0;
}

int catalog_load(struct catalog *c, struct ctl *ctl, struct err *e)
{
	int ret;

	*c = (struct catalog){ 0 };
	ret = ctl_query(ctl, tables_sql, 0, NULL, &c->tables_result, e);
	if (!ret)
		ret = ctl_query(ctl, routes_sql, 0, NULL, &c->routes_result, e);
	return ret ? ret : fill(c, e);
}

void catalog_release(struct catalog *c)
{
	free(c->tables);
	free(c->routes);
	PQclear(c->tables_result);
	PQclear(c->routes_result);
}

const char *catalog_near_tag(const struct catalog *c, const char *tag, const char *source_oid)
{
	const char **tags = calloc(c->n_routes + 1, sizeof(*tags)), *near;
	size_t n = 0;

	for (size_t i = 0; tags && i < c->n_routes; i++)
		if (c->routes[i].attached && (!source_oid || !strcmp(c->routes[i].source->oid, source_oid)))
			tags[n++] = c->routes[i].tag;
	near = nearest(tag, tags, n);
	free(tags);
	return near;
}

int catalog_check_tag(const struct catalog *c, const char *tag, const struct module_table *source,
		      struct err *e)
{
	const char *near;

	for (size_t i = 0; i < c->n_routes; i++)
		if (!strcmp(c->routes[i].tag, tag) && (!source || c->routes[i].source == source))
			return 0;
	near = catalog_near_tag(c, tag, source ? source->oid : NULL);
	if (!near)
		near = catalog_near_tag(c, tag, NULL);
	return err_set(e, STRAND_ENOENT, "no route %.100s%s%s%s%s", tag, source ? " leads from " : "",
		       source ? source->name : "", near ? "; did you mean " : "; see strandctl status",
		       near ? near : "");
}

void catalog_names(const struct catalog *c, char *out, size_t size)
{
	size_t used = 0;

	*out = '\0';
	for (size_t i = 0; i < c->n_tables && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", c->tables[i].name);
}

/* A schema-qualified name is compared with what follows the schema too. */
static const char *nearest_table(const PGresult *res, const char *name)
{
	size_t n = (size_t)PQntuples(res);
	const char **names = calloc(n + 1, sizeof(*names));
	const char *near = NULL;

	for (size_t i = 0; names && i < n; i++)
		names[i] = PQgetvalue(res, (int)i, 0);
	if (names)
		near = nearest(name, names, n);
	free(names);
	return near;
}

static int not_found(struct ctl *ctl, const char *name, struct err *e)
{
	const char *db = PQdb(conn_pg(ctl->conn)), *near;
	PGresult *res;
	int ret = ctl_query(ctl, near_sql, 0, NULL, &res, e);

	if (ret)
		return ret;
	near = nearest_table(res, name);
	if (near)
		err_set(e, STRAND_EINVAL, "there is no table \"%s\" in database \"%s\"; did you mean %s?",
			name, db, near);
	else
		err_set(e, STRAND_EINVAL, "there is no table \"%s\" in database \"%s\" (search_path %s)",
			name, db, ctl->target.search_path);
	PQclear(res);
	return STRAND_EINVAL;
}

int relation_find(struct relation *ret_relation, struct ctl *ctl, const char *name, struct err *e)
{
	const char *values[] = { name };
	PGresult *res;
	int ret = ctl_query(ctl, "SELECT to_regclass($1)::oid, to_regclass($1)::text", 1, values, &res, e);

	if (ret == STRAND_ESQL)
		return err_set(e, STRAND_EINVAL, "\"%s\" is not a table's name: %s", name, e->text);
	if (ret)
		return ret;
	if (PQgetisnull(res, 0, 0)) {
		PQclear(res);
		return not_found(ctl, name, e);
	}
	snprintf(ret_relation->oid, sizeof(ret_relation->oid), "%s", PQgetvalue(res, 0, 0));
	snprintf(ret_relation->name, sizeof(ret_relation->name), "%s", PQgetvalue(res, 0, 1));
	PQclear(res);
	return 0;
}

int catalog_find(const struct module_table **ret_table, const struct catalog *c, struct ctl *ctl,
		 const char *name, struct err *e)
{
	struct relation relation;
	const struct module_table *t;
	int ret = relation_find(&relation, ctl, name, e);

	if (ret)
		return ret;
	t = by_oid(c, relation.oid);
	if (!t)
		return err_set(e, STRAND_EINVAL, "table %s holds no strands: attach a route to it first",
			       relation.name);
	*ret_table = t;
	return 0;
}
