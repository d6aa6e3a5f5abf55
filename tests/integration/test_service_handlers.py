"""Handlers that misbehave, and what they find around them."""

import json
import time

import pytest

import cluster as private
import service

PLAN = "dm:evaluate_plan"
ROUTE = [(PLAN, "AD_strands", "test.h")]

# What a handler could change for those after it.
SETTINGS = ("search_path", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout",
            "enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "plan_cache_mode",
            "max_parallel_workers_per_gather", "jit", "synchronous_commit", "DateStyle", "IntervalStyle", "TimeZone",
            "extra_float_digits", "client_encoding", "transaction_isolation", "transaction_read_only", "strand.tag")

CHANGES = {"search_path": "pg_temp", "statement_timeout": "1ms", "lock_timeout": "1ms",
           "idle_in_transaction_session_timeout": "1ms", "enable_seqscan": "off", "enable_bitmapscan": "off",
           "enable_hashjoin": "off", "enable_mergejoin": "off", "plan_cache_mode": "force_custom_plan",
           "max_parallel_workers_per_gather": "0", "jit": "on", "synchronous_commit": "off", "DateStyle": "SQL, DMY",
           "IntervalStyle": "iso_8601", "TimeZone": "Asia/Tokyo", "extra_float_digits": "-15",
           "client_encoding": "LATIN1", "default_transaction_isolation": "serializable",
           "default_transaction_read_only": "on", "strand.tag": "forged"}


def look(extra="", returns=""):
    """A handler's body that records the settings it finds, and then does `extra`."""
    names = ", ".join(f"'{n}', current_setting('{n}', true)" for n in SETTINGS)
    return f"""BEGIN
        INSERT INTO test.seen SELECT strand->>'id', jsonb_build_object({names});
        {extra} {returns} RETURN; END"""


@pytest.fixture
def seen(db):
    """What look() recorded, {strand id: settings}."""
    db.execute(f"CREATE TABLE test.seen (id text, settings jsonb); GRANT INSERT ON test.seen TO {private.SERVICE}")
    return lambda: dict(db.execute("SELECT id, settings FROM test.seen"))


# --- settings


@pytest.mark.parametrize("local", ["false", "true"])
def test_settings_of_a_handler_end_with_its_batch(db, daemon, seen, local):
    changes = " ".join(f"PERFORM set_config('{n}', '{v}', {local});" for n, v in CHANGES.items())
    service.function(db, look(changes))
    daemon(ROUTE, conf={"workers": {"threads": 1, "batch": 1}})
    for strand in ("AD_1", "AD_2 ✓", "AD_3 ü"):
        service.publish(db, "ad_strands", strand, [PLAN])
        receipt = service.final(db, "dm", strand, PLAN)
        assert receipt["state"] == "done", receipt
    found = seen()
    assert found["AD_1"] == found["AD_2 ✓"] == found["AD_3 ü"]


def test_what_a_handler_finds(db, daemon, seen):
    """The planner as usual, the tag, a known session; not our own pins."""
    service.function(db, look())
    daemon(ROUTE, conf={"module_communication": {"database": {"lock_timeout": "1234ms"}},
                        "workers": {"handler_timeout": "5678ms"}})
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    service.final(db, "dm", "AD_1", PLAN)
    assert seen()["AD_1"] == {
        "search_path": "public", "statement_timeout": "5678ms", "lock_timeout": "1234ms",
        "idle_in_transaction_session_timeout": "10s", "enable_seqscan": "on", "enable_bitmapscan": "on",
        "enable_hashjoin": "on", "enable_mergejoin": "on", "plan_cache_mode": "auto",
        "max_parallel_workers_per_gather": "2", "jit": "off", "synchronous_commit": "on", "DateStyle": "ISO, YMD",
        "IntervalStyle": "postgres", "TimeZone": "UTC", "extra_float_digits": "1", "client_encoding": "UTF8",
        "transaction_isolation": "read committed", "transaction_read_only": "off", "strand.tag": PLAN}


