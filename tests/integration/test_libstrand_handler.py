"""Handlers on libstrand: under strandd, and alone on a pair of pipes."""

import json
import os
import select
import signal
import subprocess
import time

import pytest

import libstrand_support as lib
import process_support as p
import service


def serve(build, db, daemon, environment=(), process=None, **options):
    process = {"grace": "500ms", **(process or {})}
    if environment:
        process["environment"] = list(environment)
    return daemon([{"tag": p.PLAN, "source": "AD_strands", "command": lib.argv(build, "drive_handler"),
                    "backoff": p.QUICK, "suspend_after": 0, **options, "process": process}])


# --- under strandd

@pytest.mark.sanitize
def test_strands_and_replies(build, db, daemon, wait_until):
    """Each strand once, with its own reply; what printed among them spoils nothing."""
    service.publish_many(db, "ad_strands", "AD_", 500, [p.PLAN], symbol="SPX")
    service.publish_many(db, "ad_strands", "AD_p", 20, [p.PLAN], kind="print", symbol="SPX")
    d = serve(build, db, daemon, processes=2)
    p.all_done(db, 520, wait_until)
    assert len(p.replies(db)) == 520 and set(p.replies(db).values()) == {1}
    assert db.value("SELECT count(*) FROM dm_strands WHERE symbol = 'SPX' AND module = 'dm'") == 520
    assert db.value("SELECT max(attempt) FROM dm_receipts") == 1
    d.wait_log("a stray print of AD_p7")


def test_several_replies_and_none(build, db, daemon, wait_until):
    p.publish(db, "AD_0", "many", "0")
    p.publish(db, "AD_7", "many", "7")
    serve(build, db, daemon)
    p.all_done(db, 2, wait_until)
    assert p.replies(db) == {"AD_7": 7}
    assert db.value("SELECT array_agg(dm_alpha::int ORDER BY dm_alpha) FROM dm_strands") == list(range(7))


def test_a_program_that_prints(build, db, daemon, wait_until):
    """What the handler runs writes to the log, and cannot read strands away."""
    p.publish(db, "AD_1", "system")
    service.publish_many(db, "ad_strands", "AD_ok", 5, [p.PLAN])
    d = serve(build, db, daemon)
    p.all_done(db, 6, wait_until)
    d.wait_log("a stray echo")


def test_failures(build, db, daemon, wait_until):
    """Tried again, or for good; the batch mates go through."""
    p.publish(db, "AD_again", "fail", "grün \"quoted\"\n")
    p.publish(db, "AD_final", "final")
    p.publish(db, "AD_number", "number", "7")
    p.publish(db, "AD_bad", "bad")
    p.publish(db, "AD_json", "add", '{"symbol": ')
    service.publish_many(db, "ad_strands", "AD_ok", 20, [p.PLAN])
    serve(build, db, daemon, attempts=2)
    for strand, attempt, state, text in [
            ("AD_again", 2, "SRERR", "asked to fail: grün \"quoted\""), ("AD_final", 1, "SRFIN", "asked to fail for good"),
            ("AD_number", 2, "SRERR", "returned 7"), ("AD_bad", 2, "SRERR", "\"symbol\" is not UTF-8"),
            ("AD_json", 2, "SRERR", "reply 1 is not a JSON object")]:
        failed = p.in_state(db, strand, "failed", wait_until)
        assert (failed["attempt"], failed["sqlstate"]) == (attempt, state) and text in failed["error"], failed
    p.all_done(db, 20, wait_until)
    assert db.value("SELECT count(*) FROM dm_strands") == 20


def test_numbers_survive(build, db, daemon, wait_until):
    digits = "123456789012345678901234567890.123456789"
    p.publish(db, "AD_1", "add", '{"dm_decision":\n{"d":%s,"i":-9223372036854775808}}' % digits)
    serve(build, db, daemon)
    p.in_state(db, "AD_1", "done", wait_until)
    assert db.execute("SELECT dm_decision->>'d', dm_decision->>'i' FROM dm_strands") == [
        (digits, "-9223372036854775808")]


