"""The log: its forms, repetitions, what holds it up, and the state that SIGUSR1 asks for."""

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

import cluster as private
import service

TAG = "dm:evaluate_plan"
FAILS = "BEGIN RAISE EXCEPTION 'no such instrument'; END"
EVIL = "AD_\n\x1b[2Jerror main: forged\r\x9b1m\u202e"
RFC3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


def route(handler="test.h", **options):
    return [{"tag": TAG, "source": "AD_strands", "handler": handler, "attempts": 1, "suspend_after": 0,
             **options}]


@pytest.fixture
def failing(db):
    service.function(db, FAILS)


@contextlib.contextmanager
def on(db, stderr, *args, conf=None, routes=None, prefix=(), env=None, expect=0):
    """A daemon whose standard error is the descriptor given."""
    d = private.Daemon(db, routes=routes or route(), conf=conf, env=env)
    try:
        d.write_config()
        # pylint: disable=consider-using-with
        d.process = subprocess.Popen([*prefix, *private.program("strandd"), "--config", d.config, *args], env=d.env,
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
        yield d
        if d.process:
            d.stop(expect)
    finally:
        d.remove()


@contextlib.contextmanager
def pipe(size=None):
    """(reading end, writing end); both are closed at the end unless they are by then."""
    ends = os.pipe()
    try:
        if size:
            fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, size)
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


def settled(db, count, state="failed", timeout=60):
    def all_there():
        return list(service.states(db, "dm", TAG).values()).count(state) >= count
    private.wait_until(all_there, timeout, interval=0.1, what=lambda: service.states(db, "dm", TAG))


def flood(db, d):
    """More lines than the log keeps for a reader: the state again and again."""
    service.publish(db, "ad_strands", "AD_flood", [TAG])
    settled(db, 1)  # it serves
    for _ in range(400):
        d.signal(signal.SIGUSR1)
        time.sleep(0.004)


def read_until(fd, wanted, timeout=20.0):
    """What comes from fd until it holds `wanted`."""
    end, text = time.monotonic() + timeout, b""
    while wanted not in text:
        assert time.monotonic() < end, text[-2000:]
        if select.select([fd], [], [], 0.1)[0]:
            text += os.read(fd, 65536)
    return text


# --- forms


@pytest.mark.sanitize
def test_json_lines(db, daemon, failing):
    d = daemon(route(), conf={"log": {"format": "json"}})
    service.publish(db, "ad_strands", "AD_1", [TAG])
    service.publish(db, "ad_strands", EVIL, [TAG])
    settled(db, 2)
    d.signal(signal.SIGUSR1)
    d.wait_log("end of the state")
    d.stop()
    lines = d.log().splitlines()
    records = [json.loads(line) for line in lines]
    for line, record in zip(lines, records):
        assert all(" " <= letter <= "~" or letter > "\u00a0" for letter in line), line
        assert RFC3339.match(record["ts"]), record
        assert {"level", "thread", "message"} <= set(record), record
    times = [record["ts"] for record in records]
    assert times[0][:13] <= times[-1][:13] and len(set(times)) > 1
    bad = {r["strand"]: r for r in records if r["level"] in ("warning", "error") and "strand" in r}
    assert set(bad) == {"AD_1", EVIL}, records
    assert (bad["AD_1"]["route"], bad["AD_1"]["sqlstate"]) == (TAG, "P0001")
    assert bad["AD_1"]["thread"].startswith("worker-")
    assert "no such instrument" in bad["AD_1"]["message"]
    assert {r.get("instance") for r in records if "serving" in r["message"]} == {1}


def test_json_of_a_refusal(db):
    """A start that ends at once is written in the form that was asked for, too."""
    with pipe() as (reader, writer):
        with on(db, writer, routes=route("test.missing"), conf={"log": {"format": "json"}}) as d:
            assert d.wait(20) == 2
            d.process = None
            os.close(writer)
            records = [json.loads(line) for line in read_until(reader, b"stopped").splitlines()]
    assert [r["level"] for r in records][:2] == ["error", "error"]
    assert records[0]["route"] == TAG


