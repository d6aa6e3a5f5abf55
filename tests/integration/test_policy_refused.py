"""Marks that the strand's own table refuses: they stand in nobody's way, and they are
not asked for without end."""

import time

import pytest

import policy_support as p
import service

MARK = "error:processing_failed"
FEEDBACK = "alpha:decision_feedback"


def refuse(db, condition, errcode="P0001"):
    """A trigger of the user's that raises for such rows."""
    db.execute(f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF {condition} THEN RAISE EXCEPTION 'the book is closed' USING ERRCODE = '{errcode}'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER a_refuse BEFORE UPDATE ON ad_strands FOR EACH ROW EXECUTE FUNCTION refuse()""")


def refused(db):
    return db.cluster.log().count("the book is closed")


def both(db, daemon, **policy):
    """The route from AD_strands, and one from DM_strands whose strands all fail."""
    service.function(db, p.HANDLER, name="test.policy")
    return daemon([p.route(attempts=1, **policy),
                   {"tag": FEEDBACK, "source": "DM_strands", "handler": "test.policy", "attempts": 1, "suspend_after": 0}],
                  {"scan": {"interval": "2s"}})


def test_a_column_that_is_dropped_or_added(db, daemon, wait_until):
    """Statements that were made for the table as it was are made anew."""
    p.serve(db, daemon, attempts=1)
    p.publish(db, "AD_1", "raise")
    p.marked(db, "AD_1", MARK, wait_until)
    db.execute("ALTER TABLE ad_strands DROP COLUMN updated_at")
    p.publish(db, "AD_2", "raise")
    p.marked(db, "AD_2", MARK, wait_until)


@pytest.mark.parametrize("errcode", ["42883", "42501", "P0001"])
def test_what_is_refused_does_not_keep_others_from_it(db, daemon, wait_until, errcode):
    """Whatever the trigger's error is called, and though the refused ones come first."""
    refuse(db, "NEW.id LIKE 'AD_a%'", errcode)
    p.serve(db, daemon, attempts=1)
    service.publish_many(db, "ad_strands", "AD_a", 5, [p.PLAN], kind="raise")
    wait_until(lambda: service.count_receipts(db, "dm", p.PLAN) == 5)
    p.publish(db, "AD_z", "raise")
    p.marked(db, "AD_z", MARK, wait_until, 20)
    time.sleep(1)
    p.publish(db, "AD_Z", "raise")      # before them, and after they were tried
    p.marked(db, "AD_Z", MARK, wait_until, 20)
    assert db.value("SELECT count(*) FROM dm_receipts WHERE NOT marked") == 5
    db.execute("DROP TRIGGER a_refuse ON ad_strands")
    p.publish(db, "AD_y", "raise")
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE NOT marked") == 0, 30)


def test_many_that_are_refused_come_first(db, daemon, wait_until):
    refuse(db, "NEW.id LIKE 'AD_a%'")
    p.serve(db, daemon, attempts=1)
    service.publish_many(db, "ad_strands", "AD_a", 60, [p.PLAN], kind="raise")
    service.publish_many(db, "ad_strands", "AD_z", 60, [p.PLAN], kind="raise")
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE marked") == 60, 30)
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE state = 'failed'") == 120, 30)
    assert db.value("SELECT count(*) FROM dm_receipts WHERE NOT marked AND strand_id LIKE 'AD\\_a%%'") == 60


def test_they_fill_no_log_and_hold_no_other_route_up(db, daemon, wait_until):
    refuse(db, "true")
    both(db, daemon)
    service.publish_many(db, "ad_strands", "AD_", 1000, [p.PLAN], kind="raise")
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE state = 'failed'") == 1000, 30)
    time.sleep(3)
    before = refused(db)
    slowest = 0
    for n in range(8):
        begun = time.monotonic()
        service.publish(db, "dm_strands", f"DM_{n}", [FEEDBACK], kind="raise")
        wait_until(lambda: MARK in p.tags(db, f"DM_{n}", "dm_strands"))     # noqa: B023
        slowest = max(slowest, time.monotonic() - begun)
        time.sleep(0.5)
    assert refused(db) - before < 50
    assert slowest < 2, slowest
    assert db.value("SELECT count(*) FROM dm_receipts WHERE marked") == 0
