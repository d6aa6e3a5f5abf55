/* The Alpha Detector in C: candles on standard input, a plan for each breakout.
 *
 *	alpha CONNINFO [ACCOUNT [SYMBOL]] <../data/sp500-2000.csv
 *
 * After each candle it says "<day> <the plan's id, or ->", when the plan has been decided
 * and executed; so whoever feeds it is the market's clock.  It may be killed and started
 * anew with the same candles: what was published before is known by its id.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <strand/strand.h>

#include "breakout.h"
#include "memory.h"

enum {
	PATIENCE_S = 60,
	HOLD_DAYS = 20,
	RECALL_MAX = 1000000,
};

struct alpha {
	const char *account, *symbol;
	struct strand_client *client;
	struct strand_listener *listener;
	struct memory memory;
	struct window window;
};

static int fail(const char *what, int code, const char *why)
{
	fprintf(stderr, "alpha: %s: %s: %s\n", what, strand_error_name(code), why);
	return -1;
}

static const char *money(char out[32], int64_t cents)
{
	snprintf(out, 32, "%lld.%02d", (long long)(cents / 100), (int)(cents % 100));
	return out;
}

/* The plan itself, and what it was made of: JSON columns of the strand. */
static void add_plan(struct strand_row *strand, const struct alpha *a, const struct breakout *b,
		     const struct candle *today, int outcomes, int hits)
{
	struct strand_row *plan = strand_row_new(), *pack = strand_row_new();
	char text[32];

	if (plan && pack) {
		strand_row_set_text(plan, "account", a->account);
		strand_row_set_text(plan, "day", today->day);
		strand_row_set_text(plan, "signal", b->signal);
		strand_row_set_int(plan, "side", b->side);
		strand_row_set_json(plan, "close", money(text, today->close));
		strand_row_set_json(plan, "stop_distance", money(text, 4 * b->sigma));
		strand_row_set_json(plan, "target_distance", money(text, 4 * b->sigma));
		strand_row_set_int(plan, "hold_days", HOLD_DAYS);
		strand_row_set_int(plan, "outcomes", outcomes);
		strand_row_set_int(plan, "hits", hits);
		strand_row_set_text(pack, "signal", b->signal);
		strand_row_set_json(pack, "level", money(text, b->level));
		strand_row_set_json(pack, "sigma", money(text, b->sigma));
	}
	strand_row_set_json(strand, "trading_plan", plan && strand_row_json(plan) ? strand_row_json(plan) : "");
	strand_row_set_json(strand, "signal_pack", pack && strand_row_json(pack) ? strand_row_json(pack) : "");
	strand_row_free(plan);
	strand_row_free(pack);
}

static int write_strand(struct alpha *a, struct strand_row *strand)
{
	const char *json = strand_row_json(strand);
	int ret = json ? strand_client_write(a->client, NULL, json, NULL, 0, NULL) : STRAND_EINVAL;

	/* Published before. */
	if (ret == STRAND_ESQL && !strcmp(strand_client_sqlstate(a->client), "23505"))
		return 0;
	return ret ? fail("publishing", ret, json ? strand_client_error(a->client) : strand_row_error(strand)) : 0;
}

static int publish(struct alpha *a, const struct breakout *b, const char *id)
{
	const struct candle *today = &a->window.candles[a->window.n - 1];
	struct strand_row *strand = strand_row_new();
	int outcomes, hits, ret;

	if (!strand)
		return fail("publishing", STRAND_ENOMEM, "out of memory");
	memory_known(&a->memory, b->signal, today->day, &outcomes, &hits);
	strand_row_set_text(strand, "id", id);
	strand_row_set_text(strand, "kind", "signal");
	strand_row_set_text(strand, "symbol", a->symbol);
	strand_row_set_text(strand, "timeframe", "1d");
	strand_row_set_double(strand, "sig_sigma", (double)b->excess / (double)b->sigma);
	strand_row_set_double(strand, "sig_confidence", (hits + 1.0) / (outcomes + 2));
	strand_row_set_text(strand, "sig_direction", b->side > 0 ? "long" : "short");
	add_plan(strand, a, b, today, outcomes, hits);
	strand_row_add_tag(strand, "dm:evaluate_plan");
	ret = write_strand(a, strand);
	strand_row_free(strand);
	return ret;
}

/* Learns from all that it hears until the plan is decided and executed. */
static int await(struct alpha *a, const char *plan)
{
	time_t until = time(NULL) + PATIENCE_S;

	while (!memory_is_settled(&a->memory, plan)) {
		const struct strand *answer;
		int ret = strand_listener_next(a->listener, 1000, &answer);

		if (!ret && memory_take(&a->memory, answer))
			return fail(strand_id(answer), STRAND_EPROTO, "neither a decision nor a report");
		/* Lost connections are the listener's own business. */
		if (ret && ret != STRAND_ETIMEOUT && ret != STRAND_ECONN)
			return fail("listening", ret, strand_listener_error(a->listener));
		if (ret && time(NULL) > until)
			return fail(plan, ret, "it is not settled: does strandd run, with the routes of trading.conf?");
	}
	return 0;
}

static int take_candle(struct alpha *a, const struct candle *c)
{
	struct breakout b;
	char id[64] = "-";

	window_add(&a->window, c);
	if (breakout_find(&a->window, &b)) {
		snprintf(id, sizeof(id), "AD_%.20s_%.20s_%s", a->account, a->symbol, c->day);
		if (publish(a, &b, id) || await(a, id))
			return -1;
	}
	printf("%s %s\n", c->day, id);
	fflush(stdout);
	return 0;
}

/* What was decided and reported before this program was started. */
static int recall(struct alpha *a, const char *table, const char *tag)
{
	struct strand_set *set;
	int ret = strand_client_recent(a->client, table, &tag, 1, RECALL_MAX, &set);

	if (ret)
		return fail(table, ret, strand_client_error(a->client));
	for (size_t i = 0; !ret && i < strand_set_size(set); i++)
		ret = memory_take(&a->memory, strand_set_get(set, i));
	strand_set_free(set);
	return ret ? fail(table, ret, "neither a decision nor a report") : 0;
}

/* It listens before it reads what there was: nothing falls in between. */
static int begin(struct alpha *a, const char *conninfo)
{
	int ret = strand_listener_open(&a->listener, conninfo, "alpha");

	if (!ret)
		ret = strand_listener_start(a->listener, PATIENCE_S * 1000);
	if (ret)
		return fail("listening", ret, strand_listener_error(a->listener));
	ret = strand_client_open(&a->client, conninfo, "alpha", NULL);
	if (ret)
		return fail("connecting", ret, strand_client_error(a->client));
	ret = recall(a, "DM_strands", "alpha:decision_feedback");
	return ret ? ret : recall(a, "TR_strands", "alpha:execution_feedback");
}

int main(int argc, char **argv)
{
	struct alpha a = { .account = argc > 2 ? argv[2] : "paper", .symbol = argc > 3 ? argv[3] : "SPX" };
	char line[256];
	int ret;

	if (argc < 2) {
		fprintf(stderr, "usage: alpha CONNINFO [ACCOUNT [SYMBOL]] <CANDLES\n");
		return 2;
	}
	a.memory.account = a.account;
	ret = begin(&a, argv[1]);
	while (!ret && fgets(line, sizeof(line), stdin)) {
		struct candle c;

		if (candle_read(&c, line))
			ret = take_candle(&a, &c);
	}
	strand_listener_close(a.listener);
	strand_client_close(a.client);
	memory_release(&a.memory);
	return ret != 0;
}
