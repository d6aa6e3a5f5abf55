"""A database that came from another cluster is adopted in one of three ways.

The other cluster is simulated: its identifier in the routes, and its
transaction ids, far ahead of ours, in the strands, as a restored dump has them.
"""

import psycopg2
import pytest

from sql_support import open_work

TAG = "dm:evaluate_plan"
FAR = 10_000_000_000


def work(db):
    return open_work(db, TAG, "ad_strands", "dm_strands")


def foreign(db, first, last, tags='["dm:evaluate_plan"]'):
    """Strands as a restore brings them: data first, triggers later."""
    db.execute("ALTER TABLE ad_strands DISABLE TRIGGER USER")
    db.execute("INSERT INTO ad_strands (id, tags, xact_id) SELECT 'f' || i, %s, (%s + i)::text::xid8 FROM generate_series(%s, %s) i",
               (tags, FAR, first, last))
    db.execute("ALTER TABLE ad_strands ENABLE TRIGGER USER")
    db.execute("ALTER TABLE ad_strands ENABLE ALWAYS TRIGGER zzz_ad_strands_before_insert")
    db.execute("ALTER TABLE ad_strands ENABLE ALWAYS TRIGGER zzz_ad_strands_before_update")


def settle(db, first, last):
    db.execute("INSERT INTO dm_receipts (route, strand_id, state) SELECT 1, 'f' || i, 'done' FROM generate_series(%s, %s) i", (first, last))


def elsewhere(db):
    for prefix in ("ad", "dm", "tr"):
        db.execute(f"UPDATE {prefix}_routes SET database_identifier = '42', position = '10000000050'")


def adopt(db, mode, batch=7, receiver="dm_strands"):
    total = calls = 0
    while True:
        done, finished = db.execute("SELECT * FROM strandd.adopt(%s, %s, %s)", (receiver, mode, batch))[0]
        total += done
        calls += 1
        if finished:
            return total, calls
        assert calls < 1000


def adopted(db):
    return db.value("SELECT bool_and(database_identifier = strandd.database_identifier()) FROM dm_routes")


@pytest.fixture
def restored(db):
    """60 foreign strands of which 40 are settled, 5 of another tag, and one that
    was written here after the restore."""
    foreign(db, 1, 60)
    foreign(db, 61, 65, '["other"]')
    settle(db, 1, 40)
    elsewhere(db)
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('here', '[\"dm:evaluate_plan\"]')")
    return db


def test_deliver(restored):
    db = restored
    adopt(db, "deliver")
    assert adopted(db)
    assert work(db) == sorted(["here"] + [f"f{i}" for i in range(41, 61)])
    assert not db.value("SELECT strandd.holds_foreign('ad_strands')")
    assert db.value("SELECT position::text FROM dm_routes WHERE route = 1") == "0"
    assert adopt(db, "deliver") == (0, 1)


def test_deliver_leaves_when_a_strand_was_tagged(restored):
    """A strand whose timeout passed before the restore is as late after it."""
    db = restored
    db.execute("ALTER TABLE ad_strands DISABLE TRIGGER USER")
    db.execute("UPDATE ad_strands SET tagged_at = '2020-01-01Z'")
    db.execute("ALTER TABLE ad_strands ENABLE TRIGGER USER")
    db.execute("ALTER TABLE ad_strands ENABLE ALWAYS TRIGGER zzz_ad_strands_before_update")
    adopt(db, "deliver")
    assert db.value("SELECT count(*) FROM ad_strands WHERE tagged_at = '2020-01-01Z'") == 66


def test_skip(restored):
    db = restored
    adopt(db, "skip")
    assert adopted(db)
    assert work(db) == []
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'skipped'") == 21
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done'") == 40
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('news', '[\"dm:evaluate_plan\"]')")
    assert work(db) == ["news"]
    assert adopt(db, "skip") == (0, 1)


def test_skip_interrupted(restored):
    """From the moment that the route counts as ours, nothing of it is delivered."""
    db = restored
    while not adopted(db):
        db.execute("SELECT strandd.adopt('dm_strands', 'skip', 5)")
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'skipped'") == 0
    assert work(db) == []
    db.execute("UPDATE ad_strands SET tags = tags || '[\"other\"]'")
    db.execute("CALL strandd.finish_histories()")
    assert work(db) == []
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'skipped'") == 21


def test_continue_after_an_upgrade(db):
    """Transaction ids go on: nothing changes but the identifier."""
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('open', '[\"dm:evaluate_plan\"]')")
    before = db.execute("SELECT route, position::text FROM dm_routes ORDER BY 1")
    db.execute("UPDATE dm_routes SET database_identifier = '42'")
    assert not adopted(db)
    adopt(db, "continue")
    assert adopted(db) and work(db) == ["open"]
    assert db.execute("SELECT route, position::text FROM dm_routes ORDER BY 1") == before


