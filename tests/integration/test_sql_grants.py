"""The service's role and a producer's can do what they must, and nothing more."""

import psycopg2
import pytest

from sql_support import Ears

DENIED = psycopg2.errors.InsufficientPrivilege


def allowed(db, conn, sql):
    try:
        db.execute(sql, conn=conn)
        return True
    except DENIED:
        return False


@pytest.mark.parametrize("sql, may", [
    ("SELECT * FROM strandd.version, strandd.sources, strandd.receivers", True),
    ("SELECT * FROM strandd.routes()", True),
    ("SELECT nextval('strandd.instance_seq')", True),
    ("SELECT strandd.receipt_key('a'), strandd.channel('a:b'), strandd.prefix('ad_strands'), strandd.new_id('dm'), strandd.unrouted_tags('[]', '{}'),"
     " strandd.qualified('ad_strands'), strandd.refuse_reply('a', '{}', '{}'), strandd.database_identifier()", True),
    ("SELECT t.id, t.xact_id FROM ad_strands t WHERE xact_id > '0'", True),
    ("INSERT INTO dm_strands (id, tags) VALUES ('r', '[\"alpha:decision_feedback\"]')", True),
    ("INSERT INTO dm_receipts (route, strand_id, state) VALUES (1, 'a', 'done'); UPDATE dm_receipts SET state = 'failed'", True),
    ("SELECT strandd.update_strand('dm_strands', 'a', '{\"update\": \"d\", \"kind\": \"k\"}', '{id,kind,tags,updated_at}')", True),
    ("UPDATE dm_routes SET position = '5'", True),
    ("DELETE FROM dm_receipts", False),
    ("DELETE FROM ad_strands", False),
    ("TRUNCATE dm_strands", False),
    ("INSERT INTO dm_routes (source, tag, channel, database_identifier) VALUES ('ad_strands', 'x:y', 'x_y', 1)", False),
    ("DELETE FROM dm_routes", False),
    ("UPDATE strandd.version SET version = 2", False),
    ("INSERT INTO strandd.sources VALUES ('ad_strands')", False),
    ("SELECT setval('strandd.instance_seq', 1)", False),
    ("SELECT strandd.attach('x:y', 'ad_strands', 'dm_strands')", False),
    ("SELECT strandd.detach('dm:evaluate_plan', 'ad_strands', 'dm_strands')", False),
    ("SELECT strandd.skip_history('dm_strands', 1)", False),
    ("SELECT strandd.restore_specification('ad_strands')", False),
    ("SELECT strandd.grant_service('producer')", False),
    ("CREATE TABLE strandd.t ()", False),
    ("CREATE TRIGGER t BEFORE UPDATE ON dm_strands FOR EACH ROW EXECUTE FUNCTION keep_tags_of_dm_strands()", False),
])
def test_the_service(db, sql, may):
    db.execute("INSERT INTO dm_strands (id) VALUES ('d')")
    assert allowed(db, db.connect("strandd_service"), sql) is may


@pytest.mark.parametrize("sql", [
    "SELECT * FROM strandd.clean_strands('ad_strands', now())",
    "SELECT * FROM strandd.clean_strands('ad_strands', now(), dry_run => true)",
    "SELECT * FROM strandd.clean_receipts(now())",
    "SELECT * FROM strandd.search_receipts('dm_receipts', 1)",
    "DELETE FROM dm_receipts",
    "DELETE FROM ad_strands",
])
def test_the_service_deletes_only_where_cleanup_was_granted(db, sql):
    db.execute("INSERT INTO ad_strands (id, created_at) VALUES ('a', '2020-01-01')")
    service = db.connect("strandd_service")
    assert not allowed(db, service, sql)
    db.execute("SELECT strandd.grant_cleanup('strandd_service')")
    assert allowed(db, service, sql)
    for never in ("TRUNCATE ad_strands", "DELETE FROM dm_routes", "DELETE FROM strandd.sources",
                  "SELECT strandd.attach('x:y', 'ad_strands', 'dm_strands')"):
        assert not allowed(db, service, never), never


