"""strandctl read, recent, trace and status."""

import json
import time

import pytest

import cluster as private
import service
from ctl_support import ok, on_screen, refused, rows

pytestmark = pytest.mark.usefixtures("build")


def ids(tree):
    """A trace's JSON as nested (id, [children]), siblings sorted."""
    return sorted(((n["id"], ids(n.get("children", []))) for n in tree), key=lambda n: n[0])


def link(db, table, strand_id, *origins, tags=(), **columns):
    return service.publish(db, table, strand_id, [*tags, *(f"original_strand:{o}" for o in origins)], **columns)


# --- read


def test_read(db, daemon):
    daemon()
    service.publish(db, "AD_strands", "AD_1", ["dm:evaluate_plan"], kind="signal", symbol="SPX", trading_plan={"size": 5})
    service.final(db, "dm", "AD_1", "dm:evaluate_plan")
    said = ok(private.strandctl(db, "read", "AD_1")).stdout
    for word in ("ad_strands", "SPX", '{"size": 5}', "dm:evaluate_plan", "done", db.value("SELECT id FROM DM_strands")):
        assert word in said, said
    row, = rows(private.strandctl(db, "--json", "read", "AD_1"))
    assert row["table"] == "ad_strands" and row["strand"]["trading_plan"] == {"size": 5}
    receipt, = row["receipts"]
    assert receipt["tag"] == "dm:evaluate_plan" and receipt["state"] == "done" and receipt["hop_ms"] > 0
    assert receipt["reply_ids"] == [db.value("SELECT id FROM DM_strands")]


def test_read_one_id_in_two_tables(db):
    for table in ("AD_strands", "TR_strands"):
        service.publish(db, table, "same", [])
    assert [r["table"] for r in rows(private.strandctl(db, "read", "same", "--json"))] == ["ad_strands", "tr_strands"]
    assert [r["table"] for r in rows(private.strandctl(db, "--json", "read", "--table", "TR_strands", "same"))] == ["tr_strands"]


def test_read_what_is_not_there(db):
    refused(private.strandctl(db, "read", "nothing"), 3, "nothing")
    done = private.strandctl(db, "--json", "read", "nothing")
    refused(done, 3)
    assert json.loads(done.stdout) == {"strands": []}
    refused(private.strandctl(db, "read", "x", "--table", "AD_strnds"), 2, "ad_strands")
    db.execute("CREATE TABLE plain (id text)")
    refused(private.strandctl(db, "read", "x", "--table", "plain"), 2, "plain", "attach")


def test_read_odd_text(db):
    odd = 'a "b"\\c\td\ne é\x1b[31m'
    service.publish(db, "AD_strands", odd, ["dm:evaluate_plan"], kind=odd)
    row, = rows(private.strandctl(db, "--json", "read", odd))
    assert row["strand"]["id"] == odd and row["strand"]["kind"] == odd
    # a terminal is not to be steered by what somebody wrote
    assert "\x1b" not in ok(private.strandctl(db, "read", odd)).stdout
    for locale in ("C", "C.UTF-8"):
        row, = rows(private.strandctl(db, "--json", "read", odd, env={"LC_ALL": locale}))
        assert row["strand"]["id"] == odd


def test_read_a_strand_with_a_hashed_receipt(db, daemon):
    daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.reply")])
    long = "x" * 2000
    service.publish(db, "AD_strands", long, ["dm:evaluate_plan"])
    private.wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts"), 15)
    row, = rows(private.strandctl(db, "--json", "read", long))
    assert row["receipts"][0]["state"] == "done"


# --- recent


def test_recent(db):
    for i in range(15):
        service.publish(db, "AD_strands", f"A{i:02}", ["dm:evaluate_plan"] + (["priority:high"] if i % 5 == 0 else []))
        service.publish(db, "DM_strands", f"D{i:02}", ["alpha:decision_feedback"])
    listed = rows(private.strandctl(db, "--json", "recent"))
    assert [r["id"] for r in listed] == [f"{p}{i:02}" for i in range(14, 9, -1) for p in "DA"]
    listed = rows(private.strandctl(db, "--json", "recent", "--tags", "dm:evaluate_plan,priority:high", "--limit", "2"))
    assert [r["id"] for r in listed] == ["A10", "A05"]
    assert listed[0]["tags"] == ["dm:evaluate_plan", "priority:high"] and listed[0]["strand"]["module"] == "alpha"
    listed = rows(private.strandctl(db, "--json", "recent", "--table", "DM_strands", "-n", "3"))
    assert [r["id"] for r in listed] == ["D14", "D13", "D12"]
    assert "A14" in ok(private.strandctl(db, "recent")).stdout
    assert rows(private.strandctl(db, "--json", "recent", "--tags", "no:such")) == []
    refused(private.strandctl(db, "recent", "-n", "0"), 2, "--limit 0")


