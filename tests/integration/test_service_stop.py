"""Signals: how strandd stops, and what becomes of what it was doing."""

import os
import signal
import time

import pytest

import cluster as private
import service

TAG = "dm:evaluate_plan"
SLOW = [(TAG, "AD_strands", "test.slow")]


def threads(pid):
    names = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm", encoding="utf-8") as f:
            names.append(f.read().strip())
    return names


def start_sleeper(db, daemon, seconds, count=1, **conf):
    """A daemon in the middle of one batch of `count` strands."""
    service.publish_many(db, "ad_strands", "AD_s", count, [TAG], timeframe=str(seconds))
    d = daemon(SLOW, conf={"workers": {"threads": 1}, **conf})
    wait_for_sleep(db)
    return d


def wait_for_sleep(db):
    private.wait_until(lambda: service.sleeping(db), what="a handler that sleeps")


def leave_quickly(d, number, within):
    since = time.monotonic()
    d.signal(number)
    assert d.wait(within + 10) == 0, d.log()
    took = time.monotonic() - since
    assert took < within, f"took {took:.1f} s\n{d.log()}"


def test_threads_have_names(daemon):
    d = daemon(conf={"workers": {"threads": 3}})
    private.wait_until(lambda: {"strandd", "listener", "scanner", "worker-0", "worker-1", "worker-2",
                                "stats"} <= set(threads(d.pid)), what=f"names, not {threads(d.pid)}")


@pytest.mark.sanitize
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_daemon_leaves_at_once(daemon, number):
    d = daemon()
    assert os.path.exists(d.stats_socket)
    leave_quickly(d, number, 2.0)
    assert not os.path.exists(d.stats_socket)
    assert "info main: stopped" in d.log().splitlines()[-1]


@pytest.mark.sanitize
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_finishes_what_runs_and_takes_nothing_new(db, daemon, number):
    d = start_sleeper(db, daemon, 0.4, count=4)
    before = len(service.states(db, "dm", TAG))
    assert before < 4
    d.signal(number)
    d.wait_log("finishing what runs")
    service.publish(db, "ad_strands", "AD_late", [TAG])
    assert d.wait() == 0
    after = service.states(db, "dm", TAG)
    assert len(after) > before and set(after.values()) == {"done"} and "AD_late" not in after
    assert "left to the server" not in d.log()
    daemon(SLOW)
    assert service.final(db, "dm", "AD_late", TAG)["state"] == "done"
    for i in range(1, 5):
        service.final(db, "dm", f"AD_s{i}", TAG)
    assert service.calls(db) == {"AD_s1": 1, "AD_s2": 1, "AD_s3": 1, "AD_s4": 1, "AD_late": 1}


@pytest.mark.sanitize
def test_second_signal_hurries(db, daemon):
    d = start_sleeper(db, daemon, 20, count=2)
    d.signal(signal.SIGTERM)
    d.wait_log("finishing what runs")
    leave_quickly(d, signal.SIGTERM, 2.0)
    assert "left to the server" in d.log()
    assert service.states(db, "dm", TAG) == {}
    # nothing lost, nothing doubled, and the server soon notices that we have gone
    db.execute("UPDATE ad_strands SET timeframe = '0'")
    daemon(SLOW)
    assert service.final(db, "dm", "AD_s1", TAG, timeout=20)["state"] == "done"
    assert service.final(db, "dm", "AD_s2", TAG, timeout=20)["state"] == "done"
    assert service.calls(db) == {"AD_s1": 1, "AD_s2": 1}


def test_stop_timeout_ends_the_wait(db, daemon):
    d = start_sleeper(db, daemon, 20, stop_timeout="500ms")
    since = time.monotonic()
    leave_quickly(d, signal.SIGTERM, 2.5)
    assert time.monotonic() - since >= 0.5
    assert "stop_timeout" in d.log()
    assert service.states(db, "dm", TAG) == {}
    db.execute("UPDATE ad_strands SET timeframe = '0'")
    daemon(SLOW)
    assert service.final(db, "dm", "AD_s1", TAG, timeout=20)["state"] == "done"
    assert service.calls(db) == {"AD_s1": 1}


def test_stop_timeout_of_nothing_leaves_no_handler_behind(db, daemon, wait_until):
    """The server must notice that the daemon has gone, and end the handler."""
    d = start_sleeper(db, daemon, 60, stop_timeout="0ms")
    leave_quickly(d, signal.SIGTERM, 2.0)
    wait_until(lambda: not service.sessions(db), timeout=10, what="no session of the daemon's")


def test_a_silent_server_does_not_hold_the_stop_up(daemon):
    """A handler is overdue, and the server does not take the connection that is to end
    it: for that the daemon waits two seconds, and not the time it has to connect."""
    with private.Cluster() as own:
        there = own.database()
        d = daemon(SLOW, db=there, conf={"workers": {"threads": 1, "handler_timeout": "1s"},
                                         "module_communication": {"database": {"connect_timeout": "60s"}}})
        service.publish(there, "ad_strands", "AD_1", [TAG], timeframe="60")
        wait_for_sleep(there)
        stopped = [row["pid"] for row in service.sessions(there) if row["wait_event"] == "PgSleep"]
        with open(os.path.join(own.data, "postmaster.pid"), encoding="ascii") as f:
            stopped.append(int(f.readline()))
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(3.5)  # the handler's second, and two for what comes after it
            d.signal(signal.SIGTERM)
            d.wait_log("finishing what runs")
            leave_quickly(d, signal.SIGTERM, 4.0)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        there.close()


def test_hangup_does_not_kill(db, daemon):
    d = daemon(SLOW)
    d.signal(signal.SIGHUP)
    d.wait_log("SIGHUP")
    service.publish(db, "ad_strands", "AD_1", [TAG])
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"
    assert d.process.poll() is None


def test_broken_pipe_does_not_kill(db, daemon):
    """A scraper that hangs up in the middle."""
    import socket
    d = daemon(SLOW)
    for _ in range(20):
        s = socket.socket(socket.AF_UNIX)
        s.connect(d.stats_socket)
        s.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        s.close()
    service.publish(db, "ad_strands", "AD_1", [TAG])
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"


@pytest.mark.sanitize
def test_stop_under_load_loses_and_doubles_nothing(db, daemon, wait_until):
    """Stopped four times, politely and not, while strands flow."""
    total = 2000
    service.publish_many(db, "ad_strands", "AD_", total, [TAG], timeframe="0.002")
    for rude in (False, True, False, True):
        d = daemon(SLOW, conf={"workers": {"batch": 20}})
        before = service.count_receipts(db, "dm", TAG)
        wait_until(lambda: service.count_receipts(db, "dm", TAG) > before, timeout=30)
        d.signal(signal.SIGTERM)
        if rude:
            d.signal(signal.SIGINT)
        assert d.wait() == 0, d.log()
    assert service.count_receipts(db, "dm", TAG) < total
    daemon(SLOW)
    wait_until(lambda: service.count_receipts(db, "dm", TAG) == total, timeout=60)
    assert set(service.states(db, "dm", TAG).values()) == {"done"}
    assert set(service.calls(db).values()) == {1} and len(service.calls(db)) == total
