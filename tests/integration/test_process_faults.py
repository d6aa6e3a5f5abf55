"""Leases and answers of processes when sessions end at the wrong moment."""

import signal
import time

import pytest

import process_support as p
import service


def test_a_reply_that_ends_its_session(db, daemon, wait_until):
    """Every time: its strand is charged, and those that were answered with it are not."""
    db.execute("CREATE FUNCTION test.bomb() RETURNS trigger LANGUAGE plpgsql AS $$"
               " BEGIN PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()); RETURN NEW; END $$;"
               "CREATE TRIGGER bomb BEFORE INSERT ON dm_strands FOR EACH ROW WHEN (NEW.symbol = 'bomb') EXECUTE FUNCTION test.bomb()")
    service.publish_many(db, "ad_strands", "AD_ok_", 10, [p.PLAN], kind="good")
    p.publish(db, "AD_1", "replies", '[{"symbol": "bomb"}]')
    p.serve(db, daemon, attempts=1)
    failed = p.in_state(db, "AD_1", "failed", wait_until, 30)
    assert "session ended" in failed["error"], failed
    p.all_done(db, 10, wait_until)
    assert db.value("SELECT count(*) FROM dm_receipts WHERE attempt > 1") == 0
    assert all(seen == [1] for seen in p.calls(db).values())


def test_the_keeper_waits_for_a_worker_that_is_about_to_lease(db, daemon, wait_until, tmp_path):
    """Told to drain in that moment: its lock is held until the last lease is settled."""
    hold = tmp_path / "hold"
    hold.touch()
    first = daemon([p.route(db)], failpoints=f"handout.before=hold:{hold}@1")
    p.publish(db, "AD_1", "sleep", "10")
    wait_until(lambda: first.metrics()[f"strandd_in_flight{p.LABELS}"] == 1)
    time.sleep(0.5)
    first.signal(signal.SIGTERM)
    first.wait_log("stopping")
    time.sleep(0.5)
    hold.unlink()
    wait_until(lambda: p.calls(db).get("AD_1"))
    p.serve(db, daemon)
    assert p.in_state(db, "AD_1", "done", wait_until, 30)["attempt"] == 1
    assert p.calls(db)["AD_1"] == [1]


def lease_of(db, strand, instance):
    """The strand is in hand of another instance, and its lease is due."""
    db.execute("WITH t AS (INSERT INTO ad_strands (id, tags, kind, created_at) VALUES (%s, jsonb_build_array(%s::text), 'good', now()))"
               "INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at, instance, started_at)"
               " SELECT route, strandd.receipt_key(%s), 'running', 1, now(), %s, now() FROM dm_routes WHERE tag = %s",
               (strand, p.PLAN, strand, instance, p.PLAN))


def test_one_that_lives_again_keeps_its_new_leases(db, daemon, wait_until):
    """It was without its lock for so long that others know it for dead, and has it again:
    what it leases from then on is its own, before they have looked again."""
    d = p.serve(db, daemon, delivery="at-most-once")
    other = db.connect()
    # somebody looks at this one, so it stays where it is
    db.execute("SELECT pg_advisory_lock(hashtextextended('AD_0', strandd.lock_seed('dm_receipts', route))) FROM dm_routes"
               " WHERE tag = %s", (p.PLAN,), other)
    lease_of(db, "AD_0", 4711)
    d.wait_log("an instance is gone", 20)
    db.execute("SELECT pg_advisory_lock(hashtextextended('strandd instance 4711', 6005))", None, other)
    for n in range(1, 6):
        lease_of(db, f"AD_{n}", 4711)
    time.sleep(3)
    assert [p.receipt(db, f"AD_{n}")["state"] for n in range(6)] == ["running"] * 6
    other.close()
    for n in range(6):
        assert p.in_state(db, f"AD_{n}", "failed", wait_until, 15)["sqlstate"] == "SROUT"


def test_what_was_taken_over_is_not_sent_any_more(db, daemon, wait_until):
    """A service that was stopped, and lost its sessions meanwhile: its process has one
    strand; the others of the batch are never sent when it goes on."""
    first = p.serve(db, daemon, delivery="at-most-once", batch=5)
    service.publish_many(db, "ad_strands", "AD_", 5, [p.PLAN], kind="sleep", timeframe="2")
    wait_until(lambda: p.calls(db))
    first.signal(signal.SIGSTOP)
    try:
        db.cluster.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                         f" WHERE datname = '{db.name}' AND application_name = 'strandd'")
        p.serve(db, daemon, delivery="at-most-once")
        wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()) == ["failed"] * 5, 20)
    finally:
        first.signal(signal.SIGCONT)
    first.wait_log("again")
    time.sleep(4)
    assert len(p.calls(db)) == 1
    p.publish(db, "AD_6")
    p.in_state(db, "AD_6", "done", wait_until)


