"""Which strand goes first, and on which worker: high lanes, reserved workers, the
share of normal work, caps and batches of routes."""

import json
import threading
import time

import pytest

import service

PLAN = "dm:evaluate_plan"
EXECUTE = "trader:execute_plan"
HIGH = "priority:high"
SLOW = (PLAN, "AD_strands", "test.slow")
HELD = (PLAN, "AD_strands", "test.held")
QUICK = (EXECUTE, "DM_strands", "test.record")


def taking_nothing(tmp_path):
    """A failpoint that keeps the workers from taking anything; unlink to let them."""
    hold = tmp_path / "hold"
    hold.touch()
    return hold, f"worker.take=hold:{hold}"


def in_queue(d):
    return sum(v for k, v in d.metrics().items() if k.startswith("strandd_queue_depth"))


def order(db, *prefixes):
    """Ids in the order in which their batches were finished, over these receipts."""
    union = " UNION ALL ".join(f"SELECT strand_id, finished_at FROM {p}_receipts" for p in prefixes)
    return [i for i, in db.execute(f"SELECT strand_id FROM ({union}) r ORDER BY finished_at, strand_id")]


def batches(db, prefix):
    """[(ids)] of each transaction that wrote receipts, in their order."""
    return [ids for ids, in db.execute(f"SELECT array_agg(strand_id) FROM {prefix}_receipts GROUP BY xmin::text"
                                       " ORDER BY min(finished_at)")]


# --- high lanes first


def test_high_strands_of_all_routes_go_first(db, daemon, wait_until, tmp_path):
    hold, failpoint = taking_nothing(tmp_path)
    d = daemon([(PLAN, "AD_strands", "test.record"), QUICK], {"workers": {"threads": 1, "batch": 5}},
               failpoints=failpoint)
    d.wait_log("listening")
    service.publish_many(db, "ad_strands", "AD_n", 20, [PLAN])
    service.publish_many(db, "dm_strands", "DM_n", 20, [EXECUTE])
    service.publish_many(db, "dm_strands", "DM_h", 20, [EXECUTE, HIGH])
    service.publish_many(db, "ad_strands", "AD_h", 20, [PLAN, HIGH])
    wait_until(lambda: in_queue(d) == 80)
    hold.unlink()
    wait_until(lambda: len(order(db, "dm", "tr")) == 80)
    kinds = [i[3] for i in order(db, "dm", "tr")]
    assert kinds == ["h"] * 40 + ["n"] * 40


def test_a_full_queue_does_not_keep_a_high_strand_out(db, daemon, held, wait_until):
    """The backlog has taken all that the queue may hold, and the high strand comes
    before any of it is done."""
    d = daemon([HELD], {"workers": {"threads": 2, "reserved_for_high": 1, "batch": 1}, "queue": {"limit": 50},
                        "scan": {"interval": "1h"}})
    d.wait_log("listening")
    service.publish_many(db, "ad_strands", "AD_", 200, [PLAN], kind="held")
    wait_until(lambda: held.count() == 1 and in_queue(d) == 49)
    service.publish(db, "ad_strands", "AD_high", [PLAN, HIGH])
    service.final(db, "dm", "AD_high", PLAN)
    assert service.count_receipts(db, "dm", PLAN) == 1 == held.count()


@pytest.mark.sanitize
@pytest.mark.parametrize("before", [True, False])
def test_a_long_pass_does_not_keep_a_high_strand_out(db, daemon, wait_until, before):
    """Nothing but scans tells of it, and the pass over the backlog, the first one or a
    later one, takes as long as the backlog."""
    without = {"module_communication": {"notifications": {"enabled": False}}}
    if before:
        service.publish_many(db, "ad_strands", "AD_", 3000, [PLAN], timeframe="0.05")
    d = daemon([SLOW], {**without, "workers": {"threads": 2, "reserved_for_high": 1, "batch": 1}, "queue": {"limit": 100},
                        "scan": {"interval": "200ms", "page": 50}})
    if not before:
        wait_until(lambda: any(v for k, v in d.metrics().items() if k.startswith("strandd_scan_passes_total")))
        service.publish_many(db, "ad_strands", "AD_", 3000, [PLAN], timeframe="0.05")
    for n in range(3):
        wait_until(lambda n=n: service.count_receipts(db, "dm", PLAN) > 5 * n)
        service.publish(db, "ad_strands", f"AD_high{n}", [PLAN, HIGH])
        service.final(db, "dm", f"AD_high{n}", PLAN, timeout=5)
    assert service.count_receipts(db, "dm", PLAN) < 1000


# --- reserved workers


