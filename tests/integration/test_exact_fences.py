"""Fences: two daemons, stopped daemons, lost answers, lost backends, a crashing
server.  Each strand is settled once, whoever was there when it broke."""

import signal
import threading
import time

import psycopg2
import pytest

import cluster as private
import producers as p

TAG = "dm:evaluate_plan"
AD = [(TAG, "AD_strands", "test.reply")]
LABELS = '{tag="dm:evaluate_plan",source="AD_strands"}'


def bulk(db, prefix, n, conn=None):
    db.execute("INSERT INTO AD_strands (id, symbol, sig_sigma, tags) SELECT %s || i, 'AD', 1, %s"
               " FROM generate_series(1, %s) i", (prefix, f'["{TAG}"]', n), conn)


def done(db):
    return db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done'")


def once_each(db, n):
    assert db.execute("SELECT count(*), count(*) FILTER (WHERE state = 'done') FROM dm_receipts") == [(n, n)]
    assert db.execute("SELECT count(*), count(DISTINCT tags) FROM dm_strands") == [(n, n)]


def terminate(db):
    """All connections of strandd, as an administrator would."""
    return len(db.cluster.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                                f" WHERE datname = '{db.name}' AND application_name = 'strandd'"))


class Waiters(threading.Thread):
    """Looks for strandd's backends that wait for a lock."""

    def __init__(self, db):
        super().__init__(daemon=True)
        self.db, self.stop, self.seen = db, threading.Event(), []
        self.conn = psycopg2.connect(db.cluster.dsn("postgres", "postgres"))
        self.conn.autocommit = True

    def run(self):
        with self.conn.cursor() as cur:
            while not self.stop.wait(0.01):
                cur.execute("SELECT wait_event, query, now() - query_start FROM pg_stat_activity"
                            " WHERE datname = %s AND application_name = 'strandd' AND wait_event_type = 'Lock'"
                            " AND clock_timestamp() - query_start > '0.2 s'", (self.db.name,))
                self.seen += cur.fetchall()

    def finish(self):
        self.stop.set()
        self.join()
        self.conn.close()
        return self.seen


def flow(db, n, daemons, tmp_path, wait_until):
    """n strands that all daemons are told of before any may begin; returns the
    bytes of WAL that settling them took, and how many claims were contended."""
    hold = tmp_path / db.name
    hold.touch()
    running = [private.Daemon(db, AD, {"workers": {"threads": 2, "batch": 50}, "scan": {"interval": "200ms"}},
                              failpoints=f"worker.take=hold:{hold}") for _ in range(daemons)]
    waiters = Waiters(db)
    try:
        for d in running:
            d.start()
        bulk(db, "AD_", n)
        for d in running:
            wait_until(lambda d=d: d.metrics()["strandd_queue_depth" + LABELS] == n, 10)
        before = db.value("SELECT pg_current_wal_insert_lsn()")
        waiters.start()
        hold.unlink()
        wait_until(lambda: done(db) == n, 60)
        wal = db.value("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)::float8", (before,))
        for d in running:
            wait_until(lambda d=d: d.metrics()["strandd_in_flight" + LABELS] == 0, 30)
        contended = sum(d.metrics().get("strandd_contended_total" + LABELS, 0) for d in running)
        assert sum(d.metrics().get("strandd_settled_total" + LABELS, 0) for d in running) == n
        for d in running:
            d.stop()
    finally:
        seen = waiters.finish() if waiters.is_alive() else []
        for d in running:
            d.remove()
    assert not seen, seen
    once_each(db, n)
    return wal, contended


def test_two_daemons_on_the_same_strands(cluster, build, wait_until, tmp_path):
    wal = {}
    for daemons in (1, 2):
        db = cluster.database()
        wal[daemons], contended = flow(db, 10000, daemons, tmp_path, wait_until)
        db.drop()
        print(f"{daemons} daemons: {wal[daemons]} bytes of WAL, {contended} claims contended")
    assert contended > 0, "the two daemons never met"
    assert wal[2] < 1.3 * wal[1]
    assert "deadlock detected" not in cluster.log()


def test_two_daemons_while_producers_write(build, db, wait_until):
    p.prepare(db)
    conf = {"workers": {"threads": 2, "batch": 20}, "scan": {"interval": "50ms"}}
    crew = [p.Producer(db, "ad", "AD_s", p.single, 700, 1, 0.002), p.Producer(db, "ex", "AD_s", p.single, 700, 2, 0.002),
            p.Producer(db, "ad", "AD_u", p.by_update, 1500, 3, 0.03), p.Producer(db, "ad", "AD_p", p.in_savepoints, 700, 4)]
    with private.Daemon(db, p.ROUTES, conf) as a, private.Daemon(db, p.ROUTES, conf) as b:
        for producer in crew:
            producer.start()
        sent = sum(producer.finish() for producer in crew)
        p.assert_exact(db, wait_until, sent)
        for d in (a, b):
            assert d.metrics()["strandd_settled_total" + LABELS] > 0
    assert "deadlock detected" not in db.cluster.log()


