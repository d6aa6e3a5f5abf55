/* A request of strandd's to a handler, one line of JSON:
 *
 *     {"v":1,"tag":"dm:evaluate_plan","source":"ad_strands","attempt":1,"deadline_ms":30000,"strand":{...}}
 *
 * Members that are not known are passed over.  Pure.
 */
#ifndef STRANDD_LIBSTRAND_REQUEST_H
#define STRANDD_LIBSTRAND_REQUEST_H

#include "libstrand/view.h"

struct request {
	struct strand strand;		/* the caller zeroes it once; its memory is used again */
	char *tag, *source;		/* owned; kept from one request to the next, which as a rule has the same */
	bool has_tag, has_source;
	int64_t version, attempt, deadline_ms;	/* -1: not said */
};

/* Reads the line, which ends with NUL and is changed: the strand borrows it.
 * STRAND_EPROTO: no request of version 1, *e says what it is; STRAND_ENOMEM. */
int request_read(struct request *r, char *line, size_t len, struct err *e) MUST_CHECK;
void request_release(struct request *r);

#endif
