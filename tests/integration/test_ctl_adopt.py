"""strandctl adopt: a database that is another cluster's."""

import pytest

import cluster as private
import service
from ctl_support import ok, refused, rows

pytestmark = pytest.mark.usefixtures("build")


@pytest.fixture
def restored(db):
    """As after a dump was restored elsewhere: other identifier, xids far ahead."""
    service.publish_many(db, "AD_strands", "old", 2500, ["dm:evaluate_plan"])
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, finished_at) SELECT o.route, s.id, 'done', now()"
               " FROM AD_strands s, dm_routes o WHERE o.tag = 'dm:evaluate_plan' ORDER BY s.id LIMIT 1000")
    db.execute("ALTER TABLE AD_strands DISABLE TRIGGER USER")
    db.execute("UPDATE AD_strands SET xact_id = '99999999999'")
    for trigger in ("zzz_ad_strands_before_insert", "zzz_ad_strands_before_update"):
        db.execute(f"ALTER TABLE AD_strands ENABLE ALWAYS TRIGGER {trigger}")
    db.execute("ALTER TABLE AD_strands ENABLE TRIGGER USER")
    for trigger in ("zzz_ad_strands_before_insert", "zzz_ad_strands_before_update"):
        db.execute(f"ALTER TABLE AD_strands ENABLE ALWAYS TRIGGER {trigger}")
    for prefix in ("ad", "dm", "tr"):
        db.execute(f"UPDATE {prefix}_routes SET database_identifier = '42'")
    return db


def adopted(db):
    server, = rows(private.strandctl(db, "--json", "status"))
    return server["adopted"]


def states(db):
    return dict(db.execute("SELECT state, count(*) FROM dm_receipts GROUP BY 1"))


def test_deliver(restored, daemon):
    ok(private.strandctl(restored, "adopt", "--deliver"))
    assert adopted(restored)
    daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.nothing")])
    private.wait_until(lambda: states(restored) == {"done": 2500}, 20)


def test_skip(restored, daemon):
    ok(private.strandctl(restored, "adopt", "--skip"))
    assert adopted(restored)
    assert states(restored) == {"done": 1000, "skipped": 1500}
    service.publish(restored, "AD_strands", "new", ["dm:evaluate_plan"])
    daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.nothing")])
    private.wait_until(lambda: states(restored) == {"done": 1001, "skipped": 1500}, 20)


def test_continue_is_refused_where_it_cannot_be_true(restored):
    refused(private.strandctl(restored, "adopt", "--continue"), 1, "not the same system", "hint:")
    assert not adopted(restored)


def test_continue(db):
    for prefix in ("ad", "dm", "tr"):
        db.execute(f"UPDATE {prefix}_routes SET database_identifier = '42'")
    ok(private.strandctl(db, "adopt", "--continue"))
    assert adopted(db)
    ok(private.strandctl(db, "adopt", "--continue"))


def test_a_mode_is_needed(db):
    refused(private.strandctl(db, "adopt"), 2, "--continue", "--deliver", "--skip")
    refused(private.strandctl(db, "adopt", "--skip", "--deliver"), 2, "exclude")
