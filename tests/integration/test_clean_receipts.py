"""Receipts go after their strands, and nothing runs twice for it."""

import json

import pytest

from clean_support import TAG, age_everything, clean, clean_receipts, ids, old, old_many, receipt, receipts_for_all


def search(db, batch=1000, route=1, receipts="dm_receipts"):
    """One whole search; how many strands it found gone."""
    found = 0
    while True:
        _, n, finished = db.execute("SELECT * FROM strandd.search_receipts(%s, %s, %s)", (receipts, route, batch))[0]
        found += n
        if finished:
            return found


def test_a_receipt_outlives_its_strand_by_the_interval(db):
    old(db, "a", "b")
    receipt(db, "a")
    assert clean(db)["deleted"] == 1
    assert clean_receipts(db, "now() - interval '24 hours'") == 0
    assert clean_receipts(db, "now() - interval '24 hours'", dry_run=True) == 0
    db.execute("UPDATE strandd.gone SET gone_at = gone_at - interval '25 hours'")
    assert clean_receipts(db, "now() - interval '24 hours'", dry_run=True) == 1
    assert db.receipts("dm") == [(TAG, "a", "done")]
    assert clean_receipts(db, "now() - interval '24 hours'") == 1
    assert db.receipts("dm") == []
    assert db.value("SELECT count(*) FROM strandd.gone") == 0


def test_on_every_route_attached_or_not(db):
    tags = '["alpha:decision_feedback", "trader:execute_plan"]'
    old(db, "a", table="DM_strands", tags=tags)
    receipt(db, "a", tag="alpha:decision_feedback", receipts="ad")
    receipt(db, "a", tag="trader:execute_plan", receipts="tr")
    db.execute("SELECT strandd.detach('trader:execute_plan', 'dm_strands', 'tr_strands')")
    # of another source, with the same id
    old(db, "a", at="now()")
    receipt(db, "a")
    assert clean(db, "dm_strands")["deleted"] == 1
    assert clean_receipts(db) == 2
    assert (db.receipts("ad"), db.receipts("tr")) == ([], [])
    assert db.receipts("dm") == [(TAG, "a", "done")]


def test_a_strand_that_was_written_again_is_still_fenced(db):
    old(db, "a", "b")
    receipt(db, "a")
    receipt(db, "b")
    clean(db)
    old(db, "a", at="now()")
    assert clean_receipts(db) == 1
    assert db.receipts("dm") == [(TAG, "a", "done")]


def test_a_handler_at_work_keeps_its_receipt(db):
    old(db, "a")
    receipt(db, "a", "running")
    db.execute("DELETE FROM ad_strands")
    assert search(db) == 0
    db.execute("INSERT INTO strandd.gone (source, ids) VALUES ('ad_strands', '{a}')")
    assert clean_receipts(db) == 0
    assert db.receipts("dm") == [(TAG, "a", "running")]


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_strands_that_somebody_deleted_by_hand_are_found(db, batch):
    old_many(db, "s", 50)
    receipts_for_all(db, "s", 50)
    long_id = "l" * 2000
    old(db, long_id)
    receipt(db, long_id, "failed")
    db.execute("DELETE FROM ad_strands WHERE id IN ('s1', 's30', 's50') OR length(id) > 1000")
    assert search(db, batch) == 4
    assert clean_receipts(db, "now() - interval '24 hours'") == 0
    assert clean_receipts(db) == 4
    assert db.value("SELECT count(*) FROM dm_receipts") == 47
    assert search(db, batch) == 0


def test_a_search_goes_on_where_it_stopped(db):
    receipts_for_all(db, "s", 30)
    pages = []
    for _ in range(5):
        pages.append(db.execute("SELECT seen, orphans, finished FROM strandd.search_receipts('dm_receipts', 1, 12)")[0])
    assert pages == [(12, 12, False), (12, 12, False), (6, 6, True), (12, 12, False), (12, 12, False)]
    # found twice does no harm
    assert clean_receipts(db) == 30
    assert db.value("SELECT count(*) FROM strandd.gone") == 0


def test_a_source_that_was_dropped(db):
    db.execute("CREATE TABLE src (id text PRIMARY KEY, tags jsonb, created_at timestamptz DEFAULT now())")
    route = db.attach("dm:src", "src", "dm_strands")
    old(db, "a", "b", table="src", tags='["dm:src"]')
    receipt(db, "a", tag="dm:src")
    receipt(db, "b", tag="dm:src")
    db.execute("DELETE FROM src WHERE id = 'b'")
    clean(db, "src")
    db.execute("DROP TABLE src")
    assert search(db, route=route) == 2
    assert clean_receipts(db) == 2
    assert ids(db) == []


def test_a_batch_costs_the_same_however_many_there_are(db):
    """Neither the search nor the removal reads a table from its start to its end."""
    old_many(db, "s", 20000)
    receipts_for_all(db, "s", 20000)
    conn = db.connect(autocommit=False)
    clean(db, batch=100, before="now() - interval '1 year'", conn=conn)
    db.execute("INSERT INTO strandd.gone (source, ids, gone_at) SELECT 'ad_strands', array_agg('s' || i), '2020-01-01' FROM generate_series(1, 100) i", conn=conn)
    db.execute("SELECT * FROM strandd.clean_receipts(now())", conn=conn)
    db.execute("SELECT * FROM strandd.search_receipts('dm_receipts', 1, 100), generate_series(1, 3)", conn=conn)
    for table in ("ad_strands", "dm_receipts"):
        scans, fetched = db.execute("SELECT pg_stat_get_xact_numscans(%s::regclass),"
                                    " sum(pg_stat_get_xact_tuples_fetched(indexrelid)) FROM pg_index WHERE indrelid = %s::regclass",
                                    (table, table), conn)[0]
        assert scans == 0, table
        assert fetched is None or fetched < 3000, (table, fetched)
    conn.rollback()


def test_nothing_runs_again(db, daemon, wait_until):
    """A late announcement of a strand that is gone, one after its receipt is gone,
    and a scan of everything."""
    d = daemon([(TAG, "AD_strands", "test.record")])
    old_many(db, "s", 50)
    wait_until(lambda: db.value("SELECT count(*) FROM test.calls") == 50)
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts") == 50)
    assert clean(db)["deleted"] == 50
    for i in range(1, 51):
        db.execute("SELECT pg_notify('dm_evaluate_plan', %s)", (f"s{i}",))
    wait_until(lambda: sum(v for k, v in d.metrics().items() if k.startswith("strandd_forged_total")
                           or k.startswith("strandd_duplicates_total")) >= 50)
    age_everything(db)
    assert clean_receipts(db) == 50
    for i in range(1, 51):
        db.execute("SELECT pg_notify('dm_evaluate_plan', %s)", (f"s{i}",))
    wait_until(lambda: sum(v for k, v in d.metrics().items() if k.startswith("strandd_forged_total")
                           or k.startswith("strandd_duplicates_total")) >= 100)
    d.stop()
    db.execute("UPDATE dm_routes SET position = '0'")
    d.start()
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('new', %s)", (json.dumps([TAG]),))
    wait_until(lambda: db.receipts("dm") == [(TAG, "new", "done")])
    assert db.execute("SELECT id, count(*) FROM test.calls GROUP BY id HAVING count(*) > 1") == []
    assert db.value("SELECT count(*) FROM test.calls") == 51
