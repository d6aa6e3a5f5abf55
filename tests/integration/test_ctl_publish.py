"""strandctl publish: from arguments, from lines, refusing, waiting."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

import cluster as private
from ctl_support import interrupt, ok, on_terminal, refused, rows, start

pytestmark = pytest.mark.usefixtures("build")


def publish(db, *args, **options):
    return private.strandctl(db, "publish", "--table", "AD_strands", *args, **options)


def lines(*objects):
    return "".join((o if isinstance(o, str) else json.dumps(o)) + "\n" for o in objects)


def count(db, table="AD_strands"):
    return db.value(f"SELECT count(*) FROM {table}")


# --- one strand


def test_one_from_arguments(db):
    done = ok(publish(db, "--tags", "dm:evaluate_plan, priority:high", "--id", "AD_x", "--set", "kind=signal",
                      "--set", "sig_sigma=2.5", "--set", 'trading_plan={"size": 12345678901234567890.10}'))
    assert done.stdout == "AD_x\n"
    assert db.execute("SELECT kind, sig_sigma, trading_plan ->> 'size', tags, module, created_at IS NOT NULL FROM AD_strands"
                      ) == [("signal", 2.5, "12345678901234567890.10", ["dm:evaluate_plan", "priority:high"], "alpha", True)]


def test_an_id_is_made(db):
    done = ok(publish(db, "--json-row", '{"symbol": "SPX"}', "--set", "kind=a"))
    assert re.fullmatch(r"AD_[0-9a-f]{12}\n", done.stdout)
    assert db.execute("SELECT id || E'\\n', symbol, kind, tags FROM AD_strands") == [(done.stdout, "SPX", "a", None)]


def test_tags_are_added_to_the_rows_own(db):
    ok(publish(db, "--json-row", '{"id": "a", "tags": ["dm:evaluate_plan", "note"]}', "--tags", "priority:high,note",
               "--tag", "original_strand:x,y"))
    assert db.value("SELECT tags FROM AD_strands") == ["dm:evaluate_plan", "note", "priority:high", "original_strand:x,y"]


def test_json_output(db):
    assert rows(publish(db, "--json", "--id", "a\"b")) == [{"table": "ad_strands", "count": 1, "ids": ["a\"b"]}]


@pytest.mark.parametrize("value", ["9223372036854775807", "123456789012345678901234567890", "0.1000000000000000055511151231257827",
                                   "1e400", "-0"])
def test_numbers_arrive_as_written(db, value):
    db.execute("ALTER TABLE AD_strands ADD COLUMN n numeric")
    ok(publish(db, "--json-row", '{"n": %s, "trading_plan": {"n": %s}}' % (value, value)))
    expected = db.execute("SELECT %s::numeric::text, (%s::jsonb)::text", (value, value))[0]
    assert db.execute("SELECT n::text, trading_plan ->> 'n' FROM AD_strands")[0] == expected


@pytest.mark.parametrize("ident", ["it's", 'a "quoted" one', "{a,b}", "back\\slash", "späße – 日本", " spaces ", "a\nline", "x" * 2690])
def test_odd_ids(db, ident):
    ok(publish(db, "--id", ident, "--tags", "dm:evaluate_plan"))
    ok(publish(db, "-", stdin=lines({"id": ident + "2"})))
    assert {r[0] for r in db.execute("SELECT id FROM AD_strands")} == {ident, ident + "2"}


def test_null_and_defaults(db):
    ok(publish(db, "-", stdin=lines({"id": "a"}, {"id": "b", "module": None, "tags": []}, {"id": "c", "module": "m"}, {"id": None})))
    assert db.execute("SELECT id, module, tags FROM AD_strands WHERE length(id) = 1 ORDER BY 1") == [
        ("a", "alpha", None), ("b", None, []), ("c", "m", None)]
    assert count(db) == 4


def test_quoted_and_generated_columns(db):
    db.execute('ALTER TABLE AD_strands ADD COLUMN "Odd, ""name""" text, ADD COLUMN twice int GENERATED ALWAYS AS (2 * length(id)) STORED')
    ok(publish(db, "--id", "abc", "--json-row", json.dumps({'Odd, "name"': "v"}), "--set", "kind=k"))
    assert db.execute('SELECT "Odd, ""name""", twice, kind FROM AD_strands') == [("v", 6, "k")]
    refused(publish(db, "--set", "twice=3"), 2, "twice")


# --- refused