def test_stopped_daemon_loses_its_claims(build, db, wait_until):
    """SIGSTOP between claim and settle: the server frees the strands in the stated
    time, another daemon settles them, and the first one does no harm."""
    # the signal may take a moment to stop the thread that sent it
    a = private.Daemon(db, AD, {"workers": {"threads": 2, "batch": 25}},
                       failpoints="claim.after=stop@3;claim.after=sleep:500@3")
    b = private.Daemon(db, AD, {"scan": {"interval": "100ms"}})
    try:
        bulk(db, "AD_", 500)
        a.start(ready=False)
        wait_until(lambda: open(f"/proc/{a.pid}/stat", encoding="ascii").read().split(") ")[1][0] == "T", 10)
        stopped = time.monotonic()
        holders = db.execute("SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory'")
        assert holders
        b.start()
        wait_until(lambda: not db.value("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)",
                                        ([pid for pid, in holders],)), 15)
        freed = time.monotonic() - stopped
        wait_until(lambda: done(db) == 500, 10)
        print(f"freed after {freed:.1f} s, settled after {time.monotonic() - stopped:.1f} s")
        assert 9 < freed < 12	# idle_in_transaction_session_timeout is 10 s; a retry follows within 5
        a.signal(signal.SIGCONT)
        bulk(db, "AD_more", 500)
        wait_until(lambda: done(db) == 1000, 10)
        wait_until(lambda: a.metrics()["strandd_in_flight" + LABELS] == 0, 10)
        a.stop()
        b.stop()
    finally:
        a.remove()
        b.remove()
    once_each(db, 1000)


@pytest.mark.sanitize
@pytest.mark.parametrize("failpoint", ["commit.rollback=error@1;commit.rollback=error@3",
                                       "settle.sent=error@1;settle.sent=error@4",
                                       "claim.after=error@2", "settle.before=error@2"])
def test_lost_answers(db, daemon, wait_until, failpoint):
    """COMMIT answered with ROLLBACK, or not at all; lost between the statements."""
    bulk(db, "AD_", 300)
    d = daemon(AD, {"workers": {"batch": 30}}, failpoints=failpoint)
    wait_until(lambda: done(db) == 300, 20)
    wait_until(lambda: d.metrics()["strandd_in_flight" + LABELS] == 0, 10)
    once_each(db, 300)
    # what was in doubt is counted as settled, once
    assert d.metrics()["strandd_settled_total" + LABELS] == 300
    assert "put off" in d.log()


def test_a_commit_that_always_rolls_back_settles_nothing(db, daemon, wait_until):
    bulk(db, "AD_", 50)
    d = daemon(AD, failpoints="commit.rollback=error")
    d.wait_log("COMMIT was answered with ROLLBACK")
    wait_until(lambda: d.metrics()["strandd_rollbacks_total" + LABELS] > 3)
    assert d.metrics().get("strandd_settled_total" + LABELS, 0) == 0
    assert db.value("SELECT count(*) FROM dm_receipts") == 0


def test_backends_terminated_in_mid_batch(build, db, wait_until):
    p.prepare(db)
    crew = [p.Producer(db, "ad", "AD_s", p.single, 1000, 1, 0.003), p.Producer(db, "ad", "AD_b", p.bulk, 8000, 2, 0.1),
            p.Producer(db, "ex", "AD_b", p.bulk, 4000, 3, 0.1)]
    with private.Daemon(db, p.ROUTES, {"workers": {"threads": 3, "batch": 30}}) as d:
        for producer in crew:
            producer.start()
        killed = 0
        for _ in range(25):
            killed += terminate(db)
            time.sleep(0.06)
        sent = sum(producer.finish() for producer in crew)
        p.assert_exact(db, wait_until, sent)
        assert killed > 40
        assert d.metrics()["strandd_rollbacks_total" + LABELS] > 0, "no batch was hit"


def produce_through_crashes(c, name, stop, prefix):
    n = 0
    while not stop.is_set():
        try:
            conn = psycopg2.connect(c.dsn(name, "producer"))
            conn.autocommit = True
            with conn.cursor() as cur:
                while not stop.is_set():
                    n += 1
                    cur.execute("INSERT INTO AD_strands (id, symbol, sig_sigma, tags) SELECT %s || %s || '_' || i,"
                                " 'AD', i %% 3, %s FROM generate_series(1, 20) i", (prefix, n, f'["{TAG}"]'))
        except psycopg2.Error:
            time.sleep(0.05)


def test_server_crashes(build, wait_until):
    """The server is killed as by a power cut, fsync on, while strands flow."""
    with private.Cluster(fsync=True) as c:
        db = c.database()
        p.prepare(db)
        stop = threading.Event()
        threads = [threading.Thread(target=produce_through_crashes, args=(c, db.name, stop, f"AD_{n}_"), daemon=True)
                   for n in range(2)]
        with private.Daemon(db, p.ROUTES, {"workers": {"threads": 2, "batch": 20}}) as d:
            for t in threads:
                t.start()
            for _ in range(2):
                time.sleep(0.7)
                db.close()
                c.stop("immediate")
                time.sleep(0.3)
                c.start()
            time.sleep(0.5)
            stop.set()
            for t in threads:
                t.join(20)
            begun = time.monotonic()
            p.assert_exact(db, wait_until)
            n = db.value("SELECT count(*) FROM dm_receipts")
            print(f"{n} strands, settled {time.monotonic() - begun:.1f} s after the last crash")
            assert n > 500
            assert d.metrics()["strandd_reconnects_total"] >= 2
        db.drop()
