"""What a handler may answer: good replies, bad ones, and updates (pattern 3).

test.scripted answers with what the strand holds in its column "regime"."""

import json

import psycopg2.extras
import pytest

import cluster as private
import service

PLAN = "dm:evaluate_plan"
SCRIPTED = [(PLAN, "AD_strands", "test.scripted")]


def script(db, strand_id, *replies, **columns):
    """A strand whose handler answers with these; text is taken as JSON as it stands."""
    text = ", ".join(r if isinstance(r, str) else json.dumps(r) for r in replies)
    return service.publish(db, "ad_strands", strand_id, [PLAN], regime=f"[{text}]", **columns)


def column(db, table, name, strand_id):
    return db.value(f"SELECT {name} FROM {table} WHERE id = %s", (strand_id,))


# --- bad replies: the strand fails, with an error that helps, and nothing else does


@pytest.mark.parametrize("reply, sqlstate, words", [
    ({"kind": "x", "no_such": 1, "Nor this": 2}, "SR001", ["unknown columns", "no_such", '"Nor this"']),
    ({"KIND": "x"}, "SR001", ["unknown columns", "KIND"]),
    ({"xact_id": "5"}, "SR001", ["reserved", "xact_id"]),
    ({"tagged_at": None}, "SR001", ["reserved", "tagged_at"]),
    ({"tags": "alpha:decision_feedback"}, "SR001", ["tags", "not an array", "alpha:decision_feedback"]),
    ({"tags": {"a": 1}}, "SR001", ["tags", "not an array"]),
    ({"tags": 7}, "SR001", ["tags", "not an array"]),
    (["alpha:decision_feedback"], "SR001", ["not a JSON object", "alpha:decision_feedback"]),
    ('"text"', "SR001", ["not a JSON object", "text"]),
    ("17", "SR001", ["not a JSON object", "17"]),
    ("true", "SR001", ["not a JSON object"]),
    ("null", "SR001", ["not a JSON object"]),
    ({"created_at": "yesterweek"}, "22007", ["yesterweek"]),
    ({"": 1}, "SR001", ["unknown columns", '""']),
], ids=lambda v: json.dumps(v) if isinstance(v, dict) else None)
def test_bad_reply_fails_its_strand_alone(db, daemon, reply, sqlstate, words):
    script(db, "AD_good1", {"kind": "one"})
    script(db, "AD_bad", {"kind": "before"}, reply, {"kind": "after"})
    script(db, "AD_good2", {"kind": "two"})
    d = daemon(SCRIPTED)
    receipt = service.final(db, "dm", "AD_bad", PLAN)
    assert (receipt["state"], receipt["sqlstate"]) == ("failed", sqlstate), receipt
    for word in words:
        assert word in receipt["error"], receipt
    assert receipt["reply_ids"] is None
    for good in ("AD_good1", "AD_good2"):
        assert service.final(db, "dm", good, PLAN)["state"] == "done"
    assert db.execute("SELECT kind FROM dm_strands ORDER BY 1") == [("one",), ("two",)]
    assert "AD_bad" in d.log()
    labels = '{tag="dm:evaluate_plan",source="AD_strands"}'
    private.wait_until(lambda: d.metrics()["strandd_failed_total" + labels] == 1)
    assert d.metrics()["strandd_settled_total" + labels] == 2


def test_error_names_the_strand(db, daemon):
    script(db, "AD_bad", {"no_such": 1})
    daemon(SCRIPTED)
    assert "'AD_bad'" in service.final(db, "dm", "AD_bad", PLAN)["error"]


def test_constraint_of_the_receiver(db, daemon):
    db.execute("ALTER TABLE dm_strands ADD CHECK (kind <> 'forbidden'), ALTER symbol SET NOT NULL")
    script(db, "AD_check", {"kind": "forbidden", "symbol": "S"})
    script(db, "AD_null", {"kind": "x"})
    script(db, "AD_good", {"kind": "x", "symbol": "S"})
    daemon(SCRIPTED)
    assert service.final(db, "dm", "AD_check", PLAN)["sqlstate"] == "23514"
    receipt = service.final(db, "dm", "AD_null", PLAN)
    assert receipt["sqlstate"] == "23502" and "symbol" in receipt["error"]
    assert service.final(db, "dm", "AD_good", PLAN)["state"] == "done"


