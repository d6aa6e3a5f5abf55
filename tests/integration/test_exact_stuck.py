"""Strands that stay undelivered although nothing is broken: what a stuck neighbour,
a route attached anew, a slow handler or a hint that came too early can do."""

import time

import cluster as private
import service
from test_exact_catchup import bulk, done, insert

TAG = "dm:evaluate_plan"
EXECUTE = "trader:execute_plan"
LABELS = '{tag="dm:evaluate_plan",source="AD_strands"}'
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
               {"queue": {"limit": 200}, "scan": {"interval": "200ms"}})
    for i in range(5):
        db.execute("INSERT INTO DM_strands (id, tags) VALUES (%s, '[\"trader:execute_plan\"]')", (f"DM_{i}",))
    wait_until(lambda: db.value("SELECT count(*) FROM tr_receipts WHERE state = 'done'") == 5, 15)
    assert d.log().count("put off") < 20, d.log()
    # what has lost eight times is charged
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done'") == 0


def test_route_detached_and_attached_with_what_is_there(db, daemon, wait_until):
    d = daemon(AD, {"scan": {"interval": "100ms"}})
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
           {"workers": {"handler_timeout": "2500ms"},
            "module_communication": {"database": {"connect_timeout": "1s"}}})
    wait_until(lambda: db.execute("SELECT strand_id, state, sqlstate FROM dm_receipts ORDER BY 1") ==
               [("AD_quick", "done", None), ("AD_slow", "failed", "57014")], 20)


def test_a_hint_before_its_strand(db, daemon, wait_until):
    """The strand commits while its forged hint is on its way: whatever the order of
    the two, it is delivered."""
    daemon(AD, {"scan": {"interval": "1h"}})
    for i in range(200):
        db.execute("SELECT pg_notify('dm_evaluate_plan', %s)", (f"AD_{i}",))
        insert(db, f"AD_{i}")
    wait_until(lambda: done(db) == 200, 20)


def test_put_off_is_not_left_to_a_busy_worker(db, daemon, wait_until):
    """A strand that another session holds for a moment; the worker that met it has
    long work then, and another worker has none."""
    d = daemon([(TAG, "AD_strands", "test.record"), (EXECUTE, "DM_strands", "test.slow")],
               {"workers": {"threads": 4, "batch": 1}, "scan": {"interval": "300ms"}})
    d.wait_log("listening")
    route = db.value("SELECT route FROM dm_routes WHERE tag = %s", (TAG,))
    for i in range(3):
        other = db.connect(autocommit=False)
        db.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, strandd.lock_seed('dm_receipts', %s::int)))",
                   (f"AD_{i}", route), other)
        service.publish(db, "ad_strands", f"AD_{i}", [TAG, "priority:high"])
        wait_until(lambda: d.metrics().get("strandd_contended_total" + LABELS, 0) > 3 * i)
        for k in range(3):
            service.publish(db, "dm_strands", f"DM_{i}_{k}", [EXECUTE], timeframe="3")
        wait_until(lambda: service.sleeping(db) == 3)
        other.rollback()
        begin = time.monotonic()
        service.final(db, "dm", f"AD_{i}", TAG)
        assert time.monotonic() - begin < 1.5
        wait_until(lambda: db.value("SELECT count(*) FROM tr_receipts") == 3 * (i + 1), 20)


def test_what_is_put_off_is_not_called_settled(db, daemon, wait_until):
    """A handler that never gets its lock: said, counted, and not as another's."""
    handler(db, "never", "ad_strands", "RAISE EXCEPTION 'row is locked' USING ERRCODE = '55P03';")
    d = daemon([{"tag": TAG, "source": "AD_strands", "handler": "test.never", "attempts": 9}],
               {"workers": {"threads": 1}})  # who met the trouble tells its end
    insert(db, "AD_1")
    wait_until(lambda: d.metrics()["strandd_put_off_total" + LABELS] > 3, 20)
    assert "row is locked" in d.log() and "settled" not in d.log()
    assert d.log().count("put off") < 5
    assert d.metrics()["strandd_contended_total" + LABELS] == 0
    db.execute("CREATE OR REPLACE FUNCTION test.never(strand ad_strands) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT NULL::jsonb WHERE false'")
    wait_until(lambda: done(db) == 1, 20)
    d.wait_log(f"batches of the route are settled again route={TAG} source=AD_strands ")


def test_one_by_one_until_told_to_stop(db, daemon, wait_until):
    """A batch whose connection was lost goes one by one; SIGTERM begins no more."""
    d = daemon([(TAG, "AD_strands", "test.slow")], {"workers": {"threads": 1, "batch": 20}})
    db.execute("INSERT INTO AD_strands (id, tags, timeframe) SELECT 'AD_' || i, %s, '0.5' FROM generate_series(1, 20) i",
               (f'["{TAG}"]',))
    wait_until(lambda: service.sleeping(db))
    db.cluster.admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                     f" WHERE usename = '{private.SERVICE}' AND wait_event = 'PgSleep'")
    wait_until(lambda: done(db) >= 2, 20)
    before = done(db)
    d.stop()
    assert done(db) <= before + 2	# the one that ran, and the one that began while we looked


