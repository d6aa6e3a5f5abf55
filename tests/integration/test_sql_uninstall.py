"""Uninstalling: what stands in its way, and what an interrupted one leaves."""

import pytest

import cluster as private
from ctl_support import ok, refused

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
