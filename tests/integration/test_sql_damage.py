"""Tables that were renamed, moved or dropped behind strandd's back."""

import psycopg2
import pytest

from cluster import INSTALL_FILES, SQL
from sql_support import Ears, catalog, open_work

TAG = "dm:evaluate_plan"
GOOD = "id text PRIMARY KEY, tags jsonb"


def init_refused(db):
    done = db.psql(*[a for f in INSTALL_FILES for a in ("-f", str(SQL / f))], check=False)
    assert done.returncode == 3 and "HINT:" in done.stderr, done.stderr
    return done.stderr


@pytest.mark.parametrize("lost, left", [("dm_receipts", "dm_routes"), ("dm_routes", "dm_receipts")])
def test_one_of_a_modules_tables_is_dropped(db, lost, left):
    """Neither can be made up for: it is said, and nothing is changed."""
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', jsonb_build_array(%s))", (TAG,))
    db.execute(f"CREATE TABLE backup AS TABLE {lost}")
    functions = catalog(db)["functions"]
    db.execute(f"DROP TABLE {lost}")
    said = init_refused(db)
    assert f"public.dm_strands has lost its table public.{lost}" in said and f"drop public.{left} too" in said
    assert catalog(db)["functions"] == functions
    with pytest.raises(psycopg2.Error, match="has lost its table"):
        db.attach("dm:x", "ad_strands", "dm_strands")
    db.execute(f"DROP TABLE {left}")
    db.install()
    assert db.value("SELECT count(*) FROM strandd.routes()") == 5
    assert catalog(db)["functions"] == functions
    assert db.receipts("dm") == [(TAG, "a", "skipped")]
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('b', jsonb_build_array(%s))", (TAG,))
    assert open_work(db, TAG, "ad_strands", "dm_strands") == ["b"]


def test_a_modules_tables_are_brought_back(db):
    """By their names: their numbers are new."""
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', jsonb_build_array(%s)), ('b', jsonb_build_array(%s))", (TAG, TAG))
    db.execute("INSERT INTO dm_receipts (route, strand_id, state) SELECT route, 'a', 'done' FROM dm_routes WHERE tag = %s", (TAG,))
    before = catalog(db)
    db.execute("CREATE TABLE copy (LIKE dm_receipts INCLUDING ALL); INSERT INTO copy TABLE dm_receipts; DROP TABLE dm_receipts;"
               "ALTER TABLE copy RENAME TO dm_receipts; ALTER INDEX copy_pkey RENAME TO dm_receipts_pkey;"
               "ALTER INDEX copy_route_due_at_idx RENAME TO dm_receipts_due; ALTER INDEX copy_route_strand_id_idx RENAME TO dm_receipts_unmarked;"
               "ALTER INDEX copy_route_finished_at_idx RENAME TO dm_receipts_failed")
    db.install()
    assert catalog(db) == before
    assert db.value("SELECT count(*) FROM strandd.routes()") == 5
    assert db.value("SELECT receipts = 'dm_receipts'::regclass FROM strandd.receivers WHERE receiver = 'dm_strands'::regclass")
    assert open_work(db, TAG, "ad_strands", "dm_strands") == ["b"]


def test_a_receiver_is_renamed(db):
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', jsonb_build_array(%s))", (TAG,))
    tables = "SELECT relname FROM pg_class WHERE relname ~ '_(routes|receipts)$' ORDER BY 1"
    before = db.execute(tables)
    route = db.value("SELECT route FROM dm_routes WHERE tag = %s", (TAG,))
    db.execute("ALTER TABLE dm_strands RENAME TO decisions")
    assert db.attach(TAG, "ad_strands", "decisions") == route
    db.attach("dm:x", "ad_strands", "decisions")
    assert db.execute(tables) == before
    assert db.value("SELECT count(*) FROM dm_routes") == 3
    assert open_work(db, TAG, "ad_strands", "decisions") == ["a"]
    db.execute(f"CREATE TABLE dm ({GOOD})")
    with pytest.raises(psycopg2.Error, match="public.dm and public.decisions share the prefix 'dm'"):
        db.execute("SELECT strandd.prepare_receiver('dm')")


OURS = ("SELECT t.tgrelid::regclass::text, t.tgname, p.oid::regproc::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " WHERE NOT tgisinternal AND t.tgrelid = %s::regclass ORDER BY 2")


def triggers(db, table):
    """What a source's triggers are and call: once each, by its present name."""
    return db.execute(OURS, (table,)) == [
        (table, f"{table}_notify", f"notify_from_{table}"), (table, f"{table}_notify_update", f"notify_from_{table}"),
        (table, f"zzz_{table}_before_insert", "strandd.stamp_strand"), (table, f"zzz_{table}_before_update", f"keep_tags_of_{table}")]


def indexes(db, table):
    return [r[0] for r in db.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass AND NOT indisprimary"
                                     " ORDER BY 1", (table,))]


