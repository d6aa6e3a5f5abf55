#include "libstrand/link.h"

#include <poll.h>
#include <string.h>

/* A dead peer is noticed within about 25 s, by us and by the server. */
#define KEEPALIVES_IDLE_S "10"
#define KEEPALIVES_INTERVAL_S "5"
#define KEEPALIVES_COUNT "3"
#define TCP_USER_TIMEOUT_MS "25000"

/* What a database's or a role's defaults could change under our feet.  $1 is the
 * search_path, $2 says whether plans are pinned.  Time is the caller's to keep: when a
 * deadline passes the link is dropped, and the server notices within five seconds. */
static const char session_sql[] =
	"SELECT pg_catalog.set_config(s.name, s.value, false) FROM (VALUES"
	" ('search_path', $1), ('statement_timeout', '0'),"
	" ('lock_timeout', '0'), ('idle_session_timeout', '0'), ('idle_in_transaction_session_timeout', '0'),"
	" ('default_transaction_isolation', 'read committed'),"
	" ('default_transaction_read_only', 'off'), ('default_transaction_deferrable', 'off'),"
	" ('DateStyle', 'ISO, YMD'), ('IntervalStyle', 'postgres'), ('TimeZone', 'UTC'),"
	" ('extra_float_digits', '1'), ('bytea_output', 'hex'), ('standard_conforming_strings', 'on'),"
	" ('client_min_messages', 'warning'),"
	" ('tcp_keepalives_idle', '" KEEPALIVES_IDLE_S "'),"
	" ('tcp_keepalives_interval', '" KEEPALIVES_INTERVAL_S "'),"
	" ('tcp_keepalives_count', '" KEEPALIVES_COUNT "'),"
	" ('tcp_user_timeout', '" TCP_USER_TIMEOUT_MS "'),"
	" ('client_connection_check_interval', '5s')) AS s (name, value)"
	/* what is on disk and no more may be the role's wish; less would break our word */
	" UNION ALL SELECT pg_catalog.set_config('synchronous_commit', 'on', false)"
	"  WHERE pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'"
	" UNION ALL SELECT pg_catalog.set_config(p.name, 'off', false) FROM (VALUES ('jit'), ('enable_seqscan'),"
	"  ('enable_hashjoin'), ('enable_mergejoin'), ('enable_gathermerge')) AS p (name)"
	"  WHERE $2::pg_catalog.bool";

/* Warnings of the server belong to nobody here: libpq would print them. */
static void on_notice(void *arg, const PGresult *res)
{
	(void)arg;
	(void)res;
}

static bool is_conninfo(const char *text)
{
	return strchr(text, '=') || strstr(text, "://");
}

/* Does a '/' or a second '@' stand in what is meant as the password?  libpq would
 * take the rest of it for a host or a database, and name that in its messages. */
static bool uri_is_ambiguous(const char *uri)
{
	const char *rest = strstr(uri, "://");

	if (!rest)
		return false;
	rest += 3;
	rest += strcspn(rest, "@/");
	return *rest && memchr(rest + 1, '@', strcspn(rest + 1, "?"));
}

int link_check_conninfo(const char *conninfo, struct err *e)
{
	PQconninfoOption *parsed;
	bool bad;

	if (!conninfo || !is_conninfo(conninfo))
		return 0;
	parsed = PQconninfoParse(conninfo, NULL);
	bad = !parsed || uri_is_ambiguous(conninfo);
	PQconninfoFree(parsed);
	if (!bad)
		return 0;
	return err_set(e, STRAND_EINVAL, "not a connection string (not repeated here: it may hold a password);"
		       " write \"host=H dbname=D password='P'\", or postgresql://USER:P@H/D with %%40 for @ and"
		       " %%2F for / in P");
}

void link_drop(struct link *l)
{
	PQclear(l->last);
	l->last = NULL;
	l->bad.code = 0;
	PQfinish(l->pg);
	l->pg = NULL;
	l->state = LINK_DOWN;
}

void link_release(struct link *l)
{
	link_drop(l);
	hosts_release(&l->hosts);
}

unsigned link_hosts(const struct link *l)
{
	return l->hosts.n ? l->hosts.n : 1;
}

