"""strandctl doctor: each thing that can be wrong is found, and its remedy helps."""

import json
import re
import subprocess
import tempfile
import time

import psycopg2.extras
import pytest

import cluster as private
import service
from ctl_support import on_screen, refused, write_config
from database import SQL
from shared_pool import SharedPool

pytestmark = pytest.mark.usefixtures("build")

CHECKS = {"server version", "libpq version", "settings", "role", "schema", "privileges", "service", "routes", "triggers",
          "trigger functions", "indexes", "tags", "replication", "notify queue", "old transactions", "clock", "pooler", "notification"}


@pytest.fixture(scope="module")
def sound():
    """A server as it should be, with what some findings are about."""
    with private.Cluster({"max_prepared_transactions": 2, "wal_level": "logical"}, fsync=True) as c:
        yield c


@pytest.fixture
def sound_db(sound):
    d = sound.database()
    yield d
    d.drop()


def doctor(db, *args, **options):
    """(exit code, findings)"""
    done = private.strandctl(db, "--json", "doctor", *args, **options)
    assert done.returncode in (0, 1, 3), done.stderr
    return done.returncode, json.loads(done.stdout)["findings"]


def found(db, check, *args, **options):
    """Findings of one check that are no "ok"."""
    return [f for f in doctor(db, *args, **options)[1] if f["check"] == check and f["severity"] != "ok"]


def faults(db, check, *args, **options):
    """[(severity, where, what)]"""
    return [(f["severity"], f["where"], f["what"]) for f in found(db, check, *args, **options) if f["severity"] != "unseen"]


def cure(db, check):
    """Runs the remedies, and nothing is left to find."""
    for finding in found(db, check):
        for statement in finding["remedy"].split("; "):
            db.execute(statement)
    assert found(db, check) == []


# --- nothing wrong, and nothing there


@pytest.mark.parametrize("user, unseen", [
    ("postgres", set()), (private.OWNER, {"old transactions"}), (private.SERVICE, {"old transactions", "trigger functions", "indexes"})])
def test_a_sound_database(sound_db, daemon, user, unseen):
    daemon(db=sound_db, routes=[("dm:evaluate_plan", "AD_strands", "test.nothing")])
    code, findings = doctor(sound_db, user=user)
    assert {f["check"] for f in findings} == CHECKS
    assert {f["check"] for f in findings if f["severity"] == "unseen"} == unseen
    others = [f for f in findings if f["severity"] not in ("ok", "unseen")]
    # a superuser is one thing to find
    assert [f["check"] for f in others] == (["role"] if user == "postgres" else []), others
    assert code == (1 if others else 0)


def test_not_prepared(plain_db):
    code, findings = doctor(plain_db)
    assert code == 3 and not {"triggers", "privileges"} & {f["check"] for f in findings}
    finding, = [f for f in findings if f["check"] == "schema"]
    assert (finding["severity"], finding["remedy"]) == ("error", "strandctl init")


def test_another_version(db):
    db.execute("UPDATE strandd.version SET version = 1")
    assert faults(db, "schema")[0][:2] == ("error", db.name) and doctor(db)[0] == 1
    db.execute("UPDATE strandd.version SET version = 99")
    assert "newer" in faults(db, "schema")[0][2]


def test_no_daemon(db, daemon):
    assert faults(db, "service")[0][0] == "warning"
    daemon(routes=[("dm:evaluate_plan", "AD_strands", "test.nothing")])
    assert faults(db, "service") == []


# --- role and privileges


def granted_functions():
    text = (SQL / "27_grants.sql").read_text(encoding="utf-8")
    part = text.split("function grant_service")[1].split("function grant_cleanup")[0]
    return set(re.findall(r"'(\w+)'", part.split("proname IN (")[1].split(")")[0]))


