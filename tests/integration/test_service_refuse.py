"""Bad input: strandd says where and what, and exits 2."""

import re

import pytest

import cluster as private
import service

ALPHA = "dm:evaluate_plan"

pytestmark = pytest.mark.usefixtures("build")


def one_route(**options):
    return [{"tag": ALPHA, "source": "AD_strands", "handler": "test.nothing", **options}]


# --- the file and the command line


def test_missing_file():
    done = service.run("--config", "/nowhere/strandd.conf")
    assert done.returncode == 2
    assert "/nowhere/strandd.conf" in done.stderr and "no such file" in done.stderr
    assert "--config" in done.stderr  # the remedy


def test_unreadable_file_is_a_directory():
    done = service.run("--config", "/")
    assert done.returncode == 2
    assert "directory" in done.stderr


def test_broken_file_is_named_with_its_line():
    code, log, path = service.run_with_text('log: { level = "info"; };\nworkers: {\n  threads = = 4;\n};\n')
    assert code == 2
    assert f"{path}:3: " in log
    assert "threads = = 4" in log


@pytest.mark.parametrize("text, line, words", [
    ("\nworkers: { thread = 4; };\n", 2, ['"workers.thread"', '"workers.threads"']),
    ("worker: { threads = 4; };\n", 1, ['"worker"', '"workers"']),
    ('\n\nstats: { sockt = "/tmp/x"; };\n', 3, ['"stats.sockt"', '"stats.socket"']),
    ('routes = (\n { tag = "dm:evaluate_plan"; source = "AD_strands"; handlr = "f"; } );\n', 2, ["handlr", "handler"]),
    ("workers: { threads = 400; };\n", 1, ["workers.threads", "64"]),
    ('workers: { threads = "four"; };\n', 1, ["workers.threads"]),
    ("queue: { limit = 99999999999; };\n", 1, ["99999999999L"]),
    ("scan: { interval = 5; };\n", 1, ["scan.interval = 5 lacks its unit", '"5ms"', '"5s"']),
    ('log: { level = "loud"; };\n', 1, ["log.level", "debug"]),
])
def test_wrong_setting_is_named_with_its_line(text, line, words):
    code, log, path = service.run_with_text(text)
    assert code == 2
    assert f"{path}:{line}: " in log
    for word in words:
        assert word in log, log


@pytest.mark.parametrize("tag, words", [
    ("dm:" + "x" * 56, ["59 bytes", "58"]),
    ("dm", ["<module>:<action>"]),
    ("dm:a:b", ["<module>:<action>"]),
    ("priority:high", ["attribute"]),
    ("dn:evaluate_plan", ['"dm:evaluate_plan"']),
])
def test_wrong_tag_is_named_with_its_line(tag, words):
    code, log, path = service.run_with_text(
        f'routes = (\n  {{ tag = "{tag}"; source = "AD_strands"; handler = "f"; }}\n);\n')
    assert code == 2
    assert f"{path}:2: " in log
    for word in [tag, *words]:
        assert word in log, log


def test_two_tags_of_one_channel():
    code, log, path = service.run_with_text(
        'modules = ( { name = "a"; table = "a_strands"; }, { name = "a_b"; table = "b_strands"; } );\n'
        'routes = ( { tag = "a:b_c"; source = "s"; handler = "f"; },\n'
        '           { tag = "a_b:c"; source = "s"; handler = "f"; } );\n')
    assert code == 2
    assert f"{path}:3: " in log
    assert '"a_b:c"' in log and '"a:b_c"' in log and "channel" in log


def test_unknown_argument_exits_2():
    assert service.run("--confg", "x").returncode == 2
    assert service.run("serve").returncode == 2


def test_help_and_version_exit_0():
    assert "--config" in service.run("--help").stdout
    assert re.match(r"strandd \d", service.run("--version").stdout)


# --- what the database does not hold


def test_database_not_initialised(plain_db):
    log = service.refused(plain_db)
    assert f'"{plain_db.name}"' in log
    assert "strandctl init" in log


def test_another_schema_version(db):
    db.execute("UPDATE strandd.version SET version = 999")
    log = service.refused(db)
    assert "999" in log and "version" in log


