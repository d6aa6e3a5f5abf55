#include "conf/document.h"

#include <string.h>

#include "conf/option.h"
#include "conf/tree.h"

enum { COLUMNS = 96 };

static const char head[] =
	"# strandd's configuration, made by `make documents` from the table of options.\n"
	"#\n"
	"# A line that starts with # and a letter or bracket is a setting with its\n"
	"# default, or an example where there is none: remove the # to use it.\n"
	"# Times and sizes have units: \"500ms\", \"5s\", \"2min\", \"1h\", \"7d\"; \"64KiB\", \"8MiB\",\n"
	"# \"1GB\".  Whole numbers over 2147483647 end with an L.\n"
	"#\n"
	"# After this file come those of conf.d beside it, conf.d/*.conf in the order of their\n"
	"# names, then the environment (workers.threads is STRANDD_WORKERS_THREADS), then\n"
	"# --set workers.threads=8; the later one counts.  Lists are joined.  SIGHUP reads all\n"
	"# of it again.  strandd --check-config tells what is wrong, strandd --print-config\n"
	"# what counts and where it stands.\n"
	"#\n"
	"# What module_communication.database leaves out comes from libpq: environment,\n"
	"# service file, ~/.pgpass.\n";

static const char modules[] =
	"\n"
	"# The modules and the tables that they own; table names as SQL takes them.\n"
	"# Without the list: the three of the specification.  Files of conf.d add to it; a\n"
	"# module of theirs with the name of one of those three takes its place.\n";

static const char modules_example[] =
	"#modules = (\n"
	"#  { name = \"alpha\"; table = \"AD_strands\"; },\n"
	"#  { name = \"dm\"; table = \"DM_strands\"; },\n"
	"#  { name = \"trader\"; table = \"TR_strands\"; }\n"
	"#);\n";

static const char routes[] =
	"\n"
	"# What is delivered: strands of the source table that bear the tag go to the\n"
	"# handler, an SQL function, or to the command, a program, and the replies into the\n"
	"# table of the module that the tag names.\n";

static const char routes_example[] =
	"#routes = (\n"
	"#  { tag = \"dm:evaluate_plan\"; source = \"AD_strands\"; handler = \"trading.evaluate_plan\"; serial = true; },\n"
	"#  { tag = \"alpha:decision_feedback\"; source = \"DM_strands\"; handler = \"trading.learn_from_decision\"; },\n"
	"#  { tag = \"trader:execute_plan\"; source = \"DM_strands\"; handler = \"trading.execute_plan\"; timeout = \"90s\"; },\n"
	"#  { tag = \"alpha:execution_feedback\"; source = \"TR_strands\"; handler = \"trading.learn_from_execution\"; },\n"
	"#  { tag = \"dm:execution_feedback\"; source = \"TR_strands\"; handler = \"trading.book_execution\";\n"
	"#    attempts = 10; backoff: { initial = \"500ms\"; factor = 1.5; cap = \"1min\"; }; },\n"
	"#  { tag = \"trader:place_order\"; source = \"DM_strands\"; delivery = \"at-most-once\";\n"
	"#    command = [ \"/usr/bin/python3\", \"/opt/trader/place_order.py\" ]; processes = 2; }\n"
	"#);\n";

/* Adds a paragraph, its lines no longer than COLUMNS. */
static void add_wrapped(struct buf *out, int indent, const char *prefix, const char *text)
{
	size_t room = COLUMNS - (size_t)indent - strlen(prefix);

	while (*text) {
		size_t len = strlen(text);

		if (len > room) {
			len = room;
			while (len > 1 && (text[len] != ' ' || text[len - 1] == ' '))
				len--;
		}
		buf_addf(out, "%*s%s%.*s\n", indent, "", prefix, (int)len, text);
		text += len + strspn(text + len, " ");
	}
}

