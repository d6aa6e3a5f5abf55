"""The stats socket of a running strandd: /metrics over HTTP on a Unix socket."""

import os
import re
import signal
import socket
import stat
import time

import pytest

import cluster as private

SAMPLE = re.compile(r'(?P<name>[a-z_][a-z0-9_]*)'
                    r'(?:\{(?P<labels>[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*)\})?'
                    r' (?P<value>[+-]?(?:[0-9.]+(?:e[+-]?[0-9]+)?|Inf)|NaN)')


def request(path, text, timeout=10):
    """Sends bytes, and returns all that comes back until the end."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(timeout)
        s.connect(path)
        s.sendall(text.encode())
        answer = b""
        while more := s.recv(65536):
            answer += more
    return answer.decode()


def get(path, target="/metrics", method="GET"):
    head, _, body = request(path, f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").partition("\r\n\r\n")
    status, *headers = head.split("\r\n")
    return int(status.split()[1]), {k.lower(): v for k, v in (h.split(": ", 1) for h in headers)}, body


def sample(name, tag="dm:evaluate_plan", source="AD_strands"):
    return f'strandd_{name}{{tag="{tag}",source="{source}"}}'


def publish(db, ids, tags='["dm:evaluate_plan"]'):
    with db.conn.cursor() as cur:
        for strand in ids:
            cur.execute("INSERT INTO AD_strands (id, kind, trading_plan, tags) VALUES (%s, 'signal', '{}', %s)",
                        (strand, tags))


def wait_for(daemon, wait_until, name, value, **labels):
    wait_until(lambda: daemon.metrics().get(sample(name, **labels), -1) >= value, 15,
               what=f"{name} at {value}; now {daemon.metrics()}; the log: {daemon.log()}")


@pytest.mark.sanitize
def test_every_line_is_exposition_format(daemon, db, wait_until):
    d = daemon()
    publish(db, ["AD_1"])
    wait_for(d, wait_until, "settled_total", 1)
    status, headers, body = get(d.stats_socket)
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert int(headers["content-length"]) == len(body.encode())
    assert body.endswith("\n")
    kinds, seen = {}, set()
    for line in body.splitlines():
        if found := re.fullmatch(r"# HELP (strandd_[a-z0-9_]+) (.+)", line):
            assert found[1] not in kinds
            kinds[found[1]] = None
        elif found := re.fullmatch(r"# TYPE (strandd_[a-z0-9_]+) (counter|gauge)", line):
            assert kinds[found[1]] is None, "TYPE follows its HELP"
            assert (found[2] == "counter") == found[1].endswith("_total")
            kinds[found[1]] = found[2]
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            assert list(kinds)[-1] == found["name"], "samples follow their TYPE"
            assert (found["name"], found["labels"]) not in seen
            seen.add((found["name"], found["labels"]))
    # one sample a route of each metric, but those of the whole service
    for tag, source, _ in private.ROUTES:
        assert sample("settled_total", tag, source) in body
        assert sample("queue_depth", tag, source) in body
    assert re.search(r"^strandd_reconnects_total [0-9]+$", body, re.M)


def wait_listening(daemon, db, wait_until):
    """Until notifications are heard and all are dealt with; returns the counters then."""
    def knock():
        db.execute("SELECT pg_notify('dm_evaluate_plan', 'nobody')")
        return daemon.metrics()[sample("notifications_total")]

    def quiet():
        before = daemon.metrics()
        time.sleep(0.5)
        after = daemon.metrics()
        return after if before == after and not after[sample("in_flight")] else None
    wait_until(knock, interval=0.2)
    return wait_until(quiet)


@pytest.mark.sanitize
def test_counts_what_happened(daemon, db, wait_until):
    d = daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.evaluate_plan")],
               conf={"scan": {"interval": "1min"}})
    before = wait_listening(d, db, wait_until)
    publish(db, [f"AD_{n}" for n in range(50)])
    wait_for(d, wait_until, "settled_total", 50)
    m = d.metrics()
    assert m[sample("settled_total")] == 50
    assert m[sample("replies_total")] == 50
    assert m[sample("notifications_total")] == before[sample("notifications_total")] + 50
    assert m[sample("failed_total")] == 0
    assert 1 <= m[sample("batches_total")] <= 50
    assert m[sample("scan_passes_total")] >= 1
    wait_until(lambda: d.metrics()[sample("in_flight")] == 0)
    assert d.metrics()[sample("queue_depth")] == 0


def test_counts_forged_notifications(daemon, db, wait_until):
    d = daemon(conf={"scan": {"interval": "1min"}})
    publish(db, ["AD_untagged"], tags='["something:else"]')
    before = wait_listening(d, db, wait_until)[sample("forged_total")]
    for payload in ("AD_unknown", "AD_untagged", "", "x" * 7999):
        db.execute("SELECT pg_notify('dm_evaluate_plan', %s)", (payload,))
    wait_for(d, wait_until, "forged_total", before + 4)
    m = d.metrics()
    assert m[sample("forged_total")] == before + 4
    assert m[sample("settled_total")] == 0
    assert db.value("SELECT count(*) FROM dm_receipts") == 0


def test_counts_duplicates_and_failures(daemon, db, wait_until):
    d = daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.fail_some")],
               conf={"scan": {"interval": "1min"}})
    wait_listening(d, db, wait_until)
    publish(db, ["AD_good"])
    db.execute("INSERT INTO AD_strands (id, kind, tags) VALUES ('AD_bad', 'fail', '[\"dm:evaluate_plan\"]')")
    wait_for(d, wait_until, "failed_total", 1)
    wait_for(d, wait_until, "settled_total", 1)
    for _ in range(3):
        db.execute("SELECT pg_notify('dm_evaluate_plan', 'AD_good')")
        wait_until(lambda: d.metrics()[sample("in_flight")] == 0)
    wait_for(d, wait_until, "duplicates_total", 3)
    m = d.metrics()
    assert (m[sample("settled_total")], m[sample("failed_total")]) == (1, 1)
    assert m[sample("rollbacks_total")] >= 1


def test_counts_unrouted_tags(daemon, db, wait_until):
    d = daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.scripted")])
    db.execute("INSERT INTO AD_strands (id, regime, tags) VALUES ('AD_1', %s, '[\"dm:evaluate_plan\"]')",
               ('[{"tags": ["trader:exceute_plan", "alpha:decision_feedback", "priority:high"]}]',))
    wait_for(d, wait_until, "settled_total", 1)
    assert d.metrics()[sample("unrouted_tags_total")] == 1


def test_refuses_everything_but_reading_metrics(daemon):
    d = daemon()
    assert get(d.stats_socket, "/")[0] == 404
    assert get(d.stats_socket, "/stats")[0] == 404
    status, headers, body = get(d.stats_socket, method="HEAD")
    assert (status, body) == (200, "") and int(headers["content-length"]) > 1000
    for method in ("POST", "PUT", "DELETE"):
        status, headers, _ = get(d.stats_socket, method=method)
        assert status == 405 and headers["allow"] == "GET, HEAD"


def test_socket_file(daemon, db):
    d = daemon()
    assert get(d.stats_socket)[0] == 200
    assert stat.S_IMODE(os.stat(d.stats_socket).st_mode) == 0o660
    names = [open(f"/proc/{d.pid}/task/{t}/comm", encoding="utf-8").read().strip()
             for t in os.listdir(f"/proc/{d.pid}/task")]
    assert "stats" in names

    # a second daemon on a live socket is refused, and leaves it alone
    other = private.Daemon(db, conf={"stats": {"socket": d.stats_socket}})
    try:
        other.start(ready=False)
        assert other.wait(20) != 0
        assert "another process answers on it" in other.log()
    finally:
        other.remove()
    assert get(d.stats_socket)[0] == 200

    # one that a killed daemon left is replaced
    d.signal(signal.SIGKILL)
    d.process.wait()
    assert os.path.exists(d.stats_socket)
    d.start()
    assert get(d.stats_socket)[0] == 200
    d.stop()
    assert not os.path.exists(d.stats_socket)


def test_path_too_long_is_told_with_exit_2(build, db):
    path = "/tmp/" + "x" * 103
    d = private.Daemon(db, conf={"stats": {"socket": path}})
    try:
        d.start(ready=False)
        assert d.wait(20) == 2
        assert "at most 107" in d.log()
    finally:
        d.remove()


def test_slow_clients_hold_nothing(daemon, db, wait_until):
    d = daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.nothing")])
    held = []
    for _ in range(25):      # more than are served at once, fewer than fill the backlog too
        s = socket.socket(socket.AF_UNIX)
        s.connect(d.stats_socket)
        s.send(b"GET /metr")
        held.append(s)
    publish(db, ["AD_1"])
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts") == 1)
    # silent ones are cut off after some seconds, and the waiting have their turn
    assert request(d.stats_socket, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 25).startswith("HTTP/1.1 200 ")
    for s in held:
        s.close()
    wait_for(d, wait_until, "settled_total", 1)