def test_format_of_the_command_line(db, failing):
    with pipe() as (reader, writer):
        with on(db, writer, "--log-format=json", conf={"log": {"format": "text"}}):
            text = read_until(reader, b"serving")
    assert json.loads(text.splitlines()[-1])["level"] == "info"


def test_format_that_is_none():
    done = service.run("--log-format=xml", "--config", "/nonexistent")
    assert done.returncode == 2
    assert "xml" in done.stderr and "json" in done.stderr


def test_text_has_fields(db, daemon, failing):
    d = daemon(route())
    service.publish(db, "ad_strands", "AD_1", [TAG])
    settled(db, 1)
    d.wait_log("no such instrument")
    line = next(line for line in d.log().splitlines() if "no such instrument" in line and "strand=" in line)
    assert re.match(r"(warning|error) worker-\d: ", line), line
    assert f" route={TAG} " in line and " strand=AD_1 " in line and " sqlstate=P0001 " in line, line
    assert line.endswith(" instance=1"), line


def test_nobody_forges_a_line(db, daemon):
    """Through an id, or through the text of a handler's error."""
    service.function(db, "BEGIN RAISE EXCEPTION E'bad\\nerror main: forged\\x1b[2J %', strand->>'id'; END")
    d = daemon(route())
    service.publish(db, "ad_strands", EVIL, [TAG])
    settled(db, 1)
    d.wait_log("\\u001b[2J")
    text = d.log()
    assert "\x1b" not in text and "\x9b" not in text and "\u202e" not in text
    for line in text.splitlines():
        assert re.match(r"^(error|warning|info|debug) (main|loader|worker-\d|scanner|marker|listener|log): ", line), line
        assert not line.startswith("error main"), line


@pytest.mark.parametrize("level, seen", [("error", {"error"}), ("warning", {"error"}), ("info", {"error", "info"})])
def test_level(db, failing, level, seen):
    with pipe() as (reader, writer):
        with on(db, writer, conf={"log": {"level": level}}):
            service.publish(db, "ad_strands", "AD_1", [TAG])
            settled(db, 1)
        os.close(writer)
        text = os.read(reader, 65536).decode()
        assert {line.split(" ")[0] for line in text.splitlines()} == seen
        assert os.read(reader, 65536) == b""


# --- the journal


