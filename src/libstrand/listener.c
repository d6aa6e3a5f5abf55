#include "libstrand/listener.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/clock.h"

enum {
	CONNECT_MS = 10000,
	RETRY_FIRST_MS = 100,
	RETRY_CAP_MS = 10000,
};

/* The connection is of no use any more: another one, but not at once, unless there is
 * another host to be tried. */
static void away(struct strand_listener *l)
{
	unsigned hosts = link_hosts(&l->link);

	link_drop(&l->link);
	catchup_break_off(l);
	l->phase = PHASE_AWAY;
	l->trouble = l->err;
	l->failures++;
	l->retry_at = clock_now();
	if (l->failures % hosts == 0)
		l->retry_at = clock_after_ms(backoff_ms(l->failures / hosts, RETRY_FIRST_MS, RETRY_CAP_MS));
}

static int connect_step(struct strand_listener *l)
{
	int ret;

	if (l->phase == PHASE_AWAY) {
		if (clock_now() < l->retry_at) {
			l->until = INT64_MAX;
			return LINK_AGAIN;
		}
		l->phase = PHASE_CONNECTING;
		l->until = clock_after_ms(CONNECT_MS);
	}
	ret = link_connect(&l->link, &l->err);
	if (ret)
		return ret;
	l->at = 0;
	return session_send_table(l);
}

/* Nothing is under way: what is the next thing to do? */
static int idle_step(struct strand_listener *l)
{
	int ret = link_look(&l->link, &l->err);

	if (ret)
		return ret;
	session_take_notes(l);
	if (l->pending.n < PENDING_ROOM && l->pass.active)
		return catchup_next_page(l);
	if (l->pending.n < PENDING_ROOM && (l->missed || clock_now() >= l->look_at))
		return catchup_begin(l);
	for (int urgent = 1; urgent >= 0; urgent--) {
		struct chunk *c = &l->chunks[urgent];

		if (!c->rows && (c->n || l->pending.lines[urgent].first))
			return session_load(l, c);
	}
	l->until = INT64_MAX;
	return LINK_AGAIN;
}

/* One step on: 0; LINK_AGAIN: there is nothing to do but to wait; an error. */
static int step(struct strand_listener *l)
{
	switch (l->phase) {
	case PHASE_AWAY:
	case PHASE_CONNECTING:
		return connect_step(l);
	case PHASE_TABLES:
		return session_take_table(l);
	case PHASE_LISTENING:
		return session_take_listen(l);
	case PHASE_LOADING:
		return session_take_rows(l);
	case PHASE_SNAPSHOT:
		return catchup_take_snapshot(l);
	case PHASE_PAGE:
		return catchup_take_page(l);
	default:
		return idle_step(l);
	}
}

static bool listens(const struct strand_listener *l)
{
	return l->phase >= PHASE_IDLE && l->base.snapshot;
}

/* When to wake up without being called: for the next look, or the next attempt. */
static int64_t next_event(const struct strand_listener *l)
{
	if (l->phase == PHASE_AWAY)
		return l->retry_at;
	return l->phase == PHASE_IDLE && l->look_at < l->until ? l->look_at : l->until;
}

/* Waits until there is something to do; 0, or what ends the call. */
static int wait_step(struct strand_listener *l, int64_t deadline)
{
	int64_t event = next_event(l);
	int ret = link_wait(&l->link, l->stop_fd, event < deadline ? event : deadline);

	/* The connection may always have more to say. */
	if (!ret && clock_now() >= deadline)
		return STRAND_ETIMEOUT;
	if (ret != STRAND_ETIMEOUT)
		return ret;
	if (clock_now() >= l->until) {
		/* An attempt that takes too long is the host's fault, an answer the session's. */
		if (l->phase == PHASE_CONNECTING)
			link_give_up(&l->link, "no answer in time", &l->err);
		else
			err_set(&l->err, STRAND_ECONN, "no answer from the server in time");
		away(l);
		return 0;
	}
	return clock_now() >= deadline ? STRAND_ETIMEOUT : 0;
}

