#include "handle/slot.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

#define FINISH_MS 1000		/* to leave by itself for a process that is ended */
#define KILL_AGAIN_MS 1000	/* what SIGKILL did not end by then is told so again */
#define KILLS_MAX 5		/* ... and then, when we leave ourselves, left behind */

#define TO(state) (1u << (state))

static const unsigned moves[] = {
	[CHILD_WAITING] = TO(CHILD_STARTING) | TO(CHILD_UP),
	[CHILD_STARTING] = TO(CHILD_UP) | TO(CHILD_LEAVING),
	[CHILD_UP] = TO(CHILD_LEAVING),
	[CHILD_LEAVING] = TO(CHILD_WAITING),
};

void slot_move(struct child *c, enum child_state to)
{
	assert(moves[c->state] & TO(to));
	c->state = to;
}

/* What a step goes by, as it was under the lock. */
struct view {
	enum order order;
	bool held, to_leave;	/* for good */
	uint64_t epoch;
};

static struct view look(struct child *c)
{
	struct supervisor *s = c->s;
	struct view v;

	pthread_mutex_lock(&s->lock);
	v = (struct view){ .order = c->order, .held = c->held, .epoch = s->epoch,
			   .to_leave = c->removed || s->stopping };
	if (v.to_leave && c->state != CHILD_WAITING) {
		enum order least = s->stopping ? ORDER_FINISH : ORDER_LEAVE;

		if (c->order < least)
			c->order = least;
		v.order = c->order;
	}
	pthread_mutex_unlock(&s->lock);
	return v;
}

void slot_order(struct child *c, enum order order, const char *reason)
{
	pthread_mutex_lock(&c->s->lock);
	if (order > c->order) {
		c->order = order;
		snprintf(c->reason, sizeof(c->reason), "%s", reason);
	}
	pthread_mutex_unlock(&c->s->lock);
}

/* The group's number is ours while its leader is not reaped; then it may be another's. */
static void signal_group(struct child *c, int signal)
{
	assert(c->process.pid > 1 && !c->gone);
	kill(-c->process.pid, signal);
}

/* Phases only go on; the same one again may end sooner. */
static void enter(struct child *c, enum phase phase, int64_t ms, const struct view *v, int64_t now)
{
	int64_t until = now + ms * NSEC_PER_MSEC;

	if (phase == c->phase && until < c->phase_until)
		c->phase_until = until;
	if (phase <= c->phase)
		return;
	c->phase = phase;
	c->phase_until = until;
	if (phase == PHASE_EOF && !v->held)
		close_fd(&c->process.in);
	else if (phase == PHASE_TERM)
		signal_group(c, SIGTERM);
	else if (phase == PHASE_KILL)
		signal_group(c, SIGKILL);
}

static void obey(struct child *c, const struct view *v, int64_t now)
{
	int64_t grace = c->policy.grace_ms;

	if (v->order <= c->acted)
		return;
	c->acted = v->order;
	if (c->state != CHILD_LEAVING) {
		pthread_mutex_lock(&c->s->lock);
		slot_move(c, CHILD_LEAVING);
		pthread_mutex_unlock(&c->s->lock);
	}
	if (v->order == ORDER_LEAVE)
		enter(c, PHASE_EOF, grace, v, now);
	else if (v->order == ORDER_FINISH)
		enter(c, PHASE_EOF, grace < FINISH_MS ? grace : FINISH_MS, v, now);
	else if (v->order == ORDER_TERM)
		enter(c, PHASE_TERM, grace, v, now);
	else
		enter(c, PHASE_KILL, KILL_AGAIN_MS, v, now);
}

static void kill_again(struct child *c, int64_t now)
{
	const struct log_fields f = { .route = c->policy.name, .source = c->policy.source };

	signal_group(c, SIGKILL);
	c->phase_until = now + KILL_AGAIN_MS * NSEC_PER_MSEC;
	if (++c->kills == KILLS_MAX)
		log_event(LOG_LEVEL_ERROR, &f, "handler %u (pid %d) is not ended by SIGKILL", c->number,
			  (int)c->process.pid);
}

static void escalate(struct child *c, const struct view *v, int64_t now)
{
	if (c->phase == PHASE_RUN || now < c->phase_until)
		return;
	if (c->phase == PHASE_EOF)
		enter(c, PHASE_TERM, c->policy.grace_ms, v, now);
	else if (c->phase == PHASE_TERM)
		enter(c, PHASE_KILL, KILL_AGAIN_MS, v, now);
	else
		kill_again(c, now);
}

