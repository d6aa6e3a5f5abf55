/* The lines that strandd and a handler's process exchange, version 1.  Pure; any thread.
 *
 *	request	{"v":1,"tag":"dm:evaluate_plan","source":"ad_strands","attempt":1,
 *		 "deadline_ms":30000,"strand":{the row, as PostgreSQL writes it}}
 *	answer	{"id":"AD_1","attempt":1,"replies":[{...},...]}
 *	    or	{"id":"AD_1","attempt":1,"error":"text","retry":false}
 *	ready	{"ready":true}
 *
 * A line is UTF-8 and ends with '\n'.  Of an answer, "attempt" and "retry" may be
 * absent, null is as good as absent, and members that are not known are passed over.
 * The replies are not decoded: PostgreSQL gets their text, so that long integers and
 * decimals survive.
 */
#ifndef STRANDD_HANDLE_PROTOCOL_H
#define STRANDD_HANDLE_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct request_line {
	const char *tag, *source;
	unsigned attempt;
	int64_t deadline_ms;
	const char *row;	/* JSON text */
	size_t row_len;
};

/* Appends the line, its '\n' too. */
void request_write(struct buf *out, const struct request_line *r);

enum answer_kind {
	ANSWER_READY,
	ANSWER_REPLIES,
	ANSWER_ERROR,
};

/* Its texts lie in the line that was parsed, or are static. */
struct answer {
	enum answer_kind kind;
	const char *id;		/* not NUL-terminated */
	size_t id_len;
	unsigned attempt;	/* 0: not said */
	const char *text;	/* REPLIES: "[...]"; ERROR: what it says, without a NUL byte.
				 * Not NUL-terminated */
	size_t text_len;
	size_t n_replies;
	bool final;		/* ERROR: "retry" is false */
};

/* Reads a line without its '\n', and decodes strings in place.
 * 0;
 * STRAND_EINVAL: it answers a strand, but cannot be taken, *e says why; of *ret the id
 * and the attempt are set;
 * STRAND_EPROTO: it is no answer, *e says why and quotes it; STRAND_ENOMEM.  *e has what
 * the process did, to be put behind "the process". */
int answer_parse(char *line, size_t len, struct answer *ret, struct err *e) MUST_CHECK;

/* The first bytes of what a process wrote, fit for a log and a receipt. */
#define QUOTE_BYTES 100
const char *answer_quote(const char *text, size_t len, char ret[QUOTE_BYTES]);

#endif
