"""index_statements: what is missing, what an interrupted build left."""

import threading

import psycopg2
import pytest

from cluster import wait_until

INDEXES = ["idx_ad_strands_created_at", "idx_ad_strands_tags", "idx_ad_strands_xact_id", "idx_ad_strands_xact_id_high"]


def statements(db, table="ad_strands"):
    return [s for s, in db.execute("SELECT strandd.index_statements(%s::regclass)", (table,))]


def run(db, table="ad_strands"):
    for s in statements(db, table):
        db.execute(s)


def valid(db):
    return db.execute("SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid = 'ad_strands'::regclass AND NOT indisprimary ORDER BY 1")


def test_missing_ones_are_built(db):
    assert statements(db) == []
    for name in INDEXES:
        db.execute(f"DROP INDEX {name}")
    assert [s.split()[3] for s in statements(db)] == ["idx_ad_strands_xact_id", "idx_ad_strands_xact_id_high",
                                                      "idx_ad_strands_tags", "idx_ad_strands_created_at"]
    run(db)
    assert valid(db) == [(name, True) for name in INDEXES]
    assert statements(db) == []


@pytest.mark.parametrize("name", INDEXES)
def test_what_a_cancelled_build_left_is_built_again(db, name):
    """CREATE INDEX CONCURRENTLY waits for an open transaction; cancelled there,
    it leaves an invalid index."""
    db.execute(f"DROP INDEX {name}")
    writer = db.connect(autocommit=False)
    db.execute("INSERT INTO ad_strands (id) VALUES ('w')", conn=writer)
    builder = db.connect()
    create, = statements(db)

    def build():
        with pytest.raises(psycopg2.errors.QueryCanceled):
            db.execute(create, conn=builder)

    thread = threading.Thread(target=build)
    thread.start()
    wait_until(lambda: db.value("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s", (builder.info.backend_pid,)))
    builder.cancel()
    thread.join()
    writer.rollback()
    assert (name, False) in valid(db)
    assert statements(db) == [f"DROP INDEX CONCURRENTLY IF EXISTS public.{name}", create]
    run(db)
    assert valid(db) == [(n, True) for n in INDEXES]


def test_an_index_of_ours_with_another_definition_is_replaced(db):
    db.execute("DROP INDEX idx_ad_strands_xact_id")
    db.execute("CREATE INDEX idx_ad_strands_xact_id ON ad_strands (xact_id)")
    run(db)
    assert "hashtextextended" in db.value("SELECT pg_get_indexdef('idx_ad_strands_xact_id'::regclass)")


def test_fastupdate_of_an_existing_index_is_turned_off(db):
    db.execute("ALTER INDEX idx_ad_strands_tags RESET (fastupdate)")
    db.execute("INSERT INTO ad_strands (id, tags) SELECT i, jsonb_build_array('t' || i) FROM generate_series(1, 100) i")
    assert statements(db) == ["ALTER INDEX public.idx_ad_strands_tags SET (fastupdate = off)",
                              "SELECT pg_catalog.gin_clean_pending_list('public.idx_ad_strands_tags'::pg_catalog.regclass)"]
    run(db)
    assert statements(db) == []


def test_a_table_without_created_at(db):
    db.execute("CREATE TABLE t (id text PRIMARY KEY, tags jsonb)")
    db.execute("SELECT strandd.prepare_source('t')")
    assert [s.split()[3] for s in statements(db, "t")] == ["idx_t_xact_id", "idx_t_xact_id_high", "idx_t_tags"]
    run(db, "t")


def test_pages_are_read_by_the_index(db):
    """On a table never analysed, with the plan that strandd's sessions pin."""
    db.execute("INSERT INTO ad_strands (id, tags) SELECT i, '[\"dm:evaluate_plan\"]' FROM generate_series(1, 5000) i")
    db.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan")
    for high, index in (("", "idx_ad_strands_xact_id"), (" AND tags @> '[\"priority:high\"]'", "idx_ad_strands_xact_id_high")):
        db.execute("DEALLOCATE ALL")
        db.execute("PREPARE page(xid8, bigint) AS SELECT id, xact_id FROM ad_strands"
                   f" WHERE (xact_id, hashtextextended(id, 0)) > ($1, $2){high}"
                   " ORDER BY xact_id, hashtextextended(id, 0) FETCH FIRST 100 ROWS WITH TIES")
        plan = "\n".join(r[0] for r in db.execute("EXPLAIN EXECUTE page('0', 0)"))
        assert f"Index Scan using {index} on ad_strands" in plan, plan
        assert "Sort" not in plan
