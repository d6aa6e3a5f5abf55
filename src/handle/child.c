#include "handle/child.h"

#include <poll.h>

#include "base/beat.h"
#include "base/clock.h"
#include "handle/slot.h"

#define SETTLED_MS 1000		/* up for so long, a process counts as one that works */

/* 0: it is up; STRAND_EINVAL: a start failed, and that has not been told; 1: neither. */
static int look(struct child *c, struct err *e)
{
	int ret = 1;

	pthread_mutex_lock(&c->s->lock);
	/* One that is up may be about to fail like the last one did, unless it is proven. */
	if (c->trouble.code && !(slot_usable(c) && c->proven)) {
		ret = c->trouble.code;
		if (e)
			*e = c->trouble;
	} else if (slot_usable(c)) {
		ret = 0;
	}
	if (ret <= 0)
		c->trouble.code = 0;
	pthread_mutex_unlock(&c->s->lock);
	return ret;
}

static int wait_for_news(struct child *c, int64_t deadline, int stop_fd)
{
	struct pollfd fds[2] = {
		{ .fd = c->news.fd, .events = POLLIN },
		{ .fd = stop_fd, .events = POLLIN },	/* poll passes over -1 */
	};

	for (;;) {
		int left = clock_left_ms(deadline), n = poll(fds, 2, beat_left_ms(deadline));

		beat_now();
		if (n > 0 && fds[1].revents)
			return STRAND_ESTOPPED;
		if (n > 0)
			return 0;
		if (left == 0)
			return STRAND_ETIMEOUT;
	}
}

int child_wait(struct child *c, int64_t deadline, int stop_fd, struct err *e)
{
	for (;;) {
		int ret;

		/* Before the look: what changes after it is signalled again. */
		event_clear(&c->news);
		ret = look(c, e);
		if (ret <= 0)
			return ret;
		ret = wait_for_news(c, deadline, stop_fd);
		if (ret == STRAND_ESTOPPED)
			return err_set(e, ret, "told to stop");
		if (ret)
			return err_set(e, ret, "handler %u is not up", c->number);
	}
}

unsigned child_failed_starts(const struct child *c)
{
	unsigned n;

	pthread_mutex_lock(&c->s->lock);
	n = c->failed_starts;
	pthread_mutex_unlock(&c->s->lock);
	return n;
}

bool child_is_up(const struct child *c)
{
	bool up;

	pthread_mutex_lock(&c->s->lock);
	up = slot_usable(c);
	pthread_mutex_unlock(&c->s->lock);
	return up;
}

/* The lock is held. */
static bool is_settled(const struct child *c, int64_t now)
{
	return c->state == CHILD_UP && (c->proven || now - c->up_at >= SETTLED_MS * NSEC_PER_MSEC);
}

bool child_is_hopeless(const struct child *c, unsigned starts)
{
	int64_t now = clock_now();
	bool hopeless;

	pthread_mutex_lock(&c->s->lock);
	hopeless = c->failed_starts >= starts;
	for (const struct child *other = c->s->children; hopeless && other; other = other->next)
		hopeless = other == c || other->removed || !is_settled(other, now) ||
			   !child_policy_same_route(&other->policy, &c->policy);
	pthread_mutex_unlock(&c->s->lock);
	return hopeless;
}

/* The lock is held in what follows. */
static bool is_worn(const struct child *c, int64_t now)
{
	const struct child_policy *p = &c->policy;

	return (p->max_requests && c->served >= p->max_requests) ||
	       (p->max_lifetime_ms && (now - c->born_at) / NSEC_PER_MSEC >= p->max_lifetime_ms);
}

/* No other of the route is being replaced. */
static bool is_its_turn(const struct child *c, int64_t now)
{
	for (struct child *other = c->s->children; other; other = other->next) {
		if (other == c || other->removed || !child_policy_same_route(&other->policy, &c->policy))
			continue;
		if (other->replacing && !is_settled(other, now))
			return false;
		other->replacing = false;
	}
	return true;
}

void child_tidy(struct child *c)
{
	int64_t now = clock_now();
	bool leave = false;

	pthread_mutex_lock(&c->s->lock);
	if (slot_usable(c)) {
		bool outdated = c->epoch != c->s->epoch;

		leave = is_worn(c, now);
		if (outdated && (leave || is_its_turn(c, now))) {
			c->replacing = true;
			leave = true;
		}
	}
	if (leave)
		c->order = ORDER_LEAVE;
	pthread_mutex_unlock(&c->s->lock);
	if (leave)
		event_signal(&c->s->work);
}
