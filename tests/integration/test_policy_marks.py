"""Marks: error:processing_failed and error:timeout on the strand's own tags."""

import random
import signal
import threading
import time

import pytest

import policy_support as p
import service
from sql_support import Ears

MARK = "error:processing_failed"


def test_once_and_with_updated_at(db, daemon, wait_until):
    d = p.serve(db, daemon, attempts=1)
    db.execute("ALTER TABLE ad_strands ALTER COLUMN updated_at SET DEFAULT '2000-01-01'")
    ears = Ears(db, "dm_evaluate_plan", "dm_evaluate_plan:high", "error_processing_failed")
    p.publish(db, "AD_1", "raise", tags=["priority:high"])
    p.publish(db, "AD_2", "raise", tags=[MARK])
    p.publish(db, "AD_3", "raise", tags=["timeout:5", "timeout:5"])
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE marked") == 3)
    assert p.tags(db, "AD_1") == [p.PLAN, "priority:high", MARK]
    assert p.tags(db, "AD_2") == [p.PLAN, MARK]
    assert p.tags(db, "AD_3") == [p.PLAN, "timeout:5", "timeout:5", MARK]
    assert db.execute("SELECT id, updated_at > now() - interval '1 minute' FROM ad_strands ORDER BY 1") == \
        [("AD_1", True), ("AD_2", False), ("AD_3", True)]
    heard = ears.heard()
    assert len(heard) == 4, heard       # the inserts alone; AD_1 on both channels
    d.restart()
    time.sleep(1)
    assert p.tags(db, "AD_1") == [p.PLAN, "priority:high", MARK]
    assert service.calls(db) == {}


def test_on_a_table_without_updated_at(db, daemon, wait_until):
    db.execute("CREATE TABLE plain_strands (id text PRIMARY KEY, tags jsonb, kind text, timeframe text)")
    db.attach("dm:plain", "plain_strands", "dm_strands")
    db.grant()
    service.function(db, p.HANDLER, name="test.policy")
    daemon([{"tag": "dm:plain", "source": "plain_strands", "handler": "test.policy", "attempts": 1}])
    service.publish(db, "plain_strands", "P_1", ["dm:plain"], kind="raise")
    wait_until(lambda: db.value("SELECT tags FROM plain_strands") == ["dm:plain", MARK])