def test_deferred_constraint_of_the_receiver(db, daemon):
    """Checked where its strand is known, not by the COMMIT of the whole batch."""
    db.execute("CREATE TABLE test.symbols (symbol text PRIMARY KEY); INSERT INTO test.symbols VALUES ('S')")
    db.execute("ALTER TABLE dm_strands ADD FOREIGN KEY (symbol) REFERENCES test.symbols DEFERRABLE INITIALLY DEFERRED")
    db.execute(f"GRANT SELECT ON test.symbols TO {private.SERVICE}")
    for i in range(5):
        script(db, f"AD_{i}", {"symbol": "S"})
    script(db, "AD_bad", {"symbol": "nowhere"})
    daemon(SCRIPTED)
    receipt = service.final(db, "dm", "AD_bad", PLAN)
    assert (receipt["state"], receipt["sqlstate"]) == ("failed", "23503"), receipt
    for i in range(5):
        assert service.final(db, "dm", f"AD_{i}", PLAN)["state"] == "done"


# --- ids


def test_explicit_ids(db, daemon):
    odd = "an id, with {braces} \"quotes\" and 'apostrophes' \\ ü"
    script(db, "AD_1", {"id": odd, "kind": "a"}, {"id": "DM_mine", "kind": "b"}, {"id": None, "kind": "c"})
    daemon(SCRIPTED)
    receipt = service.final(db, "dm", "AD_1", PLAN)
    assert receipt["state"] == "done", receipt
    assert receipt["reply_ids"][:2] == [odd, "DM_mine"] and receipt["reply_ids"][2].startswith("DM_")
    assert [column(db, "dm_strands", "kind", i) for i in receipt["reply_ids"]] == ["a", "b", "c"]


def test_duplicate_reply_id_fails_only_its_strand(db, daemon):
    service.publish(db, "dm_strands", "DM_taken", [], kind="mine")
    script(db, "AD_taken", {"id": "DM_taken", "kind": "theirs"})
    script(db, "AD_twice", {"id": "DM_new"}, {"id": "DM_new"})
    script(db, "AD_good", {"id": "DM_good"})
    daemon(SCRIPTED)
    for bad in ("AD_taken", "AD_twice"):
        receipt = service.final(db, "dm", bad, PLAN)
        assert (receipt["state"], receipt["sqlstate"]) == ("failed", "23505"), receipt
    assert service.final(db, "dm", "AD_good", PLAN)["state"] == "done"
    assert column(db, "dm_strands", "kind", "DM_taken") == "mine"
    assert column(db, "dm_strands", "kind", "DM_new") is None
    assert db.value("SELECT count(*) FROM dm_strands") == 2


def test_two_strands_with_one_reply_id(db, daemon):
    """One of them wins, the other fails; neither is lost."""
    for i in (1, 2):
        script(db, f"AD_{i}", {"id": "DM_same", "symbol": str(i)})
    daemon(SCRIPTED)
    assert sorted(service.final(db, "dm", f"AD_{i}", PLAN)["state"] for i in (1, 2)) == ["done", "failed"]


# --- values


def test_numbers_survive(db, daemon):
    decimal = "123456789012345678901234.567890123456789012345678901234567890"
    script(db, "AD_1", '{"id": "DM_1", "dm_alpha": {"big": 9223372036854775807, "small": -9223372036854775808,'
           f' "over": 18446744073709551617, "decimal": {decimal}, "zeros": 1.500}}}}')
    daemon(SCRIPTED)
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    for key, text in (("big", "9223372036854775807"), ("small", "-9223372036854775808"),
                      ("over", "18446744073709551617"), ("decimal", decimal), ("zeros", "1.500")):
        assert db.value("SELECT dm_alpha ->> %s FROM dm_strands", (key,)) == text


def test_columns_of_many_types(db, daemon):
    db.execute("ALTER TABLE dm_strands ADD n bigint, ADD d numeric(40,10), ADD ok boolean, ADD a integer[],"
               " ADD day date, ADD raw bytea, ADD f float8")
    script(db, "AD_1", '{"id": "DM_1", "n": 9223372036854775807, "d": 12345678901234567890.1234567891, "ok": true,'
           ' "a": [1, 2], "day": "2020-02-29", "raw": "\\\\x00ff", "f": 0.1, "symbol": "naïve ✓ \\u00e9"}')
    daemon(SCRIPTED)
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    assert db.execute("SELECT n::text, d::text, ok, a, day::text, encode(raw, 'hex'), f::text, symbol FROM dm_strands") == [
        ("9223372036854775807", "12345678901234567890.1234567891", True, [1, 2], "2020-02-29", "00ff", "0.1", "naïve ✓ é")]


