#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/thread.h"

enum { LINE_MAX_BYTES = 4096 };

static const struct {
	const char *name;
	int syslog;	/* the number that sd-daemon(3) gives the level */
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error", 3 },
	[LOG_LEVEL_WARNING] = { "warning", 4 },
	[LOG_LEVEL_INFO] = { "info", 6 },
	[LOG_LEVEL_DEBUG] = { "debug", 7 },
};

static _Atomic int max_level = LOG_LEVEL_INFO;
static pthread_once_t journal_once = PTHREAD_ONCE_INIT;
static bool to_journal;

/* JOURNAL_STREAM is inherited, so it speaks of us only while standard error is
 * still that stream. */
static void find_journal(void)
{
	const char *text = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat st;

	if (!text || sscanf(text, "%ju:%ju", &device, &inode) != 2)
		return;
	to_journal = fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_set_level(enum log_level level)
{
	/* Relaxed: a number on its own, nothing is published with it. */
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

int log_level_parse(const char *text, enum log_level *ret_level)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcmp(text, levels[i].name) == 0) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	}
	return STRAND_EINVAL;
}

static size_t format_line(char *line, size_t size, enum log_level level, const char *fmt, va_list args)
	__attribute__((format(printf, 4, 0)));

/* Fills `line` with one line and its newline; returns its length. */
static size_t format_line(char *line, size_t size, enum log_level level, const char *fmt, va_list args)
{
	static const char cut[] = "...";
	size_t head = 0, len;
	int n;

	if (to_journal)
		head += (size_t)snprintf(line, size, "<%d>", levels[level].syslog);
	head += (size_t)snprintf(line + head, size - head, "%s %s: ", levels[level].name, thread_name());
	n = vsnprintf(line + head, size - head, fmt, args);
	len = head + (n < 0 ? 0 : (size_t)n);
	if (len >= size - 1) {
		len = size - 1;
		memcpy(line + len - (sizeof(cut) - 1), cut, sizeof(cut) - 1);
	}
	for (size_t i = head; i < len; i++) {
		if (line[i] == '\n' || line[i] == '\r')
			line[i] = ' ';
	}
	line[len] = '\n';
	return len + 1;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	int saved = errno;
	va_list args;
	size_t len;

	/* Relaxed: see log_set_level. */
	if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
		return;
	pthread_once(&journal_once, find_journal);
	va_start(args, fmt);
	len = format_line(line, sizeof(line), level, fmt, args);
	va_end(args);
	/* A log line that cannot be written has nowhere to be reported. */
	while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
		;
	errno = saved;
}
