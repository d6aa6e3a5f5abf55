"""Exact catch-up: what no notification told of, or told of too early, is found by
the scanner, and what is settled is not read again and again."""

import signal
import threading
import time

import pytest

import cluster as private

TAG = "dm:evaluate_plan"
AD = [(TAG, "AD_strands", "test.reply")]
LABELS = '{tag="dm:evaluate_plan",source="AD_strands"}'
ONLY_SCAN = {"module_communication": {"notifications": {"enabled": False}}, "scan": {"interval": "100ms"}}
# so long that only the pass at start and marks count
NO_SCAN = {"scan": {"interval": "1h"}}


def insert(db, strand_id, conn=None, tags=TAG):
    db.execute("INSERT INTO AD_strands (id, tags) VALUES (%s, jsonb_build_array(%s))", (strand_id, tags), conn)


def bulk(db, prefix, n, conn=None):
    db.execute("INSERT INTO AD_strands (id, tags) SELECT %s || i, %s FROM generate_series(1, %s) i",
               (prefix, f'["{TAG}"]', n), conn)


def done(db, prefix="AD_"):
    return db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done' AND starts_with(strand_id, %s)", (prefix,))


def once_each(db, n):
    """n receipts, all done, and one reply each."""
    assert db.execute("SELECT count(*), count(*) FILTER (WHERE state = 'done') FROM dm_receipts") == [(n, n)]
    assert db.execute("SELECT count(*), count(DISTINCT tags) FROM dm_strands") == [(n, n)]


def metric(d, name):
    return d.metrics().get(f"strandd_{name}{LABELS}", 0)


def passes(d, wait_until, n=2):
    """Waits for n whole passes from now."""
    before = metric(d, "scan_passes_total")
    wait_until(lambda: metric(d, "scan_passes_total") >= before + n, 20)


@pytest.mark.parametrize("enabled", [True, False], ids=["notified", "scanned"])
def test_early_insert_late_commit(db, daemon, wait_until, enabled):
    early = [db.connect(autocommit=False) for _ in range(3)]
    insert(db, "AD_early0", early[0])	# before the daemon's first snapshot
    d = daemon(AD, {"module_communication": {"notifications": {"enabled": enabled}}, "scan": {"interval": "100ms"}})
    insert(db, "AD_early1", early[1])
    for i in range(100):
        insert(db, f"AD_{i}")
    insert(db, "AD_early2", early[2])
    insert(db, "AD_last")
    wait_until(lambda: done(db) == 101, 20)
    passes(d, wait_until, 3)
    assert done(db, "AD_early") == 0
    for n, conn in enumerate(early):
        conn.commit()
        wait_until(lambda n=n: done(db, "AD_early") == n + 1, 5, what=f"early transaction {n}")
        insert(db, f"AD_after{n}")
        passes(d, wait_until)
    wait_until(lambda: done(db) == 107, 20)
    once_each(db, 107)


@pytest.mark.parametrize("enabled", [True, False], ids=["notified", "scanned"])
def test_late_commit_without_notification(db, daemon, wait_until, enabled):
    """The same when the late commit's notification is lost: its trigger is off."""
    d = daemon(AD, {"module_communication": {"notifications": {"enabled": enabled}}, "scan": {"interval": "100ms"}})
    db.execute("ALTER TABLE AD_strands DISABLE TRIGGER ad_strands_notify")
    early = db.connect(autocommit=False)
    insert(db, "AD_early", early)
    bulk(db, "AD_", 50)
    wait_until(lambda: done(db) == 50, 20)
    passes(d, wait_until, 3)
    early.commit()
    wait_until(lambda: done(db, "AD_early") == 1, 5)
    once_each(db, 51)


def test_prepared_transaction(build, wait_until):
    """A transaction that outlives its session, in two-phase commit."""
    with private.Cluster({"max_prepared_transactions": 5}) as c:
        db = c.database()
        with private.Daemon(db, AD, ONLY_SCAN) as d:
            conn = db.connect()
            db.execute("ALTER TABLE AD_strands DISABLE TRIGGER ad_strands_notify")
            db.execute("BEGIN", conn=conn)
            insert(db, "AD_two", conn)
            db.execute("PREPARE TRANSACTION 'two'", conn=conn)
            conn.close()
            bulk(db, "AD_", 50)
            wait_until(lambda: done(db) == 50, 20)
            passes(d, wait_until, 3)
            db.execute("COMMIT PREPARED 'two'")
            wait_until(lambda: done(db, "AD_two") == 1, 5)
            once_each(db, 51)
        db.drop()


