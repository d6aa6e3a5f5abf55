/* Publishes a trading plan and waits for the decision: a client and a listener.
 *
 *	cc -o publish publish.c $(pkg-config --cflags --libs strand)
 *	./publish "dbname=trading" SPX 0.8
 */
#include <stdio.h>
#include <string.h>

#include <strand/strand.h>

enum { WAIT_MS = 10000 };

static int publish(struct strand_client *client, const char *symbol, const char *confidence, const char **ret_id)
{
	static const char *const tags[] = { "dm:evaluate_plan", "priority:high" };
	struct strand_row *plan = strand_row_new();
	int ret;

	if (!plan)
		return STRAND_ENOMEM;
	strand_row_set_text(plan, "kind", "signal");
	strand_row_set_text(plan, "symbol", symbol);
	strand_row_set_json(plan, "sig_confidence", confidence);
	strand_row_set_json(plan, "trading_plan", "{\"side\": 1, \"stop_distance\": 12.50}");
	if (*strand_row_error(plan))
		fprintf(stderr, "publish: %s\n", strand_row_error(plan));
	ret = *strand_row_error(plan) ? STRAND_EINVAL
		: strand_client_write(client, NULL, strand_row_json(plan), tags, 2, ret_id);
	strand_row_free(plan);
	return ret;
}

/* The decision bears the tag original_strand:<the plan's id>. */
static int await(struct strand_listener *listener, const char *id)
{
	const struct strand *decision;
	char answers[2800];
	int ret;

	snprintf(answers, sizeof(answers), "original_strand:%s", id);
	do {
		ret = strand_listener_next(listener, WAIT_MS, &decision);
	} while (!ret && !strand_has_tag(decision, answers));
	if (!ret)
		printf("%s: %s\n", id, strand_column(decision, "dm_decision"));
	return ret;
}

int main(int argc, char **argv)
{
	struct strand_client *client = NULL;
	struct strand_listener *listener = NULL;
	const char *id, *why = "";
	int ret;

	if (argc != 4) {
		fprintf(stderr, "usage: publish CONNINFO SYMBOL CONFIDENCE\n");
		return 2;
	}
	/* It listens before it asks. */
	ret = strand_listener_open(&listener, argv[1], "alpha");
	if (!ret)
		ret = strand_listener_start(listener, WAIT_MS);
	if (ret)
		why = strand_listener_error(listener);
	if (!ret) {
		ret = strand_client_open(&client, argv[1], "alpha", NULL);
		if (!ret)
			ret = publish(client, argv[2], argv[3], &id);
		if (ret)
			why = strand_client_error(client);
	}
	if (!ret) {
		ret = await(listener, id);
		if (ret)
			why = strand_listener_error(listener);
	}
	if (ret)
		fprintf(stderr, "publish: %s: %s\n", strand_error_name(ret), why);
	strand_client_close(client);
	strand_listener_close(listener);
	return ret != 0;
}