def test_every_privilege_that_is_granted_is_looked_at(db):
    assert faults(db, "privileges", user=private.SERVICE) == []
    needed = {"routes", "qualified", "prefix", "database_identifier"}  # else nothing more can be asked
    functions = granted_functions()
    assert len(functions) > 10
    for name in functions - needed:
        for oid, in db.execute("SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'strandd'::regnamespace AND proname = %s", (name,)):
            db.execute(f"REVOKE EXECUTE ON FUNCTION {oid} FROM {private.SERVICE}")
    db.execute(f"REVOKE INSERT ON DM_strands FROM {private.SERVICE}; REVOKE UPDATE ON dm_receipts, dm_routes FROM {private.SERVICE};"
               f"REVOKE SELECT ON ad_receipts FROM {private.SERVICE}; REVOKE UPDATE ON AD_strands FROM {private.SERVICE};"
               f"REVOKE USAGE ON SEQUENCE strandd.instance_seq FROM {private.SERVICE}")
    lacking = faults(db, "privileges", user=private.SERVICE)
    assert {s for s, _, _ in lacking} == {"error"}
    assert {w.split("(")[0].split(".")[1] for _, w, what in lacking if what.endswith("EXECUTE")} == functions - needed
    assert {(w, what.split("lacks ")[1]) for _, w, what in lacking if not what.endswith("EXECUTE")} >= {
        ("dm_strands", "INSERT"), ("dm_receipts", "UPDATE"), ("dm_routes", "UPDATE"), ("ad_receipts", "SELECT"), ("ad_strands", "UPDATE"),
        ("ad_strands", "UPDATE of its column tags"), ("ad_strands", "UPDATE of its column updated_at"), ("strandd.instance_seq", "USAGE")}
    db.grant()
    assert faults(db, "privileges", user=private.SERVICE) == []
    db.execute(f"REVOKE EXECUTE ON FUNCTION strandd.routes() FROM {private.SERVICE}")
    assert ("error", "strandd.routes()") in [f[:2] for f in faults(db, "privileges", user=private.SERVICE)]


def test_cleaning_up_needs_more(db, tmp_path):
    path = tmp_path / "c"
    write_config(path, db, user=private.SERVICE)
    path.write_text(path.read_text().replace("{", "{ cleanup: { enabled = true; };", 1))

    def lacking():
        done = subprocess.run([*private.program("strandctl"), "--config", str(path), "--json", "doctor"], capture_output=True, text=True, check=False)
        return [f for f in json.loads(done.stdout)["findings"] if f["check"] == "privileges" and f["severity"] == "error"]
    assert {f["what"].split("lacks ")[1] for f in lacking()} == {"DELETE"} and "--grant-cleanup" in lacking()[0]["remedy"]
    db.execute("SELECT strandd.grant_cleanup(%s)", (private.SERVICE,))
    assert lacking() == []


def test_a_role_without_anything(db):
    code, findings = doctor(db, user=private.PRODUCER)
    assert code == 1 and "--grant" in next(f["remedy"] for f in findings if f["check"] == "schema" and f["severity"] == "error")


def test_row_security(db):
    db.execute("ALTER TABLE AD_strands ENABLE ROW LEVEL SECURITY")
    assert [f[:2] for f in faults(db, "privileges", user=private.SERVICE)] == [("error", "ad_strands")]
    assert faults(db, "privileges") == []  # its owner sees all


def test_the_role_itself(db):
    assert faults(db, "role", user="postgres")[0][:2] == ("warning", "postgres")
    db.cluster.admin("CREATE ROLE narrow LOGIN CONNECTION LIMIT 1")
    try:
        code, findings = doctor(db, user="narrow")
        assert code == 1 and any(f["check"] == "role" and "1 connections" in f["what"] for f in findings)
        assert {f["check"] for f in findings if f["severity"] == "unseen" and "second connection" in f["what"]} == {"pooler", "notification"}
    finally:
        db.cluster.admin("DROP ROLE narrow")


# --- settings


@pytest.mark.parametrize("name, value, severity", [
    ("statement_timeout", "5s", "note"), ("idle_session_timeout", "1min", "note"), ("idle_in_transaction_session_timeout", "1min", "note"),
    ("default_transaction_isolation", "serializable", "note"), ("default_transaction_read_only", "on", "note"),
    ("synchronous_commit", "off", "warning"), ("track_activities", "off", "note")])
