"""The stats socket: answers under load, agrees with the database, is one daemon's."""

import json
import os
import socket
import threading
import time

import pytest

import cluster as private
import service

PLAN = "dm:evaluate_plan"
LABELS = '{tag="dm:evaluate_plan",source="AD_strands"}'


def counter(d, name):
    return d.metrics()[f"strandd_{name}_total{LABELS}"]


def settle_down(d, name, value):
    """Counters are written just after the commit that a test has seen."""
    private.wait_until(lambda: counter(d, name) == value, timeout=5, what=lambda: f"{name} {value}, not {counter(d, name)}")


class Scraper(threading.Thread):
    """Reads /metrics without a pause; counters must never fall."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.target = daemon
        self.scrapes = 0
        self.slowest = 0.0
        self.fault = None
        self.done = threading.Event()

    def run(self):
        last = {}
        try:
            while not self.done.is_set():
                since = time.monotonic()
                now = self.target.metrics()
                self.slowest = max(self.slowest, time.monotonic() - since)
                for key, value in now.items():
                    if "_total" in key and value < last.get(key, 0):
                        raise AssertionError(f"{key} fell from {last[key]} to {value}")
                last = now
                self.scrapes += 1
                time.sleep(0.01)
        except BaseException as fault:  # pylint: disable=broad-except
            self.fault = fault

    def finish(self):
        self.done.set()
        self.join()
        if self.fault:
            raise self.fault


@pytest.mark.sanitize
def test_counters_agree_with_the_database(db, daemon, wait_until):
    """Good and bad strands, all routes, read all the while."""
    service.function(db, """BEGIN
        IF (strand->>'kind') = 'bad' THEN RAISE 'bad'; END IF;
        RETURN NEXT '{"tags": ["alpha:decision_feedback"]}'::jsonb; RETURN NEXT '{"tags": ["no:body"]}'::jsonb; END""")
    d = daemon([(PLAN, "AD_strands", "test.h"), ("alpha:decision_feedback", "DM_strands", "test.nothing")])
    scraper = Scraper(d)
    scraper.start()
    for n in range(10):
        service.publish_many(db, "ad_strands", f"AD_{n}_", 95, [PLAN])
        service.publish_many(db, "ad_strands", f"AD_bad{n}_", 5, [PLAN], kind="bad")
    wait_until(lambda: service.count_receipts(db, "dm", PLAN) == 1000, timeout=60)
    wait_until(lambda: service.count_receipts(db, "ad", "alpha:decision_feedback") == 950, timeout=60)
    feedback = '{tag="alpha:decision_feedback",source="DM_strands"}'
    wait_until(lambda: d.metrics()["strandd_settled_total" + feedback] == 950, timeout=5)
    settle_down(d, "settled", 950)
    settle_down(d, "failed", 50)
    settle_down(d, "replies", 1900)
    settle_down(d, "unrouted_tags", 950)
    wait_until(lambda: d.metrics()["strandd_queue_depth" + LABELS] == 0)
    wait_until(lambda: d.metrics()["strandd_in_flight" + LABELS] == 0)
    scraper.finish()
    metrics = d.metrics()
    assert scraper.scrapes >= 5 and scraper.slowest < 5.0
    assert db.value("SELECT count(*) FROM dm_strands") == 1900
    assert metrics["strandd_failed_total" + feedback] == metrics["strandd_replies_total" + feedback] == 0
    assert metrics["strandd_forged_total" + LABELS] == 0
    assert 0 < metrics["strandd_notifications_total" + LABELS] <= 1000
    assert metrics["strandd_batches_total" + LABELS] >= 10
    assert metrics["strandd_rollbacks_total" + LABELS] >= 1


def test_scans_are_counted(db, daemon, wait_until):
    d = daemon([(PLAN, "AD_strands", "test.nothing")], conf={"scan": {"interval": "50ms"}})
    first = counter(d, "scan_passes")
    wait_until(lambda: counter(d, "scan_passes") >= first + 3)
    d.stop()
    service.publish_many(db, "ad_strands", "AD_", 10, [PLAN])
    d = daemon([(PLAN, "AD_strands", "test.nothing")], conf={"scan": {"interval": "50ms"}})
    wait_until(lambda: service.count_receipts(db, "dm", PLAN) == 10)
    assert counter(d, "scan_found") == 10 and counter(d, "scan_rows") >= 10


def test_forged_and_repeated_notifications_are_counted(db, daemon, wait_until):
    """Anyone may send one; nothing runs twice, nothing runs that is not there."""
    d = daemon([(PLAN, "AD_strands", "test.record")], conf={"scan": {"interval": "1min"}})
    # The scan at start could find AD_1 too: one duplicate more than we send.
    wait_until(lambda: counter(d, "scan_passes") == 1)
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    service.publish(db, "ad_strands", "AD_untagged", ["plain"])
    service.final(db, "dm", "AD_1", PLAN)
    producer = db.connect(private.PRODUCER)
    for i in range(20):
        db.execute("SELECT pg_notify('dm_evaluate_plan', %s)", (f"AD_forged{i}",), conn=producer)
    for payload in ("AD_untagged", "x" * 7999):
        db.execute("SELECT pg_notify('dm_evaluate_plan', %s)", (payload,), conn=producer)
    db.execute("NOTIFY dm_evaluate_plan", conn=producer)
    settle_down(d, "forged", 23)
    for _ in range(5):
        db.execute("SELECT pg_notify('dm_evaluate_plan', 'AD_1')", conn=producer)
    settle_down(d, "duplicates", 5)
    assert counter(d, "notifications") == 1 + 23 + 5
    assert counter(d, "settled") == 1
    assert service.calls(db) == {"AD_1": 1}


def test_overflow_is_counted_and_scanned(db, daemon, wait_until):
    """A queue of ten: what does not fit is found by a scan, at once."""
    db.execute("ALTER FUNCTION test.slow(jsonb) COST 1")
    d = daemon([(PLAN, "AD_strands", "test.slow")],
               conf={"queue": {"limit": 10}, "workers": {"threads": 1, "batch": 5}, "scan": {"interval": "1min"}})
    service.publish(db, "ad_strands", "AD_first", [PLAN], timeframe="0.5")
    wait_until(lambda: service.sleeping(db))
    service.publish_many(db, "ad_strands", "AD_", 200, [PLAN])
    wait_until(lambda: service.count_receipts(db, "dm", PLAN) == 201, timeout=30)
    assert counter(d, "overflows") > 0
    settle_down(d, "settled", 201)
    assert len(service.calls(db)) == 201 and set(service.calls(db).values()) == {1}


def test_depth_shows_what_waits(db, daemon, wait_until):
    d = daemon([(PLAN, "AD_strands", "test.slow")], conf={"workers": {"threads": 1, "batch": 1}})
    service.publish_many(db, "ad_strands", "AD_", 8, [PLAN], timeframe="0.2")
    wait_until(lambda: d.metrics()["strandd_in_flight" + LABELS] >= 6)
    metrics = d.metrics()
    assert metrics["strandd_in_flight" + LABELS] - 1 <= metrics["strandd_queue_depth" + LABELS] + 1
    wait_until(lambda: d.metrics()["strandd_in_flight" + LABELS] == 0)


# --- whose socket it is


def test_two_daemons_with_sockets_of_their_own(db, daemon, wait_until):
    """Both serve the same routes; between them every strand is settled once."""
    first = daemon([(PLAN, "AD_strands", "test.record")])
    second = daemon([(PLAN, "AD_strands", "test.record")])
    service.publish_many(db, "ad_strands", "AD_", 1000, [PLAN])
    wait_until(lambda: service.count_receipts(db, "dm", PLAN) == 1000, timeout=30)
    wait_until(lambda: counter(first, "settled") + counter(second, "settled") == 1000, timeout=5)
    assert set(service.calls(db).values()) == {1} and len(service.calls(db)) == 1000
    instances = {i: n for i, n in db.execute("SELECT instance, count(*) FROM dm_receipts GROUP BY 1")}
    assert sum(instances.values()) == 1000
    assert sorted(instances.values()) == sorted(n for n in (counter(first, "settled"), counter(second, "settled")) if n)


def test_second_daemon_on_the_same_socket_is_refused(db, daemon):
    first = daemon()
    log = service.refused(db, code=1, conf={"stats": {"socket": first.stats_socket}})
    assert first.stats_socket in log and "another process" in log
    assert first.metrics()  # and took nothing from the first
    assert os.path.exists(first.stats_socket)


def test_socket_left_by_a_crash_is_taken_over(db, daemon):
    first = daemon()
    first.kill()
    assert os.path.exists(first.stats_socket)
    second = daemon(conf={"stats": {"socket": first.stats_socket}})
    second.stats_socket = first.stats_socket
    assert second.metrics()


def test_file_in_the_socket_s_place_is_not_removed(db, tmp_path):
    path = tmp_path / "stats.sock"
    path.write_text("precious")
    log = service.refused(db, conf={"stats": {"socket": str(path)}})
    assert str(path) in log and "no socket" in log
    assert path.read_text() == "precious"


def test_socket_in_no_directory(db, tmp_path):
    log = service.refused(db, code=1, conf={"stats": {"socket": str(tmp_path / "no" / "stats.sock")}})
    assert str(tmp_path / "no") in log and "No such file" in log


def test_no_socket_is_fine(db, daemon):
    d = daemon()
    d.stop()
    del d.settings["stats"]
    d.start()
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    assert not os.path.exists(d.stats_socket)


@pytest.mark.sanitize
def test_slow_and_silent_readers_hold_nobody_up(db, daemon):
    """Sixteen clients that connect and say nothing, or half of it."""
    d = daemon()
    clients = []
    for i in range(16):
        s = socket.socket(socket.AF_UNIX)
        s.connect(d.stats_socket)
        if i % 2:
            s.send(b"GET /metr")
        clients.append(s)
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    since = time.monotonic()
    d.stop()
    assert time.monotonic() - since < 5
    for s in clients:
        s.close()


def test_metrics_hold_no_secret(db, daemon):
    d = daemon(conf={"module_communication": {"database": {"password": "s3cret-of-the-test"}}})
    assert "s3cret" not in json.dumps(d.metrics()) and "s3cret" not in d.log()
    with open(f"/proc/{d.pid}/cmdline", "rb") as f:
        assert b"s3cret" not in f.read()
