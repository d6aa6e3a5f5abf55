/* A Decision Maker in C: a handler for strandd, which calls decide() for each plan.
 *
 *	cc -o decide decide.c $(pkg-config --cflags --libs strand)
 *
 * and in strandd.conf
 *
 *	routes = ( { tag = "dm:evaluate_plan"; source = "AD_strands";
 *		command = [ "/usr/local/bin/decide" ]; } );
 */
#include <string.h>

#include <strand/handler.h>

/* Approves what alpha is sure of, and says so to alpha. */
static int decide(const struct strand *plan, struct strand_replies *replies, void *arg)
{
	const char *confidence = strand_column(plan, "sig_confidence");
	struct strand_row *decision;

	(void)arg;
	if (!strand_column(plan, "trading_plan"))
		return strand_replies_fail(replies, 1, "%s has no trading plan", strand_id(plan));
	decision = strand_replies_row(replies);
	strand_row_set_text(decision, "kind", "decision");
	strand_row_set_text(decision, "symbol", strand_column(plan, "symbol"));
	strand_row_set_json(decision, "dm_decision", confidence && strcmp(confidence, "0.5") > 0
			    ? "{\"approved\": true}" : "{\"approved\": false}");
	strand_row_add_tag(decision, "alpha:decision_feedback");
	return 0;
}

int main(void)
{
	return strand_handler_run(decide, NULL) != 0;
}