@pytest.mark.parametrize("tags", [[], ["--tags", "dm:evaluate_plan"]])
def test_recent_and_rows_without_created_at(db, tags):
    """ORMs write NULL, which an index on created_at DESC has first."""
    insert = "INSERT INTO AD_strands (id, created_at, tags) VALUES (%s, {}, '[\"dm:evaluate_plan\"]')"
    for i in (0, 1):
        db.execute(insert.format("NULL"), (f"old_null_{i}",))
    for i in range(5):
        db.execute(insert.format("now()"), (f"A{i}",))
    listed = [r["id"] for r in rows(private.strandctl(db, "--json", "recent", *tags))]
    assert listed == ["A4", "A3", "A2", "A1", "A0", "old_null_1", "old_null_0"]
    db.execute(insert.format("NULL"), ("new_null",))
    listed = [r["id"] for r in rows(private.strandctl(db, "--json", "recent", "-n", "3", *tags))]
    assert listed == ["new_null", "A4", "A3"]


def test_recent_without_the_columns_of_the_specification(db):
    db.execute("CREATE TABLE ops_strands (id text PRIMARY KEY, tags jsonb, created_at timestamptz)")
    db.execute("CREATE TABLE bare_strands (id text PRIMARY KEY, tags jsonb)")
    for table in ("ops_strands", "bare_strands"):
        ok(private.strandctl(db, "attach", "--tag", f"{table}:look", "--source", "AD_strands", "--receiver", table))
        db.execute(f"INSERT INTO {table} (id) VALUES ('{table}')")
    db.execute("INSERT INTO ops_strands (id, created_at) VALUES ('dated', now())")
    assert {r["id"] for r in rows(private.strandctl(db, "--json", "recent"))} == {"dated", "ops_strands", "bare_strands"}


@pytest.mark.parametrize("created", ["now() + i * interval '1 ms'", "NULL"])
@pytest.mark.parametrize("analyze, tags", [(False, []), (True, []), (True, ["--tags", "dm:evaluate_plan"]),
                                           (True, ["--tags", "dm:rare"])])
def test_recent_does_not_read_whole_tables(db, created, analyze, tags):
    """Without statistics the planner takes every tag for rare."""
    db.execute("INSERT INTO AD_strands (id, created_at, tags) SELECT 'A' || i, " + created +
               ", CASE WHEN i % 20000 = 7 THEN '[\"dm:rare\"]' ELSE '[\"dm:evaluate_plan\"]' END::jsonb FROM generate_series(1, 60000) i")
    if analyze:
        db.execute("ANALYZE AD_strands")
    read = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'ad_strands'"
    before = db.value(read)
    listed = rows(private.strandctl(db, "--json", "recent", *tags))
    assert len(listed) == (3 if "dm:rare" in tags else 10)
    time.sleep(0.2)
    assert db.value(read) - before < 25000


def test_recent_with_a_misspelt_tag(db):
    said = ok(private.strandctl(db, "recent", "--tags", "dm:evalute_plan,priority:high"))
    assert said.stdout == "" and 'did you mean "dm:evaluate_plan"?' in said.stderr and "priority" not in said.stderr
    assert "nothing:like_it" in ok(private.strandctl(db, "recent", "--tag", "nothing:like_it")).stderr
    # a route's tag that nothing bears is no mistake, nor is one that was detached
    ok(private.strandctl(db, "detach", "--tag", "dm:execution_feedback", "--source", "TR_strands"))
    for tag in ("dm:evaluate_plan", "dm:execution_feedback"):
        assert ok(private.strandctl(db, "recent", "--tags", tag)).stderr == ""
    # nor is one that a strand bears
    service.publish(db, "AD_strands", "A", ["no:route"])
    assert ok(private.strandctl(db, "recent", "--tags", "no:route")).stderr == ""


def test_a_letter_means_the_same_everywhere(db):
    """-t is a table's in publish, read and recent."""
    ok(private.strandctl(db, "publish", "-t", "AD_strands", "-T", "dm:evaluate_plan", "--id", "A"))
    ok(private.strandctl(db, "read", "-t", "AD_strands", "A"))
    assert [r["id"] for r in rows(private.strandctl(db, "--json", "recent", "-t", "AD_strands", "-T", "dm:evaluate_plan"))] == ["A"]
    refused(private.strandctl(db, "recent", "-b", "AD_strands"), 2, "'b'")


