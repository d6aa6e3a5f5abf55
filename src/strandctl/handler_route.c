/* strandctl handler-test --route: a configured handler on a strand of the database. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "strandctl/ask.h"
#include "strandctl/handler_test.h"
#include "work/process_rules.h"
#include "work/rehearse.h"

#define TURN_MS 10000	/* in which a strand should be to be had again */

/* --- which strand ------------------------------------------------------------- */

enum { STATE_SIZE = 16 };

/* `state`: its receipt's, or "". */
static int find_strand(struct ctl *ctl, const struct route *r, const char *id, char state[STATE_SIZE], struct err *e)
{
	const char *values[] = { id };
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_addf(&sql, "SELECT coalesce(t.tags @> %s, false), coalesce(t.tags::text, 'null'), coalesce((SELECT p.state"
		 " FROM %s p WHERE p.route = %d AND p.strand_id = strandd.receipt_key($1) COLLATE \"C\"), '')"
		 " FROM %s t WHERE t.id = $1", r->tag_array, r->receipts, r->number, r->source);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory") : ctl_query(ctl, sql.data, 1, values, &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	if (!PQntuples(res))
		ret = err_set(e, STRAND_ENOENT, "no strand %s in %s; strandctl recent --table %s shows some", id, r->source,
			      r->source);
	else if (*PQgetvalue(res, 0, 0) != 't')
		ret = err_set(e, STRAND_ENOENT, "strand %s does not bear the tag %s, but %.200s: the route would never get it;"
			      " write a copy with the tag", id, r->conf->tag, PQgetvalue(res, 0, 1));
	else
		snprintf(state, STATE_SIZE, "%s", PQgetvalue(res, 0, 2));
	PQclear(res);
	return ret;
}

/* What makes this run one too many, or nearly. */
static const char *other_runs(const char *state)
{
	static const struct {
		const char *state, *means;
	} all[] = {
		{ "", "strandd will run it on this strand as well" },
		{ "retry", "strandd will run it on this strand as well" },
		{ "running", "strandd is just running it on this strand, or has died with it" },
		{ "done", "strandd has run it on this strand already" },
		{ "failed", "strandd may have run it on this strand already, which failed" },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!strcmp(all[i].state, state))
			return all[i].means;
	return "strandd will not run it on this strand";
}

/* What a process does is done. */
static int confirm(const struct handler_args *args, const struct route *r, const char *state, struct err *e)
{
	static const char real[] = "what its handler does outside of the database is real, and is not rolled back";
	char question[700];

	if (!route_is_process(r))
		return 0;
	if (!strcmp(state, "running"))
		ctl_warn("the receipt of strand %s is a lease: strandd has it in hand, or has died with it", args->words.items[0]);
	if (r->conf->delivery != DELIVERY_AT_MOST_ONCE || args->yes)
		return 0;
	if (!isatty(STDIN_FILENO))
		return err_set(e, STRAND_EINVAL, "%s delivers at most once, and %s; %s: say --yes if that is meant", r->conf->tag,
			       real, other_runs(state));
	snprintf(question, sizeof(question), "%.200s delivers at most once, and %s; %s.\nRun it on strand %.200s?", r->conf->tag,
		 real, other_runs(state), args->words.items[0]);
	return ask_yes(args->ctl, question, e);
}

/* --- what came of it ---------------------------------------------------------- */

static const char *consequence(enum fault fault)
{
	switch (fault) {
	case FAULT_CONFIGURATION:
		return "the route would be suspended, or, where other strands go through, the strand be charged with it";
	case FAULT_CONNECTION:
		return "the strand would run again alone, behind a lease, and be charged with it if it comes again";
	default:
		return "the strand would be tried again soon, a few times at no cost";
	}
}

static int take_replies(struct handler_verdict *v, const PGresult *rows, struct err *e)
{
	v->n_replies = (size_t)PQntuples(rows);
	buf_adds(&v->replies, "[");
	for (int i = 0; i < PQntuples(rows); i++)
		buf_addf(&v->replies, "%s%s", i ? ", " : "", PQgetvalue(rows, i, 0));
	buf_adds(&v->replies, "]");
	return v->replies.failed ? err_set(e, STRAND_ENOMEM, "out of memory") : 0;
}

static int take(struct handler_verdict *v, struct rehearsed *d, struct err *e)
{
	v->receipt = d->receipt;
	d->receipt = NULL;
	v->why = d->why;
	switch (d->state) {
	case ITEM_SETTLED:
		v->outcome = HANDLER_REPLIED;
		return take_replies(v, d->replies, e);
	case ITEM_EXPIRED:
		v->outcome = HANDLER_EXPIRED;
		return 0;
	case ITEM_TAKEN:
		return err_set(e, STRAND_EFULL, "another session has strand %s, or the turn of its serial route, in hand: try"
			       " it again in a moment", v->id);
	case ITEM_GONE:
		return err_set(e, STRAND_ENOENT, "strand %s is gone, or history of a route that is just being attached", v->id);
	default:
		v->outcome = HANDLER_FAILED;
		v->retry = d->state != ITEM_FAILED;
		v->becomes = d->state == ITEM_PUT_OFF ? consequence(d->fault)
			: v->retry ? "the strand would be tried again after its backoff"
			: "the strand would be failed, and not be tried again";
		return 0;
	}
}

