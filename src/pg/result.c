#include "pg/result.h"

#include <stdio.h>
#include <string.h>

/* FATAL and PANIC end the session even while the socket still looks alive. */
static bool ends_session(const PGresult *res)
{
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);

	return !severity || strcmp(severity, "ERROR") != 0;
}

/* Which part of a text could not be read is in the detail only. */
static const char *detail_of(const PGresult *res, const char *state)
{
	const char *detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);

	return detail && state && !strncmp(state, "22P", 3) ? detail : NULL;
}

int result_error(const PGresult *res, struct err *e)
{
	const char *state, *text, *relation, *detail;
	int code;

	switch (PQresultStatus(res)) {
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
	case PGRES_EMPTY_QUERY:
	case PGRES_PIPELINE_SYNC:
		return 0;
	case PGRES_PIPELINE_ABORTED:
		return err_set(e, STRAND_EPROTO, "skipped: an earlier statement failed");
	case PGRES_FATAL_ERROR:
		break;
	default:
		return err_set(e, STRAND_EPROTO, "unexpected answer %s from the server",
			       PQresStatus(PQresultStatus(res)));
	}
	code = ends_session(res) ? STRAND_ECONN : STRAND_ESQL;
	text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	detail = detail_of(res, state);
	err_set(e, code, "%s%s%s", text ? text : PQresultErrorMessage(res), detail ? ": " : "", detail ? detail : "");
	if (e && state)
		memcpy(e->sqlstate, state, sizeof(e->sqlstate));
	relation = PQresultErrorField(res, PG_DIAG_TABLE_NAME);
	if (e && relation)
		snprintf(e->relation, sizeof(e->relation), "%s", relation);
	if (e)
		e->nested = PQresultErrorField(res, PG_DIAG_CONTEXT) != NULL;
	return code;
}
