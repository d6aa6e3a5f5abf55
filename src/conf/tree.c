#include "conf/tree.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "conf/unit.h"
#include "conf/value.h"

int tree_depth(const char *path)
{
	int depth = 0;

	for (; *path; path++)
		depth += *path == '.';
	return depth;
}

const char *tree_leaf(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot ? dot + 1 : path;
}

/* Groups that two paths share. */
static int common(const char *a, const char *b)
{
	int depth = 0;

	for (; *a && *a == *b; a++, b++)
		depth += *a == '.';
	return depth;
}

static void close_to(struct tree *t, int depth)
{
	for (int open = tree_depth(t->path); open > depth; open--)
		buf_addf(t->out, "%*s};\n", t->indent + 2 * (open - 1), "");
}

void tree_enter(struct tree *t, const char *path)
{
	int same = common(t->path, path), depth = tree_depth(path);
	const char *name = path;

	close_to(t, same);
	if (same == 0 && !t->indent && (t->path[0] == '\0' || depth || tree_depth(t->path)))
		buf_adds(t->out, "\n");
	for (int i = 0; i < depth; i++) {
		size_t len = strcspn(name, ".");

		if (i >= same)
			buf_addf(t->out, "%*s%.*s: {\n", t->indent + 2 * i, "", (int)len, name);
		name += len + 1;
	}
	snprintf(t->path, sizeof(t->path), "%s", path);
}

void tree_leave(struct tree *t)
{
	close_to(t, 0);
	t->path[0] = '\0';
}

/* --- literals ---------------------------------------------------------------- */

static void add_string(struct buf *out, const char *text, size_t len)
{
	buf_adds(out, "\"");
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\')
			buf_addf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			buf_addf(out, "\\x%02x", (unsigned)c);
		else
			buf_add(out, &text[i], 1);
	}
	buf_adds(out, "\"");
}

static bool is_bare(const struct option *o, const char *text)
{
	switch (o->type) {
	case OPTION_INT:
	case OPTION_DECIMAL:
	case OPTION_BOOL:
		return true;
	case OPTION_PORT:
		return text[strspn(text, "0123456789")] == '\0';
	default:
		return false;
	}
}

void literal_text(struct buf *out, const struct option *o, const char *text)
{
	if (o->type == OPTION_STRINGS) {
		buf_adds(out, "[ ");
		for (size_t len; *text; text += len + strspn(text + len, ", ")) {
			len = strcspn(text, ",");
			add_string(out, text, len);
			buf_adds(out, text[len] ? ", " : "");
		}
		buf_adds(out, " ]");
	} else if (is_bare(o, text)) {
		buf_adds(out, text);
	} else {
		add_string(out, text, strlen(text));
	}
}

void literal_value(struct buf *out, const struct option *o, const void *base)
{
	struct buf text;

	if (o->type == OPTION_STRINGS) {
		char *const *strings = *(char **const *)(const void *)((const char *)base + o->offset);

		buf_adds(out, "[ ");
		for (char *const *s = strings; s && *s; s++) {
			buf_adds(out, s == strings ? "" : ", ");
			add_string(out, *s, strlen(*s));
		}
		buf_adds(out, " ]");
		return;
	}
	buf_init(&text);
	value_text(o, base, &text);
	out->failed |= text.failed;
	if (!text.failed)
		literal_text(out, o, text.data);
	buf_release(&text);
}

/* --- bounds ------------------------------------------------------------------ */

void bounds_text(struct buf *out, const struct option *o)
{
	char min[UNIT_TEXT_SIZE], max[UNIT_TEXT_SIZE], wanted[WANTED_SIZE];

	switch (o->type) {
	case OPTION_INT:
	case OPTION_DECIMAL:
	case OPTION_PORT:
		buf_addf(out, "%" PRId64 " to %" PRId64 "%s%s", o->min, o->max, o->unit ? " " : "",
			 o->unit ? o->unit : "");
		break;
	case OPTION_DURATION:
		buf_addf(out, "%s to %s%s", duration_format(o->min, min), duration_format(o->max, max),
			 o->fallback && !strcmp(o->fallback, "none") ? ", or none" : "");
		break;
	case OPTION_SIZE:
		buf_addf(out, "%s to %s", size_format(o->min, min), size_format(o->max, max));
		break;
	case OPTION_BOOL:
	case OPTION_LEVEL:
	case OPTION_FORMAT:
	case OPTION_DELIVERY:
		buf_adds(out, value_wanted(o, wanted));
		break;
	case OPTION_STRING:
	case OPTION_DATABASE:
	case OPTION_STRINGS:
		if (o->max < 4096)
			buf_addf(out, "at most %" PRId64 " bytes%s", o->max,
				 o->type == OPTION_STRINGS ? " each" : "");
		break;
	}
}