@pytest.mark.parametrize("args, words", [
    (["--tags", "dm:evalaute_plan"], ['"dm:evalaute_plan"', "ad_strands", 'did you mean "dm:evaluate_plan"?', "--allow-unrouted"]),
    (["--tags", "trader:execute_plan"], ["is attached to dm_strands, not to ad_strands"]),
    (["--set", "knd=x"], ['no column "knd"', 'did you mean "kind"?']),
    (["--set", "sig_sigma=abc"], ['column "sig_sigma"', "abc"]),
    (["--set", "trading_plan={"], ["--set trading_plan", "column 2"]),
    (["--set", "xact_id=1"], ["xact_id", "leave it out"]),
    (["--set", "kind"], ["COLUMN=VALUE"]),
    (["--id", ""], ["--id is empty"]),
    (["--json-row", "[]"], ["not a JSON object"]),
    (["--json-row", '{"kind": "a"'], ["not JSON at column 13"]),
    (["--json-row", '{"kind": NaN}'], ["strandctl: invalid input syntax for type json", "NaN"]),
    (["--json-row", "{'kind': 1}"], ["strandctl: invalid input syntax for type json"]),
    (["--json-row", '{"kind": 1.}'], ["strandctl: invalid input syntax for type json"]),
    (["--json-row", '{"kind": "a", "kind": "b"}'], ['"kind"', "twice"]),
    (["--json-row", '{"a\\"b": {"kind": 1}, "kind": "{:", "symbol": "s", "symbol": "t"}'], ['"symbol"', "twice"]),
    (["--json-row", '{"kind": "a", "k\\u0069nd": "b"}'], ["twice", "escapes"]),
    (["--json-row", '{"kind": "a"}', "--set", "kind=b"], ['"kind"', "twice"]),
    (["--json-row", '{"tags": "dm:evaluate_plan"}'], ['"tags" is not an array']),
    (["--json-row", '{"tags": [1]}'], ["tag 1", "not a string"]),
    (["--json-row", '{"id": 5}'], ['"id" is not a string']),
    (["--json-row", '{"kind": "\\u0000"}'], ["\\u0000"]),
    (["--stdin", "--id", "x"], ["--stdin excludes"]),
    (["surplus"], ["surplus"]),
    (["--wait", "--timeout", "soon"], ["--timeout soon"]),
    (["--timeout", "5"], ["--timeout", "--wait"]),
])
def test_refused(db, args, words):
    refused(publish(db, *args), 2, *words)
    assert count(db) == 0


def test_unknown_table(db):
    refused(private.strandctl(db, "publish", "--table", "AD_strand"), 2, "did you mean ad_strands?")
    refused(private.strandctl(db, "publish"), 2, "--table")


@pytest.mark.parametrize("table", ["pg_class", "dm_routes", "dm_receipts", "strandd.version"])
@pytest.mark.parametrize("more", [[], ["--allow-unrouted"]])
def test_no_modules_table(db, table, more):
    refused(private.strandctl(db, "publish", "--table", table, *more), 2, table, "no module's table")


def test_allow_unrouted(db):
    ok(publish(db, "--tags", "nobody:listens", "--allow-unrouted"))
    assert count(db) == 1


def test_attributes_and_other_words_are_no_routes(db):
    ok(publish(db, "--tags", "priority:high,timeout:300,error:x,word,a:b:c,with space:x", "--tag", "original_strand:AD_1"))
    assert count(db) == 1


def test_a_producer_without_strandds_schema(db):
    ok(publish(db, "--tags", "dm:evaluate_plan", "--allow-unrouted", user=private.PRODUCER))
    refused(publish(db, "--tags", "dm:evaluate_plan", user=private.PRODUCER), 1, "permission denied")
    assert count(db) == 1


# --- lines


def test_many(db):
    text = lines(*({"id": f"s{i}", "kind": "k", "tags": ["dm:evaluate_plan"]} for i in range(2500)))
    done = ok(publish(db, "--stdin", "--tags", "priority:high", stdin=text))
    assert done.stdout == "2500 strands written to ad_strands\n"
    assert db.value("SELECT count(DISTINCT xact_id) FROM AD_strands") == 3
    assert db.value("SELECT count(*) FROM AD_strands WHERE tags = '[\"dm:evaluate_plan\", \"priority:high\"]'") == 2500


def test_order_of_lines_is_the_order_of_rows(db):
    text = lines(*({"id": f"s{i:04}", ("kind" if i % 3 else "symbol"): "k"} for i in range(900)))
    ok(publish(db, "-", stdin=text))
    assert [r[0] for r in db.execute("SELECT id FROM AD_strands ORDER BY ctid")] == [f"s{i:04}" for i in range(900)]


def test_blank_lines_and_a_last_line_without_newline(db):
    ok(publish(db, "-", stdin='\n{"id": "a"}\r\n   \n\n{"id": "b"}'))
    assert count(db) == 2
    assert ok(publish(db, "-", stdin="")).stdout == "0 strands written to ad_strands\n"


