"""Strands that stay undelivered although nothing is broken: what a stuck neighbour,
a route attached anew, a slow handler or a hint that came too early can do."""

import time

import cluster as private
from test_exact_catchup import bulk, done, insert

TAG = "dm:evaluate_plan"
AD = [(TAG, "AD_strands", "test.reply")]


def handler(db, name, source, body):
    db.execute(f"""CREATE FUNCTION test.{name}(strand {source}) RETURNS SETOF jsonb LANGUAGE plpgsql AS
        $$ BEGIN {body} END $$;
        GRANT EXECUTE ON FUNCTION test.{name} TO {private.SERVICE};""")


def test_a_stuck_route_does_not_starve_the_others(db, daemon, wait_until):
    """Ten times the queue waits on a route whose handler always loses its race."""
    handler(db, "loses", "ad_strands", "RAISE EXCEPTION 'race' USING ERRCODE = '40001';")
    bulk(db, "AD_", 2000)
    d = daemon([(TAG, "AD_strands", "test.loses"), ("trader:execute_plan", "DM_strands", "test.reply")],
               {"queue": {"limit": 200}, "scan": {"interval_ms": 200}})
    for i in range(5):
        db.execute("INSERT INTO DM_strands (id, tags) VALUES (%s, '[\"trader:execute_plan\"]')", (f"DM_{i}",))
    wait_until(lambda: db.value("SELECT count(*) FROM tr_receipts WHERE state = 'done'") == 5, 15)
    assert d.log().count("put off") < 20, d.log()
    assert db.value("SELECT count(*) FROM dm_receipts") == 0


def test_route_detached_and_attached_with_what_is_there(db, daemon, wait_until):
    d = daemon(AD, {"scan": {"interval_ms": 100}})
    insert(db, "AD_first")
    wait_until(lambda: done(db) == 1)
    db.execute(f"SELECT strandd.detach('{TAG}', 'ad_strands', 'dm_strands')")
    for i in range(5):
        insert(db, f"AD_between{i}")
    time.sleep(0.5)
    assert done(db) == 1
    db.execute(f"SELECT strandd.attach('{TAG}', 'ad_strands', 'dm_strands', true)")
    insert(db, "AD_last")
    wait_until(lambda: done(db) == 7, 20)
    d.stop()


def test_a_handler_slower_than_the_connect_timeout_fails(db, daemon, wait_until):
    """The guarded run after a late error has a deadline of its own."""
    handler(db, "sluggish", "ad_strands", "IF strand.id = 'AD_slow' THEN PERFORM pg_sleep(60); END IF;")
    insert(db, "AD_slow")
    insert(db, "AD_quick")
    daemon([(TAG, "AD_strands", "test.sluggish")],
           {"workers": {"handler_timeout_ms": 2500},
            "module_communication": {"database": {"connect_timeout_ms": 1000}}})
    wait_until(lambda: db.execute("SELECT strand_id, state, sqlstate FROM dm_receipts ORDER BY 1") ==
               [("AD_quick", "done", None), ("AD_slow", "failed", "57014")], 20)


def test_a_hint_before_its_strand(db, daemon, wait_until):
    """The strand commits while its forged hint is on its way: whatever the order of
    the two, it is delivered."""
    daemon(AD, {"scan": {"interval_ms": 3600000}})
    for i in range(200):
        db.execute("SELECT pg_notify('dm_evaluate_plan', %s)", (f"AD_{i}",))
        insert(db, f"AD_{i}")
    wait_until(lambda: done(db) == 200, 20)
