"""libstrand's listener: the specification's ModuleListener for C, on a real server."""

import threading
import time

import psycopg2
import pytest

import cluster as private
import libstrand_support as lib
import service

PLAN = lib.PLAN
FEEDBACK = "alpha:decision_feedback"


@pytest.fixture(name="listen")
def fixture_listen(build, db, wait_until):
    """listen(module, ...) starts one; each must end well."""
    started = []

    def start(*args, wait=True, **options):
        listener = lib.Listener(build, options.pop("dsn", db.dsn()), *args, **options)
        started.append(listener)
        return listener.started(wait_until) if wait else listener

    yield start
    try:
        for listener in started:
            if listener.process.poll() is None:
                listener.stop()
    finally:
        for listener in started:
            listener.kill()


def insert(db, strand, *tags, table="ad_strands"):
    service.publish(db, table, strand, list(tags))


@pytest.mark.sanitize
def test_a_module_hears_its_tags(db, listen, wait_until):
    """All of the specification's for it, each once, and no others'."""
    alpha, dm = listen("alpha"), listen("dm")
    insert(db, "AD_1", PLAN)
    insert(db, "DM_1", FEEDBACK, "trader:execute_plan", table="dm_strands")
    insert(db, "TR_1", "alpha:execution_feedback", "dm:execution_feedback", table="tr_strands")
    wait_until(lambda: len(alpha.seen) >= 2 and len(dm.seen) >= 2)
    assert sorted(alpha.seen) == [(FEEDBACK, "DM_1"), ("alpha:execution_feedback", "TR_1")]
    assert sorted(dm.seen) == [(PLAN, "AD_1"), ("dm:execution_feedback", "TR_1")]


def test_what_was_there_before_is_not_heard(db, listen, wait_until):
    insert(db, "AD_old", PLAN)
    listener = listen("dm", interval=100)
    insert(db, "AD_new", PLAN)
    wait_until(lambda: listener.ids)
    time.sleep(0.5)
    assert listener.ids == ["AD_new"]


def test_an_update_that_adds_the_tag_is_heard(db, listen, wait_until):
    insert(db, "DM_1", FEEDBACK, table="dm_strands")
    listener = listen("trader")
    db.execute("UPDATE dm_strands SET tags = '[\"trader:execute_plan\"]' WHERE id = 'DM_1'")
    wait_until(lambda: listener.seen)
    assert listener.seen == [("trader:execute_plan", "DM_1")]
    assert FEEDBACK in listener.rows[0]["tags"]


def test_a_users_own_tag(db, listen, wait_until):
    db.attach("risk:check", "ad_strands", "dm_strands")
    listener = listen(tags=[("risk:check", "AD_strands")])
    insert(db, "AD_1", "risk:check")
    wait_until(lambda: listener.seen == [("risk:check", "AD_1")])


def test_whole_rows_and_numbers(db, listen, wait_until):
    digits = "123456789012345678901234567890.5"
    listener = listen("dm")
    db.execute("INSERT INTO ad_strands (id, tags, trading_plan) VALUES ('AD_1', %s, %s)",
               (f'["{PLAN}"]', '{"d": %s, "i": 9223372036854775807}' % digits))
    wait_until(lambda: listener.seen)
    assert digits in listener.events[-1] and "9223372036854775807" in listener.events[-1]


def test_urgent_strands_go_first(db, listen, wait_until):
    listener = listen("dm", pause=20)
    service.publish_many(db, "ad_strands", "AD_", 200, [PLAN])
    wait_until(lambda: listener.ids)
    insert(db, "AD_urgent", PLAN, "priority:high")
    wait_until(lambda: len(listener.ids) == 201, 30)
    assert listener.ids.index("AD_urgent") < 195 and len(set(listener.ids)) == 201


