"""No statement's cost grows with its table, also when it was prepared while the
table was empty and nobody ever analysed it."""

import time

import pytest

ROUTES = [("dm:evaluate_plan", "AD_strands", "test.evaluate_plan"),
          ("alpha:decision_feedback", "DM_strands", "test.nothing")]
LABELS = '{tag="dm:evaluate_plan",source="AD_strands"}'
TABLES = ("ad_strands", "dm_strands", "ad_receipts", "dm_receipts")
STRANDS = 50000


def scans(db):
    """{table: (sequential scans, rows that they read)}"""
    return {t: tuple(row) for t, *row in db.execute(
        "SELECT relname, seq_scan, seq_tup_read FROM pg_stat_user_tables WHERE relname = ANY (%s)", (list(TABLES),))}


def tenths(db, since):
    """How many receipts a second, of each tenth."""
    return [row[0] for row in db.execute("""
        WITH r AS (SELECT finished_at FROM dm_receipts UNION ALL SELECT finished_at FROM ad_receipts),
        t AS (SELECT finished_at AS at, ntile(10) OVER (ORDER BY finished_at) AS tenth FROM r WHERE finished_at > %s)
        SELECT count(*) / extract(epoch FROM max(at) - min(at))::float8 FROM t GROUP BY tenth ORDER BY tenth""", (since,))]


@pytest.mark.parametrize("analysed", [False, True], ids=["never analysed", "analysed when empty"])
def test_plans_prepared_on_empty_tables(db, daemon, wait_until, tmp_path, analysed):
    for table in TABLES:
        db.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        if analysed:
            # worse: the planner now knows that one page holds all there is
            db.execute(f"VACUUM ANALYZE {table}")
    hold = tmp_path / "hold"
    d = daemon(ROUTES, {"workers": {"threads": 2}}, failpoints=f"worker.take=hold:{hold}")

    def settled():
        return sum(v for k, v in d.metrics().items() if k.startswith("strandd_settled_total"))
    # every worker has prepared both routes' statements on all but empty tables
    for n in range(20):
        db.execute("INSERT INTO AD_strands (id, tags) SELECT %s || i, '[\"dm:evaluate_plan\"]' FROM generate_series(1, 10) i",
                   (f"AD_warm{n}_",))
        wait_until(lambda n=n: settled() == 20 * (n + 1), 10)
    hold.touch()
    db.execute("INSERT INTO AD_strands (id, tags, trading_plan) SELECT 'AD_' || i, '[\"dm:evaluate_plan\"]',"
               " jsonb_build_object('n', i) FROM generate_series(1, %s) i", (STRANDS,))
    begun = db.value("SELECT clock_timestamp()")
    time.sleep(1.5)	# statistics are published at most once a second
    before = scans(db)
    hold.unlink()
    wait_until(lambda: settled() == 400 + 2 * STRANDS, 60, 0.1, what=f"{2 * STRANDS} settled")
    time.sleep(1.5)
    after = scans(db)
    print(before, after)
    for table in TABLES:
        assert after[table] == before[table], f"{table} was read from end to end"
    rates = tenths(db, begun)
    print("receipts a second by tenths:", *map(round, rates))
    # of three, because other work on this machine disturbs single ones
    assert sorted(rates[-3:])[1] > 0.5 * sorted(rates[:3])[1]
    # what the planner knows did not get better, or this shows nothing
    assert db.value("SELECT max(reltuples) FROM pg_class WHERE relname = ANY (%s)", (list(TABLES),)) <= 0
    assert db.value("SELECT count(*) FROM dm_strands") == STRANDS + 200
