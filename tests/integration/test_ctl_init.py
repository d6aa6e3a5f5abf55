"""strandctl init and uninstall: on empty, filled and busy databases."""

import subprocess
import threading
import time

import pytest

import cluster as private
from ctl_support import backends, interrupt, ok, on_terminal, refused, start, write_config
from sql_support import catalog, plain_specification

pytestmark = pytest.mark.usefixtures("build")


@pytest.fixture
def spec_db(plain_db):
    """The specification's tables, as they are without strandd."""
    for statement in plain_specification():
        plain_db.execute(statement)
    return plain_db


def routes(db):
    return db.execute("SELECT source::text, tag, receiver::text, detached_at, history FROM strandd.routes() ORDER BY 1, 2")


def test_installs_what_the_sql_files_install(plain_db, db):
    done = ok(private.strandctl(plain_db, "init"))
    db.execute("DROP SCHEMA test CASCADE")
    assert catalog(plain_db) == catalog(db)
    assert len(routes(plain_db)) == 5
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines if ".sql: " in line] == list(private.INSTALL_FILES)
    # a line a file and a line a route's history, not one a function or index
    assert len(lines) == len(private.INSTALL_FILES) + 5 + 1 and "5 routes" in lines[-1]


def test_init_again_changes_nothing(plain_db):
    ok(private.strandctl(plain_db, "init"))
    before = catalog(plain_db), routes(plain_db)
    ok(private.strandctl(plain_db, "init"))
    assert (catalog(plain_db), routes(plain_db)) == before


def test_print_needs_no_server_and_psql_takes_it(plain_db):
    printed = subprocess.run([*private.program("strandctl"), "--config", "/nowhere", "init", "--print"],
                                     capture_output=True, text=True, check=False)
    ok(printed)
    plain_db.psql("-f", "-", stdin=printed.stdout)
    assert len(routes(plain_db)) == 5
    assert private.strandctl(plain_db, "status").returncode == 0


def test_no_routes(plain_db):
    ok(private.strandctl(plain_db, "init", "--no-routes"))
    assert routes(plain_db) == []
    printed = private.strandctl(plain_db, "init", "--no-routes", "--print").stdout
    assert "CREATE TABLE IF NOT EXISTS AD_strands" in printed and "dm:evaluate_plan', (home" not in printed


def test_grant_lets_the_service_serve(plain_db):
    ok(private.strandctl(plain_db, "init", "--grant", private.SERVICE))
    assert plain_db.value("SELECT nextval('strandd.instance_seq')", conn=plain_db.connect(private.SERVICE)) >= 1
    assert private.strandctl(plain_db, "status", user=private.SERVICE).returncode == 0


def test_nothing_is_done_for_a_role_or_schema_that_is_not_there(spec_db):
    before = catalog(spec_db)
    refused(private.strandctl(spec_db, "init", "--grant", "no_such_role"), 2, "no_such_role", "CREATE ROLE", "nothing was changed")
    assert catalog(spec_db) == before


def test_nothing_is_done_without_a_schema_for_the_tables(plain_db, tmp_path):
    before = catalog(plain_db)
    config = write_config(tmp_path / "c", plain_db, search_path="nosuch")
    done = subprocess.run([*private.program("strandctl"), "--config", config, "init"], capture_output=True,
                                  text=True, check=False)
    refused(done, 2, "nosuch", "CREATE SCHEMA", "nothing was changed")
    assert catalog(plain_db) == before


def test_newer_schema_is_left_alone(plain_db):
    ok(private.strandctl(plain_db, "init"))
    plain_db.execute("INSERT INTO strandd.version (version) VALUES (99)")
    before = catalog(plain_db)
    for command in (["init"], ["status"], ["uninstall", "--yes"]):
        refused(private.strandctl(plain_db, *command), 2, "99", "newer strandctl")
    assert catalog(plain_db) == before


def test_rows_of_before_become_history(spec_db):
    spec_db.execute("INSERT INTO AD_strands (id, tags) SELECT 'AD_' || i, '[\"dm:evaluate_plan\"]' FROM generate_series(1, 3500) i")
    spec_db.execute("INSERT INTO AD_strands (id) SELECT 'none_' || i FROM generate_series(1, 500) i")
    done = ok(private.strandctl(spec_db, "init"))
    assert "history of dm:evaluate_plan on ad_strands: 4000 rows read, 3500 of them skipped" in done.stdout
    assert spec_db.value("SELECT count(*) FROM dm_receipts WHERE state = 'skipped'") == 3500
    assert all(r[4] is None for r in routes(spec_db))


