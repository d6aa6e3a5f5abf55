#include "work/outcome.h"

#include <string.h>

/* SQLSTATEs, or their first characters, that mean the same at every stage.
 * The first row that fits wins. */
static const struct {
	const char *prefix;
	enum fault fault;
} everywhere[] = {
	{ "08", FAULT_CONNECTION },
	{ "57P0", FAULT_CONNECTION },	/* shutdown, crash, starting up, idle session */
	{ "25P03", FAULT_CONNECTION },	/* idle in transaction too long */
	{ "25006", FAULT_CONNECTION },	/* read only: this is no primary (any more) */
	{ "40", FAULT_TRANSACTION },
	{ "53", FAULT_RESOURCES },
	{ "55P03", FAULT_RESOURCES },
	{ "26000", FAULT_RESOURCES },	/* a handler has deallocated our statements */
	{ "42", FAULT_CONFIGURATION },
	{ "3F000", FAULT_CONFIGURATION },
	{ "0A000", FAULT_CONFIGURATION },
};

enum fault outcome_classify(enum stage stage, const struct err *e, const char *receipts_bare)
{
	if (e->code != STRAND_ESQL || !e->sqlstate[0])
		return FAULT_CONNECTION;
	for (size_t i = 0; i < sizeof(everywhere) / sizeof(everywhere[0]); i++) {
		if (!strncmp(e->sqlstate, everywhere[i].prefix, strlen(everywhere[i].prefix)))
			return everywhere[i].fault;
	}
	/* Another instance settled the strand first: its receipt stands. */
	if (!strcmp(e->sqlstate, "23505") && !strcmp(e->relation, receipts_bare))
		return FAULT_TRANSACTION;
	/* NOTIFYs that find no room in the server's queue fail there, whoever sent them. */
	if (stage == STAGE_COMMIT && !strcmp(e->sqlstate, "54000"))
		return FAULT_RESOURCES;
	if (stage == STAGE_HANDLE || stage == STAGE_COMMIT)
		return FAULT_HANDLER;
	return stage == STAGE_PREPARE ? FAULT_CONFIGURATION : FAULT_RESOURCES;
}

const char *outcome_name(enum fault fault)
{
	static const char *const names[FAULT_COUNT] = {
		[FAULT_CONNECTION] = "connection",
		[FAULT_TRANSACTION] = "transaction",
		[FAULT_RESOURCES] = "resources",
		[FAULT_CONFIGURATION] = "configuration",
		[FAULT_HANDLER] = "handler",
	};

	return names[fault];
}
