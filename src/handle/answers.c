/* The answers of an exchange, read from the process's stdout. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "handle/protocol.h"
#include "handle/talk.h"

#define PIECES 16	/* read in one turn */

static void settled(struct talk *t, int64_t now)
{
	t->answered_at = now;
	t->outstanding--;
	talk_pass_settled(t);
}

static struct request *find(struct talk *t, const struct answer *a)
{
	for (size_t i = t->oldest; i < t->next; i++) {
		struct request *r = &t->x->requests[i];

		if (talk_is_out(t, i) && r->begin < t->written && !strncmp(r->id, a->id, a->id_len) &&
		    !r->id[a->id_len])
			return a->attempt && a->attempt != r->attempt ? NULL : r;
	}
	return NULL;
}

/* One that comes too late, twice, or was never asked for. */
static void drop(struct talk *t, const struct answer *a)
{
	char id[256];

	snprintf(id, sizeof(id), "%.*s", (int)(a->id_len < sizeof(id) ? a->id_len : sizeof(id)), a->id);
	log_event(LOG_LEVEL_WARNING,
		  &(struct log_fields){ .route = t->c->policy.name, .source = t->c->policy.source, .strand = id,
					.attempt = (int)a->attempt },
		  "handler %u (pid %d) wrote an answer that nobody waits for: it is dropped", t->c->number,
		  (int)t->c->process.pid);
}

static int settle(struct talk *t, struct request *r, enum request_state state, const char *text, size_t len)
{
	char *copy = malloc(len + 1);

	if (!copy)
		return talk_no_memory(t);
	memcpy(copy, text, len);
	copy[len] = '\0';
	r->text = copy;
	r->text_len = len;
	r->state = state;
	settled(t, clock_now());
	return 0;
}

static int refuse(struct talk *t, struct request *r, const char *why)
{
	struct err e;

	r->refused = true;
	err_set(&e, 0, "the process %s", why);
	return settle(t, r, REQUEST_FAILED, e.text, strlen(e.text));
}

static int take_answer(struct talk *t, struct request *r, const struct answer *a)
{
	unsigned max = t->c->policy.max_replies;
	char why[80];

	if (a->kind == ANSWER_ERROR) {
		r->final = a->final;
		return settle(t, r, REQUEST_FAILED, a->text, a->text_len);
	}
	if (max && a->n_replies > max) {
		snprintf(why, sizeof(why), "wrote %zu replies: more than %u are not taken", a->n_replies, max);
		return refuse(t, r, why);
	}
	t->taken += a->text_len;
	r->n_replies = a->n_replies;
	return settle(t, r, REQUEST_ANSWERED, a->text, a->text_len);
}

static int take_line(struct talk *t, char *line, size_t len)
{
	struct answer a;
	struct request *r;
	struct err e;
	int ret = answer_parse(line, len, &a, &e);

	if (ret == STRAND_ENOMEM)
		return talk_no_memory(t);
	if (ret == STRAND_EPROTO)
		return talk_give_up(t, ORDER_TERM, ret, SQLSTATE_HANDLER_GARBAGE, e.text);
	/* A library may always say it, whether the route waits for it or not. */
	if (!ret && a.kind == ANSWER_READY)
		return 0;
	r = find(t, &a);
	if (!r)
		drop(t, &a);
	else
		return ret ? refuse(t, r, e.text) : take_answer(t, r, &a);
	return 0;
}

static int over_long(struct talk *t, const char *line, size_t len)
{
	char text[QUOTE_BYTES + 80], first[QUOTE_BYTES];

	snprintf(text, sizeof(text), "wrote a line of more than %zu bytes: \"%s\"", t->c->policy.max_line,
		 answer_quote(line, len, first));
	return talk_give_up(t, ORDER_TERM, STRAND_EPROTO, SQLSTATE_HANDLER_GARBAGE, text);
}

static int take_lines(struct talk *t)
{
	char *line;
	size_t len;
	int ret;

	while ((ret = line_reader_next(&t->c->lines, &line, &len)) > 0) {
		ret = take_line(t, line, len);
		if (ret)
			return ret;
	}
	return ret == STRAND_EFULL ? over_long(t, line, len) : 0;
}

/* How it ended is filled in when it has. */
static int died(struct talk *t)
{
	return talk_give_up(t, ORDER_FINISH, STRAND_ECONN, SQLSTATE_HANDLER_DIED, "closed its standard output");
}

int talk_read(struct talk *t)
{
	for (int i = 0; i < PIECES; i++) {
		int ret = line_reader_read(&t->c->lines, t->c->process.out);

		if (ret == STRAND_ETIMEOUT)
			return t->dying ? died(t) : 0;
		if (ret == STRAND_ENOMEM)
			return talk_no_memory(t);
		if (ret)
			return died(t);
		ret = take_lines(t);
		if (ret)
			return ret;
	}
	return 0;
}
