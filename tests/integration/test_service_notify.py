"""What the service manager is told, and when its watchdog would bark."""

import os
import re
import signal
import socket
import time

import pytest

import cluster as private
import manager as managers
import reloading
import service
from test_service_stop import wait_for_sleep

PLAN = ("dm:evaluate_plan", "AD_strands")
TAG = PLAN[0]
RECORD = [(*PLAN, "test.record")]
SLOW = [(*PLAN, "test.slow")]
GRACE = 5.0  # for what is broken off after stop_timeout
LATE = 2.0   # how long a busy machine may leave a process alone
HUNG = "has not been heard of"


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A manager with a watchdog of six seconds: time enough for all that is healthy."""
    managers.watched(monkeypatch)
    m = managers.Manager(tmp_path, watchdog_ms=6000)
    yield m
    m.close()


@pytest.fixture
def impatient(tmp_path, monkeypatch):
    """A manager with a watchdog of two seconds, for what is not healthy."""
    managers.watched(monkeypatch)
    m = managers.Manager(tmp_path, watchdog_ms=2000)
    yield m
    m.close()


def healthy(m, d, seconds, since=None):
    """Never silent for as long as the watchdog waits, and no thread for three quarters
    of it.  Less than that shows nothing."""
    since = since or time.monotonic()
    assert seconds > m.watchdog
    time.sleep(max(0.0, since + seconds - time.monotonic()))
    silence = m.longest_silence(since, time.monotonic())
    assert silence < m.watchdog, f"silent for {silence:.2f} s"
    assert HUNG not in d.log(), d.log()


def silent(m, d, thread):
    """It is found out that a thread hangs, and from then on there is no sign of life for
    as long as the watchdog waits: systemd restarts."""
    private.wait_until(lambda: re.search(rf"error main: thread {thread}\S* {HUNG}", d.log()), what=d.log)
    since = time.monotonic()
    time.sleep(m.watchdog + 0.5)
    late = [at - since for at, _ in m.values("WATCHDOG", since)]
    assert not late, f"signs of life {late} s after it was told that a thread hangs\n{d.log()}"


# --- states


@pytest.mark.sanitize
def test_ready_means_that_nothing_is_missed(db, daemon, manager):
    d = daemon(RECORD, env=manager.env)
    at = manager.wait("READY", "1")
    assert "listening on" in d.log()
    private.wait_until(lambda: manager.status() == "serving 1 route with 2 workers", what=manager.status)
    service.publish(db, "ad_strands", "AD_1", [TAG])
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"
    assert not [said for when, said in manager.said if when < at and "STOPPING" in said]


def test_not_ready_while_it_cannot_listen(db, daemon, manager, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    d = daemon(RECORD, ready=False, env=manager.env, failpoints=f"loader.run=hold:{hold}")
    manager.wait("STATUS", "starting")
    time.sleep(0.5)
    assert not manager.values("READY")
    hold.unlink()
    manager.wait("READY", "1")
    d.wait_ready()


@pytest.mark.sanitize
def test_reload_is_told(db, daemon, manager):
    d = daemon(RECORD, env=manager.env)
    manager.wait("READY", "1")
    before = time.monotonic()
    reloading.hang_up(d, workers={"threads": 3})
    at = manager.wait("RELOADING", "1", since=before)
    usec = int(manager.values("MONOTONIC_USEC", since=before)[0][1])
    assert before <= usec / 1e6 <= at
    assert manager.wait("STATUS", "reloading", since=before) < manager.wait("READY", "1", since=at)
    manager.wait("STATUS", "serving 1 route with 3 workers", since=at)


def test_refused_reload_is_over_too(db, daemon, manager):
    d = daemon(RECORD, env=manager.env)
    manager.wait("READY", "1")
    before = time.monotonic()
    reloading.hang_up(d, expect=reloading.REFUSED, text="nonsense\n")
    at = manager.wait("RELOADING", "1", since=before)
    manager.wait("READY", "1", since=at)
    manager.wait("STATUS", "serving 1 route with 2 workers", since=at)
    service.publish(db, "ad_strands", "AD_1", [TAG])
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"


def always_in_time(asked, until):
    """Each asks before the one before is over, the last for more than was needed."""
    ends = [at + int(usec) / 1e6 for at, usec in asked]
    for end, (at, _) in zip(ends, asked[1:]):
        assert at < end, asked
    assert max(ends) > until, asked


@pytest.mark.sanitize
def test_stop_asks_for_no_more_time_than_stop_timeout_and_a_grace(db, daemon, manager):
    limit = 5.0
    d = daemon(SLOW, env=manager.env, conf={"workers": {"threads": 2, "batch": 1}, "stop_timeout": f"{int(limit)}s"})
    for i in range(2):
        service.publish(db, "ad_strands", f"AD_{i}", [TAG], timeframe="3")
    private.wait_until(lambda: service.sleeping(db) == 2)
    since = time.monotonic()
    d.signal(signal.SIGTERM)
    stopping = manager.wait("STOPPING", "1")
    manager.wait("STATUS", "stopping: waiting for 2 batches")
    assert d.wait() == 0
    asked = manager.values("EXTEND_TIMEOUT_USEC", since)
    assert asked
    for at, usec in asked:
        assert at + int(usec) / 1e6 <= stopping + limit + GRACE + LATE, asked
    always_in_time(asked, since + 3)
    assert manager.longest_silence(since, asked[-1][0]) < manager.watchdog
    assert set(service.states(db, "dm", TAG).values()) == {"done"}


def test_stop_waits_for_what_runs(db, daemon, manager):
    """And not for workers that have nothing to do."""
    d = daemon(SLOW, env=manager.env, conf={"workers": {"threads": 32}})
    service.publish(db, "ad_strands", "AD_1", [TAG], timeframe="2")
    wait_for_sleep(db)
    since = time.monotonic()
    d.signal(signal.SIGTERM)
    assert d.wait() == 0
    told = [text for _, text in manager.values("STATUS", since)]
    assert told[0] == "stopping: waiting for 1 batch" and set(told[1:]) <= {"stopping"}, told


@pytest.mark.sanitize
def test_stop_that_runs_into_its_timeout_asks_for_the_grace(db, daemon, manager):
    """What is broken off takes a moment too, in which the manager must not kill."""
    limit = 3.0
    d = daemon(SLOW, env=manager.env, conf={"stop_timeout": f"{int(limit)}s"})
    service.publish(db, "ad_strands", "AD_1", [TAG], timeframe="30")
    wait_for_sleep(db)
    since = time.monotonic()
    d.signal(signal.SIGTERM)
    stopping = manager.wait("STOPPING", "1")
    assert d.wait() == 0
    asked = manager.values("EXTEND_TIMEOUT_USEC", since)
    always_in_time(asked, since + limit + 1)
    assert max(at + int(usec) / 1e6 for at, usec in asked) <= stopping + limit + GRACE + LATE


def test_stop_with_no_time_asks_for_the_grace_only(db, daemon, manager):
    d = daemon(SLOW, env=manager.env, conf={"stop_timeout": "0s"})
    service.publish(db, "ad_strands", "AD_1", [TAG], timeframe="30")
    wait_for_sleep(db)
    since = time.monotonic()
    for _ in range(3):
        d.signal(signal.SIGTERM)
    assert d.wait() == 0
    assert manager.values("STOPPING")
    assert [int(usec) / 1e6 for _, usec in manager.values("EXTEND_TIMEOUT_USEC", since)] == [GRACE]


def test_another_process_is_watched(db, daemon, tmp_path):
    """WATCHDOG_PID names another one, such as the shell that started us."""
    m = managers.Manager(tmp_path, watchdog_ms=2000)
    try:
        d = daemon(RECORD, env={**m.env, "WATCHDOG_PID": str(os.getpid())})
        m.wait("READY", "1")
        time.sleep(1.5)
        assert not m.values("WATCHDOG")
        d.stop()
        assert m.values("STOPPING")
    finally:
        m.close()


# --- healthy


LONG = [22, pytest.param(600, marks=pytest.mark.long)]


@pytest.mark.parametrize("seconds", LONG)
def test_no_server_at_start(db, daemon, manager, seconds):
    d = daemon(RECORD, ready=False, env=manager.env,
               conf={"module_communication": {"database": {"host": "/no/such/directory"}}})
    manager.wait("WATCHDOG", "1")
    since = time.monotonic()
    manager.wait("STATUS", "waiting for the server: no connection to server \"/no/such/directory\"")
    healthy(manager, d, seconds, since)
    assert not manager.values("READY")
    # systemd's time for a start must not run out
    asked = manager.values("EXTEND_TIMEOUT_USEC")
    for (at, usec), (later, _) in zip(asked, asked[1:]):
        assert later < at + int(usec) / 1e6
    assert asked[-1][0] + int(asked[-1][1]) / 1e6 > time.monotonic()
    d.signal(signal.SIGTERM)
    assert d.wait() == 0


@pytest.mark.parametrize("seconds", LONG)
def test_server_goes_away(db, daemon, manager, seconds):
    with private.Cluster() as own:
        there = own.database()
        d = daemon(RECORD, db=there, env=manager.env)
        manager.wait("READY", "1")
        there.close()
        since = time.monotonic()
        own.stop()
        manager.wait("STATUS", "waiting for the server: ", since=since)
        healthy(manager, d, seconds, since)
        own.start()
        back = time.monotonic()
        manager.wait("STATUS", "serving 1 route with 2 workers", since=back)
        service.publish(there, "ad_strands", "AD_1", [TAG])
        assert service.final(there, "dm", "AD_1", TAG)["state"] == "done"
        healthy(manager, d, seconds + 1, since)
        d.stop()


@pytest.mark.sanitize
def test_silent_server(db, daemon, manager):
    """It takes the connection and says nothing."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(64)
        d = daemon(RECORD, ready=False, env=manager.env,
                   conf={"module_communication": {"database": {"host": "127.0.0.1", "port": s.getsockname()[1],
                                                               "connect_timeout": "60s"}}})
        manager.wait("WATCHDOG", "1")
        healthy(manager, d, 8)
        d.signal(signal.SIGTERM)
        assert d.wait() == 0


