#include "pg/connect.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/beat.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "pg/hosts.h"

/* One server of libpq's lists; NULL is libpq's own default. */
struct host {
	const char *host, *hostaddr, *port;
};

/* libpq looks host names up by itself, here and in PQconnectPoll, and that blocks. */
static PGconn *start_connection(const struct conn_target *t, const struct host *h)
{
	/* What comes later in the list counts, also more than what dbname says. */
	const char *keys[] = { "dbname", "service", "host", "port", "user", "password",
			       "application_name", "client_encoding", "keepalives_idle",
			       "keepalives_interval", "keepalives_count", "tcp_user_timeout",
			       "target_session_attrs", "host", "hostaddr", "port", NULL };
	const char *values[] = { t->dbname, t->service, t->host, t->port, t->user, t->password,
				 t->application_name, "UTF8", KEEPALIVES_IDLE_S,
				 KEEPALIVES_INTERVAL_S, KEEPALIVES_COUNT, TCP_USER_TIMEOUT_MS,
				 /* a standby's snapshots do not tell who may still commit */
				 "primary", h->host, h->hostaddr, h->port, NULL };

	PGconn *pg;

	beat_allow_ms(BEAT_RESOLVE_MS);
	(void)FAILPOINT("connect.resolve");
	pg = PQconnectStartParams(keys, values, 1);
	beat_now();
	return pg;
}

/* On failure *ret_why is a text of libpq's or a literal. */
static int finish_connection(struct conn *c, int64_t deadline, const char **ret_why)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	while (status != PGRES_POLLING_OK) {
		if (status == PGRES_POLLING_FAILED || PQstatus(c->pg) == CONNECTION_BAD) {
			*ret_why = PQerrorMessage(c->pg);
			return STRAND_ECONN;
		}
		int ret = wait_socket(c, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline);
		if (ret) {
			*ret_why = ret == STRAND_ETIMEOUT ? "no answer within the connect timeout" : "told to stop";
			return ret;
		}
		beat_allow_ms(BEAT_RESOLVE_MS);
		status = PQconnectPoll(c->pg);
		beat_now();
	}
	return 0;
}

static const char *or_default(const char *value)
{
	return value && *value ? value : "(default)";
}

/* The text of all attempts, the first one's in full.  Of libpq's message the first
 * line: the rest repeats or hints at the server log. */
static int attempt_failed(struct conn *c, size_t number, int code, const char *why, struct err *e)
{
	char before[sizeof(e->text)], where[300];

	snprintf(where, sizeof(where), "server \"%s\" port %s", or_default(PQhost(c->pg)), or_default(PQport(c->pg)));
	if (number) {
		snprintf(before, sizeof(before), "%s", e ? e->text : "");
		return err_set(e, code, "%s; %s: %.*s", before, where, (int)strcspn(why, "\n"), why);
	}
	return err_set(e, code, "no connection to %s, database \"%s\", user \"%s\": %.*s", where,
		       or_default(PQdb(c->pg)), or_default(PQuser(c->pg)), (int)strcspn(why, "\n"), why);
}

int connect_server(struct conn *c, int64_t deadline, struct err *e)
{
	char host[512], hostaddr[64], port[16];
	struct hosts hosts = { 0 };
	const char *why = "";
	int ret;

	c->pg = start_connection(c->target, &(struct host){ 0 });
	if (!c->pg)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	ret = hosts_read(&hosts, c->pg, e);
	if (ret)
		return ret;
	for (unsigned i = 0; i < hosts.n; i++) {
		int64_t now = clock_now();
		struct host h = { hosts_element(hosts.host, i, host, sizeof(host)),
				  hosts_element(hosts.hostaddr, i, hostaddr, sizeof(hostaddr)),
				  hosts_element(hosts.port, i, port, sizeof(port)) };
		if (hosts.n > 1) {
			PQfinish(c->pg);
			c->pg = start_connection(c->target, &h);
		}
		ret = c->pg ? finish_connection(c, now + (deadline - now) / (int64_t)(hosts.n - i), &why)
			: STRAND_ENOMEM;
		if (!ret || !c->pg || ret == STRAND_ESTOPPED)
			break;
		attempt_failed(c, i, ret, why, e);
	}
	hosts_release(&hosts);
	if (ret == STRAND_ENOMEM)
		return err_set(e, ret, "out of memory");
	return ret == STRAND_ESTOPPED ? attempt_failed(c, 0, ret, why, e) : ret;
}
