"""strandctl withdraw: unread strands are taken off their routes, and none of them
is both withdrawn and handled."""

import json
import subprocess
import threading

import pytest

import cluster as private
import service
from ctl_support import ok, refused, rows

pytestmark = pytest.mark.usefixtures("build")

TAG = "dm:evaluate_plan"
AD = [(TAG, "AD_strands", "test.reply")]


def withdraw(db, *args):
    return private.strandctl(db, "withdraw", *args)


def test_an_unread_strand(db, daemon):
    service.publish(db, "AD_strands", "AD_1", [TAG])
    assert "AD_1" in ok(withdraw(db, "AD_1")).stdout
    r = service.receipt(db, "dm", "AD_1", TAG)
    assert r["state"] == "withdrawn" and r["finished_at"] and r["attempt"] == 0 and r["due_at"] is None
    service.publish(db, "AD_strands", "AD_2", [TAG])
    daemon(routes=AD)
    assert service.final(db, "dm", "AD_2", TAG)["state"] == "done"
    assert service.receipt(db, "dm", "AD_1", TAG)["state"] == "withdrawn"
    assert db.value("SELECT count(*) FROM DM_strands") == 1


def test_json(db):
    service.publish(db, "AD_strands", "AD_1", [TAG])
    row, = rows(withdraw(db, "--json", "AD_1"))
    assert row == {"id": "AD_1", "table": "ad_strands", "tag": TAG, "receiver": "dm_strands", "withdrawn": True,
                   "state": "withdrawn"}
    done = withdraw(db, "--json", "AD_1")
    refused(done, 1, "withdrawn already")
    assert json.loads(done.stdout)["withdrawn"][0]["withdrawn"] is False


@pytest.mark.parametrize("state, words", [
    ("done", "done already"), ("failed", "failed discard"), ("expired", "failed discard"),
    ("withdrawn", "withdrawn already"), ("skipped", "history"), ("running", "being handled now")])
def test_a_settled_strand_stays_as_it_is(db, state, words):
    service.publish(db, "AD_strands", "AD_1", [TAG])
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, finished_at) SELECT route, 'AD_1', %s, now()"
               " FROM dm_routes WHERE tag = %s", (state, TAG))
    before = service.receipt(db, "dm", "AD_1", TAG)
    refused(withdraw(db, "AD_1"), 1, "AD_1", TAG, words)
    assert service.receipt(db, "dm", "AD_1", TAG) == before


def test_one_that_waits_for_a_retry(db):
    service.publish(db, "AD_strands", "AD_1", [TAG])
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at, error) SELECT route, 'AD_1', 'retry', 2,"
               " now() + interval '1 h', 'once' FROM dm_routes WHERE tag = %s", (TAG,))
    ok(withdraw(db, "AD_1"))
    r = service.receipt(db, "dm", "AD_1", TAG)
    assert (r["state"], r["attempt"], r["due_at"], r["error"]) == ("withdrawn", 2, None, "once")


def test_history_is_nothing_to_withdraw(db):
    """Also where its receipt is not written yet."""
    db.execute("SELECT strandd.detach(%s, 'ad_strands', 'dm_strands')", (TAG,))
    service.publish(db, "AD_strands", "AD_old", [TAG])
    refused(withdraw(db, "AD_old"), 1, "bears no tag of a route")
    route = db.attach(TAG, "AD_strands", "DM_strands", history=False)
    refused(withdraw(db, "AD_old"), 1, "history")
    assert db.value("SELECT count(*) FROM dm_receipts") == 0
    db.finish_history("DM_strands", route)
    refused(withdraw(db, "AD_old"), 1, "history")


def test_one_of_two_routes(db, daemon):
    """A strand of DM's for alpha and for the trader."""
    service.publish(db, "DM_strands", "DM_1", ["alpha:decision_feedback", "trader:execute_plan"])
    refused(withdraw(db, "DM_1", "--tag", TAG), 1, "does not bear", TAG)
    said = ok(withdraw(db, "DM_1", "--tag", "trader:execute_plan", "--table", "DM_strands")).stdout
    assert "tr_strands" in said and "ad_strands" not in said
    daemon(routes=[("alpha:decision_feedback", "DM_strands", "test.nothing"),
                   ("trader:execute_plan", "DM_strands", "test.reply")])
    assert service.final(db, "ad", "DM_1", "alpha:decision_feedback")["state"] == "done"
    assert service.receipt(db, "tr", "DM_1", "trader:execute_plan")["state"] == "withdrawn"


