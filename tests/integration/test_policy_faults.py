"""Failure classes: what costs an attempt, and that nothing goes on for ever."""

import threading
import time

import pytest

import cluster as private
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
    """The handler holds the second lock and wants the first, which another session
    holds that waits for the second: always, and it is never the one that gives way."""
    service.function(db, """BEGIN
        PERFORM pg_advisory_xact_lock(77, 2);
        WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 77 AND objid = 2 AND NOT granted) LOOP
            PERFORM pg_sleep(0.01);
        END LOOP;
        PERFORM pg_advisory_xact_lock(77, 1);
    END""", name="test.deadlock")
    stop, ended = threading.Event(), []

    def other():
        conn = db.connect("postgres")       # who alone may say how long it waits before it looks
        db.execute("SET deadlock_timeout = '1h'; SELECT pg_advisory_lock(77, 1)", conn=conn)
        while not stop.is_set():
            db.execute("SELECT pg_advisory_lock(77, 2)", conn=conn)
            db.execute("SELECT pg_advisory_unlock(77, 2)", conn=conn)
            time.sleep(0.005)
        ended.append("well")

    db.cluster.admin("ALTER DATABASE \"%s\" SET deadlock_timeout = '50ms'" % db.name)
    thread = threading.Thread(target=other)
    thread.start()
    try:
        daemon([p.route("test.deadlock", attempts=1)])
        p.publish(db, "AD_1")
        receipt = p.in_state(db, "AD_1", "failed", wait_until, LONG)
    finally:
        stop.set()
        thread.join()
    assert receipt["sqlstate"] == "40P01" and receipt["attempt"] == 1 and ended == ["well"]
    p.marked(db, "AD_1", "error:processing_failed", wait_until)


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
}
CODES = {"recurses": "54001", "takes an advisory lock": "P0001"}

# What a transaction may leave to its session when it is committed.
LASTING = {
    "an advisory lock": "PERFORM pg_advisory_lock(4711);",
    "a role": "SET ROLE stand_in;",
    "a role for the transaction": "SET LOCAL ROLE stand_in;",
    "a channel": "LISTEN nobody;",
    "a cursor": "EXECUTE 'DECLARE kept CURSOR WITH HOLD FOR SELECT 1';",
    "a temporary table": "CREATE TEMPORARY TABLE ad_receipts (i int);",
    "settings": "SET statement_timeout = '1h'; SET search_path = pg_temp; SET lock_timeout = 1;",
}

TRACE = """BEGIN
    RETURN NEXT jsonb_build_object('kind', current_setting('search_path'), 'symbol', current_setting('statement_timeout'),
        'timeframe', session_user || '/' || current_user, 'regime', concat_ws(' ', (SELECT count(*) FROM pg_locks
            WHERE locktype = 'advisory' AND classid = 0 AND objid = 4711), (SELECT count(*) FROM pg_listening_channels()),
            (SELECT count(*) FROM pg_cursors WHERE is_holdable)),
        'session_bucket', (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema())::text);
END"""


def serve_hostile(db, daemon, hostile, conf):
    """One worker, so one session, for what is hostile and for who looks what it left."""
    db.execute("ALTER TABLE dm_strands ALTER COLUMN kind TYPE text")
    service.function(db, f"BEGIN {hostile} END", name="test.hostile")
    service.function(db, TRACE, name="test.trace", argument="strand dm_strands")
    db.attach("alpha:look", "dm_strands", "ad_strands")
    db.grant()
    return daemon([p.route("test.hostile", attempts=1), {"tag": "alpha:look", "source": "DM_strands", "handler": "test.trace"}],
                  {"workers": {"threads": 1, **conf}})


def assert_no_trace(db, statement_timeout):
    """In the session of the only worker."""
    service.publish(db, "dm_strands", "DM_look", ["alpha:look"])
    service.final(db, "ad", "DM_look", "alpha:look")
    assert db.execute("SELECT kind, symbol, timeframe, regime, session_bucket FROM ad_strands WHERE module = 'alpha' AND tags @> '[\"original_strand:DM_look\"]'") == \
        [("public", statement_timeout, "strandd_service/strandd_service", "0 0 0", "0")]


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_handler_is_stopped_charged_and_leaves_no_trace(db, daemon, wait_until, what):
    serve_hostile(db, daemon, f"IF strand->>'kind' = 'bad' THEN {HOSTILE[what]} END IF;", {"handler_timeout": "1500ms"})
    started = time.monotonic()
    p.publish(db, "AD_1", "bad")
    failed = p.in_state(db, "AD_1", "failed", wait_until, LONG)
    assert failed["sqlstate"] == CODES.get(what, "57014"), failed
    assert failed["attempt"] == 1 and failed["error"]
    # at its deadline, once without and once with guards, or once more behind a lease
    assert time.monotonic() - started < 25
    p.publish(db, "AD_2")
    p.in_state(db, "AD_2", "done", wait_until)
    assert_no_trace(db, "1500ms")
    assert db.value("SELECT count(*) FROM dm_strands WHERE id <> 'DM_look'") == 0


@pytest.fixture
def stand_in(db):
    """A role that the service may take on, and that may do nothing."""
    db.cluster.admin("CREATE ROLE stand_in", f"GRANT stand_in TO {private.SERVICE}")
    yield
    db.cluster.admin("DROP ROLE stand_in")


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("what", LASTING)
def test_what_a_handler_leaves_to_its_session_is_gone_with_the_next_failure(db, daemon, wait_until, what):
    """The strand that left it is done, and what it left is committed; one of the same
    batch, or of the next, fails, and is charged all the same."""
    d = serve_hostile(db, daemon, f"IF strand->>'kind' = 'bad' THEN RAISE EXCEPTION 'bad'; ELSIF strand->>'kind' = 'lasting' THEN {LASTING[what]} END IF;", {})
    db.execute("INSERT INTO ad_strands (id, tags, kind) SELECT * FROM (VALUES ('AD_0', %s::jsonb, 'good'), ('AD_1', %s, 'lasting'),"
               " ('AD_2', %s, 'bad'), ('AD_3', %s, 'good')) v", [f'["{p.PLAN}"]'] * 4)
    wait_until(lambda: service.states(db, "dm", p.PLAN) == {"AD_0": "done", "AD_1": "done", "AD_2": "failed", "AD_3": "done"},
               what=lambda: f"{service.states(db, 'dm', p.PLAN)}\n{d.log()}")
    assert_no_trace(db, "30s")
    assert "put off" not in d.log(), d.log()


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
    p.publish(db, "AD_0", "sleep", "20")
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
