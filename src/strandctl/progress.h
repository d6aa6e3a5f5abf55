/* A progress bar on standard error, when that is a terminal.
 * Drawn at most ten times a second, never wider than the terminal; belongs to one
 * thread.
 */
#ifndef STRANDD_STRANDCTL_PROGRESS_H
#define STRANDD_STRANDCTL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *label;	/* borrowed */
	int64_t total;		/* 0: not known */
	int64_t started, drawn;	/* clock_now() */
	bool on;
};

void progress_start(struct progress *p, const char *label, int64_t total);

/* `part` of `total` is done (bytes, say), which makes `count` things. */
void progress_show(struct progress *p, int64_t part, int64_t count);

/* Wipes the bar, so that lines can be printed; the next show draws it again. */
void progress_wipe(struct progress *p);

#endif
