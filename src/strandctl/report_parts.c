#include "strandctl/report.h"

#include <json-c/json.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/buf.h"
#include "conf/print.h"
#include "strandctl/table.h"
#include "strandctl/tags.h"

#define FAILURES_SHOWN 20	/* the newest of each route */
#define NOT_SHOWN "(not shown)"

/* --- versions */

static const struct column version_columns[] = { { "NAME", COLUMN_TEXT, FOR_BOTH }, { "VALUE", COLUMN_WRAP, FOR_BOTH } };

static void add(struct table *table, const char *name, const char *value)
{
	table_fill(table, (const char *[]){ name, value });
}

/* "Debian GNU/Linux 12 (bookworm)" */
static void system_name(char *out, size_t size)
{
	FILE *f = fopen("/etc/os-release", "re");
	char line[256];

	snprintf(out, size, "unknown");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "PRETTY_NAME=", 12))
			snprintf(out, size, "%.*s", (int)strcspn(line + 12 + (line[12] == '"'), "\"\n"), line + 12 + (line[12] == '"'));
	if (f)
		fclose(f);
}

/* Which variables are set that strandd or libpq heed: their names alone. */
static void variables(struct buf *out)
{
	for (char **v = environ; *v; v++) {
		if (!strncmp(*v, "PG", 2) || !strncmp(*v, "STRANDD_", 8))
			buf_addf(out, "%s%.*s", out->len ? " " : "", (int)strcspn(*v, "="), *v);
	}
}

static int server_version(struct report *r, struct table *table, struct err *e)
{
	PGresult *res;
	int ret = ctl_query(r->ctl, "SELECT version()", 0, NULL, &res, e);

	if (ret)
		return ret;
	add(table, "server", PQgetvalue(res, 0, 0));
	PQclear(res);
	return 0;
}

int report_versions(struct report *r, struct err *e)
{
	struct table *table = table_new("versions", r->ctl->json, version_columns, 2);
	struct buf set = BUF_INIT;
	struct utsname kernel;
	const char *scols = NULL;
	char text[256];
	int ret = 0;

	buf_init(&set);
	add(table, "strandctl", PACKAGE_VERSION);
	snprintf(text, sizeof(text), "%d", PQlibVersion());
	add(table, "libpq", text);
	add(table, "json-c", json_c_version());
	(void)scols_get_library_version(&scols);
	add(table, "libsmartcols", scols);
	system_name(text, sizeof(text));
	add(table, "system", text);
	if (uname(&kernel) == 0) {
		snprintf(text, sizeof(text), "%.80s %.80s", kernel.release, kernel.machine);
		add(table, "kernel", text);
	}
	variables(&set);
	add(table, "variables", set.data);
	if (r->ctl->conn && conn_usable(r->ctl->conn))
		ret = server_version(r, table, e);
	if (!ret)
		table_print(table);
	table_free(table);
	buf_release(&set);
	return ret;
}

/* --- configuration */

static int hide(char **text, const char *shown)
{
	char *copy = strdup(shown);

	if (!copy)
		return STRAND_ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

static int redact_route(struct conf_route *route)
{
	int ret = 0;

	for (char **argument = route->command; !ret && argument && *argument; argument++)
		if (argument != route->command)
			ret = hide(argument, NOT_SHOWN);
	for (char **variable = route->environment; !ret && variable && *variable; variable++) {
		char text[256];

		snprintf(text, sizeof(text), "%.*s=" NOT_SHOWN, (int)strcspn(*variable, "="), *variable);
		ret = hide(variable, text);
	}
	return ret;
}

int report_redact(struct conf *c)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < c->n_routes; i++)
		ret = redact_route(&c->routes[i]);
	return ret;
}

/* A JSON string, with its quotes. */
static void print_string(const char *text, size_t len)
{
	struct json_object *string = json_object_new_string_len(text, (int)len);

	fputs(json_object_to_json_string_ext(string, TAGS_JSON_FLAGS), stdout);
	json_object_put(string);
}

int report_configuration(struct report *r, struct err *e)
{
	struct buf text = BUF_INIT;
	int ret;

	buf_init(&text);
	ret = report_redact(r->ctl->conf);
	print_conf(&text, r->ctl->conf);
	if (ret || text.failed) {
		ret = err_set(e, STRAND_ENOMEM, "out of memory");
	} else if (!r->ctl->json) {
		fputs(text.data, stdout);
	} else {
		const char *line = text.data;

		fputs("[\n", stdout);
		while (*line) {
			size_t len = strcspn(line, "\n");

			fputs("      ", stdout);
			print_string(line, len);
			line += len + (line[len] == '\n');
			fputs(*line ? ",\n" : "\n", stdout);
		}
		fputs("   ]\n", stdout);
	}
	buf_release(&text);
	return ret;
}

/* --- failures */

enum { AT_TAG, AT_SOURCE, AT_RECEIVER, AT_STATE, AT_SQLSTATE, AT_ATTEMPTS, AT_STARTED, AT_FINISHED, AT_MARKED,
       N_FAILURE_COLUMNS };

/* No id, no error: both may hold what is in a strand. */
static const struct column failure_columns[N_FAILURE_COLUMNS] = {
	[AT_TAG] = { "TAG", COLUMN_TEXT, FOR_BOTH },
	[AT_SOURCE] = { "SOURCE", COLUMN_TEXT, FOR_BOTH },
	[AT_RECEIVER] = { "RECEIVER", COLUMN_TEXT, FOR_BOTH },
	[AT_STATE] = { "STATE", COLUMN_TEXT, FOR_BOTH },
	[AT_SQLSTATE] = { "SQLSTATE", COLUMN_TEXT, FOR_BOTH },
	[AT_ATTEMPTS] = { "ATTEMPTS", COLUMN_NUMBER, FOR_BOTH },
	[AT_STARTED] = { "STARTED AT", COLUMN_TIME, FOR_BOTH },
	[AT_FINISHED] = { "FINISHED AT", COLUMN_TIME, FOR_BOTH },
	[AT_MARKED] = { "MARKED", COLUMN_BOOLEAN, FOR_BOTH },
};

/* Through the partial index. */
static const char failures_sql[] =
	"SELECT r.state, r.sqlstate, r.attempt, r.started_at, r.finished_at, r.marked FROM %s r"
	" WHERE r.route = $1::integer AND r.state IN ('failed', 'expired') ORDER BY r.finished_at DESC LIMIT %d";

static int add_failures(struct report *r, const struct attachment *a, struct table *table, struct err *e)
{
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_addf(&sql, failures_sql, a->receiver->receipts, FAILURES_SHOWN);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: ctl_query(r->ctl, sql.data, 1, &a->number, &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	for (int row = 0; row < PQntuples(res); row++) {
		const char *values[N_FAILURE_COLUMNS] = { a->tag, a->source->name, a->receiver->name };

		for (int i = AT_STATE; i < N_FAILURE_COLUMNS; i++)
			values[i] = cell(res, row, i - AT_STATE);
		table_fill(table, values);
	}
	PQclear(res);
	return 0;
}

int report_failures(struct report *r, struct err *e)
{
	struct table *table = table_new("failures", r->ctl->json, failure_columns, N_FAILURE_COLUMNS);
	int ret = 0;

	for (size_t i = 0; !ret && i < r->catalog.n_routes; i++)
		ret = add_failures(r, &r->catalog.routes[i], table, e);
	if (!ret)
		table_print(table);
	table_free(table);
	return ret;
}
