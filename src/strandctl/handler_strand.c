/* The strand of `strandctl handler-test CMD`: a JSON object on standard input. */
#include "strandctl/handler_test.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json.h>

#include "handle/json_check.h"

#define STRAND_BYTES_MAX (256u << 20)
#define WANTED "standard input must be one strand, a JSON object such as {\"id\": \"AD_1\", \"tags\": [\"dm:evaluate_plan\"]}"

/* Until there is something, or its end, or the user has had enough. */
static int await_input(struct ctl *ctl, struct err *e)
{
	struct pollfd fds[] = { { .fd = STDIN_FILENO, .events = POLLIN },
				{ .fd = ctl->interrupted.fd, .events = POLLIN } };

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	return fds[1].revents ? err_set(e, STRAND_ESTOPPED, "interrupted") : 0;
}

static int read_all(struct buf *out, struct ctl *ctl, struct err *e)
{
	char piece[65536];
	ssize_t n = 1;

	if (isatty(STDIN_FILENO))
		ctl_warn("reading the strand from the terminal; Ctrl-D ends it");
	while (n > 0 || (n < 0 && errno == EINTR)) {
		int ret = await_input(ctl, e);

		if (ret)
			return ret;
		n = read(STDIN_FILENO, piece, sizeof(piece));
		if (n > 0)
			buf_add(out, piece, (size_t)n);
		if (out->failed)
			return err_set(e, STRAND_ENOMEM, "out of memory");
		if (out->len > STRAND_BYTES_MAX)
			return err_set(e, STRAND_EINVAL, "standard input has more than %u MiB: " WANTED, STRAND_BYTES_MAX >> 20);
	}
	return n < 0 ? err_set(e, STRAND_ESYS, "standard input: %s", strerror(errno)) : 0;
}

/* json_check has passed it: nothing in it is beyond json-c but long numbers, which are
 * not asked for. */
static struct json_object *parse(const struct buf *text)
{
	struct json_tokener *tok = json_tokener_new_ex(JSON_CHECK_DEPTH + 1);
	struct json_object *o = tok ? json_tokener_parse_ex(tok, text->data, (int)text->len) : NULL;

	json_tokener_free(tok);
	return o;
}

static bool addressed(const char *tag)
{
	const char *colon = strchr(tag, ':');

	return colon && colon > tag && colon[1] && !conf_is_attribute(tag, (size_t)(colon - tag));
}

static const char *first_tag(struct json_object *strand)
{
	struct json_object *tags;

	if (!json_object_object_get_ex(strand, "tags", &tags) || !json_object_is_type(tags, json_type_array))
		return NULL;
	for (size_t i = 0; i < json_object_array_length(tags); i++) {
		struct json_object *tag = json_object_array_get_idx(tags, i);

		if (json_object_is_type(tag, json_type_string) && addressed(json_object_get_string(tag)))
			return json_object_get_string(tag);
	}
	return NULL;
}

static int take_members(struct handler_strand *s, struct json_object *strand, struct err *e)
{
	struct json_object *id;
	const char *tag = first_tag(strand);

	if (!json_object_object_get_ex(strand, "id", &id))
		return err_set(e, STRAND_EINVAL, "the strand on standard input has no \"id\": add one, \"id\": \"AD_1\" say");
	if (!json_object_is_type(id, json_type_string) || !json_object_get_string_len(id))
		return err_set(e, STRAND_EINVAL, "the strand's \"id\" on standard input must be a string that is not empty,"
			       " \"AD_1\" say");
	s->id = strdup(json_object_get_string(id));
	s->tag = tag ? strdup(tag) : NULL;
	return s->id && (s->tag || !tag) ? 0 : err_set(e, STRAND_ENOMEM, "out of memory");
}

static int look_at(struct handler_strand *s, struct err *e)
{
	const char *begin = s->text.data + strspn(s->text.data, " \t\r\n");
	struct json_object *strand;
	struct err why;
	int ret;

	if (!*begin && begin == s->text.data + s->text.len)
		return err_set(e, STRAND_EINVAL, "standard input is empty: " WANTED);
	if (json_check(s->text.data, s->text.len, &why))
		return err_set(e, STRAND_EINVAL, "standard input, %s", why.text);
	if (*begin != '{')
		return err_set(e, STRAND_EINVAL, "standard input is no JSON object: " WANTED);
	strand = parse(&s->text);
	if (!strand)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	ret = take_members(s, strand, e);
	json_object_put(strand);
	return ret;
}

int handler_strand_read(struct handler_strand *ret, struct ctl *ctl, struct err *e)
{
	struct handler_strand s = { 0 };
	int code;

	buf_init(&s.text);
	code = read_all(&s.text, ctl, e);
	if (!code)
		code = look_at(&s, e);
	if (code)
		handler_strand_release(&s);
	else
		*ret = s;
	return code;
}

void handler_strand_release(struct handler_strand *s)
{
	buf_release(&s->text);
	free(s->id);
	free(s->tag);
}
