#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fold.h"
#include "base/log_journal.h"
#include "base/log_render.h"
#include "base/log_writer.h"

const char *const log_format_names[] = {
	[LOG_FORMAT_AUTO] = "auto",
	[LOG_FORMAT_TEXT] = "text",
	[LOG_FORMAT_JOURNAL] = "journal",
	[LOG_FORMAT_JSON] = "json",
	NULL
};

/* Relaxed everywhere: settings on their own, nothing is published with them. */
static _Atomic int max_level = LOG_LEVEL_INFO;
static _Atomic int format_now = LOG_FORMAT_AUTO;
static _Atomic int64_t instance_now;

static pthread_once_t journal_once = PTHREAD_ONCE_INIT;
static bool to_journal;

/* JOURNAL_STREAM is inherited, so it speaks of us only while standard error is
 * still that stream. */
static bool stderr_is_journal(void)
{
	const char *text = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat st;

	if (!text || sscanf(text, "%ju:%ju", &device, &inode) != 2)
		return false;
	return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

void log_set_format(enum log_format format)
{
	atomic_store_explicit(&format_now, (int)format, memory_order_relaxed);
}

void log_set_instance(int64_t instance)
{
	atomic_store_explicit(&instance_now, instance, memory_order_relaxed);
}

int log_format_parse(const char *text, enum log_format *ret_format)
{
	for (unsigned i = 0; log_format_names[i]; i++) {
		if (strcmp(text, log_format_names[i]) == 0) {
			*ret_format = (enum log_format)i;
			return 0;
		}
	}
	return STRAND_EINVAL;
}

static void find_journal(void)
{
	to_journal = stderr_is_journal();
}

bool log_render(struct log_record *r, struct buf *line)
{
	int format = atomic_load_explicit(&format_now, memory_order_relaxed);

	r->instance = atomic_load_explicit(&instance_now, memory_order_relaxed);
	pthread_once(&journal_once, find_journal);
	if (format == LOG_FORMAT_AUTO && to_journal)
		format = LOG_FORMAT_JOURNAL;
	if (format == LOG_FORMAT_JOURNAL && log_journal_send(r) == 0)
		return true;
	if (format == LOG_FORMAT_JSON)
		log_render_json(line, r);
	else
		log_render_text(line, r, to_journal);
	return false;
}

/* Nothing is folded by who writes its own lines: nobody would tell how many it were. */
static uint64_t put(struct log_record *r, const char *fmt)
{
	uint64_t kind = 0;

	if (r->level < LOG_LEVEL_DEBUG && r->fold != LOG_FOLD_NEVER && log_writer_runs()) {
		kind = r->key = fold_key(r, fmt);
		if (!fold_admit(r, clock_now()))
			return kind;
	}
	log_writer_put(r);
	return kind;
}

uint64_t log_event(enum log_level level, const struct log_fields *fields, const char *fmt, ...)
{
	char message[LOG_MESSAGE_BYTES + 2];	/* so that a cut is seen */
	struct log_record *r;
	int saved = errno;
	uint64_t kind = 0;
	va_list args;

	if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
		return 0;
	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	r = log_record_new(level, fields, message);
	if (r)
		kind = put(r, fmt);
	else
		log_writer_lost();
	errno = saved;
	return kind;
}

void log_renew(uint64_t kind)
{
	if (kind)
		fold_renew(kind);
}