# --- on a terminal


@pytest.fixture
def long_names(db, daemon):
    """The longest of the specification's tags, a failure, and an id that is wider
    than any screen."""
    daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.evaluate_plan"), ("alpha:decision_feedback", "DM_strands", "test.fail_some"),
                   ("trader:execute_plan", "DM_strands", "test.execute_plan"), ("alpha:execution_feedback", "TR_strands", "test.nothing"),
                   ("dm:execution_feedback", "TR_strands", "test.nothing")])
    service.publish(db, "AD_strands", "AD_0123456789ab", ["dm:evaluate_plan", "priority:high"], kind="signal")
    service.publish(db, "DM_strands", "DM_0123456789ab", ["alpha:decision_feedback", "trader:execute_plan", "original_strand:AD_0123456789ab"], kind="fail")
    private.wait_until(lambda: db.value("SELECT count(*) FROM ad_receipts") >= 3, 15)
    db.attach("dm:look", "AD_strands", "DM_strands", history=False)
    return db


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("command", [["status"], ["recent"], ["trace", "AD_0123456789ab"], ["read", "DM_0123456789ab"]])
def test_no_line_is_wider_than_the_terminal(long_names, columns, command):
    lines = on_screen(long_names, *command, columns=columns)
    assert len(lines) > 3 and max(map(len, lines)) <= columns, lines
    # no tag, id or table's name of the specification is cut in two on an ordinary terminal
    if columns == 80 and command != ["status"]:
        assert any("DM_0123456789ab" in line for line in lines) and any("alpha:decision_feedback" in line for line in lines)
    if columns == 80 and command == ["status"]:
        assert any("alpha:execution_feedback tr_strands ad_strands" in line for line in lines)


def test_a_very_long_id_does_not_widen_the_lines(db):
    service.publish(db, "AD_strands", "x" * 200, ["dm:evaluate_plan"])
    for command in (["recent"], ["trace", "x" * 200]):
        lines = on_screen(db, *command, columns=80)
        assert max(map(len, lines)) <= 80 and sum(line.count("x") for line in lines) >= 200, lines


def test_nothing_is_cut_or_wrapped_without_a_terminal(long_names):
    said = ok(private.strandctl(long_names, "recent")).stdout
    assert "alpha:decision_feedback, trader:execute_plan, original_strand:AD_0123456789ab" in said
    assert "history unfinished" in ok(private.strandctl(long_names, "status")).stdout


# --- trace


def test_trace_the_whole_flow(db, daemon):
    daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.scripted"), ("trader:execute_plan", "DM_strands", "test.execute_plan"),
                   ("alpha:decision_feedback", "DM_strands", "test.nothing"), ("alpha:execution_feedback", "TR_strands", "test.nothing"),
                   ("dm:execution_feedback", "TR_strands", "test.nothing")])
    service.publish(db, "AD_strands", "AD_1", ["dm:evaluate_plan"], kind="signal", regime=json.dumps(
        [{"id": "DM_1", "kind": "decision", "tags": ["alpha:decision_feedback", "trader:execute_plan"]},
         {"id": "DM_2", "kind": "note", "tags": []}]))
    execution = private.wait_until(lambda: db.value("SELECT id FROM TR_strands"), 15)
    private.wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts r JOIN dm_routes USING (route) WHERE tag = 'dm:execution_feedback'")
                       and db.value("SELECT count(*) FROM ad_receipts") == 2, 15)
    whole = [("AD_1", [("DM_1", [(execution, [])]), ("DM_2", [])])]
    for asked in ("AD_1", "DM_1", "DM_2", execution):
        tree = rows(private.strandctl(db, "--json", "trace", asked))
        assert ids(tree) == whole
    plan = tree[0]
    assert plan["table"] == "ad_strands" and plan["kind"] == "signal" and not plan["asked"]
    assert [(r["tag"], r["state"]) for r in plan["receipts"]] == [("dm:evaluate_plan", "done")]
    assert plan["receipts"][0]["hop_ms"] > 0
    decision = next(n for n in plan["children"] if n["id"] == "DM_1")
    assert sorted((r["tag"], r["state"]) for r in decision["receipts"]) == [("alpha:decision_feedback", "done"), ("trader:execute_plan", "done")]
    assert decision["children"][0]["asked"]
    said = ok(private.strandctl(db, "trace", execution)).stdout
    assert "└─" in said or "`-" in said
    assert execution + " *" in said and "dm:execution_feedback done" in said and " ms" in said


