"""libstrand's client: the specification's DirectTableCommunicator for C, on a real server."""

import json
import re

import pytest

import libstrand_support as lib
from database import PRODUCER

PLAN = lib.PLAN
DIGITS = "123456789012345678901234567890.123456789012345678901234567890"


@pytest.fixture(name="client")
def fixture_client(build, db):
    """As a producer: an ordinary role with the rights of one."""
    c = lib.Client(build, db.dsn(PRODUCER))
    assert c.opened.code == "STRAND_OK", c.opened
    yield c
    c.close()


def test_write_fills_what_is_left_out(client, db):
    done = client.write({"symbol": "SPX", "kind": "signal"}, PLAN, "priority:high")
    assert done.code == "STRAND_OK" and len(done.lines) == 1, done
    assert re.fullmatch(r"AD_[0-9a-f]{12}", done.lines[0])
    row = db.execute("SELECT id, module, symbol, kind, tags, created_at > now() - interval '1 min',"
                     " xact_id > '0' FROM ad_strands")
    assert row == [(done.lines[0], "alpha", "SPX", "signal", [PLAN, "priority:high"], True, True)]


def test_a_write_is_announced(client, db):
    """The triggers are the table's: the client does nothing for it."""
    listener = db.connect()
    db.execute("LISTEN dm_evaluate_plan", conn=listener)
    written = client.write({}, PLAN).lines[0]
    db.execute("SELECT", conn=listener)
    listener.poll()
    assert [(n.channel, n.payload) for n in listener.notifies] == [("dm_evaluate_plan", written)]


def test_given_values_are_kept(client, db):
    done = client.write({"id": "AD_x y'\"\\", "module": "other", "created_at": "2020-02-03T04:05:06Z",
                         "tags": ["a:b", "a:b"]}, "a:b", "c:d")
    assert done.lines == ["AD_x y'\"\\"], done
    assert db.execute("SELECT module, tags, created_at = '2020-02-03 04:05:06+00' FROM ad_strands") == [
        ("other", ["a:b", "c:d"], True)]


def test_numbers_keep_all_their_digits(client, db):
    plan = f'{{"i":9223372036854775807,"u":18446744073709551616,"d":{DIGITS},"e":1e-400}}'
    strand = client.write(f'{{"id":"AD_1","sig_sigma":0.1,"trading_plan":{plan}}}').lines[0]
    assert db.execute("SELECT trading_plan->>'i', trading_plan->>'u', trading_plan->>'d',"
                      " (trading_plan->>'e')::numeric = 1e-400 FROM ad_strands") == [
        ("9223372036854775807", "18446744073709551616", DIGITS, True)]
    read = client.read(strand).lines[0]
    for number in ("9223372036854775807", "18446744073709551616", DIGITS):
        assert number in read, read


def test_null_members(client, db):
    """A null is written; a null id is filled like one that is left out."""
    done = client.write('{"id":null,"symbol":null,"trading_plan":null,"tags":null}')
    assert done.code == "STRAND_OK" and done.lines[0].startswith("AD_"), done
    assert db.execute("SELECT symbol IS NULL, trading_plan IS NULL FROM ad_strands") == [(True, True)]
    row = client.read(done.lines[0]).rows[0]
    assert "symbol" in row and row["symbol"] is None


ODD_TAGS = ["dm:evaluate_plan", "no colon", "quote'\"\\", "grün:日本 😀", "a:b:c", "{}", "[\"x\"]", "x" * 3000, "%s $1"]


@pytest.mark.parametrize("tag", ODD_TAGS)
def test_odd_tags(client, db, tag):
    assert client.write({"id": "AD_1"}, tag).code == "STRAND_OK"
    assert client.write({"id": "AD_2"}, "other:tag").code == "STRAND_OK"
    assert db.value("SELECT tags FROM ad_strands WHERE id = 'AD_1'") == [tag]
    assert [r["id"] for r in client.recent(tag).rows] == ["AD_1"]


def test_odd_columns(client, db):
    """Names are quoted, and found as they are."""
    db.execute('ALTER TABLE ad_strands ADD "a ""b"", c" text, ADD "Üp" int')
    assert client.write('{"id":"AD_1","a \\"b\\", c":"x","\\u00dcp":7}').code == "STRAND_OK"
    assert db.execute('SELECT "a ""b"", c", "Üp" FROM ad_strands') == [("x", 7)]


