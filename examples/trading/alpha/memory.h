/* What alpha knows of its plans: decided, executed, with which outcome. */
#ifndef ALPHA_MEMORY_H
#define ALPHA_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include <strand/data.h>

struct memory_entry;

struct memory {
	const char *account;	/* borrowed */
	struct memory_entry *entries;
	size_t n, size;
};

void memory_release(struct memory *m);

/* Takes a decision (from DM_strands) or a report (from TR_strands); the same one again
 * changes nothing, nor do those of other accounts.  STRAND_ENOMEM, STRAND_EPROTO: it is
 * neither. */
int memory_take(struct memory *m, const struct strand *s);

/* Is the plan refused, or approved and reported? */
bool memory_is_settled(const struct memory *m, const char *plan);

/* How often such a signal was known to have ended at the close of this day, and how
 * often it won: nobody may know more. */
void memory_known(const struct memory *m, const char *signal, const char *day, int *ret_outcomes, int *ret_hits);

#endif