def test_a_long_line(db):
    ok(publish(db, "-", stdin=lines({"id": "big", "trading_plan": {"x": "y" * 20_000_000}}, {"id": "after"})))
    assert db.value("SELECT length(trading_plan ->> 'x') FROM AD_strands WHERE id = 'big'") == 20_000_000
    assert count(db) == 2


@pytest.mark.parametrize("bad, words", [
    ('{"id": "x",}', ["line 1501: ", "column 12"]),
    ('{"sig_sigma": "high"}', ["line 1501: ", 'column "sig_sigma"', "high"]),
    ('{"symbl": "x"}', ["line 1501: ", 'did you mean "symbol"?']),
    ('{"tags": ["dm:evaluate_plam"]}', ["line 1501: ", 'did you mean "dm:evaluate_plan"?']),
    ('{"id": "s7"}', ["line 1501: ", "s7", "already exists"]),
    ("not json", ["line 1501: ", "not JSON at column"]),
    ('{"kind": "\udcff"}', ["line 1501: ", "not JSON"]),
])
def test_a_bad_line_is_named_and_what_stays_is_told(db, bad, words):
    text = lines(*({"id": f"s{i}"} for i in range(1500)), bad)
    done = subprocess.run([*private.program("strandctl"), "--dbname", db.dsn(), "publish", "--table", "AD_strands", "-"],
                          input=text.encode(errors="surrogateescape"), capture_output=True, check=False)
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode(errors="replace")
    refused(done, 2, *words, "1000 strands, up to line 1000, are written and stay")
    assert count(db) == 1000


def test_a_constraint_of_the_users_names_the_line(db):
    db.execute("ALTER TABLE AD_strands ADD CHECK (symbol <> 'bad')")
    text = lines({"symbol": "good"}, {"symbol": "bad"}, {"symbol": "good"})
    refused(publish(db, "-", stdin=text), 2, "line 2: ", "check constraint", "no strand was written")
    assert count(db) == 0


def test_a_pipe_that_rests_is_not_kept_waiting(db):
    process = start(db, "publish", "--table", "AD_strands", "-", stdin=subprocess.PIPE)
    process.stdin.write('{"id": "a"}\n')
    process.stdin.flush()
    private.wait_until(lambda: count(db) == 1, 10)
    process.stdin.write('{"id": "b"}\n')
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0 and "2 strands" in out


def test_interrupted_while_reading(db):
    process = start(db, "publish", "--table", "AD_strands", "-", stdin=subprocess.PIPE)
    process.stdin.write(lines(*({"id": f"s{i}"} for i in range(1000))))
    process.stdin.flush()
    private.wait_until(lambda: count(db) == 1000, 10)
    code, _, err = interrupt(process)
    assert code == 5 and "interrupted" in err and "1000 strands, up to line 1000, are written and stay" in err


def test_interrupted_while_waiting_for_a_lock(db):
    other = db.connect(autocommit=False)
    db.execute("INSERT INTO AD_strands (id) VALUES ('same')", conn=other)
    process = start(db, "publish", "--table", "AD_strands", "--id", "same")
    private.wait_until(lambda: db.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), 10)
    code, _, err = interrupt(process)
    assert code == 5, err
    private.wait_until(lambda: not db.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), 10,
                       what="the statement is cancelled")


def test_progress_on_a_terminal(db, tmp_path):
    path = tmp_path / "lines"
    path.write_text(lines(*({"id": f"s{i}", "kind": "x" * 500} for i in range(20000))))
    with open(path, encoding="utf-8") as stdin:
        code, out, shown = on_terminal(db, "publish", "--table", "AD_strands", "-", stdin=stdin)
    assert code == 0 and out == "20000 strands written to ad_strands\n"
    # the rate comes after half a second, which a quick machine does not need
    assert "publishing [#" in shown and shown.endswith("\033[K")


# --- waiting


def test_wait_prints_the_replies(db, daemon):
    daemon()
    done = ok(publish(db, "--id", "AD_w", "--set", "symbol=SPX", "--tags", "dm:evaluate_plan", "--wait"))
    assert "AD_w" in done.stdout and "done" in done.stdout and "decision" in done.stdout
    reply = db.value("SELECT id FROM DM_strands")
    assert reply in done.stdout
    row, = rows(publish(db, "--json", "--id", "AD_v", "--set", "symbol=SPX", "--tags", "dm:evaluate_plan", "--wait"))
    assert row["id"] == "AD_v" and row["state"] == "done" and row["tag"] == "dm:evaluate_plan"
    assert row["replies"][0]["symbol"] == "SPX" and "original_strand:AD_v" in row["replies"][0]["tags"]
    assert row["hop_ms"] >= 0


