"""strandctl handler-test --route: a configured handler on a strand of the database, of
which nothing stands."""

import json
import os
import select
import signal
import subprocess

import psycopg2
import pytest

import cluster as private
import policy_support as p
import process_support as ps
import service
from ctl_support import ok, refused, rows

pytestmark = pytest.mark.usefixtures("build")

PLAN = p.PLAN
FAILED = 6


@pytest.fixture
def configured(db):
    """configured(routes, conf) is the path of a configuration that no daemon runs."""
    made = []

    def make(routes, conf=None, user=private.SERVICE):
        made.append(private.Daemon(db, routes, conf, user=user))
        made[-1].write_config()
        return made[-1].config
    yield make
    for d in made:
        d.remove()


def policy(db, **options):
    service.function(db, p.HANDLER, name="test.policy")
    return [p.route(**options)]


def argv(config, *args):
    return [*private.program("strandctl"), "--config", config, "handler-test", *args]


def run(config, *args, tag=PLAN):
    return subprocess.run(argv(config, "--route", tag, *args), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False, timeout=60)


def start(config, *args):
    return subprocess.Popen(argv(config, "--route", PLAN, *args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def verdict(config, *args, code=0):
    done = run(config, "--json", *args)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout)["handler_test"][0]


TABLES = [f"{x}_{what}" for x in ("ad", "dm", "tr") for what in ("strands", "receipts", "routes")] + ["test.calls"]


def picture(db):
    """All that could stand: rows with their places and transactions, and the instances' numbers."""
    tables = {t: db.execute(f"SELECT ctid::text, xmin::text, to_jsonb(t)::text FROM {t} t ORDER BY 1") for t in TABLES}
    return tables, db.execute("SELECT * FROM strandd.instance_seq")


class Unchanged:
    """In its block nothing is changed, nobody is notified, and no session is left: at
    once, or when the server has found that strandctl was killed, which takes it 5 s."""

    def __init__(self, db):
        self.db = db
        self.patience = 4

    def __enter__(self):
        self.listener = self.db.connect()
        for tag, _, _ in private.ROUTES:
            for channel in (tag.replace(":", "_"), tag.replace(":", "_") + ":high"):
                self.db.execute(f'LISTEN "{channel}"', conn=self.listener)
        self.before = picture(self.db)

    def __exit__(self, kind, *_):
        if kind:
            return
        private.wait_until(lambda: not self.sessions(), self.patience, what=lambda: f"no session of strandctl: {self.sessions()}")
        assert picture(self.db) == self.before
        select.select([self.listener], [], [], 0.1)
        self.listener.poll()
        assert not self.listener.notifies

    def sessions(self):
        return self.db.cluster.admin("SELECT pid, state, query FROM pg_stat_activity WHERE application_name = 'strandctl'"
                                     f" AND datname = '{self.db.name}'")


@pytest.fixture
def unchanged(db):
    return Unchanged(db)


# --- functions

@pytest.mark.sanitize
def test_replies_as_they_would_be_written(db, configured, unchanged):
    service.publish(db, "dm_strands", "DM_old", ["trader:execute_plan"], symbol="old")
    service.publish(db, "AD_strands", "AD_1", [PLAN], regime=json.dumps([
        {"kind": "a", "tags": ["alpha:decision_feedback", "priority:high"]}, {"id": "DM_mine"}, {"update": "DM_old", "symbol": "new"}]))
    config = configured([(PLAN, "AD_strands", "test.scripted")])
    with unchanged:
        v = verdict(config, "AD_1")
        done = ok(run(config, "AD_1"))
    first, second, third = v["replies"]
    assert first["id"].startswith("DM_") and len(first["id"]) == 15 and first["module"] == "dm" and first["created_at"]
    assert first["tags"] == ["alpha:decision_feedback", "priority:high", "original_strand:AD_1"] and first["kind"] == "a"
    assert (second["id"], second["tags"]) == ("DM_mine", ["original_strand:AD_1"])
    assert (third["id"], third["symbol"]) == ("DM_old", "new") and "original_strand:AD_1" in third["tags"]
    assert not {"xact_id", "tagged_at"} & set(first)
    assert v["outcome"] == "replies" and v["receipt"]["state"] == "done" and v["receipt"]["reply_ids"][1:] == ["DM_mine", "DM_old"]
    assert [json.loads(line)["tags"] for line in done.stdout.splitlines()] == [r["tags"] for r in v["replies"]]
    assert "strand AD_1, dm:evaluate_plan, attempt 1: 3 replies in " in done.stderr


@pytest.mark.parametrize("state", ["done", "failed", "expired", "withdrawn", "skipped", "retry", "running"])
def test_a_receipt_is_no_obstacle(db, configured, unchanged, state):
    p.publish(db, "AD_1")
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at, instance, error, marked, finished_at)"
               " SELECT route, 'AD_1', %s, 4, CASE WHEN %s IN ('retry', 'running') THEN now() + interval '1 h' END, 7, 'old', true, now()"
               " FROM dm_routes WHERE tag = %s", (state, state, PLAN))
    with unchanged:
        v = verdict(configured(policy(db)), "--attempt", "3", "AD_1")
    assert v["replies"][0]["symbol"] == "3" and v["receipt"]["error"] is None and v["receipt"]["attempt"] == 3


