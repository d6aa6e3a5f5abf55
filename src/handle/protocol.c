#include "handle/protocol.h"

#include <string.h>

#include "base/utf8.h"
#include "handle/json_scan.h"
#include "handle/json_string.h"

enum member { ID, ATTEMPT, REPLIES, ERROR, RETRY, READY, N_MEMBERS };

static const char *const names[N_MEMBERS] = {
	[ID] = "id",
	[ATTEMPT] = "attempt",
	[REPLIES] = "replies",
	[ERROR] = "error",
	[RETRY] = "retry",
	[READY] = "ready",
};

/* The members that we know. */
struct members {
	struct json_span value[N_MEMBERS];	/* at NULL: absent */
	unsigned seen[N_MEMBERS];		/* how often it stands there */
	size_t n_replies;
};

void request_write(struct buf *out, const struct request_line *r)
{
	buf_adds(out, "{\"v\":1,\"tag\":");
	json_string_add(out, r->tag, strlen(r->tag));
	buf_adds(out, ",\"source\":");
	json_string_add(out, r->source, strlen(r->source));
	buf_addf(out, ",\"attempt\":%u,\"deadline_ms\":%lld,\"strand\":", r->attempt,
		 (long long)r->deadline_ms);
	json_line_add(out, r->row, r->row_len);
	buf_adds(out, "}\n");
}

const char *answer_quote(const char *text, size_t len, char ret[QUOTE_BYTES])
{
	size_t n = len < QUOTE_BYTES - 4 ? len : QUOTE_BYTES - 4;

	memcpy(ret, text, n);
	ret[n] = '\0';
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)ret[i] < 0x20 || ret[i] == 0x7f)
			ret[i] = '?';
	}
	utf8_mend(ret);
	if (n < len)
		strcat(ret, "...");
	return ret;
}

static bool same(const char *text, size_t len, const char *other)
{
	return len == strlen(other) && !memcmp(text, other, len);
}

/* The key is left as it is: the line may have to be quoted. */
static enum member which(const struct json_span *key)
{
	enum member m = 0;

	while (m < N_MEMBERS && !json_string_is(*key, names[m], strlen(names[m])))
		m++;
	return m;
}

static int find_members(char *line, size_t len, struct members *m)
{
	struct json_scan scan;
	struct json_member member;
	int ret;

	*m = (struct members){ 0 };
	json_scan_init(&scan, line, len);
	while ((ret = json_scan_next(&scan, &member)) > 0) {
		enum member i = which(&member.key);

		if (i == N_MEMBERS || m->seen[i]++)
			continue;
		if (!same(member.value.at, member.value.len, "null"))
			m->value[i] = member.value;
		if (i == REPLIES)
			m->n_replies = member.elements;
	}
	return ret;
}

static int no_answer(const char *line, size_t len, const char *what, struct err *e)
{
	char first[QUOTE_BYTES];

	return err_set(e, STRAND_EPROTO, "%s: \"%s\"", what, answer_quote(line, len, first));
}

/* A string as the text has it: *span, with its quotes, loses them. */
static bool unquote(struct json_span *span)
{
	*span = json_string_inside(*span);
	return span->at != NULL;
}

static int find_id(char *line, size_t len, struct members *m, struct answer *ret, struct err *e)
{
	struct json_span *id = &m->value[ID];
	int r;

	if (m->seen[ID] > 1)
		return no_answer(line, len, "wrote an answer with two \"id\"", e);
	if (!id->at)
		return no_answer(line, len, "wrote an answer without an \"id\"", e);
	if (!unquote(id))
		return no_answer(line, len, "wrote an answer whose \"id\" is no string", e);
	r = json_string_decode(id);
	if (r == STRAND_ENOMEM)
		return err_set(e, r, "no memory for an answer");
	if (r || !id->len || !utf8_valid(id->at, id->len))
		return no_answer(line, len, "wrote an answer whose \"id\" is no text", e);
	ret->id = id->at;
	ret->id_len = id->len;
	return 0;
}

