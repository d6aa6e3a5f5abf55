/* A record to systemd's journal, with its fields.  Private to src/base/log*. */
#ifndef STRANDD_BASE_LOG_JOURNAL_H
#define STRANDD_BASE_LOG_JOURNAL_H

#include "base/log_record.h"

/* 0, or STRAND_ECONN when nobody answers on the journal's socket.  Blocks while the
 * journal is alive and takes nothing. */
int log_journal_send(const struct log_record *r) MUST_CHECK;

#endif
