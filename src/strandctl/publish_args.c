#include "strandctl/publish_args.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "strandctl/row.h"
#include "strandctl/tags.h"

enum { OPTION_TAG = OPTION_FIRST, OPTION_ID, OPTION_SET, OPTION_ROW, OPTION_STDIN, OPTION_UNROUTED,
       OPTION_WAIT, OPTION_TIMEOUT };

static const struct argp_option options[] = {
	{ "table", 't', "TABLE", 0, "Where to write", 0 },
	{ "tags", 'T', "TAG,...", 0, "Tags, added to those that a strand has", 0 },
	{ "tag", OPTION_TAG, "TAG", 0, "One tag, which may hold a comma; may be repeated", 0 },
	{ "id", OPTION_ID, "ID", 0, "The strand's id; without it a new one is made", 0 },
	{ "set", OPTION_SET, "COLUMN=VALUE", 0, "A column; JSON columns take JSON; may be repeated", 0 },
	{ "json-row", OPTION_ROW, "OBJECT", 0, "Columns as a JSON object", 0 },
	{ "stdin", OPTION_STDIN, 0, 0, "Read strands from standard input, a JSON object a line", 0 },
	{ "allow-unrouted", OPTION_UNROUTED, 0, 0, "Write tags that no route has, and attributes that would not be heeded", 0 },
	{ "wait", OPTION_WAIT, 0, 0, "Wait for the receipts and print the replies", 0 },
	{ "timeout", OPTION_TIMEOUT, "SECONDS", 0, "How long --wait waits (default 60)", 0 },
	{ 0 },
};

static void add_set(struct publish_args *args, char *arg, struct argp_state *state)
{
	char *value = strchr(arg, '=');
	size_t size = (args->n_sets + 1) * sizeof(char *);
	const char **names, **values;

	if (!value || value == arg)
		argp_error(state, "--set %s: give COLUMN=VALUE", arg);
	*value++ = '\0';
	names = realloc(args->set_names, size);
	if (names)
		args->set_names = names;
	values = realloc(args->set_values, size);
	if (values)
		args->set_values = values;
	if (!names || !values)
		argp_failure(state, EXIT_FAULT, 0, "out of memory");
	args->set_names[args->n_sets] = arg;
	args->set_values[args->n_sets++] = value;
}

static void check(const struct publish_args *args, struct argp_state *state)
{
	if (!args->table)
		argp_error(state, "give --table");
	if (args->from_stdin && (args->id || args->json_row || args->n_sets))
		argp_error(state, "--stdin excludes --id, --set and --json-row");
	if (args->timeout_ms >= 0 && !args->wait)
		argp_error(state, "--timeout goes with --wait");
	if (args->id && !*args->id)
		argp_error(state, "--id is empty");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct publish_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case 't':
		args->table = arg;
		return 0;
	case 'T':
		tags_add_list(args->tags, arg);
		return 0;
	case OPTION_TAG:
		tags_add(args->tags, arg);
		return 0;
	case OPTION_ID:
		args->id = arg;
		return 0;
	case OPTION_SET:
		add_set(args, arg, state);
		return 0;
	case OPTION_ROW:
		args->json_row = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (strcmp(arg, "-") != 0)
			argp_error(state, "%s: only - is understood here", arg);
		args->from_stdin = true;
		return 0;
	case OPTION_STDIN:
		args->from_stdin = true;
		return 0;
	case OPTION_UNROUTED:
		args->allow_unrouted = true;
		return 0;
	case OPTION_WAIT:
		args->wait = true;
		return 0;
	case OPTION_TIMEOUT:
		args->timeout_ms = options_number(state, "timeout", arg, 0, 604800) * 1000;
		return 0;
	case ARGP_KEY_END:
		check(args, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

const struct argp publish_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[-]",
	.doc = "Writes a strand, or with - or --stdin one for each line: an object of columns, and"
	       " \"tags\".  A thousand lines are one transaction.  Columns that are not given get the"
	       " table's defaults.  A tag <module>:<action> that no route has on the table is refused."
	       "  With --wait the exit code is 1 when a receipt is failed or expired.",
	.children = options_children,
};

static void add_string(struct buf *b, const char *text)
{
	struct json_object *s = json_object_new_string(text);

	buf_adds(b, json_object_to_json_string_ext(s, TAGS_JSON_FLAGS));
	json_object_put(s);
}

static void add_key(struct buf *b, const char *name)
{
	size_t i = b->len;

	while (i && isspace((unsigned char)b->data[i - 1]))
		i--;
	if (i && b->data[i - 1] != '{')
		buf_adds(b, ", ");
	add_string(b, name);
	buf_adds(b, ": ");
}

/* A JSON column's value is JSON already; of all others the text is what their
 * type reads. */
static int add_set_text(struct buf *b, const struct target *t, const char *name, const char *value,
			struct err *e)
{
	int ret = target_check_column(t, name, e), column = target_column(t, name);
	struct json_object *json;
	char what[128];

	if (ret)
		return ret;
	add_key(b, name);
	if (!target_column_is_json(t, column)) {
		add_string(b, value);
		return 0;
	}
	snprintf(what, sizeof(what), "--set %s: ", name);
	if (strcmp(value, "null") != 0) {
		json = json_read(value, strlen(value), what, e);
		if (!json)
			return e->code;
		json_object_put(json);
	}
	buf_adds(b, value);
	return 0;
}

/* --json-row up to its closing brace, where more can be added. */
static int add_row(struct buf *b, const char *row, struct err *e)
{
	struct json_object *json = json_read(row, strlen(row), "--json-row: ", e);
	bool is_object = json_object_is_type(json, json_type_object);

	if (!json)
		return e->code;
	json_object_put(json);
	if (!is_object)
		return err_set(e, STRAND_EINVAL, "--json-row: not a JSON object");
	buf_add(b, row, (size_t)(strrchr(row, '}') - row));
	return 0;
}

int publish_args_text(const struct publish_args *args, const struct target *t, char **ret_text,
		      struct err *e)
{
	struct buf b = BUF_INIT;
	int ret;

	buf_init(&b);
	ret = add_row(&b, args->json_row ? args->json_row : "{}", e);
	if (!ret && args->id) {
		add_key(&b, "id");
		add_string(&b, args->id);
	}
	for (size_t i = 0; !ret && i < args->n_sets; i++)
		ret = add_set_text(&b, t, args->set_names[i], args->set_values[i], e);
	buf_adds(&b, "}");
	if (!ret && b.failed)
		ret = err_set(e, STRAND_ENOMEM, "out of memory");
	if (!ret)
		*ret_text = buf_steal(&b);
	buf_release(&b);
	return ret;
}

void publish_args_release(struct publish_args *args)
{
	json_object_put(args->tags);
	free(args->set_names);
	free(args->set_values);
}