def test_large_reply(db, daemon):
    service.function(db, "SELECT jsonb_build_object('id', 'DM_1', 'symbol', repeat('x', 20000000))", language="sql")
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    daemon([(PLAN, "AD_strands", "test.h")])
    assert service.final(db, "dm", "AD_1", PLAN, timeout=30)["state"] == "done"
    assert db.value("SELECT length(symbol) FROM dm_strands") == 20000000


# --- tags


def tags_of(db, strand_id):
    return column(db, "dm_strands", "tags", strand_id)


def test_tags(db, daemon):
    script(db, "AD_1", {"id": "none"}, {"id": "null", "tags": None}, {"id": "empty", "tags": []},
           {"id": "own", "tags": ["b", "original_strand:AD_1"]}, {"id": "other", "tags": ["original_strand:AD_0"]},
           {"id": "odd", "tags": [1, None, ["x:y"], {"a": "b:c"}, "a", "a"]})
    daemon(SCRIPTED)
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    assert tags_of(db, "none") == tags_of(db, "null") == tags_of(db, "empty") == ["original_strand:AD_1"]
    assert tags_of(db, "own") == ["b", "original_strand:AD_1"]
    assert tags_of(db, "other") == ["original_strand:AD_0", "original_strand:AD_1"]
    assert tags_of(db, "odd") == [1, None, ["x:y"], {"a": "b:c"}, "a", "a", "original_strand:AD_1"]


def test_unrouted_tags_are_counted(db, daemon):
    """A misspelt tag vanishes silently for the strand; the operator can see it."""
    script(db, "AD_1", {"tags": ["trader:exceute_plan", "alpha:decision_feedback", "priority:high", "timeout:30",
                                 "error:x", "original_strand:Q", "plain", "a:b:c", "with space:x", 5, ["k:v"]]})
    script(db, "AD_2", {"tags": ["nobody:listens", "nor:here"]}, {"tags": ["plain"]}, {})
    d = daemon(SCRIPTED)
    for strand in ("AD_1", "AD_2"):
        assert service.final(db, "dm", strand, PLAN)["state"] == "done"
    key = 'strandd_unrouted_tags_total{tag="dm:evaluate_plan",source="AD_strands"}'
    private.wait_until(lambda: d.metrics()[key] == 3, what=f"3, not {d.metrics()[key]}")


def test_high_priority_reply_is_announced_twice(db, daemon):
    listening = db.connect()
    db.execute('LISTEN "alpha_decision_feedback"; LISTEN "alpha_decision_feedback:high"', conn=listening)
    script(db, "AD_1", {"id": "DM_1", "tags": ["alpha:decision_feedback", "priority:high"]})
    daemon(SCRIPTED)
    service.final(db, "dm", "AD_1", PLAN)

    def heard():
        listening.poll()
        return len(listening.notifies) >= 2
    private.wait_until(heard)
    assert [(n.channel, n.payload) for n in listening.notifies] == [
        ("alpha_decision_feedback:high", "DM_1"), ("alpha_decision_feedback", "DM_1")]


# --- updates: pattern 3


def test_update_keeps_the_first_tag_and_both_are_delivered(db, daemon):
    """The specification's third pattern: the decision, announced to alpha, is sent
    to the trader by an update of its tags."""
    service.publish(db, "dm_strands", "DM_1", ["alpha:decision_feedback", "original_strand:AD_0"], kind="decision",
                    symbol="SPX", updated_at="2000-01-01")
    script(db, "AD_1", {"update": "DM_1", "kind": "approved", "tags": ["trader:execute_plan"]})
    daemon(SCRIPTED + [("alpha:decision_feedback", "DM_strands", "test.record"),
                       ("trader:execute_plan", "DM_strands", "test.record")])
    receipt = service.final(db, "dm", "AD_1", PLAN)
    assert receipt["state"] == "done" and receipt["reply_ids"] == ["DM_1"], receipt
    assert service.final(db, "ad", "DM_1", "alpha:decision_feedback")["state"] == "done"
    assert service.final(db, "tr", "DM_1", "trader:execute_plan")["state"] == "done"
    assert sorted(tags_of(db, "DM_1")) == ["alpha:decision_feedback", "original_strand:AD_0",
                                           "original_strand:AD_1", "trader:execute_plan"]
    assert (column(db, "dm_strands", "kind", "DM_1"), column(db, "dm_strands", "symbol", "DM_1")) == ("approved", "SPX")
    assert db.value("SELECT now() - updated_at < '1 min' FROM dm_strands") is True
    assert service.calls(db) == {"DM_1": 2}