def test_a_strand_that_is_deleted_while_it_is_handled(db, daemon, wait_until):
    """What its handler did is done all the same, whoever else looks at the lease."""
    p.serve(db, daemon)
    p.publish(db, "AD_1", "sleep", "12")
    wait_until(lambda: p.calls(db).get("AD_1"))
    db.execute("DELETE FROM ad_strands")
    p.serve(db, daemon)
    wait_until(lambda: p.replies(db) == {"AD_1": 1}, 20, what=lambda: p.receipt(db, "AD_1"))
    assert p.receipt(db, "AD_1")["state"] == "done"
    # one that is left behind comes to rest
    lease_of(db, "AD_2", 4711)
    db.execute("DELETE FROM ad_strands")
    p.in_state(db, "AD_2", "withdrawn", wait_until)


def test_an_answer_waits_for_its_lock(db, daemon, wait_until):
    """What a handler has done is not to be lost because somebody else has the row for a while."""
    service.publish(db, "dm_strands", "DM_1", [])
    p.serve(db, daemon, conf={"module_communication": {"database": {"lock_timeout": "100ms"}}}, delivery="at-most-once")
    other = db.connect(autocommit=False)
    db.execute("SELECT FROM dm_strands FOR UPDATE", None, other)
    p.publish(db, "AD_1", "replies", '[{"update": "DM_1", "symbol": "new"}]')
    wait_until(lambda: p.calls(db).get("AD_1"))
    time.sleep(14)
    other.rollback()
    p.in_state(db, "AD_1", "done", wait_until)
    assert p.calls(db)["AD_1"] == [1]


def test_an_answer_does_not_wait_for_ever(db, daemon, wait_until):
    """Its own trigger says "not now", each time: it is charged, its batch mates are not."""
    db.execute("CREATE FUNCTION test.never() RETURNS trigger LANGUAGE plpgsql AS"
               " $$ BEGIN RAISE EXCEPTION 'never' USING ERRCODE = '40001'; END $$;"
               "CREATE TRIGGER never BEFORE INSERT ON dm_strands FOR EACH ROW WHEN (NEW.symbol = 'never') EXECUTE FUNCTION test.never()")
    for n in range(3):
        p.publish(db, f"AD_{n}", "replies", '[{"symbol": "never"}]')
    service.publish_many(db, "ad_strands", "AD_ok_", 10, [p.PLAN], kind="good")
    p.serve(db, daemon, attempts=1)
    for n in range(3):
        assert p.in_state(db, f"AD_{n}", "failed", wait_until, 120)["sqlstate"] == "40001"
    p.all_done(db, 10, wait_until)


def test_one_that_goes_alone_has_its_turn_among_many(db, daemon, wait_until, tmp_path):
    """More come than are handled, in batches that take longer than what is set aside for all:
    that those whose process was killed go alone does not mean that they go last."""
    crashed = tmp_path / "crashed"
    p.serve(db, daemon, ["READY=1"], {"ready": True}, {"workers": {"handler_timeout": "200ms"}}, batch=10, attempts=1)
    service.publish_many(db, "ad_strands", "AD_alone_", 2, [p.PLAN], kind="crash_once", timeframe=str(crashed))
    wait_until(crashed.exists)
    more = 0
    until = time.monotonic() + 20
    while time.monotonic() < until:
        service.publish_many(db, "ad_strands", f"AD_more_{more}_", 5, [p.PLAN], kind="sleep", timeframe="0.1")
        more += 5
        if db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done' AND strand_id LIKE 'AD_alone_%%'") == 2:
            break
        time.sleep(0.4)
    settled = dict(db.execute("SELECT strand_id, attempt FROM dm_receipts WHERE state = 'done' AND strand_id LIKE 'AD_alone_%%'"))
    assert len(settled) == 2 and set(settled.values()) == {1}, f"{settled} of 2 after {more} others came"


@pytest.mark.parametrize("kind, argument", [("replies", '[{"nonsense": 1}]'), ("raise", "no"), ("exit", "1")])
def test_a_probe_charges_nothing(db, daemon, wait_until, kind, argument):
    """Whatever of the suspended route's handler is broken, its backlog is not burnt."""
    db.execute("UPDATE dm_routes SET suspended_at = now(), suspended_error = 'broken' WHERE tag = %s", (p.PLAN,))
    service.publish_many(db, "ad_strands", "AD_", 3, [p.PLAN], kind=kind, timeframe=argument)
    p.serve(db, daemon, attempts=1)
    wait_until(lambda: sum(len(seen) for seen in p.calls(db).values()) >= 4, 20)
    wait_until(lambda: "running" not in service.states(db, "dm", p.PLAN).values())
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state NOT IN ('retry', 'running') OR error IS NOT NULL") == 0
    db.execute("UPDATE ad_strands SET kind = 'good'")
    p.all_done(db, 3, wait_until, 60)
    assert db.value("SELECT max(attempt) FROM dm_receipts") == 1


def test_what_suspends_a_route_is_all_that_is_charged(db, daemon, wait_until):
    """Not the rest of the batch as well, which failed with it."""
    service.publish_many(db, "ad_strands", "AD_", 50, [p.PLAN], kind="raise", timeframe="no")
    d = p.serve(db, daemon, attempts=1, suspend_after=5, batch=50)
    d.wait_log("5 failures in a row")
    wait_until(lambda: "running" not in service.states(db, "dm", p.PLAN).values())
    assert list(service.states(db, "dm", p.PLAN).values()).count("failed") == 5
