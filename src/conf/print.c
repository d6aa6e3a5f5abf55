#include "conf/print.h"

#include "conf/option.h"
#include "conf/report.h"
#include "conf/tree.h"
#include "conf/value.h"

/* Ends a line with where it came from.  A file's name may hold anything: no more
 * than a comment may come of it. */
static void add_origin(struct buf *out, const struct place *place)
{
	char text[PLACE_SIZE];

	place_text(text, place);
	for (char *p = text; *p; p++) {
		if ((unsigned char)*p < 0x20)
			*p = '?';
	}
	buf_addf(out, "  # %s\n", text);
}

static bool has_value(const struct option *o, const void *base)
{
	struct buf text;
	bool has;

	buf_init(&text);
	has = value_text(o, base, &text);
	buf_release(&text);
	return has;
}

static void add_option(struct tree *t, const struct option *o, const struct conf *c)
{
	const struct place *place = &c->places[o - conf_options.options];
	int indent = 2 * tree_depth(o->path);

	tree_enter(t, o->path);
	buf_addf(t->out, "%*s", indent, "");
	if (o->secret && place->where) {
		buf_addf(t->out, "#%s is set and not shown", tree_leaf(o->path));
	} else if (o->secret || !has_value(o, c)) {
		buf_addf(t->out, "#%s is not set\n", tree_leaf(o->path));
		return;
	} else {
		buf_addf(t->out, "%s = ", tree_leaf(o->path));
		literal_value(t->out, o, c);
		buf_adds(t->out, ";");
	}
	add_origin(t->out, place);
}

/* The fields of an element of a list. */
static void add_fields(struct buf *out, const struct option_table *table, const void *base,
		       const struct place *place, unsigned given)
{
	struct tree t = { .out = out, .indent = 4 };

	for (size_t i = 0; i < table->n; i++) {
		const struct option *o = &table->options[i];

		tree_enter(&t, o->path);
		buf_addf(out, "%*s", t.indent + 2 * tree_depth(o->path), "");
		if (!has_value(o, base)) {
			buf_addf(out, "#%s is not set\n", tree_leaf(o->path));
			continue;
		}
		buf_addf(out, "%s = ", tree_leaf(o->path));
		literal_value(out, o, base);
		buf_adds(out, ";");
		add_origin(out, given & 1U << i ? place : &(struct place){ 0 });
	}
	tree_leave(&t);
}

static void add_modules(struct buf *out, const struct conf *c)
{
	buf_adds(out, "\nmodules: (\n");
	for (size_t i = 0; i < c->n_modules; i++) {
		const struct conf_module *m = &c->modules[i];

		buf_adds(out, i ? "  },\n  {\n" : "  {\n");
		add_fields(out, &module_options, m, &(struct place){ m->file, m->line }, ~0U);
	}
	buf_adds(out, "  }\n);\n");
}

static void add_routes(struct buf *out, const struct conf *c)
{
	buf_adds(out, "\nroutes: (\n");
	for (size_t i = 0; i < c->n_routes; i++) {
		const struct conf_route *route = &c->routes[i];

		buf_adds(out, i ? "  },\n  {\n" : "  {\n");
		add_fields(out, &route_options, route, &(struct place){ route->file, route->line },
			   route->given);
	}
	buf_adds(out, c->n_routes ? "  }\n);\n" : ");\n");
	for (size_t i = 0; i < c->n_left_out; i++) {
		const struct conf_route *route = &c->left_out[i];

		buf_addf(out, "# not served here, see notifications.channels: %s from %s", route->tag,
			 route->source);
		add_origin(out, &(struct place){ route->file, route->line });
	}
}

void print_conf(struct buf *out, const struct conf *c)
{
	struct tree t = { .out = out };

	buf_adds(out, "# strandd's effective configuration; behind each setting, where it comes from.\n");
	for (size_t i = 0; i < conf_options.n; i++)
		add_option(&t, &conf_options.options[i], c);
	tree_leave(&t);
	add_modules(out, c);
	add_routes(out, c);
}