def test_what_a_handler_finds_in_the_guarded_run(db, daemon, seen):
    service.function(db, look(returns="IF strand->>'kind' = 'bad' THEN RAISE 'bad'; END IF;"))
    service.publish(db, "ad_strands", "AD_0", [PLAN])
    service.publish(db, "ad_strands", "AD_1", [PLAN], kind="bad")
    service.publish(db, "ad_strands", "AD_2", [PLAN])
    daemon(ROUTE)
    for i in range(3):
        service.final(db, "dm", f"AD_{i}", PLAN)
    found = seen()
    assert set(found) == {"AD_0", "AD_2"}
    for settings in found.values():
        assert settings["enable_hashjoin"] == settings["enable_seqscan"] == "on"
        assert settings["plan_cache_mode"] == "auto" and settings["strand.tag"] == PLAN


def test_defaults_of_database_and_role_do_not_reach_in(db, daemon, seen):
    service.function(db, look())
    hostile = {"default_transaction_isolation": "serializable", "default_transaction_read_only": "on",
               "statement_timeout": "2000", "lock_timeout": "1", "search_path": "pg_temp", "DateStyle": "SQL, DMY",
               "synchronous_commit": "off", "jit_above_cost": "0", "extra_float_digits": "-15", "TimeZone": "Asia/Tokyo",
               "idle_in_transaction_session_timeout": "100", "idle_session_timeout": "100"}
    try:
        for name, value in hostile.items():
            db.cluster.admin(f"ALTER ROLE {private.SERVICE} IN DATABASE {db.name} SET {name} = '{value}'")
        service.publish(db, "ad_strands", "AD_1", [PLAN])
        d = daemon(ROUTE)
        assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
        time.sleep(0.3)
        service.publish(db, "ad_strands", "AD_2", [PLAN])
        assert service.final(db, "dm", "AD_2", PLAN)["state"] == "done"
        assert "warning" not in d.log()
        found = seen()["AD_2"]
        assert found["transaction_isolation"] == "read committed" and found["TimeZone"] == "UTC"
        assert found["search_path"] == "public" and found["synchronous_commit"] == "on"
    finally:
        db.cluster.admin(f"ALTER ROLE {private.SERVICE} IN DATABASE {db.name} RESET ALL")


def test_tag_of_each_route(db, daemon):
    service.function(db, "SELECT jsonb_build_object('kind', current_setting('strand.tag', true))", language="sql")
    daemon([(tag, source, "test.h") for tag, source, _ in private.ROUTES], conf={"workers": {"threads": 1}})
    for tag, source, receiver in private.ROUTES:
        service.publish(db, source, f"X_{tag}", [tag])
    for tag, source, receiver in private.ROUTES:
        receipt = service.final(db, receiver[:2].lower(), f"X_{tag}", tag)
        assert db.value(f"SELECT kind FROM {receiver} WHERE id = %s", (receipt["reply_ids"][0],)) == tag


def test_prepared_statements_thrown_away(db, daemon):
    """A handler that forgets what is not its own must not stop its connection."""
    service.function(db, "BEGIN EXECUTE 'DEALLOCATE ALL'; INSERT INTO test.calls (id) VALUES (strand->>'id'); END")
    d = daemon(ROUTE, conf={"workers": {"threads": 1}})
    for i in range(3):
        service.publish(db, "ad_strands", f"AD_{i}", [PLAN])
        assert service.final(db, "dm", f"AD_{i}", PLAN)["state"] == "done", d.log()
    assert service.calls(db) == {"AD_0": 1, "AD_1": 1, "AD_2": 1}


def test_error_in_another_encoding(db, daemon):
    """Its text is no UTF-8 any more; the receipt must be written all the same."""
    receipt = one_bad(db, daemon, "SET client_encoding = 'LATIN1'; RAISE 'grüße';")
    assert receipt["error"] == "gr??e"


def test_encoding_left_changed_within_a_batch(db, daemon):
    """The ids after it, in the guarded run too, must still be understood."""
    service.function(db, """BEGIN SET client_encoding = 'LATIN1';
        IF strand->>'kind' = 'bad' THEN RAISE 'bad'; END IF; RETURN; END""")
    for i in range(4):
        service.publish(db, "ad_strands", f"AD_ü{i}", [PLAN], kind="bad" if i == 2 else "good")
    daemon(ROUTE)
    assert [service.final(db, "dm", f"AD_ü{i}", PLAN)["state"] for i in range(4)] == ["done", "done", "failed", "done"]