/* "Help.  1 to 64 threads.  A change needs a restart." */
static void describe(struct buf *out, const struct option *o)
{
	struct buf bounds;

	buf_init(&bounds);
	bounds_text(&bounds, o);
	buf_adds(out, o->help);
	if (bounds.len && o->type != OPTION_BOOL && !option_choices(o->type))
		buf_addf(out, "  %c%s.", bounds.data[0] == 'a' ? 'A' : bounds.data[0], bounds.data + 1);
	if (!o->reloadable)
		buf_adds(out, "  A change needs a restart.");
	out->failed |= bounds.failed;
	buf_release(&bounds);
}

static void add_described(struct buf *out, int indent, const char *prefix, const struct option *o)
{
	struct buf text;

	buf_init(&text);
	describe(&text, o);
	out->failed |= text.failed;
	if (!text.failed)
		add_wrapped(out, indent, prefix, text.data);
	buf_release(&text);
}

static void sample_option(struct tree *t, const struct option *o)
{
	int indent = 2 * tree_depth(o->path);

	tree_enter(t, o->path);
	add_described(t->out, indent, "# ", o);
	buf_addf(t->out, "%*s#%s = ", indent, "", tree_leaf(o->path));
	literal_text(t->out, o, o->fallback ? o->fallback : o->example);
	buf_adds(t->out, ";\n");
}

static void sample_fields(struct buf *out, const struct option_table *table)
{
	for (size_t i = 0; i < table->n; i++) {
		const struct option *o = &table->options[i];

		buf_addf(out, "#   %s", o->path);
		if (!o->required) {
			buf_adds(out, o->fallback ? " = " : ", such as ");
			literal_text(out, o, o->fallback ? o->fallback : o->example);
		}
		buf_adds(out, "\n");
		add_described(out, 0, "#       ", o);
	}
}

void document_sample(struct buf *out)
{
	struct tree t = { .out = out };

	buf_adds(out, head);
	for (size_t i = 0; i < conf_options.n; i++)
		sample_option(&t, &conf_options.options[i]);
	tree_leave(&t);
	buf_adds(out, modules);
	sample_fields(out, &module_options);
	buf_adds(out, modules_example);
	buf_adds(out, routes);
	sample_fields(out, &route_options);
	buf_adds(out, routes_example);
}

/* --- the manual -------------------------------------------------------------- */

static void add_troff(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '-' || *text == '\\')
			buf_addf(out, "\\%c", *text == '\\' ? 'e' : '-');
		else
			buf_add(out, text, 1);
	}
}

static void manual_option(struct buf *out, const struct option *o, const char *name)
{
	struct buf text;

	buf_adds(out, ".TP\n.B ");
	add_troff(out, name);
	if (o->fallback) {
		buf_adds(out, " \\fR=\\fP ");
		add_troff(out, o->fallback);
	}
	buf_adds(out, "\n");
	buf_init(&text);
	describe(&text, o);
	out->failed |= text.failed;
	if (!text.failed) {
		/* A dot or quote at a line's start would be a request. */
		buf_adds(out, strchr(".'", text.data[0]) ? "\\&" : "");
		add_troff(out, text.data);
	}
	buf_adds(out, "\n");
	buf_release(&text);
}

static void manual_fields(struct buf *out, const char *title, const struct option_table *table)
{
	buf_addf(out, ".SS %s\n", title);
	for (size_t i = 0; i < table->n; i++)
		manual_option(out, &table->options[i], table->options[i].path);
}

void document_manual(struct buf *out)
{
	const char *last = "";
	size_t last_len = 0;

	buf_adds(out, DOCUMENT_BEGIN);
	for (size_t i = 0; i < conf_options.n; i++) {
		const struct option *o = &conf_options.options[i];
		size_t len = (size_t)(tree_leaf(o->path) - o->path);

		if (i == 0 || len != last_len || strncmp(o->path, last, len) != 0) {
			buf_adds(out, ".SS ");
			if (len)
				buf_addf(out, "%.*s\n", (int)len - 1, o->path);
			else
				buf_adds(out, "In no group\n");
		}
		last = o->path;
		last_len = len;
		manual_option(out, o, tree_leaf(o->path));
	}
	manual_fields(out, "modules: each", &module_options);
	manual_fields(out, "routes: each", &route_options);
	buf_adds(out, DOCUMENT_END);
}
