/* What came of `strandctl handler-test`, for people and programs. */
#include <inttypes.h>
#include <stdio.h>

#include "handle/json_check.h"
#include "strandctl/handler_test.h"
#include "strandctl/table.h"

enum { AT_OUTCOME, AT_ID, AT_TAG, AT_SOURCE, AT_ATTEMPT, AT_MS, AT_REPLIES, AT_ERROR, AT_SQLSTATE, AT_RETRY, AT_RECEIPT,
       N_COLUMNS };

static const struct column columns[N_COLUMNS] = {
	[AT_OUTCOME] = { "OUTCOME", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_ID] = { "ID", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_TAG] = { "TAG", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_SOURCE] = { "SOURCE", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_ATTEMPT] = { "ATTEMPT", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_MS] = { "MS", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_REPLIES] = { "REPLIES", COLUMN_JSON, FOR_PROGRAMS },
	[AT_ERROR] = { "ERROR", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_SQLSTATE] = { "SQLSTATE", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_RETRY] = { "RETRY", COLUMN_BOOLEAN, FOR_PROGRAMS },
	[AT_RECEIPT] = { "RECEIPT", COLUMN_JSON, FOR_PROGRAMS },
};

static const char *const outcomes[] = {
	[HANDLER_REPLIED] = "replies",
	[HANDLER_FAILED] = "failed",
	[HANDLER_EXPIRED] = "expired",
};

static void show_json(const struct handler_verdict *v)
{
	bool failed = v->outcome == HANDLER_FAILED;
	char attempt[16], ms[24];
	const char *values[N_COLUMNS] = {
		[AT_OUTCOME] = outcomes[v->outcome], [AT_ID] = v->id, [AT_TAG] = v->tag, [AT_SOURCE] = v->source,
		[AT_ATTEMPT] = attempt, [AT_MS] = ms, [AT_REPLIES] = v->outcome == HANDLER_REPLIED ? v->replies.data : NULL,
		[AT_ERROR] = failed ? v->why.text : NULL,
		[AT_SQLSTATE] = failed && *v->why.sqlstate ? v->why.sqlstate : NULL,
		[AT_RETRY] = !failed ? NULL : v->retry ? "t" : "f", [AT_RECEIPT] = v->receipt,
	};

	snprintf(attempt, sizeof(attempt), "%u", v->attempt);
	snprintf(ms, sizeof(ms), "%" PRId64, v->ms);
	table_print_one("handler_test", columns, N_COLUMNS, values);
}

/* One a line, as it was written. */
static void show_replies(const struct handler_verdict *v)
{
	const char *at = v->replies.data, *end = at + v->replies.len, *reply;
	size_t len;

	while (json_element(&at, end, &reply, &len)) {
		for (size_t i = 0; i < len; i++)
			putchar(reply[i] == '\n' || reply[i] == '\r' ? ' ' : reply[i]);
		putchar('\n');
	}
}

static void tell(const struct handler_verdict *v)
{
	const char *state = *v->why.sqlstate ? v->why.sqlstate : "no SQLSTATE";

	switch (v->outcome) {
	case HANDLER_REPLIED:
		ctl_warn("strand %s, %s, attempt %u: %zu %s in %" PRId64 " ms", v->id, v->tag, v->attempt, v->n_replies,
			 v->n_replies == 1 ? "reply" : "replies", v->ms);
		return;
	case HANDLER_EXPIRED:
		ctl_warn("strand %s, %s: it has expired, and the handler is not called; to test it write a copy without"
			 " its timeout: tag, or hand the row to a command", v->id, v->tag);
		return;
	case HANDLER_FAILED:
		ctl_warn("strand %s, %s, attempt %u failed after %" PRId64 " ms: %s (%s)", v->id, v->tag, v->attempt, v->ms,
			 v->why.text, state);
		ctl_warn("%s", v->becomes ? v->becomes : v->retry ? "it would be tried again, if attempts are left"
			 : "it would not be tried again");
	}
}

int handler_show(const struct ctl *ctl, const struct handler_verdict *v)
{
	if (ctl->json)
		show_json(v);
	else if (v->outcome == HANDLER_REPLIED)
		show_replies(v);
	tell(v);
	return v->outcome == HANDLER_REPLIED ? EXIT_OK : EXIT_HANDLER;
}
