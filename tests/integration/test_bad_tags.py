"""Every oddity that `tags` can hold, while a daemon is at work: nothing crashes,
nothing is lost, and where somebody can be told, he is."""

import json

import pytest

import cluster as private
import service
from ctl_support import ok, refused, rows

pytestmark = pytest.mark.usefixtures("build")

TAG = "dm:evaluate_plan"
MANY = [f"word:{i}" for i in range(9999)]
LONG = "x" * (1 << 20)

# What a producer may write with a plain INSERT, and whether it is to be delivered.
WRITTEN = {
    "null": (None, False),
    "json_null": ("null", False),
    "object": ("{}", False),
    "object_with_the_tag": (json.dumps({TAG: TAG}), False),
    "string": (json.dumps(TAG), False),
    "number": ("42", False),
    "boolean": ("true", False),
    "empty": ("[]", False),
    "nested": (json.dumps([[TAG]]), False),
    "deep": ("[" * 500 + json.dumps(TAG) + "]" * 500, False),
    "in_an_object": (json.dumps([{"tag": TAG}]), False),
    "wrong_case": (json.dumps(["DM:evaluate_plan"]), False),
    "blank": (json.dumps([TAG + " "]), False),
    "comma": (json.dumps([TAG + ",priority:high"]), False),
    "empty_words": (json.dumps(["", ":", "dm:", ":evaluate_plan", "dm::evaluate_plan"]), False),
    "nested_beside": (json.dumps([[TAG], TAG, None, 1, {"a": []}]), True),
    "many": (json.dumps([*MANY, TAG]), True),
    "twice": (json.dumps([TAG, TAG, TAG]), True),
    "long": (json.dumps([TAG, LONG]), True),
    "long_alone": (json.dumps([LONG]), False),
    "control": (json.dumps([TAG, "\x1b[31m\n\t", "é💥"]), True),
    "timeout_abc": (json.dumps([TAG, "timeout:abc"]), True),
    "timeout_negative": (json.dumps([TAG, "timeout:-1"]), True),
    "timeout_empty": (json.dumps([TAG, "timeout:"]), True),
    "timeout_huge": (json.dumps([TAG, "timeout:" + "9" * 400]), True),
    "timeout_not_a_number": (json.dumps([TAG, "timeout:NaN", "timeout:Infinity", "timeout:1e400"]), True),
    "timeouts": (json.dumps([TAG, "timeout:300", "timeout:600.5", "timeout:x"]), True),
    "timeout_nested": (json.dumps([TAG, ["timeout:0"], {"timeout:0": "timeout:0"}, 0]), True),
    "priority_high": (json.dumps([TAG, "priority:HIGH", "priority:low", "priority:"]), True),
    "error_mark": (json.dumps([TAG, "error:processing_failed", "error:"]), True),
    "no_origin": (json.dumps([TAG, "original_strand:", "original_strand:nobody", "original_strand:self"]), True),
}


def test_inserted_by_a_producer(db, daemon, wait_until):
    d = daemon(routes=[(TAG, "AD_strands", "test.record")])
    producer = db.connect(private.PRODUCER)
    for name, (tags, _) in WRITTEN.items():
        db.execute("INSERT INTO AD_strands (id, tags) VALUES (%s, %s)", (name, tags), producer)
    service.publish(db, "AD_strands", "last", [TAG])
    expected = {name for name, (_, delivered) in WRITTEN.items() if delivered} | {"last"}
    wait_until(lambda: set(service.states(db, "dm", TAG)) == expected, 20,
               what=lambda: f"{expected ^ set(service.states(db, 'dm', TAG))}\n{d.log()[-2000:]}")
    # the scan finds nothing more
    service.publish(db, "AD_strands", "later", [TAG])
    d.restart()
    wait_until(lambda: "later" in service.calls(db), 20)
    assert service.calls(db) == {name: 1 for name in expected | {"later"}}
    assert set(service.states(db, "dm", TAG).values()) == {"done"}
    # what was written stands as it was written
    for name, (tags, _) in WRITTEN.items():
        assert db.value("SELECT tags IS NOT DISTINCT FROM %s::jsonb FROM AD_strands WHERE id = %s", (tags, name)), name


def test_updated_by_a_producer(db, daemon, wait_until):
    """The same over a strand that bears the tag: it stays, and comes once."""
    daemon(routes=[(TAG, "AD_strands", "test.record")])
    db.execute("INSERT INTO AD_strands (id, tags) SELECT n, '[]' FROM unnest(%s) n", (list(WRITTEN),))
    for name, (tags, _) in WRITTEN.items():
        with db.connect(private.PRODUCER, autocommit=False) as conn:
            db.execute("UPDATE AD_strands SET tags = %s WHERE id = %s", (json.dumps([TAG]), name), conn)
            db.execute("UPDATE AD_strands SET tags = %s WHERE id = %s", (tags, name), conn)
    wait_until(lambda: service.calls(db) == {name: 1 for name in WRITTEN}, 20)
    wait_until(lambda: set(service.states(db, "dm", TAG).values()) == {"done"}, 10)
    assert db.value("SELECT count(*) FROM AD_strands WHERE tags @> %s", (json.dumps([TAG]),)) == len(WRITTEN)


