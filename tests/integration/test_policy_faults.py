"""Failure classes: what costs an attempt, and that nothing goes on for ever."""

import threading
import time

import pytest

import policy_support as p
import service

QUICK = {"initial": "1ms", "cap": "1ms"}
LONG = 60


def all_done(db, ids):
    return {i: "done" for i in ids}


@pytest.mark.sanitize
def test_a_handler_that_ends_its_session_every_time_fails(db, daemon, wait_until):
    """And the others of its batch are charged nothing."""
    p.serve(db, daemon, attempts=2, backoff=QUICK)
    with db.connect(autocommit=False) as conn:
        for n in range(20):
            db.execute("INSERT INTO ad_strands (id, tags, kind) VALUES (%s, %s, %s)",
                       (f"AD_{n}", f'["{p.PLAN}"]', "terminate" if n == 7 else "good"), conn)
    failed = p.in_state(db, "AD_7", "failed", wait_until, LONG)
    assert failed["attempt"] == 2 and failed["sqlstate"] == "57P01" and "session ended" in failed["error"]
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()).count("done") == 19, LONG)
    assert db.value("SELECT count(*) FROM dm_strands") == 19
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done' AND attempt > 1") == 0
    p.marked(db, "AD_7", "error:processing_failed", wait_until)


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "53200", "57P03", "08006"])
def test_a_race_lost_every_time_fails(db, daemon, wait_until, code):
    p.serve(db, daemon, attempts=1, backoff=QUICK)
    p.publish(db, "AD_1", "raise", code)
    p.publish(db, "AD_2")
    p.in_state(db, "AD_2", "done", wait_until)
    failed = p.in_state(db, "AD_1", "failed", wait_until, LONG)
    assert failed["sqlstate"] == code and failed["attempt"] == 1


def test_a_real_deadlock_every_time_fails(db, daemon, wait_until):
    """The handler takes two locks in the order opposite to another session's."""
    db.execute("CREATE TABLE test.locks (id int PRIMARY KEY); INSERT INTO test.locks VALUES (1), (2);"
               "GRANT SELECT, UPDATE ON test.locks TO strandd_service")
    service.function(db, """BEGIN
        PERFORM * FROM test.locks WHERE id = 2 FOR UPDATE;
        PERFORM pg_sleep(0.1);
        PERFORM * FROM test.locks WHERE id = 1 FOR UPDATE;
    END""", name="test.deadlock")
    stop = threading.Event()

    def other():
        conn = db.connect(autocommit=False)
        while not stop.is_set():
            try:
                db.execute("SET LOCAL deadlock_timeout = '10s'; SELECT * FROM test.locks WHERE id = 1 FOR UPDATE", conn=conn)
                time.sleep(0.05)
                db.execute("SELECT * FROM test.locks WHERE id = 2 FOR UPDATE", conn=conn)
            except Exception:   # noqa: BLE001  the server chose this side
                pass
            conn.rollback()

    db.cluster.admin("ALTER DATABASE \"%s\" SET deadlock_timeout = '50ms'" % db.name)
    thread = threading.Thread(target=other)
    thread.start()
    try:
        daemon([p.route("test.deadlock", attempts=1)])
        p.publish(db, "AD_1")
        receipt = service.final(db, "dm", "AD_1", p.PLAN, LONG)
    finally:
        stop.set()
        thread.join()
    assert receipt["state"] in ("failed", "done"), receipt
    assert receipt["state"] == "done" or receipt["sqlstate"] in ("40P01", "55P03")


HOSTILE = {
    "sleeps": "PERFORM pg_sleep(60);",
    "loops": "LOOP END LOOP;",
    "catches the cancel": """LOOP
        BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END;
    END LOOP;""",
    "resets the timeout": "SET statement_timeout = 0; SET LOCAL statement_timeout = 0; PERFORM pg_sleep(60);",
    "resets the path": "SET search_path = pg_temp; CREATE TEMP TABLE ad_receipts (i int); PERFORM pg_sleep(60);",
    "recurses": "PERFORM * FROM test.hostile(strand);",
    "returns a gigabyte": "RETURN QUERY SELECT jsonb_build_object('kind', repeat(md5(i::text), 30000)) FROM generate_series(1, 1100) i;"
                          " PERFORM pg_sleep(60);",
    "takes an advisory lock": "PERFORM pg_advisory_lock(4711); RAISE EXCEPTION 'and keeps it';",
    "sets a role": "SET ROLE strandd_service; RAISE EXCEPTION 'as itself';",
    "opens a cursor and listens": "LISTEN nobody; RAISE EXCEPTION 'and so on';",
}
CODES = {"recurses": "54001", "takes an advisory lock": "P0001", "sets a role": "P0001", "opens a cursor and listens": "P0001"}

