"""The cleanup beside producers, workers, operators and another cleanup."""

import psycopg2
import pytest

from clean_support import CUTOFF, TAG, clean, clean_receipts, ids, old, receipt

NOT_NOW = psycopg2.errors.LockNotAvailable


def seed(db, tag=TAG):
    return db.value("SELECT strandd.lock_seed(receipts, route) FROM strandd.routes() WHERE tag = %s", (tag,))


def candidates(db, conn=None):
    """What clean_strands decides before it locks anything."""
    return db.value(f"SELECT p.ids FROM strandd.clean_rules('ad_strands') r, strandd.clean_page(r, {CUTOFF}, 1000, 1, NULL) p", conn=conn)


def locked(db, found, most=1, conn=None):
    """What of that it decides under the locks."""
    return db.value(f"SELECT strandd.clean_lock(r, {CUTOFF}, %s, %s) FROM strandd.clean_rules('ad_strands') r", (most, found), conn)


def test_a_strand_that_a_producer_is_at_work_on(db):
    old(db, "a", "b", tags="[]")
    producer = db.connect("producer", autocommit=False)
    db.execute("UPDATE ad_strands SET tags = %s WHERE id = 'a'", (f'["{TAG}"]',), producer)
    done = clean(db)
    assert (done["deleted"], done["busy"]) == (1, 1)
    producer.commit()
    assert clean(db)["kept"] == 1
    assert ids(db) == ["a"]


def test_a_tag_that_came_after_the_page_was_read(db):
    old(db, "a", "b", tags="[]")
    found = candidates(db)
    assert sorted(found) == ["a", "b"]
    db.execute("UPDATE ad_strands SET tags = %s WHERE id = 'a'", (f'["{TAG}"]',))
    assert locked(db, found) == ["b"]


def test_an_age_that_changed_after_the_page_was_read(db):
    old(db, "a", "b", tags="[]")
    found = candidates(db)
    db.execute("UPDATE ad_strands SET created_at = now() WHERE id = 'a'")
    assert locked(db, found) == ["b"]


def test_a_replay_that_was_asked_for_after_the_page_was_read(db):
    old(db, "a", "b")
    receipt(db, "a", "failed")
    receipt(db, "b", "failed")
    found = candidates(db)
    db.execute("UPDATE dm_receipts SET state = 'retry', due_at = now() WHERE strand_id = 'a'")
    assert locked(db, found) == ["b"]


def test_a_replay_that_is_being_asked_for(db):
    """Whoever writes a receipt holds the route's lock on the strand."""
    old(db, "a", "b")
    receipt(db, "a", "failed")
    receipt(db, "b", "expired")
    operator = db.connect(autocommit=False)
    assert db.value("SELECT pg_try_advisory_xact_lock(hashtextextended('a', %s))", (seed(db),), operator)
    db.execute("UPDATE dm_receipts SET state = 'retry', due_at = now() WHERE strand_id = 'a'", conn=operator)
    done = clean(db)
    assert (done["deleted"], done["busy"], done["kept"]) == (1, 1, 0)
    operator.commit()
    assert clean(db)["kept"] == 1
    assert ids(db) == ["a"]


def test_the_other_way_round(db):
    """The operator does not get the lock while the cleanup has it, and finds no
    strand then."""
    old(db, "a")
    receipt(db, "a", "failed")
    cleaner = db.connect(autocommit=False)
    assert clean(db, conn=cleaner)["deleted"] == 1
    assert not db.value("SELECT pg_try_advisory_xact_lock(hashtextextended('a', %s))", (seed(db),))
    cleaner.commit()
    assert ids(db) == []


def test_a_strand_that_a_worker_has_claimed_is_not_dropped(db):
    old(db, "a", "b")
    worker = db.connect(autocommit=False)
    db.execute("SELECT pg_advisory_xact_lock(hashtextextended('a', %s))", (seed(db),), worker)
    assert sorted(candidates(db) or []) == []
    done = clean(db, drop=True)
    assert (done["deleted"], done["busy"]) == (1, 1)
    worker.rollback()
    assert clean(db, drop=True)["deleted"] == 1


def test_attaching_waits_for_a_batch_and_a_batch_for_attaching(db):
    old(db, "a", tags='["tr:new"]')
    cleaner = db.connect(autocommit=False)
    clean(db, conn=cleaner)
    db.execute("SET lock_timeout = '200ms'")
    with pytest.raises(NOT_NOW):
        db.execute("SELECT strandd.attach('tr:new', 'ad_strands', 'tr_strands', true)")
    cleaner.rollback()
    attaching = db.connect(autocommit=False)
    db.execute("SELECT strandd.attach('tr:new', 'ad_strands', 'tr_strands', true)", conn=attaching)
    with pytest.raises(NOT_NOW):
        clean(db)
    attaching.commit()
    assert clean(db)["kept"] == 1


def test_producers_are_not_held_up_by_a_batch(db):
    """Whatever they do but to the strands that go."""
    old(db, "a", "b", tags="[]")
    old(db, "kept")
    cleaner = db.connect(autocommit=False)
    assert clean(db, conn=cleaner)["deleted"] == 2
    db.execute("SET lock_timeout = '200ms'")
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('c', %s)", (f'["{TAG}"]',))
    db.execute("UPDATE ad_strands SET tags = '[]' WHERE id = 'kept'")
    db.execute("INSERT INTO ad_strands (id) VALUES ('d') ON CONFLICT DO NOTHING")
    cleaner.commit()


def test_two_batches_at_once_share(db):
    old(db, *[f"s{i}" for i in range(20)], tags="[]")
    one, two = db.connect(autocommit=False), db.connect(autocommit=False)
    assert clean(db, conn=one)["deleted"] == 20
    assert clean(db, conn=two)["busy"] == 20
    one.commit()
    two.commit()
    assert ids(db) == []


def test_a_receipt_that_somebody_holds_is_left(db):
    for name in ("a", "b"):
        old(db, name)
        receipt(db, name)
    clean(db)
    holder = db.connect(autocommit=False)
    db.execute("SELECT FROM dm_receipts WHERE strand_id = 'a' FOR UPDATE", conn=holder)
    assert clean_receipts(db) == 1
    holder.rollback()
    # the search finds it again
    assert db.execute("SELECT orphans FROM strandd.search_receipts('dm_receipts', 1)") == [(1,)]
    assert clean_receipts(db) == 1