@pytest.mark.sanitize
def test_nothing_is_missed_when_the_connection_is_lost(db, listen, wait_until):
    """Sessions are killed again and again while strands are written: each comes once."""
    listener = listen("dm")
    rows = 400

    def write():
        conn = psycopg2.connect(db.dsn())
        conn.autocommit = True
        with conn.cursor() as cur:
            for i in range(rows):
                cur.execute("INSERT INTO ad_strands (id, tags) VALUES (%s, %s)", (f"AD_{i}", f'["{PLAN}"]'))
                time.sleep(0.005)
        conn.close()

    writer = threading.Thread(target=write)
    writer.start()
    killed = 0
    while writer.is_alive():
        killed += lib.terminate(db, "libstrand listener")
        time.sleep(0.3)
    writer.join()
    assert killed >= 3
    wait_until(lambda: len(set(listener.ids)) == rows, 30, what=lambda: f"{len(set(listener.ids))} of {rows}")
    time.sleep(0.3)
    assert len(listener.ids) == rows


def test_a_transaction_older_than_the_connection(db, listen, wait_until):
    """It was under way when the listener last looked, and commits while it is away."""
    writer = db.connect(autocommit=False)
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('AD_before', %s)", (f'["{PLAN}"]',), conn=writer)
    listener = listen("dm")
    # two connections later it still is
    for n in range(2):
        lib.terminate(db, "libstrand listener")
        wait_until(lambda: lib.backends(db, "libstrand listener"))
        insert(db, f"AD_{n}", PLAN)
        wait_until(lambda k=n: f"AD_{k}" in listener.ids)
    db.execute(f"ALTER DATABASE \"{db.name}\" CONNECTION LIMIT 0")
    conn_user = db.conn  # stays: the limit bars new connections only
    assert conn_user
    lib.terminate(db, "libstrand listener")
    writer.commit()
    time.sleep(0.5)
    db.execute(f"ALTER DATABASE \"{db.name}\" CONNECTION LIMIT -1")
    wait_until(lambda: "AD_before" in listener.ids, 30)
    assert sorted(listener.ids) == ["AD_0", "AD_1", "AD_before"]


def test_a_notification_that_was_lost(db, listen, wait_until):
    """Written without triggers: the look at every interval finds it."""
    listener = listen("dm", interval=200)
    db.cluster.admin("SET session_replication_role = replica; "
                     f"INSERT INTO ad_strands (id, tags) VALUES ('AD_1', '[\"{PLAN}\"]')", name=db.name)
    wait_until(lambda: listener.ids == ["AD_1"])


def test_a_notification_without_a_strand(db, listen, wait_until):
    """It carries no authority; and when the strand does come, it is heard."""
    listener = listen("dm")
    insert(db, "AD_other", "x:y")
    for forged in ("AD_none", "AD_other", "", "'"):
        db.execute("SELECT pg_notify('dm_evaluate_plan', %s)", (forged,))
    insert(db, "AD_1", PLAN)
    wait_until(lambda: listener.ids == ["AD_1"])
    insert(db, "AD_none", PLAN)
    wait_until(lambda: listener.ids == ["AD_1", "AD_none"])


def test_a_strand_that_is_nested_too_deep(db, listen, wait_until):
    """It is named, not passed over in silence; those beside it are handed out."""
    listener = listen("dm")
    db.execute("INSERT INTO ad_strands (id, tags, trading_plan) SELECT 'AD_' || n, %s, CASE n WHEN 2 THEN"
               " (repeat('[', 600) || repeat(']', 600))::jsonb END FROM generate_series(1, 3) n", (f'["{PLAN}"]',))
    wait_until(lambda: listener.ids == ["AD_1", "AD_3"])
    assert [e for e in listener.events if "AD_2" in e] == ["strand AD_2 of AD_strands is nested too deep to be read"]


@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_restart(build, wait_until, attached, mode):
    """With strandd's tables, and with the specification's alone; what is written before
    the listener is back is handed out, once."""
    with private.Cluster() as cluster:
        db = cluster.database(installed=attached)
        if not attached:
            db.execute("CREATE TABLE ad_strands (id text PRIMARY KEY, tags jsonb, created_at timestamptz DEFAULT now())")
        # without triggers, what is written when it is back already waits for the next look
        listener = lib.Listener(build, db.dsn(), "-", interval=5000, tags=[(PLAN, "ad_strands")])
        try:
            listener.started(wait_until)
            if attached:
                insert(db, "AD_0", PLAN)
                wait_until(lambda: listener.ids == ["AD_0"])
            db.close()
            cluster.stop(mode)
            wait_until(lambda: "away" in listener.events)
            cluster.start()
            for i in range(1, 40):
                insert(db, f"AD_{i}", PLAN)
            wanted = 40 if attached else 39
            wait_until(lambda: len(set(listener.ids)) == wanted, 30, what=lambda: f"{listener.ids}")
            time.sleep(0.3)
            assert len(listener.ids) == wanted
            listener.stop()
        finally:
            listener.kill()


