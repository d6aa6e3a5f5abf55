/* The thread that writes the log, and the queue before it.  Private to src/base/log*;
 * log_start and log_stop are in log.h.
 *
 * A reader of our pipe that stalls, a full disk, a journal that takes nothing: none of
 * them may hold up who logs.  So lines go through a bounded lock-free queue (liburcu
 * wfcqueue, wait-free for who logs) to one thread that waits for the reader alone.
 * Without that thread, at the start and the end of the process, who logs also writes.
 * What could not be written is counted, and told when a line gets through again.
 */
#ifndef STRANDD_BASE_LOG_WRITER_H
#define STRANDD_BASE_LOG_WRITER_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/log_record.h"

#define LOG_QUEUE_LINES 2048	/* at most some 6 MiB */

/* Takes the record.  Any thread. */
void log_writer_put(struct log_record *r);

/* Does the thread run? */
bool log_writer_runs(void);

/* A line is lost before it was one: no memory.  Any thread. */
void log_writer_lost(void);

/* log.c, which knows the settings: sends the record to the journal, true, or makes it
 * a line in `line`, which is initialised. */
bool log_render(struct log_record *r, struct buf *line);

#endif
