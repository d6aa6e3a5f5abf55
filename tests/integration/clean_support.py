"""What the test_clean_* files share: old strands, their receipts, and runs."""

TAG = "dm:evaluate_plan"
OLD = "now() - interval '10 days'"
CUTOFF = "now() - interval '7 days'"


def old(db, *ids, tags='["dm:evaluate_plan"]', table="AD_strands", at=OLD):
    """Strands of ten days ago."""
    for strand_id in ids:
        db.execute(f"INSERT INTO {table} (id, tags, created_at) VALUES (%s, %s, {at})", (strand_id, tags))


def old_many(db, prefix, count, tags='["dm:evaluate_plan"]', at=OLD):
    """prefix1.. in one transaction, so with one created_at."""
    db.execute(f"INSERT INTO ad_strands (id, tags, created_at) SELECT %s || i, %s, {at} FROM generate_series(1, %s) i",
               (prefix, tags, count))


def receipt(db, strand_id, state="done", tag=TAG, marked=False, receipts="dm"):
    """The receipt that a daemon would have written."""
    db.execute(f"INSERT INTO {receipts}_receipts (route, strand_id, state, marked, finished_at, long_id)"
               f" SELECT o.route, strandd.receipt_key(%s), %s, %s, now(),"
               f"  CASE WHEN %s NOT IN ('done', 'skipped') AND strandd.receipt_key(%s) <> %s THEN %s END"
               f" FROM {receipts}_routes o WHERE o.tag = %s",
               (strand_id, state, marked, state, strand_id, strand_id, strand_id, tag))


def receipts_for_all(db, prefix, count, state="done"):
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, finished_at)"
               " SELECT o.route, %s || i, %s, now() FROM dm_routes o, generate_series(1, %s) i WHERE o.tag = %s",
               (prefix, state, count, TAG))


def clean(db, table="ad_strands", batch=1000, drop=False, dry_run=False, before=CUTOFF, conn=None):
    """All batches of one table; the sums as a dict, `batches` among them."""
    total = {"batches": 0, "error": None}
    position = None
    while True:
        row = db.execute(f"SELECT to_jsonb(b) FROM strandd.clean_strands(%s::regclass, {before}, %s, %s, %s, %s) b",
                         (table, batch, drop, dry_run, position), conn)[0][0]
        for key in ("seen", "deleted", "kept", "busy", "refused"):
            total[key] = total.get(key, 0) + row[key]
        total["batches"] += 1
        total["error"] = total["error"] or row["error"]
        if row["oldest_kept"] is not None and (total.get("oldest_kept_at") or "~") > row["oldest_kept_at"]:
            total["oldest_kept"], total["oldest_kept_at"] = row["oldest_kept"], row["oldest_kept_at"]
        position = row["position"]
        if row["finished"]:
            return total
        assert total["batches"] < 10000, "no end"


def clean_receipts(db, before="now() + interval '1 second'", dry_run=False):
    """How many receipts went."""
    total, position = 0, 0
    while True:
        _, n, position, finished = db.execute(f"SELECT * FROM strandd.clean_receipts({before}, %s, %s)",
                                              (dry_run, position or 0))[0]
        total += n
        if finished:
            return total


def ids(db, table="ad_strands"):
    return [r[0] for r in db.execute(f"SELECT id FROM {table} ORDER BY id")]


def age_everything(db, interval="30 days"):
    """As if all had been written, deleted and run so long ago."""
    for table in ("ad_strands", "dm_strands", "tr_strands"):
        db.execute(f"UPDATE {table} SET created_at = created_at - %s::interval", (interval,))
    db.execute("UPDATE strandd.gone SET gone_at = gone_at - %s::interval", (interval,))
    db.execute("UPDATE strandd.cleanup SET started_at = started_at - %s::interval", (interval,))


def cleanup(**more):
    """A daemon's settings."""
    return {"module_communication": {"cleanup": {"enabled": True, "pause": "0ms", **more}}}
