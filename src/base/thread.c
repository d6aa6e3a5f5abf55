#include "base/thread.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <urcu.h>

#include "base/activity.h"
#include "base/beat.h"

static _Thread_local char own_name[16];

static void *thread_main(void *arg)
{
	struct thread *t = arg;

	memcpy(own_name, t->name, sizeof(own_name));
	pthread_setname_np(pthread_self(), own_name);
	rcu_register_thread();
	activity_begin(own_name);
	beat_register(own_name);
	t->fn(t->arg);
	beat_unregister();
	activity_end();
	rcu_unregister_thread();
	return NULL;
}

int thread_start(struct thread *t, const char *name, thread_fn *fn, void *arg, struct err *e)
{
	sigset_t all, old;
	int r;

	snprintf(t->name, sizeof(t->name), "%s", name);
	t->fn = fn;
	t->arg = arg;
	t->started = false;

	/* Inherited blocked: no signal can meet the thread before it blocks them. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&t->id, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return err_set(e, STRAND_ESYS, "cannot start thread \"%s\": %s", t->name, strerror(r));
	t->started = true;
	return 0;
}

void thread_join(struct thread *t)
{
	if (!t->started)
		return;
	pthread_join(t->id, NULL);
	t->started = false;
}

const char *thread_name(void)
{
	if (own_name[0])
		return own_name;
	/* The first thread, or one that a library started and named. */
	if (getpid() == gettid() ||
	    pthread_getname_np(pthread_self(), own_name, sizeof(own_name)) != 0)
		snprintf(own_name, sizeof(own_name), "main");
	return own_name;
}
