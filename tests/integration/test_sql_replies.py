"""The functions that strandd's own statements call."""

import hashlib
import re

import psycopg2
import pytest

from sql_support import Ears

COLUMNS = ["id", "module", "kind", "dm_decision", "tags", "created_at", "updated_at"]


@pytest.fixture
def service(db):
    return db.connect("strandd_service")


def test_receipt_key(db, service):
    for name in ("a", "", "é" * 500, "x" * 1000):
        assert db.value("SELECT strandd.receipt_key(%s)", (name,), service) == name
    for name in ("x" * 1001, "é" * 501, "sha256:", "sha256:" + "0" * 64, "back\\slash" * 200):
        assert db.value("SELECT strandd.receipt_key(%s)", (name,), service) == "sha256:" + hashlib.sha256(name.encode()).hexdigest()


@pytest.mark.parametrize("sql", [
    "SELECT strandd.receipt_key(id) FROM dm_strands", "SELECT strandd.channel(id) FROM dm_strands",
    "SELECT strandd.new_id('dm') FROM dm_strands", "SELECT strandd.unrouted_tags(tags, '{a:b}') FROM dm_strands"])
def test_inlined(db, service, sql):
    plan = "\n".join(r[0] for r in db.execute("EXPLAIN (VERBOSE) " + sql, conn=service))
    assert "Output:" in plan and "strandd." not in plan


def test_new_id(db, service):
    ids = [r[0] for r in db.execute("SELECT strandd.new_id('dm') FROM generate_series(1, 1000)", conn=service)]
    assert all(re.fullmatch("DM_[0-9a-f]{12}", i) for i in ids)
    assert len(set(ids)) == 1000
    # every digit is random, the version's too
    assert all(len({i[at] for i in ids}) == 16 for at in range(3, 15))


@pytest.mark.parametrize("tags, count", [
    (None, 0), ("[]", 0), ("{}", 0), ('"x:y"', 0), ("null", 0), ('["trader:exceute_plan"]', 1), ('["trader:execute_plan"]', 0),
    ('["trader:execute_plan", "a:b", "c:d", "a:b"]', 3), ('["priority:high", "timeout:3", "original_strand:AD_1", "error:x"]', 0),
    ('["plain", "a:b:c", ":x", "x:", "a b:c", "http://x", 7, null, ["a:b"], {"a:b": 1}]', 1), ('["priority_:x", "xerror:y"]', 2)])
def test_unrouted_tags(db, service, tags, count):
    assert db.value("SELECT strandd.unrouted_tags(%s, ARRAY['trader:execute_plan', 'alpha:decision_feedback'])", (tags,), service) == count
    if tags == '["trader:execute_plan"]':
        assert db.value("SELECT strandd.unrouted_tags(%s, NULL)", (tags,), service) == 1


@pytest.mark.parametrize("reply, fault", [
    ("[]", "the reply to strand 'AD_1' is not a JSON object: []"), ("7", "is not a JSON object: 7"), ("null", "is not a JSON object: null"),
    ('{"kind": "k", "zebra": 1, "Ape": 2}', 'names unknown columns: "Ape", zebra'), ('{"xact_id": "5"}', "names reserved columns: xact_id"),
    ('{"tagged_at": null, "xact_id": 1}', "names reserved columns: tagged_at, xact_id"),
    ('{"tags": "alpha:x"}', 'has tags that are not an array: "alpha:x"'), ('{"tags": {}}', "has tags that are not an array"),
])
def test_refused_replies(db, service, reply, fault):
    with pytest.raises(psycopg2.Error) as error:
        db.execute("SELECT strandd.refuse_reply('AD_1', %s, %s)", (reply, COLUMNS), service)
    assert error.value.pgcode == "SR001"
    assert fault in error.value.diag.message_primary


@pytest.mark.parametrize("reply", ["{}", '{"id": "x", "tags": []}', '{"tags": null}'])
def test_good_replies(db, service, reply):
    assert db.value("SELECT strandd.refuse_reply('AD_1', %s, %s)", (reply, COLUMNS), service) is True


def update(db, conn, reply, strand="AD_1"):
    return db.value("SELECT strandd.update_strand('dm_strands', %s, %s, %s)", (strand, reply, COLUMNS), conn)


def row(db):
    return db.execute("SELECT kind, dm_decision, tags, updated_at > '2021-01-01' FROM dm_strands WHERE id = 'd'")[0]


@pytest.fixture
def strand(db):
    db.execute("INSERT INTO dm_strands (id, kind, dm_decision, tags, updated_at) VALUES ('d', 'k', '{\"a\": 1}',"
               " '[\"alpha:decision_feedback\", \"original_strand:AD_0\", \"old\"]', '2020-01-01')")


