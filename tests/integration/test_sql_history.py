"""What a route finds when it is attached stays history; what comes later is news."""

import threading

import psycopg2
import pytest

from cluster import wait_until
from sql_support import Ears, open_work

A, B = "dm:a", "dm:b"


@pytest.fixture
def src(db):
    """A table with 100 old rows of tag A, written before strandd knew of it."""
    db.execute("CREATE TABLE src (id text PRIMARY KEY, kind text, tags jsonb)")
    db.execute("INSERT INTO src SELECT 'old' || i, 'k', '[\"dm:a\"]' FROM generate_series(1, 100) i")
    db.execute("INSERT INTO src SELECT 'none' || i, 'k', '[\"x\"]' FROM generate_series(1, 50) i")
    db.execute("GRANT SELECT, INSERT, UPDATE ON src TO producer")
    return "src"


def attach(db, tag=A, history=False, **more):
    return db.attach(tag, "src", "dm_strands", history=history, **more)


def skipped(db, tag=A):
    return db.value("SELECT count(*) FROM dm_receipts JOIN dm_routes USING (route) WHERE tag = %s AND state = 'skipped'", (tag,))


def work(db, tag=A):
    return open_work(db, tag, "src", "dm_strands")


def test_rows_from_before_the_columns(db, src):
    route = attach(db)
    assert db.value("SELECT count(*) FROM src WHERE xact_id = '0'") == 150
    assert work(db) == []
    assert db.finish_history("dm_strands", route, 7) == 100
    assert work(db) == []
    assert skipped(db) == 100
    assert db.value("SELECT history IS NULL AND history_position_xact IS NULL AND position > '0' FROM dm_routes WHERE route = %s", (route,))


def test_nothing_is_rewritten(db, src):
    before = db.value("SELECT pg_relation_filenode('src')")
    attach(db)
    assert db.value("SELECT pg_relation_filenode('src')") == before
    assert db.value("SELECT count(DISTINCT xmin::text) FROM src") == 2


def test_deliver_existing(db, src):
    attach(db, deliver_existing=True)
    assert len(work(db)) == 100
    db.execute("INSERT INTO src (id, tags) VALUES ('new', '[\"dm:a\"]')")
    assert len(work(db)) == 101
    assert skipped(db) == 0


def test_what_comes_later_is_news(db, src):
    route = attach(db)
    db.execute("INSERT INTO src (id, tags) VALUES ('new', '[\"dm:a\"]')")
    db.execute("UPDATE src SET tags = '[\"dm:a\"]' WHERE id = 'none1'")
    assert work(db) == ["new", "none1"]
    db.finish_history("dm_strands", route)
    assert work(db) == ["new", "none1"]
    assert skipped(db) == 100


def test_rows_between_prepare_and_attach_are_history(db, src):
    db.execute("SELECT strandd.prepare_source('src')")
    db.execute("INSERT INTO src (id, tags) VALUES ('between', '[\"dm:a\"]')")
    route = attach(db)
    assert work(db) == []
    assert db.finish_history("dm_strands", route) == 101


def test_a_producer_in_flight_holds_the_attach_off(db, src):
    """Its row is history once it has committed, and only then does attach go on."""
    attach(db, B)
    producer = db.connect("producer", autocommit=False)
    db.execute("INSERT INTO src (id, tags) VALUES ('flight', '[\"dm:a\"]')", conn=producer)
    db.execute("SET lock_timeout = '100ms'")
    with pytest.raises(psycopg2.errors.LockNotAvailable):
        db.execute("SELECT strandd.attach('dm:a', 'src', 'dm_strands')")
    assert db.execute("SELECT route FROM dm_routes WHERE tag = 'dm:a'") == []
    producer.commit()
    route = db.value("SELECT strandd.attach('dm:a', 'src', 'dm_strands')")
    assert work(db) == []
    assert db.finish_history("dm_strands", route) == 101