class Journal:
    """A socket in the place of the journal's, in a mount namespace of the daemon's own."""

    def __init__(self, directory):
        self.directory = directory
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(os.path.join(directory, "socket"))
        os.chmod(os.path.join(directory, "socket"), 0o666)
        self.records = []
        self.thread = threading.Thread(target=self.read, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def read(self):
        while True:
            data = self.socket.recv(1 << 20)
            if data == b"end":
                return
            self.records.append(self.parse(data))

    def stop(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.connect(os.path.join(self.directory, "socket"))
            s.send(b"end")
        self.thread.join()
        self.socket.close()

    @staticmethod
    def parse(data):
        """The journal's native protocol."""
        fields = {}
        while data:
            line, _, rest = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                size = struct.unpack("<Q", rest[:8])[0]
                value, rest = rest[8:8 + size], rest[8 + size + 1:]
            fields[name.decode()] = value.decode()
            data = rest
        return fields


def namespace(directory=None):
    """argv before the daemon's: with `directory` as the journal's, or without any."""
    script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal"
    if directory:
        script += f" && mount --bind {directory} /run/systemd/journal"
    argv = ["unshare", "--mount", "sh", "-c", script + ' && exec "$@"', "sh"]
    if subprocess.run([*argv, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespaces here: only root may make them")
    return argv


def journal_stream(fd):
    status = os.fstat(fd)
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


@pytest.mark.parametrize("chosen", ["auto", "journal"])
def test_journal_gets_fields(db, failing, tmp_path, chosen):
    prefix = namespace(tmp_path)
    journal = Journal(str(tmp_path)).start()
    with pipe() as (reader, writer):
        env = journal_stream(writer) if chosen == "auto" else None
        with on(db, writer, conf={"log": {"format": chosen}}, prefix=prefix, env=env):
            service.publish(db, "ad_strands", EVIL, [TAG])
            settled(db, 1)
        os.close(writer)
        assert os.read(reader, 1000) == b""  # nothing twice
    journal.stop()
    by_level = {r["PRIORITY"]: r for r in journal.records}
    assert set(by_level) >= {"3", "6"}
    failed = by_level["3"]
    assert failed["STRANDD_ROUTE"] == TAG and failed["STRANDD_STRAND"] == EVIL and failed["STRANDD_SQLSTATE"] == "P0001"
    assert failed["STRANDD_INSTANCE"] == "1" and failed["STRANDD_THREAD"].startswith("worker-")
    assert failed["SYSLOG_IDENTIFIER"] == "strandd"
    assert "no such instrument" in failed["MESSAGE"]


def test_journal_does_not_answer(db, failing):
    prefix = namespace()
    with pipe() as (reader, writer):
        with on(db, writer, prefix=prefix, env=journal_stream(writer)):
            text = read_until(reader, b"serving")
    assert b"<6>info main: serving" in text


@pytest.mark.sanitize
def test_journal_takes_nothing(db, failing, tmp_path):
    """Alive, and does not read: the daemon goes on, and ends when it is told to."""
    prefix = namespace(tmp_path)
    journal = Journal(str(tmp_path))
    with on(db, subprocess.DEVNULL, conf={"log": {"format": "journal"}}, prefix=prefix) as d:
        flood(db, d)
        service.publish_many(db, "ad_strands", "AD_later_", 20, [TAG])
        settled(db, 21)
        since = time.monotonic()
        d.stop()
        assert time.monotonic() - since < 8
    journal.socket.close()


# --- repetitions


def test_failures_of_one_kind_are_folded(db, daemon, failing):
    d = daemon(route(), conf={"log": {"level": "info"}})
    service.publish_many(db, "ad_strands", "AD_", 1000, [TAG])
    settled(db, 1000)
    d.stop()
    lines = d.log().splitlines()
    assert len(lines) < 25, lines
    written = [line for line in lines if " worker-" in line and "no such instrument" in line and " strand=" in line]
    assert len(written) == 10
    told = next(line for line in lines if "more like this in the last" in line)
    assert re.match(rf"error log: 990 more like this in the last \d+ s: .*no such instrument route={TAG} .*more=990", told)


def test_another_kind_is_not_folded_with_it(db, daemon):
    service.function(db, """BEGIN
        IF strand->>'id' = 'AD_500' THEN RAISE division_by_zero; END IF;
        RAISE EXCEPTION 'no such instrument'; END""")
    d = daemon(route(), conf={"log": {"level": "info"}})
    service.publish_many(db, "ad_strands", "AD_", 500, [TAG])
    settled(db, 500)
    d.stop()
    assert d.log().count("strand=AD_500 ") == 1


def test_an_outage_is_told_once(db, cluster, daemon):
    """Eight workers, a scanner and a listener; each reason is one line, its end another."""
    service.function(db, "BEGIN PERFORM pg_sleep(0.01); END")
    d = daemon(route(), conf={"workers": {"threads": 8, "batch": 1}, "log": {"level": "info"}})
    try:
        service.publish_many(db, "ad_strands", "AD_", 400, [TAG])
        settled(db, 20, "done")  # all workers have connected
        db.close()
        before = len(d.log().splitlines())
        cluster.stop("fast")
        time.sleep(4)
    finally:
        if not cluster.running:
            cluster.start()
    settled(db, 400, "done")
    lines = d.log().splitlines()[before:]
    assert len(lines) < 25, "\n".join(lines)
    refused = [line for line in lines if "No such file" in line or "refused" in line]
    # Two reasons, while the socket is there and when it is not; and a thread that met
    # one just before another thread had it over tells it anew.
    assert 1 <= len(refused) <= 5, "\n".join(lines)
    assert 1 <= sum("connected again" in line for line in lines) <= 3, "\n".join(lines)


# --- what holds the log up


@pytest.mark.sanitize
def test_a_reader_who_stalls(db, failing):
    with pipe(4096) as (reader, writer):
        with on(db, writer) as d:
            os.close(writer)
            flood(db, d)
            service.publish_many(db, "ad_strands", "AD_later_", 20, [TAG])
            settled(db, 21)  # nobody has read a line so far
            text = read_until(reader, b"lines of the log were dropped")
            d.signal(signal.SIGUSR1)
            text += read_until(reader, b"end of the state")
    assert int(re.search(rb"\nwarning log: (\d+) lines of the log were dropped", text)[1]) > 0
    assert b"\n\n" not in text


def test_a_reader_who_stalls_until_the_end(db, failing):
    with pipe(4096) as (_, writer):
        with on(db, writer) as d:
            flood(db, d)
            since = time.monotonic()
            d.stop()
            assert time.monotonic() - since < 8


@pytest.mark.sanitize
def test_a_reader_who_leaves(db, failing):
    with pipe() as (reader, writer):
        with on(db, writer):
            read_until(reader, b"serving")
            os.close(reader)
            service.publish_many(db, "ad_strands", "AD_", 100, [TAG])
            settled(db, 100)


def test_a_full_disk(db, failing):
    with open("/dev/full", "wb") as full, on(db, full):
        service.publish_many(db, "ad_strands", "AD_", 100, [TAG])
        settled(db, 100)


# --- the state


@pytest.mark.sanitize
def test_state_of_threads_connections_and_routes(db, daemon, held):
    service.publish_many(db, "ad_strands", "AD_", 3, [TAG], kind="held")
    d = daemon([{"tag": TAG, "source": "AD_strands", "handler": "test.held"}])

    def ask():
        """The lines of the answer, and the connections that it tells of: {pid: (thread, what)}."""
        before = len(d.log())
        d.signal(signal.SIGUSR1)
        private.wait_until(lambda: "end of the state" in d.log()[before:])
        lines = [line for line in d.log()[before:].splitlines() if line.startswith("info main: ")]
        return lines, {int(m[2]): (m[1], m[3]) for line in lines
                       if (m := re.match(r"info main: connection of (\S+): server process (\d+), (.*?) for ", line))}

    def at_rest():
        """All are in handlers, and no session is only about to end or to begin."""
        lines, found = ask()
        return " in flight 3, " in "".join(lines) and held.pids() and set(found) == {row["pid"] for row in service.sessions(db)}

    private.wait_until(at_rest, interval=0.1, what=lambda: (ask(), service.sessions(db)))
    lines, found = ask()
    threads = {m[1]: m[2] for line in lines if (m := re.match(r"info main: thread (\S+) \(\d+\): (.*)", line))}
    assert set(threads) >= {"main", "listener", "scanner", "worker-0", "worker-1"}
    assert any(re.match(rf"handling, [123] strands, for \d+\.\d+ s route={TAG} ", what) for what in threads.values()), threads
    assert threads["listener"].startswith("listening, for") and threads["stats"].startswith("serving, for")
    assert {found[pid] for pid in held.pids()} <= {("worker-0", "awaiting the server"), ("worker-1", "awaiting the server")}
    assert ("listener", "listening") in found.values()
    lanes = next(line for line in lines if "lanes:" in line)
    # the third waits in its lane where each worker has taken one
    assert re.search(r"0 high, [01] normal; in flight 3, workers [12], put off 0", lanes) and f"route={TAG} source=AD_strands " in lanes, lanes
    held.release()
    settled(db, 3, "done")
    private.wait_until(lambda: re.search(r"thread worker-[01] \(\d+\): idle, for \d", "\n".join(ask()[0])))
    # asked as often as one likes, and always answered in full
    asked = d.log().count("state, as SIGUSR1")
    for _ in range(30):
        before = d.log().count("end of the state")
        d.signal(signal.SIGUSR1)
        private.wait_until(lambda n=before: d.log().count("end of the state") > n)
    assert d.log().count("info main: thread worker-0 ") == asked + 30


def test_state_while_it_waits_for_the_server(db, cluster, daemon):
    db.close()
    cluster.stop()
    try:
        d = daemon(route("test.nothing"), ready=False)
        d.wait_log("waiting for it")
        d.signal(signal.SIGUSR1)
        d.wait_log("end of the state")
        assert re.search(r"info main: thread main \(\d+\): \S", d.log())
    finally:
        cluster.start()
    d.wait_ready()