def test_update(db, service, strand):
    """Pattern 3: the reply's tags and columns; where it came from, before and
    now; the attached tag that nobody may take away."""
    ears = Ears(db, "trader_execute_plan", "alpha_decision_feedback")
    assert update(db, service, '{"update": "d", "dm_decision": {"b": 2}, "tags": ["trader:execute_plan"]}') is False
    kind, decision, tags, renewed = row(db)
    assert (kind, decision, renewed) == ("k", {"b": 2}, True)
    assert sorted(tags) == ["alpha:decision_feedback", "original_strand:AD_0", "original_strand:AD_1", "trader:execute_plan"]
    assert ears.heard() == [("trader_execute_plan", "d")]
    update(db, service, '{"update": "d", "tags": ["trader:execute_plan", "original_strand:AD_1"]}')
    assert sorted(row(db)[2]) == sorted(tags)


def test_update_without_tags(db, service, strand):
    update(db, service, '{"update": "d", "id": "d", "kind": null, "updated_at": "2020-02-02"}')
    assert row(db) == (None, {"a": 1}, ["alpha:decision_feedback", "original_strand:AD_0", "old", "original_strand:AD_1"], False)


def test_update_leaves_a_domain_alone_that_refuses_null(db, service, strand):
    db.execute("CREATE DOMAIN test.must AS text NOT NULL; ALTER TABLE dm_strands ADD COLUMN must test.must DEFAULT 'x'")
    columns = COLUMNS + ["must"]
    for reply, after in (('{"update": "d", "kind": "z"}', "x"), ('{"update": "d", "must": "y"}', "y")):
        db.execute("SELECT strandd.update_strand('dm_strands', 'AD_1', %s, %s)", (reply, columns), service)
        assert db.value("SELECT must FROM dm_strands WHERE id = 'd'") == after
    with pytest.raises(psycopg2.errors.NotNullViolation):
        db.execute("SELECT strandd.update_strand('dm_strands', 'AD_1', '{\"update\": \"d\", \"must\": null}', %s)", (columns,), service)


@pytest.mark.parametrize("tags, after", [(None, []), ("null", []), ("{}", [{}]), ('"x"', ["x"]), ('[1, [2]]', [1, [2]])])
def test_update_of_odd_tags(db, service, tags, after):
    db.execute("INSERT INTO dm_strands (id, tags) VALUES ('d', %s)", (tags,))
    update(db, service, '{"update": "d"}', 'quote "\\ é')
    assert row(db)[2] == after + ['original_strand:quote "\\ é']


@pytest.mark.parametrize("reply, code, fault", [
    ('{"update": "none", "kind": "k"}', "SR002", "the reply to strand 'AD_1' updates 'none', which public.dm_strands does not hold"),
    ('{"update": 7}', "SR001", "updates no strand"), ('{"update": null}', "SR001", "updates no strand"),
    ('{"update": "d", "id": "e"}', "SR001", "changes its id"), ('{"update": "d", "zebra": 1}', "SR001", "unknown columns: zebra"),
    ('{"update": "d", "xact_id": "1"}', "SR001", "reserved columns: xact_id"), ('{"update": "d", "tags": "x"}', "SR001", "not an array"),
])
def test_refused_updates(db, service, strand, reply, code, fault):
    with pytest.raises(psycopg2.Error) as error:
        update(db, service, reply)
    assert error.value.pgcode == code
    assert fault in error.value.diag.message_primary


def test_update_of_a_strand_that_the_same_statement_wrote(db, service):
    db.execute("WITH w AS (INSERT INTO dm_strands (id, kind) VALUES ('d', 'k') RETURNING id)"
               " SELECT strandd.update_strand('dm_strands', 'AD_1', jsonb_build_object('update', id, 'kind', 'z'), %s) FROM w",
               (COLUMNS,), service)
    assert row(db)[0] == "z"


def test_update_of_a_column_that_is_gone(db, service, strand):
    """The caller's list of columns may be older than the table: an error, not a loss."""
    with pytest.raises(psycopg2.errors.UndefinedColumn):
        db.execute("SELECT strandd.update_strand('dm_strands', 'AD_1', '{\"update\": \"d\", \"gone\": 1}', %s)",
                   (COLUMNS + ["gone"],), service)


def test_users_triggers_keep_their_search_path(db, service, strand):
    db.execute("CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.kind := helped(NEW.kind); RETURN NEW; END $$;"
               "CREATE FUNCTION helped(text) RETURNS text LANGUAGE sql AS $$ SELECT $1 || '!' $$;"
               "CREATE TRIGGER touch BEFORE UPDATE ON dm_strands FOR EACH ROW EXECUTE FUNCTION touch()")
    update(db, service, '{"update": "d", "kind": "z"}')
    assert row(db)[0] == "z!"