def test_an_attach_that_waits_takes_its_snapshot_after_the_lock(db, src):
    attach(db, B)
    producer = db.connect("producer", autocommit=False)
    db.execute("INSERT INTO src (id, tags) VALUES ('flight', '[\"dm:a\"]')", conn=producer)
    thread = threading.Thread(target=db.execute, args=("SELECT strandd.attach('dm:a', 'src', 'dm_strands')",))
    other = db.connect()
    thread.start()
    wait_until(lambda: db.value("SELECT count(*) FROM pg_locks WHERE NOT granted", conn=other), what="attach waiting for the producer")
    producer.commit()
    thread.join()
    assert work(db) == []


def test_a_transaction_that_is_open_across_the_attach_and_writes_after_it(db, src):
    """Its number is older than the attach, its row is news."""
    producer = db.connect("producer", autocommit=False)
    db.execute("SELECT pg_current_xact_id()", conn=producer)
    db.execute("SAVEPOINT s; INSERT INTO ad_strands (id) VALUES ('x')", conn=producer)
    for _ in range(3):
        db.execute("INSERT INTO tr_strands (id) VALUES (gen_random_uuid())")
    route = attach(db)
    db.execute("INSERT INTO src (id, tags) VALUES ('late', '[\"dm:a\"]')", conn=producer)
    producer.commit()
    assert work(db) == ["late"]
    db.finish_history("dm_strands", route)
    assert work(db) == ["late"]


def test_the_attaching_transactions_own_rows_are_news(db, src):
    db.execute("SELECT strandd.prepare_source('src')")
    conn = db.connect(autocommit=False)
    other = db.connect()
    db.execute("SELECT pg_current_xact_id()", conn=conn)
    db.execute("INSERT INTO ad_strands (id) VALUES ('a')", conn=other)  # so that conn's number lies below xmax
    db.execute("SELECT strandd.attach('dm:a', 'src', 'dm_strands')", conn=conn)
    db.execute("INSERT INTO src (id, tags) VALUES ('own', '[\"dm:a\"]')", conn=conn)
    conn.commit()
    assert work(db) == ["own"]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_an_older_snapshot_is_refused(db, src, level):
    conn = db.connect(autocommit=False)
    conn.set_session(isolation_level=level)
    with pytest.raises(psycopg2.errors.InvalidTransactionState, match="isolation level"):
        db.execute("SELECT strandd.attach('dm:a', 'src', 'dm_strands')", conn=conn)


# An old row gets another attached tag: its xact_id is renewed, and it must not
# turn into news for the route whose history it is.

TAG_B = "UPDATE src SET tags = tags || '[\"dm:b\"]' WHERE id = %s"


def test_updated_before_the_pass(db, src):
    attach(db, B)
    route = attach(db)
    db.execute(TAG_B, ("old1",), conn=db.connect("producer"))
    assert work(db) == []
    assert work(db, B) == ["old1"]
    assert db.receipts("dm") == [(A, "old1", "skipped")]
    assert db.finish_history("dm_strands", route) == 99
    assert work(db) == [] and skipped(db) == 100


def test_updated_while_the_pass_runs(db, src):
    attach(db, B)
    route = attach(db)
    db.execute("SELECT * FROM strandd.skip_history('dm_strands', %s, 60)", (route,))
    assert 0 < skipped(db) < 60
    db.execute("UPDATE src SET tags = tags || '[\"dm:b\"]' WHERE id LIKE 'old%'", conn=db.connect("producer"))
    assert work(db) == [] and len(work(db, B)) == 100
    db.finish_history("dm_strands", route)
    assert work(db) == [] and skipped(db) == 100


