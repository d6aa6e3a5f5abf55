"""A broken handler does not burn the backlog: its route is suspended and probed."""

import time

import pytest

import policy_support as p
import service

ROWS = "SELECT suspended_at IS NOT NULL, suspended_error, suspended_sqlstate FROM dm_routes WHERE tag = %s"


def suspended(db):
    return db.execute(ROWS, (p.PLAN,))[0]


def wait_suspended(db, wait_until, on=True, timeout=15):
    wait_until(lambda: suspended(db)[0] == on, timeout, what=lambda: suspended(db))


def gauge(d):
    return d.metrics()[f"strandd_route_suspended{p.LABELS}"]


@pytest.mark.sanitize
def test_a_missing_table_suspends_and_charges_nothing(db, daemon, wait_until):
    d = p.serve(db, daemon, attempts=1, suspend_after=20)
    for n in range(30):
        p.publish(db, f"AD_{n}", "table")
    wait_suspended(db, wait_until)
    _, error, sqlstate = suspended(db)
    assert "missing_table" in error and sqlstate == "42P01"
    wait_until(lambda: gauge(d) == 1)
    time.sleep(2.5)
    assert service.count_receipts(db, "dm", p.PLAN) == 0
    assert d.log().count("route suspended: its handler is broken") == 1 and "strandctl resume" in d.log()
    db.execute("CREATE TABLE missing_table (i int); GRANT SELECT ON missing_table TO strandd_service")
    wait_suspended(db, wait_until, False, 40)
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()) == ["done"] * 30, 20,
               what=lambda: f"30 done, not {service.states(db, 'dm', p.PLAN)}")
    assert db.value("SELECT max(attempt) FROM dm_receipts") == 1
    wait_until(lambda: gauge(d) == 0)
    assert "route resumed" in d.log() and d.metrics()[f"strandd_suspensions_total{p.LABELS}"] == 1


def test_what_failed_before_it_was_mended_is_tried_again_before_it_is_charged(db, daemon, wait_until):
    """Of one batch, one strand fails and a later one goes through: because the first is
    bad, or because what was missing has come in between."""
    db.execute("GRANT CREATE ON SCHEMA test TO strandd_service")
    service.function(db, """BEGIN
        CASE strand->>'kind'
            WHEN 'first' THEN PERFORM pg_sleep(1);
            WHEN 'makes' THEN EXECUTE 'CREATE TABLE test.late (i int)';
            ELSE EXECUTE 'SELECT FROM test.late';
        END CASE;
        RETURN NEXT jsonb_build_object('kind', 'reply');
    END""", name="test.mends")
    daemon([p.route("test.mends", attempts=1)], {"workers": {"threads": 1, "handler_timeout": "10min"}})
    p.publish(db, "AD_first", "first")
    wait_until(lambda: service.sleeping(db) == 1)
    db.execute("INSERT INTO ad_strands (id, tags, kind) SELECT 'AD_' || k, jsonb_build_array(%s), k FROM unnest(ARRAY['needs', 'makes']) k", (p.PLAN,))
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()) == ["done"] * 3, what=lambda: service.states(db, "dm", p.PLAN))
    assert db.value("SELECT max(attempt) FROM dm_receipts") == 1


def test_the_handler_itself_is_dropped_and_made_again(db, daemon, wait_until):
    d = p.serve(db, daemon, attempts=1)
    p.publish(db, "AD_0")
    p.in_state(db, "AD_0", "done", wait_until)
    db.execute("DROP FUNCTION test.policy(jsonb)")
    for n in range(1, 200):
        p.publish(db, f"AD_{n}")
    wait_suspended(db, wait_until, timeout=30)
    assert service.count_receipts(db, "dm", p.PLAN) == 1 and suspended(db)[2] == "42883"
    service.function(db, p.HANDLER, name="test.policy")
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()) == ["done"] * 200, 60)
    assert d.log()


def test_failures_in_a_row_suspend(db, daemon, wait_until):
    """Five are charged, a thousand are not."""
    d = p.serve(db, daemon, {"workers": {"threads": 1}}, attempts=1, suspend_after=5)
    service.publish_many(db, "ad_strands", "AD_", 1000, [p.PLAN], kind="raise")
    wait_suspended(db, wait_until)
    time.sleep(3)
    assert service.count_receipts(db, "dm", p.PLAN) == 5
    assert suspended(db)[1] == "5 failures in a row, the last: asked to fail"
    # mended
    service.function(db, "BEGIN RETURN; END", name="test.policy")
    wait_until(lambda: service.count_receipts(db, "dm", p.PLAN) == 1000, 60)
    assert sorted(service.states(db, "dm", p.PLAN).values()).count("failed") == 5
    assert d.log()


def test_a_success_in_between_does_not_suspend(db, daemon, wait_until):
    d = p.serve(db, daemon, {"workers": {"threads": 1}}, attempts=1, suspend_after=5)
    for n in range(40):
        p.publish(db, f"AD_{n}", "good" if n % 4 == 3 else "raise")
    wait_until(lambda: service.count_receipts(db, "dm", p.PLAN) == 40, 30)
    assert not suspended(db)[0] and "suspended" not in d.log()


def test_one_strand_of_class_42_among_good_ones_is_charged(db, daemon, wait_until):
    p.serve(db, daemon, attempts=1, suspend_after=5)
    with db.connect(autocommit=False) as conn:
        for n in range(10):
            db.execute("INSERT INTO ad_strands (id, tags, kind) VALUES (%s, %s, %s)",
                       (f"AD_{n}", f'["{p.PLAN}"]', "table" if n == 4 else "good"), conn)
    failed = p.in_state(db, "AD_4", "failed", wait_until)
    assert failed["sqlstate"] == "42P01"
    wait_until(lambda: service.count_receipts(db, "dm", p.PLAN) == 10)
    assert not suspended(db)[0]