# --- errors


def fail_with(db, statement):
    """A handler that does this for strands of kind "bad"."""
    service.function(db, f"""BEGIN
        INSERT INTO test.calls (id) VALUES (strand->>'id');
        IF strand->>'kind' = 'bad' THEN {statement} END IF;
        RETURN NEXT '{{}}'::jsonb; END""")


def one_bad(db, daemon, statement, **conf):
    """One bad strand among good ones; returns its receipt."""
    fail_with(db, statement)
    for i in range(6):
        service.publish(db, "ad_strands", f"AD_{i}", [PLAN], kind="bad" if i == 3 else "good")
    d = daemon(ROUTE, conf=conf)
    for i in (0, 1, 2, 4, 5):
        assert service.final(db, "dm", f"AD_{i}", PLAN)["state"] == "done", d.log()
    receipt = service.final(db, "dm", "AD_3", PLAN)
    assert receipt["state"] == "failed" and receipt["reply_ids"] is None
    assert service.calls(db) == {f"AD_{i}": 1 for i in (0, 1, 2, 4, 5)}
    assert db.value("SELECT count(*) FROM dm_strands") == 5
    assert d.log().count('strand failed for good') == 1
    return receipt


@pytest.mark.sanitize
@pytest.mark.parametrize("statement, sqlstate, text", [
    ("RAISE EXCEPTION 'no % today', 'luck';", "P0001", "no luck today"),
    ("RAISE EXCEPTION 'own' USING ERRCODE = 'TR123';", "TR123", "own"),
    ("RAISE EXCEPTION E'two\\nlines\\rand more';", "P0001", "two lines and more"),
    ("PERFORM 1 / 0;", "22012", "division by zero"),
    ("PERFORM * FROM no_such_table;", "42P01", "no_such_table"),
    ("PERFORM no_such_function();", "42883", "no_such_function"),
    ("INSERT INTO strandd.version VALUES (9);", "42501", "permission denied"),
    ("COMMIT;", "2D000", "transaction"),
    ("PERFORM test.h(strand);", "54001", "stack depth"),
    ("RETURN NEXT '{\"a\": 1'::jsonb;", "22P02", "json"),
    ("PERFORM 'x\\u0000'::text; RETURN NEXT '{\"kind\": \"\\u0000\"}'::jsonb;", "22P05", "Unicode escape"),
    ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;", "25001", "ISOLATION"),
    ("ASSERT false, 'asserted';", "P0004", "asserted"),
    ("EXECUTE 'ROLLBACK';", "0A000", "transaction"),
], ids=lambda v: v if isinstance(v, str) and len(v) == 5 else "")
def test_error_fails_its_strand_alone(db, daemon, statement, sqlstate, text):
    receipt = one_bad(db, daemon, statement)
    assert receipt["sqlstate"] == sqlstate, receipt
    assert text in receipt["error"]


@pytest.mark.parametrize("text", ["repeat('é', 3000)", "'x' || repeat('é', 3000)", "repeat('日', 2000)",
                                  "'x' || repeat('日', 2000)", "'xx' || repeat('日', 2000)", "repeat('😀', 999)",
                                  "'x' || repeat('😀', 999)", "repeat('%s%n', 400)", "''"])
def test_long_error_is_cut_between_letters(db, daemon, text):
    receipt = one_bad(db, daemon, f"RAISE EXCEPTION USING MESSAGE = {text};")
    whole = db.value(f"SELECT {text}")
    assert whole.startswith(receipt["error"]) and len(receipt["error"].encode()) > 400 or not whole


