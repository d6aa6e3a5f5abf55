"""The daemon's cleaner thread."""

import re
import signal
import threading
import time

import pytest

import cluster as private
from clean_support import TAG, age_everything, cleanup, ids, old, old_many, receipts_for_all
from reloading import hang_up

ROUTES = [(TAG, "AD_strands", "test.nothing")]
COMPLETED = "cleanup completed"


@pytest.fixture(autouse=True)
def granted(db):
    db.execute("SELECT strandd.grant_cleanup('strandd_service')")


def last_run(db):
    """(when, strands deleted, kept, receipts) or None."""
    rows = db.execute("SELECT started_at, deleted, kept, receipts FROM strandd.cleanup")
    return rows[0] if rows else None


def backlog(db, count=2000):
    """Old strands that are finished with, and one that is not."""
    old_many(db, "s", count)
    receipts_for_all(db, "s", count)


def test_off_unless_enabled(db, daemon):
    backlog(db, 10)
    d = daemon(ROUTES)
    time.sleep(1)
    d.stop()
    assert "cleaner" not in d.log()
    assert len(ids(db)) == 10 and last_run(db) is None


@pytest.mark.sanitize
def test_a_run(db, daemon, wait_until):
    """Strands first; their receipts when the next run is due; and numbers."""
    backlog(db)
    db.execute("INSERT INTO ad_strands (id, tags, created_at) VALUES ('open', '[\"dm:none\"]', now() - interval '20 days')")
    db.attach("dm:none", "ad_strands", "dm_strands", deliver_existing=True)
    db.grant()
    d = daemon(ROUTES, conf=cleanup(batch=300))
    d.wait_log(COMPLETED)
    assert ids(db) == ["open"]
    assert db.value("SELECT count(*) FROM dm_receipts") == 2000
    assert last_run(db)[1:] == (2000, 1, 0)
    numbers = d.metrics()
    assert numbers["strandd_cleanup_deleted_strands_total"] == 2000
    assert numbers["strandd_cleanup_kept_strands"] == 1
    assert numbers["strandd_cleanup_runs_total"] == 1
    assert numbers["strandd_cleanup_last_run_seconds"] > 0
    assert 'the oldest is "open"' in d.log()
    age_everything(db, "1 day")
    d.restart()
    wait_until(lambda: d.log().count(COMPLETED) == 2)
    assert db.value("SELECT count(*) FROM dm_receipts") == 0
    assert last_run(db)[1:] == (0, 1, 2000)
    assert d.metrics()["strandd_cleanup_deleted_receipts_total"] == 2000


def test_a_restart_neither_repeats_a_run_nor_skips_one(db, daemon):
    d = daemon(ROUTES, conf=cleanup())
    d.wait_log(COMPLETED)
    first = last_run(db)
    backlog(db, 5)
    for _ in range(2):
        d.restart()
        time.sleep(0.5)
    assert last_run(db) == first and len(ids(db)) == 5
    db.execute("UPDATE strandd.cleanup SET started_at = started_at - interval '24 hours'")
    d.restart()
    private.wait_until(lambda: ids(db) == [])


def test_a_long_run_says_how_far_it_is(db, daemon):
    """Every half a minute, for which the failpoint stands."""
    backlog(db)
    d = daemon(ROUTES, conf=cleanup(batch=300), failpoints="clean.tell=error@4")
    d.wait_log(COMPLETED)
    told, = re.findall(r"info cleaner: cleanup at (\S+): (\d+) strands and 0 receipts deleted so far ", d.log())
    assert told[0] == "ad_strands" and 300 <= int(told[1]) < 2000


def test_of_two_one_runs(db, daemon, wait_until, tmp_path):
    """The second one comes while the first is in the middle of its run."""
    backlog(db)
    hold = tmp_path / "hold"
    hold.touch()
    first = daemon(ROUTES, conf=cleanup(batch=100), failpoints=f"clean.batch=hold:{hold}@3")
    wait_until(lambda: len(ids(db)) < 2000)
    second = daemon(ROUTES, conf=cleanup())
    second.wait_log("another cleanup is at work: pid")
    assert ids(db) and last_run(db) is None
    hold.unlink()
    first.wait_log(COMPLETED)
    time.sleep(0.5)
    assert "cleanup of strands older than" not in second.log()
    assert last_run(db)[1] == 2000


def test_killed_in_the_middle_it_goes_on(db, daemon, wait_until):
    backlog(db)
    d = daemon(ROUTES, conf=cleanup(batch=100), failpoints="clean.batch=kill@5", ready=False)
    assert d.wait(20) == -signal.SIGKILL
    d.process = None
    left = len(ids(db))
    assert 1000 < left <= 1500 and last_run(db) is None
    d.env.pop("STRANDD_FAILPOINTS")
    d.start()
    d.wait_log(COMPLETED)
    assert ids(db) == []
    assert last_run(db)[1] == left
    # what the killed one deleted is known too
    age_everything(db, "1 day")
    d.restart()
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts") == 0)


def test_a_connection_that_is_lost(db, daemon, wait_until):
    backlog(db)
    d = daemon(ROUTES, conf=cleanup(batch=100), failpoints="clean.batch=error@5")
    d.wait_log("cleanup works again", 20)
    assert ids(db) == [] and last_run(db)
    assert "cleanup: failpoint clean.batch; trying again" in d.log()