def test_progress_on_a_terminal(spec_db):
    spec_db.execute("INSERT INTO AD_strands (id, tags) SELECT 'AD_' || i, '[\"dm:evaluate_plan\"]' FROM generate_series(1, 20000) i")
    spec_db.execute("ANALYZE AD_strands")
    code, out, shown = on_terminal(spec_db, "init")
    assert code == 0, shown
    assert "history of dm:evaluate_plan" in shown and "%" in shown and "[#" in shown
    # the bar is wiped: nothing of it is left in the last line
    assert shown.endswith("\r\033[K")
    assert "20000 of them skipped" in out


@pytest.mark.parametrize("columns", [20, 60, 80])
def test_progress_is_never_wider_than_the_terminal(spec_db, columns):
    """A line that wraps is not wiped: each draw would leave one behind."""
    spec_db.execute("INSERT INTO TR_strands (id, tags) SELECT 'TR_' || i, '[\"alpha:execution_feedback\"]' FROM generate_series(1, 25000) i")
    spec_db.execute("ANALYZE TR_strands")
    code, _, shown = on_terminal(spec_db, "init", columns=columns)
    assert code == 0, shown
    drawn = [line.replace("\033[K", "") for line in shown.split("\r") if "%" in line]
    assert drawn and max(map(len, drawn)) < columns, drawn
    # what is left out first is the bar, then the label's end, the numbers last
    assert all(line.endswith("000") for line in drawn if "," not in line), drawn
    assert any(line.startswith("history of alpha:execution_feedback on tr_strands [#") for line in drawn) or columns < 80


def test_an_idle_reader_is_waited_for_and_does_not_stop_producers(spec_db):
    reader = spec_db.connect(autocommit=False)
    spec_db.execute("SELECT count(*) FROM AD_strands", conn=reader)
    process = start(spec_db, "init")
    stalls = []
    end = time.monotonic() + 3
    i = 0
    while time.monotonic() < end:
        i += 1
        began = time.monotonic()
        spec_db.execute("INSERT INTO AD_strands (id, tags) VALUES (%s, '[\"dm:evaluate_plan\"]')", (f"AD_{i}",))
        stalls.append(time.monotonic() - began)
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    reader.rollback()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    # a lock request is queued for half a second at most, whoever holds the table
    assert max(stalls) < 0.9, max(stalls)
    assert spec_db.value("SELECT count(*) FROM dm_receipts") == i


def test_who_holds_the_lock_is_named(spec_db):
    reader = spec_db.connect(autocommit=False, application_name="the_report")
    spec_db.execute("SELECT count(*) FROM DM_strands", conn=reader)
    done = private.strandctl(spec_db, "--lock-wait", "1", "init")
    said = refused(done, 1, "the_report", str(reader.info.backend_pid), private.OWNER, "idle in transaction")
    assert "DM_strands" in said and "--lock-wait" in said
    reader.rollback()
    ok(private.strandctl(spec_db, "init"))
    assert len(routes(spec_db)) == 5


def test_an_invalid_index_of_an_interrupted_build_is_repaired(spec_db):
    ok(private.strandctl(spec_db, "init"))
    spec_db.cluster.admin("UPDATE pg_index SET indisvalid = false WHERE indexrelid IN"
                          " ('idx_ad_strands_xact_id'::regclass, 'idx_dm_strands_tags'::regclass)", name=spec_db.name)
    ok(private.strandctl(spec_db, "init"))
    assert spec_db.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


def test_an_index_build_waits_for_an_old_transaction(spec_db):
    """lock_timeout must not end it: each attempt would leave an invalid index."""
    old = spec_db.connect(autocommit=False)
    spec_db.execute("CREATE TABLE elsewhere (i int)")
    spec_db.execute("INSERT INTO elsewhere VALUES (1)", conn=old)
    spec_db.execute("DECLARE c CURSOR FOR SELECT * FROM elsewhere", conn=old)
    process = start(spec_db, "init")
    try:
        private.wait_until(lambda: any("CREATE INDEX" in q for _, q in backends(spec_db)), 20)
        time.sleep(3)
        assert process.poll() is None, process.communicate()
    finally:
        old.rollback()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert f"waiting for pid {old.info.backend_pid}" in err
    assert spec_db.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


def in_functions(db):
    process = start(db, "init")
    assert process.stdout.readline().startswith("10_schema.sql: ")
    return process, None


def in_tables(db):
    reader = db.connect(autocommit=False)
    db.execute("SELECT count(*) FROM DM_strands", conn=reader)
    return held(db, reader, "prepare_source")


def in_index_build(db):
    old = db.connect(autocommit=False)
    db.execute("CREATE TABLE elsewhere (i int)")
    db.execute("INSERT INTO elsewhere VALUES (1)", conn=old)
    db.execute("DECLARE c CURSOR FOR SELECT * FROM elsewhere", conn=old)
    return held(db, old, "CREATE INDEX CONCURRENTLY")


def in_attach(db):
    ok(private.strandctl(db, "init", "--no-routes"))
    writer = db.connect(autocommit=False)
    db.execute("INSERT INTO AD_strands (id) VALUES ('open')", conn=writer)
    return held(db, writer, "attach_new")


