/* The stats socket: HTTP on a Unix socket, read-only; GET or HEAD /metrics.
 *
 * One thread of ours, named "stats", drives libmicrohttpd: so it is a
 * registered liburcu reader with signals blocked, as every thread is, and may
 * call gauges.  A connection serves one request and lives a few seconds at
 * most; at the bound on connections further clients wait in the backlog.
 * start/stop: main thread.
 */
#ifndef STRANDD_STATS_SERVER_H
#define STRANDD_STATS_SERVER_H

#include "base/err.h"
#include "stats/metric.h"

struct stats_server;

/* Listens on `path` (at most 107 bytes), mode 0660.  A socket file that nobody
 * answers on (a killed predecessor's) is replaced.  STRAND_EINVAL: the path is
 * empty, too long, or names something that is no socket; STRAND_EFULL: another
 * process answers on it; STRAND_ESYS: anything else.  Borrows `m`. */
int stats_server_start(struct stats_server **ret_server, const char *path,
		       struct metrics *m, struct err *e) MUST_CHECK;
void stats_server_stop(struct stats_server *s);		/* removes the socket file; takes NULL */

#endif