@pytest.mark.sanitize
@pytest.mark.parametrize("seconds", [8, pytest.param(600, marks=pytest.mark.long)])
def test_idle(db, daemon, manager, seconds):
    d = daemon(RECORD, env=manager.env, conf={"scan": {"interval": "1h"}})
    manager.wait("READY", "1")
    healthy(manager, d, seconds)


@pytest.mark.parametrize("seconds", [10, pytest.param(600, marks=pytest.mark.long)])
def test_long_handler(db, daemon, manager, seconds):
    d = daemon(SLOW, env=manager.env, conf={"workers": {"threads": 1, "handler_timeout": "1h"}})
    manager.wait("READY", "1")
    service.publish(db, "ad_strands", "AD_1", [TAG], timeframe=str(seconds))
    wait_for_sleep(db)
    healthy(manager, d, seconds)
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"


def test_slow_name_server(db, daemon, manager):
    """The resolver blocks a thread, and is allowed to for some minutes."""
    d = daemon(RECORD, env=manager.env, failpoints="connect.resolve=sleep:8000@1", ready=False)
    manager.wait("WATCHDOG", "1")
    healthy(manager, d, 7.5)
    assert not manager.values("READY")
    manager.wait("READY", "1")


# --- not healthy


@pytest.mark.sanitize
@pytest.mark.parametrize("name, thread", [
    ("worker.take", "worker-"), ("scan.page", "scanner"), ("listener.notified", "listener")])
