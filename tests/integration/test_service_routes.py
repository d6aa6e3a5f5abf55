"""The five routes of the specification, and what the service adds to replies."""

import json
import re

import pytest

import cluster as private
import service

PLAN = "dm:evaluate_plan"


def row(db, table, where, *params):
    rows = db.execute(f"SELECT to_jsonb(t) FROM {table} t WHERE {where}", params)
    assert len(rows) == 1, rows
    return rows[0][0]


def answer(db, table, strand_id):
    """The one strand of `table` that answers strand_id."""
    return row(db, table, "tags @> %s", json.dumps([f"original_strand:{strand_id}"]))


@pytest.mark.sanitize
def test_five_routes(db, daemon, wait_until):
    """A plan is approved, executed and reported; each hop links to the one before."""
    service.function(db, """BEGIN
        RETURN NEXT jsonb_build_object('kind', 'decision', 'symbol', strand.symbol,
            'dm_decision', jsonb_build_object('plan', strand.trading_plan),
            'tags', '["alpha:decision_feedback", "trader:execute_plan"]'::jsonb);
        END""", name="test.decide", argument="strand ad_strands")
    d = daemon([(tag, source, {PLAN: "test.decide", "trader:execute_plan": "test.execute_plan"}.get(tag, "test.record"))
                for tag, source, _ in private.ROUTES])
    service.publish(db, "ad_strands", "AD_1", [PLAN, "priority:high"], symbol="SPX",
                    trading_plan={"entry": 1498.25, "size": 12})
    wait_until(lambda: sum(service.count_receipts(db, p, t) for t, _, r in private.ROUTES for p in [r[:2].lower()]) == 5)
    decision = answer(db, "dm_strands", "AD_1")
    assert (decision["kind"], decision["symbol"]) == ("decision", "SPX")
    assert decision["dm_decision"]["plan"] == {"entry": 1498.25, "size": 12}
    execution = answer(db, "tr_strands", decision["id"])
    assert execution["kind"] == "execution" and execution["symbol"] == "SPX"
    # the receipts are the receivers', and name the replies
    for tag, source, receiver in private.ROUTES:
        strand = {"AD_strands": "AD_1", "DM_strands": decision["id"], "TR_strands": execution["id"]}[source]
        replies = {PLAN: [decision["id"]], "trader:execute_plan": [execution["id"]]}.get(tag)
        receipt = service.final(db, receiver[:2].lower(), strand, tag)
        assert receipt["state"] == "done" and receipt["reply_ids"] == replies, receipt
        assert receipt["started_at"] <= receipt["finished_at"] and receipt["error"] is None
        assert receipt["attempt"] == 1 and receipt["instance"] >= 1
    # feedback went to alpha (decision, execution) and to dm (execution)
    assert sorted(db.execute("SELECT id FROM test.calls")) == sorted(
        [(decision["id"],), (execution["id"],), (execution["id"],)])
    metrics = d.metrics()
    assert metrics['strandd_unrouted_tags_total{tag="dm:evaluate_plan",source="AD_strands"}'] == 0


def test_reply_defaults(db, daemon):
    """id, module, created_at and original_strand, of each module's own."""
    daemon([(tag, source, "test.reply") for tag, source, _ in private.ROUTES])
    for tag, source, receiver, module in ((PLAN, "ad_strands", "dm_strands", "dm"),
                                          ("alpha:decision_feedback", "dm_strands", "ad_strands", "alpha"),
                                          ("trader:execute_plan", "dm_strands", "tr_strands", "trader"),
                                          ("alpha:execution_feedback", "tr_strands", "ad_strands", "alpha"),
                                          ("dm:execution_feedback", "tr_strands", "dm_strands", "dm")):
        strand = service.publish(db, source, f"X_{tag}", [tag], symbol="SPX")
        service.final(db, receiver[:2], strand, tag)
        reply = answer(db, receiver, strand)
        assert re.fullmatch(receiver[:2].upper() + "_[0-9a-f]{12}", reply["id"], re.I), reply["id"]
        assert reply["module"] == module and reply["kind"] == "reply" and reply["symbol"] == "SPX"
        assert reply["tags"] == [f"original_strand:{strand}"]
        assert db.value(f"SELECT now() - created_at < '1 min' AND now() - updated_at < '1 min' FROM {receiver}"
                        " WHERE id = %s", (reply["id"],)) is True