@pytest.mark.sanitize
def test_big_replies(build, db, daemon, wait_until):
    """More than a pipe holds at once, beside small ones."""
    for n in range(8):
        p.publish(db, f"AD_{n}", "big", str(300_000 + n))
    service.publish_many(db, "ad_strands", "AD_ok", 50, [p.PLAN])
    serve(build, db, daemon)
    p.all_done(db, 58, wait_until)
    assert sorted(n for n, in db.execute("SELECT length(symbol) FROM dm_strands WHERE length(symbol) > 1000")) == [
        300_000 + n for n in range(8)]


def test_big_strands(build, db, daemon, wait_until):
    db.execute("INSERT INTO ad_strands (id, tags, symbol) SELECT 'AD_' || i, %s, repeat('y', 400000)"
               " FROM generate_series(1, 5) i", (json.dumps([p.PLAN]),))
    serve(build, db, daemon)
    p.all_done(db, 5, wait_until)
    assert db.value("SELECT count(*) FROM dm_strands WHERE length(symbol) = 400000") == 5


def test_readiness(build, db, daemon, wait_until):
    p.publish(db, "AD_1")
    d = serve(build, db, daemon, ["READY=0.5"], {"ready": True})
    p.in_state(db, "AD_1", "done", wait_until)
    d.wait_log("a print before it is ready")


def test_drain(build, db, daemon, wait_until):
    """strandd stops: the strand in hand is finished."""
    d = serve(build, db, daemon, process={"in_flight": 1})
    p.publish(db, "AD_1", "sleep", "1")
    wait_until(lambda: p.receipt(db, "AD_1"))
    d.stop()
    assert p.receipt(db, "AD_1")["state"] == "done"


# --- alone