static int find_attempt(const struct json_span *span, struct answer *ret, struct err *e)
{
	unsigned attempt = 0;

	if (!span->at)
		return 0;
	for (size_t i = 0; i < span->len; i++) {
		if (span->len > 9 || span->at[i] < '0' || span->at[i] > '9')
			return err_set(e, STRAND_EINVAL, "wrote an answer whose \"attempt\" is no number");
		attempt = attempt * 10 + (unsigned)(span->at[i] - '0');
	}
	ret->attempt = attempt;
	return 0;
}

/* What is to be right whether it has replies or an error. */
static int check_whole(const char *line, size_t len, const struct members *m, struct err *e)
{
	if (!utf8_valid(line, len))
		return err_set(e, STRAND_EINVAL, "wrote an answer that is not UTF-8");
	for (enum member i = 0; i < N_MEMBERS; i++) {
		if (m->seen[i] > 1)
			return err_set(e, STRAND_EINVAL, "wrote an answer with two \"%s\"", names[i]);
	}
	if (m->value[REPLIES].at && m->value[ERROR].at)
		return err_set(e, STRAND_EINVAL, "wrote an answer with both \"replies\" and \"error\"");
	if (!m->value[REPLIES].at && !m->value[ERROR].at)
		return err_set(e, STRAND_EINVAL, "wrote an answer with neither \"replies\" nor \"error\"");
	return 0;
}

static int find_replies(const struct members *m, struct answer *ret, struct err *e)
{
	const struct json_span *replies = &m->value[REPLIES];

	if (*replies->at != '[')
		return err_set(e, STRAND_EINVAL, "wrote an answer whose \"replies\" are no array");
	ret->kind = ANSWER_REPLIES;
	ret->text = replies->at;
	ret->text_len = replies->len;
	ret->n_replies = m->n_replies;
	return 0;
}

static int find_error(struct members *m, struct answer *ret, struct err *e)
{
	struct json_span *error = &m->value[ERROR];
	const struct json_span *retry = &m->value[RETRY];
	int r = unquote(error) ? json_string_decode(error) : STRAND_EPROTO;
	char *nul;

	if (r == STRAND_ENOMEM)
		return err_set(e, r, "no memory for an answer");
	if (r)
		return err_set(e, STRAND_EINVAL, "wrote an answer whose \"error\" is no string");
	if (retry->at && !same(retry->at, retry->len, "true") && !same(retry->at, retry->len, "false"))
		return err_set(e, STRAND_EINVAL, "wrote an answer whose \"retry\" is neither true nor false");
	/* A text cannot hold it, but JSON can. */
	while ((nul = memchr(error->at, '\0', error->len)))
		*nul = '?';
	ret->kind = ANSWER_ERROR;
	ret->text = error->at;
	ret->text_len = error->len;
	ret->final = retry->at && same(retry->at, retry->len, "false");
	return 0;
}

static bool says_ready(const struct members *m)
{
	const struct json_span *ready = &m->value[READY];

	return ready->at && same(ready->at, ready->len, "true") && !m->seen[ID] && !m->seen[REPLIES] &&
	       !m->seen[ERROR];
}

int answer_parse(char *line, size_t len, struct answer *ret, struct err *e)
{
	struct answer answer = { 0 };
	struct members m;
	int r = find_members(line, len, &m);

	if (r == STRAND_EFULL)
		return no_answer(line, len, "wrote a line that is nested too deep", e);
	if (r)
		return no_answer(line, len, json_scan_other(line, len) ? "wrote a line that is no JSON object"
								       : "wrote a line that is not JSON", e);
	if (says_ready(&m)) {
		*ret = answer;
		return 0;
	}
	r = find_id(line, len, &m, &answer, e);
	if (r)
		return r;
	r = find_attempt(&m.value[ATTEMPT], &answer, e);
	if (!r)
		r = check_whole(line, len, &m, e);
	if (!r)
		r = m.value[REPLIES].at ? find_replies(&m, &answer, e) : find_error(&m, &answer, e);
	if (r != STRAND_ENOMEM)
		*ret = answer;
	return r;
}