def test_replies_with_odd_tags(db, daemon, wait_until):
    """A handler's reply: refused where `tags` is no array, written as it is else."""
    d = daemon(routes=[{"tag": TAG, "source": "AD_strands", "handler": "test.scripted", "attempts": 1, "suspend_after": 0}])
    for name, (tags, _) in WRITTEN.items():
        reply = '[{"id": "%s", "tags": %s}]' % (name, "null" if tags is None else tags)
        service.publish(db, "AD_strands", name, [TAG], regime=reply)
    wait_until(lambda: sum(s in ("done", "failed") for s in service.states(db, "dm", TAG).values()) == len(WRITTEN), 30,
               what=lambda: f"{service.states(db, 'dm', TAG)}\n{d.log()[-2000:]}")
    refused_ones = {n for n, s in service.states(db, "dm", TAG).items() if s == "failed"}
    assert refused_ones == {n for n, (t, _) in WRITTEN.items() if t is not None and not t.startswith("[") and t != "null"}
    for name in refused_ones:
        assert "not an array" in service.receipt(db, "dm", name, TAG)["error"]


def test_looked_at(db, strandctl):
    """read, trace, recent and the others with each of them."""
    for name, (tags, _) in WRITTEN.items():
        db.execute("INSERT INTO AD_strands (id, tags) VALUES (%s, %s)", (name, tags))
    for name in WRITTEN:
        row, = rows(strandctl("read", name, "--json"))
        assert row["strand"]["id"] == name
        assert "\x1b" not in ok(strandctl("trace", name)).stdout
        assert json.loads(ok(strandctl("trace", "--json", name)).stdout)
    assert len(rows(strandctl("recent", "--json", "--limit", "100"))) == len(WRITTEN)
    ok(strandctl("recent"))
    for name, (_, delivered) in WRITTEN.items():
        assert strandctl("withdraw", name).returncode == (0 if delivered else 1)
    assert set(service.states(db, "dm", TAG)) == {n for n, (_, delivered) in WRITTEN.items() if delivered}


# --- strandctl publish tells


@pytest.mark.parametrize("tags, words", [
    ("{}", ["not an array"]), ('"x"', ["not an array"]), ("42", ["not an array"]), ("true", ["not an array"]),
    (json.dumps([[TAG]]), ["tag 1", "not a string"]), (json.dumps([TAG, 1]), ["tag 2", "not a string"]),
    (json.dumps([TAG, None]), ["tag 2", "not a string"]),
    (json.dumps(["DM:evaluate_plan"]), ['did you mean "dm:evaluate_plan"']),
    (json.dumps([TAG + "\x00x"]), ["NUL"]),
    (json.dumps([TAG, "timeout:abc"]), ["timeout:abc", "timeout:<seconds>"]),
    (json.dumps([TAG, "timeout:-1"]), ["timeout:-1", "timeout:<seconds>"]),
    (json.dumps([TAG, "timeout:5s"]), ["timeout:5s", "timeout:<seconds>"]),
    (json.dumps([TAG, "priority:HIGH"]), ["priority:HIGH", "priority:high"]),
    (json.dumps([TAG, "Priority:high"]), ["Priority:high", "priority:high"]),
    (json.dumps([TAG, "nobody:" + LONG]), ["not attached"]),
    ("[" * 5000 + "]" * 5000, ["line 1"]),
], ids=lambda value: str(value)[:40])
def test_publish_refuses(db, strandctl, tags, words):
    said = refused(strandctl("publish", "--table", "AD_strands", "-", stdin='{"id": "a", "tags": %s}\n' % tags), 2, *words)
    assert len(said) < 2000
    assert db.value("SELECT count(*) FROM AD_strands") == 0


@pytest.mark.parametrize("tags, written", [
    ("null", None), ("[]", []), (json.dumps([TAG, TAG, "", TAG]), [TAG]), (json.dumps([*MANY, TAG]), [*MANY, TAG]),
    (json.dumps([TAG, LONG]), [TAG, LONG]), (json.dumps([TAG, "timeout:300", "timeout:0.5"]), [TAG, "timeout:300", "timeout:0.5"]),
    (json.dumps([TAG, "é💥\x1b"]), [TAG, "é💥\x1b"]),
], ids=lambda value: str(value)[:40])
def test_publish_writes(db, strandctl, tags, written):
    more = ["--allow-unrouted"] if "word:1" in tags else []
    ok(strandctl("publish", "--table", "AD_strands", *more, "-", stdin='{"id": "a", "tags": %s}\n' % tags))
    assert db.value("SELECT tags FROM AD_strands WHERE id = 'a'") == written


def test_publish_writes_all_the_same(db, strandctl):
    odd = [TAG, "timeout:abc", "priority:HIGH", "DM:evaluate_plan"]
    ok(strandctl("publish", "--table", "AD_strands", "--allow-unrouted", "--tags", ",".join(odd)))
    assert db.value("SELECT tags FROM AD_strands") == odd
    for tag in odd[1:]:
        refused(strandctl("publish", "--table", "AD_strands", "--tag", tag), 2, tag)