/* The process has run, and is not to have run for nothing because a service has looked at
 * the strand just now. */
static int settle(struct rehearsal *r, const struct exchange *x, struct ctl *ctl, struct rehearsed *d, struct err *e)
{
	int64_t enough = clock_after_ms(TURN_MS);
	int ret = rehearse_answer(r, x, d, e);

	while (!ret && d->state == ITEM_TAKEN && clock_now() < enough) {
		(void)!event_wait(&ctl->interrupted, clock_after_ms(TURN_MS / 100));
		ret = ctl_interrupted(ctl) ? err_set(e, STRAND_ESTOPPED, "interrupted") : rehearse_answer(r, x, d, e);
	}
	if (!ret && d->state == ITEM_TAKEN)
		ret = err_set(e, STRAND_EFULL, "the process has run, but another session has strand %s, or the turn of its"
			      " serial route, in hand since: what it answered was not looked at", r->id);
	return ret;
}

/* --- the two kinds ------------------------------------------------------------ */

static int run_function(struct rehearsal *r, struct handler_verdict *v, struct err *e)
{
	struct rehearsed d;
	int64_t began = clock_now();
	int ret = rehearse_function(r, &d, e);

	v->ms = (clock_now() - began) / NSEC_PER_MSEC;
	if (!ret)
		ret = take(v, &d, e);
	rehearsed_release(&d);
	return ret;
}

static int run_process(struct rehearsal *r, struct handler_verdict *v, char *row, struct ctl *ctl, struct err *e)
{
	const struct conf_route *conf = r->batch.route->conf;
	struct child_policy policy = process_policy(conf);
	struct request q = { .id = v->id, .attempt = v->attempt, .row = row, .row_len = strlen(row) };
	struct exchange x = { .tag = conf->tag, .source = conf->source, .n = 1, .requests = &q };
	struct rehearsed d = { 0 };
	int ret = handler_process_ask(&policy, &x, ctl, &v->ms, e);

	if (ret == STRAND_EHANDLER) {
		v->outcome = HANDLER_FAILED;
		v->why = *e;
		v->becomes = "the route would be suspended after three such starts, if no other process of it works: mend its command, user or directory";
		ret = 0;
	} else if (!ret) {
		ret = settle(r, &x, ctl, &d, e);
		if (!ret)
			ret = take(v, &d, e);
	}
	rehearsed_release(&d);
	exchange_release(&x);
	return ret;
}

static int hand_out(struct rehearsal *r, struct handler_verdict *v, struct ctl *ctl, struct err *e)
{
	struct rehearsed d;
	char *row;
	int ret = rehearse_hand_out(r, &row, &d, e);

	if (!ret && row)
		ret = run_process(r, v, row, ctl, e);
	else if (!ret)
		ret = take(v, &d, e);
	free(row);
	rehearsed_release(&d);
	return ret;
}

/* As strandd's workers have it, but for the name. */
static struct conn_target service_target(const struct ctl *ctl)
{
	struct conn_target t = ctl->target;

	t.lock_timeout_ms = ctl->conf->db_lock_timeout_ms;
	t.idle_in_transaction_ms = SESSION_IDLE_IN_TRANSACTION_MS;
	return t;
}

static int rehearse(const struct handler_args *args, struct rehearsal *r, struct handler_verdict *v, struct err *e)
{
	const struct route *route = r->batch.route;
	char state[STATE_SIZE] = "";
	int ret = find_strand(args->ctl, route, v->id, state, e);

	if (!ret)
		ret = confirm(args, route, state, e);
	if (ret)
		return ret;
	if (route->suspended)
		ctl_warn("the route is suspended: strandd probes it now and then, and strandctl resume %s ends that",
			 route->conf->tag);
	rehearsal_choose(r, v->id, v->attempt);
	return route_is_process(route) ? hand_out(r, v, args->ctl, e) : run_function(r, v, e);
}

int handler_route_run(const struct handler_args *args, struct handler_verdict *v, struct err *e)
{
	struct ctl *ctl = args->ctl;
	const struct conf_route *route;
	struct conn_target target;
	struct rehearsal r = { 0 };
	int ret = ctl_connect_installed(ctl, e);

	if (!ret)
		ret = handler_choose_route(&route, args, e);
	if (ret)
		return ret;
	target = service_target(ctl);
	v->id = args->words.items[0];
	v->tag = route->tag;
	v->source = route->source;
	ret = rehearsal_open(&r, ctl->conf, route, &target, ctl->conn, ctl->interrupted.fd, e);
	if (ret)
		return ret;
	ret = rehearse(args, &r, v, e);
	rehearsal_close(&r);
	return ret;
}
