"""SIGHUP: what a route does with its strands changes, and when the cleanup runs and
what it takes; test_service_reload.py has the rest."""

import time

import pytest

import clean_support
import cluster as private
import policy_support as p
import reloading
import service
from test_service_stop import threads

SOON = {"initial": "1ms", "cap": "1ms"}


def change(d, **policy):
    """Another policy of the only route; the old generation is gone by then."""
    reloading.hang_up(d, routes=[p.route(**policy)])
    private.wait_until(lambda: reloading.generations(d) == 1)


@pytest.mark.sanitize
def test_caps(db, daemon, held, wait_until):
    """One worker more, one less, and as many as there are."""
    service.function(db, p.HANDLER, name="test.policy")
    d = daemon([p.route(max_workers=2)], {"workers": {"threads": 4, "batch": 1}})
    n = 0
    for cap, most in ((None, 2), (3, 3), (1, 1), (0, 4)):
        if cap is not None:
            change(d, max_workers=cap)
            held.hold()
        for i in range(5):
            p.publish(db, f"AD_{n + i}", "held")
        n += 5
        wait_until(lambda: held.count() == most, what=lambda: f"{most} workers, not {held.count()}")  # pylint: disable=cell-var-from-loop
        time.sleep(0.3)
        assert held.count() == most
        held.release()
        wait_until(lambda: service.count_receipts(db, "dm", p.PLAN) == n)  # pylint: disable=cell-var-from-loop
    assert set(service.states(db, "dm", p.PLAN).values()) == {"done"}


def test_attempts_and_backoff(db, daemon, wait_until):
    p.record_waits(db)
    d = p.serve(db, daemon, attempts=1)
    p.publish(db, "AD_1", "raise")
    assert p.in_state(db, "AD_1", "failed", wait_until)["attempt"] == 1
    change(d, attempts=3, backoff=SOON)
    p.publish(db, "AD_2", "raise")
    assert p.in_state(db, "AD_2", "failed", wait_until)["attempt"] == 3
    assert max(least for attempt in (1, 2) for least, _ in p.waits(db, attempt)) <= 0.001
    change(d, attempts=3, backoff={"initial": "24h", "factor": 1.0, "cap": "24h"})
    for n in range(3, 8):
        p.publish(db, f"AD_{n}", "raise")
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE state = 'retry'") == 5)
    assert 600 < max(least for least, _ in p.waits(db, 1)) <= 24 * 3600
    # what waits for its retry waits on, and has its last attempt by the policy of then
    change(d, attempts=2, backoff=SOON)
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'retry'") == 5
    db.execute("UPDATE dm_receipts SET due_at = clock_timestamp() WHERE state = 'retry'; NOTIFY \"strandd:routes\"")
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE state = 'failed' AND attempt >= 2 AND strand_id <> 'AD_2'") == 5)


def test_timeout_and_suspend_after(db, daemon, wait_until):
    d = p.serve(db, daemon)
    p.publish(db, "AD_1")
    p.in_state(db, "AD_1", "done", wait_until)
    change(d, timeout="1h", attempts=1)
    p.back_date(db, 7200)
    p.publish(db, "AD_2")
    p.in_state(db, "AD_2", "expired", wait_until)
    change(d, timeout="3h", attempts=1)
    p.publish(db, "AD_3", "raise")
    p.in_state(db, "AD_3", "failed", wait_until)
    suspended = "SELECT suspended_at IS NOT NULL FROM dm_routes WHERE tag = %s"
    assert not db.value(suspended, (p.PLAN,))
    change(d, timeout="3h", attempts=1, suspend_after=1)
    p.publish(db, "AD_4", "raise")
    p.in_state(db, "AD_4", "failed", wait_until)
    wait_until(lambda: db.value(suspended, (p.PLAN,)))


def test_cleanup(db, daemon, wait_until):
    """It begins, takes more, comes sooner, goes in other steps, and ends."""
    db.execute("SELECT strandd.grant_cleanup(%s)", (private.SERVICE,))
    clean_support.old_many(db, "done", 500)
    clean_support.receipts_for_all(db, "done", 500)
    # a route that nobody serves has this one still to do
    db.attach("dm:none", "ad_strands", "dm_strands", deliver_existing=True)
    clean_support.old(db, "open", tags='["dm:none"]')
    db.grant()
    d = daemon([p.route("test.nothing")])

    def clean(**settings):
        """By these settings from now on; the last run was 90 minutes ago."""
        db.execute("UPDATE strandd.cleanup SET started_at = clock_timestamp() - interval '90 minutes'")
        reloading.hang_up(d, module_communication={"cleanup": settings})

    def completed(runs):
        wait_until(lambda: d.log().count("cleanup completed") == runs, what=d.log)

    clean(enabled=True, retention_days=30, pause="0ms")
    completed(1)
    assert len(clean_support.ids(db)) == 501
    clean(retention_days=7)
    time.sleep(0.5)
    completed(1)
    clean(cleanup_interval_hours=1, batch=100)
    completed(2)
    assert clean_support.ids(db) == ["open"]
    assert db.value("SELECT count(*) FROM strandd.gone") > 1
    clean(drop_unprocessed=True)
    completed(3)
    assert clean_support.ids(db) == []
    clean_support.old_many(db, "more", 1000, tags="[]")
    db.execute("DELETE FROM dm_receipts")       # which a run may take first
    clean(pause="1h")
    wait_until(lambda: len(clean_support.ids(db)) < 1000)
    left = len(clean_support.ids(db))
    time.sleep(0.5)
    assert len(clean_support.ids(db)) == left > 0
    clean(enabled=False)
    wait_until(lambda: "cleaner" not in threads(d.pid), what=lambda: threads(d.pid))
    assert len(clean_support.ids(db)) == left
    clean(enabled=True, pause="0ms")
    completed(4)
    assert clean_support.ids(db) == []
