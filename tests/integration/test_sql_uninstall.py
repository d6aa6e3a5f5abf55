"""Uninstalling: what stands in its way, and what an interrupted one leaves."""

import pytest

import cluster as private
from ctl_support import ok, refused
from sql_support import catalog

TAG = "dm:evaluate_plan"


def has_xact_id(db, table):
    return db.value("SELECT count(*) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'xact_id'", (table,)) == 1


def insert(db, name):
    db.execute("INSERT INTO ad_strands (id, tags) VALUES (%s, jsonb_build_array(%s))", (name, TAG))


def half_uninstalled(db):
    """Uninstalled up to TR_strands, which somebody reads."""
    reader = db.connect(autocommit=False)
    db.execute("SELECT count(*) FROM tr_strands", conn=reader)
    refused(private.strandctl(db, "--lock-wait", "1", "uninstall", "--yes"), 1, "idle in transaction")
    reader.rollback()
    assert not has_xact_id(db, "ad_strands") and has_xact_id(db, "tr_strands")


def test_init_after_half_an_uninstall_loses_nothing(db, daemon, wait_until):
    insert(db, "before")
    with private.Daemon(db, [(TAG, "AD_strands", "test.record")]):
        wait_until(lambda: db.receipts("dm") == [(TAG, "before", "done")], 20)
        wait_until(lambda: int(db.value("SELECT position::text FROM dm_routes WHERE tag = %s", (TAG,))) > 10, 20)
    half_uninstalled(db)
    insert(db, "between")
    ok(private.strandctl(db, "init"))
    insert(db, "after")
    daemon([(TAG, "AD_strands", "test.record")])
    wait_until(lambda: len(db.receipts("dm")) == 3, 20)
    assert db.receipts("dm") == [(TAG, name, "done") for name in ("after", "before", "between")]
    assert db.execute("SELECT id FROM test.calls ORDER BY n")[0] == ("before",)
    assert db.value("SELECT count(*) FROM test.calls") == 3


def test_init_after_half_an_uninstall_with_history_left_is_refused(db, build):
    """The numbers that told history from news are gone with the column."""
    db.execute("UPDATE dm_routes SET history = pg_current_snapshot() WHERE tag = %s", (TAG,))
    half_uninstalled(db)
    insert(db, "between")
    hint = refused(private.strandctl(db, "init"), 1, "public.ad_strands", TAG, "uninstall")
    assert not has_xact_id(db, "ad_strands")
    call = "SELECT strandd.detach('dm:evaluate_plan', 'public.ad_strands', 'public.dm_strands')"
    assert call in hint
    db.execute(call)
    ok(private.strandctl(db, "init"))
    ok(private.strandctl(db, "attach", "--tag", TAG, "--source", "AD_strands", "--receiver", "DM_strands", "--deliver-existing"))
    assert db.value("SELECT position::text FROM dm_routes WHERE tag = %s AND history IS NULL", (TAG,)) == "0"


@pytest.mark.parametrize("make, named", [
    ("CREATE VIEW v AS SELECT count(*) FROM strandd.routes()", "view public.v"),
    ("CREATE VIEW v AS SELECT * FROM ad_strands", "view public.v"),
    ("CREATE MATERIALIZED VIEW v AS SELECT tagged_at FROM tr_strands", "materialized view public.v"),
    ("CREATE VIEW v AS SELECT * FROM dm_receipts JOIN dm_routes USING (route)", "view public.v"),
    ("CREATE VIEW strandd.v AS SELECT 1", "view strandd.v"),
    ("CREATE TABLE v (id text DEFAULT strandd.new_id('v'))", "default value for column id of table public.v"),
    ("CREATE TABLE v (tag text, CONSTRAINT c CHECK (strandd.channel(tag) <> 'x'))", "constraint c on table public.v"),
    ("CREATE TABLE v (route int, id text COLLATE \"C\", CONSTRAINT c FOREIGN KEY (route, id) REFERENCES dm_receipts)", "constraint c on table public.v"),
    ("CREATE TABLE v (tag text); CREATE INDEX i ON v (strandd.channel(tag))", "index public.i"),
    ("CREATE FUNCTION v(strandd.receivers) RETURNS int LANGUAGE sql AS 'SELECT 1'", "function public.v(strandd.receivers)"),
    ("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
     "CREATE TRIGGER v BEFORE UPDATE ON dm_strands FOR EACH ROW WHEN (OLD.tagged_at < now()) EXECUTE FUNCTION f()", "trigger v on table public.dm_strands"),
], ids=lambda p: p[:40])
def test_what_depends_on_strandd_is_named_and_stays(db, build, make, named):
    """Nothing of the user's own is dropped along, and nothing else before it is gone."""
    db.execute(make)
    before = catalog(db)
    said = refused(private.strandctl(db, "uninstall", "--yes"), 1, named, "Drop", "again")
    assert "CASCADE" not in said
    assert catalog(db) == before
    kind, name = named.split(" ")[0], named.rsplit(" ", 1)[1]
    drop = {"view": "VIEW", "materialized": "MATERIALIZED VIEW", "function": "FUNCTION", "index": "INDEX"}.get(kind)
    db.execute(f"DROP {drop} {name}" if drop else "DROP TRIGGER v ON dm_strands" if kind == "trigger" else "DROP TABLE v")
    ok(private.strandctl(db, "uninstall", "--yes"))
    assert db.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'strandd'") == 0
