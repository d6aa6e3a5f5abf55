/* strandctl report: what a bug report wants, in one text that its sender can read
 * through before it leaves his hands; so it is no archive. */
#include "strandctl/report.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "strandctl/doctor.h"
#include "strandctl/options.h"
#include "strandctl/status.h"
#include "strandctl/strands.h"
#include "strandctl/tags.h"

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
	.doc = "Writes what a bug report wants: versions, the configuration, what doctor and status say, and recent"
	       " failures.  Passwords, arguments and environment of commands, ids, tags without a route, errors and"
	       " contents of strands are not in it; names of hosts, databases, roles, tables and routes are.  Read"
	       " it before you send it.",
	.children = options_children,
};

/* An error of a handler may quote the strand. */
static void hide_errors(struct catalog *c)
{
	for (size_t i = 0; i < c->n_routes; i++)
		if (c->routes[i].suspended_error)
			c->routes[i].suspended_error = "(not shown)";
}

static int report_doctor(struct report *r, struct err *e)
{
	struct doctor d = { .ctl = r->ctl, .redact = true, .old_ms = DOCTOR_OLD_MS };
	int ret = doctor_examine(&d, e);

	r->printed = d.n;
	if (d.n)
		doctor_print(&d);
	doctor_release(&d);
	return ret;
}

static int report_status(struct report *r, struct err *e)
{
	return status_show(r->ctl, &r->catalog, e);
}

static const struct {
	const char *name;
	report_part *print;
	bool configured, connected, installed;	/* what it cannot do without */
} parts[] = {
	{ "versions", report_versions, false, false, false },
	{ "configuration", report_configuration, true, false, false },
	{ "doctor", report_doctor, true, true, false },
	{ "status", report_status, true, true, true },
	{ "failures", report_failures, true, true, true },
};

static void begin(const struct report *r, size_t i)
{
	if (r->ctl->json)
		printf("%s   \"%s\": ", i ? ",\n" : "", parts[i].name);
	else
		printf("%s=== %s\n", i ? "\n" : "", parts[i].name);
}

static void print_error(const struct report *r, const struct err *e)
{
	struct json_object *object;

	if (!r->ctl->json) {
		printf("not to be had: %s\n", e->text);
		return;
	}
	object = json_object_new_object();
	json_object_object_add(object, "error", json_object_new_string(e->text));
	fputs(json_object_to_json_string_ext(object, TAGS_JSON_FLAGS), stdout);
	json_object_put(object);
}

/* The first error is the report's; parts that do not need what it broke follow. */
static void print_all(struct report *r, bool installed, struct err *first)
{
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		struct err e = *first;
		bool able = (r->ctl->conf || !parts[i].configured) &&
			((r->ctl->conn && conn_usable(r->ctl->conn)) || !parts[i].connected) &&
			(installed || !parts[i].installed);
		int ret;

		begin(r, i);
		r->printed = false;
		ret = able ? parts[i].print(r, &e) : first->code;
		if (ret && !r->printed)
			print_error(r, &e);
		if (ret && !first->code)
			*first = e;
	}
}

static void print_head(const struct report *r)
{
	char now[32] = "";
	time_t seconds = time(NULL);
	struct tm tm;

	if (gmtime_r(&seconds, &tm))
		strftime(now, sizeof(now), "%Y-%m-%d %H:%M:%S+00", &tm);
	if (r->ctl->json)
		printf("{\n   \"reported_at\": \"%s\",\n", now);
	else
		printf("Report of strandctl " PACKAGE_VERSION ", %s.\nRead it before you send it.\n\n", now);
}

int command_report(struct ctl *ctl, int argc, char **argv)
{
	struct report r = { .ctl = ctl };
	struct err e = { 0 };
	bool installed;
	int ret;

	options_parse(&argp, argc, argv, ctl);
	ret = strands_start(ctl, &r.catalog, &e);
	installed = !ret;
	if (!ret)
		e.code = 0;
	hide_errors(&r.catalog);
	print_head(&r);
	print_all(&r, installed, &e);
	if (ctl->json)
		fputs("\n}\n", stdout);
	ret = e.code ? ctl_fail(ctl, &e) : EXIT_OK;
	catalog_release(&r.catalog);
	return ret;
}