def test_many_in_one_transaction(client, db):
    rows = [{"id": f"AD_{i:04}", "symbol": str(i)} for i in range(500)] + [{"kind": "other shape"}, {}]
    done = client.many(rows, PLAN)
    assert done.code == "STRAND_OK" and len(done.lines) == 502
    assert done.lines[:500] == [r["id"] for r in rows[:500]]
    assert db.execute("SELECT count(*), count(DISTINCT xact_id), count(DISTINCT id) FROM ad_strands"
                      " WHERE tags = '[\"dm:evaluate_plan\"]'") == [(502, 1, 502)]
    assert client.many([]).code == "STRAND_OK"


def test_many_is_all_or_none(client, db):
    taken = client.many([{"id": "AD_1"}, {"id": "AD_2"}, {"id": "AD_1"}])
    assert (taken.code, taken.sqlstate) == ("STRAND_ESQL", "23505") and "AD_1" in taken.error, taken
    named = client.many([{"id": "AD_1"}, "[]"])
    assert named.code == "STRAND_EINVAL" and named.error.startswith("strand 2: not a JSON object"), named
    assert db.value("SELECT count(*) FROM ad_strands") == 0
    assert client.many([{"id": "AD_1"}]).code == "STRAND_OK"


@pytest.mark.parametrize("data, code, state, text", [
    ('{"nonsense": 1}', "STRAND_ESQL", "42703", "nonsense"),
    ('{"created_at": "never"}', "STRAND_ESQL", "22007", "never"),
    ('{"sig_sigma": "x"}', "STRAND_ESQL", "22P02", "x"),
    ('{"trading_plan": NaN}', "STRAND_EINVAL", "", "line 1, column 18"),
    ('{"symbol": "a\\u0000"}', "STRAND_EINVAL", "", "column 14"),
    ('{"symbol": 1, "symbol": 2}', "STRAND_ESQL", "42701", "symbol"),
    ('{"symbol": "x"', "STRAND_EINVAL", "", "not a JSON object"),
    ('{"symbol": "x"} {}', "STRAND_EINVAL", "", "not a JSON object"),
    ("7", "STRAND_EINVAL", "", "not a JSON object: it is another value"),
    ("", "STRAND_EINVAL", "", "not a JSON object"),
    (b'{"symbol": "gr\xfc"}', "STRAND_EINVAL", "", "not a JSON object"),
    ('{"id": 7}', "STRAND_EINVAL", "", "\"id\" is not a string"),
    ('{"id": ""}', "STRAND_EINVAL", "", "\"id\" is empty"),
    ('{"tags": "dm:evaluate_plan"}', "STRAND_EINVAL", "", "\"tags\" is not an array"),
    ('{"tags": ["a:b", 7]}', "STRAND_EINVAL", "", "an element of \"tags\" is not a string"),
    ('{"xact_id": "3"}', "STRAND_EINVAL", "", "xact_id"),
    ('{"tagged_at": null}', "STRAND_EINVAL", "", "tagged_at"),
])
def test_input_that_is_refused(client, db, data, code, state, text):
    """It is named, nothing is written, and the client goes on."""
    refused = client.write(data)
    assert (refused.code, refused.sqlstate) == (code, state) and text in refused.error, refused
    assert db.value("SELECT count(*) FROM ad_strands") == 0
    assert client.write({"id": "AD_ok"}).lines == ["AD_ok"]


def test_a_tag_that_is_not_utf8(client):
    for refused in (client.call("write", None, "{}", b"gr\xfc"), client.call("recent", None, 1, b"gr\xfc")):
        assert refused.code == "STRAND_EINVAL" and "not UTF-8" in refused.error, refused


@pytest.mark.parametrize("table, code, text", [
    ("no_such_table", "STRAND_EINVAL", "there is no table no_such_table"),
    ("x; DROP TABLE ad_strands", "STRAND_EINVAL", "x; DROP"),
    ("pg_catalog.pg_class", "STRAND_EINVAL", "no module's table"),
    ("dm_receipts", "STRAND_EINVAL", "no module's table"),
])
def test_tables_that_are_none(client, table, code, text):
    for refused in (client.write({}, table=table), client.read("AD_1", table=table), client.recent(table=table)):
        assert refused.code == code and text in refused.error, refused


