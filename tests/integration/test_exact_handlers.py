"""What a handler does wrong costs its own strand, and nothing else."""

import pytest

TAG = "dm:evaluate_plan"
LABELS = '{tag="dm:evaluate_plan",source="AD_strands"}'


def strands(db, rows, prefix="AD_"):
    """rows: kinds.  One transaction, so that they are batched together."""
    db.execute("INSERT INTO AD_strands (id, kind, tags) SELECT %s || n, k, %s"
               " FROM unnest(%s::text[]) WITH ORDINALITY AS u(k, n)", (prefix, f'["{TAG}"]', rows))


def settled(db):
    return db.value("SELECT count(*) FROM dm_receipts WHERE state NOT IN ('running', 'retry')")


def outcome(db):
    """{kind: {(state, sqlstate, replies)}}"""
    found = {}
    for kind, state, code, n in db.execute("""
            SELECT s.kind, r.state, r.sqlstate, (SELECT count(*) FROM dm_strands d
                    WHERE d.tags @> jsonb_build_array('original_strand:' || s.id))
              FROM ad_strands s JOIN dm_receipts r ON r.strand_id = s.id"""):
        found.setdefault(kind, set()).add((state, code, n))
    return found


FAULTY = """
CREATE FUNCTION test.faulty(strand jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT jsonb_build_object('kind', 'first');
    CASE strand->>'kind'
    WHEN 'raise' THEN RAISE EXCEPTION 'asked to fail' USING HINT = 'none';
    WHEN 'division' THEN PERFORM 1 / (random() * 0)::int;
    WHEN 'recursion' THEN PERFORM test.faulty(strand);
    WHEN 'no table' THEN EXECUTE 'SELECT * FROM no_such_table';
    WHEN 'no column' THEN RETURN NEXT '{"kind": "x", "colour": "red"}';
    WHEN 'reserved' THEN RETURN NEXT '{"xact_id": "5"}';
    WHEN 'array' THEN RETURN NEXT '[1, 2]';
    WHEN 'scalar' THEN RETURN NEXT '5';
    WHEN 'json null' THEN RETURN NEXT 'null';
    WHEN 'tags' THEN RETURN NEXT '{"tags": "dm:evaluate_plan"}';
    WHEN 'duplicate' THEN RETURN QUERY SELECT '{"id": "DM_same"}'::jsonb FROM generate_series(1, 2);
    WHEN 'type' THEN RETURN NEXT '{"created_at": "yesteryear"}';
    WHEN 'update' THEN RETURN NEXT '{"update": "DM_none"}';
    WHEN 'slow' THEN PERFORM pg_sleep(60);
    WHEN 'long' THEN RAISE EXCEPTION '%', repeat('x', 100000);
    WHEN 'sql null' THEN RETURN NEXT NULL;
    WHEN 'commit' THEN COMMIT;
    ELSE
    END CASE;
END $$;
GRANT EXECUTE ON FUNCTION test.faulty TO strandd_service;
"""
EXPECTED = {
    "raise": "P0001", "division": "22012", "recursion": "54001", "no table": "42P01", "no column": "SR001",
    "reserved": "SR001", "array": "SR001", "scalar": "SR001", "json null": "SR001", "tags": "SR001",
    "duplicate": "23505", "type": "22007", "update": "SR002", "slow": "57014", "long": "P0001", "commit": "2D000",
}


def test_errors_are_charged_to_their_strand(db, daemon, wait_until):
    db.execute(FAULTY)
    d = daemon([(TAG, "AD_strands", "test.faulty")], {"workers": {"handler_timeout": "1500ms", "threads": 1}})
    kinds = ["good"] * 100
    for n, kind in enumerate(EXPECTED):
        kinds[3 + 6 * n] = kind
    kinds[1] = "sql null"
    strands(db, kinds)
    wait_until(lambda: settled(db) == 100, 30)
    found = outcome(db)
    assert found.pop("good") == {("done", None, 1)}
    assert found.pop("sql null") == {("done", None, 1)}
    assert found == {kind: {("failed", code, 0)} for kind, code in EXPECTED.items()}
    rows = dict(db.execute("SELECT s.kind, r.error FROM ad_strands s JOIN dm_receipts r ON r.strand_id = s.id"
                           " WHERE r.state = 'failed'"))
    assert rows["raise"] == "asked to fail"
    assert "colour" in rows["no column"] and "xact_id" in rows["reserved"] and "DM_none" in rows["update"]
    assert 0 < len(rows["long"]) <= 10000
    assert d.metrics()["strandd_failed_total" + LABELS] == len(EXPECTED)
    # the handler is well: what comes later is not held up
    strands(db, ["good"] * 20, "AD_later")
    wait_until(lambda: settled(db) == 120, 10)


