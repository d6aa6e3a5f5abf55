#include "libstrand/request.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "handle/json_string.h"

enum { PROTOCOL = 1, QUOTED = 80 };

/* A whole number; anything else is no number. */
static int64_t number(struct json_span value)
{
	int64_t n = 0;

	if (!value.len || value.len > 15)
		return -1;
	for (size_t i = 0; i < value.len; i++) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return -1;
		n = n * 10 + (value.at[i] - '0');
	}
	return n;
}

/* Keeps what is there already: one handler's requests have one tag as a rule. */
static int set_text(char **text, struct json_span value)
{
	struct json_span inside = json_string_inside(value);

	if (!inside.at)
		return STRAND_EPROTO;
	if (*text && json_string_is(inside, *text, strlen(*text)))
		return 0;
	free(*text);
	*text = NULL;
	return json_string_copy(inside, text);
}

static bool is_named(struct json_span key, const char *name)
{
	return json_string_is(key, name, strlen(name));
}

static int take_member(struct request *r, const struct json_member *m, struct json_span *ret_row)
{
	if (is_named(m->key, "strand")) {
		*ret_row = m->value;
		return view_row(&r->strand, m->value.at, m->value.len);
	}
	if (is_named(m->key, "tag")) {
		r->has_tag = true;
		return set_text(&r->tag, m->value);
	}
	if (is_named(m->key, "source")) {
		r->has_source = true;
		return set_text(&r->source, m->value);
	}
	if (is_named(m->key, "v"))
		r->version = number(m->value);
	else if (is_named(m->key, "attempt"))
		r->attempt = number(m->value);
	else if (is_named(m->key, "deadline_ms"))
		r->deadline_ms = number(m->value);
	return 0;
}

static int refuse(const char *line, const char *why, struct err *e)
{
	return err_set(e, STRAND_EPROTO, "this is no request of strandd's, %s: \"%.*s\"", why, QUOTED, line);
}

/* What all members together must be. */
static int check(struct request *r, const char *line, bool has_strand, struct err *e)
{
	if (r->version != PROTOCOL)
		return refuse(line, r->version < 0 ? "without a version" : "of another version than 1", e);
	if (!has_strand || !r->has_tag)
		return refuse(line, has_strand ? "without a tag" : "without a strand", e);
	r->strand.tag = r->tag;
	r->strand.source = r->has_source ? r->source : "";
	r->strand.attempt = r->attempt < 0 || r->attempt > INT_MAX ? 1 : (int)r->attempt;
	r->strand.deadline = r->deadline_ms < 0 ? INT64_MAX : clock_after_ms(r->deadline_ms);
	return 0;
}

int request_read(struct request *r, char *line, size_t len, struct err *e)
{
	struct json_scan scan;
	struct json_member member;
	struct json_span row = { 0 };
	int ret, more;

	r->version = r->attempt = r->deadline_ms = -1;
	r->has_tag = r->has_source = false;
	json_scan_init(&scan, line, len);
	do {
		more = json_scan_next(&scan, &member);
		ret = more > 0 ? take_member(r, &member, &row) : more;
	} while (!ret && more > 0);
	if (ret == STRAND_ENOMEM)
		return err_set(e, ret, "out of memory");
	if (ret)
		return refuse(line, more < 0 ? "no JSON object" : "with a member that is not as it should be", e);
	ret = check(r, line, row.at != NULL, e);
	/* The row's text ends here; what follows has been read. */
	if (!ret)
		row.at[row.len] = '\0';
	return ret;
}

void request_release(struct request *r)
{
	view_release(&r->strand);
	free(r->tag);
	free(r->source);
	*r = (struct request){ 0 };
}
