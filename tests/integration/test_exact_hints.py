"""A hint that comes before its strand: forged, or of another table's strand with
the same id.  While it is looked at and found empty, the strand commits, and its
own hints are dropped as being in flight already."""

import pytest

TAG = "dm:evaluate_plan"
AD = [(TAG, "AD_strands", "test.reply")]
LABELS = '{tag="dm:evaluate_plan",source="AD_strands"}'


def metric(d, name):
    return d.metrics().get(f"strandd_{name}_total{LABELS}", 0)


def done(db):
    return db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done'")


@pytest.fixture
def hold(tmp_path):
    """A file that holds a failpoint; gone when the daemon is told to stop."""
    file = tmp_path / "hold"
    yield file
    file.unlink(missing_ok=True)


def looked_and_found_nothing(db):
    """A worker's last statement was the one that examines what was not settled."""
    return db.cluster.admin(f"SELECT 1 FROM pg_stat_activity WHERE datname = '{db.name}' AND state = 'idle'"
                            " AND application_name = 'strandd' AND query LIKE 'SELECT u.n, coalesce(%'")


@pytest.mark.parametrize("passes", [True, False], ids=["scanned", "notified"])
def test_hint_before_its_strand(db, daemon, hold, wait_until, passes):
    d = daemon(AD, {"scan": {"interval": "50ms" if passes else "1h"}, "workers": {"threads": 1}},
               failpoints=f"batch.judged=hold:{hold}")
    wait_until(lambda: metric(d, "scan_passes") >= 1)
    hold.touch()
    try:
        db.execute("SELECT pg_notify('dm_evaluate_plan', 'AD_soon')")
        wait_until(lambda: looked_and_found_nothing(db), 10)
        db.execute("INSERT INTO AD_strands (id, tags) VALUES ('AD_soon', '[\"dm:evaluate_plan\"]')")
        wait_until(lambda: metric(d, "notifications") == 2)
        if passes:
            before = metric(d, "scan_passes")
            wait_until(lambda: metric(d, "scan_passes") > before + 2)
        assert done(db) == 0
    finally:
        hold.unlink()
    wait_until(lambda: done(db) == 1, 5, what="the strand settled")
    assert db.value("SELECT count(*) FROM dm_strands") == 1
    wait_until(lambda: d.metrics()["strandd_in_flight" + LABELS] == 0, 5)
    assert metric(d, "settled") == 1


def test_same_id_in_two_tables(db, daemon, wait_until):
    """Each announcement is a hint too early for the other table's route."""
    db.execute("CREATE TABLE EX_strands (id text PRIMARY KEY, tags jsonb)")
    db.attach(TAG, "EX_strands", "DM_strands")
    db.grant()
    daemon(AD + [(TAG, "EX_strands", "test.reply")], {"scan": {"interval": "10ms"}, "workers": {"threads": 4, "batch": 1}})
    a, b = db.connect(), db.connect()
    for n in range(1500):
        db.execute("INSERT INTO AD_strands (id, tags) VALUES (%s, '[\"dm:evaluate_plan\"]')", (f"AD_{n}",), a)
        db.execute("INSERT INTO EX_strands (id, tags) VALUES (%s, '[\"dm:evaluate_plan\"]')", (f"AD_{n}",), b)
    wait_until(lambda: done(db) == 3000, 10)
    assert db.value("SELECT count(*) FROM dm_strands") == 3000
