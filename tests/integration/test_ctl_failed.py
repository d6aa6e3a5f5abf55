"""strandctl failed: what no handler could settle is listed, shown, retried and
discarded."""

import json
import os
import pty
import subprocess
import time

import pytest

import cluster as private
import policy_support as p
import service
from ctl_support import interrupt, ok, refused, rows, start

pytestmark = pytest.mark.usefixtures("build")

TAG = "dm:evaluate_plan"
EXECUTE = "trader:execute_plan"
AD = [(TAG, "AD_strands", "test.record")]


def failed(db, *args, **options):
    return private.strandctl(db, "failed", *args, **options)


def put(db, *ids, state="failed", tag=TAG, source="AD_strands", prefix="dm", age="0", error="no luck", sqlstate="P0001",
        tags=(), publish=True, marked=True):
    """Strands whose receipts say that they failed, with the mark."""
    mark = "error:processing_failed" if state == "failed" else "error:timeout"
    for strand_id in ids:
        if publish:
            service.publish(db, source, strand_id, [tag, *tags, *([mark] if marked else [])])
        db.execute(f"INSERT INTO {prefix}_receipts (route, strand_id, long_id, state, attempt, error, sqlstate, marked, finished_at)"
                   " SELECT route, strandd.receipt_key(%s), nullif(%s, strandd.receipt_key(%s)), %s, 5, %s, %s, %s,"
                   f" clock_timestamp() - %s::interval FROM {prefix}_routes WHERE tag = %s",
                   (strand_id, strand_id, strand_id, state, error, sqlstate, marked, age, tag))


def put_many(db, n, prefix="AD_", age="1 s", strands=True):
    if strands:
        db.execute("INSERT INTO AD_strands (id, tags) SELECT %s || i, '[\"dm:evaluate_plan\", \"error:processing_failed\"]'"
                   " FROM generate_series(1, %s) i", (prefix, n))
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, error, marked, finished_at)"
               " SELECT route, %s || i, 'failed', 5, 'no luck', true, clock_timestamp() - %s::interval"
               " FROM generate_series(1, %s) i, dm_routes WHERE tag = %s", (prefix, age, n, TAG))


def states(db):
    return dict(db.execute("SELECT coalesce(long_id, strand_id), state FROM dm_receipts"))


def tags(db, strand_id, table="AD_strands"):
    return db.value(f"SELECT tags FROM {table} WHERE id = %s", (strand_id,))


# --- list and show


def test_list_newest_first(db):
    put(db, "AD_1", age="1 h", error="a\nlong " + "x" * 500)
    put(db, "AD_2", state="expired", sqlstate=None, error=None)
    put(db, "DM_1", tag=EXECUTE, source="DM_strands", prefix="tr", age="1 min", sqlstate="23505")
    said = ok(failed(db, "list")).stdout
    assert said.index("AD_2") < said.index("DM_1") < said.index("AD_1")
    assert "x" * 150 in said and "x" * 300 not in said
    found = rows(failed(db, "list", "--json"))
    assert [(r["id"], r["table"], r["tag"], r["receiver"], r["state"], r["attempts"], r["sqlstate"]) for r in found] == [
        ("AD_2", "ad_strands", TAG, "dm_strands", "expired", 5, None),
        ("DM_1", "dm_strands", EXECUTE, "tr_strands", "failed", 5, "23505"),
        ("AD_1", "ad_strands", TAG, "dm_strands", "failed", 5, "P0001")]
    assert found[2]["error"] == "a\nlong " + "x" * 500 and found[0]["marked"] is True