@pytest.mark.sanitize
def test_a_reserved_worker_is_there_while_the_pool_is_busy(db, daemon, held, wait_until):
    daemon([HELD, QUICK], {"workers": {"threads": 2, "reserved_for_high": 1, "batch": 1}})
    service.publish_many(db, "ad_strands", "AD_", 2, [PLAN], kind="held")
    wait_until(lambda: held.count() == 1)
    time.sleep(0.2)
    assert held.count() == 1, "the reserved worker took a normal strand"
    service.publish(db, "dm_strands", "DM_normal", [EXECUTE])
    service.publish(db, "dm_strands", "DM_high", [EXECUTE, HIGH])
    service.final(db, "tr", "DM_high", EXECUTE)
    assert service.receipt(db, "tr", "DM_normal", EXECUTE) is None and held.count() == 1
    held.release()
    service.final(db, "tr", "DM_normal", EXECUTE)


def test_all_workers_take_high_strands(db, daemon, held, wait_until):
    """The reserved one is not the only one: two have a high strand at the same time."""
    daemon([HELD], {"workers": {"threads": 2, "reserved_for_high": 1, "batch": 1}})
    service.publish_many(db, "ad_strands", "AD_", 2, [PLAN, HIGH], kind="held")
    wait_until(lambda: held.count() == 2)


def test_the_session_of_a_reserved_worker_is_ready(db, daemon, wait_until):
    """Before its first strand, beside those of the listener, the scanner and the marker;
    other workers have none by then."""
    def there_are(n):
        """Others, that have ended, may linger."""
        wait_until(lambda: [row["state"] for row in service.sessions(db)] == ["idle"] * n, what=lambda: service.sessions(db))
    d = daemon([SLOW, QUICK], {"workers": {"threads": 2}})
    there_are(3)
    time.sleep(0.5)
    there_are(3)
    d.stop()
    daemon([SLOW, QUICK], {"workers": {"threads": 2, "reserved_for_high": 1}})
    there_are(4)
    service.publish(db, "dm_strands", "DM_high", [EXECUTE, HIGH])
    service.final(db, "tr", "DM_high", EXECUTE)     # by either worker: both may take it
    assert db.value("SELECT finished_at - started_at < '1s' FROM tr_receipts")


def test_somebody_is_left_for_normal_strands(db, build):
    log = service.refused(db, conf={"workers": {"threads": 2, "reserved_for_high": 2}})
    assert "reserved_for_high" in log and "normal" in log


# --- ageing


def endless(db, prefix, stop, at_least):
    """Keeps that many unread high strands there until it is told to stop."""
    conn = db.connect()
    number = 0
    while not stop.is_set():
        waiting = db.value("SELECT count(*) FROM ad_strands s WHERE s.tags @> %s AND NOT EXISTS"
                           " (SELECT FROM dm_receipts r WHERE r.strand_id = s.id)", (json.dumps([HIGH]),), conn=conn)
        if waiting < at_least:
            db.execute("INSERT INTO ad_strands (id, tags) SELECT %s || i, %s FROM generate_series(%s, %s) i",
                       (prefix, json.dumps([PLAN, HIGH]), number, number + at_least - 1), conn=conn)
            number += at_least
    conn.close()


@pytest.mark.parametrize("workers", [{"threads": 1}, {"threads": 3, "reserved_for_high": 1}])
def test_normal_strands_keep_their_share(db, daemon, wait_until, workers):
    """High strands without end: one batch of four is normal's, of those that workers
    take who may take both."""
    daemon([(PLAN, "AD_strands", "test.slow"), QUICK],
           {"workers": {**workers, "batch": 2, "normal_share_every": 3}})
    stop = threading.Event()
    load = threading.Thread(target=endless, args=(db, "AD_h", stop, 300))
    load.start()
    try:
        wait_until(lambda: service.count_receipts(db, "dm", PLAN) > 20)
        service.publish_many(db, "dm_strands", "DM_n", 60, [EXECUTE])
        wait_until(lambda: service.count_receipts(db, "tr", EXECUTE) == 60, timeout=30)
        first, last = db.execute("SELECT min(started_at), max(finished_at) FROM tr_receipts")[0]
        high = db.value("SELECT count(DISTINCT xmin::text) FROM dm_receipts WHERE started_at > %s AND finished_at < %s",
                        (first, last))
    finally:
        stop.set()
        load.join()
    normal = len(batches(db, "tr"))
    assert normal >= 30
    if "reserved_for_high" not in workers:
        # all of them are one worker's: exactly three between two of ours
        assert abs(high - 3 * (normal - 1)) <= 3, (normal, high)
    else:
        # the third one's are high on top, as many as it gets done
        assert high >= 3 * (normal - 2), (normal, high)


# --- caps and turns