def test_trace_ends_in_rings(db):
    link(db, "AD_strands", "A", tags=["dm:evaluate_plan"])
    link(db, "DM_strands", "D", "A", "T")  # updated after T came from it
    link(db, "TR_strands", "T", "D")
    assert ids(rows(private.strandctl(db, "--json", "trace", "T"))) == [("A", [("D", [("T", [("D", [])])])])]
    link(db, "DM_strands", "R1", "R2")
    link(db, "DM_strands", "R2", "R1")
    link(db, "DM_strands", "self", "self")
    assert ids(rows(private.strandctl(db, "--json", "trace", "R2"))) == [("R2", [("R1", [("R2", [])])])]
    assert ids(rows(private.strandctl(db, "--json", "trace", "self"))) == [("self", [])]
    assert "(see above)" in ok(private.strandctl(db, "trace", "R1")).stdout


def test_trace_several_origins_and_lost_ones(db):
    link(db, "AD_strands", "A1")
    link(db, "AD_strands", "A2")
    link(db, "DM_strands", "D", "A1", "A2", "gone")
    link(db, "TR_strands", "T", "D")
    tree = rows(private.strandctl(db, "--json", "trace", "T"))
    assert ids(tree) == [("A1", [("D", [("T", [])])]), ("A2", [("D", [])])]
    assert [n["children"][0]["repeated"] for n in sorted(tree, key=lambda n: n["id"])] == [False, True]


def test_trace_over_a_users_table(db):
    db.execute("CREATE TABLE ops_strands (id text PRIMARY KEY, tags jsonb)")
    ok(private.strandctl(db, "attach", "--tag", "ops:alarm", "--source", "AD_strands", "--receiver", "ops_strands"))
    link(db, "AD_strands", "A", tags=["ops:alarm"])
    link(db, "ops_strands", "O", "A")
    tree = rows(private.strandctl(db, "--json", "trace", "O"))
    assert ids(tree) == [("A", [("O", [])])]
    assert [r["state"] for r in tree[0]["receipts"]] == ["waiting"]


def test_trace_a_long_chain_and_a_wide_tree(db):
    db.execute("INSERT INTO AD_strands (id, tags) SELECT 'C' || i, jsonb_build_array('original_strand:C' || (i - 1)) FROM generate_series(1, 400) i")
    db.execute("INSERT INTO DM_strands (id, tags) SELECT 'W' || i, '[\"original_strand:C400\"]' FROM generate_series(1, 2000) i")
    said = ok(private.strandctl(db, "trace", "W7")).stdout
    assert len(said.splitlines()) == 2401 and said.splitlines()[1].startswith("C1 ")


def test_trace_does_not_read_whole_tables(db):
    db.execute("INSERT INTO AD_strands (id, kind, tags) SELECT 'x' || i, repeat('y', 200), '[\"dm:evaluate_plan\"]' FROM generate_series(1, 100000) i")
    link(db, "DM_strands", "D", "x5000")
    began = time.monotonic()
    assert ids(rows(private.strandctl(db, "--json", "trace", "D"))) == [("x5000", [("D", [])])]
    assert time.monotonic() - began < 3


def test_trace_tells_where_the_time_went(db):
    """Tagged at 0; begun at 100, done at 350; a reply at 340 ms, one of that at 1340.5."""
    at = "timestamptz '2026-01-01 12:00:00+00' + interval '{} ms'"
    db.cluster.admin("SET session_replication_role = replica",
                     "ALTER TABLE ad_strands DISABLE TRIGGER ALL", "ALTER TABLE dm_strands DISABLE TRIGGER ALL", name=db.name)
    for table, strand_id, origin, ms in (("AD_strands", "A", None, 0), ("DM_strands", "D", "A", 340), ("DM_strands", "E", "D", 1340.5)):
        tags = [f"original_strand:{origin}"] if origin else ["dm:evaluate_plan"]
        db.execute(f"INSERT INTO {table} (id, tags, tagged_at) VALUES (%s, %s, {at.format(ms)})", (strand_id, json.dumps(tags)))
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, started_at, finished_at)"
               f" SELECT route, 'A', 'done', {at.format(100)}, {at.format(350)} FROM dm_routes WHERE tag = 'dm:evaluate_plan'")
    root, = rows(private.strandctl(db, "--json", "trace", "E"))
    receipt, = root["receipts"]
    assert (receipt["wait_ms"], receipt["run_ms"], receipt["hop_ms"]) == (100, 250, 350)
    assert (root["after_ms"], root["since_root_ms"]) == (None, 0)
    reply, = root["children"]
    assert (reply["after_ms"], reply["since_root_ms"]) == (340, 340)
    assert (reply["children"][0]["after_ms"], reply["children"][0]["since_root_ms"]) == (1000.5, 1340.5)
    said = ok(private.strandctl(db, "trace", "E")).stdout
    assert "dm:evaluate_plan done 350.0 ms (waited 100.0, ran 250.0)" in said and "AFTER MS" in said and " 1000.500 " in said
    # what has no end in time is no number
    db.execute("UPDATE DM_strands SET tagged_at = 'infinity' WHERE id = 'D'")
    db.execute("UPDATE dm_receipts SET started_at = NULL")
    root, = rows(private.strandctl(db, "--json", "trace", "E"))
    assert root["receipts"][0]["run_ms"] is None and root["receipts"][0]["hop_ms"] == 350
    assert root["children"][0]["after_ms"] is None and root["children"][0]["children"][0]["since_root_ms"] == 1340.5


