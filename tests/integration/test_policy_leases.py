"""A lease charges an attempt before its handler runs: nobody pays for a lease whose
handler did not run, or was not the one to end its session."""

import os
import signal
import threading
import time

import psycopg2

import cluster as private
import policy_support as p
import service

QUICK = {"initial": "1ms", "cap": "1ms"}
SEED = "(SELECT strandd.lock_seed('dm_receipts', route) FROM dm_routes WHERE tag = 'dm:evaluate_plan')"
TURN = f"pg_advisory_lock({SEED})"


def strand_lock(strand_id):
    return f"pg_advisory_lock(hashtextextended('{strand_id}', {SEED}))"


class Holder:
    """A session that stands for another instance: it waits for an advisory lock, and
    keeps it."""

    def __init__(self, db, lock):
        self.conn = db.connect("strandd_service")
        self.lock = lock

    def take(self, db):
        db.execute(f"SELECT {self.lock}", conn=self.conn)
        return self

    def release(self):
        self.conn.close()


def receipts(db):
    return db.execute("SELECT state, attempt FROM dm_receipts ORDER BY strand_id")


def end_sleepers(db):
    db.cluster.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = '%s'" % db.name)


def make_alone(db, wait_until, strand_id="AD_1", seconds="2"):
    """An administrator ends the session of its handler."""
    p.publish(db, strand_id, "sleep", seconds)
    wait_until(lambda: service.sleeping(db) == 1)
    end_sleepers(db)


def test_a_lease_whose_turn_another_has_is_given_back(db, daemon, wait_until, tmp_path):
    """A serial route: between the lease's COMMIT and the handler's transaction another
    instance gets the turn, and keeps it for long."""
    gap = tmp_path / "gap"
    gap.touch()
    service.function(db, p.HANDLER, name="test.policy")
    d = daemon([p.route(attempts=1, serial=True)], {"workers": {"threads": 1}}, failpoints=f"lease.committed=hold:{gap}")
    make_alone(db, wait_until, seconds="1")
    wait_until(lambda: receipts(db) == [("running", 1)])
    other = Holder(db, TURN).take(db)
    os.unlink(gap)
    wait_until(lambda: receipts(db) == [("retry", 0)])
    other.release()
    assert p.in_state(db, "AD_1", "done", wait_until)["attempt"] == 1
    assert service.calls(db) == {"AD_1": 1} and d.log()


def test_a_lease_is_not_kept_after_its_run(db, daemon, wait_until):
    """Its strand may wait for long behind others, or in a service that ends: another
    instance, or the next start, would charge it."""
    d = p.serve(db, daemon, attempts=1)
    make_alone(db, wait_until)
    wait_until(lambda: receipts(db) == [("running", 1)] and service.sleeping(db) == 1)
    # gets the lock when the handler's session ends
    other = Holder(db, strand_lock("AD_1"))
    waiting = threading.Thread(target=other.take, args=(db,))
    waiting.start()
    wait_until(lambda: db.cluster.admin("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
    end_sleepers(db)
    waiting.join()
    wait_until(lambda: receipts(db) == [("retry", 0)])
    d.stop()
    assert receipts(db) == [("retry", 0)]
    other.release()
    db.execute("UPDATE ad_strands SET kind = 'good'")
    d.start()
    assert p.in_state(db, "AD_1", "done", wait_until)["attempt"] == 1


def test_who_drains_leaves_no_lease(db, daemon, wait_until):
    """The strands end their sessions each time; whenever the service is told to end, no
    lease is left that the next start would charge."""
    d = p.serve(db, daemon, {"workers": {"threads": 1}}, attempts=9)
    for n in range(6):
        p.publish(db, f"AD_{n}", "terminate")
    wait_until(lambda: service.states(db, "dm", p.PLAN))
    for _ in range(3):
        d.stop()
        assert "running" not in service.states(db, "dm", p.PLAN).values()
        d.start()


def test_a_batch_that_loses_its_turn_is_not_repeated_without_guards(db, daemon, wait_until):
    service.function(db, "BEGIN PERFORM pg_sleep(1); RAISE EXCEPTION 'asked to fail'; END", name="test.late")
    d = daemon([p.route("test.late", attempts=1, serial=True)], {"workers": {"threads": 1}})
    p.publish(db, "AD_1")
    wait_until(lambda: service.sleeping(db) == 1)
    # gets the turn when the batch is rolled back
    other = Holder(db, TURN).take(db)
    d.wait_log("once more with guards")
    wait_until(lambda: d.metrics()[f"strandd_contended_total{p.LABELS}"] >= 1)
    other.release()
    p.in_state(db, "AD_1", "failed", wait_until)
    assert d.log().count("once more with guards") == 1


def answers(db):
    try:
        return db.value("SELECT 1")
    except psycopg2.Error:
        return None


def test_after_a_server_crash_a_lease_is_not_yet_left_behind(build, wait_until):
    """Who made it may live, and needs a moment to connect again.  The postmaster, and
    what it says of its start, survive the crash of a backend."""
    with private.Cluster() as c:
        db = c.database()
        service.function(db, p.HANDLER, name="test.policy")
        with private.Daemon(db, [p.route(attempts=3)]):
            p.publish(db, "AD_warm", "good")
            p.in_state(db, "AD_warm", "done", wait_until)
            os.kill(db.value("SELECT pg_backend_pid()"), signal.SIGKILL)
            crashed = time.time()
            time.sleep(0.1)
            db.conn.close()
            wait_until(lambda: answers(db), 20)
            with db.connect(autocommit=False) as conn:
                db.execute("INSERT INTO ad_strands (id, tags, kind) VALUES ('AD_1', %s, 'good')", (f'["{p.PLAN}"]',), conn)
                db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at, instance, started_at)"
                           " SELECT route, 'AD_1', 'running', 1, clock_timestamp() - interval '1 min', 0, clock_timestamp()"
                           " FROM dm_routes WHERE tag = %s", (p.PLAN,), conn)
            assert p.in_state(db, "AD_1", "done", wait_until, 20)["attempt"] == 2
            assert 8 <= db.value("SELECT extract(epoch FROM started_at)::float8 FROM dm_receipts WHERE strand_id = 'AD_1'") - crashed < 15