TRACE = """BEGIN
    RETURN NEXT jsonb_build_object('kind', current_setting('search_path'), 'symbol', current_setting('statement_timeout'),
        'timeframe', session_user || '/' || current_user, 'regime', (SELECT count(*) FROM pg_locks
            WHERE locktype = 'advisory' AND classid = 0 AND objid = 4711)::text,
        'session_bucket', (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema())::text);
END"""


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_handler_is_stopped_charged_and_leaves_no_trace(db, daemon, wait_until, what):
    db.execute("ALTER TABLE dm_strands ALTER COLUMN kind TYPE text")
    service.function(db, f"BEGIN IF strand->>'kind' = 'bad' THEN {HOSTILE[what]} END IF; END", name="test.hostile")
    service.function(db, TRACE, name="test.trace", argument="strand dm_strands")
    db.attach("alpha:look", "dm_strands", "ad_strands")
    db.grant()
    daemon([p.route("test.hostile", attempts=1), {"tag": "alpha:look", "source": "DM_strands", "handler": "test.trace"}],
           {"workers": {"threads": 1, "handler_timeout": "1500ms"}})
    started = time.monotonic()
    p.publish(db, "AD_1", "bad")
    failed = p.in_state(db, "AD_1", "failed", wait_until, LONG)
    assert failed["sqlstate"] == CODES.get(what, "57014"), failed
    assert failed["attempt"] == 1 and failed["error"]
    # at its deadline, once without and once with guards, or once more behind a lease
    assert time.monotonic() - started < 25
    p.publish(db, "AD_2")
    p.in_state(db, "AD_2", "done", wait_until)
    service.publish(db, "dm_strands", "DM_look", ["alpha:look"])
    service.final(db, "ad", "DM_look", "alpha:look")
    assert db.execute("SELECT kind, symbol, timeframe, regime, session_bucket FROM ad_strands WHERE module = 'alpha' AND tags @> '[\"original_strand:DM_look\"]'") == \
        [("public", "1500ms", "strandd_service/strandd_service", "0", "0")]
    assert db.value("SELECT count(*) FROM dm_strands WHERE id <> 'DM_look'") == 0


def test_a_daemon_killed_behind_a_lease_leaves_nothing_stuck(db, daemon, wait_until):
    """Whoever comes next takes the strand over, and an attempt was charged."""
    first = p.serve(db, daemon, attempts=3, backoff=QUICK)
    first.kill()
    p.publish(db, "AD_1")
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at, instance, started_at)"
               " SELECT route, 'AD_1', 'running', 1, clock_timestamp() + interval '1 s', 1, clock_timestamp() FROM dm_routes WHERE tag = %s", (p.PLAN,))
    daemon([p.route(attempts=3, backoff=QUICK)], {"scan": {"interval": "500ms"}})
    assert p.in_state(db, "AD_1", "done", wait_until)["attempt"] == 2
    assert service.calls(db) == {"AD_1": 1}


def test_a_last_attempt_left_behind_is_a_failure(db, daemon, wait_until):
    first = p.serve(db, daemon, attempts=2)
    first.kill()
    p.publish(db, "AD_1")
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at, instance, started_at)"
               " SELECT route, 'AD_1', 'running', 2, clock_timestamp(), 1, clock_timestamp() FROM dm_routes WHERE tag = %s", (p.PLAN,))
    daemon([p.route(attempts=2)], {"scan": {"interval": "500ms"}})
    failed = p.in_state(db, "AD_1", "failed", wait_until)
    assert failed["attempt"] == 2 and failed["error"]
    p.marked(db, "AD_1", "error:processing_failed", wait_until)
    assert service.calls(db) == {}


TURNS = """BEGIN
    CASE test.turn(strand->>'id')
    {}
    ELSE RETURN;
    END CASE;
END"""
RACE = "RAISE EXCEPTION 'lost' USING ERRCODE = '40001';"
KILL = "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1);"


@pytest.mark.parametrize("first, then, times", [(RACE, KILL, 3), (RACE, "PERFORM * FROM missing_table;", 2)], ids=["sessions", "class 42"])
def test_one_kind_of_fault_takes_nothing_of_anothers_budget(db, daemon, wait_until, first, then, times):
    """A strand loses some races; then it loses a session twice behind a lease, or has
    an error that may be the route's.  None of that is charged."""
    db.execute("CREATE SEQUENCE test.turns; GRANT USAGE ON SEQUENCE test.turns TO strandd_service;"
               "CREATE FUNCTION test.turn(id text) RETURNS bigint LANGUAGE sql AS"
               " $$ SELECT CASE id WHEN 'AD_1' THEN nextval('test.turns') ELSE 0 END $$")
    races = 5   # in three rounds, the last two of them with guards
    service.function(db, TURNS.format("".join(f"WHEN {n} THEN {first if n <= races else then}\n" for n in range(1, races + times + 1))),
                     name="test.turns")
    d = daemon([p.route("test.turns", attempts=1)])
    p.publish(db, "AD_0")
    p.in_state(db, "AD_0", "done", wait_until)
    p.publish(db, "AD_1")
    settled = service.final(db, "dm", "AD_1", p.PLAN, LONG)
    assert (settled["state"], settled["attempt"]) == ("done", 1), (settled, d.log())
    assert db.value("SELECT last_value FROM test.turns") == races + times + 1


