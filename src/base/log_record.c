#include "base/log_record.h"

#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "base/utf8.h"

const char *const log_level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
	NULL
};

int log_level_priority(enum log_level level)
{
	static const int priorities[] = {
		[LOG_LEVEL_ERROR] = 3,
		[LOG_LEVEL_WARNING] = 4,
		[LOG_LEVEL_INFO] = 6,
		[LOG_LEVEL_DEBUG] = 7,
	};

	return priorities[level];
}

/* Bytes that `text` will take, its NUL too; 0 when there is none. */
static size_t room(const char *text, size_t max)
{
	return text && *text ? strnlen(text, max) + 1 : 0;
}

/* Copies to *at, which it moves on; NULL when there is no text. */
static const char *copy(char **at, const char *text, size_t max)
{
	static const char cut[] = "...";
	size_t size = room(text, max);
	char *to = *at;

	if (!size)
		return NULL;
	memcpy(to, text, size - 1);
	to[size - 1] = '\0';
	*at += size;
	if (text[size - 1]) {
		to[size - sizeof(cut)] = '\0';
		utf8_mend(to);
		strcat(to, cut);
	} else {
		utf8_mend(to);
	}
	return to;
}

struct log_record *log_record_new(enum log_level level, const struct log_fields *fields,
				  const char *message)
{
	static const struct log_fields none;
	const struct log_fields *f = fields ? fields : &none;
	size_t size = sizeof(struct log_record) + room(message, LOG_MESSAGE_BYTES) +
		      room(f->route, LOG_NAME_BYTES) + room(f->source, LOG_NAME_BYTES) +
		      room(f->strand, LOG_NAME_BYTES) + 1;
	struct log_record *r = malloc(size);
	char *at;

	if (!r)
		return NULL;
	*r = (struct log_record){ .level = level, .fold = f->fold, .attempt = f->attempt };
	clock_gettime(CLOCK_REALTIME, &r->at);
	strncpy(r->thread, thread_name(), sizeof(r->thread) - 1);
	strncpy(r->sqlstate, f->sqlstate ? f->sqlstate : "", sizeof(r->sqlstate) - 1);
	utf8_mend(r->sqlstate);
	at = (char *)(r + 1);
	r->message = copy(&at, message, LOG_MESSAGE_BYTES);
	r->route = copy(&at, f->route, LOG_NAME_BYTES);
	r->source = copy(&at, f->source, LOG_NAME_BYTES);
	r->strand = copy(&at, f->strand, LOG_NAME_BYTES);
	if (!r->message)
		r->message = "";
	return r;
}
