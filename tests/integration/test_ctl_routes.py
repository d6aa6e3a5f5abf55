"""strandctl attach and detach, and what they say about bad input."""

import pytest

import cluster as private
from ctl_support import ok, refused, rows
from sql_support import Ears, open_work, plain_specification

pytestmark = pytest.mark.usefixtures("build")

OPS = "CREATE TABLE ops_strands (id text PRIMARY KEY, kind text, note text, tags jsonb)"


@pytest.fixture
def ops(db):
    """A user's own module beside the three."""
    db.execute(OPS)
    return db


def attach(db, tag, source, receiver, *more):
    return private.strandctl(db, "attach", "--tag", tag, "--source", source, "--receiver", receiver, *more)


def test_attach_a_users_own_module(ops):
    done = ok(attach(ops, "dm:look_at", "ops_strands", "DM_strands"))
    assert "channel dm_look_at" in done.stdout
    assert "indexes of ops_strands" in done.stdout and "CREATE INDEX" not in done.stdout
    assert ops.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'idx_ops_strands_xact_id'::regclass")
    ears = Ears(ops, "dm_look_at")
    ops.execute("INSERT INTO ops_strands (id, tags) VALUES ('O1', '[\"dm:look_at\"]')")
    assert ears.heard() == [("dm_look_at", "O1")]


def test_attach_again_changes_nothing(ops):
    ok(attach(ops, "ops:alarm", "AD_strands", "ops_strands"))
    before = ops.execute("SELECT * FROM strandd.routes()")
    ok(attach(ops, "ops:alarm", "AD_strands", "ops_strands"))
    assert ops.execute("SELECT * FROM strandd.routes()") == before


@pytest.mark.parametrize("existing, skipped", [(False, 1500), (True, 0)])
def test_history_or_delivery_of_what_is_there(ops, existing, skipped):
    ops.execute("INSERT INTO AD_strands (id, tags) SELECT 'AD_' || i, '[\"ops:alarm\"]' FROM generate_series(1, 1500) i")
    ok(attach(ops, "ops:alarm", "AD_strands", "ops_strands", *(["--deliver-existing"] if existing else [])))
    assert ops.value("SELECT count(*) FROM ops_receipts WHERE state = 'skipped'") == skipped


@pytest.mark.parametrize("source, receiver, words", [
    ("AD_stands", "DM_strands", ['"AD_stands"', "did you mean ad_strands?"]),
    ("AD_strands", "nothing_like_it_at_all", ['"nothing_like_it_at_all"', "search_path public"]),
    ("a.b.c.d.e", "DM_strands", ["a.b.c.d.e"]),
    ("a view", "DM_strands", ["a view"]),
    ("odd_view", "DM_strands", ["it is a view", "hint:"]),
    ("no_tags", "DM_strands", ["tags", "ALTER TABLE public.no_tags ADD COLUMN tags jsonb"]),
])
def test_bad_tables(db, source, receiver, words):
    db.execute("CREATE VIEW odd_view AS SELECT * FROM AD_strands")
    db.execute("CREATE TABLE no_tags (id text PRIMARY KEY)")
    refused(attach(db, "dm:look_at", source, receiver), 2, *words)


@pytest.mark.parametrize("tag, words", [
    ("evaluate_plan", ["<module>:<action>"]),
    ("dm:a:b", ["<module>:<action>"]),
    ("priority:low", ["attribute"]),
    ("dm:" + "x" * 60, ["58"]),
    ("dm_evaluate:plan", ["dm:evaluate_plan", "dm_evaluate_plan"]),
])
def test_bad_tags(db, tag, words):
    before = db.execute("SELECT * FROM strandd.routes()")
    refused(attach(db, tag, "AD_strands", "DM_strands"), 2, *words, "hint:")
    assert db.execute("SELECT * FROM strandd.routes()") == before


def test_arguments_are_needed(db):
    refused(private.strandctl(db, "attach", "--tag", "dm:x"), 2, "--source", "--help")
    refused(private.strandctl(db, "detach", "--tag", "dm:x"), 2, "--source", "--help")


