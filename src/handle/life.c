/* One process of a slot: started, heard, dead, buried.  The supervisor's thread. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "handle/protocol.h"
#include "handle/slot.h"

#define LAST_PIECES 16	/* of its stderr, looked at before it is said how it ended */

static struct log_fields fields(const struct child *c)
{
	return (struct log_fields){ .route = c->policy.name, .source = c->policy.source };
}

/* How long until the next start, for the log. */
static double seconds_left(const struct child *c, int64_t now)
{
	return (double)((c->start_at - now) / (NSEC_PER_SEC / 10)) / 10;
}

static int64_t next_start(struct child *c, bool was_of_use, int64_t lived_ms, int64_t now)
{
	return c->policy.single ? INT64_MAX : pace_after_death(&c->pace, was_of_use, lived_ms, now);
}

static void failed_start(struct child *c, const char *why)
{
	struct err e;

	err_set(&e, STRAND_EINVAL, "%s", why);
	memcpy(e.sqlstate, SQLSTATE_HANDLER_START, sizeof(e.sqlstate));
	pthread_mutex_lock(&c->s->lock);
	c->failed_starts++;
	c->trouble = e;
	pthread_mutex_unlock(&c->s->lock);
}

static void not_started(struct child *c, const struct err *e, int64_t now)
{
	const struct log_fields f = fields(c);
	char why[sizeof(e->text) + 32];

	snprintf(why, sizeof(why), "cannot be started: %s", e->text);
	failed_start(c, why);
	c->start_at = next_start(c, false, 0, now);
	if (!c->policy.single)
		log_event(LOG_LEVEL_WARNING, &f, "handler %u: %s; it is tried again in %.1f s", c->number, why,
			  seconds_left(c, now));
	event_signal(&c->news);
}

void slot_start(struct child *c, uint64_t epoch, int64_t now)
{
	const struct log_fields f = fields(c);
	struct err e;
	int ret;

	/* Before it is started: what is replaced from here on may not be what it finds. */
	pthread_mutex_lock(&c->s->lock);
	c->epoch = epoch;
	pthread_mutex_unlock(&c->s->lock);
	ret = process_spawn(&c->process, &c->policy, &e);
	now = clock_now();
	if (ret) {
		not_started(c, &e, now);
		return;
	}
	line_reader_init(&c->lines, c->policy.max_line);
	errlog_begin(&c->errlog, &c->policy, c->number, c->process.pid);
	c->acted = ORDER_NONE;
	c->phase = PHASE_RUN;
	c->kills = 0;
	c->dead = c->out_closed = false;
	c->ready_until = clock_after_ms(c->policy.start_timeout_ms);
	pthread_mutex_lock(&c->s->lock);
	slot_move(c, c->policy.says_ready ? CHILD_STARTING : CHILD_UP);
	c->order = ORDER_NONE;
	c->born_at = now;
	c->up_at = c->policy.says_ready ? 0 : now;
	c->served = 0;
	c->proven = c->answered = c->by_itself = c->gone = false;
	c->s->starts++;
	pthread_mutex_unlock(&c->s->lock);
	event_signal(&c->news);
	log_event(LOG_LEVEL_DEBUG, &f, "handler %u (pid %d) is started", c->number, (int)c->process.pid);
}

static void is_ready(struct child *c)
{
	pthread_mutex_lock(&c->s->lock);
	slot_move(c, CHILD_UP);
	c->up_at = clock_now();
	c->proven = true;
	c->failed_starts = 0;
	c->trouble.code = 0;
	pthread_mutex_unlock(&c->s->lock);
	event_signal(&c->news);
}

static void is_not_ready(struct child *c, const char *line, size_t len)
{
	char reason[QUOTE_BYTES + 64], first[QUOTE_BYTES];

	snprintf(reason, sizeof(reason), "did not begin with {\"ready\":true}, but with \"%s\"",
		 answer_quote(line, len, first));
	slot_order(c, ORDER_TERM, reason);
}

void slot_hear(struct child *c)
{
	struct answer answer;
	struct err e;
	char first[QUOTE_BYTES], *line;
	size_t len;
	int ret = line_reader_read(&c->lines, c->process.out);

	if (ret == STRAND_ECONN)
		slot_order(c, ORDER_FINISH, "closed its standard output before it was ready");
	else if (ret == STRAND_ENOMEM || ret == STRAND_ESYS)
		slot_order(c, ORDER_TERM, "could not be read from");
	if (ret)
		return;
	ret = line_reader_next(&c->lines, &line, &len);
	if (!ret)
		return;
	/* Parsing may change the line. */
	(void)answer_quote(line, len, first);
	if (ret > 0 && !answer_parse(line, len, &answer, &e) && answer.kind == ANSWER_READY)
		is_ready(c);
	else
		is_not_ready(c, first, strlen(first));
}

