"""examples/python/strand_handler.py by pipes alone: no daemon, no database."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import cluster as private

pytestmark = pytest.mark.timeout(60)
HANDLER = private.REPO / "tests" / "integration" / "helper_handler.py"
HELPER = private.REPO / "examples" / "python"
ROW = '{"v":1,"tag":"dm:evaluate_plan","source":"ad_strands","attempt":%d,"deadline_ms":30000,"strand":{"id":%s,"kind":%s,"arg":%s}}\n'


def request(strand_id, kind, arg="null", attempt=1):
    """arg is JSON text."""
    return ROW % (attempt, json.dumps(strand_id), json.dumps(kind), arg)


class Handler:
    def __init__(self, tmp_path):
        self.started = tmp_path / "started"
        self.log = tmp_path / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-B", HANDLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                env={**os.environ, "PYTHONPATH": str(HELPER), "PYTHONUNBUFFERED": "", "STARTED": str(self.started)})

    def write(self, text):
        self.process.stdin.write(text if isinstance(text, bytes) else text.encode())
        self.process.stdin.flush()

    def line(self):
        return self.process.stdout.readline().decode()

    def ask(self, kind, arg="null"):
        """The answer's text to one strand."""
        self.write(request("AD_1", kind, arg))
        return self.line()

    def end(self):
        """(what else it wrote, its exit status, its log)"""
        self.process.stdin.close()
        rest = self.process.stdout.read().decode()
        return rest, self.process.wait(20), self.log.read_text()


