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

static bool charge_failed(const struct request *q, bool once, struct err *ret_why)
{
	/* What it answered is no answer, but it has worked. */
	bool final = q->final || (q->refused && once);

	err_set(ret_why, STRAND_EHANDLER, "%s", q->text);
	snprintf(ret_why->sqlstate, sizeof(ret_why->sqlstate), "%s", q->refused ? SQLSTATE_HANDLER_GARBAGE
		 : final ? SQLSTATE_FINAL : SQLSTATE_HANDLER_ERROR);
	return final;
}

bool process_charge(const struct exchange *x, const struct request *q, bool once, struct err *ret_why)
{
	*ret_why = (struct err){ 0 };
	if (q->state == REQUEST_FAILED)
		return charge_failed(q, once, ret_why);
	*ret_why = x->lost;
	if (!once)
		return false;
	err_set(ret_why, x->lost.code, "%s; nobody knows what the handler did", x->lost.text);
	snprintf(ret_why->sqlstate, sizeof(ret_why->sqlstate), "%s", SQLSTATE_UNKNOWN);
	return true;
}
