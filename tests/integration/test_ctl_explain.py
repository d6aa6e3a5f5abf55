"""strandctl explain: every reason why a strand does not run."""

import json
import re
import time

import pytest

import cluster as private
import policy_support as p
import process_support as process
import service
from ctl_support import ok, on_screen, refused, rows

pytestmark = pytest.mark.usefixtures("build")

PLAN = p.PLAN


def explain(db, *args, **options):
    return rows(private.strandctl(db, "--json", "explain", *args, **options))


def reasons(db, *args):
    """{tag: reason}"""
    return {line["tag"]: line["reason"] for line in explain(db, *args)}


def set_receipt(db, strand_id, state, **columns):
    columns = {"route": db.value("SELECT route FROM dm_routes WHERE tag = %s", (PLAN,)), "strand_id": strand_id, "state": state, **columns}
    db.execute(f"INSERT INTO dm_receipts ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})", list(columns.values()))


def alive(db):
    """An instance of strandd that lives and does nothing: its number, its connection."""
    conn = db.connect(application_name="strandd")
    number = db.value("SELECT nextval('strandd.instance_seq')")
    assert db.value("SELECT pg_try_advisory_lock(hashtextextended('strandd instance ' || %s, 6005))", (number,), conn)
    return number, conn


# --- not taken


def test_nobody_serves_and_nobody_took_it(db):
    p.publish(db, "A")
    line, = explain(db, "A")
    assert (line["source"], line["tag"], line["receiver"], line["receipt"]) == ("ad_strands", PLAN, "dm_strands", None)
    assert line["reason"] == "no_service" and "start strandd" in line["remedy"] and line["tagged_at"]
    _, conn = alive(db)
    assert reasons(db, "A") == {PLAN: "waiting"}
    conn.close()
    private.wait_until(lambda: reasons(db, "A") == {PLAN: "no_service"}, 5)


def test_tags_that_nobody_receives(db):
    alive(db)
    service.publish(db, "AD_strands", "A", ["dm:evalute_plan", "dm:evaluate_plan", "priority:high", "word"])
    assert reasons(db, "A") == {"dm:evaluate_plan": "waiting", "dm:evalute_plan": "no_route"}
    assert "did you mean dm:evaluate_plan?" in next(r["remedy"] for r in explain(db, "A") if r["reason"] == "no_route")
    for strand_id, tags in (("none", []), ("attributes", ["priority:high"]), ("odd", {"dm:evaluate_plan": 1}), ("null", None)):
        service.publish(db, "AD_strands", strand_id, tags)
        assert reasons(db, strand_id) == {None: "no_tag"}
    # a route of another table is none of this one's
    service.publish(db, "TR_strands", "T", [PLAN])
    assert reasons(db, "T") == {PLAN: "no_route"}


def test_routes_that_serve_nobody(db):
    alive(db)
    p.publish(db, "A")
    db.execute("UPDATE dm_routes SET suspended_at = now(), suspended_error = 'no such function', suspended_sqlstate = '42883'")
    line, = explain(db, "A")
    assert line["reason"] == "suspended" and (line["error"], line["sqlstate"]) == ("no such function", "42883")
    db.execute("UPDATE dm_routes SET suspended_at = NULL, database_identifier = '1'")
    assert reasons(db, "A") == {PLAN: "not_adopted"}
    db.execute("UPDATE dm_routes SET database_identifier = strandd.database_identifier()")
    ok(private.strandctl(db, "detach", "--tag", PLAN, "--source", "AD_strands"))
    assert reasons(db, "A") == {PLAN: "detached"}


def test_history_that_has_no_receipt_yet(db):
    alive(db)
    service.publish(db, "AD_strands", "old", ["dm:new"])
    db.attach("dm:new", "AD_strands", "DM_strands", history=False)
    service.publish(db, "AD_strands", "new", ["dm:new"])
    assert (reasons(db, "old"), reasons(db, "new")) == ({"dm:new": "history"}, {"dm:new": "waiting"})
    ok(private.strandctl(db, "attach", "--tag", "dm:new", "--source", "AD_strands", "--receiver", "DM_strands"))
    assert reasons(db, "old") == {"dm:new": "skipped"}


def test_what_no_scan_finds(db):
    alive(db)
    p.publish(db, "A")
    db.execute("UPDATE dm_routes SET position = pg_snapshot_xmax(pg_current_snapshot()) WHERE tag = %s", (PLAN,))
    assert reasons(db, "A") == {PLAN: "below_position"}
    p.publish(db, "B")
    assert reasons(db, "B") == {PLAN: "waiting"}
    db.cluster.admin("SET session_replication_role = replica; ALTER TABLE ad_strands DISABLE TRIGGER ALL;"
                     " UPDATE ad_strands SET xact_id = '1000000000' WHERE id = 'B'", name=db.name)
    assert reasons(db, "B") == {PLAN: "foreign"}


def test_past_its_timeout(db):
    alive(db)
    p.publish(db, "A", tags=["timeout:0.001"])
    p.publish(db, "B", tags=["timeout:1000"])
    time.sleep(0.01)
    assert (reasons(db, "A"), reasons(db, "B")) == ({PLAN: "timed_out"}, {PLAN: "waiting"})


