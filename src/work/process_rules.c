#include "work/process_rules.h"

#include <limits.h>
#include <stdio.h>

#define RESTART_FIRST_MS 100
#define RESTART_CAP_MS 30000

struct child_policy process_policy(const struct conf_route *c)
{
	int one = c->delivery == DELIVERY_AT_MOST_ONCE ? 1 : INT_MAX;

	return (struct child_policy){
		.name = c->tag, .source = c->source, .argv = c->command, .environment = c->environment,
		.directory = c->directory, .user = c->user, .says_ready = c->says_ready,
		.in_flight = (unsigned)(c->in_flight ? c->in_flight : one),
		.start_timeout_ms = c->start_timeout_ms, .timeout_ms = c->deadline_ms, .grace_ms = c->grace_ms,
		.max_requests = (unsigned)c->max_requests, .max_lifetime_ms = c->max_lifetime_ms,
		.max_line = (size_t)c->max_line, .max_replies = (unsigned)c->max_replies,
		.backoff_initial_ms = RESTART_FIRST_MS, .backoff_cap_ms = RESTART_CAP_MS,
		.starts_per_minute = (unsigned)c->restart_rate,
		.stderr_lines_per_second = (unsigned)c->stderr_rate,
	};
}

bool process_charge_work(const struct err *why, bool once, struct err *ret_why)
{
	*ret_why = *why;
	if (!once)
		return false;
	err_set(ret_why, why->code, "%s; nobody knows what the handler did", why->text);
	snprintf(ret_why->sqlstate, sizeof(ret_why->sqlstate), "%s", SQLSTATE_UNKNOWN);
	return true;
}

bool process_charge(const struct exchange *x, const struct request *q, bool once, struct err *ret_why)
{
	struct err why = { .code = STRAND_EHANDLER };

	if (q->state == REQUEST_LOST)
		return process_charge_work(&x->lost, once, ret_why);
	err_set(&why, STRAND_EHANDLER, "%s", q->text);
	snprintf(why.sqlstate, sizeof(why.sqlstate), "%s", q->refused ? SQLSTATE_HANDLER_GARBAGE
		 : q->final ? SQLSTATE_FINAL : SQLSTATE_HANDLER_ERROR);
	/* What it answered is no answer, but it has worked. */
	if (q->refused)
		return process_charge_work(&why, once, ret_why);
	*ret_why = why;
	return q->final;
}