static void describe(const siginfo_t *info, char *ret, size_t size)
{
	const char *name = sigabbrev_np(info->si_status);

	if (info->si_code == CLD_EXITED)
		snprintf(ret, size, "exited with status %d", info->si_status);
	else
		snprintf(ret, size, "was killed by signal %d (SIG%s)%s", info->si_status, name ? name : "?",
			 info->si_code == CLD_DUMPED ? ", core dumped" : "");
}

static void hear_last_words(struct child *c, int64_t now)
{
	int ret = c->process.err < 0 ? STRAND_ECONN : 0;

	for (int i = 0; i < LAST_PIECES && !ret; i++)
		ret = errlog_read(&c->errlog, c->process.err, now);
	if (ret == STRAND_ECONN)
		close_fd(&c->process.err);
}

void slot_died(struct child *c, int64_t now)
{
	struct pollfd out = { .fd = c->process.out };
	siginfo_t info = { 0 };
	char ending[sizeof(c->ending)] = "ended in a way that could not be found out";
	bool well;

	if (waitid(P_PIDFD, (id_t)c->process.pidfd, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
		if (!info.si_pid)
			return;
		describe(&info, ending, sizeof(ending));
	}
	hear_last_words(c, now);
	c->dead = true;
	c->out_closed = poll(&out, 1, 0) > 0 && out.revents & POLLHUP;
	well = info.si_code == CLD_EXITED && info.si_status == 0;
	pthread_mutex_lock(&c->s->lock);
	if (c->state != CHILD_LEAVING)
		slot_move(c, CHILD_LEAVING);
	c->by_itself = c->phase < PHASE_TERM;
	memcpy(c->ending, ending, sizeof(ending));
	memcpy(c->words, c->errlog.last, sizeof(c->words));
	if (well || !c->by_itself)
		c->words[0] = '\0';
	pthread_mutex_unlock(&c->s->lock);
	event_signal(&c->news);
}

void slot_bury(struct child *c, int64_t now)
{
	siginfo_t info;

	kill(-c->process.pid, SIGKILL);
	(void)waitid(P_PIDFD, (id_t)c->process.pidfd, &info, WEXITED | WNOHANG);
	hear_last_words(c, now);
	errlog_end(&c->errlog, now);
	close_fd(&c->process.err);
	close_fd(&c->process.pidfd);
	pthread_mutex_lock(&c->s->lock);
	c->gone = true;
	pthread_mutex_unlock(&c->s->lock);
	event_signal(&c->news);
}

/* A process that was not told to leave is gone.  It had not begun to be of use: then it
 * is the start that failed. */
static void tell_death(struct child *c, bool proven, bool never_up, int64_t now)
{
	const struct log_fields f = fields(c);
	const char *how = c->by_itself ? c->ending : c->reason;
	const char *but = "";
	char why[sizeof(c->reason) + 300];

	if (!proven && !never_up)
		but = " before it had read a request";
	else if (!proven && c->by_itself)
		but = " before it was ready";
	/* Its words are in the log already. */
	if (!c->policy.single)
		log_event(LOG_LEVEL_WARNING, &f, "handler %u (pid %d) %s%s; the next is started in %.1f s", c->number,
			  (int)c->process.pid, how, but, seconds_left(c, now));
	else if (c->answered)
		log_event(LOG_LEVEL_WARNING, &f, "handler %u (pid %d) %s, after its answer", c->number,
			  (int)c->process.pid, how);
	if (proven)
		return;
	snprintf(why, sizeof(why), "the process %s%s%s%s%s", how, but, *c->words ? ": \"" : "", c->words,
		 *c->words ? "\"" : "");
	failed_start(c, why);
}

void slot_conclude(struct child *c, bool to_leave, int64_t now)
{
	const struct log_fields f = fields(c);
	bool orderly = to_leave || c->acted == ORDER_LEAVE, proven, never_up;
	int64_t lived_ms;

	pthread_mutex_lock(&c->s->lock);
	lived_ms = c->up_at ? (now - c->up_at) / NSEC_PER_MSEC : 0;
	never_up = !c->up_at;
	/* So long without work and nothing wrong: that was a start. */
	if (!never_up && c->by_itself && lived_ms >= c->policy.start_timeout_ms)
		c->proven = true;
	proven = c->proven;
	c->s->deaths += !orderly;
	pthread_mutex_unlock(&c->s->lock);

	c->start_at = orderly && !c->policy.single ? now : next_start(c, c->answered, lived_ms, now);
	if (!orderly)
		tell_death(c, proven, never_up, now);
	else if (!to_leave)
		log_event(LOG_LEVEL_INFO, &f, "handler %u (pid %d) has left, and is replaced", c->number,
			  (int)c->process.pid);
	line_reader_release(&c->lines);
	process_release(&c->process);
	pthread_mutex_lock(&c->s->lock);
	slot_move(c, CHILD_WAITING);
	c->order = ORDER_NONE;
	c->gone = false;
	if (proven) {
		c->failed_starts = 0;
		c->trouble.code = 0;
	}
	pthread_mutex_unlock(&c->s->lock);
	event_signal(&c->news);
}
