/* strandctl doctor: checks and what they find.
 *
 * doctor.c runs the checks and prints; they stand in doctor_server.c (the server and
 * its settings), doctor_role.c (what the role may do), doctor_schema.c (triggers,
 * indexes, routes, tags), doctor_busy.c (what holds others up) and doctor_path.c
 * (clock, pooler, notifications).
 * All of it is the main thread's.  Out of memory ends the program.
 */
#ifndef STRANDD_STRANDCTL_DOCTOR_H
#define STRANDD_STRANDCTL_DOCTOR_H

#include "strandctl/catalog.h"

enum severity {
	SEVERITY_ERROR,		/* strands are lost, doubled, unseen or not served */
	SEVERITY_WARNING,	/* it hurts, or will */
	SEVERITY_NOTE,		/* to be known; no fault */
	SEVERITY_UNSEEN,	/* this role could not look */
	SEVERITY_OK,
	N_SEVERITIES,
};

struct finding {
	enum severity severity;
	const char *check;
	char *where, *what, *remedy;	/* owned; where and remedy can be NULL */
};

struct doctor {
	struct ctl *ctl;
	struct catalog catalog;		/* empty unless installed */
	bool installed, missing;	/* our schema is there; no schema at all */
	bool redact;			/* no errors of handlers, and no tags that no route has */
	int64_t old_ms;			/* what counts as an old transaction */
	const char *check;		/* the one that runs */
	struct finding *findings;
	size_t n;
};

/* Adds a finding of the check that runs.  `where` and `remedy` may be NULL. */
void doctor_find(struct doctor *d, enum severity severity, const char *where, const char *remedy,
		 const char *fmt, ...) PRINTF_LIKE(5, 6);

/* As ctl_query, but with a deadline. */
int doctor_query(struct doctor *d, const char *sql, int n_values, const char *const *values,
		 PGresult **ret_result, struct err *e) MUST_CHECK;

/* Rows of a query as findings: where, what, remedy.  Its result is PQcleared. */
int doctor_find_rows(struct doctor *d, enum severity severity, const char *sql, int n_values,
		     const char *const *values, struct err *e) MUST_CHECK;

/* A check finds something, or nothing, or (STRAND_ESQL) was not allowed to look; it may
 * find SEVERITY_OK to tell what it measured. */
typedef int doctor_check(struct doctor *d, struct err *e);

doctor_check doctor_version, doctor_libpq, doctor_settings, doctor_replication;
doctor_check doctor_role, doctor_privileges;
doctor_check doctor_schema, doctor_routes, doctor_triggers, doctor_functions, doctor_indexes, doctor_tags;
doctor_check doctor_service, doctor_queue, doctor_old;
doctor_check doctor_clock, doctor_pooler, doctor_notification;

#define DOCTOR_OLD_MS 600000	/* unless --old says another */

/* Runs all checks on a connected ctl; an error is of the connection. */
int doctor_examine(struct doctor *d, struct err *e) MUST_CHECK;
void doctor_print(const struct doctor *d);
void doctor_release(struct doctor *d);

/* What the findings come to, as an exit code. */
int doctor_code(const struct doctor *d);

#endif
