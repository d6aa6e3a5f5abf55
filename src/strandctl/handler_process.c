/* One strand before one process: through the same supervisor, slot and exchange as in
 * strandd. */
#include "strandctl/handler_test.h"

#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "handle/supervisor.h"
#include "work/process_rules.h"

#define GONE_MS 5000	/* for the supervisor to say why it is gone */
#define LINGER_MS 100	/* for what a process writes behind its answer */

/* It was there, and was gone before it had read the request. */
static int tell_gone(struct child *c, const struct child_policy *policy, struct ctl *ctl, struct err *e)
{
	int ret = child_wait(c, clock_after_ms(policy->grace_ms + GONE_MS), ctl->interrupted.fd, e);

	if (ret == STRAND_ESTOPPED || ret == STRAND_EINVAL)
		return ret;
	err_set(e, STRAND_EINVAL, "the process ended before it had read the strand");
	snprintf(e->sqlstate, sizeof(e->sqlstate), "%s", SQLSTATE_HANDLER_START);
	return STRAND_EINVAL;
}

/* What stands behind an answer would cost the process its next strand.  The log is told. */
static void linger(struct child *c, struct ctl *ctl)
{
	struct exchange nothing = { .tag = "", .source = "" };

	(void)!event_wait(&ctl->interrupted, clock_after_ms(LINGER_MS));
	(void)!child_exchange(c, &nothing, -1, ctl->interrupted.fd, NULL);
	/* Where it is ended for that, until the log has been told; else at once. */
	(void)!child_wait(c, clock_after_ms(LINGER_MS), ctl->interrupted.fd, NULL);
}

static int ask(struct child *c, const struct child_policy *policy, struct exchange *x, struct ctl *ctl, int64_t *ret_ms,
	       struct err *e)
{
	/* Its start has a deadline of its own, behind which the supervisor ends it. */
	int64_t began, deadline = clock_after_ms(policy->start_timeout_ms + policy->grace_ms + GONE_MS);
	int ret = child_wait(c, deadline, ctl->interrupted.fd, e);

	began = clock_now();
	if (!ret)
		ret = child_exchange(c, x, -1, ctl->interrupted.fd, e);
	*ret_ms = (clock_now() - began) / NSEC_PER_MSEC;
	if (!ret && x->lost.code == STRAND_ESTOPPED)
		ret = err_set(e, STRAND_ESTOPPED, "interrupted");
	if (!ret && x->requests[0].state == REQUEST_UNSENT)
		ret = tell_gone(c, policy, ctl, e);
	else if (!ret && x->requests[0].state == REQUEST_ANSWERED)
		linger(c, ctl);
	if (ret == STRAND_EINVAL || ret == STRAND_ETIMEOUT)
		e->code = ret = STRAND_EHANDLER;
	return ret;
}

int handler_process_ask(const struct child_policy *policy, struct exchange *x, struct ctl *ctl, int64_t *ret_ms,
			struct err *e)
{
	struct child_policy once = *policy;
	struct supervisor *s;
	struct child *c;
	int ret;

	once.single = true;
	/* A process may have closed its standard input. */
	signal(SIGPIPE, SIG_IGN);
	ret = supervisor_start(&s, e);
	if (ret)
		return ret;
	ret = supervisor_add(s, &once, 0, &c, e);
	if (!ret) {
		ret = ask(c, &once, x, ctl, ret_ms, e);
		supervisor_remove(s, c);
	}
	supervisor_stop(s);
	return ret;
}

void handler_process_judge(struct handler_verdict *v, const struct exchange *x, bool once)
{
	const struct request *q = &x->requests[0];

	if (q->state == REQUEST_ANSWERED) {
		v->outcome = HANDLER_REPLIED;
		v->n_replies = q->n_replies;
		return;
	}
	v->outcome = HANDLER_FAILED;
	v->retry = !process_charge(x, q, once, &v->why);
}
