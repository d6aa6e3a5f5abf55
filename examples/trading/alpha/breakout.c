#include "breakout.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

enum { MOVES = 20 };

static const struct rule {
	const char *signal;
	int side;
	size_t lookback;
	bool upwards;
} rules[] = {
	{ "breakout_55", 1, 55, true },
	{ "breakout_20", 1, 20, true },
	{ "breakdown_55", -1, 55, false },
	{ "dip_20", 1, 20, false },
};

/* "1438.359985" is 143836 cents. */
static bool read_cents(const char **text, int64_t *ret)
{
	const char *p = *text;
	int64_t cents = 0;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++)
		cents = cents * 10 + (*p - '0');
	if (*p == '.')
		p++;
	for (int i = 0; i < 2; i++)
		cents = cents * 10 + (isdigit((unsigned char)*p) ? *p++ - '0' : 0);
	cents += *p >= '5' && *p <= '9';
	*text = p + strspn(p, "0123456789");
	*ret = cents;
	return true;
}

bool candle_read(struct candle *c, const char *line)
{
	int64_t prices[4];
	const char *p = line + 10;

	if (strlen(line) < 11 || !isdigit((unsigned char)*line))
		return false;
	for (int i = 0; i < 4; i++)
		if (*p++ != ',' || !read_cents(&p, &prices[i]))
			return false;
	memcpy(c->day, line, sizeof(c->day) - 1);
	c->day[sizeof(c->day) - 1] = '\0';
	c->high = prices[1];
	c->low = prices[2];
	c->close = prices[3];
	return true;
}

void window_add(struct window *w, const struct candle *c)
{
	if (w->n == PAST + 1)
		memmove(w->candles, w->candles + 1, --w->n * sizeof(*c));
	w->candles[w->n++] = *c;
}

static int64_t root(int64_t square)
{
	int64_t r = (int64_t)sqrt((double)square);

	while (r * r > square)
		r--;
	while ((r + 1) * (r + 1) <= square)
		r++;
	return r;
}

/* The standard deviation (n - 1) of the last moves, to the cent: half a cent goes up. */
static int64_t sigma_of(const struct candle *newest)
{
	int64_t sum = 0, squares = 0;

	for (int i = 0; i < MOVES; i++) {
		int64_t move = newest[-i].close - newest[-i - 1].close;

		sum += move;
		squares += move * move;
	}
	return (root(4 * (MOVES * squares - sum * sum) / (MOVES * (MOVES - 1))) + 1) / 2;
}

static int64_t level_of(const struct candle *newest, const struct rule *r)
{
	int64_t level = r->upwards ? newest[-1].high : newest[-1].low;

	for (size_t i = 2; i <= r->lookback; i++) {
		const struct candle *c = newest - i;

		if (r->upwards ? c->high > level : c->low < level)
			level = r->upwards ? c->high : c->low;
	}
	return level;
}

bool breakout_find(const struct window *w, struct breakout *ret)
{
	const struct candle *newest = &w->candles[w->n - 1];
	int64_t sigma;

	if (w->n <= MOVES)
		return false;
	sigma = sigma_of(newest);
	for (size_t i = 0; sigma && i < sizeof(rules) / sizeof(rules[0]); i++) {
		const struct rule *r = &rules[i];
		int64_t level, excess;

		if (r->lookback >= w->n)
			continue;
		level = level_of(newest, r);
		excess = r->upwards ? newest->close - level : level - newest->close;
		if (4 * excess < sigma)
			continue;
		*ret = (struct breakout){ r->signal, r->side, level, excess, sigma };
		return true;
	}
	return false;
}
