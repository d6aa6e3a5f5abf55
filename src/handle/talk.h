/* One exchange on its way, from inside (child_exchange).  Private to src/handle, the
 * worker's thread: requests.c writes, answers.c reads, exchange.c waits for both and
 * sees to the end.
 *
 * Where a function has an int for an answer, anything but 0 says that the exchange was
 * given up.
 */
#ifndef STRANDD_HANDLE_TALK_H
#define STRANDD_HANDLE_TALK_H

#include "handle/slot.h"

struct talk {
	struct child *c;
	struct exchange *x;
	int stop_fd, now_fd;
	size_t oldest, next;		/* all before the one are settled; the other is not yet written */
	unsigned outstanding;		/* between them, not settled */
	size_t done;			/* bytes of c->out that are written */
	uint64_t written, made;		/* bytes of this exchange; made - written wait in c->out */
	size_t taken;			/* bytes of replies */
	int64_t answered_at;
	bool stopping;			/* nothing more is sent */
	bool in_closed;			/* by the process: nothing more can be */
	bool dying;			/* what it wrote is still read */
	bool given_up;
	struct err lost;
};

/* What waits to be written. */
static inline size_t talk_waiting(const struct talk *t)
{
	return (size_t)(t->made - t->written);
}

/* Is the request written, or made, and not settled? */
static inline bool talk_is_out(const struct talk *t, size_t i)
{
	return i < t->next && t->x->requests[i].state == REQUEST_UNSENT;
}

static inline void talk_pass_settled(struct talk *t)
{
	while (t->oldest < t->next && !talk_is_out(t, t->oldest))
		t->oldest++;
}

/* Ends the process, and with that the exchange.  The text goes behind "the process". */
int talk_give_up(struct talk *t, enum order order, int code, const char *sqlstate, const char *text);
int talk_no_memory(struct talk *t);

bool talk_may_send(struct talk *t);		/* is there more, and are we to send it? */
int talk_write(struct talk *t);			/* as much as goes without waiting */
void talk_withdraw(struct talk *t);		/* what is not even begun to be written is not sent */

int talk_read(struct talk *t);			/* what is there, without waiting */

#endif
