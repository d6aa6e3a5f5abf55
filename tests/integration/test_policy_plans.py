"""What retries, marks and looks at what is due cost, on tables that nobody analysed
and that were empty when the statements were planned."""

import policy_support as p
import service

STRANDS = 4000


def read(db):
    """{table or index: rows read from it}"""
    return dict(db.execute("SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE relname IN ('ad_strands', 'dm_receipts')"
                           " UNION ALL SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes"
                           " WHERE relname IN ('ad_strands', 'dm_receipts')"))


def test_retries_and_marks_read_by_key(db, daemon, wait_until):
    for table in ("ad_strands", "dm_strands", "dm_receipts"):
        db.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    d = p.serve(db, daemon, {"workers": {"threads": 2}}, attempts=2, backoff={"initial": "300ms", "cap": "300ms"})
    service.publish_many(db, "ad_strands", "AD_", STRANDS, [p.PLAN], kind="until", timeframe="2")
    service.publish_many(db, "ad_strands", "AD_bad_", STRANDS // 4, [p.PLAN], kind="raise")
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done'") == STRANDS, 90, 0.5)
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE marked") == STRANDS // 4, 60, 0.5)
    d.stop()
    wait_until(lambda: read(db)["dm_receipts_pkey"] > 0)
    rows = read(db)
    # this test's own counts read the receipts from end to end, now and then
    assert rows["ad_strands"] == 0, rows
    for index in ("dm_receipts_due", "dm_receipts_unmarked", "dm_receipts_failed", "dm_receipts_pkey", "ad_strands_pkey"):
        assert rows[index] < 40 * STRANDS, (index, rows[index], rows)