def test_detach(db):
    ok(private.strandctl(db, "detach", "--tag", "dm:evaluate_plan", "--source", "AD_strands"))
    ears = Ears(db, "dm_evaluate_plan")
    db.execute("INSERT INTO AD_strands (id, tags) VALUES ('A1', '[\"dm:evaluate_plan\"]')")
    assert ears.heard() == []
    refused(private.strandctl(db, "detach", "--tag", "dm:evaluate_plan", "--source", "AD_strands"), 3, "dm:evaluate_plan")
    ok(attach(db, "dm:evaluate_plan", "AD_strands", "DM_strands"))
    assert db.value("SELECT state FROM dm_receipts WHERE strand_id = 'A1'") == "skipped"


def test_detach_tells_near_tags(db):
    refused(private.strandctl(db, "detach", "--tag", "trader:exceute_plan", "--source", "DM_strands"), 3,
            "did you mean trader:execute_plan")
    refused(private.strandctl(db, "detach", "--tag", "trader:execute_plan", "--source", "DM_strandz"), 2, "dm_strands")


def test_json_of_what_changes_something(db):
    def changed(*args):
        return rows(private.strandctl(db, "--json", *args))

    route = {"route": 1, "tag": "dm:look", "source": "ad_strands", "receiver": "dm_strands"}
    attached, = changed("attach", "--tag", "dm:look", "--source", "AD_strands", "--receiver", "DM_strands")
    route["route"] = attached["route"]
    assert attached == {**route, "channel": "dm_look"}
    assert changed("detach", "--tag", "dm:look", "--source", "AD_strands") == [route]
    assert changed("adopt", "--continue") == [{"receiver": t, "mode": "continue", "rows": 0} for t in ("ad_strands", "dm_strands", "tr_strands")]
    assert changed("init")[0]["module_tables"] == 3
    assert changed("uninstall", "--yes") == [{"database": db.name}]


def test_detach_with_another_receiver(db):
    said = refused(private.strandctl(db, "detach", "--tag", "dm:evaluate_plan", "--source", "AD_strands", "--receiver", "TR_strands"), 3,
                   "tr_strands", "one to dm_strands")
    assert "did you mean" not in said


def test_the_wanted_role_is_told(db):
    """The service and a producer are ordinary roles, and not the owner."""
    for user in (private.SERVICE, private.PRODUCER):
        done = private.strandctl(db, "attach", "--tag", "dm:x", "--source", "AD_strands", "--receiver", "DM_strands", user=user)
        refused(done, 1, "permission denied", f'"{user}"', "hint: ", "owns the module tables")
        refused(private.strandctl(db, "init", user=user), 1, "permission denied" if user == private.PRODUCER else "", f'"{user}"', "owns")
    refused(private.strandctl(db, "status", user=private.PRODUCER), 1, "permission denied", "init --grant")
    refused(private.strandctl(db, "publish", "--table", "AD_strands", user=private.PRODUCER), 1, "permission denied", "--allow-unrouted")


def test_who_has_the_turn_is_named(db):
    other = db.connect(application_name="another_strandctl")
    db.execute("SELECT pg_advisory_lock(hashtextextended('strandctl', 0))", conn=other)
    done = private.strandctl(db, "--lock-wait", "1", "detach", "--tag", "dm:evaluate_plan", "--source", "AD_strands")
    said = refused(done, 1, "another strandctl is changing this database", f"pid {other.info.backend_pid} ", "another_strandctl")
    assert "cannot see" not in said


def test_detach_one_of_two_receivers(ops):
    ok(attach(ops, "dm:evaluate_plan", "AD_strands", "ops_strands"))
    ok(private.strandctl(ops, "detach", "--tag", "dm:evaluate_plan", "--source", "AD_strands", "--receiver", "ops_strands"))
    assert ops.execute("SELECT receiver::text FROM strandd.routes() WHERE tag = 'dm:evaluate_plan' AND detached_at IS NULL") == [("dm_strands",)]


def test_busy_source_is_named(db):
    writer = db.connect(autocommit=False, application_name="slow_writer")
    db.execute("INSERT INTO AD_strands (id) VALUES ('open')", conn=writer)
    done = private.strandctl(db, "--lock-wait", "1", "attach", "--tag", "dm:other", "--source", "AD_strands", "--receiver", "DM_strands")
    refused(done, 1, "slow_writer", "ad_strands" if "ad_strands" in done.stderr else "attach")
    writer.rollback()
    ok(attach(db, "dm:other", "AD_strands", "DM_strands"))


def test_not_installed(plain_db):
    refused(private.strandctl(plain_db, "attach", "--tag", "dm:x", "--source", "a", "--receiver", "b"), 3, "strandctl init")