@pytest.mark.parametrize("point", ["lease.committed", "settle.before", "batch.judged"])
def test_a_connection_lost_around_a_lease(db, daemon, wait_until, point):
    service.function(db, p.HANDLER, name="test.policy")
    daemon([p.route(attempts=3, backoff=QUICK)], failpoints=f"{point}=error@2")
    for n in range(10):
        p.publish(db, f"AD_{n}", "terminate" if n == 3 else "good")
    p.in_state(db, "AD_3", "failed", wait_until, LONG)
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()).count("done") == 9, LONG)
    assert db.value("SELECT count(*) FROM dm_strands") == 9


def test_many_large_strands_go_in_several_batches(db, daemon, wait_until):
    """max_batch_bytes: by what PostgreSQL stores, and one that is larger goes alone."""
    d = p.serve(db, daemon, {"workers": {"threads": 1, "max_batch_bytes": "100KiB"}})
    d.kill()
    db.execute("ALTER TABLE ad_strands ALTER COLUMN regime SET STORAGE EXTERNAL")
    for n in range(12):
        service.publish(db, "ad_strands", f"AD_{n}", [p.PLAN], kind="good", regime="x" * (30000 if n else 300000))
    d.start()
    wait_until(lambda: service.states(db, "dm", p.PLAN) == all_done(db, [f"AD_{n}" for n in range(12)]), 20)
    assert db.value("SELECT max(n) FROM (SELECT count(*) AS n FROM dm_receipts GROUP BY xmin) b") == 4
    assert d.metrics()[f"strandd_put_off_total{p.LABELS}"] == 0


def test_a_slow_route_learns_its_pace(db, daemon, wait_until):
    """A batch that would take longer than its deadline is cut, not cancelled for ever."""
    d = p.serve(db, daemon, {"workers": {"threads": 1, "handler_timeout": "1s"}}, attempts=1)
    service.publish_many(db, "ad_strands", "AD_", 60, [p.PLAN], kind="sleep", timeframe="0.05")
    wait_until(lambda: service.count_receipts(db, "dm", p.PLAN) == 60, 30)
    assert set(service.states(db, "dm", p.PLAN).values()) == {"done"}
    assert d.metrics()[f"strandd_rollbacks_total{p.LABELS}"] <= 3


def test_a_lease_whose_strand_is_not_to_blame_is_given_back(db, daemon, wait_until):
    """An administrator ends the session, then a table is missing: nothing is charged,
    also not to the next start."""
    service.function(db, p.HANDLER, name="test.policy")
    d = daemon([p.route(attempts=1)], {"workers": {"threads": 1}, "scan": {"interval": "500ms"}})
    p.publish(db, "AD_0", "sleep", "3")
    wait_until(lambda: service.sleeping(db) == 1)
    service.function(db, "BEGIN PERFORM * FROM missing_table; RETURN; END", name="test.policy")
    db.cluster.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = '%s'" % db.name)
    wait_until(lambda: db.value("SELECT count(*) FROM dm_routes WHERE suspended_at IS NOT NULL") == 1, 30)
    d.stop()
    assert db.execute("SELECT state, attempt FROM dm_receipts") == [("retry", 0)]
    service.function(db, p.HANDLER, name="test.policy")
    db.execute("UPDATE ad_strands SET kind = 'good'")
    d.start()
    assert p.in_state(db, "AD_0", "done", wait_until, 30)["attempt"] == 1


AT_COMMIT = """
CREATE FUNCTION test.late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.kind = 'late' THEN {} END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON dm_strands DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION test.late();
"""


@pytest.mark.parametrize("what, code", [("RAISE EXCEPTION 'late' USING ERRCODE = '40001';", "40001"),
                                        ("PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1);", "57P01")])
def test_what_a_trigger_does_at_commit_has_an_end_too(db, daemon, wait_until, what, code):
    db.execute(AT_COMMIT.format(what))
    service.function(db, "BEGIN RETURN NEXT jsonb_build_object('kind', strand->>'kind'); END", name="test.kind")
    daemon([p.route("test.kind", attempts=1)])
    for n in range(5):
        p.publish(db, f"AD_{n}", "late" if n == 2 else "good")
    assert p.in_state(db, "AD_2", "failed", wait_until, LONG)["sqlstate"] == code
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()).count("done") == 4, LONG)
    assert db.value("SELECT count(*) FROM dm_strands") == 4


@pytest.mark.parametrize("state", ["retry", "running"])
def test_a_receipt_whose_strand_is_gone_comes_to_rest(db, daemon, wait_until, state):
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at, instance)"
               " SELECT route, 'AD_gone', %s, 1, clock_timestamp(), 1 FROM dm_routes WHERE tag = %s", (state, p.PLAN))
    d = p.serve(db, daemon, {"scan": {"interval": "300ms"}}, attempts=3)
    p.in_state(db, "AD_gone", "withdrawn", wait_until)
    assert d.metrics()[f"strandd_forged_total{p.LABELS}"] == 0