def test_settings_of_a_role_in_a_database(sound_db, name, value, severity):
    sound_db.cluster.admin(f"ALTER ROLE {private.OWNER} IN DATABASE {sound_db.name} SET {name} = '{value}'")
    (got, where, what), = faults(sound_db, "settings")
    assert (got, where) == (severity, f"role {private.OWNER} in database {sound_db.name}") and what.startswith(name + " is ")
    assert faults(sound_db, "settings", user=private.SERVICE) == []
    sound_db.cluster.admin(f"ALTER ROLE {private.OWNER} IN DATABASE {sound_db.name} RESET ALL",
                           f"ALTER ROLE {private.PRODUCER} IN DATABASE {sound_db.name} SET {name} = '{value}'", f"ALTER DATABASE {sound_db.name} SET {name} = '{value}'")
    assert [f[1] for f in faults(sound_db, "settings", user=private.SERVICE)] == [f"database {sound_db.name}"]


def test_settings_of_the_server(db):
    """The tests' own server takes its ease."""
    assert {(s, what.split()[0]) for s, _, what in faults(db, "settings")} == {("error", "fsync"), ("warning", "full_page_writes")}


def test_a_producer_that_fires_no_triggers(sound_db):
    sound_db.cluster.admin(f"ALTER ROLE {private.PRODUCER} IN DATABASE {sound_db.name} SET session_replication_role = replica")
    (severity, where, _), = faults(sound_db, "settings")
    assert (severity, where) == ("warning", f"role {private.PRODUCER} in database {sound_db.name}")
    assert faults(sound_db, "settings", user=private.PRODUCER)[0][0] == "error"


# --- what stands on the tables


ALTERED = ("CREATE OR REPLACE TRIGGER ad_strands_notify_update AFTER UPDATE ON AD_strands FOR EACH ROW"
           " WHEN (OLD.kind IS DISTINCT FROM NEW.kind) EXECUTE FUNCTION notify_from_ad_strands()")
EMPTY = "CREATE FUNCTION silent() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"


@pytest.mark.parametrize("harm, name, word", [
    ("DROP TRIGGER ad_strands_notify ON AD_strands", "ad_strands_notify", "missing"),
    ("DROP TRIGGER zzz_ad_strands_before_update ON AD_strands", "zzz_ad_strands_before_update", "missing"),
    ("ALTER TABLE AD_strands DISABLE TRIGGER ad_strands_notify", "ad_strands_notify", "disabled"),
    ("ALTER TABLE AD_strands ENABLE TRIGGER zzz_ad_strands_before_insert", "zzz_ad_strands_before_insert", "other sessions"),
    (ALTERED, "ad_strands_notify_update", "altered"),
    (EMPTY + "CREATE OR REPLACE TRIGGER ad_strands_notify AFTER INSERT ON AD_strands FOR EACH ROW EXECUTE FUNCTION silent()", "ad_strands_notify", "another function"),
    (ALTERED.replace(".kind", ".tags").replace("AFTER", "BEFORE"), "ad_strands_notify_update", "altered"),
    (ALTERED.replace("(OLD.kind IS DISTINCT FROM NEW.kind)", "(false)"), "ad_strands_notify_update", "altered"),
    ("CREATE OR REPLACE TRIGGER ad_strands_notify AFTER INSERT ON AD_strands FOR EACH ROW WHEN (false) EXECUTE FUNCTION notify_from_ad_strands()",
     "ad_strands_notify", "altered")])
def test_triggers(db, harm, name, word):
    assert faults(db, "triggers") == []
    db.execute(harm)
    (severity, where, what), = faults(db, "triggers")
    assert (severity, where) == ("error", "ad_strands") and name in what and word in what
    assert len(faults(db, "triggers", user=private.SERVICE)) == 1
    cure(db, "triggers")


