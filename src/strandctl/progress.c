#include "strandctl/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define BAR_WIDTH 30
#define DRAW_EVERY (NSEC_PER_SEC / 10)

void progress_start(struct progress *p, const char *label, int64_t total)
{
	*p = (struct progress){
		.label = label,
		.total = total,
		.started = clock_now(),
		.on = isatty(STDERR_FILENO),
	};
}

static void draw_bar(double share)
{
	char bar[BAR_WIDTH + 1];
	size_t full = (size_t)(share * BAR_WIDTH);

	memset(bar, '.', BAR_WIDTH);
	memset(bar, '#', full);
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, " [%s] %3.0f%%", bar, share * 100);
}

void progress_show(struct progress *p, int64_t part, int64_t count)
{
	int64_t now = clock_now();
	double seconds = (double)(now - p->started) / NSEC_PER_SEC;
	double share = p->total > 0 ? (double)part / (double)p->total : 0;

	if (!p->on || now - p->drawn < DRAW_EVERY)
		return;
	p->drawn = now;
	/* An estimated total may be too small. */
	share = share > 1 ? 1 : share;
	fprintf(stderr, "\r%s", p->label);
	if (p->total > 0)
		draw_bar(share);
	fprintf(stderr, " %" PRId64, count);
	if (seconds > 0.5)
		fprintf(stderr, ", %.0f/s", (double)count / seconds);
	if (seconds > 2 && share > 0.01 && share < 1)
		fprintf(stderr, ", %.0f s left", seconds / share - seconds);
	fputs("\033[K", stderr);
}

void progress_wipe(struct progress *p)
{
	if (p->on && p->drawn)
		fputs("\r\033[K", stderr);
	p->drawn = 0;
}
