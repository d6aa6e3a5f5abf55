"""strandctl handler-test COMMAND: a process handler on one strand, with no database."""

import json
import os
import signal
import subprocess
import time

import pytest

import cluster as private
from ctl_support import ok, refused
from process_support import HANDLER

pytestmark = pytest.mark.usefixtures("build")

FAILED = 6


@pytest.fixture
def place(tmp_path):
    """Where process_handler.py notes what it was handed."""
    return {"CALLS": str(tmp_path)}


def row(kind="good", argument=None, **columns):
    return json.dumps({"id": "AD_1", "kind": kind, "timeframe": argument, "tags": ["priority:high", "dm:evaluate_plan"], **columns})


def run(strand, *args, env=None, command=HANDLER):
    """No server is to be asked, so none is to be had."""
    text = strand if isinstance(strand, bytes) else strand.encode()
    done = subprocess.run([*private.program("strandctl"), "handler-test", *args, "--", *command], input=text, capture_output=True,
                          check=False, timeout=60, env=dict(os.environ, PGHOST="/nowhere", **(env or {})))
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    return done


def verdict(done, code=0):
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout)["handler_test"][0]


def alive(pid):
    """Whether the process is there, and not one that nobody has reaped yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.sanitize
def test_replies_are_shown_one_a_line(place):
    done = ok(run(row(), env=place))
    assert json.loads(done.stdout) == {"kind": "reply", "symbol": "1"}
    assert "strand AD_1, dm:evaluate_plan, attempt 1: 1 reply in " in done.stderr
    assert ok(run(row("replies", "[]"), env=place)).stdout == ""
    assert len(ok(run(row("replies", '[{"a": "],[{"}, {}]'), env=place)).stdout.splitlines()) == 2


def test_what_the_handler_is_sent():
    """As strandd sends it: one line, the strand's own text, the deadline."""
    script = 'read -r line; echo "$line" >&2; echo \'{"id":"AD_1","replies":[]}\''
    done = ok(run('{"id": "AD_1",\n "n": 12345678901234567890.10, "tags": []}\n', "--tag", "dm:x", "--source", "S", "--attempt", "4",
                  "--timeout", "7s", command=["sh", "-c", script]))
    request = '{"v":1,"tag":"dm:x","source":"S","attempt":4,"deadline_ms":7000,"strand":{"id": "AD_1",  "n": 12345678901234567890.10'
    assert request in done.stderr


def test_json(place):
    v = verdict(run(row(), "--json", "--attempt", "3", env=place))
    assert v.pop("ms") >= 0
    assert v == {"outcome": "replies", "id": "AD_1", "tag": "dm:evaluate_plan", "source": "stdin", "attempt": 3,
                 "replies": [{"kind": "reply", "symbol": "3"}], "error": None, "sqlstate": None, "retry": None, "receipt": None}


def test_a_reply_is_shown_as_it_was_written(place):
    big = '[{"dm_decision":{"i":9223372036854775807,"d":123456789012345678901234567890.123456789}}]'
    assert big[1:-1] in ok(run(row("replies", big), env=place)).stdout
    assert big in run(row("replies", big), "--json", env=place).stdout