@pytest.mark.parametrize("kind, argument, attempt, state", [
    ("good", None, 1, "done"), ("until", "2", 1, "retry"), ("until", "2", 2, "done"), ("raise", "22012", 1, "retry"),
    ("raise", "22012", 2, "failed"), ("raise", "SRFIN", 1, "failed"), ("raise", "P0001", 1, "retry")])
def test_it_is_what_the_service_stores(db, daemon, configured, unchanged, wait_until, kind, argument, attempt, state):
    """The same error, SQLSTATE and state, by the very statement."""
    routes = policy(db, attempts=2, backoff={"initial": "1h", "cap": "1h"})
    p.publish(db, "AD_1", kind, argument)
    if attempt == 2:
        db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at) SELECT route, 'AD_1', 'retry', 1, now()"
                   " FROM dm_routes WHERE tag = %s", (PLAN,))
    with unchanged:
        v = verdict(configured(routes), "--attempt", str(attempt), "AD_1", code=0 if state == "done" else FAILED)
    assert v["receipt"]["state"] == state and v["retry"] == {"done": None, "retry": True, "failed": False}[state]
    daemon(routes, {"scan": {"interval": "100ms"}})
    real = wait_until(lambda: (r := service.receipt(db, "dm", "AD_1", PLAN)) and r["state"] == state and r)
    for key in ("attempt", "error", "sqlstate", "state"):
        assert real[key] == v["receipt"][key], key
    if state != "done":
        assert (real["error"], real["sqlstate"]) == (v["error"], v["sqlstate"])


@pytest.mark.parametrize("reply, sqlstate, text", [
    ('[{"nonsense": 1, "more": 2}]', "SR001", "unknown columns: more, nonsense"), ("[7]", "SR001", "not a JSON object"),
    ('[{"tags": 7}]', "SR001", "tags"), ('[{"update": "DM_none"}]', "SR002", "DM_none"), ('[{"id": "DM_there"}]', "23505", "duplicate"),
    ("[", "22P02", "json"),
])
def test_replies_that_are_refused(db, configured, unchanged, reply, sqlstate, text):
    service.publish(db, "DM_strands", "DM_there", [])
    service.publish(db, "AD_strands", "AD_1", [PLAN], regime=reply)
    with unchanged:
        v = verdict(configured([(PLAN, "AD_strands", "test.scripted")]), "AD_1", code=FAILED)
    assert v["sqlstate"] == sqlstate and text in v["error"] and v["receipt"]["state"] == "failed"


def test_a_deferred_constraint_is_checked(db, configured, unchanged):
    """Which only a COMMIT would do, and none comes."""
    db.execute("ALTER TABLE dm_strands ADD CONSTRAINT one UNIQUE (symbol) DEFERRABLE INITIALLY DEFERRED")
    service.publish(db, "AD_strands", "AD_1", [PLAN], regime='[{"symbol": "A"}, {"symbol": "A"}]')
    with unchanged:
        v = verdict(configured([(PLAN, "AD_strands", "test.scripted")]), "AD_1", code=FAILED)
    assert v["sqlstate"] == "23505"


