"""Leases and answers of processes when sessions end at the wrong moment."""

import process_support as p
import service


def test_a_reply_that_ends_its_session(db, daemon, wait_until):
    """Every time: its strand is charged, and those that were answered with it are not."""
    db.execute("CREATE FUNCTION test.bomb() RETURNS trigger LANGUAGE plpgsql AS $$"
               " BEGIN PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()); RETURN NEW; END $$;"
               "CREATE TRIGGER bomb BEFORE INSERT ON dm_strands FOR EACH ROW WHEN (NEW.symbol = 'bomb') EXECUTE FUNCTION test.bomb()")
    service.publish_many(db, "ad_strands", "AD_ok_", 10, [p.PLAN], kind="good")
    p.publish(db, "AD_1", "replies", '[{"symbol": "bomb"}]')
    p.serve(db, daemon, attempts=1)
    failed = p.in_state(db, "AD_1", "failed", wait_until, 30)
    assert "session ended" in failed["error"], failed
    p.all_done(db, 10, wait_until)
    assert db.value("SELECT count(*) FROM dm_receipts WHERE attempt > 1") == 0
    assert all(seen == [1] for seen in p.calls(db).values())