def in_history(db):
    """It cannot end: one of the rows is being updated."""
    db.install(private.INSTALL_FILES[:-1])
    route = db.attach("dm:evaluate_plan", "AD_strands", "DM_strands", history=False)
    producer = db.connect(autocommit=False)
    db.execute("SELECT pg_advisory_xact_lock(strandd.history_lock('dm_receipts'::regclass, %s, 'AD_7'))", (route,), conn=producer)
    process = start(db, "init")
    private.wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts") > 0, 30, what="a part of the history skipped")
    return process, producer


def held(db, holder, statement):
    """An init that waits for a lock in this statement, and who holds it."""
    process = start(db, "init")
    waits = ("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'strandctl'"
             " AND wait_event_type = 'Lock' AND position(%s IN query) > 0")
    private.wait_until(lambda: db.value(waits, (statement,)), 30, what=f"init waiting in {statement}")
    return process, holder


@pytest.mark.parametrize("where", [in_functions, in_tables, in_index_build, in_attach, in_history], ids=lambda f: f.__name__)
def test_interrupted_anywhere_it_can_be_completed(spec_db, where):
    spec_db.execute("INSERT INTO AD_strands (id, tags) SELECT 'AD_' || i, '[\"dm:evaluate_plan\"]' FROM generate_series(1, 8000) i")
    process, holder = where(spec_db)
    code, out, err = interrupt(process)
    assert code == 5 and "interrupted" in err, out + err
    private.wait_until(lambda: not backends(spec_db), 10, what="nothing runs on")
    spec_db.execute("INSERT INTO AD_strands (id, tags) VALUES ('between', '[]')")
    if holder:
        holder.rollback()
    ok(private.strandctl(spec_db, "init"))
    assert len(routes(spec_db)) == 5 and all(r[4] is None for r in routes(spec_db))
    assert spec_db.value("SELECT count(*) FROM dm_receipts WHERE state = 'skipped'") == 8000
    assert spec_db.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


def test_two_at_once(spec_db):
    processes = [start(spec_db, "init") for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    assert len(routes(spec_db)) == 5


def test_uninstall_restores_the_specification(spec_db):
    spec_db.execute("INSERT INTO AD_strands (id, tags) VALUES ('old', '[\"dm:evaluate_plan\"]')")
    before = catalog(spec_db)
    ok(private.strandctl(spec_db, "init"))
    spec_db.execute("INSERT INTO AD_strands (id, tags) VALUES ('new', '[\"dm:evaluate_plan\"]')")
    refused(private.strandctl(spec_db, "uninstall", stdin=""), 2, "--yes")
    assert len(routes(spec_db)) == 5
    ok(private.strandctl(spec_db, "uninstall", "--yes"))
    assert catalog(spec_db) == before
    assert spec_db.value("SELECT count(*) FROM AD_strands") == 2
    # again, as after an interrupt
    ok(private.strandctl(spec_db, "uninstall", "--yes"))
    ok(private.strandctl(spec_db, "init"))
    assert len(routes(spec_db)) == 5


def test_a_detached_route_stays_detached(plain_db):
    ok(private.strandctl(plain_db, "init"))
    ok(private.strandctl(plain_db, "detach", "--tag", "dm:execution_feedback", "--source", "TR_strands"))
    ok(private.strandctl(plain_db, "init"))
    assert [r[1] for r in routes(plain_db) if r[3] is not None] == ["dm:execution_feedback"]


@pytest.mark.long
def test_producers_hardly_stall_on_a_large_table(spec_db):
    """The longest an INSERT waits while init runs on two million rows."""
    spec_db.execute("INSERT INTO AD_strands (id, kind, tags) SELECT 'AD_' || i, 'signal', '[\"dm:evaluate_plan\"]'"
                    " FROM generate_series(1, 2000000) i")
    stalls, stop = [], threading.Event()

    def produce():
        conn = spec_db.connect()
        i = 0
        while not stop.is_set():
            i += 1
            began = time.monotonic()
            spec_db.execute("INSERT INTO AD_strands (id, tags) VALUES (%s, '[\"dm:evaluate_plan\"]')", (f"P_{i}",), conn=conn)
            stalls.append(time.monotonic() - began)
            time.sleep(0.002)

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        began = time.monotonic()
        ok(private.strandctl(spec_db, "init", timeout=600))
        took = time.monotonic() - began
    finally:
        stop.set()
        producer.join()
    print(f"init on 2,000,000 rows: {took:.1f} s, longest INSERT of {len(stalls)}: {max(stalls) * 1000:.0f} ms")
    assert max(stalls) < 1.0
    assert spec_db.value("SELECT count(*) FROM dm_receipts WHERE state = 'skipped'") >= 2000000
