/* strandctl init: installs strandd's SQL, or upgrades it, on a database that may
 * be in use.  Every step can be repeated, so an interrupted init is completed by
 * the next one. */
#include <stdio.h>
#include <string.h>

#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/history.h"
#include "strandctl/locked.h"
#include "strandctl/options.h"
#include "strandctl/sql_embed.h"
#include "strandctl/steps.h"
#include "strandctl/table.h"

struct args {
	struct ctl *ctl;
	const char *grant;
	bool print, no_routes, cleanup;
};

enum { OPTION_PRINT = OPTION_FIRST, OPTION_NO_ROUTES, OPTION_GRANT, OPTION_GRANT_CLEANUP };

static const char routes_file[] = "50_routes.sql";
static const char uninstall_file[] = "90_uninstall.sql";

static const struct argp_option options[] = {
	{ "print", OPTION_PRINT, 0, 0, "Print the SQL and do nothing; needs no server", 0 },
	{ "no-routes", OPTION_NO_ROUTES, 0, 0, "Attach no route; `strandctl attach' does", 0 },
	{ "grant", OPTION_GRANT, "ROLE", 0, "Let this role run strandd here", 0 },
	{ "grant-cleanup", OPTION_GRANT_CLEANUP, "ROLE", 0, "The same, with cleanup: it may delete strands", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case OPTION_PRINT:
		args->print = true;
		return 0;
	case OPTION_NO_ROUTES:
		args->no_routes = true;
		return 0;
	case OPTION_GRANT:
		args->grant = arg;
		return 0;
	case OPTION_GRANT_CLEANUP:
		args->grant = arg;
		args->cleanup = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Installs strandd's schema, the three module tables, their triggers and indexes, and the"
	       " five routes, or upgrades what is there.  Safe on tables in use, and safe to interrupt"
	       " and to repeat.  Rows that a new route finds are history: never delivered.",
	.children = options_children,
};

static bool is_wanted(const struct sql_file *f, const struct args *args)
{
	if (!strcmp(f->name, uninstall_file))
		return false;
	return !(args->no_routes && !strcmp(f->name, routes_file));
}

static int print_sql(const struct args *args)
{
	for (const struct sql_file *f = sql_files; f->name; f++)
		if (is_wanted(f, args))
			printf("-- file %s\n%s\n", f->name, f->text);
	return EXIT_OK;
}

/* What would stop it half-way is looked at first. */
static int preflight(struct ctl *ctl, const struct args *args, struct err *e)
{
	const char *values[] = { args->grant };
	bool has_schema, has_role;
	PGresult *res;
	int ret = ctl_query(ctl, "SELECT current_schema() IS NOT NULL, $1::text IS NULL OR"
			    " EXISTS (SELECT FROM pg_roles WHERE rolname::text = $1::text)", 1, values, &res,
			    e);

	if (ret)
		return ret;
	has_schema = *PQgetvalue(res, 0, 0) == 't';
	has_role = *PQgetvalue(res, 0, 1) == 't';
	PQclear(res);
	if (!has_schema)
		return err_set(e, STRAND_EINVAL, "the search_path %s names no schema that is there: CREATE SCHEMA,"
			       " or name another in the configuration; nothing was changed",
			       ctl->target.search_path);
	if (!has_role)
		return err_set(e, STRAND_EINVAL, "--grant %s: there is no such role: CREATE ROLE first; nothing"
			       " was changed", args->grant);
	return 0;
}

static int install(struct locked *l, const struct args *args, struct err *e)
{
	const char *values[] = { args->grant };
	int ret = 0;

	for (const struct sql_file *f = sql_files; !ret && f->name; f++)
		if (is_wanted(f, args))
			ret = steps_run_file(f->name, l, e);
	if (!ret && args->grant) {
		ret = locked_query(l, "grant", args->cleanup ? "SELECT strandd.grant_cleanup($1::name)"
				   : "SELECT strandd.grant_service($1::name)", 1, values, NULL, e);
		if (!ret)
			ctl_say(l->ctl, "role %s may run strandd here%s", args->grant,
				args->cleanup ? ", and clean up" : "");
	}
	return ret ? ret : history_finish(l, e);
}

static void print_summary(struct ctl *ctl, size_t n_tables, size_t n_routes)
{
	static const struct column columns[] = {
		{ "DATABASE", COLUMN_TEXT, FOR_BOTH },
		{ "SCHEMA VERSION", COLUMN_NUMBER, FOR_BOTH },
		{ "MODULE TABLES", COLUMN_NUMBER, FOR_BOTH },
		{ "ROUTES", COLUMN_NUMBER, FOR_BOTH },
	};
	char version[16], tables[24], routes[24];
	const char *values[] = { PQdb(conn_pg(ctl->conn)), version, tables, routes };

	snprintf(version, sizeof(version), "%d", CTL_SCHEMA_VERSION);
	snprintf(tables, sizeof(tables), "%zu", n_tables);
	snprintf(routes, sizeof(routes), "%zu", n_routes);
	table_print_one("installed", columns, 4, values);
}

static int summary(struct ctl *ctl, struct err *e)
{
	struct catalog c;
	size_t attached = 0;
	int ret = catalog_load(&c, ctl, e);

	for (size_t i = 0; !ret && i < c.n_routes; i++)
		attached += c.routes[i].attached;
	if (!ret)
		ctl_say(ctl, "database \"%s\" is ready: schema version %d, %zu module tables, %zu routes",
			PQdb(conn_pg(ctl->conn)), CTL_SCHEMA_VERSION, c.n_tables, attached);
	if (!ret && ctl->json)
		print_summary(ctl, c.n_tables, attached);
	catalog_release(&c);
	return ret;
}

int command_init(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };
	struct locked l = { 0 };
	struct err e;
	int ret;

	options_parse(&argp, argc, argv, &args);
	if (args.print)
		return print_sql(&args);
	ret = ctl_connect(ctl, 0, &e);
	if (!ret)
		ret = ctl_refuse_newer(ctl, &e);
	if (!ret)
		ret = preflight(ctl, &args, &e);
	if (!ret)
		ret = locked_start(&l, ctl, &e);
	if (!ret)
		ret = install(&l, &args, &e);
	if (!ret)
		ret = summary(ctl, &e);
	locked_stop(&l);
	return ret ? ctl_fail(ctl, &e) : EXIT_OK;
}
