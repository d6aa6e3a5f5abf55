"""strandctl resume, and how status, read and trace show a suspended route."""

import json
import select

import pytest

import cluster as private
import service
from ctl_support import ok, refused, rows

pytestmark = pytest.mark.usefixtures("build")

TAG = "dm:evaluate_plan"


def suspend(db, prefix="dm", tag=TAG):
    db.execute(f"UPDATE {prefix}_routes SET suspended_at = now(), suspended_error = E'function trading.f(jsonb)\\ndoes not exist',"
               " suspended_sqlstate = '42883' WHERE tag = %s", (tag,))


def suspended(db):
    return {r[0] for r in db.execute("SELECT tag FROM strandd.routes() WHERE suspended_at IS NOT NULL")}


def resume(db, *args):
    return private.strandctl(db, "resume", *args)


def test_resume_one(db):
    suspend(db)
    suspend(db, "tr", "trader:execute_plan")
    said = ok(resume(db, TAG)).stdout
    assert "resumed" in said and "function trading.f(jsonb) does not exist" in said
    assert suspended(db) == {"trader:execute_plan"}
    assert db.execute("SELECT suspended_at, suspended_error, suspended_sqlstate FROM dm_routes WHERE tag = %s", (TAG,)) == [(None, None, None)]
    assert "is not suspended" in ok(resume(db, "--tag", TAG, "--source", "AD_strands")).stdout


def test_resume_all(db):
    assert "no route is suspended" in ok(resume(db, "--all")).stdout
    suspend(db)
    suspend(db, "tr", "trader:execute_plan")
    found = rows(resume(db, "--all", "--json"))
    assert {r["tag"] for r in found} == {TAG, "trader:execute_plan"} and all(r["was_suspended"] for r in found)
    assert not suspended(db)


def test_daemons_are_told(db):
    listener = db.connect()
    db.execute('LISTEN "strandd:routes"', conn=listener)
    suspend(db)
    ok(resume(db, TAG))
    assert select.select([listener], [], [], 5)[0]
    listener.poll()
    assert [n.channel for n in listener.notifies] == ["strandd:routes"]


def test_unknown_routes_and_bad_arguments(db):
    suspend(db)
    refused(resume(db, "dm:evaluate_plans"), 3, "did you mean dm:evaluate_plan")
    refused(resume(db, TAG, "xyz:nothing_near"), 3, "xyz:nothing_near")
    refused(resume(db, TAG, "--source", "DM_strands"), 3, "dm_strands")
    refused(resume(db, TAG, "--source", "DM_strnds"), 2, "dm_strands")
    refused(resume(db, TAG, "--receiver", "TR_strands"), 3)
    refused(resume(db), 2, "--all")
    refused(resume(db, "--all", TAG), 2, "--all")
    # nothing is resumed when one of them is unknown
    assert suspended(db) == {TAG}


def test_status_names_suspended_routes_first(db):
    suspend(db)
    lines = ok(private.strandctl(db, "status")).stdout.splitlines()
    for word in (TAG, "ad_strands", "dm_strands", "42883", "does not exist", "strandctl resume"):
        assert word in lines[0], lines
    status, = rows(private.strandctl(db, "status", "--json"))
    by_tag = {r["tag"]: r for r in status["routes"]}
    assert by_tag[TAG]["state"] == "suspended" and by_tag[TAG]["suspended_at"]
    assert by_tag[TAG]["suspended_error"] == "function trading.f(jsonb) does not exist"
    assert by_tag[TAG]["suspended_sqlstate"] == "42883"
    assert by_tag["trader:execute_plan"]["suspended_at"] is None
    ok(resume(db, "--all"))
    assert "suspended" not in ok(private.strandctl(db, "status")).stdout


def test_status_counts_what_failed_and_what_waits(db):
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, marked, finished_at, due_at, attempt)"
               " SELECT route, 'AD_' || i, CASE WHEN i <= 7 THEN 'failed' WHEN i <= 10 THEN 'expired' ELSE 'retry' END, i <= 4,"
               " now(), CASE WHEN i > 10 THEN timestamptz '2030-01-01 00:00:00+00' + i * interval '1 s' END, 1"
               " FROM dm_routes, generate_series(1, 12) i WHERE tag = %s", (TAG,))
    status, = rows(private.strandctl(db, "status", "--json"))
    row, = (r for r in status["routes"] if r["tag"] == TAG)
    assert (row["failed"], row["expired"], row["unmarked"], row["retry"]) == (7, 3, 6, 2)
    assert row["next_due"].startswith("2030-01-01 00:00:11")
    said = ok(private.strandctl(db, "status")).stdout
    assert "7 failed" in said and "3 expired" in said and "2 retry" in said and "2030-01-01 00:00:11" in said


def test_read_and_trace_show_what_waits(db):
    for i in (1, 2):
        service.publish(db, "AD_strands", f"AD_{i}", [TAG])
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at, error, sqlstate)"
               " SELECT route, 'AD_1', 'retry', 2, timestamptz '2030-01-01 00:00:00+00', 'no luck', 'P0001' FROM dm_routes"
               " WHERE tag = %s", (TAG,))
    for command in ("read", "trace"):
        said = ok(private.strandctl(db, command, "AD_1")).stdout
        assert "retry" in said and "2030-01-01 00:00:00" in said and "[P0001] no luck" in said, said
    suspend(db)
    for command in ("read", "trace"):
        for i in (1, 2):
            assert "suspended" in ok(private.strandctl(db, command, f"AD_{i}")).stdout
    receipt, = rows(private.strandctl(db, "read", "AD_1", "--json"))[0]["receipts"]
    assert receipt["state"] == "retry" and receipt["due_at"] and receipt["route_suspended"] is True
    assert "long_id" not in receipt
    assert json.loads(ok(private.strandctl(db, "trace", "AD_2", "--json")).stdout)


def test_a_broken_handler_is_mended(db, daemon, wait_until):
    """Suspended by a daemon, named by status, resumed by hand: at once, and nothing was
    charged to a strand.  It cannot be by a probe, as the one strand is held."""
    service.function(db, "BEGIN PERFORM missing(strand); END", name="test.h")
    d = daemon(routes=[(TAG, "AD_strands", "test.h")], conf={"scan": {"interval": "1h"}})
    service.publish(db, "AD_strands", "AD_1", [TAG])
    wait_until(lambda: suspended(db) == {TAG}, 20)
    first = ok(private.strandctl(db, "status")).stdout.splitlines()[0]
    assert first.startswith("SUSPENDED: " + TAG) and "42883" in first and "missing(jsonb)" in first
    for command in ("read", "trace"):
        assert "route suspended" in ok(private.strandctl(db, command, "AD_1")).stdout
    holder = db.connect()
    db.execute("SELECT pg_advisory_lock(hashtextextended('AD_1', strandd.lock_seed('dm_receipts', route))) FROM dm_routes WHERE tag = %s",
               (TAG,), holder)
    service.function(db, "BEGIN INSERT INTO test.calls (handler, id) VALUES ('h', strand->>'id'); END", name="test.h")
    ok(resume(db, TAG))
    d.wait_log("route resumed, as its row in the database says")
    assert not suspended(db) and "its handler works again" not in d.log()
    holder.close()
    r = service.final(db, "dm", "AD_1", TAG)
    assert (r["state"], r["attempt"]) == ("done", 1)
