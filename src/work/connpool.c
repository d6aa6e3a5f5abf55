#include "work/connpool.h"

#include "base/clock.h"
#include "base/failpoint.h"

static bool worn_out(const struct connpool *p, const struct session *s, int64_t now)
{
	return !conn_usable(s->conn) || FAILPOINT("session.old") ||
	       (p->max_lifetime_ms && now - conn_opened_at(s->conn) > p->max_lifetime_ms * NSEC_PER_MSEC);
}

int connpool_get(struct connpool *p, unsigned database, struct session **ret_session, struct err *e)
{
	struct session **slot = &p->sessions[database];
	int ret = 0;

	if (*slot && worn_out(p, *slot, clock_now()))
		connpool_discard(p, database);
	if (!*slot)
		ret = session_open(slot, p->targets[database], p->routes,
				   clock_after_ms(p->connect_timeout_ms), p->stop_fd, e);
	if (!ret)
		*ret_session = *slot;
	return ret;
}

void connpool_discard(struct connpool *p, unsigned database)
{
	session_close(p->sessions[database]);
	p->sessions[database] = NULL;
}

void connpool_tidy(struct connpool *p, int64_t now)
{
	for (unsigned i = 0; i < CONNPOOL_DATABASES; i++) {
		struct session *s = p->sessions[i];
		if (s && p->idle_timeout_ms && now - conn_used_at(s->conn) > p->idle_timeout_ms * NSEC_PER_MSEC)
			connpool_discard(p, i);
	}
}

void connpool_release(struct connpool *p)
{
	for (unsigned i = 0; i < CONNPOOL_DATABASES; i++)
		connpool_discard(p, i);
}