def test_trace_what_is_not_there(db):
    refused(private.strandctl(db, "trace", "nothing"), 3, "nothing")
    refused(private.strandctl(db, "trace"), 2, "id of a strand")


# --- status


def route(done, tag):
    server, = rows(done)
    return next(r for r in server["routes"] if r["tag"] == tag)


def test_status(db, daemon):
    service.publish_many(db, "AD_strands", "s", 50, ["dm:evaluate_plan"])
    line = route(private.strandctl(db, "--json", "status"), "dm:evaluate_plan")
    assert (line["pending"], line["pending_is_bound"], line["done"], line["state"]) == (50, False, 0, "attached")
    assert line["oldest_waiting"] and 0 <= line["oldest_age_s"] < 60
    daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.reply")])
    private.wait_until(lambda: service.count_receipts(db, "dm", "dm:evaluate_plan") == 50, 15)
    line = route(private.strandctl(db, "--json", "status", user=private.SERVICE), "dm:evaluate_plan")
    assert (line["pending"], line["done"], line["oldest_waiting"]) == (0, 50, None)
    said = ok(private.strandctl(db, "status")).stdout
    assert db.name in said and "dm:evaluate_plan" in said and "SCHEMA VERSION" in said


def test_status_counts_have_bounds(db):
    service.publish_many(db, "AD_strands", "s", 30000, ["dm:evaluate_plan"])
    began = time.monotonic()
    line = route(private.strandctl(db, "--json", "status"), "dm:evaluate_plan")
    assert (line["pending"], line["pending_is_bound"]) == (1000, True)
    assert "1000+" in ok(private.strandctl(db, "status")).stdout
    assert time.monotonic() - began < 5


def test_status_sees_the_newest_behind_many_settled_ones(db):
    """The position may lag, behind an old transaction say."""
    service.publish_many(db, "AD_strands", "s", 25000, ["dm:evaluate_plan"])
    db.execute("INSERT INTO dm_receipts (route, strand_id, state) SELECT o.route, s.id, 'done' FROM AD_strands s, dm_routes o"
               " WHERE o.tag = 'dm:evaluate_plan'")
    service.publish_many(db, "AD_strands", "new", 3, ["dm:evaluate_plan"])
    line = route(private.strandctl(db, "--json", "status"), "dm:evaluate_plan")
    assert (line["pending"], line["pending_is_bound"]) == (3, True)
    assert (line["done"], line["settled_is_bound"]) == (20000, True)


def test_status_tells_detached_unfinished_and_foreign_routes(db):
    ok(private.strandctl(db, "detach", "--tag", "dm:execution_feedback", "--source", "TR_strands"))
    service.publish(db, "AD_strands", "old", ["dm:new"])
    db.attach("dm:new", "AD_strands", "DM_strands", history=False)
    done = private.strandctl(db, "--json", "status")
    assert route(done, "dm:execution_feedback")["state"] == "detached"
    assert route(done, "dm:new")["state"] == "history unfinished"
    assert route(done, "dm:new")["pending"] == 0
    db.execute("UPDATE tr_routes SET database_identifier = '1'")
    done = private.strandctl(db, "--json", "status")
    assert route(done, "trader:execute_plan")["state"] == "not adopted"
    assert json.loads(done.stdout)["server"][0]["adopted"] is False and "strandctl adopt" in done.stderr