def test_update_without_tags_leaves_them(db, daemon):
    service.publish(db, "dm_strands", "DM_1", ["plain"], kind="a")
    script(db, "AD_1", {"update": "DM_1", "kind": None, "updated_at": "2001-02-03"})
    daemon(SCRIPTED)
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    assert tags_of(db, "DM_1") == ["plain", "original_strand:AD_1"]
    assert column(db, "dm_strands", "kind", "DM_1") is None
    assert column(db, "dm_strands", "updated_at::date::text", "DM_1") == "2001-02-03"


def test_updates_and_inserts_in_one_answer(db, daemon):
    """In the order of the replies: what one inserts, the next may update."""
    script(db, "AD_1", {"id": "DM_1", "kind": "a"}, {"update": "DM_1", "kind": "b"}, {"update": "DM_1", "symbol": "S"},
           {"id": "DM_2"})
    daemon(SCRIPTED)
    receipt = service.final(db, "dm", "AD_1", PLAN)
    assert receipt["state"] == "done" and receipt["reply_ids"] == ["DM_1", "DM_1", "DM_1", "DM_2"], receipt
    assert (column(db, "dm_strands", "kind", "DM_1"), column(db, "dm_strands", "symbol", "DM_1")) == ("b", "S")


def test_many_strands_update_one(db, daemon):
    """A running total over a batch, and over two workers: no update is lost."""
    service.publish(db, "dm_strands", "DM_total", [], dm_budget={"n": 0})
    service.function(db, """SELECT jsonb_build_object('update', 'DM_total', 'dm_budget',
        (SELECT jsonb_build_object('n', (dm_budget->>'n')::int + 1) FROM dm_strands WHERE id = 'DM_total'))""",
                     language="sql")
    db.execute("ALTER FUNCTION test.h(jsonb) VOLATILE")
    service.publish_many(db, "ad_strands", "AD_", 200, [PLAN])
    daemon([{"tag": PLAN, "source": "AD_strands", "handler": "test.h", "serial": True}], conf={"workers": {"batch": 20}})
    private.wait_until(lambda: service.count_receipts(db, "dm", PLAN) == 200, timeout=30)
    assert set(service.states(db, "dm", PLAN).values()) == {"done"}
    assert column(db, "dm_strands", "dm_budget", "DM_total") == {"n": 200}


@pytest.mark.parametrize("reply, sqlstate, words", [
    ({"update": "DM_none", "kind": "x"}, "SR002", ["'DM_none'", "dm_strands"]),
    ({"update": "AD_bad", "kind": "x"}, "SR002", ["'AD_bad'", "dm_strands"]),  # the sender's, not its own
    ({"update": "DM_1", "no_such": 1}, "SR001", ["no_such"]),
    ({"update": "DM_1", "xact_id": "1"}, "SR001", ["xact_id"]),
    ({"update": "DM_1", "tags": "x:y"}, "SR001", ["tags"]),
    ({"update": "DM_1", "id": "DM_2"}, "SR001", ["id"]),
    ({"update": None}, "SR001", ["updates no strand"]),
    ({"update": 5}, "SR001", ["updates no strand"]),
    ({"update": {"id": "DM_1"}}, "SR001", ["updates no strand"]),
], ids=lambda v: json.dumps(v) if isinstance(v, dict) else None)
def test_bad_update_fails_its_strand_alone(db, daemon, reply, sqlstate, words):
    service.publish(db, "dm_strands", "DM_1", ["plain"], kind="a")
    script(db, "AD_bad", {"update": "DM_1", "kind": "b"}, reply)
    script(db, "AD_good", {"id": "DM_good"})
    daemon(SCRIPTED)
    receipt = service.final(db, "dm", "AD_bad", PLAN)
    assert (receipt["state"], receipt["sqlstate"]) == ("failed", sqlstate), receipt
    for word in words:
        assert word in receipt["error"], receipt
    assert service.final(db, "dm", "AD_good", PLAN)["state"] == "done"
    assert column(db, "dm_strands", "kind", "DM_1") == "a"
    assert tags_of(db, "DM_1") == ["plain"]