def position(db, tag):
    return db.execute("SELECT position::text, history FROM strandd.routes() WHERE tag = %s", (tag,))


def test_deliver_existing_after_an_attach_without_it(ops):
    """While the history is unfinished it can still be called off."""
    ops.execute("INSERT INTO AD_strands (id, tags) SELECT 'AD_' || i, '[\"ops:alarm\"]' FROM generate_series(1, 50) i")
    number = ops.attach("ops:alarm", "AD_strands", "ops_strands", history=False)
    ops.execute("SELECT strandd.skip_history('ops_strands', %s, 20)", (number,))
    skipped = ops.value("SELECT count(*) FROM ops_receipts")
    assert 0 < skipped < 50
    before = ops.execute("SELECT prosrc FROM pg_proc WHERE proname = 'keep_tags_of_ad_strands' AND prosecdef")
    ok(attach(ops, "ops:alarm", "AD_strands", "ops_strands", "--deliver-existing"))
    assert position(ops, "ops:alarm") == [("0", None)]
    assert len(open_work(ops, "ops:alarm", "AD_strands", "ops_strands")) == 50 - skipped
    assert before and not ops.execute("SELECT FROM pg_proc WHERE proname = 'keep_tags_of_ad_strands' AND prosecdef")
    # it can be repeated, as after an interrupt
    ok(attach(ops, "ops:alarm", "AD_strands", "ops_strands", "--deliver-existing"))
    assert position(ops, "ops:alarm") == [("0", None)]


def test_deliver_existing_comes_too_late(ops):
    ops.execute("INSERT INTO AD_strands (id, tags) VALUES ('A1', '[\"ops:alarm\"]')")
    ok(attach(ops, "ops:alarm", "AD_strands", "ops_strands"))
    before = ops.execute("SELECT * FROM strandd.routes()")
    refused(attach(ops, "ops:alarm", "AD_strands", "ops_strands", "--deliver-existing"), 2,
            "ops:alarm", "public.ad_strands", "skipped", "init --no-routes", "hint:")
    assert ops.execute("SELECT * FROM strandd.routes()") == before


def test_deliver_existing_for_the_specifications_routes(plain_db):
    """The way that the message names."""
    plain_db.execute("CREATE TABLE AD_strands (id text PRIMARY KEY, kind text, tags jsonb)")
    plain_db.execute("INSERT INTO AD_strands (id, tags) VALUES ('A1', '[\"dm:evaluate_plan\"]')")
    ok(private.strandctl(plain_db, "init", "--no-routes"))
    ok(attach(plain_db, "dm:evaluate_plan", "AD_strands", "DM_strands", "--deliver-existing"))
    ok(private.strandctl(plain_db, "init"))
    assert open_work(plain_db, "dm:evaluate_plan", "AD_strands", "DM_strands") == ["A1"]


def test_a_customised_notify_function_is_not_replaced_in_silence(plain_db):
    for statement in plain_specification():
        plain_db.execute(statement)
    own = "\nBEGIN PERFORM pg_notify('dashboard', '; -- \\ ''$$'); RETURN NEW; END\n"
    plain_db.execute("CREATE OR REPLACE FUNCTION notify_from_dm_strands() RETURNS trigger LANGUAGE plpgsql AS %s", (own,))
    done = ok(private.strandctl(plain_db, "init"))
    assert "warning: function public.notify_from_dm_strands() was not as the specification has it" in done.stderr
    assert "strandctl: hint: " in done.stderr and "comment" in done.stderr
    # the other two were the specification's own
    assert done.stderr.count("warning") == 1
    # what strandd put there is replaced by the next change without a word
    done = ok(attach(plain_db, "dm:x", "DM_strands", "AD_strands"))
    assert done.stderr == ""
    comment = plain_db.value("SELECT obj_description('notify_from_dm_strands()'::regprocedure)")
    assert comment.endswith(own)
    ok(private.strandctl(plain_db, "uninstall", "--yes"))
    assert plain_db.execute("SELECT prosrc, obj_description(oid) FROM pg_proc WHERE proname = 'notify_from_dm_strands'") == [(own, None)]


def test_a_notify_function_that_cannot_be_written_is_refused(ops):
    ops.execute("CREATE FUNCTION notify_from_ops_strands() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    refused(attach(ops, "dm:look_at", "ops_strands", "DM_strands"), 2, "public.notify_from_ops_strands()", "RENAME", "hint:")
