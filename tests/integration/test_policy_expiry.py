"""Expiry: the tag timeout:<seconds>, a route's default, and what it costs."""

import json
import random
import re
from decimal import Decimal

import pytest

import policy_support as p
import service


@pytest.mark.parametrize("tags, age, state", [
    (["timeout:5"], 6, "expired"),
    (["timeout:500"], 300, "done"),
    (["timeout:0"], 0, "expired"),
    (["timeout:0.25"], 1, "expired"),
    (["timeout:300.5"], 100, "done"),
    (["timeout:300.5"], 301, "expired"),
    (["timeout:1000000", "timeout:5"], 6, "expired"),
    (["timeout:5", "timeout:3", "timeout:99"], 4, "expired"),
    (["timeout:999999999999999"], 600, "done"),
    (["timeout:-1"], 600, "done"),
    (["timeout:abc"], 600, "done"),
    (["timeout:"], 600, "done"),
    (["timeout: 5"], 600, "done"),
    (["timeout:1e3"], 6000, "done"),
    (["timeout:5s"], 600, "done"),
    (["timeout:NaN"], 600, "done"),
    (["timeout:Infinity"], 600, "done"),
    (["timeout:0x5"], 600, "done"),
    (["timeout:5."], 600, "done"),
    (["timeout:.5"], 600, "done"),
    (["timeout:\u0665"], 600, "done"),
    (["timeout:5\n"], 600, "done"),
    (["TIMEOUT:5"], 600, "done"),
    (["timeout:" + "9" * 400], 600, "done"),
    (["timeout:abc", "timeout:5"], 6, "expired"),
    ([["timeout:5"]], 600, "done"),
    ([{"timeout:5": 1}], 600, "done"),
    ([5, None, True, "timeout:5"], 6, "expired"),
])
def test_a_timeout_tag(db, daemon, wait_until, tags, age, state):
    p.back_date(db, age)
    p.serve(db, daemon)
    p.publish(db, "AD_1", tags=tags)
    receipt = service.final(db, "dm", "AD_1", p.PLAN)
    assert receipt["state"] == state, receipt
    assert service.calls(db) == ({} if state == "expired" else {"AD_1": 1})
    if state == "expired":
        p.marked(db, "AD_1", "error:timeout", wait_until)
        assert db.value("SELECT count(*) FROM dm_strands") == 0
        assert p.tags(db, "AD_1") == [p.PLAN, *tags, "error:timeout"]


def test_odd_timeouts_are_counted_and_told_once(db, daemon, wait_until):
    d = p.serve(db, daemon)
    for n in range(30):
        p.publish(db, f"AD_{n}", tags=["timeout:soon", "timeout:-3"] if n < 20 else ["timeout:900"])
    wait_until(lambda: service.count_receipts(db, "dm", p.PLAN) == 30)
    wait_until(lambda: d.metrics()[f"strandd_odd_timeouts_total{p.LABELS}"] == 40)
    assert d.log().count("timeout: tag that is no number") == 1


def test_a_routes_default(db, daemon, wait_until):
    p.back_date(db, 10)
    d = p.serve(db, daemon, timeout="5s")
    p.publish(db, "AD_1")
    p.publish(db, "AD_2", tags=["timeout:3600"])
    p.publish(db, "AD_3", tags=["timeout:nonsense"])
    assert service.final(db, "dm", "AD_1", p.PLAN)["state"] == "expired"
    assert service.final(db, "dm", "AD_2", p.PLAN)["state"] == "done"
    assert service.final(db, "dm", "AD_3", p.PLAN)["state"] == "expired"
    wait_until(lambda: d.metrics()[f"strandd_expired_total{p.LABELS}"] == 2)


