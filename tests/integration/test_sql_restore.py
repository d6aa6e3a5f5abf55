"""A dump of a real installation, restored into another cluster."""

import subprocess

import pytest

import cluster as private
from sql_support import Ears, catalog, open_work


@pytest.fixture(scope="module")
def elsewhere():
    with private.Cluster() as c:
        yield c


@pytest.fixture
def restored(db, elsewhere):
    """Five strands done, five open, and a route whose history is unfinished."""
    for i in range(500):  # the new cluster has not come as far
        db.execute("SELECT pg_current_xact_id()")
    db.execute("INSERT INTO ad_strands (id, tags) SELECT 'done' || i, '[\"dm:evaluate_plan\"]' FROM generate_series(1, 5) i")
    db.execute("INSERT INTO dm_receipts (route, strand_id, state) SELECT 1, 'done' || i, 'done' FROM generate_series(1, 5) i")
    db.execute("INSERT INTO ad_strands (id, tags) SELECT 'open' || i, '[\"dm:evaluate_plan\"]' FROM generate_series(1, 5) i")
    db.execute("CREATE TABLE src (id text PRIMARY KEY, tags jsonb); INSERT INTO src VALUES ('old1', '[\"x:y\"]'), ('old2', '[\"x:y\"]')")
    db.attach("x:y", "src", "dm_strands", history=False)
    db.execute("INSERT INTO src VALUES ('new', '[\"x:y\"]')")
    copy = elsewhere.database(installed=False)
    dump = subprocess.run([f"{db.cluster.bin}/pg_dump", "-d", db.dsn()], capture_output=True, text=True, check=True).stdout
    copy.psql(stdin=dump)
    yield db, copy
    copy.drop()


def test_the_restored_database_is_the_same(restored):
    db, copy = restored
    assert catalog(copy) == catalog(db)
    # and its installation goes on: nothing to change
    copy.install(private.INSTALL_FILES[:-1])
    assert catalog(copy) == catalog(db)
    ears = Ears(copy, "dm_evaluate_plan")
    copy.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', '[\"dm:evaluate_plan\"]')")
    assert ears.heard() == [("dm_evaluate_plan", "a")]


def test_it_is_known_as_another_clusters(restored):
    _, copy = restored
    assert copy.value("SELECT bool_and(database_identifier <> strandd.database_identifier()) FROM strandd.routes()")
    assert copy.value("SELECT strandd.holds_foreign('ad_strands')")


@pytest.mark.parametrize("mode, plans, others", [
    ("deliver", ["open1", "open2", "open3", "open4", "open5"], ["new"]), ("skip", [], [])])
def test_adopted(restored, mode, plans, others):
    _, copy = restored
    for receiver in ("ad_strands", "dm_strands", "tr_strands"):
        for _ in range(100):
            if copy.value("SELECT finished FROM strandd.adopt(%s, %s)", (receiver, mode)):
                break
    assert copy.value("SELECT bool_and(database_identifier = strandd.database_identifier() AND history IS NULL) FROM strandd.routes()")
    assert open_work(copy, "dm:evaluate_plan", "ad_strands", "dm_strands") == plans
    assert open_work(copy, "x:y", "src", "dm_strands") == others
    copy.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', '[\"dm:evaluate_plan\"]')")
    assert open_work(copy, "dm:evaluate_plan", "ad_strands", "dm_strands") == ["a", *plans]