def test_urgent_strands_come_before_a_long_pass(db, daemon):
    """The first route's table takes the scanner seconds; the other route's urgent
    strand was written while nobody listened."""
    db.execute("INSERT INTO AD_strands (id, tags) SELECT 'X' || n, '[\"other\"]' FROM generate_series(1, 800) n")
    service.publish(db, "dm_strands", "DM_urgent", [EXECUTE, "priority:high"])
    begin = time.monotonic()
    daemon([(TAG, "AD_strands", "test.reply"), (EXECUTE, "DM_strands", "test.reply")],
           {"scan": {"page": 10}}, failpoints="scan.page=sleep:100")
    service.final(db, "tr", "DM_urgent", EXECUTE)
    assert time.monotonic() - begin < 4, "it waited for the pass of the other route"


def test_a_failing_page_is_told_once_in_a_while(db, daemon, wait_until):
    """One route waits for room, which makes the scanner look often; the other's
    page fails each time."""
    handler(db, "loses", "ad_strands", "RAISE EXCEPTION 'race' USING ERRCODE = '40001';")
    bulk(db, "AD_", 1000)
    db.execute("INSERT INTO DM_strands (id, tags) SELECT 'DM_' || i, %s FROM generate_series(1, 10) i", (f'["{EXECUTE}"]',))
    db.execute(f"REVOKE SELECT ON tr_receipts FROM {private.SERVICE}")
    d = daemon([(TAG, "AD_strands", "test.loses"), (EXECUTE, "DM_strands", "test.reply")], {"queue": {"limit": 200}})
    time.sleep(3)
    lines = [line for line in d.log().splitlines() if "; scan put off " in line]
    assert 1 <= len(lines) < 5
    assert all(f" route={EXECUTE} source=DM_strands sqlstate=42501" in line for line in lines), lines
    db.execute(f"GRANT SELECT ON tr_receipts TO {private.SERVICE}")
    wait_until(lambda: db.value("SELECT count(*) FROM tr_receipts WHERE state = 'done'") == 10, 20)
    d.wait_log(f"the route is scanned again route={EXECUTE} source=DM_strands ")


def test_long_ids_do_not_fill_the_queue_for_all(db, daemon, wait_until):
    """Bytes have a share for each route as entries have; without room no page is
    read."""
    handler(db, "loses", "ad_strands", "RAISE EXCEPTION 'race' USING ERRCODE = '40001';")
    db.execute("INSERT INTO AD_strands (id, tags) SELECT repeat('x', 7900) || n, %s FROM generate_series(1, 1500) n",
               (f'["{TAG}"]',))
    db.execute("INSERT INTO DM_strands (id, tags) SELECT repeat('x', 7900) || n, %s FROM generate_series(1, 300) n",
               (f'["{EXECUTE}"]',))
    d = daemon([(TAG, "AD_strands", "test.loses"), (EXECUTE, "DM_strands", "test.record")])
    wait_until(lambda: db.value("SELECT count(*) FROM tr_receipts") == 300, 20)
    time.sleep(3)
    assert d.metrics()["strandd_scan_rows_total" + LABELS] < 5000


def test_a_held_route_row_costs_no_connection(db, daemon, wait_until):
    """The position cannot be recorded while somebody holds the route's row."""
    d = daemon(AD, {"scan": {"interval": "100ms"}})
    other = db.connect(autocommit=False)
    db.execute("SELECT FROM dm_routes FOR UPDATE", conn=other)
    insert(db, "AD_1")
    wait_until(lambda: done(db) == 1)
    time.sleep(3)
    insert(db, "AD_2")
    wait_until(lambda: done(db) == 2)
    other.rollback()
    d.stop()
    assert "warning" not in d.log(), d.log()


def test_attached_anew_between_two_passes(db, daemon, wait_until):
    """Detached and attached again at once, at a position that was low already."""
    db.execute("CREATE TABLE EX_strands (id text PRIMARY KEY, tags jsonb)")
    db.attach(TAG, "EX_strands", "DM_strands", deliver_existing=True)
    db.grant()
    d = daemon([(TAG, "EX_strands", "test.record")], {"scan": {"interval": "1s"}})
    d.wait_log("listening")
    for i in range(5):
        db.execute(f"SELECT strandd.detach('{TAG}', 'ex_strands', 'dm_strands')")
        db.execute("INSERT INTO ex_strands (id, tags) VALUES (%s, %s)", (f"EX_{i}", f'["{TAG}"]'))
        db.execute("SELECT pg_notify('dm_evaluate_plan', %s)", (f"EX_{i}",))
        time.sleep(0.1)
        db.execute(f"SELECT strandd.attach('{TAG}', 'ex_strands', 'dm_strands', true)")
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts") == 5, 20)