def test_names_resolve_as_in_sql(client, db):
    """Other tables can be written and read; the module's name goes into its own only."""
    assert client.write({"id": "DM_1"}, table="DM_strands").code == "STRAND_OK"
    assert client.write({"id": "AD_1"}, table="public.AD_strands").code == "STRAND_OK"
    assert client.write({"id": "AD_2"}, table="ad_STRANDS").code == "STRAND_OK"
    assert db.value("SELECT module FROM ad_strands WHERE id = 'AD_2'") == "alpha"
    assert db.value("SELECT id FROM dm_strands WHERE module IS DISTINCT FROM 'alpha'") == "DM_1"
    assert client.read("DM_1", table="public.dm_strands").rows[0]["id"] == "DM_1"


def test_read(client, db):
    db.execute("INSERT INTO ad_strands (id, symbol, tags) VALUES ('AD_1', 'SPX', '[\"a:b\"]')")
    row = client.read("AD_1").rows
    assert len(row) == 1 and (row[0]["id"], row[0]["symbol"], row[0]["tags"]) == ("AD_1", "SPX", ["a:b"])
    missing = client.read("AD_2")
    assert missing.code == "STRAND_ENOENT" and "AD_2" in missing.error, missing


def test_a_strand_that_is_nested_too_deep(client, db):
    """Neither written nor read, and said so."""
    deep = '{"id": "AD_1", "trading_plan": %s}'
    assert client.write(deep % ("[" * 500 + "]" * 500)).code == "STRAND_OK"
    assert client.read("AD_1").code == "STRAND_OK"
    assert client.write(deep % ("[" * 600 + "]" * 600)).code == "STRAND_EINVAL"
    db.execute("UPDATE ad_strands SET trading_plan = (repeat('[', 600) || repeat(']', 600))::jsonb")
    for refused in (client.read("AD_1"), client.recent()):
        assert refused.code == "STRAND_EPROTO" and "nested too deep" in refused.error, refused


def test_recent(client, db):
    """All of the tags, newest first, no more than asked for."""
    for i in range(20):
        db.execute("INSERT INTO ad_strands (id, tags, created_at) VALUES (%s, %s, now() - %s * interval '1 min')",
                   (f"AD_{i}", json.dumps(["a:b", "c:d"] if i % 2 else ["a:b"]), i))
    assert [r["id"] for r in client.recent("a:b", limit=3).rows] == ["AD_0", "AD_1", "AD_2"]
    assert [r["id"] for r in client.recent("a:b", "c:d", limit=3).rows] == ["AD_1", "AD_3", "AD_5"]
    assert len(client.recent(limit=100).rows) == 20
    assert client.recent("x:y").code == "STRAND_OK" and client.recent("x:y").rows == []
    refused = client.recent("a:b", limit=0)
    assert refused.code == "STRAND_EINVAL" and "limit of 0" in refused.error


def test_without_strandd(build, plain_db):
    """The specification's table alone: no schema of strandd, no added column, no default."""
    plain_db.execute("CREATE TABLE x_strands (id text PRIMARY KEY, tags jsonb, created_at timestamptz, symbol text)")
    c = lib.Client(build, plain_db.dsn(), "mine", "x_strands")
    done = c.write({"symbol": "SPX"}, "a:b")
    assert done.code == "STRAND_OK" and done.lines[0].startswith("X_"), done
    assert c.recent("a:b").rows[0]["symbol"] == "SPX"
    assert plain_db.value("SELECT created_at > now() - interval '1 min' FROM x_strands")
    c.close()


@pytest.mark.parametrize("words, code, text", [
    ({"dbname": "no_such_database"}, "STRAND_ECONN", "no_such_database"),
    ({"host": "/no/such/directory"}, "STRAND_ECONN", "/no/such/directory"),
    ({"user": "no_such_role"}, "STRAND_ECONN", "no_such_role"),
])
def test_no_connection(build, db, words, code, text):
    c = lib.Client(build, db.dsn(**words))
    assert c.opened.code == code and text in c.opened.error, c.opened
    assert c.write({}).code == code
    c.close()