@pytest.mark.parametrize("which, expected", [
    (["--tag", EXECUTE], {"DM_1"}),
    (["--table", "AD_strands"], {"AD_1", "AD_2", "AD_3"}),
    (["--source", "DM_strands"], {"DM_1"}),
    (["--older", "30min"], {"AD_1"}),
    (["--newer", "30min"], {"AD_2", "AD_3", "DM_1"}),
    (["--older", "10s", "--newer", "1.5h"], {"AD_1", "DM_1"}),
    (["--error", "DIVISION"], {"AD_1"}),
    (["--error", "100%_"], {"AD_3"}),
    (["--sqlstate", "22"], {"AD_1"}),
    (["--sqlstate", "22012"], {"AD_1"}),
    (["--sqlstate", "22000"], set()),
    (["--state", "expired"], {"AD_2"}),
    (["--state", "failed"], {"AD_1", "AD_3", "DM_1"}),
    (["--limit", "2"], {"AD_2", "AD_3"}),
    (["AD_1", "DM_1"], {"AD_1", "DM_1"}),
])
def test_selection(db, which, expected):
    put(db, "AD_1", age="1 h", error="division by zero", sqlstate="22012")
    put(db, "DM_1", tag=EXECUTE, source="DM_strands", prefix="tr", age="1 min")
    put(db, "AD_3", error="only 100%_ here", age="2 s")
    put(db, "AD_2", state="expired", sqlstate=None, error=None)
    assert {r["id"] for r in rows(failed(db, "list", "--json", *which))} == expected
    # the same ones are meant by what changes them
    counts = rows(failed(db, "discard", "--dry-run", "--json", *which))
    assert sum(r["selected"] for r in counts) == len(expected)
    ok(failed(db, "discard", "--yes", *which))
    gone = db.execute("SELECT strand_id FROM dm_receipts WHERE state = 'withdrawn' UNION ALL"
                      " SELECT strand_id FROM tr_receipts WHERE state = 'withdrawn'")
    assert {r[0] for r in gone} == expected


def test_show(db):
    long = "x" * 2000
    put(db, "AD_1", error="first line\nsecond line " + "y" * 600)
    put(db, long)
    said = ok(failed(db, "show", "AD_1")).stdout
    for word in ("first line", "second line", "y" * 600, "P0001", "error:processing_failed", "dm_strands", "(attempts)"):
        assert word in said, said
    one, = rows(failed(db, "show", "AD_1", "--json"))
    assert one["receipt"]["error"].startswith("first line\nsecond") and one["strand"]["id"] == "AD_1" and one["tag"] == TAG
    other, = rows(failed(db, "show", long, "--json"))
    assert other["receipt"]["strand_id"] == long and other["strand"]["id"] == long
    db.execute("DELETE FROM AD_strands WHERE id = 'AD_1'")
    assert "is gone" in ok(failed(db, "show", "AD_1")).stdout
    assert rows(failed(db, "show", "AD_1", "--json"))[0]["strand"] is None


def test_odd_errors_do_not_steer_a_terminal(db):
    put(db, "AD_1", error="\x1b[31mred")
    for verb in ("list", "show"):
        assert "\x1b" not in ok(failed(db, verb, "AD_1")).stdout


# --- bad arguments


@pytest.mark.parametrize("args, words", [
    ([], ["list"]), (["lst"], ["did you mean list"]), (["frobnicate"], ["retry"]), (["show"], ["id"]),
    (["list", "--older", "7"], ["--older 7", "7d"]), (["list", "--newer", "soon"], ["--newer soon"]),
    (["list", "--older", "-1s"], ["--older"]), (["list", "--state", "done"], ["--state done"]),
    (["list", "--sqlstate", "abc"], ["--sqlstate abc"]), (["list", "--limit", "0"], ["--limit 0"]),
    (["list", "--dry-run"], ["--dry-run"]), (["show", "x", "--dry-run"], ["--dry-run"]), (["list", "--yes"], ["--yes"]),
    (["show", "x", "-y"], ["--yes"]), (["show", ""], ["empty", "id"]), (["list", "--table", "AD_strnds"], ["ad_strands"]),
    (["list", "--older", "100000000000d"], ["--older"]),
])
def test_bad_arguments(db, args, words):
    refused(failed(db, *args), 2, *words)


def test_unknown_ids_and_tags(db):
    put(db, "AD_1")
    for verb in ("list", "show", "retry", "discard"):
        refused(failed(db, verb, "nothing", "AD_1"), 3, "nothing", "ad_strands")
        refused(failed(db, verb, "AD_1", "--tag", "dm:evaluate_plans"), 3, "did you mean dm:evaluate_plan")
        refused(failed(db, verb, "AD_1", "--tag", TAG, "--table", "DM_strands"), 3, TAG, "dm_strands")
    assert states(db) == {"AD_1": "failed"}