/* It is on its way out. */
static void see_off(struct child *c, const struct view *v, int64_t now)
{
	bool alone = c->dead && c->out_closed && c->process.err < 0;

	if (c->dead && !alone && c->phase < PHASE_TERM)
		enter(c, PHASE_TERM, c->policy.grace_ms, v, now);
	escalate(c, v, now);
	if (alone || (c->dead && c->phase == PHASE_KILL) || (v->to_leave && c->kills >= KILLS_MAX))
		slot_bury(c, now);
}

static void see_whether_ready(struct child *c, int64_t now)
{
	char reason[80];

	if (c->state != CHILD_STARTING || now < c->ready_until)
		return;
	snprintf(reason, sizeof(reason), "was not ready within %g s", (double)c->policy.start_timeout_ms / 1000);
	slot_order(c, ORDER_TERM, reason);
}

static void see_whether_to_start(struct child *c, const struct view *v, int64_t now)
{
	if (v->to_leave)
		return;
	/* All are to be replaced: what the last one died of may be mended. */
	if (v->epoch != c->epoch) {
		pace_forget(&c->pace);
		c->start_at = now;
	}
	if (now >= c->start_at)
		slot_start(c, v->epoch, now);
}

static int64_t next_step(const struct child *c, const struct view *v)
{
	switch (c->state) {
	case CHILD_WAITING:
		return v->to_leave ? INT64_MAX : c->start_at;
	case CHILD_STARTING:
		return c->ready_until;
	case CHILD_LEAVING:
		return c->gone || c->phase == PHASE_RUN ? INT64_MAX : c->phase_until;
	default:
		return INT64_MAX;
	}
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t slot_step(struct child *c, int64_t now)
{
	struct view v;
	int64_t next;

	see_whether_ready(c, now);
	v = look(c);
	if (c->state == CHILD_WAITING)
		see_whether_to_start(c, &v, now);
	else if (!c->gone)
		obey(c, &v, now);
	if (c->state == CHILD_LEAVING && !c->gone)
		see_off(c, &v, now);
	/* Its worker may hold it for a while yet. */
	if (c->state == CHILD_LEAVING && c->gone && !v.held)
		slot_conclude(c, v.to_leave, now);
	c->over = v.to_leave && c->state == CHILD_WAITING;
	next = next_step(c, &v);
	if (c->process.err >= 0) {
		next = earlier(next, errlog_tell(&c->errlog, now));
		next = earlier(next, now < c->errlog.look_at ? c->errlog.look_at : INT64_MAX);
	}
	return next;
}

void slot_watch(const struct child *c, struct pollfd fds[SLOT_FDS], int64_t now)
{
	bool dead = c->dead;

	fds[0] = (struct pollfd){ .fd = dead ? -1 : c->process.pidfd, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = now < c->errlog.look_at ? -1 : c->process.err, .events = POLLIN };
	fds[2] = (struct pollfd){ .fd = -1 };
	if (c->state == CHILD_STARTING)
		fds[2] = (struct pollfd){ .fd = c->process.out, .events = POLLIN };
	/* Only whether it is closed: who holds it reads it. */
	else if (dead && !c->gone && !c->out_closed)
		fds[2].fd = c->process.out;
}

void slot_serve(struct child *c, const struct pollfd fds[SLOT_FDS], int64_t now)
{
	if (fds[1].revents && errlog_read(&c->errlog, c->process.err, now) == STRAND_ECONN)
		close_fd(&c->process.err);
	if (fds[2].revents && c->state == CHILD_STARTING)
		slot_hear(c);
	else if (fds[2].revents)
		c->out_closed = true;
	if (fds[0].revents)
		slot_died(c, now);
}

struct child *slot_new(struct supervisor *s, const struct child_policy *policy, unsigned number)
{
	struct child *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	*c = (struct child){ .s = s, .number = number, .news = { .fd = -1 }, .process = PROCESS_NONE };
	if (child_policy_copy(&c->policy, policy) || event_init(&c->news) ||
	    pace_init(&c->pace, policy->backoff_initial_ms, policy->backoff_cap_ms, policy->starts_per_minute)) {
		slot_free(c);
		return NULL;
	}
	return c;
}

void slot_free(struct child *c)
{
	if (!c)
		return;
	process_release(&c->process);
	line_reader_release(&c->lines);
	buf_release(&c->out);
	pace_release(&c->pace);
	event_release(&c->news);
	child_policy_release(&c->policy);
	free(c);
}