def test_bad_strands_found_in_one_pass(db, daemon, wait_until):
    """Many bad ones among many: each fails by itself, and the good ones are done."""
    fail_with(db, "RAISE 'bad';")
    db.execute("INSERT INTO ad_strands (id, kind, tags) SELECT 'AD_' || i, CASE WHEN i %% 3 = 0 THEN 'bad' ELSE 'good' END,"
               " %s FROM generate_series(1, 300) i", (json.dumps([PLAN]),))
    daemon(ROUTE)
    wait_until(lambda: service.count_receipts(db, "dm", PLAN) == 300, timeout=30)
    states = service.states(db, "dm", PLAN)
    assert all(states[f"AD_{i}"] == ("failed" if i % 3 == 0 else "done") for i in range(1, 301))
    assert db.value("SELECT count(*) FROM dm_strands") == 200
    assert set(service.calls(db).values()) == {1}


def test_lost_race_is_run_again(db, daemon):
    """A serialization failure is nobody's fault: the strand is handled a little later."""
    db.execute(f"CREATE SEQUENCE test.tries; GRANT USAGE ON SEQUENCE test.tries TO {private.SERVICE}")
    service.function(db, """BEGIN
        IF nextval('test.tries') < 4 THEN RAISE 'lost' USING ERRCODE = '40001'; END IF;
        RETURN NEXT '{"kind": "done"}'::jsonb; END""")
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    daemon(ROUTE)
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    assert db.value("SELECT count(*) FROM dm_strands") == 1


def test_lock_that_is_not_to_be_had(db, daemon):
    """A handler that waits for a row: lock_timeout, and another try; not failed."""
    db.execute(f"CREATE TABLE test.account (n integer); INSERT INTO test.account VALUES (0);"
               f" GRANT SELECT, UPDATE ON test.account TO {private.SERVICE}")
    service.function(db, "BEGIN UPDATE test.account SET n = n + 1; RETURN; END")
    holder = db.connect(autocommit=False)
    db.execute("UPDATE test.account SET n = n", conn=holder)
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    d = daemon(ROUTE, conf={"module_communication": {"database": {"lock_timeout": "200ms"}}})
    d.wait_log(f"put off (resources) route={PLAN} source=AD_strands sqlstate=55P03")
    assert service.receipt(db, "dm", "AD_1", PLAN) is None
    holder.commit()
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    assert db.value("SELECT n FROM test.account") == 1


# --- handlers that come, go and change


def test_handler_replaced_while_serving(db, daemon):
    daemon([(PLAN, "AD_strands", service.function(db, "SELECT '{\"kind\": \"1\"}'::jsonb", language="sql"))])
    for version in ("1", "2", "3"):
        service.function(db, f"SELECT '{{\"kind\": \"{version}\"}}'::jsonb", language="sql")
        service.publish(db, "ad_strands", f"AD_{version}", [PLAN])
        receipt = service.final(db, "dm", f"AD_{version}", PLAN)
        assert db.value("SELECT kind FROM dm_strands WHERE id = %s", (receipt["reply_ids"][0],)) == version


def test_handler_dropped_and_made_again(db, daemon):
    """The route waits, and no strand is drained into `failed`."""
    d = daemon([(PLAN, "AD_strands", service.function(db, "BEGIN RETURN; END"))])
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    service.final(db, "dm", "AD_1", PLAN)
    db.execute("DROP FUNCTION test.h(jsonb)")
    service.publish_many(db, "ad_strands", "AD_more", 5, [PLAN])
    d.wait_log("configuration")
    assert "test.h" in d.log()
    assert service.count_receipts(db, "dm", PLAN) == 1
    service.function(db, "BEGIN RETURN; END")
    for i in range(1, 6):
        assert service.final(db, "dm", f"AD_more{i}", PLAN)["state"] == "done"


def test_right_withdrawn_and_given_back(db, daemon):
    d = daemon([(PLAN, "AD_strands", service.function(db, "BEGIN RETURN; END"))])
    db.execute(f"REVOKE EXECUTE ON FUNCTION test.h(jsonb) FROM PUBLIC, {private.SERVICE}")
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    d.wait_log(f" put off (configuration) route={PLAN} source=AD_strands sqlstate=42501")
    assert service.receipt(db, "dm", "AD_1", PLAN) is None
    db.execute(f"GRANT EXECUTE ON FUNCTION test.h(jsonb) TO {private.SERVICE}")
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"


# --- handlers that take their time