@pytest.mark.parametrize("then", ["attach", "detach", "install", "adopt"])
def test_a_source_is_renamed(db, then):
    db.execute("ALTER TABLE ad_strands RENAME TO plans")
    ears = Ears(db, "dm_evaluate_plan", "dm_x")
    if then == "attach":
        db.attach("dm:x", "plans", "dm_strands")
    elif then == "detach":
        db.execute("SELECT strandd.detach(%s, 'plans', 'dm_strands')", (TAG,))
    elif then == "install":
        db.execute("SELECT strandd.prepare_source('plans')")
    else:
        db.execute("UPDATE dm_routes SET database_identifier = 'other'")
        while not db.value("SELECT finished FROM strandd.adopt('dm_strands', 'skip')"):
            pass
    assert triggers(db, "plans")
    assert indexes(db, "plans") == [f"idx_plans_{x}" for x in ("created_at", "tags", "xact_id", "xact_id_high")]
    assert db.execute("SELECT * FROM strandd.index_statements('plans')") == []
    assert db.value("SELECT count(*) FROM pg_proc WHERE proname ~ 'ad_strands'") == 0
    db.execute("INSERT INTO plans (id, tags) VALUES ('a', '[\"dm:evaluate_plan\", \"dm:x\"]')")
    assert ears.heard() == {"attach": [("dm_evaluate_plan", "a"), ("dm_x", "a")], "detach": []}.get(then, [("dm_evaluate_plan", "a")])


def test_a_renamed_source_is_uninstalled(db):
    db.execute("ALTER TABLE ad_strands RENAME TO plans")
    db.uninstall()
    assert db.execute(OURS, ("plans",)) == [("plans", "plans_notify", "notify_from_plans")]
    assert db.value("SELECT count(*) FROM pg_proc WHERE proname ~ '^keep_tags'") == 0
    ears = Ears(db, "dm_evaluate_plan")
    db.execute("INSERT INTO plans (id, tags) VALUES ('a', '[\"dm:evaluate_plan\"]')")
    assert ears.heard() == [("dm_evaluate_plan", "a")]
    db.install()  # makes a new ad_strands
    assert triggers(db, "ad_strands")


def test_a_restored_source_is_renamed_before_it_is_adopted(db):
    """Its index is known by what it is, not by its name."""
    db.execute("ALTER TABLE ad_strands RENAME TO plans")
    db.execute("ALTER TABLE plans DISABLE TRIGGER USER; INSERT INTO plans (id, tags, xact_id) VALUES ('a', '[]', '99999999999');"
               " ALTER TABLE plans ENABLE ALWAYS TRIGGER zzz_ad_strands_before_update")
    assert db.value("SELECT strandd.holds_foreign('plans')")


def test_a_short_name(db):
    db.execute(f"CREATE TABLE s ({GOOD}, created_at timestamptz)")
    db.attach("dm:s", "s", "dm_strands")
    db.execute("ALTER TABLE s RENAME TO x")
    db.attach("dm:x", "x", "dm_strands")
    assert triggers(db, "x")
    assert indexes(db, "x") == ["idx_x_created_at", "idx_x_tags", "idx_x_xact_id", "idx_x_xact_id_high"]


def test_two_sources_swap_their_names(db):
    """And move to another schema besides."""
    for table in ("a_strands", "b_strands"):
        db.execute(f"CREATE TABLE {table} ({GOOD}, created_at timestamptz)")
        db.attach(f"dm:{table}", table, "dm_strands")
    db.execute("ALTER TABLE a_strands RENAME TO c; ALTER TABLE b_strands RENAME TO a_strands; ALTER TABLE c RENAME TO b_strands")
    db.attach("dm:x", "a_strands", "dm_strands")
    assert triggers(db, "a_strands") and triggers(db, "b_strands")
    assert db.execute("SELECT * FROM strandd.index_statements('a_strands') UNION ALL SELECT * FROM strandd.index_statements('b_strands')") == []
    ears = Ears(db, "dm_a_strands", "dm_b_strands")
    for table in ("a_strands", "b_strands"):
        db.execute(f"INSERT INTO {table} (id, tags) VALUES ('{table}', '[\"dm:a_strands\", \"dm:b_strands\"]')")
    assert ears.heard() == [("dm_b_strands", "a_strands"), ("dm_a_strands", "b_strands")]
    db.execute("CREATE SCHEMA s; ALTER TABLE a_strands SET SCHEMA s")
    db.execute("SELECT strandd.detach('dm:x', 's.a_strands', 'dm_strands')")
    functions = "SELECT oid::regproc::text FROM pg_proc WHERE proname ~ 'a_strands$' ORDER BY 1"
    assert db.execute(functions) == [("s.keep_tags_of_a_strands",), ("s.notify_from_a_strands",)]
    db.uninstall()
    assert db.execute(functions) == [("s.notify_from_a_strands",)]


def test_init_makes_no_second_table_beside_a_renamed_one(db):
    installed = catalog(db)
    db.execute("ALTER TABLE ad_strands RENAME TO plans")
    before = catalog(db)
    said = init_refused(db)
    assert "public.plans is the module's table ad_strands, renamed or moved" in said and "RENAME TO ad_strands" in said
    assert catalog(db) == before
    db.execute("ALTER TABLE plans RENAME TO ad_strands")
    db.install()
    assert catalog(db) == installed
