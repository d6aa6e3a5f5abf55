/* What the tests of processes share: a supervisor, slots of /bin/sh and Python, requests,
 * what was logged, and what is left in the system. */
#ifndef TESTS_UNIT_CHILD_SUPPORT_H
#define TESTS_UNIT_CHILD_SUPPORT_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/tsan.h"
#include "handle/child.h"
#include "handle/supervisor.h"

#if defined(STRANDD_TSAN) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* So long that only what never comes is given up. */
#define LONG_MS 120000

extern struct supervisor *supervisor;
extern struct child_policy policy;	/* generous; a test changes what it is about */

/* Before and after each test: the supervisor, and standard error as a file.  After it,
 * no process is left, and no descriptor. */
void rig_start(void);
void rig_stop(void);

/* A slot of the policy with this command. */
struct child *add_shell(const char *script);
struct child *add_python(const char *script);
struct child *add_command(const char *const *argv);

/* Answers each line with its strand, and `pid`. */
extern const char ECHO[];

void wait_until_up(struct child *c);

/* The next failure of a start, which must come; its text. */
const char *wait_for_failure(struct child *c);

/* An exchange of n requests of the rows {"id":"S<i>"}, from i = 0; or of these rows. */
struct exchange *make_requests(size_t n);
void set_row(struct exchange *x, size_t i, char *row);		/* takes the row */
char *big_row(size_t i, size_t len);
void run(struct child *c, struct exchange *x);			/* asserts 0 */
void free_requests(struct exchange *x);
void assert_states(const struct exchange *x, const char *states);	/* "AFLU", one letter each */
#define assert_has(text, part) ck_assert_msg(strstr(text, part) != NULL, "no \"%s\" in \"%s\"", part, text)

/* Runs one request, which must be answered; the number behind "pid": in its replies. */
pid_t ask_pid(struct child *c);

/* Of what was logged so far; static. */
const char *logged(void);
unsigned logged_times(const char *part);
void wait_for_log(const char *part);

bool is_alive(pid_t pid);			/* and no zombie */
void wait_until_dead(pid_t pid);
bool has_children(void);			/* zombies, too */
unsigned open_descriptors(void);
long memory_peak_kib(void);

/* A file that a script makes to say something. */
const char *flag_path(void);
void wait_for_flag(void);

int run_suite(Suite *s);

#endif