@pytest.mark.parametrize("sql, may", [
    ("INSERT INTO ad_strands (id, tags) VALUES ('p', '[\"dm:evaluate_plan\"]')", True),
    ("SELECT * FROM ad_strands WHERE id = 'a'", True),
    ("UPDATE ad_strands SET tags = '[\"z\"]', updated_at = now()", True),
    ("INSERT INTO ad_strands (id) VALUES ('a') ON CONFLICT (id) DO UPDATE SET tags = NULL", True),
    ("DELETE FROM ad_strands", False),
    ("TRUNCATE ad_strands", False),
    ("ALTER TABLE ad_strands DISABLE TRIGGER ALL", False),
    ("SELECT * FROM dm_routes", False),
    ("SELECT * FROM dm_receipts", False),
    ("INSERT INTO dm_receipts (route, strand_id, state) VALUES (1, 'a', 'done')", False),
    ("SELECT strandd.receipt_key('a')", False),
    ("SELECT * FROM strandd.receivers", False),
    ("SELECT strandd.attach('x:y', 'ad_strands', 'dm_strands')", False),
])
def test_a_producer(db, sql, may):
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', '[\"dm:evaluate_plan\"]')")
    assert allowed(db, db.connect("producer"), sql) is may


def test_neither_is_a_superuser_nor_a_member(db):
    assert db.execute("SELECT DISTINCT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles"
                      " WHERE rolname IN ('strandd_service', 'producer')") == [(False,) * 5]
    assert db.value("SELECT count(*) FROM pg_auth_members WHERE member IN ('strandd_service'::regrole, 'producer'::regrole)") == 0


def test_a_producer_writes_while_history_is_unfinished(db):
    """Then the trigger writes receipts, which the producer may not; and the
    function that may is not for everyone to hang on a table of his own."""
    db.execute("CREATE TABLE src (id text PRIMARY KEY, tags jsonb)")
    db.execute("INSERT INTO src VALUES ('old', '[\"dm:a\"]')")
    db.execute("SELECT strandd.grant_producer('producer', 'src')")
    db.attach("dm:b", "src", "dm_strands", history=False)
    db.attach("dm:a", "src", "dm_strands", history=False)
    conn = db.connect("producer")
    db.execute("UPDATE src SET tags = '[\"dm:b\"]'", conn=conn)
    assert db.receipts("dm") == [("dm:a", "old", "skipped")]
    db.execute("CREATE TEMPORARY TABLE mine (LIKE src)", conn=conn)
    with pytest.raises(DENIED):
        db.execute("CREATE TRIGGER t BEFORE UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION public.keep_tags_of_src()", conn=conn)


def test_nothing_is_left_to_public(db):
    assert db.execute("SELECT p.proname FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a"
                      " WHERE p.pronamespace = 'strandd'::regnamespace AND a.grantee = 0") == []


def test_functions_are_pinned(db):
    """Each has a search_path of its own, or is one of those that must not."""
    free = {r[0] for r in db.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'strandd'::regnamespace AND NOT coalesce(proconfig::text LIKE '%search_path%', false)")}
    assert free == {"receipt_key", "channel", "new_id", "unrouted_tags", "history_lock", "stamp_strand",
                    "finish_histories", "restamp", "adopt", "update_strand", "timeouts", "long_id", "retry", "unmark",
                    "clean_strands", "delete_strands"}
    assert db.value("SELECT count(*) FROM pg_proc WHERE prosecdef AND pronamespace IN ('strandd'::regnamespace, 'public'::regnamespace)") == 0


def test_a_module_that_was_added(db):
    db.execute("CREATE TABLE risk_strands (id text PRIMARY KEY, tags jsonb)")
    db.attach("risk:check", "ad_strands", "risk_strands")
    service = db.connect("strandd_service")
    with pytest.raises(DENIED):
        db.execute("SELECT * FROM risk_routes", conn=service)
    db.grant()
    db.execute("SELECT * FROM risk_routes, risk_receipts", conn=service)


def test_a_role_with_a_strange_name_and_one_that_means_everyone(cluster):
    cluster.admin('DROP ROLE IF EXISTS "odd ""role"', 'CREATE ROLE "odd ""role" LOGIN')
    db = cluster.database()
    try:
        db.execute("SELECT strandd.grant_service('odd \"role'), strandd.grant_producer('odd \"role', 'ad_strands')")
        ears = Ears(db, "dm_evaluate_plan")
        conn = db.connect('odd "role')
        db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', '[\"dm:evaluate_plan\"]')", conn=conn)
        assert ears.heard() == [("dm_evaluate_plan", "a")]
        with pytest.raises(psycopg2.errors.UndefinedObject, match="there is no role public"):
            db.execute("SELECT strandd.grant_service('public')")
    finally:
        db.drop()
        cluster.admin('DROP ROLE "odd ""role"')
