/* The requests of an exchange, written to the process's stdin. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "handle/protocol.h"
#include "handle/talk.h"

#define WRITE_AHEAD 65536		/* bytes that wait to be written: more are not made */
#define TAKEN_MAX (64u << 20)		/* bytes of replies in hand: no more requests are sent */

bool talk_may_send(struct talk *t)
{
	size_t max = t->c->policy.max_line > TAKEN_MAX ? t->c->policy.max_line : TAKEN_MAX;

	if (t->stopping || t->in_closed || t->next == t->x->n || t->taken >= max)
		return false;
	t->stopping = t->x->may_send && !t->x->may_send(t->x->arg);
	return !t->stopping;
}

static bool is_late(struct talk *t, struct request *r, int64_t now)
{
	if (!r->send_before || now < r->send_before)
		return false;
	r->state = REQUEST_LATE;
	r->begin = t->made;
	t->next++;
	talk_pass_settled(t);
	return true;
}

/* Makes requests as far as they may be sent, and a little ahead of what is written. */
static int make_requests(struct talk *t, int64_t now)
{
	const struct child_policy *p = &t->c->policy;
	struct buf *out = &t->c->out;
	unsigned in_flight = p->in_flight ? p->in_flight : 1;

	while (talk_may_send(t) && t->outstanding < in_flight && talk_waiting(t) < WRITE_AHEAD) {
		struct request *r = &t->x->requests[t->next];
		size_t before = out->len;

		if (is_late(t, r, now))
			continue;
		request_write(out, &(struct request_line){ .tag = t->x->tag, .source = t->x->source,
			      .attempt = r->attempt, .deadline_ms = p->timeout_ms, .row = r->row,
			      .row_len = r->row_len });
		if (out->failed)
			return talk_no_memory(t);
		r->begin = t->made;
		r->sent_at = now;
		t->made += out->len - before;
		t->next++;
		t->outstanding++;
	}
	return 0;
}

void talk_withdraw(struct talk *t)
{
	while (t->next > t->oldest && t->x->requests[t->next - 1].begin >= t->written) {
		bool out = talk_is_out(t, t->next - 1);
		struct request *r = &t->x->requests[--t->next];

		if (!out)
			continue;
		t->c->out.len -= (size_t)(t->made - r->begin);
		t->made = r->begin;
		t->outstanding--;
	}
}

static void close_in(struct talk *t)
{
	t->in_closed = true;
	talk_withdraw(t);
	buf_clear(&t->c->out);
	t->done = 0;
	t->made = t->written;
}

/* Takes what is written from the buffer. */
static void move_on(struct talk *t)
{
	struct buf *out = &t->c->out;

	if (!talk_waiting(t)) {
		buf_clear(out);
		t->done = 0;
	} else if (t->done >= WRITE_AHEAD) {
		memmove(out->data, out->data + t->done, out->len - t->done);
		out->len -= t->done;
		t->done = 0;
	}
}

int talk_write(struct talk *t)
{
	struct buf *out = &t->c->out;
	int ret = make_requests(t, clock_now());

	while (!ret && talk_waiting(t)) {
		ssize_t n = write(t->c->process.in, out->data + t->done, out->len - t->done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			close_in(t);
			return 0;
		}
		t->done += (size_t)n;
		t->written += (size_t)n;
	}
	move_on(t);
	return ret;
}