def test_the_readmes_handler(tmp_path):
    """The block of README.md, as it stands there."""
    text = (private.REPO / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^(    import strand_handler\n.*?^    strand_handler\.run\(.*?\n)", text, re.M | re.S).group(1)
    program = tmp_path / "evaluate.py"
    program.write_text(re.sub("^    ", "", block, flags=re.M), encoding="utf-8")
    strands = [{"id": "AD_1", "symbol": "SPX", "trading_plan": {}}, {"id": "AD_2", "symbol": "SPX", "trading_plan": {"a": 1}}]
    lines = "".join(json.dumps({"tag": "a:b", "attempt": 1, "strand": strand}) + "\n" for strand in strands)
    done = subprocess.run([sys.executable, program], input=lines, env={**os.environ, "PYTHONPATH": str(HELPER)},
                          text=True, capture_output=True, check=True)
    ready, refused, replied = map(json.loads, done.stdout.splitlines())
    assert ready == {"ready": True} and (refused["error"], refused["retry"]) == ("no plan", False)
    assert replied["replies"] == [{"kind": "decision", "symbol": "SPX", "tags": ["alpha:decision_feedback"]}]


@pytest.fixture
def handler(tmp_path):
    h = Handler(tmp_path)
    assert json.loads(h.line()) == {"ready": True}
    yield h
    h.process.kill()
    h.process.wait()
    h.process.stdout.close()


def error(handler, kind, arg="null"):
    answer = json.loads(handler.ask(kind, arg))
    assert set(answer) - {"retry"} == {"id", "attempt", "error"} and answer["id"] == "AD_1"
    return answer


@pytest.mark.parametrize("kind, arg, replies", [
    ("none", "null", []), ("echo", '{"a":[1]}', [{"got": {"a": [1]}}]), ("list", "2", [{"n": 0}, {"n": 1}]),
    ("generator", "3", [{"n": 0}, {"n": 1}, {"n": 2}]), ("list", "0", []),
])
def test_what_a_handler_may_return(handler, kind, arg, replies):
    assert json.loads(handler.ask(kind, arg)) == {"id": "AD_1", "attempt": 1, "replies": replies}


def test_id_and_attempt_come_back(handler):
    handler.write(request('Ä"\\', "request", attempt=7))
    assert json.loads(handler.line()) == {"id": 'Ä"\\', "attempt": 7,
                                          "replies": [{"tag": "dm:evaluate_plan", "attempt": 7}]}


def test_stray_output_is_the_logs(handler):
    """print, descriptor 1, and what was printed before run."""
    assert json.loads(handler.ask("print", '"stray print"'))["replies"] == []
    # at once, not when a buffer is full
    assert "stray print\n" in handler.log.read_text() and "before run\n" in handler.log.read_text()
    assert json.loads(handler.ask("write", '"stray write\\n"'))["replies"] == []
    assert "stray write\n" in handler.log.read_text()
    rest, status, log = handler.end()
    assert (rest, status) == ("", 0) and "after run\n" in log


def test_a_program_that_is_started_reads_no_request(handler):
    handler.write(request("AD_1", "child") + request("AD_2", "none"))
    assert json.loads(handler.line())["replies"] == [{"read": ""}]
    assert json.loads(handler.line())["id"] == "AD_2"


@pytest.mark.parametrize("number", [
    "9223372036854775807", "-9223372036854775808", "1" * 300, "1" * 5000, "-" + "9" * 5000,
    "123456789012345678901234567890.1234567890123456789", "0.10", "12.30", "0.1" + "0" * 40 + "1"], ids=lambda text: text[:20])
def test_numbers_survive(handler, number):
    assert f'"got":{number}}}' in handler.ask("echo", number)


@pytest.mark.parametrize("number", ["1e400", "1E-400", "-0.0", "2.5e+3", "1e2"])
def test_the_value_of_a_number_survives(handler, number):
    got = re.search(r'"got":([^}]*)}', handler.ask("echo", number)).group(1)
    assert json.loads(got, parse_float=handler_decimal) == handler_decimal(number)


def handler_decimal(text):
    from decimal import Decimal     # pylint: disable=import-outside-toplevel
    return Decimal(text)


@pytest.mark.parametrize("arg, kind", [("1", "int"), ("1.5", "Decimal"), ("1e3", "Decimal"), ("true", "bool"),
                                       ("9223372036854775808", "int"), ("1" * 5000, "Decimal")], ids=lambda text: text[:20])
def test_what_numbers_are(handler, arg, kind):
    assert json.loads(handler.ask("type", arg))["replies"] == [{"type": kind}]


def test_values(handler):
    assert json.loads(handler.ask("values"))["replies"] == [
        {"v": [True, False, None, 1, -0.5, 1e300, [], {}, 'Ä"\\\n']}]


@pytest.mark.parametrize("kind, arg, text", [
    ("decimal", '"NaN"', "ValueError: NaN is no number in JSON"),
    ("decimal", '"-Infinity"', "ValueError: -Infinity is no number in JSON"),
    ("decimal", '"sNaN"', "ValueError: sNaN is no number in JSON"),
    ("float", '"nan"', "ValueError: nan is no number in JSON"),
    ("float", '"inf"', "ValueError: inf is no number in JSON"),
    ("surrogate", "null", "surrogates not allowed"),
    ("odd", "null", "Odd is not JSON serializable"),
    ("odd key", "null", "TypeError: a key of an object is a str, not int"),
    ("raw", '"text"', "TypeError: the handler returned str, not replies"),
    ("raw", "7", "TypeError"),
    ("raw", "[7]", "TypeError: a reply is a dict, not int"),
    ("raise", '"no price"', "LookupError: no price"),
    ("half", "null", "ValueError: after the first"),
    ("loop", "null", "RecursionError"),
    ("broken", "null", "Broken"),
    ("surrogate error", "null", "ValueError: ?"),
    ("nonsense", "null", "KeyError: 'nonsense'"),
])
def test_what_fails_a_strand(handler, kind, arg, text):
    """With the type and the text, and a traceback in the log; the next one is unharmed."""
    answer = error(handler, kind, arg)
    assert text in answer["error"] and "retry" not in answer
    assert "Traceback" in handler.log.read_text() and "helper_handler.py" in handler.log.read_text() or kind in (
        "surrogate", "raw", "odd", "odd key", "decimal", "float", "loop")
    assert json.loads(handler.ask("none"))["replies"] == []


def test_a_long_error_is_cut(handler):
    assert 9000 < len(error(handler, "raise", json.dumps("x" * 100000))["error"]) <= 10000


@pytest.mark.parametrize("arg, text", [('"no such account"', "no such account"), ('""', "refused")])
def test_refused_is_for_good(handler, arg, text):
    answer = error(handler, "refuse", arg)
    assert (answer["error"], answer["retry"]) == (text, False)
    assert "Traceback" not in handler.log.read_text()


def test_a_thousand_in_one_write(handler):
    handler.write("".join(request(f"AD_{n}", "echo", str(n)) for n in range(1000)))
    for n in range(1000):
        assert json.loads(handler.line()) == {"id": f"AD_{n}", "attempt": 1, "replies": [{"got": n}]}
    assert handler.end()[:2] == ("", 0)


def test_a_request_in_pieces(handler):
    text = request("AD_1", "echo", json.dumps("Ä" * 300000, ensure_ascii=False)).encode()
    for start in range(0, len(text), 65521):
        handler.write(text[start:start + 65521])
        time.sleep(0.002)
    assert json.loads(handler.line())["replies"] == [{"got": "Ä" * 300000}]


def test_answers_do_not_wait_for_slow_ones(handler):
    """The first one is out while the second is being handled."""
    handler.write(request("AD_1", "sleep", "0.05") + request("AD_2", "sleep", "5"))
    begin = time.monotonic()
    assert json.loads(handler.line())["id"] == "AD_1"
    assert time.monotonic() - begin < 3


def test_the_end_of_the_input_is_the_end(handler):
    assert handler.end()[:2] == ("", 0)


def test_the_end_of_the_input_within_a_line(handler):
    """Half a request is none; what was whole is answered."""
    handler.write(request("AD_1", "none") + request("AD_2", "none")[:-20])
    rest, status, _ = handler.end()
    assert [json.loads(line)["id"] for line in rest.splitlines()] == ["AD_1"] and status == 0


def test_sigterm_while_idle(handler):
    handler.process.send_signal(signal.SIGTERM)
    assert handler.process.wait(10) == 0
    assert "after run" in handler.log.read_text() and "Traceback" not in handler.log.read_text()


def test_sigterm_lets_the_strand_finish(handler):
    """And takes no other one."""
    handler.write(request("AD_1", "none") + request("AD_2", "sleep", "1") + request("AD_3", "none"))
    private.wait_until(handler.started.exists)
    handler.process.send_signal(signal.SIGTERM)
    assert handler.process.wait(10) == 0
    rest = handler.process.stdout.read().decode()
    assert [json.loads(line)["id"] for line in rest.splitlines()] == ["AD_1", "AD_2"] and '"waited":true' in rest


def test_what_was_done_is_told_when_it_leaves(handler):
    """sys.exit in a handler ends the process; strands before it are answered."""
    handler.write(request("AD_1", "none") + request("AD_2", "exit", "3"))
    rest, status, _ = handler.end()
    assert [json.loads(line)["id"] for line in rest.splitlines()] == ["AD_1"] and status == 3


def test_what_is_no_request_ends_it(handler):
    handler.write("nonsense\n")
    rest, status, log = handler.end()
    assert (rest, status) == ("", 1) and "JSONDecodeError" in log