DEFERRED = """
CREATE TABLE test.parent (id text PRIMARY KEY);
CREATE TABLE test.child (id text, parent text REFERENCES test.parent DEFERRABLE INITIALLY DEFERRED);
GRANT ALL ON test.parent, test.child TO strandd_service;
-- the child before its parent, which is right only because the check is deferred
CREATE FUNCTION test.family(strand jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO test.child VALUES (strand->>'id', strand->>'id');
    IF strand->>'kind' <> 'orphan' THEN
        INSERT INTO test.parent VALUES (strand->>'id');
    END IF;
    RETURN NEXT jsonb_build_object('kind', 'family');
END $$;
GRANT EXECUTE ON FUNCTION test.family TO strandd_service;
"""


@pytest.mark.sanitize
def test_deferred_constraint(db, daemon, wait_until):
    """One that fails at COMMIT is charged to the strand that broke it, and one
    that would hold at COMMIT is not checked earlier for the others."""
    db.execute(DEFERRED)
    daemon([(TAG, "AD_strands", "test.family")])
    strands(db, ["good" if n not in (30, 77) else "orphan" for n in range(100)])
    wait_until(lambda: settled(db) == 100, 20)
    assert outcome(db) == {"good": {("done", None, 1)}, "orphan": {("failed", "23503", 0)}}
    assert db.value("SELECT count(*) FROM test.child") == 98


TRANSIENT = """
CREATE SEQUENCE test.tries;
GRANT USAGE ON SEQUENCE test.tries TO strandd_service;
CREATE FUNCTION test.transient(strand jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF strand->>'kind' <> 'good' AND nextval('test.tries') < 4 THEN
        RAISE EXCEPTION 'try again' USING ERRCODE = strand->>'kind';
    END IF;
    RETURN NEXT jsonb_build_object('kind', 'at last');
END $$;
GRANT EXECUTE ON FUNCTION test.transient TO strandd_service;
"""


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "53100", "57P03", "08006"])
def test_passing_faults_are_tried_again(db, daemon, wait_until, code):
    """Nobody's fault: no receipt says failed, and the strand gets through."""
    db.execute(TRANSIENT)
    daemon([(TAG, "AD_strands", "test.transient")], {"workers": {"batch": 20}})
    strands(db, [code if n == 20 else "good" for n in range(60)])
    wait_until(lambda: settled(db) == 60, 20)
    assert outcome(db) == {"good": {("done", None, 1)}, code: {("done", None, 1)}}


SETTINGS = """
CREATE SCHEMA shadow;
CREATE TABLE shadow.dm_receipts (LIKE dm_receipts);
CREATE TABLE shadow.ad_strands (LIKE ad_strands);
GRANT ALL ON SCHEMA shadow TO strandd_service;
-- leaves the session in as bad a state as a function can
CREATE FUNCTION test.vandal(strand jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config(s.name, s.value, i) FROM (VALUES (true), (false)) t(i), (VALUES ('search_path', 'shadow'),
        ('statement_timeout', '1'), ('lock_timeout', '1'), ('idle_in_transaction_session_timeout', '1'),
        ('default_transaction_isolation', 'serializable'), ('default_transaction_read_only', 'on'),
        ('DateStyle', 'SQL, DMY'), ('TimeZone', 'Asia/Tokyo'), ('extra_float_digits', '-15'),
        ('standard_conforming_strings', 'off'), ('bytea_output', 'escape'), ('enable_indexscan', 'off'),
        ('synchronous_commit', 'off'), ('session_replication_role', 'origin'),
        ('client_min_messages', 'error'), ('plan_cache_mode', 'force_custom_plan')) s(name, value)
        WHERE s.name <> 'session_replication_role';
    IF strand->>'kind' = 'deallocate' THEN
        EXECUTE 'DEALLOCATE ALL';
    END IF;
    RETURN NEXT jsonb_build_object('kind', 'vandal', 'regime', current_setting('strand.tag'));
    PERFORM set_config('strand.tag', 'other', false);
END $$;
GRANT EXECUTE ON FUNCTION test.vandal TO strandd_service;
"""


@pytest.mark.parametrize("kind", ["settings", "deallocate"])
def test_a_handler_that_spoils_its_session(db, daemon, wait_until, kind):
    db.execute(SETTINGS)
    daemon([(TAG, "AD_strands", "test.vandal")], {"workers": {"batch": 5, "threads": 1}})
    for n in range(4):
        strands(db, [kind] * 10, f"AD_{n}_")
        wait_until(lambda n=n: settled(db) == 10 * (n + 1), 15)
    assert outcome(db) == {kind: {("done", None, 1)}}
    assert db.value("SELECT count(*) FROM shadow.dm_receipts") == 0


def test_a_handler_that_kills_its_backend_now_and_then(db, daemon, wait_until):
    db.execute("""
        CREATE SEQUENCE test.shots;
        GRANT USAGE ON SEQUENCE test.shots TO strandd_service;
        CREATE FUNCTION test.suicide(strand jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('test.shots') % 31 = 0 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
            RETURN NEXT jsonb_build_object('kind', 'alive');
        END $$;
        GRANT EXECUTE ON FUNCTION test.suicide TO strandd_service""")
    daemon([(TAG, "AD_strands", "test.suicide")], {"workers": {"batch": 10}})
    strands(db, ["good"] * 200)
    wait_until(lambda: settled(db) == 200, 30)
    assert outcome(db) == {"good": {("done", None, 1)}}