def test_a_conninfo_with_a_fault_is_not_repeated(build):
    for conninfo in ("password=geheim host", "postgresql://u:ge/heim@h/d"):
        c = lib.Client(build, conninfo)
        assert c.opened.code == "STRAND_EINVAL" and "heim" not in c.opened.error, c.opened
        c.close()


def test_no_module(build, db):
    """It says so at every call, whatever table that names."""
    c = lib.Client(build, db.dsn(), "mine")
    assert c.opened.code == "STRAND_EINVAL" and "mine" in c.opened.error
    for refused in (c.write({}), c.write({}, table="ad_strands"), c.read("AD_1", table="ad_strands")):
        assert refused.code == "STRAND_EINVAL" and "strand_client_open" in refused.error, refused
    c.close()


@pytest.mark.parametrize("call, text", [
    (("write", None, None), "no strand is given"), (("many", None, 2, "{}", None), "strand 2: no strand is given"),
    (("write", None, "{}", "a:b", None), "a tag is NULL"), (("read", None, None), "no id is given"),
    (("recent", None, 5, "a:b", None), "a tag is NULL"),
])
def test_null_where_there_is_none(client, db, call, text):
    """What strand_row_json and strand_column return after a fault is refused, not read."""
    assert client.write({"id": "AD_1"}).code == "STRAND_OK"
    refused = client.call(*call)
    assert refused.code == "STRAND_EINVAL" and text in refused.error, refused
    assert db.value("SELECT count(*) FROM ad_strands") == 1


@pytest.mark.sanitize
def test_a_lost_connection_is_replaced(client, db):
    assert client.write({"id": "AD_1"}, PLAN).code == "STRAND_OK"
    assert lib.terminate(db) == 1
    assert client.write({"id": "AD_2"}, PLAN).code == "STRAND_OK"
    assert lib.terminate(db) == 1
    assert [r["id"] for r in client.recent(PLAN).rows] == ["AD_2", "AD_1"]
    assert db.value("SELECT count(*) FROM ad_strands") == 2


def test_a_deadline_is_kept(client, db):
    """A table that somebody holds locked: the call ends, and what it began is undone."""
    assert client.read("AD_0").code == "STRAND_ENOENT"
    holder = db.connect(autocommit=False)
    db.execute("LOCK TABLE ad_strands", conn=holder)
    client.call("timeout", 300)
    for late in (client.write({"id": "AD_1"}), client.read("AD_1")):
        assert late.code == "STRAND_ETIMEOUT", late
    holder.rollback()
    client.call("timeout", 30000)
    lib.wait_until(lambda: len(lib.backends(db)) == 0, 20)
    assert client.write({"id": "AD_2"}).code == "STRAND_OK"
    assert db.execute("SELECT id FROM ad_strands") == [("AD_2",)]


def test_a_deferred_constraint_refuses_at_commit(client, db):
    db.execute("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not at commit'; END $$;"
               "CREATE CONSTRAINT TRIGGER no AFTER INSERT ON ad_strands DEFERRABLE INITIALLY DEFERRED"
               " FOR EACH ROW WHEN (NEW.symbol = 'no') EXECUTE FUNCTION no()")
    refused = client.write({"symbol": "no"})
    assert refused.code == "STRAND_ESQL" and "not at commit" in refused.error, refused
    assert client.write({"symbol": "yes"}).code == "STRAND_OK"
    assert db.value("SELECT count(*) FROM ad_strands") == 1


def test_a_connection_lost_in_the_commit(build, db):
    """The session dies within COMMIT: the library asks whether it took effect, and says so."""
    db.execute("CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
               " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;"
               "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON ad_strands DEFERRABLE INITIALLY DEFERRED"
               " FOR EACH ROW EXECUTE FUNCTION die()")
    c = lib.Client(build, db.dsn())
    lost = c.write({"id": "AD_1"})
    assert lost.code == "STRAND_ECONN" and "nothing was written" in lost.error, lost
    assert db.value("SELECT count(*) FROM ad_strands") == 0
    c.close()


@pytest.mark.parametrize("table", ["a.b.c", "x y.t", "a,b.t", '"a.t', ".t", "x.y; z"])
def test_an_own_table_whose_name_is_none(build, db, table):
    """It is the name that is at fault, not the server."""
    c = lib.Client(build, db.dsn(), "mine", table)
    assert c.opened.code == "STRAND_EINVAL" and table in c.opened.error, c.opened
    c.close()
