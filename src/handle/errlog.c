#include "handle/errlog.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/plural.h"
#include "base/utf8.h"
#include "handle/line_reader.h"

void errlog_begin(struct errlog *l, const struct child_policy *policy, unsigned number, pid_t pid)
{
	*l = (struct errlog){ .policy = policy, .number = number, .pid = pid, .tell_at = INT64_MAX };
}

/* Its own bound takes the place of folding. */
static struct log_fields fields(const struct errlog *l)
{
	return (struct log_fields){ .route = l->policy->name, .source = l->policy->source,
				    .fold = LOG_FOLD_NEVER };
}

static void leave_out(struct errlog *l, uint64_t lines, size_t bytes, int64_t now)
{
	l->lines += lines;
	l->bytes += bytes;
	if (l->tell_at == INT64_MAX)
		l->tell_at = now + ERRLOG_TELL_MS * NSEC_PER_MSEC;
}

static void tell(struct errlog *l)
{
	const struct log_fields f = fields(l);

	log_event(LOG_LEVEL_WARNING, &f,
		  "handler %u (pid %d): %llu line%s and %llu bytes in all of its standard error were left out: "
		  "no more than %u lines a second, of %d bytes each, are logged", l->number, (int)l->pid,
		  (unsigned long long)l->lines, plural(l->lines), (unsigned long long)l->bytes,
		  l->policy->stderr_lines_per_second, ERRLOG_LINE);
	l->lines = l->bytes = 0;
	l->tell_at = INT64_MAX;
}

int64_t errlog_tell(struct errlog *l, int64_t now)
{
	if (now >= l->tell_at)
		tell(l);
	return l->tell_at;
}

static bool admit(struct errlog *l, int64_t now)
{
	if (now - l->second >= NSEC_PER_SEC) {
		l->second = now;
		l->logged = 0;
	}
	return l->logged < l->policy->stderr_lines_per_second;
}

static void remember(struct errlog *l, size_t len)
{
	size_t n = len < sizeof(l->last) ? len : sizeof(l->last) - 1;

	memcpy(l->last, l->line, n);
	l->last[n] = '\0';
	utf8_mend(l->last);
}

/* The line has ended, or the process has. */
static void end_line(struct errlog *l, int64_t now)
{
	const struct log_fields f = fields(l);
	size_t len = l->len;

	while (len && (l->line[len - 1] == '\r' || l->line[len - 1] == ' '))
		len--;
	l->line[len] = '\0';
	if (len)
		remember(l, len);
	if (!len) {
		/* A blank line says nothing. */
	} else if (admit(l, now)) {
		l->logged++;
		log_event(LOG_LEVEL_INFO, &f, "handler %u (pid %d): %s%s", l->number, (int)l->pid, l->line,
			  l->cut ? "..." : "");
	} else {
		leave_out(l, 1, l->len, now);
		l->look_at = now + NSEC_PER_MSEC;
	}
	l->len = 0;
	l->cut = false;
}

static void add(struct errlog *l, const char *text, size_t len, int64_t now)
{
	size_t room = ERRLOG_LINE - l->len, n = len < room ? len : room;

	memcpy(l->line + l->len, text, n);
	/* A NUL would end the line in the log. */
	for (size_t i = l->len; i < l->len + n; i++) {
		if (!l->line[i])
			l->line[i] = '?';
	}
	l->len += n;
	if (n == len)
		return;
	l->cut = true;
	leave_out(l, 0, len - n, now);
	l->look_at = now + NSEC_PER_MSEC;
}

int errlog_read(struct errlog *l, int fd, int64_t now)
{
	char piece[LINE_READER_PIECE], *at = piece, *newline;
	ssize_t n = read(fd, piece, sizeof(piece));
	size_t left = n > 0 ? (size_t)n : 0;

	if (n < 0 && errno == EINTR)
		return 0;
	if (n <= 0)
		return n < 0 && errno == EAGAIN ? STRAND_ETIMEOUT : STRAND_ECONN;
	while ((newline = memchr(at, '\n', left))) {
		add(l, at, (size_t)(newline - at), now);
		end_line(l, now);
		left -= (size_t)(newline + 1 - at);
		at = newline + 1;
	}
	add(l, at, left, now);
	return 0;
}

void errlog_end(struct errlog *l, int64_t now)
{
	end_line(l, now);
	if (l->tell_at != INT64_MAX)
		tell(l);
}
