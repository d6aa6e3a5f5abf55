"""Probes of suspended routes, and sessions that a handler has spoilt."""

import threading
import time

import pytest

import policy_support as p
import service

QUICK = {"initial": "1ms", "cap": "1ms"}


def suspended(db):
    return db.value("SELECT suspended_at IS NOT NULL FROM dm_routes WHERE tag = %s", (p.PLAN,))


def test_urgent_poison_does_not_keep_the_route_suspended(db, daemon, wait_until):
    """A probe takes strands of both lanes."""
    for n in range(12):
        p.publish(db, f"AD_bad_{n}", "table", tags=["priority:high"])
    p.serve(db, daemon, attempts=3, suspend_after=20, backoff=QUICK)
    wait_until(lambda: suspended(db))
    service.publish_many(db, "ad_strands", "AD_ok_", 30, [p.PLAN], kind="good")
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()).count("done") == 30, 40)


def test_a_session_without_its_statements_is_not_kept(db, daemon, wait_until):
    """Also when it shows in a batch that was committed."""
    service.function(db, """BEGIN
        IF strand->>'kind' = 'deallocate' THEN DEALLOCATE ALL; END IF;
        IF strand->>'kind' = 'raise' THEN RAISE EXCEPTION 'no luck'; END IF;
        RETURN NEXT jsonb_build_object('kind', 'reply');
    END""", name="test.spoils")
    with db.connect(autocommit=False) as conn:
        for n, kind in enumerate(["raise", "deallocate", "good", "good"]):
            db.execute("INSERT INTO ad_strands (id, tags, kind) VALUES (%s, %s, %s)", (f"AD_{n}", f'["{p.PLAN}"]', kind), conn)
    daemon([p.route("test.spoils", attempts=1)], {"workers": {"threads": 1}})
    wait_until(lambda: sorted(service.states(db, "dm", p.PLAN).values()) == ["done", "done", "done", "failed"], 30)
    for n in range(20):
        p.publish(db, f"AD_x{n}", "deallocate" if n % 5 == 0 else "good")
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()).count("done") == 23, 30)


def test_handlers_that_deallocate_cost_their_neighbours_nothing(db, daemon, wait_until):
    """In a guarded batch, whose statements are prepared anew each time."""
    service.function(db, """BEGIN
        IF strand->>'kind' = 'deallocate' THEN DEALLOCATE ALL; END IF;
        IF strand->>'kind' = 'sleep' THEN PERFORM pg_sleep(1); END IF;
        IF strand->>'kind' = 'raise' THEN RAISE EXCEPTION 'no luck'; END IF;
        RETURN NEXT jsonb_build_object('kind', 'reply');
    END""", name="test.spoils")
    # so long that the first one's pace makes no small batches
    d = daemon([p.route("test.spoils", attempts=1)], {"workers": {"threads": 1, "handler_timeout": "10min"}})
    p.publish(db, "AD_first", "sleep")
    wait_until(lambda: service.sleeping(db) == 1)
    with db.connect(autocommit=False) as conn:
        for n in range(60):
            kind = "raise" if n == 0 else "good" if n % 3 else "deallocate"
            db.execute("INSERT INTO ad_strands (id, tags, kind) VALUES (%s, %s, %s)", (f"AD_{n:02}", f'["{p.PLAN}"]', kind), conn)
    wait_until(lambda: sorted(service.states(db, "dm", p.PLAN).values()) == ["done"] * 60 + ["failed"], 10)
    assert d.metrics()[f"strandd_put_off_total{p.LABELS}"] == 0


def test_what_fails_at_commit_alone_is_charged(db, daemon, wait_until):
    """A cursor WITH HOLD runs its query at COMMIT, behind every guard."""
    service.function(db, """BEGIN
        IF strand->>'kind' = 'hold' THEN
            EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1 / (x - 1) FROM generate_series(1, 1) x';
        END IF;
        RETURN NEXT jsonb_build_object('kind', 'reply');
    END""", name="test.holds")
    with db.connect(autocommit=False) as conn:
        for n in range(10):
            db.execute("INSERT INTO ad_strands (id, tags, kind) VALUES (%s, %s, %s)",
                       (f"AD_{n}", f'["{p.PLAN}"]', "hold" if n == 4 else "good"), conn)
    daemon([p.route("test.holds", attempts=2, backoff=QUICK)])
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()).count("done") == 9, 30)
    failed = p.in_state(db, "AD_4", "failed", wait_until, 30)
    assert failed["attempt"] == 2 and failed["sqlstate"] == "22012" and "COMMIT" in failed["error"], failed


