#include "strandctl/explain_why.h"

#include <string.h>

enum why { NO_TAG, NO_ROUTE, DETACHED, NOT_ADOPTED, HISTORY, FOREIGN, BELOW, HELD, SUSPENDED, TIMED_OUT, NO_SERVICE,
	   WAITING, TURN, RUNNING, ORPHANED, RETRY, RETRY_DUE, FAILED, UNKNOWN, EXPIRED, WITHDRAWN, SKIPPED, DONE, GONE,
	   AGAIN };

static const struct explain_why whys[] = {
	[NO_TAG] = { "no_tag", "it bears no tag of the form <module>:<action>: nobody gets it",
		"write a new strand with one" },
	[NO_ROUTE] = { "no_route", "no route leads this tag from this table: nobody gets it",
		"strandctl attach makes one; for a misspelt tag, write a new strand" },
	[DETACHED] = { "detached", "the route is detached", "strandctl attach --deliver-existing delivers it" },
	[NOT_ADOPTED] = { "not_adopted", "the route was attached in another database cluster: strandd serves none of those",
		"strandctl adopt --continue, --deliver or --skip" },
	[HISTORY] = { "history", "it was there before its route was attached: history is not delivered",
		"write a new strand" },
	[FOREIGN] = { "foreign", "its transaction id is of another database cluster: no scan finds it",
		"strandctl adopt --deliver or --skip" },
	[BELOW] = { "below_position", "all that was written with it is accounted for, and it has no receipt: it was tagged"
		" while the table's triggers were off, or its receipt was deleted; no scan finds it",
		"write a new strand; strandctl doctor looks at the triggers" },
	[HELD] = { "held", "a session has it in hand now", NULL },
	[SUSPENDED] = { "suspended", "the route is suspended: its handler is broken, its strands wait",
		"mend the handler, then strandctl resume" },
	[TIMED_OUT] = { "timed_out", "its timeout is over: it will be marked error:timeout, and not run",
		"write a new strand" },
	[NO_SERVICE] = { "no_service", "no strandd is connected to this database", "start strandd" },
	[WAITING] = { "waiting", "nobody has taken it yet: it is on its way, or behind others",
		"if it stays so: strandctl status tells what waits, strandd's log whether it serves the route" },
	[TURN] = { "turn", "the route is serial, and another batch has its turn", NULL },
	[RUNNING] = { "running", "its handler is at work on it", NULL },
	[ORPHANED] = { "orphaned", "the instance that had it is gone: another one takes it over, or, where the route delivers"
		" at most once, marks it error:outcome_unknown", NULL },
	[RETRY] = { "retry", "an attempt has failed, and the next is not due yet", NULL },
	[RETRY_DUE] = { "retry_due", "an attempt has failed, and the next is due: it waits for a worker",
		"if it stays so: strandctl status tells what waits, strandd's log whether it serves the route" },
	[FAILED] = { "failed", "it has failed as often as the route allows", "strandctl failed retry, or failed discard" },
	[UNKNOWN] = { "outcome_unknown", "nobody knows what its handler did, and the route delivers at most once",
		"find out what it did; then strandctl failed discard, or failed retry --force" },
	[EXPIRED] = { "expired", "its timeout was over before its handler could begin", "write a new strand" },
	[WITHDRAWN] = { "withdrawn", "an operator took it off the route", "write a new strand" },
	[SKIPPED] = { "skipped", "it was there before its route was attached: history is not delivered",
		"write a new strand" },
	[DONE] = { "done", "it was delivered; that happens once, whatever is written to it later", NULL },
	[GONE] = { "gone", "the strand was deleted; its receipt follows at a cleanup", NULL },
	[AGAIN] = { "tagged_again", "it was tagged again after its receipt: a strand is delivered once on a route, so it does"
		" not run again", "write a new strand, with a new id" },
};

/* Without a receipt. */
static enum why unread(const struct explain_facts *f)
{
	if (!f->attached)
		return DETACHED;
	if (!f->adopted)
		return NOT_ADOPTED;
	if (f->history)
		return HISTORY;
	if (f->held)
		return HELD;
	if (f->foreign)
		return FOREIGN;
	if (f->below)
		return BELOW;
	if (f->suspended)
		return SUSPENDED;
	if (!f->served)
		return NO_SERVICE;
	if (f->timed_out)
		return TIMED_OUT;
	return f->turn ? TURN : WAITING;
}

static enum why waits_again(const struct explain_facts *f)
{
	if (!f->attached)
		return DETACHED;
	if (!f->adopted)
		return NOT_ADOPTED;
	if (f->held)
		return HELD;
	if (f->suspended)
		return SUSPENDED;
	if (!f->served)
		return NO_SERVICE;
	if (!f->due)
		return RETRY;
	return f->turn ? TURN : RETRY_DUE;
}

static enum why settled(const struct explain_facts *f)
{
	static const struct {
		const char *state;
		enum why why;
	} states[] = { { "expired", EXPIRED }, { "withdrawn", WITHDRAWN }, { "skipped", SKIPPED }, { "done", DONE } };

	if (!strcmp(f->state, "failed"))
		return f->unknown ? UNKNOWN : FAILED;
	if (f->again)
		return AGAIN;
	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++)
		if (!strcmp(states[i].state, f->state))
			return states[i].why;
	return DONE;
}

static enum why decide(const struct explain_facts *f)
{
	if (!f->routed)
		return f->tagged ? NO_ROUTE : NO_TAG;
	if (!f->exists)
		return GONE;
	if (!f->state)
		return unread(f);
	if (!strcmp(f->state, "running"))
		return f->alive ? RUNNING : f->served ? ORPHANED : NO_SERVICE;
	return !strcmp(f->state, "retry") ? waits_again(f) : settled(f);
}

const struct explain_why *explain_why(const struct explain_facts *f)
{
	return &whys[decide(f)];
}