@pytest.mark.parametrize("kind, argument, sqlstate, words", [
    ("table", None, "42P01", "the route would be suspended"), ("raise", "40001", "40001", "at no cost"),
    ("terminate", None, None, "run again alone"), ("sleep", "9", "57014", "")])
def test_faults_that_are_not_just_the_strands(db, configured, unchanged, kind, argument, sqlstate, words):
    p.publish(db, "AD_1", kind, argument)
    config = configured(policy(db), {"workers": {"handler_timeout": "300ms"}})
    with unchanged:
        v = verdict(config, "AD_1", code=FAILED)
        err = run(config, "AD_1").stderr
    assert words in err
    if sqlstate:
        assert v["sqlstate"] == sqlstate


@pytest.mark.sanitize
def test_a_function_that_catches_its_timeout(db, configured, unchanged):
    """The session is ended, as strandd's would be."""
    p.publish(db, "AD_1")
    service.function(db, "BEGIN LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN END; END LOOP; END", name="test.hog")
    config = configured([(PLAN, "AD_strands", "test.hog")], {"workers": {"handler_timeout": "300ms"}})
    with unchanged:
        v = verdict(config, "AD_1", code=FAILED)
    assert v["sqlstate"] == "57014" and "workers.handler_timeout" in v["error"]


def test_an_expired_strand(db, configured, unchanged):
    p.publish(db, "AD_1", tags=["timeout:0.001"])
    config = configured(policy(db))
    with unchanged:
        v = verdict(config, "AD_1", code=FAILED)
        refused(run(config, "AD_1"), FAILED, "has expired", "not called")
    assert v["outcome"] == "expired" and v["receipt"]["state"] == "expired"


def test_what_is_not_there(db, configured, unchanged):
    p.publish(db, "AD_1")
    service.publish(db, "AD_strands", "AD_other", ["dm:other"])
    config = configured(policy(db))
    with unchanged:
        refused(run(config, "AD_none"), 3, "no strand AD_none in public.ad_strands", "strandctl recent")
        refused(run(config, "AD_other"), 3, "does not bear the tag dm:evaluate_plan", "dm:other")
        refused(run(config, "AD_1", tag="dm:evaluate_plam"), 3, "no route for dm:evaluate_plam", "did you mean dm:evaluate_plan?")
        refused(run(config, "--source", "DM_strands", "AD_1"), 3, "no route for dm:evaluate_plan from DM_strands", "from: AD_strands")
        refused(run(config, "--source", "missing", "AD_1"), 3, "from missing", "from: AD_strands")
        refused(private.strandctl(db, "handler-test", "--route", PLAN, "AD_1", user=private.SERVICE), 3, "--config")
        gone = configured([(PLAN, "AD_strands", "test.gone")])
        refused(run(gone, "AD_1"), 2, "test.gone", "does not exist")


def test_a_tag_of_several_tables(db, configured, unchanged):
    db.attach(PLAN, "TR_strands", "DM_strands")
    p.publish(db, "AD_1")
    service.publish(db, "tr_strands", "TR_1", [PLAN])
    config = configured([(PLAN, "AD_strands", "test.reply"), (PLAN, "TR_strands", "test.reply")])
    with unchanged:
        refused(run(config, "AD_1"), 2, "--source: AD_strands, TR_strands")
        assert verdict(config, "--source", "tr_strands", "TR_1")["source"] == "TR_strands"
        assert verdict(config, "--source", "public.AD_strands", "AD_1")["source"] == "AD_strands"


def test_a_route_that_is_left_to_another_daemon(db, configured):
    p.publish(db, "AD_1")
    routes = [*policy(db), ("alpha:decision_feedback", "DM_strands", "test.reply")]
    config = configured(routes, {"module_communication": {"notifications": {"channels": ["alpha_decision_feedback"]}}})
    assert verdict(config, "AD_1")["outcome"] == "replies"


