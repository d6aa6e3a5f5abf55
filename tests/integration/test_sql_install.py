"""The SQL files: installing, repeating, names, uninstalling."""

import threading

import psycopg2
import pytest

from cluster import INSTALL_FILES, SQL
from sql_support import ALL_CHANNELS, MODULES, Ears, catalog, plain_specification


def everything(db):
    """Catalogs, and the versions of rows that a needless change would renew."""
    rows = db.execute("SELECT 'trigger', oid::text, xmin::text FROM pg_trigger WHERE NOT tgisinternal UNION ALL"
                      " SELECT 'class', oid::text, relfilenode::text FROM pg_class WHERE oid > 16384 UNION ALL"
                      " SELECT 'function', oid::text, xmin::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace UNION ALL"
                      " SELECT 'routes', receiver::text || route, xmin::text FROM strandd.receivers, LATERAL (SELECT route FROM ad_routes) r"
                      " ORDER BY 1, 2")
    return catalog(db), rows, db.execute("SELECT * FROM strandd.routes()")


def test_objects_have_the_specified_names(db):
    names = {r[0] for r in db.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")}
    triggers = {r[0] for r in db.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")}
    functions = {r[0] for r in db.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")}
    for table in ("ad", "dm", "tr"):
        assert {f"{table}_strands", f"{table}_routes", f"{table}_receipts",
                f"idx_{table}_strands_tags", f"idx_{table}_strands_created_at",
                f"idx_{table}_strands_xact_id", f"idx_{table}_strands_xact_id_high"} <= names
        assert {f"{table}_strands_notify", f"{table}_strands_notify_update",
                f"zzz_{table}_strands_before_insert", f"zzz_{table}_strands_before_update"} <= triggers
        assert {f"notify_from_{table}_strands", f"keep_tags_of_{table}_strands"} <= functions


def test_columns_are_the_specified_ones_and_two_more(db):
    for prefix, (module, own, _) in MODULES.items():
        columns = [r[0] for r in db.execute("SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
                                            " AND NOT attisdropped ORDER BY attnum", (f"{prefix}_strands",))]
        own_names = [c.split()[0] for c in own.split(",")]
        assert columns == ["id", "module", "kind", "symbol", "timeframe", "session_bucket", "regime", *own_names,
                           "tags", "created_at", "updated_at", "xact_id", "tagged_at"]
        assert db.value(f"INSERT INTO {prefix}_strands (id) VALUES ('x') RETURNING module") == module


def test_five_routes(db):
    routes = db.execute("SELECT source::text, tag, channel, receiver::text, detached_at, history FROM strandd.routes() ORDER BY 1, 2")
    assert routes == [
        ("ad_strands", "dm:evaluate_plan", "dm_evaluate_plan", "dm_strands", None, None),
        ("dm_strands", "alpha:decision_feedback", "alpha_decision_feedback", "ad_strands", None, None),
        ("dm_strands", "trader:execute_plan", "trader_execute_plan", "tr_strands", None, None),
        ("tr_strands", "alpha:execution_feedback", "alpha_execution_feedback", "ad_strands", None, None),
        ("tr_strands", "dm:execution_feedback", "dm_execution_feedback", "dm_strands", None, None)]


def test_installed_by_an_ordinary_role(db):
    assert db.execute("SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = 'trading_owner'") == [(False, False, False)]
    assert db.execute("SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'strandd'::regnamespace)"
                      " UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace IN ('public'::regnamespace, 'strandd'::regnamespace)"
                      ) == [("trading_owner",)]


def test_a_second_run_changes_nothing_and_says_nothing(db):
    before = everything(db)
    assert db.install() == ""
    assert everything(db) == before


def test_a_second_run_takes_no_lock_that_stops_producers(db):
    """Neither waits for one that writes nor stops one."""
    producer = db.connect(autocommit=False)
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('busy', '[\"dm:evaluate_plan\"]')", conn=producer)
    db.execute("UPDATE dm_strands SET kind = kind", conn=producer)
    db.execute("INSERT INTO tr_strands (id) VALUES ('busy')", conn=producer)
    db.install(options="-c lock_timeout=500 -c client_min_messages=warning")
    producer.commit()


def test_a_database_of_repeatable_read(cluster, plain_db):
    cluster.admin(f"ALTER DATABASE {plain_db.name} SET default_transaction_isolation = 'repeatable read'")
    for statement in plain_specification():
        plain_db.execute(statement)
    plain_db.execute("INSERT INTO ad_strands (id, tags) SELECT 'old' || i, '[\"dm:evaluate_plan\"]' FROM generate_series(1, 10) i")
    plain_db.install()
    plain_db.install()
    assert plain_db.value("SELECT count(*) FROM dm_receipts WHERE state = 'skipped'") == 10


def test_a_schema_made_by_somebody_else_is_refused(cluster, plain_db):
    cluster.admin("CREATE SCHEMA strandd AUTHORIZATION producer", name=plain_db.name)
    cluster.admin("GRANT ALL ON SCHEMA strandd TO trading_owner", name=plain_db.name)
    done = plain_db.psql("-f", str(SQL / INSTALL_FILES[0]), check=False)
    assert done.returncode == 3
    assert "schema strandd belongs to role producer, not to trading_owner" in done.stderr


def test_a_newer_version_is_refused(db):
    db.execute("INSERT INTO strandd.version (version) VALUES (99)")
    done = db.psql("-f", str(SQL / INSTALL_FILES[0]), check=False)
    assert done.returncode == 3
    assert "holds version 99" in done.stderr


@pytest.mark.parametrize("schema", ["trading", 'Our "own" Strands'])
def test_another_schema(plain_db, schema):
    quoted = '"' + schema.replace('"', '""') + '"'
    plain_db.execute(f"CREATE SCHEMA {quoted}")
    path = "-c search_path=" + quoted.replace("\\", "\\\\").replace(" ", "\\ ")
    for _ in range(2):
        plain_db.install(options=path + " -c client_min_messages=warning")
    assert plain_db.value(f"SELECT count(*) FROM {quoted}.dm_routes") == 2
    assert plain_db.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0
    ears = Ears(plain_db, "dm_evaluate_plan")
    plain_db.execute(f"INSERT INTO {quoted}.ad_strands (id, tags) VALUES ('a', '[\"dm:evaluate_plan\"]')")
    assert ears.heard() == [("dm_evaluate_plan", "a")]
    plain_db.uninstall()
    assert plain_db.execute(f"SELECT * FROM {quoted}.ad_strands WHERE id = 'a'")
    plain_db.execute(f"INSERT INTO {quoted}.ad_strands (id, tags) VALUES ('b', '[\"dm:evaluate_plan\"]')")
    assert ears.heard() == [("dm_evaluate_plan", "b")]


def test_a_temporary_table_of_that_name_is_not_taken(plain_db):
    done = plain_db.psql("-c", "CREATE TEMPORARY TABLE ad_strands (id text PRIMARY KEY, tags jsonb)",
                         *[a for f in INSTALL_FILES for a in ("-f", str(SQL / f))], check=False)
    assert done.returncode == 0, done.stderr
    assert plain_db.value("SELECT count(*) FROM dm_routes") == 2


def test_uninstall_restores_the_plain_state(cluster, db):
    plain = cluster.database(installed=False)
    try:
        for statement in plain_specification():
            plain.execute(statement)
        wanted = catalog(plain)
    finally:
        plain.drop()
    db.execute("DROP SCHEMA test CASCADE")
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', '[\"dm:evaluate_plan\", \"priority:high\"]')")
    db.uninstall()
    found = catalog(db)
    for part, value in wanted.items():
        assert found[part] == value, part
    assert db.execute("SELECT id, tags FROM ad_strands") == [("a", ["dm:evaluate_plan", "priority:high"])]
    # and behaves so: no announcement twice, none of an UPDATE, tags may go
    ears = Ears(db, *ALL_CHANNELS)
    db.execute("INSERT INTO dm_strands (id, tags) VALUES ('d', '[\"alpha:decision_feedback\", \"priority:high\"]')")
    db.execute("UPDATE dm_strands SET tags = '[\"trader:execute_plan\"]'")
    assert ears.heard() == [("alpha_decision_feedback", "d")]
    assert db.value("SELECT tags FROM dm_strands") == ["trader:execute_plan"]
    db.uninstall()
    assert catalog(db) == found


def test_install_after_uninstall(db):
    before = catalog(db)
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', '[\"dm:evaluate_plan\"]')")
    db.uninstall()
    db.install()
    assert catalog(db) == before
    assert db.receipts("dm") == [("dm:evaluate_plan", "a", "skipped")]


def test_on_a_live_plain_specification(plain_db):
    """Listeners written to the specification miss nothing while it is installed,
    and nobody who writes is stopped for long."""
    for statement in plain_specification():
        plain_db.execute(statement)
    ears = Ears(plain_db, *ALL_CHANNELS)
    stop = threading.Event()
    wrote = []

    def produce(number):
        conn = psycopg2.connect(plain_db.dsn())
        conn.autocommit = True
        n = 0
        while not stop.is_set():
            n += 1
            name = f"P{number}_{n}"
            with conn.cursor() as cur:
                cur.execute("INSERT INTO dm_strands (id, tags) VALUES (%s, '[\"alpha:decision_feedback\", \"trader:execute_plan\"]')", (name,))
            wrote.append(name)
        conn.close()

    threads = [threading.Thread(target=produce, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    try:
        plain_db.install(options="-c lock_timeout=5000 -c client_min_messages=warning")
    finally:
        stop.set()
        for t in threads:
            t.join()
    heard = ears.heard()
    for channel in ("alpha_decision_feedback", "trader_execute_plan"):
        assert sorted(p for c, p in heard if c == channel) == sorted(wrote)
    # each is history or news, none is neither
    for receipts, tag in (("ad", "alpha:decision_feedback"), ("tr", "trader:execute_plan")):
        skipped = {s for _, s, _ in plain_db.receipts(receipts)}
        position = plain_db.value(f"SELECT position FROM {receipts}_routes WHERE tag = %s", (tag,))
        later = {r[0] for r in plain_db.execute("SELECT id FROM dm_strands WHERE xact_id >= %s::text::xid8", (position,))}
        assert skipped | later == set(wrote)


def test_an_unfinished_init_is_completed_by_the_next(plain_db):
    plain_db.install(INSTALL_FILES[:-2])
    plain_db.install()
    assert plain_db.value("SELECT count(*) FROM strandd.routes()") == 5


def test_the_first_version_is_upgraded(db):
    """Its routes and receipts get what they lack, and nothing of them is rewritten."""
    before = catalog(db)
    number = db.value("SELECT route FROM dm_routes WHERE tag = 'dm:evaluate_plan'")
    db.execute("INSERT INTO dm_receipts (route, strand_id, state) VALUES (%s, 'a', 'done')", (number,))
    for prefix in ("ad", "dm", "tr"):
        db.execute(f"ALTER TABLE {prefix}_routes DROP COLUMN suspended_at, DROP COLUMN suspended_error, DROP COLUMN suspended_sqlstate;"
                   f"ALTER TABLE {prefix}_receipts DROP COLUMN long_id;"
                   f"DROP INDEX {prefix}_receipts_failed, {prefix}_receipts_unmarked, {prefix}_receipts_due;"
                   f"CREATE INDEX {prefix}_receipts_due ON {prefix}_receipts (due_at) WHERE state IN ('running', 'retry')")
    db.execute("DROP FUNCTION strandd.routes(); CREATE FUNCTION strandd.routes() RETURNS TABLE (receiver regclass)"
               " LANGUAGE sql AS 'SELECT receiver FROM strandd.receivers'; UPDATE strandd.version SET version = 1")
    file = db.value("SELECT pg_relation_filenode('dm_receipts')")
    db.install()
    after = catalog(db)
    assert after == before
    assert db.value("SELECT max(version) FROM strandd.version") == 2
    assert db.value("SELECT pg_relation_filenode('dm_receipts')") == file
    assert db.receipts("dm") == [("dm:evaluate_plan", "a", "done")]