def test_module_without_column_defaults(db, daemon):
    """A user's own table: the service fills module and created_at itself, other
    defaults are the table's, and a column that a reply gives as null stays null."""
    db.execute("CREATE TABLE rk_strands (id text PRIMARY KEY, module text, kind text DEFAULT 'risk',"
               " n integer GENERATED ALWAYS AS IDENTITY, twice integer GENERATED ALWAYS AS (2 * level) STORED,"
               " level integer DEFAULT 3, tags jsonb, created_at timestamptz)")
    db.execute("SELECT strandd.prepare_source('rk_strands'), strandd.prepare_receiver('rk_strands')")
    db.attach("risk:watch", "AD_strands", "rk_strands")
    db.grant()
    modules = [{"name": "risk", "table": "rk_strands"}]
    service.function(db, """SELECT * FROM (VALUES ('{}'::jsonb), ('{"kind": null, "level": 5}')) v(r)""",
                     name="test.watch", language="sql")
    daemon([("risk:watch", "AD_strands", "test.watch")], conf={"modules": modules})
    service.publish(db, "ad_strands", "AD_1", ["risk:watch"])
    receipt = service.final(db, "rk", "AD_1", "risk:watch")
    assert receipt["state"] == "done", receipt
    rows = db.execute("SELECT module, kind, level, twice, created_at IS NOT NULL, id FROM rk_strands ORDER BY level")
    assert [r[:5] for r in rows] == [("risk", "risk", 3, 6, True), ("risk", None, 5, 10, True)]
    assert all(re.fullmatch("RK_[0-9a-f]{12}", r[5], re.I) for r in rows)


def test_names_that_need_quotes(db, daemon):
    """A module, its tables, columns and a handler with odd names."""
    db.execute('CREATE SCHEMA "Odd ""One"""')
    table = '"Odd ""One"""."Mixed Case_strands"'
    db.execute(f'CREATE TABLE {table} (id text PRIMARY KEY, module text, "Sum %s $1" numeric, tags jsonb)'.replace("%", "%%"), ())
    db.execute("SELECT strandd.prepare_source(%s::regclass), strandd.prepare_receiver(%s::regclass)", (table, table))
    db.attach("odd's:a\"b\\c%d", "AD_strands", table)
    db.grant()
    db.execute(f'GRANT USAGE ON SCHEMA "Odd ""One""" TO {private.SERVICE}')
    handler = '"Odd ""One"""."Handle It"'
    service.function(db, """BEGIN RETURN NEXT '{"Sum %s $1": 1.50}'::jsonb; END""", name=handler)
    service.publish(db, "ad_strands", "AD_scanned", ["odd's:a\"b\\c%d"])
    d = daemon([("odd's:a\"b\\c%d", "AD_strands", handler)], conf={"modules": [{"name": "odd's", "table": table}]})
    private.wait_until(lambda: db.value(f"SELECT count(*) FROM {table}") == 1, what=f"found by a scan; {d.log()}")
    service.publish(db, "ad_strands", "AD_announced", ["odd's:a\"b\\c%d"])
    private.wait_until(lambda: db.value(f"SELECT count(*) FROM {table}") == 2)
    assert [str(n) for n, in db.execute(f'SELECT "Sum %%s $1" FROM {table}', ())] == ["1.50", "1.50"]
    assert db.execute('SELECT state FROM "Odd ""One"""."Mixed Case_receipts"') == [("done",), ("done",)]
    assert d.metrics()[r'strandd_settled_total{tag="odd' + "'" + r's:a\"b\\c%d",source="AD_strands"}'] == 2


def test_one_tag_from_two_tables(db, daemon):
    """The same id in two sources is two strands, each with its receipt."""
    db.attach(PLAN, "TR_strands", "DM_strands")
    daemon([(PLAN, "AD_strands", "test.record"), (PLAN, "TR_strands", "test.record")])
    service.publish(db, "ad_strands", "SAME", [PLAN])
    service.publish(db, "tr_strands", "SAME", [PLAN])
    private.wait_until(lambda: service.count_receipts(db, "dm", PLAN) == 2)
    private.wait_until(lambda: service.calls(db) == {"SAME": 2})


def test_receiver_under_another_name(db, daemon):
    """Its routes and receipts keep their names, and are found all the same."""
    d = daemon([(PLAN, "AD_strands", "test.reply")])
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    service.final(db, "dm", "AD_1", PLAN)
    d.stop()
    db.execute("CREATE SCHEMA desk; ALTER TABLE dm_strands RENAME TO judge_strands; ALTER TABLE judge_strands SET SCHEMA desk;"
               f"GRANT USAGE ON SCHEMA desk TO {private.SERVICE}")
    d = daemon([(PLAN, "AD_strands", "test.reply")], conf={"modules": [{"name": "dm", "table": "desk.judge_strands"}]})
    service.publish(db, "ad_strands", "AD_2", [PLAN])
    assert service.final(db, "dm", "AD_2", PLAN)["state"] == "done"
    assert answer(db, "desk.judge_strands", "AD_2")["id"].startswith("JUDGE_")
    assert service.count_receipts(db, "dm", PLAN) == 2