# --- taken


def test_in_the_hand_of_a_handler(db, daemon, held):
    daemon(routes=[(PLAN, "AD_strands", "test.held")])
    service.publish(db, "AD_strands", "A", [PLAN], kind="held")
    private.wait_until(lambda: held.count() == 1, 15)
    pid, = held.pids()
    line, = explain(db, "A", user="postgres")
    assert (line["reason"], line["holder_pid"], line["receipt"]) == ("held", pid, None)
    assert "strandd" in line["in_hand_of"] and private.SERVICE in line["in_hand_of"] and "transaction open for" in line["in_hand_of"]
    # one who may not look into others' sessions learns the process at least
    line, = explain(db, "A")
    assert (line["reason"], line["holder_pid"]) == ("held", pid) and f"process {pid}, {private.SERVICE}, strandd" in line["in_hand_of"]
    held.release()
    service.final(db, "dm", "A", PLAN)
    line, = explain(db, "A", user=private.SERVICE)
    assert line["reason"] == "done" and line["instance"] and line["attempt"] == 1
    assert line["remedy"] is None and line["finished_at"] > line["started_at"] >= line["tagged_at"]


def test_behind_another_batch_of_a_serial_route(db, daemon, held):
    daemon(routes=[{"tag": PLAN, "source": "AD_strands", "handler": "test.held", "serial": True}])
    service.publish(db, "AD_strands", "A", [PLAN], kind="held")
    private.wait_until(lambda: held.count() == 1, 15)
    p.publish(db, "B")
    pid, = held.pids()
    line, = explain(db, "B")
    assert line["reason"] == "turn" and f"process {pid}, {private.SERVICE}, strandd" in line["turn_is_with"]
    line, = explain(db, "A")
    assert (line["reason"], line["holder_pid"], line["turn_is_with"]) == ("held", pid, None)
    held.release()
    service.final(db, "dm", "B", PLAN)
    line, = explain(db, "B")
    assert (line["reason"], line["turn_is_with"]) == ("done", None)


def test_leased_by_the_living_and_the_dead(db):
    number, conn = alive(db)
    p.publish(db, "A")
    set_receipt(db, "A", "running", instance=number, attempt=2)
    line, = explain(db, "A", user="postgres")
    assert (line["reason"], line["receipt"], line["attempt"], line["instance"], line["instance_alive"]) == ("running", "running", 2, number, True)
    assert str(conn.info.backend_pid) in line["instance_is"] and "strandd" in line["instance_is"]
    other, _ = alive(db)
    conn.close()
    private.wait_until(lambda: explain(db, "A")[0]["reason"] == "orphaned", 5)
    line, = explain(db, "A")
    assert (line["instance"], line["instance_alive"], line["instance_is"]) == (number, False, None) and other != number


def test_leased_by_a_daemon_that_dies(db, daemon, wait_until):
    """With processes: the lock of strandd's own keeper is what is looked for."""
    d = process.serve(db, daemon, attempts=3)
    p.publish(db, "A", "sleep", "20")
    wait_until(lambda: process.calls(db).get("A"))
    line, = explain(db, "A")
    assert (line["reason"], line["receipt"], line["instance_alive"], line["in_hand_of"]) == ("running", "running", True, None)
    assert re.fullmatch(rf"process \d+, {private.SERVICE}, strandd", line["instance_is"])
    d.kill()
    wait_until(lambda: explain(db, "A")[0]["reason"] == "no_service", 10)
    alive(db)
    line, = explain(db, "A")
    assert (line["reason"], line["instance_alive"], line["instance_is"]) == ("orphaned", False, None)


def test_retries(db, daemon, wait_until):
    d = p.serve(db, daemon, attempts=5, backoff={"initial": "100s", "cap": "100s"})
    p.publish(db, "A", "raise")
    wait_until(lambda: service.receipt(db, "dm", "A", PLAN))
    line, = explain(db, "A")
    assert (line["reason"], line["receipt"], line["attempt"], line["sqlstate"]) == ("retry", "retry", 1, "P0001")
    assert "asked to fail" in line["error"] and 0 < line["due_in_s"] <= 100 and line["due_at"]
    d.stop()
    assert reasons(db, "A") == {PLAN: "no_service"}
    alive(db)
    db.execute("UPDATE dm_receipts SET due_at = now() - interval '1 s'")
    line, = explain(db, "A")
    assert line["reason"] == "retry_due" and line["due_in_s"] < 0
    db.execute("UPDATE dm_routes SET suspended_at = now()")
    assert reasons(db, "A") == {PLAN: "suspended"}


# --- settled


@pytest.mark.parametrize("state, sqlstate, reason, word", [
    ("failed", "P0001", "failed", "failed retry"), ("failed", "SROUT", "outcome_unknown", "--force"),
    ("expired", None, "expired", "new strand"), ("withdrawn", None, "withdrawn", "new strand"), ("skipped", None, "skipped", "new strand")])