def test_it_stops_within_a_batch(db, daemon, wait_until):
    """However long the batch takes: it is taken back."""
    backlog(db, 100)
    db.execute("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN OLD; END'")
    db.execute("CREATE TRIGGER slow BEFORE DELETE ON ad_strands FOR EACH ROW EXECUTE FUNCTION slow()")
    d = daemon(ROUTES, conf=cleanup())
    wait_until(lambda: db.cluster.admin("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = '%s'" % db.name))
    begun = time.monotonic()
    d.stop()
    assert time.monotonic() - begun < 5
    wait_until(lambda: not db.cluster.admin("SELECT 1 FROM pg_stat_activity WHERE usename = 'strandd_service' AND datname = '%s'" % db.name))
    assert len(ids(db)) == 100


def test_it_stops_within_a_pause(db, daemon):
    backlog(db)
    d = daemon(ROUTES, conf=cleanup(batch=100, pause="1h"))
    private.wait_until(lambda: len(ids(db)) < 2000)
    left = len(ids(db))
    begun = time.monotonic()
    d.stop()
    assert time.monotonic() - begun < 5
    assert len(ids(db)) == left


def test_runs_that_reloads_break_off(db, daemon, wait_until):
    """The next generation begins its own soon, and each part of a run has its turn,
    though none ever comes to its end."""
    backlog(db)
    receipts_for_all(db, "gone", 50)
    d = daemon(ROUTES, conf=cleanup(batch=100, pause="1h"))
    wait_until(lambda: len(ids(db)) < 2000)
    left = len(ids(db))
    hang_up(d)
    wait_until(lambda: db.value("SELECT count(*) FROM strandd.gone WHERE found AND 'gone7' = ANY (ids)") == 1)
    assert len(ids(db)) == left
    hang_up(d)
    wait_until(lambda: len(ids(db)) < left)
    assert last_run(db) is None


def test_a_right_that_is_missing_is_named(db, daemon):
    db.execute("REVOKE DELETE ON ad_strands FROM strandd_service")
    old(db, "a", tags="[]")
    old(db, "a", tags="[]", table="DM_strands")
    d = daemon(ROUTES, conf=cleanup())
    d.wait_log(COMPLETED)
    assert "cleanup of ad_strands left off: permission denied" in d.log()
    assert "strandctl init --grant-cleanup strandd_service" in d.log()
    assert ids(db, "dm_strands") == []


def test_no_right_at_all(cluster, build):
    db = cluster.database()
    try:
        with private.Daemon(db, ROUTES, conf=cleanup()) as d:
            d.wait_log("cleanup: permission denied")
            d.wait_log("strandctl init --grant-cleanup strandd_service")
            db.execute("SELECT strandd.grant_cleanup('strandd_service')")
            d.wait_log(COMPLETED, 20)
    finally:
        db.drop()


def test_a_table_that_is_being_altered(db, daemon, wait_until):
    """It is tried again; the others are not kept waiting for ever."""
    old(db, "a", tags="[]")
    holder = db.connect(autocommit=False)
    db.execute("LOCK TABLE ad_strands IN ACCESS EXCLUSIVE MODE", conn=holder)
    d = daemon([("trader:execute_plan", "DM_strands", "test.nothing")],
               conf={"module_communication": {"database": {"lock_timeout": "100ms"}, "cleanup": {"enabled": True}}})
    d.wait_log("cleanup of strands older")
    time.sleep(1)
    holder.rollback()
    d.wait_log(COMPLETED)
    assert ids(db) == []


def test_while_strands_flow(db, daemon, wait_until):
    """Old and young, by several producers, while the cleanup deletes what is done
    with: each is handled once, and each old one goes after that only."""
    db.execute("CREATE FUNCTION test.count(strand jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS"
               " $$ BEGIN INSERT INTO test.calls (handler, id) VALUES ('count', strand->>'id'); END $$;"
               " GRANT EXECUTE ON FUNCTION test.count TO strandd_service")
    daemon([(TAG, "AD_strands", "test.count")])
    stop = threading.Event()
    written = [0, 0, 0]

    def produce(n):
        conn = db.connect("producer")
        while not stop.is_set():
            written[n] += 1
            db.execute("INSERT INTO ad_strands (id, tags, created_at) VALUES (%s, '[\"dm:evaluate_plan\"]', now() - %s * interval '1 day')",
                       (f"{n}_{written[n]}", written[n] % 20), conn)
            time.sleep(0.003)

    threads = [threading.Thread(target=produce, args=(n,)) for n in range(3)]
    for t in threads:
        t.start()
    try:
        runs = 0
        begun = time.monotonic()
        while time.monotonic() < begun + 6 or (sum(written) <= 1000 and time.monotonic() < begun + 60):
            done = private.strandctl(db, "cleanup")
            assert done.returncode == 0, done.stderr
            runs += 1
    finally:
        stop.set()
        for t in threads:
            t.join()
    total = sum(written)
    assert runs > 1 and total > 1000
    wait_until(lambda: db.value("SELECT count(*) FROM test.calls") == total, 30)
    assert db.value("SELECT count(DISTINCT id) FROM test.calls") == total
    assert private.strandctl(db, "cleanup").returncode == 0
    expected = sum(1 for n in range(3) for i in range(1, written[n] + 1) if i % 20 < 7)
    assert db.value("SELECT count(*) FROM ad_strands") == expected
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done'") == total