def time_of(db, tag, prefix, n, wait_until):
    """Seconds that n strands of the quick route take."""
    service.publish_many(db, "dm_strands", f"DM_{prefix}", n, [tag])
    wait_until(lambda: db.value("SELECT count(*) FROM tr_receipts WHERE strand_id LIKE %s", (f"DM_{prefix}%",)) == n, 60)
    return db.value("SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8 FROM tr_receipts"
                    " WHERE strand_id LIKE %s", (f"DM_{prefix}%",))


def test_a_capped_route_leaves_the_pool_to_others(db, daemon, held, wait_until, capsys):
    """A handler that does not end, and a backlog, on one worker of three."""
    d = daemon([{"tag": PLAN, "source": "AD_strands", "handler": "test.held", "max_workers": 1, "batch": 1}, QUICK],
               {"workers": {"threads": 3, "batch": 20}})
    d.wait_log("listening")
    time_of(db, EXECUTE, "warm", 500, wait_until)
    alone = time_of(db, EXECUTE, "alone", 4000, wait_until)
    service.publish_many(db, "ad_strands", "AD_", 100, [PLAN], kind="held")
    wait_until(lambda: held.count() == 1)
    beside = time_of(db, EXECUTE, "beside", 4000, wait_until)
    assert held.count() == 1 and service.count_receipts(db, "dm", PLAN) == 0
    with capsys.disabled():
        print(f"\n  4,000 strands beside a slow route that may use 1 worker of 3: {4000 / beside:,.0f} a second,"
              f" {4000 / alone:,.0f} without it")


def test_without_a_cap_the_slow_route_has_the_pool(db, daemon, held, wait_until):
    """What the cap is for."""
    daemon([HELD, QUICK], {"workers": {"threads": 2, "batch": 1}})
    service.publish_many(db, "ad_strands", "AD_", 6, [PLAN], kind="held")
    wait_until(lambda: held.count() == 2)
    service.publish(db, "dm_strands", "DM_1", [EXECUTE])
    time.sleep(0.2)
    assert service.receipt(db, "tr", "DM_1", EXECUTE) is None
    held.release()
    service.final(db, "tr", "DM_1", EXECUTE)


def test_routes_take_turns(db, daemon, wait_until, tmp_path):
    """A route with ten times the work of another one has no more batches meanwhile."""
    hold, failpoint = taking_nothing(tmp_path)
    d = daemon([(PLAN, "AD_strands", "test.record"), QUICK], {"workers": {"threads": 1, "batch": 10}},
               failpoints=failpoint)
    d.wait_log("listening")
    service.publish_many(db, "ad_strands", "AD_", 1000, [PLAN])
    service.publish_many(db, "dm_strands", "DM_", 100, [EXECUTE])
    wait_until(lambda: in_queue(d) == 1100)
    hold.unlink()
    wait_until(lambda: len(order(db, "dm", "tr")) == 1100, 20)
    last = max(n for n, i in enumerate(order(db, "dm", "tr")) if i.startswith("DM_"))
    assert 190 <= last < 220, last


def test_a_route_has_its_own_batch(db, daemon, wait_until, tmp_path):
    """A smaller one than workers.batch, and a larger one."""
    hold, failpoint = taking_nothing(tmp_path)
    d = daemon([{"tag": PLAN, "source": "AD_strands", "handler": "test.record", "batch": 3},
                {"tag": EXECUTE, "source": "DM_strands", "handler": "test.record", "batch": 200}],
               {"workers": {"threads": 1, "batch": 50}}, failpoints=failpoint)
    d.wait_log("listening")
    service.publish_many(db, "ad_strands", "AD_", 30, [PLAN])
    service.publish_many(db, "dm_strands", "DM_", 400, [EXECUTE])
    wait_until(lambda: in_queue(d) == 430)
    hold.unlink()
    wait_until(lambda: len(order(db, "dm", "tr")) == 430, 20)
    assert [len(b) for b in batches(db, "dm")] == [3] * 10
    assert [len(b) for b in batches(db, "tr")] == [200] * 2


def test_a_slow_route_does_not_fill_the_queue_for_others(db, daemon, held, wait_until):
    """Its backlog is larger than the whole queue, and none of it is done meanwhile."""
    d = daemon([{"tag": PLAN, "source": "AD_strands", "handler": "test.held", "max_workers": 1, "batch": 1}, QUICK],
               {"workers": {"threads": 2}, "queue": {"limit": 200}, "scan": {"interval": "1h"}})
    d.wait_log("listening")
    service.publish_many(db, "ad_strands", "AD_", 2000, [PLAN], kind="held")
    wait_until(lambda: held.count() == 1 and in_queue(d) > 90)
    service.publish_many(db, "dm_strands", "DM_", 100, [EXECUTE])
    wait_until(lambda: service.count_receipts(db, "tr", EXECUTE) == 100)
    assert service.count_receipts(db, "dm", PLAN) == 0 and held.count() == 1