def test_a_poison_does_not_keep_the_route_suspended(db, daemon, wait_until):
    """The probe takes others too; when one goes through, the poison is charged."""
    p.serve(db, daemon, attempts=1)
    p.publish(db, "AD_bad", "table")
    wait_suspended(db, wait_until)
    p.publish(db, "AD_good")
    p.in_state(db, "AD_good", "done", wait_until, 40)
    wait_suspended(db, wait_until, False, 40)
    p.publish(db, "AD_other")
    p.in_state(db, "AD_other", "done", wait_until, 40)


def test_it_survives_a_restart_and_other_instances_know(db, daemon, wait_until):
    first = p.serve(db, daemon, attempts=1)
    p.publish(db, "AD_1", "table")
    wait_suspended(db, wait_until)
    since = db.value("SELECT suspended_at FROM dm_routes WHERE tag = %s", (p.PLAN,))
    second = daemon([p.route(attempts=1)], {"scan": {"interval": "500ms"}})
    wait_until(lambda: gauge(second) == 1)
    first.restart()
    wait_until(lambda: gauge(first) == 1)
    assert db.value("SELECT suspended_at FROM dm_routes WHERE tag = %s", (p.PLAN,)) == since
    db.execute("CREATE TABLE missing_table (i int); GRANT SELECT ON missing_table TO strandd_service")
    p.in_state(db, "AD_1", "done", wait_until, 40)
    wait_until(lambda: gauge(first) == 0 and gauge(second) == 0)


@pytest.mark.sanitize
def test_an_operator_resumes(db, daemon, wait_until):
    """With nothing in its lane, so that no probe can; and no scan is due."""
    d = p.serve(db, daemon, {"scan": {"interval": "1h"}}, attempts=1, suspend_after=1)
    p.publish(db, "AD_1", "raise")
    wait_suspended(db, wait_until)
    wait_until(lambda: gauge(d) == 1)
    db.execute("UPDATE dm_routes SET suspended_at = NULL, suspended_error = NULL, suspended_sqlstate = NULL; NOTIFY \"strandd:routes\"")
    d.wait_log("route resumed, as its row in the database says")
    assert gauge(d) == 0
    p.publish(db, "AD_2")
    p.in_state(db, "AD_2", "done", wait_until)
    assert "its handler works again" not in d.log()


def test_other_routes_go_on(db, daemon, wait_until):
    service.function(db, p.HANDLER, name="test.policy")
    d = daemon([p.route(attempts=1), ("trader:execute_plan", "DM_strands", "test.nothing")], {"queue": {"limit": 1000}})
    service.publish_many(db, "ad_strands", "AD_", 3000, [p.PLAN], kind="table")
    wait_suspended(db, wait_until)
    service.publish_many(db, "dm_strands", "DM_", 2000, ["trader:execute_plan"])
    wait_until(lambda: service.count_receipts(db, "tr", "trader:execute_plan") == 2000, 30)
    assert service.count_receipts(db, "dm", p.PLAN) == 0 and d.log()


def test_a_backend_killer_of_all_strands_suspends(db, daemon, wait_until):
    """Each costs a connection; the backlog is not burnt."""
    p.serve(db, daemon, {"workers": {"threads": 1}}, attempts=1, suspend_after=2)
    for n in range(30):
        p.publish(db, f"AD_{n}", "terminate")
    wait_suspended(db, wait_until, timeout=90)
    time.sleep(1)
    assert list(service.states(db, "dm", p.PLAN).values()).count("failed") <= 3


def test_attempts_that_were_left_behind_suspend(db, daemon, wait_until):
    """Last attempts of a process that died in them: failures in a row like any other."""
    db.execute("INSERT INTO ad_strands (id, tags, kind) SELECT 'AD_' || n, %s, 'good' FROM generate_series(1, 5) n", (f'["{p.PLAN}"]',))
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at, instance, started_at)"
               " SELECT o.route, s.id, 'running', 2, clock_timestamp(), 0, clock_timestamp() FROM dm_routes o, ad_strands s WHERE o.tag = %s", (p.PLAN,))
    d = p.serve(db, daemon, {"workers": {"threads": 1}}, attempts=2, suspend_after=3)
    wait_suspended(db, wait_until)
    assert suspended(db)[1:] == ("3 failures in a row, the last: its last attempt was left behind, and nothing of it stands", "57P01")
    assert sorted(service.states(db, "dm", p.PLAN).values()) == ["failed"] * 3 + ["running"] * 2
    assert d.log().count("strand failed for good: its last attempt was left behind") == 3 and service.calls(db) == {}


def test_a_strand_of_class_42_on_a_quiet_route_suspends_nothing(db, daemon, wait_until):
    """Others go through between its tries: it is charged."""
    d = p.serve(db, daemon, attempts=2, backoff={"initial": "1ms", "cap": "1ms"})
    p.publish(db, "AD_bad", "table")
    for n in range(40):
        p.publish(db, f"AD_{n}")
        time.sleep(0.1)
        if (p.receipt(db, "AD_bad") or {}).get("state") == "failed":
            break
    failed = p.in_state(db, "AD_bad", "failed", wait_until)
    assert failed["sqlstate"] == "42P01" and failed["attempt"] == 2
    assert d.metrics()[f"strandd_suspensions_total{p.LABELS}"] == 0