int link_lost(struct link *l, struct err *e)
{
	const char *why = l->pg ? PQerrorMessage(l->pg) : "";

	err_set(e, STRAND_ECONN, "connection lost: %.*s", *why ? (int)strcspn(why, "\n") : 25,
		*why ? why : "closed by the other side");
	link_drop(l);
	return STRAND_ECONN;
}

/* What comes later in the list counts: ours before the caller's where he may decide,
 * after it where he may not. */
static PGconn *start(const struct link *l, const char *host, const char *hostaddr, const char *port)
{
	const char *keys[] = { "fallback_application_name", "keepalives_idle", "keepalives_interval",
			       "keepalives_count", "tcp_user_timeout", "target_session_attrs", "dbname",
			       "client_encoding", "host", "hostaddr", "port", NULL };
	const char *values[] = { l->program, KEEPALIVES_IDLE_S, KEEPALIVES_INTERVAL_S, KEEPALIVES_COUNT,
				 TCP_USER_TIMEOUT_MS, "primary", l->conninfo, "UTF8", host, hostaddr, port, NULL };

	return PQconnectStartParams(keys, values, 1);
}

static int begin(struct link *l, struct err *e)
{
	char host[512], hostaddr[64], port[16];
	unsigned i;

	l->pg = start(l, NULL, NULL, NULL);
	if (l->pg && !l->hosts.n) {
		int ret = hosts_read(&l->hosts, l->pg, e);

		if (ret)
			return ret;
	}
	if (l->pg && l->hosts.n > 1) {
		i = l->turn % l->hosts.n;
		PQfinish(l->pg);
		l->pg = start(l, hosts_element(l->hosts.host, i, host, sizeof(host)),
			      hosts_element(l->hosts.hostaddr, i, hostaddr, sizeof(hostaddr)),
			      hosts_element(l->hosts.port, i, port, sizeof(port)));
	}
	if (!l->pg)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	PQsetNoticeReceiver(l->pg, on_notice, NULL);
	l->state = LINK_CONNECTING;
	l->events = POLLOUT;
	return 0;
}

static const char *or_default(const char *value)
{
	return value && *value ? value : "(default)";
}

/* Of libpq's message the first line: the rest repeats or hints at the server log. */
int link_give_up(struct link *l, const char *why, struct err *e)
{
	err_set(e, STRAND_ECONN, "no connection to server \"%s\" port %s, database \"%s\", user \"%s\": %.*s",
		or_default(PQhost(l->pg)), or_default(PQport(l->pg)), or_default(PQdb(l->pg)),
		or_default(PQuser(l->pg)), (int)strcspn(why, "\n"), why);
	link_drop(l);
	l->turn++;
	return STRAND_ECONN;
}

static int send_settings(struct link *l, struct err *e)
{
	const char *values[] = { l->search_path, l->pin_plans ? "t" : "f" };

	if (PQsetnonblocking(l->pg, 1))
		return link_lost(l, e);
	l->state = LINK_PINNING;
	return link_send(l, session_sql, 2, values, e);
}

static int connecting(struct link *l, struct err *e)
{
	switch (PQstatus(l->pg) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PQconnectPoll(l->pg)) {
	case PGRES_POLLING_OK:
		return send_settings(l, e);
	case PGRES_POLLING_READING:
		l->events = POLLIN;
		return LINK_AGAIN;
	case PGRES_POLLING_WRITING:
		l->events = POLLOUT;
		return LINK_AGAIN;
	default:
		return link_give_up(l, PQerrorMessage(l->pg), e);
	}
}

static int pinning(struct link *l, struct err *e)
{
	int ret = link_take(l, NULL, e);

	if (ret == LINK_AGAIN)
		return ret;
	if (ret) {
		link_drop(l);
		l->turn++;
		return STRAND_ECONN;
	}
	l->state = LINK_UP;
	return 0;
}

int link_connect(struct link *l, struct err *e)
{
	int ret = 0;

	if (l->state == LINK_DOWN) {
		ret = begin(l, e);
		if (ret)
			link_drop(l);
		/* a good begin is followed by a wait */
		return ret ? ret : PQstatus(l->pg) == CONNECTION_BAD ? connecting(l, e) : LINK_AGAIN;
	}
	if (l->state == LINK_CONNECTING)
		ret = connecting(l, e);
	if (!ret && l->state == LINK_PINNING)
		ret = pinning(l, e);
	return ret;
}