def holds(db, code):
    """A handler whose strands of kind "hold" raise `code` at COMMIT."""
    db.execute(f"CREATE FUNCTION test.boom() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'boom' USING ERRCODE = '{code}'; END $$;"
               " GRANT EXECUTE ON FUNCTION test.boom() TO strandd_service")
    service.function(db, """BEGIN
        IF strand->>'kind' = 'hold' THEN
            EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT test.boom()';
        END IF;
        RETURN NEXT jsonb_build_object('kind', 'reply');
    END""", name="test.holds")


@pytest.mark.parametrize("code", ["40001", "40P01", "53200", "55P03", "54000", "57P03", "42883"])
def test_whatever_fails_at_commit_each_time_ends(db, daemon, wait_until, code):
    """The free classes are bounded there too, and one strand suspends no route."""
    holds(db, code)
    with db.connect(autocommit=False) as conn:
        for n in range(10):
            db.execute("INSERT INTO ad_strands (id, tags, kind) VALUES (%s, %s, %s)",
                       (f"AD_{n}", f'["{p.PLAN}"]', "hold" if n == 4 else "good"), conn)
    d = daemon([p.route("test.holds", attempts=2, backoff=QUICK)])
    over = threading.Event()

    def flow():
        n = 0
        while not over.wait(0.2):
            n += 1
            p.publish(db, f"AD_more_{n}", "good")

    producer = threading.Thread(target=flow)
    producer.start()
    try:
        failed = p.in_state(db, "AD_4", "failed", wait_until, 45)
    finally:
        over.set()
        producer.join()
    assert failed["attempt"] == 2 and failed["sqlstate"] == code, failed
    assert "COMMIT" in failed["error"] or code == "57P03"
    assert "route suspended" not in d.log()
    wait_until(lambda: "done" == min(s for i, s in service.states(db, "dm", p.PLAN).items() if i != "AD_4"), 30)


def test_a_handler_that_is_broken_at_commit_suspends_its_route(db, daemon, wait_until):
    """However many strands come: what is rolled back is no success of another."""
    holds(db, "42883")
    daemon([p.route("test.holds", attempts=2, backoff=QUICK)])
    for n in range(60):
        p.publish(db, f"AD_{n}", "hold")
        if suspended(db):
            break
        time.sleep(0.3)
    wait_until(lambda: suspended(db), 30)
    assert set(service.states(db, "dm", p.PLAN).values()) <= {"retry"}
    assert not db.value("SELECT count(*) FROM dm_receipts WHERE attempt > 0")


def test_what_failed_at_commit_is_charged_at_once(db, daemon, wait_until):
    """And not when the route, which it helped to suspend, is resumed: nobody holds a
    lease meanwhile."""
    holds(db, "22012")
    service.publish_many(db, "ad_strands", "AD_", 80, [p.PLAN], kind="hold")
    daemon([p.route("test.holds", attempts=1, suspend_after=10)])
    wait_until(lambda: suspended(db), 30)
    wait_until(lambda: "running" not in service.states(db, "dm", p.PLAN).values())
    time.sleep(3)   # a probe or two
    states = list(service.states(db, "dm", p.PLAN).values())
    assert 10 <= states.count("failed") <= 14 and "running" not in states, states


