#include "base/outage.h"

#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"

#define FIRST_MS 100
#define CAP_MS 5000
#define TELL_MS 60000

int64_t outage_failed(struct outage *o, const struct err *e, const char *what_now)
{
	if (strcmp(o->told, e->text) || clock_now() >= o->tell_at) {
		log_warning("%s; %s", e->text, what_now);
		snprintf(o->told, sizeof(o->told), "%s", e->text);
		o->tell_at = clock_after_ms(TELL_MS);
	}
	return backoff_ms(++o->failures, FIRST_MS, CAP_MS);
}

void outage_over(struct outage *o, const char *text)
{
	if (o->failures)
		log_info("%s", text);
	*o = (struct outage){ 0 };
}