/* Faults that another connection would not mend are told, the others are lived with. */
static bool is_lasting(int code)
{
	return code == STRAND_EINVAL || code == STRAND_ESQL || code == STRAND_ENOMEM;
}

/* What was read: 1; 0: there is none; an error. */
static int hand_out(struct strand_listener *l)
{
	int ret = session_hand_out(l, &l->chunks[1]);

	return ret ? ret : session_hand_out(l, &l->chunks[0]);
}

/* Gets on until something is to be handed out (with `start`: until it listens). */
static int drive(struct strand_listener *l, bool start, int64_t deadline)
{
	for (;;) {
		int ret = start ? listens(l) : hand_out(l);

		if (ret)
			return ret < 0 ? ret : 0;
		ret = step(l);
		if (l->link.pg)
			session_take_notes(l);
		if (ret == LINK_AGAIN)
			ret = wait_step(l, deadline);
		else if (ret)
			away(l);
		if (ret == STRAND_ESTOPPED || ret == STRAND_ETIMEOUT || is_lasting(ret))
			return ret;
	}
}

static bool is_stopped(const struct strand_listener *l)
{
	return poll(&(struct pollfd){ .fd = l->stop_fd, .events = POLLIN }, 1, 0) > 0;
}

/* What a call without a result says of why. */
static int without_result(struct strand_listener *l, int ret)
{
	if (ret == STRAND_ESTOPPED)
		return err_set(&l->err, ret, "the listener was told to stop");
	if (ret != STRAND_ETIMEOUT)
		return ret;
	if (listens(l))
		return err_set(&l->err, ret, "no strand came in time");
	if (!l->trouble.code)
		return err_set(&l->err, STRAND_ECONN, "not connected yet");
	l->err = l->trouble;
	return l->err.code = STRAND_ECONN;
}

static int call(struct strand_listener *l, bool start, int timeout_ms)
{
	int64_t deadline = timeout_ms < 0 ? INT64_MAX : clock_after_ms(timeout_ms);
	int ret;

	l->err = (struct err){ 0 };
	if (!l->window.buckets || !l->n_routes)
		return err_set(&l->err, STRAND_EINVAL, "there is no tag to listen on");
	l->started = true;
	view_forget(&l->current);
	if (is_stopped(l))
		return without_result(l, STRAND_ESTOPPED);
	/* What is urgent goes before what is there already. */
	if (l->phase > PHASE_CONNECTING && link_look(&l->link, &l->err))
		away(l);
	session_take_notes(l);
	ret = drive(l, start, deadline);
	if (ret)
		return without_result(l, ret);
	l->err = (struct err){ 0 };
	return 0;
}

int strand_listener_start(struct strand_listener *l, int timeout_ms)
{
	return call(l, true, timeout_ms);
}

int strand_listener_next(struct strand_listener *l, int timeout_ms, const struct strand **ret_strand)
{
	int ret = call(l, false, timeout_ms);

	if (!ret)
		*ret_strand = &l->current;
	return ret;
}

int strand_listener_run(struct strand_listener *l, strand_listener_fn *fn, void *arg)
{
	const struct strand *strand;
	int ret;

	do {
		ret = strand_listener_next(l, -1, &strand);
		if (!ret)
			ret = fn(strand, arg);
	} while (!ret);
	return ret;
}

void strand_listener_stop(struct strand_listener *l)
{
	uint64_t one = 1;
	int code = errno;

	if (write(l->stop_fd, &one, sizeof(one)) < 0) {
		/* It is full: told often enough. */
	}
	errno = code;
}

const char *strand_listener_error(const struct strand_listener *l)
{
	return l ? l->err.text : "out of memory";
}

void strand_listener_set_interval(struct strand_listener *l, int interval_ms)
{
	l->interval_ms = interval_ms < 1 ? 1 : interval_ms;
}