@pytest.mark.parametrize("enabled", [True, False], ids=["notified", "scanned"])
def test_savepoints(db, daemon, wait_until, enabled):
    d = daemon(AD, {"module_communication": {"notifications": {"enabled": enabled}}, "scan": {"interval": "100ms"}})
    conn = db.connect(autocommit=False)
    for i in range(20):
        db.execute("SAVEPOINT a", conn=conn)
        insert(db, f"AD_{i}", conn)
        db.execute("SAVEPOINT b", conn=conn)
        insert(db, f"AD_undone{i}", conn)
        db.execute("ROLLBACK TO b", conn=conn)
        if i % 2:
            db.execute("ROLLBACK TO a", conn=conn)
    bulk(db, "AD_x", 50)
    passes(d, wait_until, 3)
    conn.commit()
    wait_until(lambda: done(db) == 60, 10)
    passes(d, wait_until, 2)
    once_each(db, 60)


def test_written_while_down(db, daemon, wait_until):
    d = daemon(AD, NO_SCAN)
    bulk(db, "AD_1_", 100)
    wait_until(lambda: done(db) == 100, 20)
    d.stop()
    bulk(db, "AD_2_", 100)
    db.execute("INSERT INTO AD_strands (id, tags) VALUES ('AD_high', %s)", (f'["{TAG}", "priority:high"]',))
    d.start()
    wait_until(lambda: done(db) == 201, 10)
    d.kill()
    bulk(db, "AD_3_", 100)
    d.start()
    wait_until(lambda: done(db) == 301, 10)
    once_each(db, 301)


def test_position_never_passes_a_strand(db, daemon, wait_until):
    """The position is recorded at the end; a transaction open then is before it."""
    d = daemon(AD)
    early = db.connect(autocommit=False)
    insert(db, "AD_early", early)
    bulk(db, "AD_", 1000)
    wait_until(lambda: done(db) == 1000, 20)
    passes(d, wait_until, 2)
    d.stop()
    position = "SELECT position::text::bigint FROM dm_routes WHERE tag = %s"
    xid = db.value("SELECT min(xact_id)::text::bigint FROM ad_strands")
    assert db.value(position, (TAG,)) < xid
    early.commit()
    d.start()
    wait_until(lambda: done(db) == 1001, 10)
    bulk(db, "AD_more", 10)
    wait_until(lambda: done(db) == 1011, 10)
    passes(d, wait_until, 2)
    d.stop()
    # nothing is open: now it has moved, and a start reads no settled strand
    assert db.value(position, (TAG,)) > xid
    d.start()
    passes(d, wait_until, 2)
    assert metric(d, "scan_rows_total") <= 10
    once_each(db, 1011)


def test_position_moves_under_steady_load(db, daemon, wait_until):
    """Something is in flight all the time; a start must not read it all again."""
    db.execute("ALTER FUNCTION test.slow(jsonb) COST 1")
    d = daemon([(TAG, "AD_strands", "test.slow")],
               conf={"workers": {"threads": 2, "batch": 1}, "scan": {"interval": "50ms"}})
    insert(db, "AD_0")
    wait_until(lambda: done(db) == 1)
    written = 1
    end = time.monotonic() + 60
    while written < 100 and time.monotonic() < end:
        ahead = written - done(db)
        if ahead < 6:
            db.execute("INSERT INTO AD_strands (id, tags, timeframe) VALUES (%s, %s, '0.03')",
                       (f"AD_{written}", f'["{TAG}"]'))
            written += 1
        assert written < 10 or ahead > 0, "the load was not steady"
    d.stop()
    position, half = db.execute("SELECT (SELECT position FROM dm_routes WHERE tag = %s)::text::bigint,"
                                " (SELECT xact_id FROM ad_strands WHERE id = 'AD_50')::text::bigint", (TAG,))[0]
    assert position > half
    d.start()
    wait_until(lambda: done(db) == 100, 20)
    assert db.execute("SELECT count(*), count(DISTINCT id) FROM test.calls") == [(100, 100)]


def test_commit_between_two_pages(db, daemon, wait_until, tmp_path):
    """A transaction that the pass's first snapshot saw running commits behind the
    page that has been read; its xid lies among those of read pages."""
    hold = tmp_path / "hold"
    db.execute("ALTER TABLE AD_strands DISABLE TRIGGER ad_strands_notify")
    for i in range(15):
        insert(db, f"AD_{i}")
    late = db.connect(autocommit=False)
    insert(db, "AD_late", late)
    for i in range(15, 30):
        insert(db, f"AD_{i}")
    hold.touch()
    daemon(AD, {**ONLY_SCAN, "scan": {"interval": "100ms", "page": 10}}, failpoints=f"scan.page=hold:{hold}")
    wait_until(lambda: done(db) == 10, 20)	# one page was read
    # behind the reader when it goes on, and before that page's own snapshot
    insert(db, "AD_new")
    time.sleep(0.1)
    hold.unlink()
    wait_until(lambda: done(db) >= 20, 20)
    hold.touch()
    late.commit()
    time.sleep(0.1)
    hold.unlink()
    wait_until(lambda: done(db) == 32, 10)
    once_each(db, 32)