def test_handler_beyond_its_time_is_stopped(db, daemon):
    receipt = one_bad(db, daemon, "PERFORM pg_sleep(30);", workers={"handler_timeout": "300ms"})
    assert receipt["sqlstate"] == "57014" and "timeout" in receipt["error"], receipt


def test_endless_loop_is_stopped(db, daemon):
    receipt = one_bad(db, daemon, "LOOP END LOOP;", workers={"handler_timeout": "300ms"})
    assert receipt["sqlstate"] == "57014"


def test_handler_cannot_lift_its_deadline(db, daemon):
    receipt = one_bad(db, daemon, "PERFORM set_config('statement_timeout', '0', false); PERFORM pg_sleep(30);",
                      workers={"handler_timeout": "300ms"})
    assert receipt["sqlstate"] == "57014"


def test_handler_cancelled_by_an_administrator(db, daemon, wait_until):
    """pg_cancel_backend on a stuck handler fails its strand, and no other."""
    fail_with(db, "PERFORM pg_sleep(30);")
    service.publish(db, "ad_strands", "AD_stuck", [PLAN], kind="bad")
    d = daemon(ROUTE)
    def cancel():
        """Once for the batch, once for the guarded run that follows."""
        for row in service.sessions(db):
            if row["wait_event"] == "PgSleep":
                db.cluster.admin(f"SELECT pg_cancel_backend({row['pid']})")
        return service.receipt(db, "dm", "AD_stuck", PLAN)
    wait_until(cancel, interval=0.1)
    receipt = service.final(db, "dm", "AD_stuck", PLAN)
    assert (receipt["state"], receipt["sqlstate"]) == ("failed", "57014"), d.log()


# --- handlers that pull the rug away


def test_handler_that_ends_its_own_session(db, daemon):
    """It looks like an administrator's shutdown; those around it must get through."""
    fail_with(db, "PERFORM pg_terminate_backend(pg_backend_pid());")
    for i in range(6):
        service.publish(db, "ad_strands", f"AD_{i}", [PLAN], kind="bad" if i == 3 else "good")
    daemon(ROUTE)
    for i in (0, 1, 2, 4, 5):
        assert service.final(db, "dm", f"AD_{i}", PLAN, timeout=30)["state"] == "done"
    assert service.calls(db) == {f"AD_{i}": 1 for i in (0, 1, 2, 4, 5)}


def test_handler_that_swallows_its_cancellation(db, daemon):
    """Nothing stops it but the daemon's own deadline, which ends its session."""
    fail_with(db, """LOOP BEGIN PERFORM pg_sleep(30); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;""")
    for i in range(6):
        service.publish(db, "ad_strands", f"AD_{i}", [PLAN], kind="bad" if i == 3 else "good")
    d = daemon(ROUTE, conf={"workers": {"handler_timeout": "200ms", "batch": 1, "threads": 2}})
    for i in (0, 1, 2, 4, 5):
        assert service.final(db, "dm", f"AD_{i}", PLAN)["state"] == "done"
    d.wait_log("no answer from the server in time")
    private.wait_until(lambda: not service.sleeping(db), timeout=10)


def test_handler_that_deletes_its_own_strand(db, daemon):
    db.execute("CREATE FUNCTION test.delete(gone text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public"
               " AS 'DELETE FROM ad_strands WHERE id = gone'")
    service.function(db, "BEGIN PERFORM test.delete(strand->>'id'); RETURN NEXT '{}'::jsonb; END")
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    daemon(ROUTE)
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    assert db.value("SELECT count(*) FROM dm_strands") == 1


def test_handler_that_warns_without_end(db, daemon):
    """A hundred thousand warnings: read, dropped, and memory does not grow with them."""
    service.function(db, "BEGIN FOR i IN 1..100000 LOOP RAISE WARNING 'synchronous replication %', repeat('x', 100);"
                     " END LOOP; RETURN; END")
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    d = daemon(ROUTE)
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    with open(f"/proc/{d.pid}/maps", encoding="utf-8") as f:
        if "libasan" in (maps := f.read()) or "libtsan" in maps:
            return  # a sanitizer keeps what is freed
    with open(f"/proc/{d.pid}/status", encoding="utf-8") as f:
        peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
    assert peak < 60 * 1024, f"{peak} kB"