def test_ids_that_have_not_failed(db):
    put(db, "AD_1")
    service.publish(db, "AD_strands", "AD_2", [TAG])
    put(db, "AD_3", state="expired")
    db.execute("UPDATE dm_receipts SET state = 'done' WHERE strand_id = 'AD_3'")
    said = refused(failed(db, "retry", "AD_1", "AD_2", "AD_3"), 1, "AD_2", "AD_3", "done")
    assert "no route has a receipt" in said
    assert states(db) == {"AD_1": "retry", "AD_3": "done"}


def test_a_list_without_a_hit_says_so(db):
    done = ok(failed(db, "list"))
    assert done.stdout == "" and "nothing that has failed or expired is meant by this" in done.stderr
    assert rows(failed(db, "list", "--json")) == []
    put(db, "AD_1")
    assert ok(failed(db, "list")).stderr == ""
    assert "is meant by this" in ok(failed(db, "list", "--state", "expired")).stderr


# --- retry


def test_retry_puts_it_back(db):
    put(db, "AD_1", tags=["priority:high"])
    listener = db.connect()
    db.execute('LISTEN "strandd:routes"; LISTEN dm_evaluate_plan; LISTEN "dm_evaluate_plan:high"', conn=listener)
    before = db.execute("SELECT xact_id::text, tagged_at, updated_at FROM AD_strands")[0]
    row, = rows(failed(db, "retry", "AD_1", "--json"))
    assert (row["tag"], row["selected"], row["changed"], row["held"], row["gone"]) == (TAG, 1, 1, 0, 0)
    r = service.receipt(db, "dm", "AD_1", TAG)
    assert (r["state"], r["attempt"], r["marked"], r["finished_at"], r["error"]) == ("retry", 0, False, None, "no luck")
    assert db.value("SELECT due_at <= clock_timestamp() FROM dm_receipts")
    assert tags(db, "AD_1") == [TAG, "priority:high"]
    after = db.execute("SELECT xact_id::text, tagged_at, updated_at FROM AD_strands")[0]
    assert after[:2] == before[:2] and after[2] > before[2]
    listener.poll()
    assert {n.channel for n in listener.notifies} == {"strandd:routes"}


@pytest.mark.parametrize("odd", [None, "{}", '"x"', "42", "[[\"error:processing_failed\"]]", "[null, 1]"])
def test_odd_tags_are_left_alone(db, odd):
    """A strand that lost its tags (its route is detached, say) and its mark."""
    put(db, "AD_1", tags=["x"])
    db.execute("ALTER TABLE AD_strands DISABLE TRIGGER USER; UPDATE AD_strands SET tags = %s; ALTER TABLE AD_strands"
               " ENABLE TRIGGER USER", (odd,))
    ok(failed(db, "retry", "AD_1"))
    assert db.value("SELECT tags::text FROM AD_strands") == odd
    assert states(db) == {"AD_1": "retry"}


def test_the_mark_stays_while_another_route_has_failed(db):
    for state, mark in (("failed", "error:processing_failed"), ("expired", "error:timeout")):
        strand = "DM_" + state
        put(db, strand, state=state, tag=EXECUTE, source="DM_strands", prefix="tr", tags=["alpha:decision_feedback"])
        put(db, strand, state=state, tag="alpha:decision_feedback", prefix="ad", publish=False)
        ok(failed(db, "retry", strand, "--tag", EXECUTE))
        assert mark in tags(db, strand, "DM_strands")
        ok(failed(db, "retry", strand))
        assert mark not in tags(db, strand, "DM_strands")


def test_expired_ones_are_warned_of(db):
    put(db, "AD_1", state="expired")
    said = failed(db, "retry", "AD_1")
    ok(said)
    assert "had expired" in said.stderr and "write a new strand" in said.stderr
    assert tags(db, "AD_1") == [TAG]