@pytest.mark.sanitize
def test_it_neither_waits_for_a_producer_nor_holds_one_up(db, daemon, wait_until):
    """A producer that has the row keeps it; the mark comes when it is free, and what
    the producer wrote stays."""
    d = p.serve(db, daemon, attempts=1)
    d.stop()
    p.publish(db, "AD_1", "raise")
    holder = db.connect(autocommit=False)
    db.execute("UPDATE ad_strands SET symbol = 'HELD' WHERE id = 'AD_1'", conn=holder)
    d.start()
    p.in_state(db, "AD_1", "failed", wait_until)
    p.publish(db, "AD_2", "raise")      # a later one is not behind it
    p.marked(db, "AD_2", MARK, wait_until)
    for _ in range(20):
        time.sleep(0.03)
        assert not db.cluster.admin("SELECT a.query FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                                    f" WHERE NOT l.granted AND a.datname = '{db.name}'")
    assert db.value("SELECT marked FROM dm_receipts WHERE strand_id = 'AD_1'") is False
    holder.commit()
    p.marked(db, "AD_1", MARK, wait_until)
    assert db.value("SELECT symbol FROM ad_strands WHERE id = 'AD_1'") == "HELD"


def test_no_deadlock_with_a_producer_that_locks_many(db, daemon, wait_until):
    """Two producers update the failing strands in descending order, against the
    marker's, again and again, with a pause in which the first row is nobody's; the
    server looks for deadlocks before anybody's patience ends."""
    db.cluster.admin(f"ALTER DATABASE \"{db.name}\" SET deadlock_timeout = '10ms'")
    p.serve(db, daemon, attempts=1)
    stop, faults = threading.Event(), []

    def producer():
        conn = db.connect(autocommit=False)
        while not stop.is_set():
            try:
                for n in reversed(range(200)):
                    db.execute("UPDATE ad_strands SET symbol = coalesce(symbol, '') || 'x' WHERE id = %s", (f"AD_{n}",), conn)
                conn.commit()
                time.sleep(0.1 * random.random())
            except Exception as error:      # noqa: BLE001
                faults.append(error)
                conn.rollback()

    threads = [threading.Thread(target=producer) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        for n in range(200):
            p.publish(db, f"AD_{n}", "raise")
        wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE marked") == 200, 170,
                   what=lambda: db.value("SELECT count(*) FROM dm_receipts WHERE marked"))
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not faults, faults
    assert db.value("SELECT count(*) FROM ad_strands WHERE tags @> %s", (f'["{MARK}"]',)) == 200


def test_repeated_until_it_stands(db, daemon, wait_until):
    """A trigger of the user's refuses the update at first; another strand is marked meanwhile."""
    d = p.serve(db, daemon, attempts=1)
    db.execute("""CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.id = 'AD_1' THEN RAISE EXCEPTION 'not now'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER a_no BEFORE UPDATE ON ad_strands FOR EACH ROW EXECUTE FUNCTION no()""")
    p.publish(db, "AD_1", "raise")
    p.publish(db, "AD_2", "raise")
    p.marked(db, "AD_2", MARK, wait_until)
    assert p.tags(db, "AD_1") == [p.PLAN]
    d.wait_log(f"strands are marked later route={p.PLAN} source=AD_strands sqlstate=P0001")
    db.execute("DROP TRIGGER a_no ON ad_strands")
    p.marked(db, "AD_1", MARK, wait_until)
    d.wait_log(f"strands are marked again route={p.PLAN} source=AD_strands ")


def start_with(db, daemon, failpoint):
    """A daemon that fails at this place; it may have ended by the time it is returned."""
    service.function(db, p.HANDLER, name="test.policy")
    return daemon([p.route(attempts=1)], failpoints=failpoint, ready=False)


def killed(d):
    assert d.wait(20) == -signal.SIGKILL
    d.process = None
    d.env.pop("STRANDD_FAILPOINTS")


@pytest.mark.sanitize
def test_after_a_kill_between_receipt_and_mark(db, daemon, wait_until):
    """The receipts are committed, and of three marks one is made."""
    with db.connect(autocommit=False) as conn:
        for n in range(3):
            db.execute("INSERT INTO ad_strands (id, tags, kind) VALUES (%s, %s, 'raise')", (f"AD_{n}", f'["{p.PLAN}"]'), conn)
    d = start_with(db, daemon, "mark.before=kill@2")
    killed(d)
    assert "failed" in service.states(db, "dm", p.PLAN).values()
    assert db.value("SELECT count(*) FROM dm_receipts WHERE marked") == 1
    assert sum(MARK in p.tags(db, f"AD_{n}") for n in range(3)) == 1
    d.start()
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE state = 'failed' AND marked") == 3)
    assert [p.tags(db, f"AD_{n}") for n in range(3)] == [[p.PLAN, MARK]] * 3


def test_a_mark_that_fails_once_is_made_later(db, daemon, wait_until):
    d = start_with(db, daemon, "mark.before=error@1")
    for n in range(3):
        p.publish(db, f"AD_{n}", "raise")
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE marked") == 3)
    d.wait_log(f"strands are marked again route={p.PLAN} source=AD_strands ")
    assert [p.tags(db, f"AD_{n}") for n in range(3)] == [[p.PLAN, MARK]] * 3


def test_a_strand_that_is_gone_needs_no_mark(db, daemon, wait_until):
    d = p.serve(db, daemon, attempts=1)
    p.publish(db, "AD_1", "raise")
    p.in_state(db, "AD_1", "failed", wait_until)
    d.kill()
    db.execute("UPDATE dm_receipts SET marked = false; DELETE FROM ad_strands")
    d.start()
    wait_until(lambda: db.value("SELECT marked FROM dm_receipts"))


@pytest.mark.parametrize("tags", [None, {}, "x", 42, [["dm:evaluate_plan"]]])
def test_odd_tags_are_marked_too(db, daemon, wait_until, tags):
    """Whatever a user has made of them since."""
    d = p.serve(db, daemon, attempts=1)
    p.publish(db, "AD_1", "raise")
    p.in_state(db, "AD_1", "failed", wait_until)
    d.kill()
    db.execute("ALTER TABLE ad_strands DISABLE TRIGGER USER; UPDATE dm_receipts SET marked = false")
    db.execute("UPDATE ad_strands SET tags = %s", (None if tags is None else service.json.dumps(tags),))
    d.start()
    wait_until(lambda: db.value("SELECT marked FROM dm_receipts"))
    assert MARK in p.tags(db, "AD_1")


def test_a_missing_right_is_not_asked_for_again_and_again(db, daemon, wait_until):
    d = p.serve(db, daemon, attempts=1)
    db.execute("REVOKE UPDATE ON ad_strands FROM strandd_service")
    service.publish_many(db, "ad_strands", "AD_", 300, [p.PLAN], kind="raise")
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE state = 'failed'") == 300, 30)
    before = db.cluster.log().count("permission denied for table ad_strands")
    time.sleep(4)
    assert db.cluster.log().count("permission denied for table ad_strands") - before < 20
    db.grant()
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE marked") == 300, 30)
    assert "strands are marked" in d.log()
