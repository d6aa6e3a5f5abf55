/* How no wakeup is lost (the top of src/queue/queue.c) as a model for spin: one route
 * with a cap, two kinds of work, one reserved worker and G that take both; somebody
 * offers high work, somebody normal work, somebody closes the route and opens it.
 * Each statement is one sequentially consistent step, each atomic block one
 * read-modify-write.  The order of the lanes is free, so ageing is covered.
 *
 *     spin -a -DG=1 wake.pml && gcc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m400000
 *
 * says "errors: 0" after 30 million states (3 minutes, 3 GB): when nothing moves any
 * more, all that was offered is done.  With -DWAKEANY (normal work may wake the
 * reserved worker), -DONLYHIGH (who leaves looks for high work only) or -DNOOPENWAKE
 * (who opens does not look) it finds at once how a wakeup is lost.
 */
#ifndef G
#define G 2
#endif
#ifndef CAP
#define CAP 1
#endif
#define W (1 + G)	/* worker 0 is the reserved one */
#define MAY(w, k) ((k) == 0 || (w) > 0)

byte queued[2];		/* high, normal */
byte inside;
bool closed;
bool idle[W];
bool event[W];
byte done;
byte stops = 0;		/* workers told to stop */

#define TAKEABLE(k) (queued[k] > 0 && !closed && inside < CAP)

/* park_wake: the lowest idle one that may; the read and the exchange are one step,
 * as a failed exchange reads again. */
inline wake(k) {
	atomic {
		if
		:: k == 0 && idle[0] -> idle[0] = false; event[0] = true
		:: !(k == 0 && idle[0]) && idle[1] -> idle[1] = false; event[1] = true
#if G > 1
		:: !(k == 0 && idle[0]) && !idle[1] && idle[2] -> idle[2] = false; event[2] = true
#endif
		:: else
		fi
	}
}

#if G > 1
#define ANYIDLE(k) ((k == 0 && idle[0]) || idle[1] || idle[2])
#else
#define ANYIDLE(k) ((k == 0 && idle[0]) || idle[1])
#endif

/* takeable: lane first, gate then: closed, then inside; three steps. */
inline look(k, ok) {
	ok = false;
	if
	:: queued[k] > 0 ->
		if
		:: !closed ->
			if
			:: inside < CAP -> ok = true
			:: else
			fi
		:: else
		fi
	:: else
	fi
}

inline wake_if_work() {
#ifndef ONLYHIGH
	if :: ANYIDLE(0) -> look(0, ok); if :: ok -> wake(0) :: else fi :: else fi;
	if :: ANYIDLE(1) -> look(1, ok); if :: ok -> wake(1) :: else fi :: else fi
#else
	if :: ANYIDLE(0) -> look(0, ok); if :: ok -> wake(0) :: else fi :: else fi
#endif
}

inline leave() {
	inside--;
	wake_if_work()
}

/* take_lane: up to one */
inline take(k, got) {
	got = false;
	do
	:: queued[k] > 0 ->
		if
		:: !closed ->
			bool in = false;
			atomic { if :: inside < CAP -> inside++; in = true :: else fi }
			if
			:: in ->
				atomic { if :: queued[k] > 0 -> queued[k]--; got = true :: else fi }
				if
				:: got -> break
				:: else -> leave()
				fi
			:: else -> break
			fi
		:: else -> break
		fi
	:: else -> break
	od
}

proctype worker(byte me) {
	bool ok, got, stopped, woken;
again:
	got = false;
	/* ageing may put either lane first */
	if
	:: true -> take(0, got); if :: !got && MAY(me, 1) -> take(1, got) :: else fi
	:: MAY(me, 1) -> take(1, got); if :: !got -> take(0, got) :: else fi
	fi;
	if
	:: got ->
#ifndef NOTAKEWAKE
		wake_if_work();
#endif
		done++;
		leave();
		goto again
	:: else
	fi;
	/* queue_wait */
sleep:
	idle[me] = true;
	look(0, ok);
	if :: !ok && MAY(me, 1) -> look(1, ok) :: else fi;
	if
	:: ok -> idle[me] = false; goto again
	:: else
	fi;
	stopped = false;
end_sleep:
	if
	:: event[me] -> event[me] = false
#ifdef STOPS
	:: atomic { stops == 0 && me != 1 -> stops++; stopped = true }
#endif
	fi;
	atomic { woken = !idle[me]; idle[me] = false }
	if
	:: stopped ->
		if :: woken -> wake_if_work() :: else fi;
		goto gone
	:: !stopped && woken -> goto again
	:: else -> goto sleep
	fi;
gone:
	skip
}

proctype offerer(byte k; byte n) {
	bool ok;
	do
	:: n > 0 ->
		n--;
		queued[k]++;
		look(k, ok);
#ifdef WAKEANY
		if :: ok -> wake(0) :: else fi
#else
		if :: ok -> wake(k) :: else fi
#endif
	:: else -> break
	od
}

/* ends with the route open */
proctype closer() {
	bool ok;
	closed = true;
	closed = false;
#ifndef NOOPENWAKE
	look(0, ok); if :: ok -> wake(0) :: else fi;
	look(1, ok); if :: ok -> wake(1) :: else fi
#endif
}

#define HIGHS 1
#define NORMALS 2

init {
	atomic {
		run worker(0); run worker(1);
#if G > 1
		run worker(2);
#endif
		run offerer(0, HIGHS); run offerer(1, NORMALS); run closer()
	}
	/* nothing else can move: all that was offered is done */
	timeout -> assert(done == HIGHS + NORMALS)
}