def test_many_at_once(db, listen, wait_until):
    """More than one chunk and page, in one transaction and in several."""
    listener = listen("dm")
    service.publish_many(db, "ad_strands", "AD_a", 5000, [PLAN])
    service.publish_many(db, "ad_strands", "AD_b", 1, [PLAN])
    wait_until(lambda: len(listener.ids) >= 5001, 30)
    assert len(set(listener.ids)) == len(listener.ids) == 5001


def test_many_while_away(build, db, listen, wait_until):
    """Pages of the catch-up: more rows than one, with ties of one transaction."""
    listener = listen("dm")
    listener.process.send_signal(19)
    lib.terminate(db, "libstrand listener")
    for n in range(3):
        service.publish_many(db, "ad_strands", f"AD_{n}", 1500, [PLAN])
    insert(db, "AD_noise", "x:y")
    listener.process.send_signal(18)
    wait_until(lambda: len(set(listener.ids)) == 4500, 30, what=lambda: len(listener.ids))
    time.sleep(0.3)
    assert len(listener.ids) == 4500


@pytest.mark.sanitize
@pytest.mark.parametrize("last, said", [("AD_end", ["run 7", "stopped"]), ("AD_stop", ["stopped"])])
def test_run(db, listen, wait_until, last, said):
    """Until the function says otherwise, or another thread; lost connections are its own
    business."""
    listener = listen("dm", pause=-1)
    insert(db, "AD_1", PLAN)
    wait_until(lambda: listener.ids == ["AD_1"])
    lib.terminate(db, "libstrand listener")
    insert(db, last, PLAN)
    assert listener.process.wait(20) == 0
    listener.kill()
    assert listener.ids == ["AD_1", last]
    assert [e for e in listener.events if "\t" not in e][1:] == said


@pytest.mark.parametrize("tags, code, text", [
    ([("no colon", "ad_strands")], "STRAND_EINVAL", "no colon"),
    ([("a:" + "b" * 57, "ad_strands")], "STRAND_EINVAL", "59 bytes"),
    ([("a:b", "no_table")], "STRAND_EINVAL", "no_table"),
    ([("a:b", "ad_strands"), ("a:b", "ad_strands")], "STRAND_EINVAL", "already"),
    ([], "STRAND_EINVAL", "no tag"),
])
def test_what_cannot_be_listened_on(build, db, tags, code, text):
    listener = lib.Listener(build, db.dsn(), "-", tags=tags)
    assert listener.process.wait(20) == 1
    listener.kill()
    assert listener.events[-1].startswith(code) and text in listener.events[-1], listener.events


def test_no_right_to_read(build, db):
    db.cluster.admin("DO $$ BEGIN CREATE ROLE stranger LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    listener = lib.Listener(build, db.dsn("stranger"), "dm")
    assert listener.process.wait(20) == 1
    listener.kill()
    assert "STRAND_ESQL" in listener.events[-1] and "permission denied" in listener.events[-1], listener.events


def test_a_start_before_the_server(build, db, listen, wait_until):
    """No database yet: it waits, and hears what comes after `started`."""
    name = db.name + "_later"
    listener = listen("dm", dsn=db.dsn(dbname=name), wait=False)
    wait_until(lambda: "away" in listener.events)
    later = db.cluster.copy(db.cluster.template(), name)
    try:
        listener.started(wait_until)
        insert(later, "AD_1", PLAN)
        wait_until(lambda: listener.ids == ["AD_1"])
        listener.stop()
    finally:
        later.drop()