def test_settled(db, state, sqlstate, reason, word):
    p.publish(db, "A")
    set_receipt(db, "A", state, sqlstate=sqlstate, error="why it is", finished_at="now()")
    line, = explain(db, "A")
    assert (line["reason"], line["error"], line["sqlstate"]) == (reason, "why it is", sqlstate) and word in line["remedy"]


def test_tagged_again_after_its_receipt(db):
    p.publish(db, "A")
    set_receipt(db, "A", "done", finished_at="now()")
    assert reasons(db, "A") == {PLAN: "done"}
    # the same tag once more sends nothing, and is no news
    db.execute("UPDATE AD_strands SET tags = '[\"dm:evaluate_plan\", \"priority:high\"]' WHERE id = 'A'")
    assert reasons(db, "A") == {PLAN: "done"}
    db.execute("DELETE FROM AD_strands WHERE id = 'A'")
    assert reasons(db, "A") == {PLAN: "gone"}
    p.publish(db, "A")
    line, = explain(db, "A")
    assert line["reason"] == "tagged_again" and "new id" in line["remedy"]


def test_another_tag_is_not_the_same_again(db):
    """Pattern 3: DM_strands get trader:execute_plan later."""
    alive(db)
    service.publish(db, "DM_strands", "D", ["alpha:decision_feedback"])
    db.execute("INSERT INTO ad_receipts (route, strand_id, state, finished_at)"
               " SELECT route, 'D', 'done', now() FROM ad_routes WHERE tag = 'alpha:decision_feedback'")
    db.execute("UPDATE DM_strands SET tags = '[\"trader:execute_plan\"]' WHERE id = 'D'")
    assert reasons(db, "D") == {"alpha:decision_feedback": "done", "trader:execute_plan": "waiting"}


# --- how it is asked and told


def test_one_id_in_two_tables(db):
    p.publish(db, "same")
    service.publish(db, "TR_strands", "same", [])
    done = ok(private.strandctl(db, "--json", "explain", "same"))
    assert [r["source"] for r in json.loads(done.stdout)["explained"]] == ["ad_strands", "tr_strands"] and "--source" in done.stderr
    assert [r["source"] for r in explain(db, "same", "--source", "TR_strands")] == ["tr_strands"]


def test_what_is_not_there(db):
    done = private.strandctl(db, "--json", "explain", "nothing")
    assert "ad_strands, dm_strands, tr_strands" in refused(done, 3, "nothing") and json.loads(done.stdout) == {"explained": []}
    p.publish(db, "A")
    refused(private.strandctl(db, "explain", "A", "--source", "DM_strands"), 3, "dm_strands")
    refused(private.strandctl(db, "explain", "A", "--source", "AD_strnds"), 2, "ad_strands")
    refused(private.strandctl(db, "explain"), 2, "id of a strand")
    refused(private.strandctl(db, "explain", "A", user=private.PRODUCER), 1, "strandctl init --grant")


def test_a_hashed_receipt_and_odd_text(db):
    for odd in ("x" * 2000, 'a "b"\'\\c\td\ne é', "sha256:x"):
        p.publish(db, odd)
        db.execute("INSERT INTO dm_receipts (route, strand_id, state, error) SELECT route, strandd.receipt_key(%s), 'failed', 'two\nlines'"
                   " FROM dm_routes WHERE tag = %s", (odd, PLAN))
        line, = explain(db, odd)
        assert (line["id"], line["reason"], line["error"]) == (odd, "failed", "two\nlines")


@pytest.mark.parametrize("columns", [80, 40, 20])
def test_on_a_terminal(db, columns):
    p.publish(db, "AD_0123456789ab")
    set_receipt(db, "AD_0123456789ab", "failed", error="a long story of many words " * 5, sqlstate="P0001")
    lines = on_screen(db, "explain", "AD_0123456789ab", columns=columns)
    assert max(map(len, lines)) <= columns and len(lines) > 10, lines
    said = ok(private.strandctl(db, "explain", "AD_0123456789ab")).stdout
    assert "strandctl failed retry" in said and "P0001" in said and PLAN in said


def test_it_reads_by_key(db):
    """On tables that nobody analysed, and that are not small."""
    for table in ("ad_strands", "dm_receipts"):
        db.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    service.publish_many(db, "AD_strands", "A", 20000, [PLAN])
    db.execute("INSERT INTO dm_receipts (route, strand_id, state) SELECT o.route, s.id, 'done' FROM AD_strands s, dm_routes o WHERE o.tag = %s", (PLAN,))
    count = ("SELECT sum(n) FROM (SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname IN ('ad_strands', 'dm_receipts')"
             " UNION ALL SELECT idx_tup_read FROM pg_stat_user_indexes WHERE relname IN ('ad_strands', 'dm_receipts')) x (n)")
    db.execute("SELECT pg_stat_force_next_flush()")
    time.sleep(0.2)
    before = db.value(count)
    assert reasons(db, "A777") == {PLAN: "done"}
    refused(private.strandctl(db, "explain", "nothing"), 3)
    time.sleep(0.2)
    assert 0 < db.value(count) - before < 100