@pytest.mark.parametrize("kind, argument, sqlstate, retry, text", [
    ("raise", "oh dear", "SRERR", True, "oh dear"),
    ("final", None, "SRFIN", False, "asked to fail for good"),
    ("exit", "3", "SRDIE", True, "the process exited with status 3"),
    ("kill", "11", "SRDIE", True, "the process was killed by signal 11 (SIGSEGV)"),
    ("raw", "Hello, debugging", "SRGAR", True, 'wrote a line that is not JSON: "Hello, debugging"'),
    ("raw", '{"id":"ID"}', "SRGAR", True, 'neither "replies" nor "error"'),
    ("raw", '{"replies":[]}', "SRGAR", True, 'without an "id"'),
    ("replies", "[{},{},{}]", "SRGAR", True, "wrote 3 replies: more than 2 are not taken"),
    ("replies", '[{"symbol":"' + "x" * 2000 + '"}]', "SRGAR", True, "wrote a line of more than 1024 bytes"),
    ("replies", '[{"dm_decision":NaN}]', "22P02", True, '"NaN" is no JSON value'),
    ("replies", '[{"symbol":"a\\u0000b"}]', "22P02", True, "\\u0000"),
    ("replies", "[1]", "SR001", True, "not a JSON object: 1"),
    ("sleep", "9", "SRDUE", True, "did not answer within 0.5 s"),
])
def test_a_handler_that_fails(place, kind, argument, sqlstate, retry, text):
    limits = ["--timeout", "500ms", "--grace", "300ms", "--max-line", "1KiB", "--max-replies", "2"]
    v = verdict(run(row(kind, argument), "--json", *limits, env=place), FAILED)
    assert (v["outcome"], v["sqlstate"], v["retry"], v["replies"]) == ("failed", sqlstate, retry, None)
    assert text in v["error"]


def test_a_failure_is_told_to_people(place):
    err = refused(run(row("raise", "oh dear"), env=place), FAILED, "oh dear (SRERR)", "would be tried again")
    assert "next is started" not in err
    refused(run(row("final"), env=place), FAILED, "would not be tried again")


@pytest.mark.parametrize("command, text", [
    (["true"], "exited with status 0 before it had read a request"), (["sh", "-c", "echo no >&2; exit 7"], "status 7"),
    (["sh", "/no/such/script"], "/no/such/script"),
])
def test_a_command_that_is_no_handler(command, text):
    v = verdict(run(row(), "--json", command=command), FAILED)
    assert v["sqlstate"] == "SRNEW" and text in v["error"]
    err = refused(run(row(), command=command), FAILED, "suspended")
    assert "next is started" not in err and "tried again" not in err


@pytest.mark.parametrize("command, text", [
    (["/no/such/program"], "No such file"), (["no-such-program"], "none of PATH's directories"), (["/etc/passwd"], "Permission denied"),
])
def test_a_command_that_is_not_there(command, text):
    """Before the strand is looked at."""
    refused(run("nonsense", command=command), 2, command[0], text, "give the path of a program")


def test_a_process_that_closes_its_standard_input():
    """In the middle of the request."""
    done = run(row(symbol="x" * 200000), command=["sh", "-c", "exec <&-; exec sleep 1"])
    refused(done, FAILED, "before it had read a request")


def test_an_answer_that_nobody_waits_for(place):
    """It is told, and is no answer."""
    done = run(row("raw", '{"id":"OTHER","replies":[]}'), "--timeout", "500ms", "--grace", "1ms", env=place)
    refused(done, FAILED, "strand=OTHER", "did not answer within 0.5 s")
    done = run(row("raw", '{"id":"ID","attempt":2,"replies":[]}'), "--timeout", "500ms", "--grace", "1ms", env=place)
    refused(done, FAILED, "nobody waits for", "did not answer")


@pytest.mark.parametrize("pause", ["", "sleep 0.02;"])
def test_what_stands_behind_an_answer(pause):
    """The strand is settled; but strandd would end the process for it."""
    script = f'read -r l; printf \'%s\\n\' \'{{"id":"AD_1","replies":[]}}\'; {pause} echo Debug; read -r l'
    done = ok(run(row(), command=["sh", "-c", script]))
    assert 'wrote a line that is not JSON: "Debug", after its answer' in done.stderr


def test_standard_error_and_the_environment(place):
    assert "a word from me" in ok(run(row("stderr", "a word from me"), env=place)).stderr
    # as in strandd, whose own settings are not a handler's business
    script = 'read -r l; echo "mine=$MINE ours=$STRANDD_FAILPOINTS." >&2; echo \'{"id":"AD_1","replies":[]}\''
    done = ok(run(row(), command=["sh", "-c", script], env={"MINE": "yes", "STRANDD_FAILPOINTS": "no.such=kill"}))
    assert "mine=yes ours=." in done.stderr