@pytest.mark.parametrize("serial", [False, True])
def test_one_that_a_service_has_in_hand(db, daemon, configured, held, wait_until, serial):
    """It is left alone, and nothing waits; of a serial route that holds for all."""
    p.publish(db, "AD_1", "held")
    routes = policy(db, serial=serial)
    daemon(routes)
    wait_until(held.pids)
    p.publish(db, "AD_2", "raise")
    refused(run(configured(routes), "AD_1"), 1, "in hand", "try it again")
    refused(run(configured(routes), "AD_2"), *((1, "in hand") if serial else (FAILED, "asked to fail")))
    held.release()
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    assert service.final(db, "dm", "AD_2", PLAN)["attempt"] == 1


def test_a_service_waits_its_turn(db, daemon, configured, wait_until):
    """It neither fails, nor charges, nor handles twice a strand that is being tested."""
    routes = policy(db, attempts=1)
    p.publish(db, "AD_1", "sleep", "2")
    process = start(configured(routes), "AD_1")
    wait_until(lambda: service.sleeping(db))
    d = daemon(routes)
    assert process.wait(20) == 0
    assert service.final(db, "dm", "AD_1", PLAN)["attempt"] == 1
    assert db.value("SELECT count(*) FROM dm_strands") == 1 and db.value("SELECT count(*) FROM test.calls") == 1
    assert d.metrics()[f"strandd_settled_total{p.LABELS}"] == 1
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_function_interrupted(db, configured, unchanged, wait_until, number):
    p.publish(db, "AD_1", "sleep", "60")
    config = configured(policy(db))
    if number == signal.SIGKILL:
        unchanged.patience = 20
    with unchanged:
        process = start(config, "AD_1")
        wait_until(lambda: service.sleeping(db))
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert number == signal.SIGKILL or (process.returncode == 5 and "interrupted" in err)


# --- processes

def process_config(db, configured, **options):
    return configured([ps.route(db, **options)])


@pytest.mark.sanitize
def test_a_process(db, configured, unchanged):
    p.publish(db, "AD_1", "replies", '[{"dm_decision": {"i": 9223372036854775807, "d": 1.10}, "tags": ["alpha:decision_feedback"]}]')
    config = process_config(db, configured)
    with unchanged:
        done = ok(run(config, "--json", "AD_1"))
        v = rows(done)[0]
    assert '"d": 1.10' in done.stdout and v["replies"][0]["dm_decision"]["i"] == 9223372036854775807
    assert v["replies"][0]["tags"] == ["alpha:decision_feedback", "original_strand:AD_1"]
    assert v["receipt"]["state"] == "done" and ps.calls(db) == {"AD_1": [1]}


@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
@pytest.mark.parametrize("kind, argument", [
    ("raise", "oh dear"), ("final", None), ("exit", "3"), ("raw", "Hello"), ("replies", '[{"nonsense": 1}]'), ("replies", "[NaN]"),
    ("raw", '{"id":"ID","replies":7}'), ("sleep", "9")])
def test_a_process_that_fails_is_charged_as_the_service_does(db, daemon, configured, unchanged, wait_until, delivery, kind, argument):
    options = {"delivery": delivery, "attempts": 2, "backoff": {"initial": "1h", "cap": "1h"}, "process": {"deadline": "500ms"}}
    p.publish(db, "AD_1", kind, argument)
    with unchanged:
        v = verdict(process_config(db, configured, **options), "--yes", "AD_1", code=FAILED)
    ps.serve(db, daemon, **options)
    real = wait_until(lambda: (r := service.receipt(db, "dm", "AD_1", PLAN)) and r["state"] != "running" and r)
    for key in ("attempt", "error", "sqlstate", "state"):
        assert real[key] == v["receipt"][key], key
    assert (v["error"], v["sqlstate"], v["retry"]) == (real["error"], real["sqlstate"], real["state"] == "retry")


def test_a_process_that_cannot_be_started(db, configured, unchanged):
    p.publish(db, "AD_1")
    route = {**ps.route(db), "command": ["/no/such/program"]}
    with unchanged:
        refused(run(configured([route]), "AD_1"), FAILED, "No such file", "SRNEW", "suspended")


