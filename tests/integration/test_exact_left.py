"""What another instance left behind, or wrote, while this one looks for strands that
no notification told of once an hour only."""

import time

import pytest

import policy_support as p
import service

RARELY = {"scan": {"interval": "1h"}}
DEAF = {"module_communication": {"notifications": {"enabled": False}}, **RARELY}
SOON = 12.0     # a look every five seconds, and a machine that is busy


def test_the_retry_of_a_dead_one(db, daemon, wait_until):
    """Deaf, the second has no other way to learn of the strand."""
    a = p.serve(db, daemon, RARELY, attempts=2, backoff={"initial": "4s", "factor": 1.0, "cap": "4s"})
    p.serve(db, daemon, DEAF, attempts=2)
    p.publish(db, "AD_1", "until", "2")
    p.in_state(db, "AD_1", "retry", wait_until)
    db.execute("UPDATE dm_receipts SET due_at = now() + interval '1 second'")
    a.kill()
    assert p.in_state(db, "AD_1", "done", wait_until, SOON)["attempt"] == 2


def test_the_lease_of_a_dead_one(db, daemon, wait_until):
    """As it leaves one when it dies while the handler runs, which the server ends.  Here
    no session is of the age that taking over wants: it is the third look that does it."""
    p.serve(db, daemon, DEAF, attempts=2)
    with db.connect(autocommit=False) as conn:
        db.execute("INSERT INTO ad_strands (id, tags, kind) VALUES ('AD_1', %s, 'good')", (f'["{p.PLAN}"]',), conn)
        db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at, instance, started_at)"
                   " SELECT route, 'AD_1', 'running', 1, clock_timestamp() + interval '5 s', 999999, now()"
                   " FROM dm_routes WHERE tag = %s", (p.PLAN,), conn)
    assert p.in_state(db, "AD_1", "done", wait_until, 2 * SOON)["attempt"] == 2


def test_a_suspension(db, daemon, wait_until):
    d = p.serve(db, daemon, RARELY)
    begun = time.monotonic()
    db.execute("UPDATE dm_routes SET suspended_at = now(), suspended_error = 'elsewhere' WHERE tag = %s", (p.PLAN,))
    d.wait_log("route suspended, as its row in the database says: elsewhere", SOON)
    db.execute("UPDATE dm_routes SET suspended_at = NULL, suspended_error = NULL")
    d.wait_log("route resumed", SOON)
    assert time.monotonic() - begun < 2 * SOON


@pytest.mark.parametrize("interval", ["1h", "200ms"])
def test_it_costs_no_more_than_that(db, daemon, wait_until, interval):
    """A look at the receipts is no pass, and comes as often as the shorter of the two."""
    d = p.serve(db, daemon, {"scan": {"interval": interval}})
    p.publish(db, "AD_1")
    service.final(db, "dm", "AD_1", p.PLAN)
    time.sleep(1)
    before = d.metrics()[f"strandd_scan_passes_total{p.LABELS}"]
    time.sleep(6)
    passes = d.metrics()[f"strandd_scan_passes_total{p.LABELS}"] - before
    assert passes == 0 if interval == "1h" else passes > 10