def test_a_group_that_ignores_sigterm_is_killed(tmp_path, wait_until):
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 77 & echo $$ $! > {pids}; read -r l; wait"
    done = run(row(), "--timeout", "300ms", "--grace", "300ms", command=["sh", "-c", script])
    refused(done, FAILED, "did not answer within 0.3 s")
    # a member that is not the leader is killed, and not waited for
    wait_until(lambda: not any(map(alive, pids.read_text().split())), 2)


@pytest.mark.sanitize
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(tmp_path, number, wait_until):
    """At once, and the handler goes too."""
    pid = tmp_path / "pid"
    script = f"read -r l; echo $$ > {pid}; sleep 60"
    process = subprocess.Popen([*private.program("strandctl"), "handler-test", "sh", "-c", script], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdin.write(row())
    process.stdin.close()
    process.stdin = None
    wait_until(lambda: pid.exists() and pid.read_text().strip())
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    if number == signal.SIGINT:
        assert process.returncode == 5 and "interrupted" in err
    wait_until(lambda: not alive(pid.read_text().strip()))


@pytest.mark.parametrize("text, words", [
    ("", ["standard input is empty", "JSON object such as"]),
    (" \n", ["standard input is empty"]),
    ("[1]", ["no JSON object", "such as"]),
    ("Hello", ["line 1, column 1", '"Hello" is no JSON value']),
    ('{"x": 1}', ['has no "id"', "add one"]),
    ('{"id": 7}', ['"id"', "must be a string"]),
    ('{"id": ""}', ['"id"', "not empty"]),
    ('{"id": "a",\n "x": NaN}', ["line 2, column 7", "NaN", "null"]),
    ('{"id": "a", "x": 01}', ["column 18", '"01"']),
    ('{"id": "a", "x": 1,}', ["column 20", "a key"]),
    ('{"id": "a"', ["column 11", "a comma or }"]),
    ('{"id": "a"} {}', ["column 13", "more behind"]),
    ('{"id": "a\nb"}', ["column 10", "control character"]),
    ('{"id": "a\\u0000"}', ["column 10", "\\u0000"]),
    ('{"id": "a\\x"}', ["column 10", "escape"]),
    (b'{"id": "\xff"}', ["line 1, column 9", "not UTF-8", "iconv"]),
    (b'{"id": "\xc3\xa9", "b": "\x00"}', ["line 1, column 20", "not UTF-8"]),
    ('{"id": ' + "[" * 600, ["nested too deep"]),
    ('{"id": "a", "tags": ["priority:high"]}', ["no tag", "--tag"]),
])
def test_a_strand_that_is_none(text, words):
    refused(run(text, command=["false"]), 2, *words)


@pytest.mark.parametrize("args, words", [
    ([], ["give a command, or --route"]),
    (["--route", "dm:x"], ["give the id of a strand"]),
    (["--route", "dm:x", "a", "b"], ["give one id"]),
    (["--route", "dm:x", "--tag", "dm:y", "a"], ["--tag", "configuration says it"]),
    (["--route", "dm:x", "--timeout", "1s", "a"], ["--timeout", "configuration says it"]),
    (["--timeout", "5", "true"], ["lacks its unit"]),
    (["--max-replies", "0", "true"], ["max_replies"]),
    (["--attempt", "0", "true"], ["--attempt 0"]),
    ([""], ["empty"]),
])
def test_bad_arguments(args, words):
    done = subprocess.run([*private.program("strandctl"), "handler-test", *args], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False, timeout=60)
    refused(done, 2, *words)


@pytest.mark.parametrize("closed, words", [("<&-", "standard input: Bad file descriptor"), (">&-", "standard output cannot be written")])
def test_closed_standard_descriptors(closed, words):
    """What strandctl opens does not take their place."""
    script = 'read -r line; echo \'{"id":"AD_1","replies":[{}]}\'; cat >/dev/null'
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *private.program("strandctl"), "handler-test", "--", "sh", "-c", script],
                          input=row(), capture_output=True, check=False, timeout=20, text=True)
    assert done.returncode == 1 and words in done.stderr, done
