#include "base/outage.h"

#include "base/backoff.h"

#define FIRST_MS 100
#define CAP_MS 5000

int64_t outage_failed_on(struct outage *o, const struct log_fields *fields, const struct err *e,
			 const char *what_now)
{
	struct log_fields f = *fields;
	uint64_t kind;

	f.sqlstate = e->sqlstate;
	f.fold = LOG_FOLD_ONCE;
	kind = log_event(LOG_LEVEL_WARNING, &f, "%s; %s", e->text, what_now);
	if (!o->failures)
		log_renew(o->over);
	if (kind != o->told[0]) {
		for (int i = OUTAGE_REASONS - 1; i > 0; i--)
			o->told[i] = o->told[i - 1];
		o->told[0] = kind;
	}
	return backoff_ms(++o->failures, FIRST_MS, CAP_MS);
}

int64_t outage_failed(struct outage *o, const struct err *e, const char *what_now)
{
	return outage_failed_on(o, &(struct log_fields){ 0 }, e, what_now);
}

void outage_over_on(struct outage *o, const struct log_fields *fields, const char *text)
{
	struct log_fields f = *fields;

	if (!o->failures)
		return;
	f.fold = LOG_FOLD_ONCE;
	for (int i = 0; i < OUTAGE_REASONS; i++)
		log_renew(o->told[i]);
	*o = (struct outage){ .over = log_event(LOG_LEVEL_INFO, &f, "%s", text) };
}

void outage_over(struct outage *o, const char *text)
{
	outage_over_on(o, &(struct log_fields){ 0 }, text);
}
