#include "base/log_journal.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

/* Where in our sources a line was made is of no use in the journal. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "base/buf.h"
#include "base/log_render.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

enum { FIELDS = 12 };

/* libsystemd drops a record without a word when the socket is not there. */
static bool answers(void)
{
	struct sockaddr_un place = { .sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&place, sizeof(place)) == 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

struct fields {
	struct buf text;	/* NAME=value, one after the other */
	size_t n, starts[FIELDS + 1];
};

static void end_field(struct fields *f)
{
	f->starts[++f->n] = f->text.len;
}

static void add_text(struct fields *f, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	buf_adds(&f->text, name);
	buf_adds(&f->text, value);
	end_field(f);
}

static void add_number(struct fields *f, const char *name, int64_t value)
{
	if (!value)
		return;
	buf_addf(&f->text, "%s%lld", name, (long long)value);
	end_field(f);
}

/* The values of fields as they are: the journal takes any bytes, and who looks for a
 * strand gives its id as it is. */
static void collect(struct fields *f, const struct log_record *r)
{
	buf_adds(&f->text, "MESSAGE=");
	log_escape(&f->text, r->message, false, LOG_MESSAGE_BYTES);
	end_field(f);
	add_number(f, "PRIORITY=", log_level_priority(r->level));
	add_text(f, "SYSLOG_IDENTIFIER=", "strandd");
	add_text(f, "STRANDD_THREAD=", r->thread);
	add_text(f, "STRANDD_ROUTE=", r->route);
	add_text(f, "STRANDD_SOURCE=", r->source);
	add_text(f, "STRANDD_STRAND=", r->strand);
	add_number(f, "STRANDD_ATTEMPT=", r->attempt);
	add_text(f, "STRANDD_SQLSTATE=", r->sqlstate);
	add_number(f, "STRANDD_MORE=", (int64_t)r->more);
	add_number(f, "STRANDD_INSTANCE=", r->instance);
}

int log_journal_send(const struct log_record *r)
{
	struct fields f = { .text = BUF_INIT };
	struct iovec iov[FIELDS];
	int ret = STRAND_ECONN;

	if (!answers())
		return ret;
	buf_init(&f.text);
	collect(&f, r);
	for (size_t i = 0; !f.text.failed && i < f.n; i++)
		iov[i] = (struct iovec){ f.text.data + f.starts[i], f.starts[i + 1] - f.starts[i] };
	if (!f.text.failed && sd_journal_sendv(iov, (int)f.n) == 0)
		ret = 0;
	buf_release(&f.text);
	return ret;
}
