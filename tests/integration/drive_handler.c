/* A handler on libstrand that does what a strand's column "kind" says; the column
 * "timeframe" is its argument. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <strand/handler.h>

static int reply_big(struct strand_replies *replies, size_t bytes)
{
	struct strand_row *row = strand_replies_row(replies);
	char *text = malloc(bytes + 1);

	if (!text)
		return -1;
	memset(text, 'x', bytes);
	text[bytes] = '\0';
	strand_row_set_text(row, "symbol", text);
	free(text);
	return 0;
}

/* As many replies as the argument says. */
static int reply_many(const struct strand *s, struct strand_replies *replies, long n)
{
	for (long i = 0; i < n; i++) {
		struct strand_row *row = strand_replies_row(replies);

		strand_row_set_text(row, "kind", "reply");
		strand_row_set_text(row, "symbol", strand_column(s, "symbol"));
		strand_row_set_int(row, "dm_alpha", i);
	}
	return 0;
}

static int handle(const struct strand *s, struct strand_replies *replies, void *arg)
{
	const char *kind = strand_column(s, "kind"), *argument = strand_column(s, "timeframe");

	(void)arg;
	if (!kind)
		kind = "many";
	if (!argument)
		argument = "1";
	if (!strcmp(kind, "print")) {
		printf("a stray print of %s\n", strand_id(s));
		fflush(stdout);
		return reply_many(s, replies, 1);
	}
	if (!strcmp(kind, "system"))
		return system("echo a stray echo; cat") ? -1 : reply_many(s, replies, 1);
	if (!strcmp(kind, "fail"))
		return strand_replies_fail(replies, 0, "asked to fail: %s, attempt %d", argument, strand_attempt(s));
	if (!strcmp(kind, "final"))
		return strand_replies_fail(replies, 1, "asked to fail for good");
	if (!strcmp(kind, "number"))
		return atoi(argument);
	if (!strcmp(kind, "add"))
		return strand_replies_add(replies, argument);
	if (!strcmp(kind, "null")) {
		strand_row_set_json(strand_replies_row(replies), "dm_decision", strand_column_json(s, "no_such"));
		return strand_replies_add(replies, strand_column(s, "no_such"));
	}
	if (!strcmp(kind, "flush")) {
		if (strand_replies_flush(replies))
			return -1;
		raise(SIGKILL);
	}
	if (!strcmp(kind, "kill"))
		raise(SIGKILL);
	if (!strcmp(kind, "act") && strand_replies_flush(replies))
		return -1;
	if (!strcmp(kind, "bad"))
		strand_row_set_text(strand_replies_row(replies), "symbol", "gr\xfc");
	if (!strcmp(kind, "sleep"))
		usleep((useconds_t)(atof(argument) * 1e6));
	if (!strcmp(kind, "big"))
		return reply_big(replies, strtoul(argument, NULL, 10));
	return reply_many(s, replies, !strcmp(kind, "many") ? atol(argument) : 1);
}

int main(void)
{
	if (getenv("READY")) {
		puts("a print before it is ready");
		usleep((useconds_t)(atof(getenv("READY")) * 1e6));
		if (strand_handler_ready())
			return 1;
	}
	return strand_handler_run(handle, NULL) != 0;
}