def test_update_where_a_column_is_named_update(db, daemon):
    """The word is the service's: such a column cannot be written by replies."""
    db.execute("ALTER TABLE dm_strands ADD COLUMN update text")
    script(db, "AD_1", {"update": "x"})
    daemon(SCRIPTED)
    assert service.final(db, "dm", "AD_1", PLAN)["sqlstate"] == "SR002"


# --- domains: checked when the row is inserted, and not of a key that is missing


def test_column_of_a_domain_that_refuses_null(db, daemon):
    """Added while strands flow, with a default and without, and given by a reply."""
    db.execute("CREATE DOMAIN test.currency AS text NOT NULL CHECK (value <> 'none')")
    d = daemon(SCRIPTED)
    d.wait_log("listening")
    script(db, "AD_1", {"kind": "one"})
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    db.execute("ALTER TABLE dm_strands ADD COLUMN currency test.currency DEFAULT 'USD'")
    script(db, "AD_2", {"kind": "two"})
    assert service.final(db, "dm", "AD_2", PLAN)["state"] == "done", service.receipt(db, "dm", "AD_2", PLAN)
    script(db, "AD_3", {"kind": "three", "currency": "EUR"})
    assert service.final(db, "dm", "AD_3", PLAN)["state"] == "done"
    for strand, value in (("AD_4", "none"), ("AD_5", None)):
        script(db, strand, {"currency": value})
        assert service.final(db, "dm", strand, PLAN)["sqlstate"] in ("23514", "23502")
    assert db.execute("SELECT kind, currency FROM dm_strands ORDER BY 1") == [
        ("one", "USD"), ("three", "EUR"), ("two", "USD")]
    d.restart()
    script(db, "AD_6", {"kind": "zwo"})
    assert service.final(db, "dm", "AD_6", PLAN)["state"] == "done"
    # without a default the reply has to give it
    db.execute("ALTER TABLE dm_strands ALTER COLUMN currency DROP DEFAULT")
    d.restart()
    script(db, "AD_7", {"kind": "late"})
    assert service.final(db, "dm", "AD_7", PLAN)["sqlstate"] == "23502"
    script(db, "AD_8", {"kind": "late", "currency": "JPY"})
    assert service.final(db, "dm", "AD_8", PLAN)["state"] == "done"


def test_domains_of_many_kinds(db, daemon):
    """Over a domain, an array, a composite type and numeric(6,2), with a domain's own default."""
    db.execute("""CREATE DOMAIN test.price AS numeric(6,2) CHECK (value > 0);
                  CREATE DOMAIN test.bid AS test.price DEFAULT 7 NOT NULL;
                  CREATE DOMAIN test.names AS text[] CHECK (cardinality(value) < 3);
                  CREATE TYPE test.pair AS (a integer, b test.price);
                  CREATE DOMAIN test.quote AS test.pair CHECK ((value).a > 1);
                  ALTER TABLE dm_strands ADD COLUMN bid test.bid, ADD COLUMN names test.names,
                    ADD COLUMN "my Quote" test.quote""")
    daemon(SCRIPTED)
    script(db, "AD_1", {"kind": "a"}, {"kind": "b", "bid": 1.255, "names": ["x", "y"], "my Quote": {"a": 2, "b": "3.5"}})
    receipt = service.final(db, "dm", "AD_1", PLAN)
    assert receipt["state"] == "done", receipt
    assert db.execute('SELECT kind, bid::text, names::text[], "my Quote"::text FROM dm_strands ORDER BY 1') == [
        ("a", "7.00", None, None), ("b", "1.26", ["x", "y"], "(2,3.50)")]
    for i, reply in enumerate(({"bid": -1}, {"names": ["x", "y", "z"]}, {"my Quote": {"a": 0, "b": 1}})):
        script(db, f"AD_bad{i}", reply)
        assert service.final(db, "dm", f"AD_bad{i}", PLAN)["sqlstate"] == "23514"
