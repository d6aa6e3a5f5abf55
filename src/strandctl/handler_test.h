/* What the files of `strandctl handler-test` share: what is asked for, and what came of
 * it.  The main thread's.
 */
#ifndef STRANDD_STRANDCTL_HANDLER_TEST_H
#define STRANDD_STRANDCTL_HANDLER_TEST_H

#include "base/buf.h"
#include "handle/child.h"
#include "strandctl/ctl.h"
#include "strandctl/options.h"

struct handler_args {
	struct ctl *ctl;
	struct options_list words;	/* a command, or the id of a strand */
	const char *route;		/* its tag; NULL: a command */
	const char *source, *tag;	/* NULL: not given */
	unsigned attempt;		/* 0: not given */
	bool yes;
	bool limits;			/* one of them is given */
	struct conf_route process;	/* the defaults, and the limits that are given */
};

enum handler_outcome {
	HANDLER_REPLIED,
	HANDLER_FAILED,
	HANDLER_EXPIRED,	/* it was not called */
};

/* What the service would see. */
struct handler_verdict {
	enum handler_outcome outcome;
	const char *id, *tag, *source;	/* borrowed */
	unsigned attempt;
	struct buf replies;		/* REPLIED: a JSON array */
	size_t n_replies;
	struct err why;			/* FAILED; "" in its sqlstate where there is none */
	bool retry;			/* FAILED: it would be tried again */
	const char *becomes;		/* FAILED: what the service would do, static */
	char *receipt;			/* as it would be stored, JSON; owned; NULL: there is none */
	int64_t ms;			/* that the handler took */
};

/* handler_strand.c: a strand that somebody wrote. */
struct handler_strand {
	struct buf text;
	char *id, *tag;			/* tag: the first that is addressed to a module, or NULL */
};

/* Reads standard input to its end.  STRAND_EINVAL: it is no strand, *e names the place and
 * the remedy; STRAND_ESTOPPED. */
int handler_strand_read(struct handler_strand *ret, struct ctl *ctl, struct err *e) MUST_CHECK;
void handler_strand_release(struct handler_strand *s);

/* handler_process.c: starts a process of this policy, hands it the one request of `x` and
 * ends it.  0: the request's state says what came of it, and *ret_ms how long it took;
 * STRAND_EHANDLER: the process cannot be started, or was gone before it had read the
 * request; STRAND_ESTOPPED; STRAND_ENOMEM, STRAND_ESYS. */
int handler_process_ask(const struct child_policy *policy, struct exchange *x, struct ctl *ctl, int64_t *ret_ms,
			struct err *e) MUST_CHECK;

/* Of such an exchange with a process that delivers at least once (or, `once`, at most):
 * fills the verdict, but for replies, which nobody has looked at yet. */
void handler_process_judge(struct handler_verdict *v, const struct exchange *x, bool once);

/* handler_choose.c: also one that this configuration's daemon leaves to another.
 * STRAND_ENOENT, with the nearest; STRAND_EINVAL: there are several. */
int handler_choose_route(const struct conf_route **ret, const struct handler_args *args, struct err *e) MUST_CHECK;

/* handler_route.c: --route TAG ID. */
int handler_route_run(const struct handler_args *args, struct handler_verdict *v, struct err *e) MUST_CHECK;

/* handler_show.c: to the user; an exit code. */
int handler_show(const struct ctl *ctl, const struct handler_verdict *v);

#endif