def test_handler_of_rows_is_preferred(db, daemon):
    """Both f(row) and f(jsonb): the one that says more of what it takes."""
    service.function(db, """SELECT '{"kind": "row"}'::jsonb""", argument="strand ad_strands", language="sql")
    service.function(db, """SELECT '{"kind": "json"}'::jsonb""", language="sql")
    daemon([(PLAN, "AD_strands", "test.h")])
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    service.final(db, "dm", "AD_1", PLAN)
    assert answer(db, "dm_strands", "AD_1")["kind"] == "row"


def test_json_handler_sees_the_row(db, daemon):
    """All columns, as they are at claim time, numbers in full."""
    service.function(db, "SELECT jsonb_build_object('dm_alpha', strand)", language="sql")
    service.publish(db, "ad_strands", "AD_1", [PLAN, "priority:high"], sig_sigma="0.1",
                    trading_plan='{"n": 9223372036854775807, "d": 0.123456789012345678901234567890}')
    daemon([(PLAN, "AD_strands", "test.h")])
    service.final(db, "dm", "AD_1", PLAN)
    seen = db.value("SELECT dm_alpha - 'created_at' - 'updated_at' - 'xact_id' - 'tagged_at' FROM dm_strands")
    assert {k: v for k, v in seen.items() if v is not None and k != "trading_plan"} == {
        "id": "AD_1", "module": "alpha", "sig_sigma": 0.1, "tags": [PLAN, "priority:high"]}
    assert db.value("SELECT dm_alpha #>> '{trading_plan,n}' FROM dm_strands") == "9223372036854775807"
    assert db.value("SELECT dm_alpha #>> '{trading_plan,d}' FROM dm_strands") == "0.123456789012345678901234567890"


@pytest.mark.parametrize("returns, body, count", [
    ("jsonb", """SELECT '{"kind": "one"}'::jsonb""", 1),
    ("jsonb", "SELECT NULL::jsonb", 0),
    ("SETOF jsonb", "SELECT NULL::jsonb", 0),
    ("SETOF jsonb", "SELECT '{}'::jsonb WHERE false", 0),
    ("SETOF jsonb", """SELECT * FROM (VALUES (NULL::jsonb), ('{"kind": "b"}'), (NULL), ('{}')) v(r)""", 2),
    ("SETOF jsonb", "SELECT '{}'::jsonb FROM generate_series(1, 1000)", 1000),
    ("jsonb STRICT", "SELECT '{}'::jsonb", 1),
])
def test_how_many_replies(db, daemon, returns, body, count):
    service.function(db, body, returns=returns, language="sql")
    d = daemon([(PLAN, "AD_strands", "test.h")])
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    receipt = service.final(db, "dm", "AD_1", PLAN)
    assert receipt["state"] == "done", receipt
    assert len(receipt["reply_ids"] or []) == count
    assert db.value("SELECT count(DISTINCT id) FROM dm_strands") == count
    key = 'strandd_replies_total{tag="dm:evaluate_plan",source="AD_strands"}'
    private.wait_until(lambda: d.metrics()[key] == count)


def test_replies_keep_their_order(db, daemon):
    service.function(db, "SELECT jsonb_build_object('id', 'R_' || i) FROM generate_series(12, 1, -1) i", language="sql")
    daemon([(PLAN, "AD_strands", "test.h")])
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    assert service.final(db, "dm", "AD_1", PLAN)["reply_ids"] == [f"R_{i}" for i in range(12, 0, -1)]


@pytest.mark.parametrize("strand_id", ["with 'quotes' and \"double\"", "comma, {brace}", "back\\slash\\", " spaces ",
                                       "NULL", "", "ünïcödé ✓ 日本", "sha256:abc", "%s $1 \\x00", "(1,2)", "x" * 3000],
                         ids=lambda i: repr(i[:20]))
def test_odd_ids(db, daemon, strand_id):
    daemon([(PLAN, "AD_strands", "test.reply")])
    service.publish(db, "ad_strands", strand_id, [PLAN])
    private.wait_until(lambda: service.count_receipts(db, "dm", PLAN) == 1)
    assert db.value("SELECT r.state FROM dm_receipts r WHERE r.strand_id = strandd.receipt_key(%s)", (strand_id,)) == "done"
    assert answer(db, "dm_strands", strand_id)["kind"] == "reply"


