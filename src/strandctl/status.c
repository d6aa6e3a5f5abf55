/* strandctl status: is the database as strandd needs it, and what waits on each
 * route.  Every count has a bound, so the command is cheap on any table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/options.h"
#include "strandctl/route_status.h"
#include "strandctl/strands.h"
#include "strandctl/table.h"

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
	.doc = "Shows the server, the schema and, for each route, what waits and what is settled.  A number"
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

static int show_server(struct ctl *ctl, const struct catalog *c, const char *routes_json, struct err *e)
{
	PGconn *pg = conn_pg(ctl->conn);
	struct table *table;
	struct libscols_line *row;
	char version[16];
	PGresult *res;
	int ret = ctl_query(ctl, "SELECT strandd.database_identifier()", 0, NULL, &res, e);

	if (ret)
		return ret;
	table = table_new("server", ctl->json, server_columns, N_SERVER);
	row = table_row(table, NULL);
	snprintf(version, sizeof(version), "%d", CTL_SCHEMA_VERSION);
	table_set(table, row, SERVER_DATABASE, PQdb(pg));
	table_set(table, row, SERVER_HOST, PQhost(pg));
	table_set(table, row, SERVER_USER, PQuser(pg));
	table_set(table, row, SERVER_VERSION, PQparameterStatus(pg, "server_version"));
	table_set(table, row, SERVER_SCHEMA, version);
	table_set(table, row, SERVER_IDENTIFIER, PQgetvalue(res, 0, 0));
	table_set(table, row, SERVER_MATCHES, all_adopted(c) ? "t" : "f");
	table_set(table, row, SERVER_ROUTES, routes_json);
	table_print(table);
	table_free(table);
	PQclear(res);
	return 0;
}

static int show(struct ctl *ctl, const struct catalog *c, struct err *e)
{
	struct table *routes = route_status_table(ctl->json);
	char *json = NULL;
	int ret = 0;

	for (size_t i = 0; !ret && i < c->n_routes; i++)
		ret = route_status_add(routes, ctl, &c->routes[i], e);
	if (!ret && ctl->json)
		json = table_rows_json(routes);
	if (!ret)
		ret = show_server(ctl, c, json, e);
	if (!ret && !ctl->json) {
		putchar('\n');
		table_print(routes);
	}
	free(json);
	table_free(routes);
	if (!ret && !all_adopted(c))
		ctl_warn("routes were attached in another database cluster, strandd does not serve them: run "
			 "strandctl adopt --continue, --deliver or --skip");
	return ret;
}

/* The bounds are LIMITs, which mean nothing above a sort or a bitmap: both read
 * everything first. */
static int pin_plans(struct ctl *ctl, struct err *e)
{
	int ret = strands_pin_plans(ctl, e);

	return ret ? ret : ctl_exec(ctl, "SET enable_bitmapscan = off; SET enable_sort = off", e);
}

int command_status(struct ctl *ctl, int argc, char **argv)
{
	struct catalog c = { 0 };
	struct err e;
	int ret;

	options_parse(&argp, argc, argv, ctl);
	ret = ctl_connect_installed(ctl, &e);
	if (!ret)
		ret = pin_plans(ctl, &e);
	if (!ret)
		ret = catalog_load(&c, ctl, &e);
	if (!ret)
		ret = show(ctl, &c, &e);
	catalog_release(&c);
	return ret ? ctl_fail(ctl, &e) : EXIT_OK;
}