class Alone:
    """drive_handler on two pipes."""

    def __init__(self, build, prefix=(), **environment):
        self.process = subprocess.Popen([*prefix, *lib.argv(build, "drive_handler")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=dict(os.environ, **environment))
        self.read = b""

    def send(self, *strands, attempt=1):
        lines = [json.dumps({"v": 1, "tag": p.PLAN, "source": "ad_strands", "attempt": attempt, "deadline_ms": 1000,
                             "new": {"later": []}, "strand": strand}) + "\n" for strand in strands]
        self.raw("".join(lines))

    def raw(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def answer(self, timeout=10):
        while b"\n" not in self.read:
            ready, _, _ = select.select([self.process.stdout], [], [], timeout)
            more = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert more, f"no answer in {timeout} s: {self.read}"
            self.read += more
        line, self.read = self.read.split(b"\n", 1)
        return json.loads(line)

    def end(self, code=0):
        """What it wrote after the input was closed, and on standard error."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == code, (self.process.returncode, err)
        return [json.loads(line) for line in (self.read + out).splitlines()], err.decode()


def strand(n, **columns):
    return {"id": f"AD_{n}", "kind": None, **columns}


@pytest.fixture(name="alone")
def fixture_alone(build):
    started = []

    def start(**environment):
        started.append(Alone(build, **environment))
        return started[-1]

    yield start
    for a in started:
        if a.process.poll() is None:
            a.process.kill()
        a.process.communicate()


@pytest.mark.sanitize
def test_the_end_of_input(alone):
    """All that has arrived is handled, and it leaves with 0."""
    a = alone()
    a.send(*[strand(n, symbol="x\ny\u20ac") for n in range(1000)], attempt=3)
    answers, said = a.end()
    assert [x["id"] for x in answers] == [f"AD_{n}" for n in range(1000)] and not said
    assert answers[0] == {"id": "AD_0", "attempt": 3,
                          "replies": [{"kind": "reply", "symbol": "x\ny\u20ac", "dm_alpha": 0}]}


def test_an_answer_does_not_wait_for_the_next_strand(alone):
    a = alone()
    a.send(strand(1))
    assert a.answer(2)["id"] == "AD_1"


def test_an_answer_waits_at_most_for_one_strand(alone):
    """A batch is answered when no more is at hand: in few writes."""
    a = alone()
    a.send(strand(1), strand(2, kind="sleep", timeframe="0.3"), strand(3))
    assert [a.answer()["id"] for _ in range(3)] == ["AD_1", "AD_2", "AD_3"]


def test_flushed_answers_outlive_the_process(alone):
    """strand_replies_flush: with the strand that kills it goes no other's answer."""
    a = alone()
    a.send(strand(1), strand(2), strand(3, kind="flush"), strand(4))
    answers, _ = a.end(code=-signal.SIGKILL)
    assert [x["id"] for x in answers] == ["AD_1", "AD_2"]


def test_what_cannot_be_undone_is_not_done_again(alone):
    """A strand that called strand_replies_flush, and returned: its own answer is not at
    stake while the next one is handled, whatever that does before it calls it, too."""
    a = alone()
    a.send(strand(1), strand(2, kind="act"), strand(3, kind="kill"))
    answers, _ = a.end(code=-signal.SIGKILL)
    assert [x["id"] for x in answers] == ["AD_1", "AD_2"]


def test_sigterm_while_it_waits(alone):
    a = alone()
    a.send(strand(1))
    assert a.answer()["id"] == "AD_1"
    a.process.send_signal(signal.SIGTERM)
    assert a.end() == ([], "")


def test_sigterm_in_a_strand(alone):
    """That one is finished and answered, the next one is not begun."""
    a = alone()
    a.send(strand(1, kind="print"), strand(2, kind="sleep", timeframe="1"), strand(3))
    time.sleep(0.4)
    a.process.send_signal(signal.SIGTERM)
    answers, _ = a.end()
    assert [x["id"] for x in answers] == ["AD_1", "AD_2"]


def test_a_column_that_is_not_there(alone):
    """As a row's JSON it is null, as a reply it fails the strand."""
    a = alone()
    a.send(strand(1, kind="null"))
    answers, said = a.end()
    assert "reply 2 is NULL" in answers[0]["error"] and not said, answers


def test_sigterm_in_a_line(alone):
    """The input has not ended: nothing is said of it."""
    a = alone()
    a.send(strand(1))
    a.raw('{"v": 1')
    assert a.answer()["id"] == "AD_1"
    a.process.send_signal(signal.SIGTERM)
    assert a.process.wait(20) == 0
    assert a.end() == ([], "")


def test_lines_in_pieces(alone):
    a = alone()
    line = json.dumps({"v": 1, "tag": "a:b", "strand": strand(1, symbol="z" * 200_000)}) + "\n"
    for start in range(0, len(line), 30_000):
        a.raw(line[start:start + 30_000])
        time.sleep(0.01)
    assert len(a.answer()["replies"][0]["symbol"]) == 200_000
    a.raw("\n  \n" + line[:100])
    answers, said = a.end()
    assert not answers and "ended within a line" in said


@pytest.mark.parametrize("line, text", [
    ("nonsense", "no JSON object"), ("{}", "without a version"), ('{"v":2,"tag":"a:b","strand":{"id":"1"}}', "version"),
    ('{"v":1,"strand":{"id":"1"}}', "without a tag"), ('{"v":1,"tag":"a:b"}', "without a strand"),
    ('{"v":1,"tag":"a:b","strand":{"id":7}}', "a member that is not"), ('{"v":1,"tag":7,"strand":{"id":"1"}}', "member"),
    ('{"v":1,"tag":"a:b","strand":{"id":"1"}', "no JSON object"),
])
def test_what_is_no_request(alone, line, text):
    """It answers what came before, says why, and leaves."""
    a = alone()
    a.send(strand(1))
    a.raw(line + "\n")
    answers, said = a.end(code=1)
    assert [x["id"] for x in answers] == ["AD_1"] and text in said, said


def test_nobody_reads(alone):
    """strandd is gone: no SIGPIPE, but the end."""
    a = alone()
    a.process.stdout.close()
    a.send(*[strand(n) for n in range(3)])
    assert a.process.wait(20) == 1
    assert "nobody reads the answers" in a.process.stderr.read().decode()
    a.process.stdout = None


def test_more_than_a_pipe_holds(alone):
    """Requests and answers of megabytes at the same time: neither side waits for ever."""
    a = alone()
    a.send(*[strand(n, kind="big", timeframe="50000") for n in range(100)])
    answers, _ = a.end()
    assert len(answers) == 100 and all(len(x["replies"][0]["symbol"]) == 50_000 for x in answers)
