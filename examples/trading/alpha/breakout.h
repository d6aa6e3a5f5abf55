/* The breakout rule of the trading example, in whole cents; see ../README.md.  Pure. */
#ifndef ALPHA_BREAKOUT_H
#define ALPHA_BREAKOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAST = 55 };		/* candles that the rule looks back at */

struct candle {
	char day[11];		/* 2000-01-03 */
	int64_t high, low, close;
};

struct window {
	struct candle candles[PAST + 1];	/* the newest comes last */
	size_t n;
};

struct breakout {
	const char *signal;	/* static */
	int side;		/* 1: buy, -1: sell short */
	int64_t level, excess;	/* the old high or low, and how far beyond it the close is */
	int64_t sigma;
};

/* A line of data/: date,open,high,low,close,...  false: it is none. */
bool candle_read(struct candle *c, const char *line);

void window_add(struct window *w, const struct candle *c);

/* Does the newest candle's close break out?  Sees no later one. */
bool breakout_find(const struct window *w, struct breakout *ret);

#endif