@pytest.mark.sanitize
def test_it_is_judged_just_before_the_call(db, daemon, wait_until, tmp_path):
    """Strands of one batch: those behind a slow one expire while it runs."""
    hold = tmp_path / "hold"
    service.function(db, p.HANDLER, name="test.policy")
    d = daemon([p.route()], {"workers": {"threads": 1}, "scan": {"interval": "1h"}}, failpoints=f"worker.take=hold:{hold}")
    d.wait_log("listening")
    p.publish(db, "AD_first")
    p.in_state(db, "AD_first", "done", wait_until)      # the worker has connected
    hold.touch()
    db.execute("INSERT INTO ad_strands (id, tags, kind, timeframe) VALUES ('AD_slow', %s, 'sleep', '3.1'), ('AD_1', %s, 'good', NULL),"
               " ('AD_2', %s, 'good', NULL), ('AD_patient', %s, 'good', NULL)",
               [f'["{p.PLAN}", "timeout:{seconds}"]' for seconds in (3, 3, 3.05, 600)])
    wait_until(lambda: d.metrics()[f"strandd_queue_depth{p.LABELS}"] == 4)
    hold.unlink()
    wait_until(lambda: service.count_receipts(db, "dm", p.PLAN) == 5)
    assert service.states(db, "dm", p.PLAN) == {"AD_first": "done", "AD_slow": "done", "AD_1": "expired", "AD_2": "expired", "AD_patient": "done"}
    # the marker has written the others' since
    assert db.value("SELECT count(DISTINCT xmin::text) FROM dm_receipts WHERE strand_id IN ('AD_slow', 'AD_patient')") == 1
    assert set(service.calls(db)) == {"AD_first", "AD_slow", "AD_patient"}


def test_a_strand_that_waits_for_a_retry_expires(db, daemon, wait_until):
    """And not only when its retry would be due, in a day."""
    p.serve(db, daemon, attempts=3, backoff={"initial": "24h", "factor": 1.0, "cap": "24h"})
    p.publish(db, "AD_first")
    p.in_state(db, "AD_first", "done", wait_until)
    p.publish(db, "AD_1", "raise", tags=["timeout:4"])
    first = p.in_state(db, "AD_1", "expired", wait_until)
    assert first["attempt"] == 1 and "AD_1" not in service.calls(db)
    p.marked(db, "AD_1", "error:timeout", wait_until)


def test_expired_in_serial_routes_and_behind_errors(db, daemon, wait_until):
    p.back_date(db, 10)
    p.serve(db, daemon, attempts=1, serial=True)
    p.publish(db, "AD_1", tags=["timeout:5"])
    p.publish(db, "AD_2", "raise")
    p.publish(db, "AD_3")
    wait_until(lambda: service.count_receipts(db, "dm", p.PLAN) == 3)
    assert service.states(db, "dm", p.PLAN) == {"AD_1": "expired", "AD_2": "failed", "AD_3": "done"}


def test_no_plan_calls_the_handler_for_an_expired_strand(db, daemon, wait_until):
    """However many there are of them, also beside others in the batch."""
    p.back_date(db, 10)
    p.serve(db, daemon)
    db.execute("INSERT INTO ad_strands (id, tags, kind) SELECT 'AD_' || i, CASE WHEN i %% 3 = 0 THEN %s ELSE %s END::jsonb, 'good'"
               " FROM generate_series(1, 300) i", (f'["{p.PLAN}"]', f'["{p.PLAN}", "timeout:9"]'))
    wait_until(lambda: service.count_receipts(db, "dm", p.PLAN) == 300)
    assert db.value("SELECT count(*) FROM test.calls") == 100 == db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done'")


def reference(tags):
    """What strandd.timeouts must say of an array."""
    found = [t for t in tags if isinstance(t, str) and t.startswith("timeout:")]
    good = [Decimal(t[8:]) for t in found if re.fullmatch(r"timeout:[0-9]{1,15}(\.[0-9]{1,15})?", t, re.ASCII)]
    return [min(good) if good else None, len(found) - len(good)]


def test_timeouts_of_a_thousand_random_arrays(db):
    """Among them every shape that a number almost has."""
    rng = random.Random(20261125)
    parts = ["", "0", "1", "12", "007", "9" * 15, "9" * 16, ".", ".5", "5.", "0.25", "-", "-3", "+4", "e5", "1e3", " ", "5 ", "\n",
             "NaN", "inf", "0x1F", "1_000", "1,5", "\u0663", "'", "\"", "\\", "}", "timeout:5", "5timeout:5", "\U0001f600"]
    for n in range(1000):
        tags = []
        for _ in range(rng.randrange(6)):
            text = rng.choice(["timeout:", "timeout:", "timeout:", "Timeout:", "timeout", " timeout:"]) + "".join(rng.choice(parts) for _ in range(rng.randrange(3)))
            tags.append(rng.choice([text, text, text, text, [text], {text: text}, 5, None, True]))
        got = db.value("SELECT strandd.timeouts(%s)", (json.dumps(tags),))
        assert [got[0], int(got[1])] == reference(tags), (n, tags, got)
    for odd in ("{}", "42", "null", '"timeout:5"', "true", '{"timeout:5": "timeout:5"}'):
        assert db.value("SELECT strandd.timeouts(%s)", (odd,)) == [None, 0]
