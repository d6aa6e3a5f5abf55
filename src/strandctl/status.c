/* strandctl status: is the database as strandd needs it, and what waits on each
 * route.  Every count has a bound, so the command is cheap on any table. */
#include <stdio.h>
#include <stdlib.h>

#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/options.h"
#include "strandctl/route_status.h"
#include "strandctl/status.h"
#include "strandctl/strands.h"
#include "strandctl/table.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

static error_t parse(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	if (key == ARGP_KEY_INIT) {
		state->child_inputs[0] = state->input;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.parser = parse,
	.doc = "Shows routes that are suspended, the server, the schema and, for each route, what waits and what"
	       " is settled.  A number"
	       " with a plus is a lower bound: nothing is counted to the end of a large table.",
	.children = options_children,
};

enum { SERVER_DATABASE, SERVER_HOST, SERVER_USER, SERVER_VERSION, SERVER_SCHEMA, SERVER_IDENTIFIER,
       SERVER_MATCHES, SERVER_ROUTES, N_SERVER };

static const struct column server_columns[N_SERVER] = {
	[SERVER_DATABASE] = { "DATABASE", COLUMN_TEXT, FOR_BOTH },
	[SERVER_HOST] = { "HOST", COLUMN_TEXT, FOR_BOTH },
	[SERVER_USER] = { "USER", COLUMN_TEXT, FOR_BOTH },
	[SERVER_VERSION] = { "SERVER VERSION", COLUMN_TEXT, FOR_BOTH },
	[SERVER_SCHEMA] = { "SCHEMA VERSION", COLUMN_NUMBER, FOR_BOTH },
	[SERVER_IDENTIFIER] = { "DATABASE IDENTIFIER", COLUMN_TEXT, FOR_BOTH },
	[SERVER_MATCHES] = { "ADOPTED", COLUMN_BOOLEAN, FOR_BOTH },
	[SERVER_ROUTES] = { "ROUTES", COLUMN_JSON, FOR_PROGRAMS },
};

static bool all_adopted(const struct catalog *c)
{
	for (size_t i = 0; i < c->n_routes; i++)
		if (!c->routes[i].same_system)
			return false;
	return true;
}

/* A line a value: side by side they are wider than terminals. */
static void print_server(const char *const *values)
{
	static const struct column columns[] = {
		{ "SERVER", COLUMN_TEXT, FOR_PEOPLE },
		{ "", COLUMN_TEXT, FOR_PEOPLE },
	};
	struct table *table = table_new("server", false, columns, 2);

	for (size_t i = 0; i < SERVER_ROUTES; i++) {
		struct libscols_line *row = table_row(table, NULL);
		bool yes = i == SERVER_MATCHES && *values[i] == 't';

		table_set(table, row, 0, server_columns[i].title);
		table_set(table, row, 1, i != SERVER_MATCHES ? values[i] : yes ? "yes" : "no");
	}
	table_print(table);
	table_free(table);
}

static int show_server(struct ctl *ctl, const struct catalog *c, const char *routes_json, struct err *e)
{
	static const char version[] = TEXT(CTL_SCHEMA_VERSION);
	PGconn *pg = conn_pg(ctl->conn);
	const char *values[N_SERVER] = {
		[SERVER_DATABASE] = PQdb(pg),
		[SERVER_HOST] = PQhost(pg),
		[SERVER_USER] = PQuser(pg),
		[SERVER_VERSION] = PQparameterStatus(pg, "server_version"),
		[SERVER_SCHEMA] = version,
		[SERVER_MATCHES] = all_adopted(c) ? "t" : "f",
		[SERVER_ROUTES] = routes_json,
	};
	PGresult *res;
	int ret = ctl_query(ctl, "SELECT strandd.database_identifier()", 0, NULL, &res, e);

	if (ret)
		return ret;
	values[SERVER_IDENTIFIER] = PQgetvalue(res, 0, 0);
	if (ctl->json)
		table_print_one("server", server_columns, N_SERVER, values);
	else
		print_server(values);
	PQclear(res);
	return 0;
}

static int show(struct ctl *ctl, const struct catalog *c, struct err *e)
{
	struct route_status status;
	char *json = NULL;
	int ret = 0;

	route_status_init(&status, ctl);
	for (size_t i = 0; !ret && i < c->n_routes; i++)
		ret = route_status_add(&status, &c->routes[i], e);
	if (!ret && ctl->json)
		json = table_rows_json(status.routes);
	if (!ret && !ctl->json)
		fputs(status.suspended.data, stdout);
	if (!ret)
		ret = show_server(ctl, c, json, e);
	if (!ret && !ctl->json)
		route_status_print(&status);
	free(json);
	route_status_release(&status);
	if (!ret && !all_adopted(c))
		ctl_warn("routes were attached in another database cluster, strandd does not serve them: run "
			 "strandctl adopt --continue, --deliver or --skip");
	return ret;
}

/* The bounds are LIMITs, which mean nothing above a sort or a bitmap: both read
 * everything first. */
int status_show(struct ctl *ctl, const struct catalog *c, struct err *e)
{
	int ret = ctl_exec(ctl, "SET enable_bitmapscan = off; SET enable_sort = off", e);

	if (!ret)
		ret = show(ctl, c, e);
	return ret ? ret : ctl_exec(ctl, "RESET enable_bitmapscan; RESET enable_sort", e);
}

int command_status(struct ctl *ctl, int argc, char **argv)
{
	struct catalog c = { 0 };
	struct err e;
	int ret;

	options_parse(&argp, argc, argv, ctl);
	ret = strands_start(ctl, &c, &e);
	if (!ret)
		ret = status_show(ctl, &c, &e);
	catalog_release(&c);
	return ret ? ctl_fail(ctl, &e) : EXIT_OK;
}