def test_what_is_not_there(db):
    refused(withdraw(db, "nothing"), 3, "nothing", "ad_strands", "dm_strands", "tr_strands")
    service.publish(db, "DM_strands", "DM_1", ["trader:execute_plan"])
    refused(withdraw(db, "DM_1", "--table", "AD_strands"), 3, "DM_1", "ad_strands")
    refused(withdraw(db, "DM_1", "--tag", "trader:execute_plans"), 3, "did you mean trader:execute_plan")
    refused(withdraw(db, "DM_1", "--table", "DM_strnds"), 2, "dm_strands")
    refused(withdraw(db), 2, "id")
    done = withdraw(db, "--json", "nothing")
    refused(done, 3)
    assert json.loads(done.stdout) == {"withdrawn": []}
    # the others are withdrawn all the same
    refused(withdraw(db, "nothing", "DM_1"), 3)
    assert service.receipt(db, "tr", "DM_1", "trader:execute_plan")["state"] == "withdrawn"
    service.publish(db, "AD_strands", "AD_plain", ["word"])
    refused(withdraw(db, "AD_plain"), 1, "bears no tag of a route")


def test_a_long_id(db, daemon):
    long = "x" * 2000
    service.publish(db, "AD_strands", long, [TAG])
    ok(withdraw(db, long))
    assert db.execute("SELECT state, long_id = %s, strand_id LIKE 'sha256:%%' FROM dm_receipts", (long,)) == [("withdrawn", True, True)]
    daemon(routes=AD)
    service.publish(db, "AD_strands", "AD_2", [TAG])
    service.final(db, "dm", "AD_2", TAG)
    assert db.value("SELECT count(*) FROM DM_strands") == 1


def test_one_that_is_being_handled(db, daemon, held, wait_until):
    """The claim's lock is the withdrawal's: refused while the handler runs."""
    daemon(routes=[(TAG, "AD_strands", "test.held")])
    service.publish(db, "AD_strands", "AD_1", [TAG], kind="held")
    wait_until(lambda: held.count() == 1)
    refused(withdraw(db, "AD_1"), 1, "being handled now")
    held.release()
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"
    refused(withdraw(db, "AD_1"), 1, "done already")
    assert service.calls(db) == {"AD_1": 1}


def test_withdrawn_while_they_flow(db, daemon, wait_until, tmp_path):
    """A thousand strands, withdrawn by two sessions while a daemon handles them: each
    is withdrawn with no reply, or done with one."""
    n = 1000
    hold = tmp_path / "hold"
    hold.touch()
    daemon(routes=AD, conf={"workers": {"threads": 2, "batch": 20}}, failpoints=f"worker.take=hold:{hold}")
    ids = [f"AD_{i}" for i in range(1, n + 1)]
    told = {}

    def work(mine):
        done = subprocess.run([*private.program("strandctl"), "--dbname", db.dsn(), "--json", "withdraw", *mine],
                              capture_output=True, text=True, check=False)
        for row in json.loads(done.stdout)["withdrawn"]:
            told[row["id"]] = row["withdrawn"]
        assert done.returncode in (0, 1), done.stderr

    # so that there is something to withdraw: the daemon is held up a little
    service.function(db, "BEGIN PERFORM pg_sleep(0.002); RETURN QUERY SELECT jsonb_build_object('kind', 'reply',"
                         " 'symbol', strand->>'id'); END", name="test.reply")
    threads = [threading.Thread(target=work, args=(mine,)) for mine in (ids[: n // 2], ids[n // 2:][::-1])]
    service.publish_many(db, "AD_strands", "AD_", n, [TAG])
    for t in threads:
        t.start()
    wait_until(lambda: service.count_receipts(db, "dm", TAG), interval=0.002)
    hold.unlink()
    for t in threads:
        t.join()
    wait_until(lambda: service.count_receipts(db, "dm", TAG) == n, 30)
    states = service.states(db, "dm", TAG)
    replies = dict(db.execute("SELECT symbol, count(*) FROM DM_strands GROUP BY symbol"))
    assert set(states) == set(ids) and set(states.values()) == {"done", "withdrawn"}, set(states.values())
    assert replies == {i: 1 for i, state in states.items() if state == "done"}
    assert len(told) == n
    assert {i for i, yes in told.items() if yes} == {i for i, state in states.items() if state == "withdrawn"}


def test_an_empty_id_is_refused(db):
    refused(withdraw(db, ""), 2, "empty", "id of a strand")
    refused(private.strandctl(db, "read", ""), 2, "empty", "id of a strand")
    refused(private.strandctl(db, "resume", ""), 2, "empty", "tag")