def test_hung_thread(db, daemon, impatient, tmp_path, name, thread):
    """It hangs outside of any wait; when it is back, all is well again."""
    hold = tmp_path / "hold"
    d = daemon(RECORD, env=impatient.env, failpoints=f"{name}=hold:{hold}")
    impatient.wait("READY", "1")
    impatient.wait("WATCHDOG", "1", since=time.monotonic())
    hold.touch()
    service.publish(db, "ad_strands", "AD_1", [TAG])
    silent(impatient, d, thread)
    hold.unlink()
    impatient.wait("WATCHDOG", "1", since=time.monotonic())
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"
    d.wait_log("every thread is heard of again")


@pytest.mark.sanitize
def test_hung_old_generation(db, daemon, impatient, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    d = daemon(RECORD, env=impatient.env, failpoints=f"claim.after=hold:{hold}@1")
    impatient.wait("READY", "1")
    service.publish(db, "ad_strands", "AD_1", [TAG])
    reloading.hang_up(d, workers={"threads": 3})
    # the new generation serves, and yet a restart is due
    service.publish(db, "ad_strands", "AD_2", [TAG])
    assert service.final(db, "dm", "AD_2", TAG)["state"] == "done"
    silent(impatient, d, "worker-")
    hold.unlink()
    impatient.wait("WATCHDOG", "1", since=time.monotonic())
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"
    private.wait_until(lambda: reloading.generations(d) == 1)


def test_hung_resolver_is_no_hung_thread_yet(db, daemon, manager):
    """Longer than the watchdog waits, and yet within its five minutes."""
    d = daemon(RECORD, ready=False, env=manager.env, failpoints="connect.resolve=sleep:1000000")
    manager.wait("WATCHDOG", "1")
    healthy(manager, d, 8)
    assert not manager.values("READY")
    d.kill()
