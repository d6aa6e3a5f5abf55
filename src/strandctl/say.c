#include "strandctl/ctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void ctl_warn(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("strandctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

PRINTF_LIKE(2, 0) static int say_line(FILE *out, const char *fmt, va_list ap)
{
	vfprintf(out, fmt, ap);
	fputc('\n', out);
	return fflush(out) || ferror(out) ? -1 : 0;
}

void ctl_say(const struct ctl *ctl, const char *fmt, ...)
{
	FILE *out = ctl->json ? stderr : stdout;
	va_list ap, again;

	va_start(ap, fmt);
	va_copy(again, ap);
	/* It is done, and be it on a full disk that it is told. */
	if (say_line(out, fmt, ap) && out == stdout)
		say_line(stderr, fmt, again);
	va_end(again);
	va_end(ap);
}

void ctl_server_note(struct ctl *ctl, const char *which, char *out, size_t size)
{
	const char *line = ctl->conn ? PQerrorMessage(conn_pg(ctl->conn)) : "";
	size_t n = strlen(which);

	snprintf(out, size, "%s", "");
	while (*line && (strncmp(line, which, n) || line[n] != ':')) {
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
	if (!*line)
		return;
	line += n + 1 + strspn(line + n + 1, " ");
	snprintf(out, size, "%.*s", (int)strcspn(line, "\n"), line);
}

/* Conditions that a better argument would have avoided. */
static bool users_fault(const char *sqlstate)
{
	static const char *const classes[] = { "22", "23", "SR", "3F", "42", "0A", "P0" };

	for (size_t i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		if (!strncmp(sqlstate, classes[i], 2))
			return strcmp(sqlstate, "42501") != 0;
	return false;
}

int exit_code_of(const struct err *e)
{
	switch (e->code) {
	case STRAND_OK:
		return EXIT_OK;
	case STRAND_EINVAL:
		return EXIT_USAGE;
	case STRAND_ENOENT:
		return EXIT_NOT_FOUND;
	case STRAND_ECONN:
	case STRAND_ETIMEOUT:
		return EXIT_UNREACHABLE;
	case STRAND_ESTOPPED:
		return EXIT_INTERRUPTED;
	case STRAND_ESQL:
		return users_fault(e->sqlstate) ? EXIT_USAGE : EXIT_FAULT;
	default:
		return EXIT_FAULT;
	}
}

int ctl_fail(struct ctl *ctl, const struct err *e)
{
	static const struct {
		const char *server, *ours;
	} notes[] = { { "DETAIL", "detail" }, { "HINT", "hint" } };
	char text[1024];

	if (e->code == STRAND_ESTOPPED)
		ctl_warn("interrupted");
	else
		ctl_warn("%s", e->text);
	if (e->code == STRAND_ESQL) {
		for (size_t i = 0; i < 2; i++) {
			ctl_server_note(ctl, notes[i].server, text, sizeof(text));
			if (*text)
				ctl_warn("%s: %s", notes[i].ours, text);
		}
		if (!*text && !strcmp(e->sqlstate, "42501") && ctl->conn)
			ctl_warn("hint: connected as \"%s\"; %s", PQuser(conn_pg(ctl->conn)), ctl->wants);
	}
	return exit_code_of(e);
}

const char *cell(const PGresult *res, int row, int column)
{
	return PQgetisnull(res, row, column) ? NULL : PQgetvalue(res, row, column);
}