def test_wait_for_many(db, daemon):
    daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.reply")])
    text = lines(*({"id": f"s{i}", "tags": ["dm:evaluate_plan"] if i % 2 else []} for i in range(3000)))
    listed = rows(publish(db, "--json", "-", "--wait", stdin=text))
    assert sorted(r["id"] for r in listed) == sorted(f"s{i}" for i in range(3000) if i % 2)
    assert {r["state"] for r in listed} == {"done"} and all(len(r["replies"]) == 1 for r in listed)


def test_wait_on_every_route(db, daemon):
    daemon(routes=[("alpha:decision_feedback", "DM_strands", "test.nothing"), ("trader:execute_plan", "DM_strands", "test.reply")])
    listed = rows(private.strandctl(db, "--json", "publish", "--table", "DM_strands", "--wait",
                                    "--tags", "alpha:decision_feedback,trader:execute_plan"))
    assert sorted((r["tag"], r["state"], len(r["replies"])) for r in listed) == [
        ("alpha:decision_feedback", "done", 0), ("trader:execute_plan", "done", 1)]


def test_wait_tells_failures(db, daemon):
    daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.fail_some")])
    done = publish(db, "-", "--wait", stdin=lines({"id": "good", "tags": ["dm:evaluate_plan"]},
                                                  {"id": "bad", "kind": "fail", "tags": ["dm:evaluate_plan"]}))
    refused(done, 1, "1 of 2 deliveries failed")
    assert "asked to fail" in done.stdout and "failed" in done.stdout and "done" in done.stdout


def test_wait_gives_up(db):
    done = publish(db, "--tags", "dm:evaluate_plan", "--wait", "--timeout", "1")
    strand_id = db.value("SELECT id FROM AD_strands")
    refused(done, 1, "1 of 1 deliveries", "is strandd serving", f"still waiting: {strand_id} on dm:evaluate_plan")
    assert done.stdout == f"{strand_id}\n"


def test_wait_that_gives_up_prints_one_object(db, daemon, wait_until):
    daemon(routes=[("alpha:decision_feedback", "DM_strands", "test.nothing")])
    done = private.strandctl(db, "--json", "publish", "--table", "DM_strands", "--id", "DM_1", "--wait", "--timeout", "3",
                             "--tags", "alpha:decision_feedback,trader:execute_plan")
    said = refused(done, 1, "still waiting: DM_1 on trader:execute_plan")
    assert "on alpha:decision_feedback" not in said
    assert {(r["id"], r["tag"]): r["state"] for r in json.loads(done.stdout)["deliveries"]} == {
        ("DM_1", "alpha:decision_feedback"): "done", ("DM_1", "trader:execute_plan"): None}


def test_wait_names_some_of_many(db):
    text = lines(*({"id": f"s{i}", "tags": ["dm:evaluate_plan"]} for i in range(1200)))
    done = publish(db, "-", "--wait", "--timeout", "0", stdin=text)
    said = refused(done, 1, "1200 of 1200 deliveries", "still waiting: s0 on dm:evaluate_plan\n")
    assert said.count("still waiting") < 100 and "more are not named" in said
    assert done.stdout == "1200 strands written to ad_strands\n"


def test_wait_tells_what_expired(db, daemon):
    daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.nothing")])
    said = refused(publish(db, "--tags", "dm:evaluate_plan,timeout:0", "--wait"), 1, "1 of 1 deliveries expired")
    assert "deliveries failed" not in said


def test_wait_for_nothing(db):
    done = ok(publish(db, "--wait"))
    assert "nothing to wait for" in done.stderr


def test_wait_is_interrupted(db):
    process = start(db, "publish", "--table", "AD_strands", "--tags", "dm:evaluate_plan", "--wait")
    private.wait_until(lambda: count(db) == 1, 10)
    time.sleep(0.2)
    code, out, err = interrupt(process)
    strand_id = db.value("SELECT id FROM AD_strands")
    assert code == 5, err
    assert out == f"{strand_id}\n"
    assert "interrupted" in err and f"still waiting: {strand_id} on dm:evaluate_plan" in err


def test_killed_between_lines_loses_no_committed_batch(db):
    text = lines(*({"id": f"s{i}"} for i in range(5000)))
    process = start(db, "publish", "--table", "AD_strands", "-", stdin=subprocess.PIPE)
    try:
        process.stdin.write(text)
        process.stdin.flush()
        private.wait_until(lambda: count(db) >= 1000, 10)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert count(db) % 1000 == 0 or count(db) == 5000