def test_what_comes_after_our_triggers(db):
    db.execute("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
               "CREATE TRIGGER zzzz BEFORE UPDATE ON AD_strands FOR EACH ROW EXECUTE FUNCTION f();"
               "CREATE TRIGGER aaaa BEFORE UPDATE ON AD_strands FOR EACH ROW EXECUTE FUNCTION f();"
               "CREATE RULE swallow AS ON INSERT TO DM_strands DO INSTEAD NOTHING")
    got = faults(db, "triggers")
    assert [(s, w) for s, w, _ in got] == [("warning", "ad_strands"), ("warning", "dm_strands")]
    assert "zzzz" in got[0][2] and "swallow" in got[1][2]


@pytest.mark.parametrize("function", ["notify_from_ad_strands", "keep_tags_of_ad_strands"])
def test_bodies_of_trigger_functions(db, function):
    db.execute(f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    (severity, where, what), = faults(db, "trigger functions")
    assert (severity, where) == ("error", "ad_strands") and function in what
    cure(db, "trigger functions")


def test_a_source_without_routes_needs_no_announcements(db):
    db.execute("CREATE TABLE x_strands (id text PRIMARY KEY, tags jsonb);"
               "CREATE FUNCTION notify_from_x_strands() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
               "SELECT strandd.prepare_source('x_strands')")
    assert faults(db, "triggers") == [] and faults(db, "trigger functions") == []


@pytest.mark.parametrize("index", ["idx_ad_strands_xact_id", "idx_ad_strands_tags", "dm_receipts_due"])
def test_indexes(db, index):
    assert faults(db, "indexes") == []
    db.execute(f"DROP INDEX {index}")
    (severity, where, what), = faults(db, "indexes")
    assert (severity, where) == ("error", "dm_receipts" if "dm" in index else "ad_strands") and "missing" in what
    cure(db, "indexes")


def test_an_invalid_index(db):
    db.cluster.admin("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'dm_receipts_failed'::regclass", name=db.name)
    assert {w for _, w, _ in faults(db, "indexes")} == {"dm_receipts"} and len(faults(db, "indexes")) == 2
    # a role that may not call our functions sees that much
    assert "dm_receipts_failed" in faults(db, "indexes", user=private.SERVICE)[0][2]
    db.execute("ALTER INDEX idx_ad_strands_tags SET (fastupdate = on)")
    assert "setting" in next(what for _, w, what in faults(db, "indexes") if w == "ad_strands")


def test_routes(db):
    db.execute("UPDATE dm_routes SET suspended_at = now(), suspended_error = 'broken' WHERE tag = 'dm:evaluate_plan'")
    db.execute("UPDATE tr_routes SET database_identifier = '1'")
    service.publish(db, "AD_strands", "old", ["dm:new"])
    db.attach("dm:new", "AD_strands", "DM_strands", history=False)
    got = {where.split()[0]: (severity, what) for severity, where, what in faults(db, "routes")}
    assert got["dm:evaluate_plan"][0] == "error" and "broken" in got["dm:evaluate_plan"][1]
    assert got["trader:execute_plan"][0] == "error" and "another database cluster" in got["trader:execute_plan"][1]
    assert got["dm:new"][0] == "warning" and len(got) == 3


def test_tags_that_no_route_serves(db):
    service.publish_many(db, "AD_strands", "a", 3, ["dm:evalute_plan", "priority:high", "timeout:5", "word", "error:x", "two:co:lons"])
    service.publish(db, "AD_strands", "b", ["other:thing", "dm:evaluate_plan"])
    for i, odd in enumerate((None, {"dm:x": 1}, "dm:x", [1, None, ["dm:x"]])):
        db.execute("INSERT INTO AD_strands (id, tags) VALUES (%s, %s)", (f"odd{i}", json.dumps(odd)))
    service.publish(db, "TR_strands", "t", ["dm:execution_feedback"])
    db.execute("SELECT strandd.detach('dm:execution_feedback', 'TR_strands', 'DM_strands')")
    got = found(db, "tags")
    assert [(f["severity"], f["where"], re.search(r"(\d+) of .* bears? (\S+),", f["what"]).groups()) for f in got] == [
        ("warning", "ad_strands", ("3", "dm:evalute_plan")), ("warning", "ad_strands", ("1", "other:thing"))]
    assert got[0]["remedy"].startswith("did you mean dm:evaluate_plan?") and got[1]["remedy"].startswith("strandctl attach --tag other:thing")


def test_the_look_at_tags_has_a_bound(db):
    db.execute("ALTER TABLE ad_strands SET (autovacuum_enabled = false)")
    service.publish_many(db, "AD_strands", "a", 30000, ["no:where"])
    read = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'ad_strands'"
    db.execute("SELECT pg_stat_force_next_flush()")
    time.sleep(0.2)
    before = db.value(read)
    assert found(db, "tags")[0]["what"].startswith("1000 of the newest 1000")
    time.sleep(0.2)
    assert 1000 <= db.value(read) - before < 3000
    db.execute("DROP INDEX idx_ad_strands_xact_id")
    before = db.value(read)
    assert found(db, "tags") == []
    time.sleep(0.2)
    assert db.value(read) - before < 3000


# --- what holds others up


def test_the_notify_queue(db):
    assert faults(db, "notify queue") == []
    listener = db.connect(autocommit=False, application_name="slow_reader")
    with listener.cursor() as cur:
        cur.execute("LISTEN anything")
        listener.commit()
        cur.execute("SELECT 1")
    for i in range(11):
        db.execute("SELECT pg_notify('anything', %s || lpad(i::text, 7900, 'x')) FROM generate_series(1, 1000) i", (str(i),))
    (severity, where, what), = faults(db, "notify queue")
    assert severity == "warning" and f"pid {listener.info.backend_pid} " in where and "slow_reader" in where and re.match(r"1\.\d+ %", what)
    listener.close()


def test_old_transactions(sound_db):
    old = sound_db.connect(autocommit=False, application_name="old_reader")
    sound_db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", conn=old)
    sound_db.execute("SELECT 1", conn=old)
    time.sleep(0.3)
    assert faults(sound_db, "old transactions") == []  # not older than ten minutes
    (severity, where, what), = faults(sound_db, "old transactions", "--old", "200ms")
    assert severity == "warning" and f"pid {old.info.backend_pid} " in where and "old_reader" in where and "xmin" in what
    # a role that may not look says so
    assert [f["severity"] for f in found(sound_db, "old transactions", "--old", "200ms", user=private.SERVICE)] == ["unseen"]
    old.close()
    refused(private.strandctl(sound_db, "doctor", "--old", "5"), 2, "--old 5")


def test_prepared_transactions(sound_db):
    sound_db.execute("BEGIN; INSERT INTO AD_strands (id) VALUES ('P'); PREPARE TRANSACTION 'it''s odd'")
    time.sleep(0.1)
    try:
        finding, = [f for f in found(sound_db, "old transactions", "--old", "50ms") if f["severity"] == "warning"]
        assert "'it''s odd'" in finding["where"] and sound_db.name in finding["where"]
        assert faults(sound_db, "old transactions") == []
    finally:
        sound_db.execute("ROLLBACK PREPARED 'it''s odd'")


def test_replication_slots(sound_db):
    sound_db.cluster.admin("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')", name=sound_db.name)
    try:
        (severity, where, what), = faults(sound_db, "old transactions")
        assert (severity, where) == ("warning", "replication slot 'forgotten'") and "catalog" in what and "nobody reads it" in what
    finally:
        sound_db.cluster.admin("SELECT pg_drop_replication_slot('forgotten')", name=sound_db.name)


def test_at_most_once(sound_db, tmp_path):
    path = tmp_path / "c"
    write_config(path, sound_db)
    path.write_text(path.read_text() + 'routes: ({ tag = "dm:evaluate_plan"; source = "AD_strands"; command: ["/bin/true"]; delivery = "at-most-once"; });\n')

    def look():
        done = subprocess.run([*private.program("strandctl"), "--config", str(path), "--json", "doctor"], capture_output=True, text=True, check=False)
        return [(f["severity"], f["where"]) for f in json.loads(done.stdout)["findings"] if f["check"] == "replication"]
    assert look() == [("note", "dm:evaluate_plan")]
    standby = psycopg2.connect(sound_db.cluster.dsn("postgres", "postgres"), connection_factory=psycopg2.extras.PhysicalReplicationConnection)
    assert look() == [("warning", "dm:evaluate_plan")]
    standby.close()
    sound_db.cluster.admin("ALTER SYSTEM SET synchronous_standby_names = 'x'", "SELECT pg_reload_conf()")
    try:
        # handed to sessions a moment later; no COMMIT that writes may wait for it here
        private.wait_until(lambda: look() == [("ok", None)], 5)
    finally:
        sound_db.cluster.admin("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")


# --- the way


def test_a_clock_that_is_wrong(db):
    (severity, _, what), = faults(db, "clock", env={"STRANDD_FAILPOINTS": "doctor.skew=error"})
    assert severity == "warning" and re.search(r"3(600|599)\d{3} ms behind this machine's", what)


def test_a_notification_that_does_not_arrive(db):
    began = time.monotonic()
    (severity, _, what), = faults(db, "notification", env={"STRANDD_FAILPOINTS": "doctor.silent=error"})
    assert severity == "error" and "did not arrive" in what and 4 < time.monotonic() - began < 20


def test_a_pooler_in_transaction_mode(db):
    with tempfile.TemporaryDirectory(prefix="strandd-pool-") as place:
        pool = SharedPool(db.cluster, place)
        try:
            done = subprocess.run([*private.program("strandctl"), "--dbname", f"host={place} port=5432 dbname={db.name} user={private.OWNER}",
                                   "--json", "doctor"], capture_output=True, text=True, check=False, timeout=60)
        finally:
            pool.close()
    finding, = [f for f in json.loads(done.stdout)["findings"] if f["check"] == "pooler"]
    assert finding["severity"] == "error" and "transaction mode" in finding["what"] and "session" in finding["remedy"] and done.returncode == 1


# --- how it is told


def test_on_a_terminal(db):
    service.publish(db, "AD_strands", "a", ["dm:evalute_plan"])
    for columns in (80, 60):
        code, lines = 0, []
        try:
            lines = on_screen(db, "doctor", columns=columns)
        except AssertionError as error:  # it has findings
            code, lines = 1, str(error).replace("\r\n", "\n").splitlines()
        assert code == 1 and max(map(len, lines)) <= columns, lines
    said = private.strandctl(db, "doctor").stdout
    # worst first, and the remedy below its finding
    assert said.index("error ") < said.index("warning ") < said.index("ok ") and "Remedy: did you mean" in said


def test_the_server_goes_away(db):
    lock = db.connect(autocommit=False)
    db.execute("LOCK TABLE dm_routes IN ACCESS EXCLUSIVE MODE", conn=lock)
    process = subprocess.Popen([*private.program("strandctl"), "--dbname", db.dsn(), "--json", "doctor"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, preexec_fn=private.die_with_parent)
    pid = private.wait_until(lambda: db.value("SELECT pid FROM pg_locks WHERE NOT granted"), 10)
    db.cluster.admin(f"SELECT pg_terminate_backend({pid})")
    out, err = process.communicate(timeout=20)
    assert process.returncode == 4 and "terminat" in err
    # what was found before is told
    assert "server version" in {f["check"] for f in json.loads(out)["findings"]}


def test_a_lock_is_not_waited_for_for_ever(db):
    lock = db.connect(autocommit=False)
    db.execute("LOCK TABLE dm_routes IN ACCESS EXCLUSIVE MODE", conn=lock)
    began = time.monotonic()
    _, findings = doctor(db)
    assert any(f["severity"] == "unseen" and "statement timeout" in f["what"] for f in findings)
    assert "notification" in {f["check"] for f in findings} and time.monotonic() - began < 60