def test_no_transaction_is_open_while_a_process_runs(db, configured, unchanged, wait_until):
    p.publish(db, "AD_1", "sleep", "1")
    config = process_config(db, configured)
    with unchanged:
        process = start(config, "AD_1")
        wait_until(lambda: ps.calls(db))
        states = [state for _, state, _ in unchanged.sessions()]
        assert states and set(states) == {"idle"}
        assert process.wait(20) == 0
        process.communicate()


def test_a_process_has_not_run_for_nothing(db, configured, unchanged, wait_until):
    """Where another session has the strand just when it has answered."""
    p.publish(db, "AD_1", "sleep", "1")
    config = process_config(db, configured)
    with unchanged:
        process = start(config, "AD_1")
        wait_until(lambda: ps.calls(db))
        other = db.connect(autocommit=False)
        assert db.value("SELECT pg_try_advisory_xact_lock(hashtextextended('AD_1', strandd.lock_seed('dm_receipts', route)))"
                        " FROM dm_routes WHERE tag = %s", (PLAN,), other)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=2)
        other.rollback()
        assert "1 reply" in process.communicate(timeout=20)[1] and process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_interrupted(db, configured, unchanged, wait_until, number):
    p.publish(db, "AD_1", "sleep", "60")
    config = process_config(db, configured)
    with unchanged:
        process = start(config, "AD_1")
        pid, = wait_until(lambda: ps.calls(db) and os.listdir(ps.calls_dir(db)))
        process.send_signal(number)
        process.communicate(timeout=20)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert number == signal.SIGKILL or process.returncode == 5


def test_at_most_once_is_asked_for(db, configured, unchanged):
    """Its effects are real: not without a word for it."""
    p.publish(db, "AD_1")
    config = process_config(db, configured, delivery="at-most-once")
    with unchanged:
        refused(run(config, "AD_1"), 2, "delivers at most once", "is real, and is not rolled back", "--yes")
        assert ps.calls(db) == {}
        ok(run(config, "--force", "AD_1"))
    assert ps.calls(db) == {"AD_1": [1]}


@pytest.mark.parametrize("state, words", [
    (None, "strandd will run it on this strand as well"), ("retry", "strandd will run it on this strand as well"),
    ("running", "strandd is just running it"), ("done", "strandd has run it on this strand already"),
    ("failed", "strandd may have run it on this strand already"), ("skipped", "strandd will not run it")])
def test_at_most_once_it_is_said_who_else_runs_it(db, configured, unchanged, state, words):
    """An order that is placed twice is placed twice, whoever did it."""
    p.publish(db, "AD_1")
    if state:
        db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at, instance) SELECT route, 'AD_1', %s, 1, now(), 9"
                   " FROM dm_routes WHERE tag = %s", (state, PLAN))
    with unchanged:
        refused(run(process_config(db, configured, delivery="at-most-once"), "AD_1"), 2, "--yes", words)
    assert ps.calls(db) == {}


@pytest.mark.parametrize("answer, code", [("n\n", 2), ("y\n", 0)])
def test_at_most_once_on_a_terminal(db, configured, answer, code):
    p.publish(db, "AD_1")
    ours, theirs = os.openpty()
    process = subprocess.Popen(argv(process_config(db, configured, delivery="at-most-once"), "--route", PLAN, "AD_1"), stdin=theirs,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.write(ours, answer.encode())
    _, err = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == code and "Run it on strand AD_1? [y/N]" in err
    assert len(ps.calls(db)) == (code == 0)


def test_a_lease_is_told_of(db, configured):
    p.publish(db, "AD_1")
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, attempt, due_at, instance) SELECT route, 'AD_1', 'running', 1, now(), 9"
               " FROM dm_routes WHERE tag = %s", (PLAN,))
    assert "is a lease" in ok(run(process_config(db, configured), "AD_1")).stderr


def test_the_service_s_role_is_enough_and_a_suspension_is_told(db, configured):
    p.publish(db, "AD_1")
    db.execute("UPDATE dm_routes SET suspended_at = now(), suspended_error = 'x' WHERE tag = %s", (PLAN,))
    assert "strandctl resume dm:evaluate_plan" in ok(run(configured(policy(db)), "AD_1")).stderr
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        db.execute("DELETE FROM dm_receipts", conn=db.connect(private.SERVICE))