def test_updated_after_the_pass(db, src):
    attach(db, B)
    attach(db, history=True)
    db.execute("UPDATE src SET tags = '[\"dm:b\"]' WHERE id LIKE 'old%'", conn=db.connect("producer"))
    assert work(db) == [] and len(work(db, B)) == 100
    assert db.value("SELECT count(*) FROM src WHERE tags @> '[\"dm:a\"]'") == 100


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_being_updated_when_the_pass_comes_by(db, src, end):
    """The pass neither waits nor forgets the row."""
    attach(db, B)
    route = attach(db)
    producer = db.connect("producer", autocommit=False)
    db.execute(TAG_B, ("old7",), conn=producer)
    total = 0
    for _ in range(5):
        seen, wrote, finished = db.execute("SELECT * FROM strandd.skip_history('dm_strands', %s, 1000)", (route,))[0]
        total += wrote
        assert not finished
    assert seen == 0 and total == 99
    getattr(producer, end)()
    db.finish_history("dm_strands", route)
    assert work(db) == [] and skipped(db) == 100
    assert work(db, B) == (["old7"] if end == "commit" else [])


def test_an_update_of_other_columns_does_not_hold_the_pass(db, src):
    route = attach(db)
    producer = db.connect("producer", autocommit=False)
    db.execute("UPDATE src SET kind = 'z'", conn=producer)
    db.execute("SET lock_timeout = '1s'")
    assert db.finish_history("dm_strands", route) == 100
    producer.commit()
    assert work(db) == []


def test_only_while_history_is_unfinished_does_the_trigger_look(db, src):
    attach(db, B)
    route = attach(db)
    definer = "SELECT prosecdef FROM pg_proc WHERE proname = 'keep_tags_of_src'"
    assert db.value(definer)
    db.finish_history("dm_strands", route)
    db.finish_history("dm_strands", db.value("SELECT route FROM dm_routes WHERE tag = 'dm:b'"))
    assert not db.value(definer)
    assert db.value("SELECT proconfig FROM pg_proc WHERE proname = 'keep_tags_of_src'") is None


def test_resumed_after_an_interruption(db, src):
    route = attach(db)
    db.execute("SELECT * FROM strandd.skip_history('dm_strands', %s, 30)", (route,))
    first = skipped(db)
    conn = db.connect(autocommit=False)
    db.execute("SELECT * FROM strandd.skip_history('dm_strands', %s, 30)", (route,), conn=conn)
    conn.close()  # dies before its commit
    assert skipped(db) == first
    reads = 0
    while True:
        seen, _, finished = db.execute("SELECT * FROM strandd.skip_history('dm_strands', %s, 30)", (route,))[0]
        reads += seen
        if finished:
            break
    assert reads == 120 and skipped(db) == 100
    assert db.execute("SELECT * FROM strandd.skip_history('dm_strands', %s)", (route,)) == [(0, 0, True)]


def test_without_its_index_the_pass_refuses(db, src):
    db.execute("SELECT strandd.attach('dm:a', 'src', 'dm_strands')")
    with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState, match="has no valid index on xact_id") as error:
        db.execute("SELECT strandd.skip_history('dm_strands', 3)")
    assert "index_statements" in error.value.diag.message_hint


def test_an_unknown_route_is_named(db):
    with pytest.raises(psycopg2.errors.UndefinedObject, match="there is no route 99 to public.dm_strands"):
        db.execute("SELECT strandd.skip_history('dm_strands', 99)")


def test_finish_histories(db, src):
    attach(db)
    attach(db, B)
    db.execute("CALL strandd.finish_histories(10)")
    assert skipped(db) == 100
    assert db.value("SELECT count(*) FROM strandd.routes() WHERE history IS NOT NULL") == 0


