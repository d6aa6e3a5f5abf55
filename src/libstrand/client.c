#include "libstrand/client.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "libstrand/modules.h"

enum { DEFAULT_TIMEOUT_MS = 30000 };

int64_t client_begin(struct strand_client *c)
{
	c->err = (struct err){ 0 };
	return clock_after_ms(c->timeout_ms);
}

static void forget_tables(struct strand_client *c)
{
	while (c->n_tables)
		table_release(&c->tables[--c->n_tables]);
}

void client_forget_ids(struct strand_client *c)
{
	for (size_t i = 0; i < c->n_ids; i++)
		free(c->ids[i]);
	free(c->ids);
	c->ids = NULL;
	c->n_ids = 0;
}

/* One host, which may use its share of the time that `left` hosts have. */
static int connect_one(struct strand_client *c, unsigned tried, int64_t deadline)
{
	struct link *l = &c->link;
	int ret = link_connect(l, &c->err);
	int64_t now = clock_now(), until = deadline;
	unsigned left = link_hosts(l) - tried;

	if (left > 1 && deadline > now)
		until = now + (deadline - now) / left;
	while (ret == LINK_AGAIN) {
		if (link_wait(l, -1, until))
			return link_give_up(l, "no answer in time", &c->err);
		ret = link_connect(l, &c->err);
	}
	return ret;
}

/* What to_regclass, or search_path, cannot even read. */
static int bad_name(struct strand_client *c, const char *name)
{
	struct err e = c->err;

	return err_set(&c->err, STRAND_EINVAL, "no table's name: %.100s: %s", name, e.text);
}

/* The search_path is the one setting that a caller has a part in. */
static bool is_bad_path(const struct strand_client *c)
{
	return !strcmp(c->err.sqlstate, "22023") && strstr(c->err.text, "\"search_path\"");
}

int client_connect(struct strand_client *c, int64_t deadline)
{
	unsigned tried = 0;
	int ret;

	if (!c->link.search_path)
		return err_set(&c->err, STRAND_EINVAL, "strand_client_open has refused what it was given");
	if (c->link.state == LINK_UP)
		return 0;
	forget_tables(c);
	do {
		ret = connect_one(c, tried, deadline);
	} while (ret == STRAND_ECONN && ++tried < link_hosts(&c->link) && clock_now() < deadline);
	return ret == STRAND_ECONN && is_bad_path(c) ? bad_name(c, c->table_name) : ret;
}

bool client_may_repeat(int code, int64_t deadline)
{
	return code == STRAND_ECONN && clock_now() < deadline;
}

static const struct table *known_table(const struct strand_client *c, const char *name)
{
	for (size_t i = 0; i < c->n_tables; i++)
		if (!strcmp(c->tables[i].name, name))
			return &c->tables[i];
	return NULL;
}

int client_table(struct strand_client *c, const char *name, int64_t deadline, const struct table **ret_table)
{
	const char *values[] = { name ? name : c->table_name };
	const struct table *known = known_table(c, values[0]);
	PGresult *res;
	int ret;

	if (known) {
		*ret_table = known;
		return 0;
	}
	ret = link_query(&c->link, table_sql, 1, values, deadline, &res, &c->err);
	if (ret)
		return ret == STRAND_ESQL ? bad_name(c, values[0]) : ret;
	if (c->n_tables == CLIENT_TABLES)
		forget_tables(c);
	ret = table_read(&c->tables[c->n_tables], values[0], res, &c->err);
	PQclear(res);
	if (!ret)
		*ret_table = &c->tables[c->n_tables++];
	return ret;
}

/* public, or the schema that the own table is named with and then public.  What other
 * sessions could put into pg_temp is not found first. */
static char *path_for(const char *table)
{
	const char *dot = NULL;
	bool quoted = false;
	char *path;

	for (const char *p = table; *p; p++) {
		quoted ^= *p == '"';
		if (*p == '.' && !quoted)
			dot = p;
	}
	if (asprintf(&path, "%.*s%spublic, pg_temp", dot ? (int)(dot - table) : 0, table, dot ? ", " : "") < 0)
		return NULL;
	return path;
}

static int settle_names(struct strand_client *c, const char *conninfo, const char *module, const char *table)
{
	if (!module || !*module)
		return err_set(&c->err, STRAND_EINVAL, "no module is named");
	if (!table)
		table = module_table(module);
	if (!table)
		return err_set(&c->err, STRAND_EINVAL, "the specification has no module \"%s\": name its table, too", module);
	c->conninfo = conninfo ? strdup(conninfo) : NULL;
	c->module = strdup(module);
	c->table_name = strdup(table);
	c->search_path = path_for(table);
	if ((conninfo && !c->conninfo) || !c->module || !c->table_name || !c->search_path)
		return err_set(&c->err, STRAND_ENOMEM, "out of memory");
	return link_check_conninfo(conninfo, &c->err);
}

int strand_client_open(struct strand_client **ret_client, const char *conninfo, const char *module,
		       const char *table)
{
	struct strand_client *c = calloc(1, sizeof(*c));
	const struct table *own;
	int64_t deadline;
	int ret;

	*ret_client = c;
	if (!c)
		return STRAND_ENOMEM;
	c->timeout_ms = DEFAULT_TIMEOUT_MS;
	deadline = client_begin(c);
	ret = settle_names(c, conninfo, module, table);
	if (ret)
		return ret;
	c->link.conninfo = c->conninfo;
	c->link.search_path = c->search_path;
	c->link.program = "libstrand";
	ret = client_connect(c, deadline);
	return ret ? ret : client_table(c, NULL, deadline, &own);
}

void strand_client_close(struct strand_client *c)
{
	if (!c)
		return;
	link_release(&c->link);
	forget_tables(c);
	client_forget_ids(c);
	free(c->conninfo);
	free(c->module);
	free(c->search_path);
	free(c->table_name);
	free(c);
}

const char *strand_client_error(const struct strand_client *c)
{
	return c ? c->err.text : "out of memory";
}

const char *strand_client_sqlstate(const struct strand_client *c)
{
	return c && c->err.code == STRAND_ESQL ? c->err.sqlstate : "";
}

void strand_client_set_timeout(struct strand_client *c, int timeout_ms)
{
	c->timeout_ms = timeout_ms < 1 ? 1 : timeout_ms;
}
