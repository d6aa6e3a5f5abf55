/* One event on its way to the log, whatever the form in which it is written.
 * Private to src/base/log*.
 *
 * A record is one block of memory: made by the thread that logs, then owned by
 * whoever writes it, and freed by free(3).  Its texts are whole UTF-8 and cut
 * (with "..." at the end) at the lengths below, so its size is bounded.
 */
#ifndef STRANDD_BASE_LOG_RECORD_H
#define STRANDD_BASE_LOG_RECORD_H

#include <stdint.h>
#include <time.h>

#include <urcu/wfcqueue.h>

#include "base/log.h"

#define LOG_MESSAGE_BYTES 2048
#define LOG_NAME_BYTES 256		/* a strand's id, a route's tag, a table's name */

struct log_record {
	struct cds_wfcq_node node;	/* in log_writer.c */
	struct timespec at;		/* CLOCK_REALTIME */
	enum log_level level;
	enum log_fold fold;
	uint64_t key;			/* of its kind, for fold.c */
	int attempt;			/* 0: none */
	int64_t instance;		/* 0: none; set when it is rendered */
	uint64_t more;			/* so many like this one were not written; 0: it stands for itself */
	char thread[16];
	char sqlstate[8];		/* "": none */
	/* NULL: none.  Inside the block. */
	const char *message, *route, *source, *strand;
};

/* The calling thread's event, now.  NULL when out of memory. */
struct log_record *log_record_new(enum log_level level, const struct log_fields *fields,
				  const char *message) MUST_CHECK;

int log_level_priority(enum log_level level);	/* the number that syslog(3) gives it */

#endif
