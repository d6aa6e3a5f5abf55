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
               "ALTER INDEX copy_due_at_idx RENAME TO dm_receipts_due")
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
