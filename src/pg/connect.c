#include "pg/connect.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/beat.h"
#include "base/clock.h"
#include "base/failpoint.h"

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

/* Number of elements; 0 when one of them is empty, which stands for a default. */
static size_t count(const char *list)
{
	size_t n = 1;

	if (*list == ',' || strstr(list, ",,"))
		return 0;
	for (const char *p = list; *p; p++) {
		n += *p == ',';
		if (*p == ',' && !p[1])
			return 0;
	}
	return n;
}

static char *list_of(PQconninfoOption *options, const char *keyword)
{
	for (PQconninfoOption *o = options; o && o->keyword; o++)
		if (!strcmp(o->keyword, keyword))
			return o->val && *o->val ? o->val : NULL;
	return NULL;
}

/* Cuts the next element off; a single one is everybody's. */
static const char *next(char **list, size_t n)
{
	return n > 1 ? strsep(list, ",") : *list;
}

/* How many hosts there are, from wherever libpq has them; 1 also where its lists
 * do not fit each other, which is its to say, or leave something to a default. */
static size_t several(char *host, char *hostaddr, char *port)
{
	size_t n = host ? count(host) : hostaddr ? count(hostaddr) : 1;
	size_t ports = port ? count(port) : 1;

	if (host && hostaddr && count(hostaddr) != n)
		return 1;
	return n > 1 && (ports == 1 || ports == n) ? n : 1;
}

int connect_server(struct conn *c, int64_t deadline, struct err *e)
{
	PQconninfoOption *options;
	char *hosts, *addresses, *ports;
	const char *why = "";
	size_t n, n_ports;
	int ret = 0;

	c->pg = start_connection(c->target, &(struct host){ 0 });
	options = c->pg ? PQconninfo(c->pg) : NULL;
	if (!options)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	hosts = list_of(options, "host");
	addresses = list_of(options, "hostaddr");
	ports = list_of(options, "port");
	n = several(hosts, addresses, ports);
	n_ports = ports ? count(ports) : 1;
	for (size_t i = 0; i < n; i++) {
		int64_t now = clock_now();
		struct host h = { next(&hosts, n), next(&addresses, n), next(&ports, n_ports) };
		if (n > 1) {
			PQfinish(c->pg);
			c->pg = start_connection(c->target, &h);
		}
		ret = c->pg ? finish_connection(c, now + (deadline - now) / (int64_t)(n - i), &why) : STRAND_ENOMEM;
		if (!ret || !c->pg || ret == STRAND_ESTOPPED)
			break;
		attempt_failed(c, i, ret, why, e);
	}
	PQconninfoFree(options);
	if (ret == STRAND_ENOMEM)
		return err_set(e, ret, "out of memory");
	return ret == STRAND_ESTOPPED ? attempt_failed(c, 0, ret, why, e) : ret;
}