def test_gone_detached_and_suspended(db):
    put(db, "AD_gone", "AD_1")
    db.execute("DELETE FROM AD_strands WHERE id = 'AD_gone'")
    refused(failed(db, "retry", "--yes"), 1, "gone", "discard")
    assert states(db) == {"AD_gone": "failed", "AD_1": "retry"}
    put(db, "AD_2")
    db.execute("UPDATE dm_routes SET suspended_at = now() WHERE tag = %s", (TAG,))
    assert "strandctl resume" in failed(db, "retry", "AD_2").stderr
    put(db, "AD_3")
    db.execute("SELECT strandd.detach(%s, 'ad_strands', 'dm_strands')", (TAG,))
    assert "detached" in failed(db, "retry", "AD_3").stderr
    assert states(db)["AD_3"] == "failed"
    ok(failed(db, "discard", "AD_3", "AD_gone"))
    assert states(db)["AD_3"] == states(db)["AD_gone"] == "withdrawn"


def test_strands_in_use_are_left(db):
    """A producer in the middle of its transaction, and a session with the strand's
    lock: neither is waited for."""
    put(db, "AD_1", "AD_2", "AD_3")
    producer, holder = db.connect(autocommit=False), db.connect(autocommit=False)
    db.execute("UPDATE AD_strands SET kind = 'x' WHERE id = 'AD_1'", conn=producer)
    db.execute("SELECT pg_advisory_xact_lock(hashtextextended('AD_2', strandd.lock_seed('dm_receipts', (SELECT route FROM dm_routes"
               " WHERE tag = %s))))", (TAG,), conn=holder)
    began = time.monotonic()
    done = failed(db, "retry", "--yes", "--json")
    refused(done, 1, "2 of them are held by other sessions")
    assert time.monotonic() - began < 3
    assert json.loads(done.stdout)["retried"][0]["changed"] == 1
    assert states(db) == {"AD_1": "failed", "AD_2": "failed", "AD_3": "retry"}
    producer.rollback()
    holder.rollback()
    ok(failed(db, "retry", "--yes"))
    assert set(states(db).values()) == {"retry"}


def test_without_the_right_nothing_is_said_to_be_done(db):
    put(db, "AD_1", "AD_2")
    for more in ([], ["--json"]):
        done = failed(db, "retry", "--yes", *more, user=private.SERVICE)
        said = refused(done, 1, "permission denied")
        assert "held" not in said and "retried" not in said and done.stdout == ""
    assert set(states(db).values()) == {"failed"}


def test_a_trigger_of_the_users_that_waits(db):
    """Our transaction gives up, not the producer's."""
    put(db, "AD_1", "AD_2")
    db.execute("CREATE TABLE counter (n int); INSERT INTO counter VALUES (0);"
               "CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
               " IF NEW.id = 'AD_1' THEN UPDATE counter SET n = n + 1; END IF; RETURN NULL; END $$;"
               "CREATE TRIGGER counted AFTER UPDATE ON AD_strands FOR EACH ROW EXECUTE FUNCTION count_it()")
    other = db.connect(autocommit=False)
    db.execute("UPDATE counter SET n = 7", conn=other)
    refused(failed(db, "retry", "--yes"), 1, "1 of them are held")
    assert states(db) == {"AD_1": "failed", "AD_2": "retry"}
    other.commit()
    ok(failed(db, "retry", "AD_1"))
    assert db.value("SELECT n FROM counter") == 8


def test_pages_limits_and_repeats(db):
    put_many(db, 950)
    put(db, "AD_new")
    row, = rows(failed(db, "retry", "--yes", "--json", "--limit", "500"))
    assert row["changed"] == 500 and states(db)["AD_new"] == "retry"
    row, = rows(failed(db, "retry", "--yes", "--json"))
    assert row["changed"] == 451
    assert set(states(db).values()) == {"retry"}
    assert db.value("SELECT count(*) FROM AD_strands WHERE tags @> '[\"error:processing_failed\"]'") == 0
    done = failed(db, "retry", "--yes")
    assert "nothing" in ok(done).stdout


# --- asking