def test_commits_between_pages_at_random(db, daemon, wait_until):
    """Tiny slow pages while transactions of all lengths commit, without one
    notification."""
    db.execute("ALTER TABLE AD_strands DISABLE TRIGGER ad_strands_notify")
    d = daemon(AD, {**ONLY_SCAN, "scan": {"interval": "10ms", "page": 2}}, failpoints="scan.page=sleep:2")

    def produce(n):
        conn = db.connect(autocommit=False)
        for i in range(40):
            insert(db, f"AD_{n}_{i}", conn)
            time.sleep(0.002 * n * (i % 5))
            conn.commit()
    threads = [threading.Thread(target=produce, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    wait_until(lambda: done(db) == 320, 10)
    passes(d, wait_until, 1)
    once_each(db, 320)


@pytest.mark.parametrize("where", ["here", "in another database"])
def test_long_transaction(cluster, db, daemon, wait_until, where):
    """Passes behind a transaction that stays open read only what is new."""
    if where == "here":
        old = db.connect(autocommit=False)
        insert(db, "AD_old", old)
    else:
        other = cluster.database(installed=False)
        old = other.connect(autocommit=False)
        other.execute("CREATE TABLE t (i int)", conn=old)
    reader = db.connect(autocommit=False)	# holds a snapshot, has no xid
    db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM AD_strands", conn=reader)
    d = daemon(AD, {"scan": {"interval": "50ms"}})
    bulk(db, "AD_", 20000)
    wait_until(lambda: done(db) == 20000, 30)
    passes(d, wait_until, 2)
    before = metric(d, "scan_rows_total")
    passes(d, wait_until, 20)
    assert metric(d, "scan_rows_total") == before
    for i in range(100):
        insert(db, f"AD_x{i}")
    wait_until(lambda: done(db) == 20100, 10)
    passes(d, wait_until, 20)
    # each new strand is read by one pass, perhaps by two
    assert metric(d, "scan_rows_total") - before <= 200
    old.commit()
    if where == "here":
        wait_until(lambda: done(db) == 20101, 5)
        once_each(db, 20101)
    else:
        other.drop()
        once_each(db, 20100)


def test_listener_terminated_while_producers_write(db, daemon, wait_until):
    d = daemon(AD, {"scan": {"interval": "1s"}})
    stop = threading.Event()
    sent = [0, 0]

    def produce(n):
        conn = db.connect()
        while not stop.is_set():
            insert(db, f"AD_{n}_{sent[n]}", conn)
            sent[n] += 1
    threads = [threading.Thread(target=produce, args=(n,)) for n in range(2)]
    for t in threads:
        t.start()
    kills = 0
    for _ in range(12):
        time.sleep(0.15)
        kills += len(db.cluster.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                                      f" datname = '{db.name}' AND application_name = 'strandd' AND query LIKE 'LISTEN%'"))
    stop.set()
    for t in threads:
        t.join()
    assert kills >= 4, "the listener was hardly ever there to be terminated"
    wait_until(lambda: done(db) == sum(sent), 10)
    once_each(db, sum(sent))
    assert d.metrics()["strandd_reconnects_total"] >= kills


def test_scanner_terminated(db, daemon, wait_until):
    d = daemon(AD, ONLY_SCAN)
    for n in range(10):
        bulk(db, f"AD_{n}_", 100)
        db.cluster.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                         f" datname = '{db.name}' AND application_name = 'strandd'")
        time.sleep(0.05)
    wait_until(lambda: done(db) == 1000, 20)
    passes(d, wait_until, 1)
    once_each(db, 1000)


@pytest.mark.sanitize
@pytest.mark.parametrize("limits", [{"limit": 1}, {"limit": 3}, {"limit": 50, "bytes": "1KiB"}])
def test_overflow(db, daemon, wait_until, limits, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    d = daemon(AD, {"queue": limits, "scan": {"interval": "1h", "page": 7}, "workers": {"batch": 5}},
               failpoints=f"worker.take=hold:{hold}")
    d.wait_log("listening")
    for n in range(5):
        bulk(db, f"AD_{n}_", 60)
    insert(db, "AD_" + "x" * 1500)	# longer than all ids may take
    insert(db, "AD_" + "x" * 7000)
    wait_until(lambda: metric(d, "overflows_total") > 0)
    hold.unlink()
    wait_until(lambda: done(db, "") == 302, 20)
    once_each(db, 302)


def test_stopped_while_nothing_is_lost(db, daemon, wait_until):
    """SIGTERM in the middle of a backlog, again and again."""
    bulk(db, "AD_", 5000)
    for _ in range(8):
        d = daemon(AD, {"workers": {"batch": 10}})
        time.sleep(0.05)
        d.signal(signal.SIGTERM)
        assert d.wait() == 0
        d.process = None
    before = done(db)
    assert 0 < before
    daemon(AD)
    wait_until(lambda: done(db) == 5000, 20)
    once_each(db, 5000)
