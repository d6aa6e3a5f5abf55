#include "handle/pace.h"

#include <stdlib.h>

#include "base/backoff.h"
#include "base/clock.h"

#define MINUTE (60 * NSEC_PER_SEC)

int pace_init(struct pace *p, int64_t initial_ms, int64_t cap_ms, unsigned per_minute)
{
	*p = (struct pace){ .initial_ms = initial_ms, .cap_ms = cap_ms, .per_minute = per_minute };
	if (!per_minute)
		return 0;
	p->starts = calloc(per_minute, sizeof(*p->starts));
	return p->starts ? 0 : STRAND_ENOMEM;
}

void pace_release(struct pace *p)
{
	free(p->starts);
	p->starts = NULL;
}

int64_t pace_after_death(struct pace *p, bool was_of_use, int64_t lived_ms, int64_t now)
{
	int64_t wait = backoff_ms(p->deaths + 1, p->initial_ms, p->cap_ms), start;

	if (was_of_use || lived_ms > wait) {
		p->deaths = 0;
		wait = backoff_ms(1, p->initial_ms, p->cap_ms);
	}
	p->deaths++;
	start = now + wait * NSEC_PER_MSEC;
	if (!p->per_minute)
		return start;
	/* As many starts ago: at least a minute has to be between the two. */
	if (p->starts[p->at] && start < p->starts[p->at] + MINUTE)
		start = p->starts[p->at] + MINUTE;
	p->starts[p->at] = start;
	p->at = (p->at + 1) % p->per_minute;
	return start;
}

void pace_forget(struct pace *p)
{
	p->deaths = 0;
}
