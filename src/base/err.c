#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

int err_set(struct err *e, int code, const char *fmt, ...)
{
	char text[sizeof(e->text)];
	va_list args;

	if (!e)
		return code;
	/* Aside first: a caller that adds context passes e->text itself. */
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	e->code = code;
	e->sqlstate[0] = '\0';
	e->relation[0] = '\0';
	e->nested = false;
	/* It may have been cut in the middle of a letter, and goes into receipts. */
	utf8_mend(text);
	memcpy(e->text, text, strlen(text) + 1);
	/* Server messages and quoted input may bring newlines along. */
	for (char *p = e->text; *p; p++) {
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	}
	return code;
}

const char *err_name(int code)
{
	switch (code) {
	case STRAND_OK:
		return "STRAND_OK";
	case STRAND_ENOMEM:
		return "STRAND_ENOMEM";
	case STRAND_EINVAL:
		return "STRAND_EINVAL";
	case STRAND_ENOENT:
		return "STRAND_ENOENT";
	case STRAND_EFULL:
		return "STRAND_EFULL";
	case STRAND_ECONN:
		return "STRAND_ECONN";
	case STRAND_ETIMEOUT:
		return "STRAND_ETIMEOUT";
	case STRAND_ESTOPPED:
		return "STRAND_ESTOPPED";
	case STRAND_ESQL:
		return "STRAND_ESQL";
	case STRAND_ESYS:
		return "STRAND_ESYS";
	case STRAND_EHANDLER:
		return "STRAND_EHANDLER";
	case STRAND_EPROTO:
		return "STRAND_EPROTO";
	case STRAND_EDOUBT:
		return "STRAND_EDOUBT";
	default:
		return "unknown error";
	}
}
