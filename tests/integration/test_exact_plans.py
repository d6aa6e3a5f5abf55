"""No statement's cost grows with its table, also when it was prepared while the
table was empty and nobody ever analysed it."""

import os
import time

import pytest

import cluster as private

ROUTES = [("dm:evaluate_plan", "AD_strands", "test.reply")]
LABELS = '{tag="dm:evaluate_plan",source="AD_strands"}'
TABLES = ("ad_strands", "dm_strands", "dm_receipts")
WARM, STRANDS = 200, 50000


def scans(db):
    """{table: (sequential scans, rows that they read)}"""
    return {t: tuple(row) for t, *row in db.execute(
        "SELECT relname, seq_scan, seq_tup_read FROM pg_stat_user_tables WHERE relname = ANY (%s)", (list(TABLES),))}


def processor_seconds(pids):
    """What the backends have used: other work on this machine leaves it alone."""
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            words = f.read().rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def watch(settled, pids):
    """[(strands settled, processor seconds)], until all are settled."""
    rows, end = [], time.monotonic() + 90
    while not rows or rows[-1][0] < WARM + STRANDS:
        assert time.monotonic() < end, f"{rows[-1][0]} of {WARM + STRANDS} settled after 90 s"
        rows.append((settled(), processor_seconds(pids)))
        time.sleep(0.05)
    return rows


def cost(rows, begin, end):
    """Microseconds of processor time a strand, between two shares of the whole."""
    part = [r for r in rows if begin * STRANDS <= r[0] - WARM <= end * STRANDS]
    (n0, s0), (n1, s1) = part[0], part[-1]
    return 1e6 * (s1 - s0) / (n1 - n0)


@pytest.mark.parametrize("analysed", [False, True], ids=["never analysed", "analysed when empty, spoilt role"])
def test_plans_prepared_on_empty_tables(db, daemon, wait_until, tmp_path, analysed):
    for table in TABLES:
        db.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        if analysed:
            # worse: the planner now knows that one page holds all there is
            db.execute(f"VACUUM ANALYZE {table}")
    for name in ("enable_indexscan", "enable_nestloop") if analysed else ():
        db.cluster.admin(f'ALTER ROLE {private.SERVICE} IN DATABASE "{db.name}" SET {name} = off')
    hold = tmp_path / "hold"
    d = daemon(ROUTES, {"workers": {"threads": 2}}, failpoints=f"worker.take=hold:{hold}")

    def settled():
        return d.metrics().get("strandd_settled_total" + LABELS, 0)
    # the workers prepare their statements on all but empty tables
    for n in range(WARM // 10):
        db.execute("INSERT INTO AD_strands (id, tags) SELECT %s || i, '[\"dm:evaluate_plan\"]' FROM generate_series(1, 10) i",
                   (f"AD_warm{n}_",))
        wait_until(lambda n=n: settled() == 10 * (n + 1), 10)
    pids = [pid for pid, in db.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                                       " AND application_name = 'strandd'")]
    hold.touch()
    db.execute("INSERT INTO AD_strands (id, tags, trading_plan) SELECT 'AD_' || i, '[\"dm:evaluate_plan\"]',"
               " jsonb_build_object('n', i) FROM generate_series(1, %s) i", (STRANDS,))
    time.sleep(1.5)	# statistics are published at most once a second
    before = scans(db)
    hold.unlink()
    rows = watch(settled, pids)
    time.sleep(1.5)
    assert scans(db) == before, "a table was read from end to end"
    first, last = cost(rows, 0, 0.2), cost(rows, 0.8, 1)
    print(f"processor time a strand: {first:.0f} us at first, {last:.0f} us at last")
    assert last < 2 * first
    # what the planner knows did not get better, or this shows nothing
    assert db.value("SELECT max(reltuples) FROM pg_class WHERE relname = ANY (%s)", (list(TABLES),)) <= 0
    assert db.value("SELECT count(*) FROM dm_strands") == WARM + STRANDS
