#include "conf/value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conf/report.h"
#include "conf/value_number.h"

static bool is_string(const struct option *o)
{
	return o->type == OPTION_STRING || o->type == OPTION_DATABASE || o->type == OPTION_PORT;
}

static int no_memory(struct err *e)
{
	return err_set(e, STRAND_ENOMEM, "out of memory");
}

int values_default(const struct option_table *table, void *base)
{
	for (size_t i = 0; i < table->n; i++) {
		const struct option *o = &table->options[i];
		int r = o->fallback ? value_set(o, base, o->fallback, NULL) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

void strings_free(char **strings)
{
	for (char **s = strings; s && *s; s++)
		free(*s);
	free(strings);
}

void values_release(const struct option_table *table, void *base)
{
	for (size_t i = 0; i < table->n; i++) {
		const struct option *o = &table->options[i];

		if (is_string(o)) {
			free(*(char **)value_field(o, base));
			*(char **)value_field(o, base) = NULL;
		} else if (o->type == OPTION_STRINGS) {
			strings_free(*(char ***)value_field(o, base));
			*(char ***)value_field(o, base) = NULL;
		}
	}
}

/* --- text that is kept ------------------------------------------------------- */

static int check_length(const struct option *o, const char *text, struct err *e)
{
	size_t len = strlen(text);

	if (len == 0)
		return err_set(e, STRAND_EINVAL, "%s must not be empty%s", o->path,
			       o->required ? "" : "; leave it out instead");
	if (len > (size_t)o->max && o->type != OPTION_PORT)
		return err_set(e, STRAND_EINVAL, "%s is %zu bytes long, at most %" PRId64 " are allowed",
			       o->path, len, o->max);
	return 0;
}

/* libpq would take the place of every other setting from it.  The text is not
 * quoted: it may hold a password. */
static int check_database(const struct option *o, const char *text, struct err *e)
{
	if (!strchr(text, '=') && !strstr(text, "://"))
		return 0;
	return err_set(e, STRAND_EINVAL,
		       "%s must be a name alone, without '=' and '://'; host, user and password"
		       " have settings of their own", o->path);
}

static int set_string(const struct option *o, void *base, const char *text, struct err *e)
{
	char **place = value_field(o, base), *copy;
	int r = check_length(o, text, e);

	if (r == 0 && o->type == OPTION_DATABASE)
		r = check_database(o, text, e);
	if (r < 0)
		return r;
	copy = strdup(text);
	if (!copy)
		return no_memory(e);
	free(*place);
	*place = copy;
	return 0;
}

int value_take_strings(const struct option *o, void *base, char **strings, size_t n, struct err *e)
{
	char ***place = value_field(o, base);
	int r = n ? 0 : err_set(e, STRAND_EINVAL, "%s must not be empty; leave it out instead", o->path);

	for (size_t i = 0; i < n && r == 0; i++)
		r = strings[i] ? check_length(o, strings[i], e) : no_memory(e);
	if (r < 0) {
		strings_free(strings);
		return r;
	}
	strings_free(*place);
	*place = strings;
	return 0;
}

static int set_strings(const struct option *o, void *base, const char *text, struct err *e)
{
	char **strings = calloc(strlen(text) + 2, sizeof(*strings));
	size_t n = 0;

	if (!strings)
		return no_memory(e);
	while (*text) {
		size_t len = strcspn(text, ","), start = strspn(text, " "), end = len;

		while (end > start && text[end - 1] == ' ')
			end--;
		start = start < end ? start : end;
		strings[n++] = strndup(text + start, end - start);
		text += len + (text[len] == ',');
	}
	return value_take_strings(o, base, strings, n, e);
}

/* --- names ------------------------------------------------------------------- */

static int set_bool(const struct option *o, void *base, const char *text, struct err *e)
{
	char quoted[QUOTE_SIZE];

	if (strcasecmp(text, "true") != 0 && strcasecmp(text, "false") != 0)
		return err_set(e, STRAND_EINVAL, "%s must be true or false, not %s", o->path,
			       quote(quoted, text));
	*(bool *)value_field(o, base) = strcasecmp(text, "true") == 0;
	return 0;
}

static int set_choice(const struct option *o, void *base, const char *text, struct err *e)
{
	const char *const *names = option_choices(o->type);
	char quoted[QUOTE_SIZE], wanted[WANTED_SIZE];

	for (int i = 0; names[i]; i++) {
		if (strcmp(names[i], text) == 0) {
			/* Both enums are unsigned ints to the compiler. */
			*(unsigned *)value_field(o, base) = (unsigned)i;
			return 0;
		}
	}
	return err_set(e, STRAND_EINVAL, "%s must be %s, not %s", o->path, value_wanted(o, wanted),
		       quote(quoted, text));
}

int value_set(const struct option *o, void *base, const char *text, struct err *e)
{
	int r;

	switch (o->type) {
	case OPTION_STRING:
	case OPTION_DATABASE:
		return set_string(o, base, text, e);
	case OPTION_PORT:
		r = value_check_ports(o, text, e);
		return r < 0 ? r : set_string(o, base, text, e);
	case OPTION_STRINGS:
		return set_strings(o, base, text, e);
	case OPTION_INT:
		return value_set_int(o, base, text, e);
	case OPTION_DECIMAL:
		return value_set_decimal(o, base, text, e);
	case OPTION_DURATION:
	case OPTION_SIZE:
		return value_set_unit(o, base, text, e);
	case OPTION_BOOL:
		return set_bool(o, base, text, e);
	case OPTION_LEVEL:
	case OPTION_FORMAT:
	case OPTION_DELIVERY:
		return set_choice(o, base, text, e);
	}
	return err_set(e, STRAND_EINVAL, "%s has no type", o->path);
}
