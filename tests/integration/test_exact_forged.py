"""Notifications carry no authority and cost little: forged ones, and a million of
them while no worker takes any."""

import pytest

TAG = "dm:evaluate_plan"
LABELS = '{tag="dm:evaluate_plan",source="AD_strands"}'


def count(d, name):
    return d.metrics().get(f"strandd_{name}_total{LABELS}", 0)


@pytest.mark.sanitize
def test_forged_notifications_run_nothing(db, daemon, wait_until):
    d = daemon([(TAG, "AD_strands", "test.record")], {"scan": {"interval": "100ms"}})
    d.wait_log("listening")
    db.execute("""INSERT INTO AD_strands (id, tags) VALUES ('untagged', '[]'), ('none', NULL), ('null', 'null'),
        ('string', '"dm:evaluate_plan"'), ('object', '{"dm:evaluate_plan": 1}'), ('nested', '[["dm:evaluate_plan"]]'),
        ('other', '["trader:execute_plan", "DM:EVALUATE_PLAN", "dm:evaluate_plan "]')""")
    payloads = ["unknown", "", "x" * 7999, "untagged", "none", "null", "string", "object", "nested", "other",
                "'; DROP TABLE ad_strands; --", '{"a","b"}', "\\", '"', "NULL", "ü" * 3999, "%s%n", "a\nb"]
    for payload in payloads:
        for channel in ("dm_evaluate_plan", "dm_evaluate_plan:high"):
            before = count(d, "forged")
            db.execute("SELECT pg_notify(%s, %s)", (channel, payload))
            wait_until(lambda before=before: count(d, "forged") == before + 1, 5, what=f"{payload[:20]!r} counted")
    # all at once, to other channels, and to none
    db.execute("SELECT pg_notify('dm_evaluate_plan', 'forged ' || i), pg_notify('trader_execute_plan', 'forged ' || i),"
               " pg_notify('nobody', 'forged ' || i) FROM generate_series(1, 3000) i")
    wait_until(lambda: count(d, "forged") == 2 * len(payloads) + 3000, 20)
    assert db.value("SELECT count(*) FROM test.calls") == 0
    assert db.value("SELECT count(*) FROM dm_receipts") == 0
    # and for a settled strand: nothing again
    db.execute("INSERT INTO AD_strands (id, tags) VALUES ('real', '[\"dm:evaluate_plan\"]')")
    wait_until(lambda: db.value("SELECT count(*) FROM test.calls") == 1)
    wait_until(lambda: d.metrics()["strandd_in_flight" + LABELS] == 0)
    for _ in range(20):
        duplicates = count(d, "duplicates")
        db.execute("SELECT pg_notify('dm_evaluate_plan', 'real')")
        wait_until(lambda duplicates=duplicates: count(d, "duplicates") > duplicates, 5)
    assert db.value("SELECT count(*) FROM test.calls") == 1
    assert count(d, "settled") == 1


def resident(d, field):
    with open(f"/proc/{d.pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(field)) / 1024


def test_a_million_notifications_while_workers_are_held(db, daemon, wait_until, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    d = daemon([(TAG, "AD_strands", "test.reply")], {"workers": {"threads": 4}, "scan": {"interval": "1s"}},
               failpoints=f"worker.take=hold:{hold}")
    begun = resident(d, "VmRSS")
    for n in range(10):
        # forged ones first, so that the real ones find the queue full
        db.execute("SELECT pg_notify('dm_evaluate_plan', 'forged ' || %s || ' ' || i) FROM generate_series(1, 97000) i", (n,))
        db.execute("INSERT INTO AD_strands (id, tags) SELECT 'AD_' || %s || '_' || i, '[\"dm:evaluate_plan\"]'"
                   " FROM generate_series(1, 3000) i", (n,))
    wait_until(lambda: count(d, "notifications") == 1000000, 60, 0.1)
    held, most = resident(d, "VmRSS"), resident(d, "VmHWM")
    print(f"resident {begun:.1f} MiB at start, {held:.1f} MiB after a million notifications, {most:.1f} MiB at most")
    assert count(d, "overflows") == 1000000 - 20000 - count(d, "duplicates")
    assert most < 30e6 / 2**20
    hold.unlink()
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts") == 30000, 60, 0.1)
    assert db.execute("SELECT count(*), count(DISTINCT tags) FROM dm_strands") == [(30000, 30000)]
    assert resident(d, "VmHWM") < 30e6 / 2**20
