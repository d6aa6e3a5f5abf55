/* The benchmarks' handler in C, on libstrand: the reply of bench.evaluate_plan, the SQL
 * function of throughput.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <strand/handler.h>

static int evaluate(const struct strand *plan, struct strand_replies *replies, void *arg)
{
	const char *units = strstr(strand_column(plan, "trading_plan"), "\"units\":");
	struct strand_row *reply = strand_replies_row(replies);
	char text[80];

	(void)arg;
	snprintf(text, sizeof(text), "DM_%s", strand_id(plan) + 3);
	strand_row_set_text(reply, "id", text);
	strand_row_set_text(reply, "kind", "decision");
	strand_row_set_text(reply, "symbol", strand_column(plan, "symbol"));
	strand_row_set_text(reply, "timeframe", strand_column(plan, "timeframe"));
	snprintf(text, sizeof(text), "{\"approved\":true,\"units\":%d}", units ? atoi(units + 8) : 0);
	strand_row_set_json(reply, "dm_decision", text);
	strand_row_add_tag(reply, "alpha:decision_feedback");
	return 0;
}

int main(void)
{
	return strand_handler_run(evaluate, NULL) != 0;
}
