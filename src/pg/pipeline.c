#include "pg/conn.h"

#include "pg/wait.h"

int conn_pipeline_enter(struct conn *c, struct err *e)
{
	return PQenterPipelineMode(c->pg) ? 0 : conn_lost(c, e);
}

int conn_pipeline_leave(struct conn *c, struct err *e)
{
	return PQexitPipelineMode(c->pg) ? 0 : conn_lost(c, e);
}

int conn_send(struct conn *c, const char *sql, int n_values, const char *const *values,
	      struct err *e)
{
	return PQsendQueryParams(c->pg, sql, n_values, NULL, values, NULL, NULL, 0) ? 0
		: conn_lost(c, e);
}

int conn_send_prepared(struct conn *c, const char *name, int n_values,
		       const char *const *values, struct err *e)
{
	return PQsendQueryPrepared(c->pg, name, n_values, values, NULL, NULL, 0) ? 0
		: conn_lost(c, e);
}

int conn_sync(struct conn *c, struct err *e)
{
	return PQpipelineSync(c->pg) ? 0 : conn_lost(c, e);
}

/* In pipeline mode libpq ends each statement's results with a NULL. */
int conn_fetch(struct conn *c, int64_t deadline, PGresult **ret_result, struct err *e)
{
	PGresult *res, *end;
	int ret = wait_result(c, deadline, &res, e);

	if (ret)
		return ret;
	if (!res)
		return conn_lost(c, e);
	ret = answer_error(c, res, e);
	if (ret != STRAND_ECONN) {
		int drained = wait_result(c, deadline, &end, e);
		if (drained)
			ret = drained;
		else
			PQclear(end);
	}
	if (!ret && ret_result)
		*ret_result = res;
	else
		PQclear(res);
	return ret;
}

int conn_fetch_sync(struct conn *c, int64_t deadline, struct err *e)
{
	PGresult *res;
	int ret = wait_result(c, deadline, &res, e);

	if (ret)
		return ret;
	if (!res || PQresultStatus(res) != PGRES_PIPELINE_SYNC) {
		PQclear(res);
		return conn_lost(c, e);
	}
	PQclear(res);
	return 0;
}
