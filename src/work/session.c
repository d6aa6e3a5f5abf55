#include "work/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int session_open(struct session **ret_session, const struct conn_target *target,
		 const struct route_table *routes, int64_t deadline, int stop_fd, struct err *e)
{
	struct session *s = calloc(1, sizeof(*s) + routes->n * sizeof(s->routes[0]));
	int ret;

	if (!s)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	s->n_routes = routes->n;
	ret = route_table_connect(routes, &s->conn, target, deadline, stop_fd, e);
	if (ret) {
		session_close(s);
		return ret;
	}
	*ret_session = s;
	return 0;
}

void session_close(struct session *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_routes; i++)
		statements_release(&s->routes[i].sql);
	conn_close(s->conn);
	free(s);
}

static int prepare_one(struct session *s, char name[24], const char *kind, unsigned route,
		       const char *sql, int64_t deadline, struct err *e)
{
	snprintf(name, 24, "%s_%u", kind, route);
	return conn_prepare(s->conn, name, sql, deadline, e);
}

/* A prepare that failed half way leaves names behind; a new one starts clean. */
static int deallocate(struct session *s, int64_t deadline, struct err *e)
{
	for (size_t i = 0; i < s->n_routes; i++)
		s->routes[i].ready = false;
	return conn_query(s->conn, "DEALLOCATE ALL", 0, NULL, deadline, NULL, e);
}

int session_prepare(struct session *s, const struct route *r, int64_t deadline, struct err *e)
{
	struct session_route *p = &s->routes[r->index];
	struct err ignored;
	int ret;

	if (p->ready)
		return 0;
	statements_release(&p->sql);
	ret = statements_build(&p->sql, r, s->conn, deadline, e);
	if (!ret)
		ret = prepare_one(s, p->begin, "begin", r->index, STATEMENT_BEGIN, deadline, e);
	if (!ret)
		ret = prepare_one(s, p->settings, "settings", r->index, p->sql.settings, deadline, e);
	if (!ret)
		ret = prepare_one(s, p->claim, "claim", r->index, p->sql.claim, deadline, e);
	if (!ret && p->sql.hand_out)
		ret = prepare_one(s, p->hand_out, "hand_out", r->index, p->sql.hand_out, deadline, e);
	if (!ret)
		ret = prepare_one(s, p->settle, "settle", r->index, p->sql.settle, deadline, e);
	p->ready = !ret;
	s->spoilt |= ret == STRAND_ESQL && deallocate(s, deadline, &ignored);
	return ret;
}

bool session_lost_statements(const struct err *e)
{
	return e->code == STRAND_ESQL && (!strcmp(e->sqlstate, "26000") || !strcmp(e->sqlstate, "42P05"));
}

int session_restore(struct session *s, int64_t deadline, struct err *e)
{
	const char *encoding = PQparameterStatus(conn_pg(s->conn), "client_encoding");

	if (encoding && !strcmp(encoding, "UTF8"))
		return 0;
	return conn_query(s->conn, "SET client_encoding = 'UTF8'", 0, NULL, deadline, NULL, e);
}

int session_scrub(struct session *s, int64_t deadline, struct err *e)
{
	return conn_script(s->conn, "RESET SESSION AUTHORIZATION; CLOSE ALL; UNLISTEN *;"
			   " SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP", deadline, e);
}

int session_renew(struct session *s, const struct route *r, int64_t deadline, struct err *e)
{
	int ret = deallocate(s, deadline, e);

	return ret ? ret : session_prepare(s, r, deadline, e);
}