def test_bulk_wants_yes_without_a_terminal(db):
    put(db, "AD_1", "AD_2")
    refused(failed(db, "retry"), 2, "2 strands", "--yes")
    refused(failed(db, "discard", "--tag", TAG), 2, "--yes")
    assert set(states(db).values()) == {"failed"}
    ok(failed(db, "discard", "AD_1"))
    said = ok(failed(db, "retry", "--dry-run")).stdout
    assert "1 would be retried" in said and "AD_2" in said
    assert states(db) == {"AD_1": "withdrawn", "AD_2": "failed"}


def answered(db, answer, *args):
    """Standard input and error on a terminal; (exit code, what the terminal got)."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*private.program("strandctl"), "--dbname", db.dsn(), "failed", *args], stdin=theirs,
                               stdout=subprocess.PIPE, stderr=theirs, preexec_fn=private.die_with_parent)
    os.close(theirs)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(ours, 4096)
    os.write(ours, answer)
    process.communicate(timeout=20)
    os.close(ours)
    return process.returncode, shown.decode()


def test_a_terminal_is_asked(db):
    put(db, "AD_1", "AD_2")
    code, shown = answered(db, b"\n", "retry")
    assert code == 2 and "Deliver again 2 strands" in shown, shown
    assert set(states(db).values()) == {"failed"}
    assert answered(db, b"n\n", "discard")[0] == 2
    assert set(states(db).values()) == {"failed"}
    assert answered(db, b"y\n", "retry")[0] == 0
    assert set(states(db).values()) == {"retry"}


def test_interrupted_and_repeated(db):
    put_many(db, 20000)
    process = start(db, "failed", "retry", "--yes")
    private.wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE state = 'retry'"), 20, interval=0.005)
    code, _, err = interrupt(process)
    assert code == 5 and "interrupted" in err
    done = db.value("SELECT count(*) FROM dm_receipts WHERE state = 'retry'")
    assert 0 < done < 20000
    # each page is whole: a receipt and the mark of its strand go together
    assert db.value("SELECT count(*) FROM dm_receipts r JOIN AD_strands s ON s.id = r.strand_id"
                    " WHERE (r.state = 'failed') <> (s.tags @> '[\"error:processing_failed\"]')") == 0
    row, = rows(failed(db, "retry", "--yes", "--json"))
    assert row["changed"] == 20000 - done


# --- with a daemon


def test_what_was_retried_is_delivered(db, daemon, wait_until):
    """The handler is mended, and what it failed with comes again, at once and once."""
    service.function(db, "BEGIN RAISE EXCEPTION 'broken'; END", name="test.h")
    daemon(routes=[{"tag": TAG, "source": "AD_strands", "handler": "test.h", "attempts": 1, "suspend_after": 0}],
           conf={"scan": {"interval": "1h"}})
    for i in range(20):
        service.publish(db, "AD_strands", f"AD_{i}", [TAG])
    wait_until(lambda: sum(s == "failed" for s in states(db).values()) == 20, 20)
    service.function(db, "BEGIN INSERT INTO test.calls (handler, id) VALUES ('h', strand->>'id'); END", name="test.h")
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE marked") == 20, 20)
    ok(failed(db, "retry", "--yes"))
    wait_until(lambda: set(states(db).values()) == {"done"}, 10)
    assert service.calls(db) == {f"AD_{i}": 1 for i in range(20)}
    assert db.value("SELECT count(*) FROM AD_strands WHERE tags @> '[\"error:processing_failed\"]'") == 0


def test_a_replay_has_the_routes_policy(db, daemon, wait_until):
    """As many attempts as the first time, with its backoff between them; and the handler
    is told which one it is in."""
    p.record_waits(db)
    service.function(db, """BEGIN
        RAISE EXCEPTION 'attempt %', current_setting('strand.attempt');
    END""", name="test.h")
    daemon(routes=[p.route("test.h", attempts=3, backoff={"initial": "200ms", "factor": 3.0, "cap": "24h"})])
    ids = [f"AD_{i}" for i in range(20)]
    for i in ids:
        service.publish(db, "AD_strands", i, [TAG])

    def fails_by_its_policy(rounds):
        wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE state = 'failed' AND marked") == 20, 20)
        assert db.execute("SELECT DISTINCT attempt, error FROM dm_receipts") == [(3, "attempt 3")]
        for attempt, bound in ((1, 0.2), (2, 0.6)):
            least, most = zip(*p.waits(db, attempt))
            assert len(least) == 20 * rounds and min(most) >= 0
            assert 0.3 * bound < max(most) and max(least) <= bound, (attempt, least, most)
        assert not p.waits(db, 3)

    fails_by_its_policy(1)
    ok(failed(db, "retry", "--yes"))
    wait_until(lambda: len(p.waits(db, 1)) > 20)
    fails_by_its_policy(2)


# --- cost


def test_plans_do_not_grow(db):
    """The newest come by the partial index: also on a table never analysed, where one in
    five of all receipts has failed."""
    db.execute("ALTER TABLE dm_receipts SET (autovacuum_enabled = off)")
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, finished_at) SELECT route, 'AD_' || i,"
               " CASE WHEN i %% 5 = 0 THEN 'failed' ELSE 'done' END, now() - i * interval '1 ms'"
               " FROM generate_series(1, 100000) i, dm_routes WHERE tag = %s", (TAG,))

    def fetched():
        """Blocks of the receipts that were read so far, indexes left out."""
        db.execute("SELECT pg_stat_force_next_flush()")
        return db.value("SELECT pg_stat_get_blocks_fetched('dm_receipts'::regclass)")

    for _ in range(2):
        before = fetched()
        for args in (["--limit", "20"], ["AD_50000"], ["--older", "0s", "--limit", "20"], ["--state", "expired", "--limit", "20", "--newer", "1s"]):
            ok(failed(db, "list", *args))
        ok(failed(db, "discard", "--yes", "--limit", "400"))
        assert 0 < fetched() - before < 4000
        db.execute("ANALYZE dm_receipts")


def test_marks_tell_the_truth(db, daemon, wait_until):
    """A handler that fails as a coin falls, and operators who put everything back
    again and again: in the end a strand bears the mark if, and only if, it failed."""
    service.function(db, "BEGIN IF random() < 0.5 THEN RAISE EXCEPTION 'unlucky'; END IF;"
                         " INSERT INTO test.calls (handler, id) VALUES ('h', strand->>'id'); END", name="test.h")
    daemon(routes=[{"tag": TAG, "source": "AD_strands", "handler": "test.h", "attempts": 1, "suspend_after": 0}])
    service.publish_many(db, "AD_strands", "AD_", 300, [TAG])
    wait_until(lambda: "failed" in states(db).values(), 20)
    operators = [start(db, "failed", "retry", "--yes") for _ in range(6)]
    for operator in operators:
        operator.communicate(timeout=60)
        assert operator.returncode in (0, 1)
    wait_until(lambda: len(states(db)) == 300 and not db.value(
        "SELECT count(*) FROM dm_receipts WHERE state NOT IN ('done', 'failed') OR (state = 'failed' AND NOT marked)"), 30)
    assert db.value("SELECT count(*) FROM AD_strands s JOIN dm_receipts r ON r.strand_id = s.id"
                    " WHERE (r.state = 'failed') <> (s.tags @> '[\"error:processing_failed\"]')") == 0
    # one call a strand has come to an end, whatever was put back meanwhile
    assert set(service.calls(db).values()) == {1}
    assert set(service.calls(db)) == {i for i, s in states(db).items() if s == "done"}


def test_an_expired_one_expires_again(db, daemon, wait_until):
    daemon(routes=AD)
    service.publish(db, "AD_strands", "AD_1", [TAG, "timeout:0"])
    wait_until(lambda: db.value("SELECT marked FROM dm_receipts WHERE state = 'expired'"), 20)
    first = db.value("SELECT finished_at FROM dm_receipts")
    assert "expire again" in failed(db, "retry", "AD_1").stderr
    wait_until(lambda: db.value("SELECT marked AND finished_at > %s FROM dm_receipts WHERE state = 'expired'", (first,)), 20)
    assert tags(db, "AD_1") == [TAG, "timeout:0", "error:timeout"]
    assert not service.calls(db)