def test_role_without_grants(db):
    db.cluster.admin("DO $$ BEGIN CREATE ROLE stranger LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    log = service.refused(db, user="stranger")
    assert '"stranger"' in log
    assert "strandctl init --grant stranger" in log


@pytest.mark.parametrize("what", ["TABLE dm_routes", "FUNCTION strandd.database_identifier()"])
def test_one_grant_is_missing(db, what):
    db.execute(f"REVOKE ALL ON {what} FROM {private.SERVICE}, PUBLIC")
    log = service.refused(db, routes=one_route())
    assert what.split()[-1].split(".")[-1].rstrip("()") in log
    assert f"strandctl init --grant {private.SERVICE}" in log


@pytest.mark.parametrize("table", ["ad_strands", "dm_strands", "dm_routes", "dm_receipts"])
def test_row_level_security(db, table):
    """Hidden rows look like forged ones: nobody would notice."""
    db.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    log = service.refused(db, routes=one_route())
    assert f"rows of public.{table} " in log
    assert f"ALTER ROLE {private.SERVICE} BYPASSRLS" in log and "DISABLE ROW LEVEL SECURITY" in log


def test_row_level_security_that_the_role_passes_by(db):
    db.cluster.admin("DO $$ BEGIN CREATE ROLE passer LOGIN BYPASSRLS; EXCEPTION WHEN duplicate_object THEN END $$")
    db.execute("SELECT strandd.grant_service('passer'); GRANT USAGE ON SCHEMA test TO passer;"
               "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA test TO passer; ALTER TABLE ad_strands ENABLE ROW LEVEL SECURITY")
    with private.Daemon(db, one_route(), user="passer"):
        service.publish(db, "ad_strands", "AD_1", [ALPHA])
        service.final(db, "dm", "AD_1", ALPHA)


def test_missing_source_is_named_with_near_names(db):
    log = service.refused(db, routes=one_route(source="AD_strand"))
    assert '"AD_strand"' in log and "ad_strands" in log
    assert ALPHA in log


def test_missing_receiver_is_named(db):
    modules = [{"name": "dm", "table": "DM_strandz"}]
    log = service.refused(db, routes=one_route(), conf={"modules": modules})
    assert '"DM_strandz"' in log and "dm_strands" in log


def test_name_that_is_no_name(db):
    log = service.refused(db, routes=one_route(source='a"b'))
    assert 'a"b' in log


def test_source_name_that_tries_to_be_more(db):
    log = service.refused(db, routes=one_route(source="AD_strands; DROP TABLE ad_strands"))
    assert "DROP TABLE" in log
    assert db.value("SELECT count(*) FROM ad_strands") == 0


def test_missing_handler_is_named_with_near_names(db):
    log = service.refused(db, routes=one_route(handler="test.evaluate_plans"))
    assert "test.evaluate_plans" in log
    assert "test.evaluate_plan(" in log
    assert re.search(r"strandd\.conf:\d+: ", log)


def test_missing_schema_of_handler(db):
    log = service.refused(db, routes=one_route(handler="tset.evaluate_plan"))
    assert "tset.evaluate_plan" in log and "test.evaluate_plan(" in log


def test_handler_of_another_tables_rows(db):
    log = service.refused(db, routes=one_route(handler="test.execute_plan"))
    assert "test.execute_plan" in log and "ad_strands" in log


@pytest.mark.parametrize("returns, body", [("text", "SELECT ''::text"), ("SETOF json", "SELECT '{}'::json"),
                                           ("void", "SELECT NULL")])
def test_handler_with_wrong_return_type(db, returns, body):
    service.function(db, body, name="test.wrong", returns=returns, language="sql")
    log = service.refused(db, routes=one_route(handler="test.wrong"))
    assert "test.wrong(" in log and "jsonb" in log
    assert returns.replace("SETOF ", "") in log


def test_handler_that_is_a_procedure(db):
    db.execute("CREATE PROCEDURE test.proc(strand jsonb) LANGUAGE sql AS $$ SELECT 1 $$")
    log = service.refused(db, routes=one_route(handler="test.proc"))
    assert "test.proc" in log


def test_handler_that_is_an_aggregate(db):
    db.execute("CREATE AGGREGATE test.agg(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb)")
    log = service.refused(db, routes=one_route(handler="test.agg"))
    assert "test.agg" in log


def test_handler_without_right_to_execute(db):
    service.function(db, "BEGIN END", name="test.secret", grant=False)
    log = service.refused(db, routes=one_route(handler="test.secret"))
    assert "test.secret(" in log and "execute" in log and private.SERVICE in log


def test_handler_in_a_schema_without_usage(db):
    db.execute("CREATE SCHEMA hidden")
    service.function(db, "BEGIN END", name="hidden.f")
    log = service.refused(db, routes=one_route(handler="hidden.f"))
    assert "hidden" in log and private.SERVICE in log


def test_tag_not_attached_tells_the_command(db):
    log = service.refused(db, routes=one_route(tag="dm:review_plan"))
    assert "dm:review_plan" in log
    assert "strandctl attach --tag dm:review_plan --source AD_strands --receiver DM_strands" in log


def test_tag_mistyped_names_the_attached_one_first(db):
    log = service.refused(db, routes=one_route(tag="dm:evaluate_pln"))
    assert log.index('did you mean "dm:evaluate_plan"?') < log.index("strandctl attach --tag dm:evaluate_pln")
    # far from any: those that there are
    log = service.refused(db, routes=one_route(tag="dm:review_all_books"))
    assert "did you mean" not in log and "attached there: dm:evaluate_plan" in log
    # one that is detached, or leads elsewhere, is not meant
    db.execute("SELECT strandd.detach(%s, 'ad_strands'::regclass, 'dm_strands'::regclass)", (ALPHA,))
    log = service.refused(db, routes=one_route(tag="dm:evaluate_pln"))
    assert "did you mean" not in log and "attached there" not in log


def test_tag_attached_to_another_source(db):
    log = service.refused(db, routes=one_route(source="TR_strands"))
    assert f"strandctl attach --tag {ALPHA} --source TR_strands --receiver DM_strands" in log


def test_tag_detached(db):
    db.execute("SELECT strandd.detach(%s, 'ad_strands'::regclass, 'dm_strands'::regclass)", (ALPHA,))
    log = service.refused(db, routes=one_route())
    assert "strandctl attach" in log


def test_every_fault_is_told_in_one_start(db):
    log = service.refused(db, routes=[
        (ALPHA, "AD_strandz", "test.nothing"),
        ("alpha:decision_feedback", "DM_strands", "test.no_such"),
        ("trader:execute_plan", "DM_strands", "test.nothing"),
        ("dm:no_such", "TR_strands", "test.nothing")])
    assert "AD_strandz" in log and "test.no_such" in log and "dm:no_such" in log
    assert 'route "trader:execute_plan"' not in log


def test_restored_copy_is_not_served(db):
    db.execute("UPDATE dm_routes SET database_identifier = '4711'")
    log = service.refused(db)
    assert "strandctl adopt" in log and "4711" in log


def test_copy_in_the_same_cluster_is_not_served(db):
    """CREATE DATABASE ... TEMPLATE keeps the cluster's system identifier."""
    service.publish(db, "ad_strands", "AD_1", ["dm:evaluate_plan"])
    db.close()
    copy = db.cluster.copy(db.name, "staging_of_it")
    try:
        assert "strandctl adopt" in service.refused(copy)
        copy.adopt()
        with private.Daemon(copy):
            service.final(copy, "dm", "AD_1", "dm:evaluate_plan")
    finally:
        copy.drop()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_database_in_another_encoding(cluster, encoding):
    """Refused by init before anything is changed, and by the daemon where it is too late."""
    cluster.template()
    name = f"in_{encoding.lower()}"
    cluster.admin(f"CREATE DATABASE {name} OWNER {private.OWNER} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    db = private.Database(cluster, name)
    try:
        done = private.strandctl(db, "init")
        assert done.returncode == 2, done.stderr
        for word in (name, encoding, "UTF8", "template0"):
            assert word in done.stderr, done.stderr
        assert db.value("SELECT to_regnamespace('strandd') IS NULL AND to_regclass('ad_strands') IS NULL")
        log = service.refused(db, routes=one_route())
        assert f'"{name}"' in log and encoding in log and "ENCODING 'UTF8'" in log
    finally:
        db.drop()


def test_no_routes_at_all(db):
    """Nothing to do is most likely a mistake."""
    log = service.refused(db, routes=[])
    assert "route" in log