def test_continue_refuses_foreign_ids(restored):
    db = restored
    with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState, match="public.ad_strands holds transaction ids") as error:
        adopt(db, "continue")
    assert "adopt with deliver or skip" in error.value.diag.message_hint
    assert not adopted(db)


@pytest.mark.parametrize("mode", ["deliver", "skip"])
def test_an_unfinished_history_is_finished_first(db, mode):
    """Its snapshot is of the other cluster, and so are the strands."""
    foreign(db, 1, 60)
    db.execute("UPDATE dm_routes SET history = %s WHERE route = 1", (f"{FAR + 31}:{FAR + 31}:",))
    elsewhere(db)
    adopt(db, mode)
    assert adopted(db)
    assert work(db) == ([f"f{i}" for i in range(31, 61)] if mode == "deliver" else [])
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'skipped'") == (30 if mode == "deliver" else 60)


def test_history_of_another_module_on_the_same_source(db):
    """Restamping for one module must not turn the other's history into news."""
    route = db.attach("x:y", "ad_strands", "tr_strands")
    foreign(db, 1, 20, '["dm:evaluate_plan", "x:y"]')
    db.execute("UPDATE tr_routes SET history = %s WHERE route = %s", (f"{FAR + 11}:{FAR + 11}:", route))
    db.execute("SELECT strandd.write_stamps('ad_strands')")
    elsewhere(db)
    adopt(db, "deliver")
    adopt(db, "deliver", receiver="tr_strands")
    assert open_work(db, "x:y", "ad_strands", "tr_strands") == sorted(f"f{i}" for i in range(11, 21))
    assert len(work(db)) == 20


def test_a_later_attach_finds_no_foreign_ids(restored):
    db = restored
    with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState, match="holds transaction ids of another cluster"):
        db.execute("SELECT strandd.attach('x:y', 'ad_strands', 'tr_strands')")
    adopt(db, "skip")
    db.execute("UPDATE ad_strands SET tags = '[\"x:y\"]' WHERE id IN ('f61', 'f1')")
    db.attach("x:y", "ad_strands", "tr_strands")
    assert open_work(db, "x:y", "ad_strands", "tr_strands") == []


def test_restamp_waits_for_no_producer(restored):
    db = restored
    producer = db.connect("producer", autocommit=False)
    db.execute("UPDATE ad_strands SET kind = 'busy' WHERE id = 'f50'", conn=producer)
    db.execute("SET lock_timeout = '500ms'")
    for _ in range(15):
        last = db.execute("SELECT * FROM strandd.adopt('dm_strands', 'deliver', 7)")[0]
    assert last == (0, False)
    producer.commit()
    adopt(db, "deliver")
    assert len(work(db)) == 21


def test_a_producer_cannot_choose_a_number(restored):
    """The setting that lets restamp through gives the current number only."""
    db = restored
    producer = db.connect("producer", autocommit=False)
    db.execute("SET LOCAL strandd.restamp = 'on'", conn=producer)
    db.execute("UPDATE ad_strands SET xact_id = '7' WHERE id = 'f1'", conn=producer)
    mine = db.value("SELECT pg_current_xact_id()::text", conn=producer)
    producer.commit()
    assert db.value("SELECT xact_id::text FROM ad_strands WHERE id = 'f1'") == mine


def test_users_triggers_keep_their_search_path(restored):
    """restamp runs them, and they may name their objects as they like."""
    db = restored
    db.execute("CREATE TABLE audit (id text); CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS"
               " $$ BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NULL; END $$;"
               "CREATE TRIGGER audited AFTER UPDATE ON ad_strands FOR EACH ROW EXECUTE FUNCTION audited()")
    adopt(db, "deliver")
    assert db.value("SELECT count(*) FROM audit") == 65


def test_detached_routes_and_lost_tables(restored):
    db = restored
    db.execute("CREATE TABLE gone (id text PRIMARY KEY, tags jsonb)")
    db.attach("x:y", "gone", "dm_strands")
    db.execute("UPDATE dm_routes SET database_identifier = '42'")
    db.execute("DROP TABLE gone")
    db.execute("SELECT strandd.detach('dm:execution_feedback', 'tr_strands', 'dm_strands')")
    adopt(db, "skip")
    assert adopted(db)


@pytest.mark.parametrize("receiver, mode, fault", [("dm_strands", "both", "adopt knows no mode 'both'"), ("pg_class", "skip", "is no receiving module's table")])
def test_refused(db, receiver, mode, fault):
    with pytest.raises(psycopg2.Error, match=fault):
        adopt(db, mode, receiver=receiver)