def test_a_full_notify_queue_charges_nobody(db, daemon, wait_until):
    """COMMIT fails with 54000 for whoever notifies, for as long as some listener sleeps.
    The server is told to say that its queue is full."""
    usage = "CREATE OR REPLACE FUNCTION pg_catalog.pg_notification_queue_usage() RETURNS float8 LANGUAGE %s"
    db.cluster.admin(usage % "sql" + " VOLATILE STRICT PARALLEL RESTRICTED AS 'SELECT 1.0::float8'", name=db.name)
    holds(db, "54000")
    p.publish(db, "AD_1", "hold")
    d = daemon([p.route("test.holds", attempts=1, backoff=QUICK)])
    put_off = f"strandd_put_off_total{p.LABELS}"
    wait_until(lambda: d.metrics().get(put_off, 0) >= 10, 40)
    assert "failed" not in service.states(db, "dm", p.PLAN).values()
    db.cluster.admin(usage % "internal" + " VOLATILE STRICT PARALLEL RESTRICTED AS 'pg_notification_queue_usage'", name=db.name)
    assert p.in_state(db, "AD_1", "failed", wait_until, 40)["sqlstate"] == "54000"


def test_a_lease_that_lost_its_turn_costs_nothing(db, daemon, wait_until):
    """Two instances on a serial route: a strand that goes alone gives its lease back
    when the other has the turn."""
    service.function(db, "BEGIN PERFORM pg_sleep(0.2); RETURN NEXT '{\"kind\":\"reply\"}'::jsonb; END", name="test.slow")
    daemons = [daemon([p.route("test.slow", attempts=1, serial=True)], {"workers": {"threads": 2}}) for _ in range(2)]
    service.publish_many(db, "ad_strands", "AD_", 60, [p.PLAN], kind="good")
    for _ in range(2):
        time.sleep(1.5)
        db.cluster.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                         " WHERE datname = '%s' AND query LIKE '%%test.slow%%' AND pid <> pg_backend_pid()" % db.name)
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()).count("done") == 60, 90,
               what=lambda: service.states(db, "dm", p.PLAN))
    assert all(d.process.poll() is None for d in daemons)


def test_lone_strands_do_not_keep_a_worker_for_long(db, daemon, wait_until):
    """After a lost session each of the batch goes alone: others get their turn between them."""
    service.function(db, "BEGIN PERFORM pg_sleep(0.4); RETURN NEXT '{\"kind\":\"reply\"}'::jsonb; END", name="test.slow")
    service.function(db, "BEGIN RETURN NEXT '{}'::jsonb; END", name="test.quick")
    other = {"tag": "trader:execute_plan", "source": "DM_strands", "handler": "test.quick"}
    daemon([p.route("test.slow", attempts=1), other], {"workers": {"threads": 1, "handler_timeout": "2s"}})
    service.publish_many(db, "ad_strands", "AD_", 4, [p.PLAN], kind="good")
    time.sleep(0.6)
    db.cluster.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'"
                     " AND query LIKE '%%test.slow%%' AND pid <> pg_backend_pid()" % db.name)
    service.publish_many(db, "ad_strands", "AD_more_", 30, [p.PLAN], kind="good")
    service.publish(db, "dm_strands", "DM_1", ["trader:execute_plan"])
    service.final(db, "tr", "DM_1", "trader:execute_plan", 10)


def test_lone_strands_let_an_urgent_one_go_first(db, daemon, wait_until):
    service.function(db, "BEGIN PERFORM pg_sleep(0.5); RETURN NEXT '{\"kind\":\"reply\"}'::jsonb; END", name="test.slow")
    service.function(db, "BEGIN RETURN NEXT '{}'::jsonb; END", name="test.quick")
    other = {"tag": "trader:execute_plan", "source": "DM_strands", "handler": "test.quick"}
    d = daemon([p.route("test.slow", attempts=1), other], {"workers": {"threads": 1, "handler_timeout": "60s"}})
    p.publish(db, "AD_first", "good")
    wait_until(lambda: service.sleeping(db) == 1)
    service.publish_many(db, "ad_strands", "AD_", 10, [p.PLAN], kind="good")
    wait_until(lambda: service.states(db, "dm", p.PLAN) and service.sleeping(db) == 1)
    db.cluster.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'"
                     " AND wait_event = 'PgSleep'" % db.name)
    wait_until(lambda: "running" in service.states(db, "dm", p.PLAN).values(), what=lambda: (service.states(db, "dm", p.PLAN), d.log()))
    service.publish(db, "dm_strands", "DM_1", ["trader:execute_plan", "priority:high"])
    service.final(db, "tr", "DM_1", "trader:execute_plan", 10)
    assert len(service.states(db, "dm", p.PLAN)) < 11