def test_column_added_while_serving(db, daemon):
    """Cached plans and column lists are renewed, on both sides."""
    service.function(db, "SELECT strand.* FROM (SELECT '{\"kind\": \"a\"}'::jsonb) strand", language="sql")
    d = daemon([(PLAN, "AD_strands", "test.h")])
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    service.final(db, "dm", "AD_1", PLAN)
    db.execute("ALTER TABLE ad_strands ADD COLUMN extra text; ALTER TABLE dm_strands ADD COLUMN extra text DEFAULT 'd'")
    service.function(db, "SELECT jsonb_build_object('extra', strand->>'extra')", language="sql")
    service.publish(db, "ad_strands", "AD_2", [PLAN], extra="from alpha")
    assert service.final(db, "dm", "AD_2", PLAN)["state"] == "done", d.log()
    assert answer(db, "dm_strands", "AD_2")["extra"] == "from alpha"
    db.execute("ALTER TABLE dm_strands DROP COLUMN extra")
    service.function(db, "SELECT '{}'::jsonb", language="sql")
    service.publish(db, "ad_strands", "AD_3", [PLAN])
    assert service.final(db, "dm", "AD_3", PLAN)["state"] == "done", d.log()


def test_by_scanning_alone(db, daemon):
    """notifications.enabled = false: no listener, and every strand is found."""
    d = daemon([(PLAN, "AD_strands", "test.reply")],
               conf={"module_communication": {"notifications": {"enabled": False}}, "scan": {"interval": "100ms"}})
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    assert "listening" not in d.log()
    assert d.metrics()['strandd_notifications_total{tag="dm:evaluate_plan",source="AD_strands"}'] == 0


# --- a serial route: each strand is handled in the light of those before it

BOOK = f"""
    CREATE TABLE test.book (spent numeric); INSERT INTO test.book VALUES (0);
    GRANT SELECT, UPDATE ON test.book TO {private.SERVICE};
    CREATE FUNCTION test.keep_book() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE test.book SET spent = spent + 20 WHERE (NEW.dm_decision->>'approve')::boolean; RETURN NULL; END $$;
    CREATE TRIGGER book AFTER INSERT ON dm_strands FOR EACH ROW EXECUTE FUNCTION test.keep_book()"""


@pytest.mark.parametrize("volatility, spent", [
    ("STABLE", "(SELECT 20 * count(*) FROM dm_strands WHERE (dm_decision->>'approve')::boolean)"),
    ("VOLATILE", "(SELECT spent FROM test.book)"),
    ("STABLE", "(SELECT spent FROM test.book)")])
@pytest.mark.parametrize("bad", [False, True])
def test_serial_route_keeps_a_budget(db, daemon, volatility, spent, bad):
    """The limit holds to the cent also for a handler that is STABLE, also where an
    AFTER trigger keeps the book, and also where one strand fails."""
    db.execute(BOOK)
    service.function(db, f"""BEGIN
        IF strand.id = 'AD_77' AND {bad} THEN RAISE 'bad'; END IF;
        RETURN NEXT jsonb_build_object('dm_decision', jsonb_build_object('approve', {spent} + 20 <= 1000)); END""",
                     argument="strand ad_strands", returns=f"SETOF jsonb {volatility}")
    service.publish_many(db, "ad_strands", "AD_", 300, [PLAN])
    daemon([{"tag": PLAN, "source": "AD_strands", "handler": "test.h", "serial": True}],
           {"workers": {"threads": 4, "batch": 100}})
    private.wait_until(lambda: service.count_receipts(db, "dm", PLAN) == 300)
    assert db.value("SELECT count(*) FROM dm_strands WHERE (dm_decision->>'approve')::boolean") == 50
    assert db.value("SELECT spent FROM test.book") == 1000
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'failed'") == bad


def test_serial_batch_is_bounded_in_time(db, daemon):
    """Strands that together take longer than one may: several transactions, none fails."""
    d = daemon([{"tag": PLAN, "source": "AD_strands", "handler": "test.slow", "serial": True}],
               {"workers": {"handler_timeout": "1s"}})
    service.publish_many(db, "ad_strands", "AD_", 8, [PLAN], timeframe="0.3")
    private.wait_until(lambda: service.count_receipts(db, "dm", PLAN) == 8)
    assert set(service.states(db, "dm", PLAN).values()) == {"done"}
    assert db.value("SELECT count(DISTINCT xmin::text) FROM dm_receipts") > 1
    assert d.metrics()['strandd_rollbacks_total{tag="dm:evaluate_plan",source="AD_strands"}'] == 0
