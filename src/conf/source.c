#include "conf/source.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/report.h"

enum { FILE_MAX_BYTES = 1 << 20 };

static int read_all(struct buf *text, int fd, const char *file, struct err *e)
{
	char chunk[4096];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return report_line(e, file, 0, "cannot read it: %s", strerror(errno));
		if (text->len + (size_t)n > FILE_MAX_BYTES)
			return report_line(e, file, 0, "larger than 1 MiB; is this a configuration file?");
		buf_add(text, chunk, (size_t)n);
	}
	if (text->failed)
		return err_set(e, STRAND_ENOMEM, "%s: out of memory", file);
	if (strlen(text->data) != text->len)
		return report_line(e, file, 0, "holds a NUL byte; is this a configuration file?");
	return 0;
}

int source_read(struct buf *text, const char *file, bool *ret_open_to_others, struct err *e)
{
	/* O_NONBLOCK: a named pipe without a writer must not hold us. */
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int r;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return err_set(e, STRAND_ENOENT,
			       "%s: no such file; name another with --config FILE, or start from the sample strandd.conf",
			       file);
	if (fd < 0)
		return report_line(e, file, 0, "cannot open it: %s", strerror(errno));
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		r = report_line(e, file, 0, "is a directory, not a file");
	} else {
		*ret_open_to_others = (st.st_mode & (S_IRGRP | S_IROTH)) != 0;
		r = read_all(text, fd, file, e);
	}
	close(fd);
	return r;
}

/* The end of a comment or string that starts at `p`, or NULL if none does.
 * Counts the lines inside. */
static const char *skip_opaque(const char *p, int *line)
{
	const char *end;

	if (*p == '#' || (p[0] == '/' && p[1] == '/'))
		return p + strcspn(p, "\n");
	if (p[0] == '/' && p[1] == '*') {
		end = strstr(p + 2, "*/");
		end = end ? end + 2 : p + strlen(p);
	} else if (*p == '"') {
		for (end = p + 1; *end && *end != '"'; end++) {
			if (*end == '\\' && end[1])
				end++;
		}
		if (*end)
			end++;
	} else {
		return NULL;
	}
	for (; p < end; p++)
		*line += *p == '\n';
	return end;
}

/* Judges the number that starts at `p`. */
static int check_number(const char *p, const char *file, int line, struct err *e)
{
	bool hex = p[0] == '0' && (p[1] == 'x' || p[1] == 'X');
	size_t len = hex ? 2 + strspn(p + 2, "0123456789abcdefABCDEF") : strspn(p, "+-0123456789.eE");
	const char *end = p + len;
	long long value;

	errno = 0;
	if (!hex && memchr(p, '.', len)) {
		if (isinf(strtod(p, NULL)))
			return report_line(e, file, line, "the number %.*s is too large", (int)len, p);
		return 0;
	}
	if (!hex && (memchr(p, 'e', len) || memchr(p, 'E', len)))
		return report_line(e, file, line, "write the number %.*s in full", (int)len, p);
	/* libconfig wraps hexadecimal at 32 bits unsigned, and means the signed number. */
	value = strtoll(p, NULL, hex ? 16 : 10);
	if (errno == ERANGE)
		return report_line(e, file, line, "the number %.*s is too large", (int)len, p);
	if (*end != 'L' && (value > INT32_MAX || value < INT32_MIN))
		return report_line(e, file, line,
				   "the number %.*s does not fit in 32 bits; write %.*sL", (int)len,
				   p, (int)len, p);
	return 0;
}

static bool name_char(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '*';
}

int source_check(const char *text, const char *file, struct err *e)
{
	const char *p = text;
	int line = 1;
	int r;

	while (*p) {
		const char *end = skip_opaque(p, &line);

		if (end) {
			p = end;
		} else if (isalpha((unsigned char)*p) || *p == '_' || *p == '*') {
			while (name_char(*p))
				p++;
		} else if (isdigit((unsigned char)*p) ||
			   ((*p == '-' || *p == '+' || *p == '.') && isdigit((unsigned char)p[1]))) {
			r = check_number(p, file, line, e);
			if (r < 0)
				return r;
			p++;
			while (name_char(*p) || *p == '.' || *p == '+')
				p++;
		} else if (strncmp(p, "@include", 8) == 0) {
			return report_line(e, file, line,
					   "@include is refused: all settings stand in one file");
		} else {
			line += *p++ == '\n';
		}
	}
	return 0;
}

void source_line(const char *text, int line, char *out, size_t size)
{
	size_t len;

	for (; line > 1 && text; line--) {
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	if (!text)
		text = "";
	text += strspn(text, " \t");
	len = strcspn(text, "\r\n");
	while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	if (len > size - 1)
		len = size - 1;
	memcpy(out, text, len);
	out[len] = '\0';
}