@pytest.mark.sanitize
def test_producers_and_the_pass_do_not_deadlock(db, src):
    """Producers that update rows in any order, each in transactions of ten."""
    attach(db, B)
    route = attach(db)
    faults = []

    def produce(seed):
        conn = psycopg2.connect(db.dsn("producer"))
        order = [(i * 37 + seed * 50) % 100 + 1 for i in range(100)]
        mine = [i for i in order if i % 2 == seed]
        try:
            for at in range(0, 50, 10):
                with conn.cursor() as cur:
                    for i in mine[at:at + 10]:
                        cur.execute(TAG_B, (f"old{i}",))
                conn.commit()
        except psycopg2.Error as error:
            faults.append(error)
        finally:
            conn.close()

    threads = [threading.Thread(target=produce, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    total = db.finish_history("dm_strands", route, 10)
    for t in threads:
        t.join()
    assert not faults
    assert total <= 100 and skipped(db) == 100
    assert work(db) == [] and len(work(db, B)) == 100


# Detach and attach again.

def test_detach(db, src):
    route = attach(db, history=True)
    attach(db, B, history=True)
    ears = Ears(db, "dm_a", "dm_b")
    assert db.value("SELECT strandd.detach('dm:a', 'src', 'dm_strands')") == route
    assert db.value("SELECT strandd.detach('dm:a', 'src', 'dm_strands')") == route
    db.execute("INSERT INTO src (id, tags) VALUES ('n', '[\"dm:a\", \"dm:b\"]')")
    assert ears.heard() == [("dm_b", "n")]
    db.execute("UPDATE src SET tags = '[]' WHERE id = 'n'")
    assert db.value("SELECT tags FROM src WHERE id = 'n'") == ["dm:b"]
    assert skipped(db) == 100
    with pytest.raises(psycopg2.errors.UndefinedObject, match="no route leads 'dm:z' from public.src"):
        db.execute("SELECT strandd.detach('dm:z', 'src', 'dm_strands')")


def test_detach_waits_for_no_producer(db, src):
    attach(db)
    producer = db.connect("producer", autocommit=False)
    db.execute("INSERT INTO src (id, tags) VALUES ('n', '[\"dm:a\"]')", conn=producer)
    db.execute("SET lock_timeout = '500ms'")
    db.execute("SELECT strandd.detach('dm:a', 'src', 'dm_strands')")
    producer.commit()


@pytest.mark.parametrize("deliver", [False, True])
def test_attached_again(db, src, deliver):
    """The same number; what was skipped stays so; what was written meanwhile is
    history, unless it is asked for."""
    route = attach(db, history=True)
    db.execute("SELECT strandd.detach('dm:a', 'src', 'dm_strands')")
    db.execute("INSERT INTO src (id, tags) VALUES ('meanwhile', '[\"dm:a\"]')")
    assert attach(db, deliver_existing=deliver) == route
    db.execute("INSERT INTO src (id, tags) VALUES ('new', '[\"dm:a\"]')")
    assert work(db) == (["meanwhile", "new"] if deliver else ["new"])
    db.finish_history("dm_strands", route)
    assert work(db) == (["meanwhile", "new"] if deliver else ["new"])


def test_attach_is_idempotent_and_takes_no_lock_then(db, src):
    route = attach(db)
    producer = db.connect("producer", autocommit=False)
    db.execute("INSERT INTO src (id, tags) VALUES ('n', '[\"dm:a\"]')", conn=producer)
    db.execute("SET lock_timeout = '500ms'")
    assert attach(db) == route
    producer.commit()
    assert db.value("SELECT history IS NOT NULL FROM dm_routes WHERE route = %s", (route,))


def test_a_detached_route_is_not_attached_by_the_next_init(db):
    db.execute("SELECT strandd.detach('dm:execution_feedback', 'tr_strands', 'dm_strands')")
    db.install()
    assert db.value("SELECT detached_at IS NOT NULL FROM dm_routes WHERE tag = 'dm:execution_feedback'")


def test_one_tag_from_several_tables_to_several_modules(db, src):
    attach(db, "dm:evaluate_plan", history=True)
    db.attach("dm:evaluate_plan", "src", "tr_strands")
    ears = Ears(db, "dm_evaluate_plan")
    for table in ("src", "ad_strands"):
        db.execute(f"INSERT INTO {table} (id, tags) VALUES ('same', '[\"dm:evaluate_plan\"]')")
    assert ears.heard() == [("dm_evaluate_plan", "same")] * 2
    assert open_work(db, "dm:evaluate_plan", "src", "tr_strands") == ["same"]
    assert open_work(db, "dm:evaluate_plan", "src", "dm_strands") == ["same"]
    assert open_work(db, "dm:evaluate_plan", "ad_strands", "dm_strands") == ["same"]
