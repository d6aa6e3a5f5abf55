"""Handlers that are processes: the protocol, replies, failures."""

import os
import signal
import time

import pytest

import process_support as p
import service


@pytest.mark.sanitize
def test_strands_are_handled_in_batches_by_several_processes(db, daemon, wait_until):
    service.publish_many(db, "ad_strands", "AD_", 500, [p.PLAN], kind="good")
    d = p.serve(db, daemon, processes=2)
    p.all_done(db, 500, wait_until)
    assert set(p.replies(db).values()) == {1} and len(p.replies(db)) == 500
    assert all(seen == [1] for seen in p.calls(db).values()) and len(p.calls(db)) == 500
    assert len(os.listdir(p.calls_dir(db))) == 2
    assert d.metrics()[f"strandd_settled_total{p.LABELS}"] == 500


def test_one_at_a_time(db, daemon, wait_until):
    service.publish_many(db, "ad_strands", "AD_", 50, [p.PLAN], kind="good")
    p.serve(db, daemon, process={"in_flight": 1})
    p.all_done(db, 50, wait_until)


def test_numbers_survive(db, daemon, wait_until):
    """The reply reaches PostgreSQL as the handler wrote it."""
    p.serve(db, daemon)
    big = '[{"kind":"big","dm_decision":{"i":9223372036854775807,"d":123456789012345678901234567890.123456789,"e":1e-400}}]'
    p.publish(db, "AD_1", "replies", big)
    p.in_state(db, "AD_1", "done", wait_until)
    assert db.value("SELECT dm_decision->>'i' FROM dm_strands") == "9223372036854775807"
    assert db.value("SELECT dm_decision->>'d' FROM dm_strands") == "123456789012345678901234567890.123456789"
    assert db.value("SELECT (dm_decision->>'e')::numeric = 1e-400 FROM dm_strands")


@pytest.mark.parametrize("replies, text", [
    ('[{"nonsense": 1}]', "nonsense"), ("[1]", "object"), ('[{"dm_decision": NaN}]', 'Token "NaN" is invalid'),
    ('[{"symbol": "a\\u0000b"}]', "\\u0000 cannot be converted to text"), ('[{"xact_id": 3}]', "xact_id"), ('[{"tags": 7}]', "tags"),
    ('[{"created_at": "never"}]', "never"), ('[{"update": "DM_none", "symbol": "x"}]', "DM_none"),
])
def test_replies_that_are_refused(db, daemon, wait_until, replies, text):
    """With the strand's id and what is wrong; its batch mates go through."""
    p.publish(db, "AD_1", "replies", replies)
    service.publish_many(db, "ad_strands", "AD_ok_", 20, [p.PLAN], kind="good")
    p.serve(db, daemon, attempts=1)
    failed = p.in_state(db, "AD_1", "failed", wait_until)
    assert text in failed["error"], failed
    p.all_done(db, 20, wait_until)
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done' AND attempt > 1") == 0
    p.marked(db, "AD_1", "error:processing_failed", wait_until)


def test_pattern_3(db, daemon, wait_until):
    service.publish(db, "dm_strands", "DM_1", [], symbol="old")
    p.publish(db, "AD_1", "replies", '[{"update": "DM_1", "symbol": "new"}]')
    p.serve(db, daemon)
    p.in_state(db, "AD_1", "done", wait_until)
    assert db.execute("SELECT id, symbol FROM dm_strands") == [("DM_1", "new")]


@pytest.mark.sanitize
def test_errors_are_tried_again(db, daemon, wait_until):
    p.serve(db, daemon, attempts=3)
    p.publish(db, "AD_1", "raise", "no luck")
    p.publish(db, "AD_2", "final")
    p.publish(db, "AD_3", "until", "3")
    failed = p.in_state(db, "AD_1", "failed", wait_until)
    assert (failed["attempt"], failed["error"], failed["sqlstate"]) == (3, "no luck", "SRERR")
    failed = p.in_state(db, "AD_2", "failed", wait_until)
    assert (failed["attempt"], failed["error"], failed["sqlstate"]) == (1, "asked to fail for good", "SRFIN")
    assert p.in_state(db, "AD_3", "done", wait_until)["attempt"] == 3
    assert p.calls(db)["AD_1"] == [1, 2, 3] and p.calls(db)["AD_2"] == [1]


@pytest.mark.parametrize("line, text", [
    ("this is a stray print of ID", "stray print"), ('{"id":"ID"}', "replies"), ("[]", "object"),
    ('{"id":"ID","replies":7}', "replies"), ('{"id":"ID","replies":[],"error":"both"}', "error"),
])
def test_lines_that_are_no_answers(db, daemon, wait_until, line, text):
    """The strand fails with what was written; those that waited behind it do not."""
    p.publish(db, "AD_1", "raw", line)
    service.publish_many(db, "ad_strands", "AD_ok_", 10, [p.PLAN], kind="good")
    p.serve(db, daemon, attempts=2)
    failed = p.in_state(db, "AD_1", "failed", wait_until, 30)
    assert text in failed["error"] and failed["sqlstate"] == "SRGAR" and failed["attempt"] == 2, failed
    p.all_done(db, 10, wait_until)
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done' AND attempt > 1") == 0


@pytest.mark.parametrize("kind, argument, text", [
    ("exit", "3", "3"), ("kill", str(int(signal.SIGKILL)), "SIGKILL"), ("kill", str(int(signal.SIGSEGV)), "SIGSEGV"),
])
def test_a_poison_is_parked(db, daemon, wait_until, kind, argument, text):
    """And the innocents of its batch are charged nothing."""
    service.publish_many(db, "ad_strands", "AD_ok_", 30, [p.PLAN], kind="good")
    p.publish(db, "AD_1", kind, argument)
    p.serve(db, daemon, attempts=3)
    failed = p.in_state(db, "AD_1", "failed", wait_until, 60)
    assert failed["attempt"] == 3 and text in failed["error"] and failed["sqlstate"] == "SRDIE", failed
    p.all_done(db, 30, wait_until, 60)
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done' AND attempt > 1") == 0


def test_a_handler_that_hangs(db, daemon, wait_until):
    """It is ended with its group, the strand charged, and other routes go on."""
    service.function(db, "BEGIN RETURN NEXT '{}'::jsonb; END", name="test.quick")
    sql = {"tag": "trader:execute_plan", "source": "DM_strands", "handler": "test.quick"}
    daemon([p.route(db, ["IGNORE_TERM=1"], {"deadline": "1s"}, attempts=1), sql])
    p.publish(db, "AD_1", "sleep", "600")
    wait_until(lambda: p.calls(db).get("AD_1"))
    service.publish_many(db, "dm_strands", "DM_", 200, ["trader:execute_plan"])
    wait_until(lambda: service.count_receipts(db, "tr", "trader:execute_plan") == 200)
    failed = p.in_state(db, "AD_1", "failed", wait_until)
    assert failed["sqlstate"] == "SRDUE" and "1 s" in failed["error"], failed
    p.publish(db, "AD_2")
    p.in_state(db, "AD_2", "done", wait_until)


def test_a_command_that_is_not_there_suspends_the_route(db, daemon, wait_until):
    p.publish(db, "AD_1")
    d = p.serve(db, daemon, command=["/nowhere/handler", "x"])
    wait_until(lambda: db.value("SELECT suspended_error FROM dm_routes WHERE tag = %s", (p.PLAN,)), 30)
    assert "/nowhere/handler" in db.value("SELECT suspended_error FROM dm_routes WHERE tag = %s", (p.PLAN,))
    assert db.value("SELECT count(*) FROM dm_receipts") == 0
    d.wait_log("/nowhere/handler")


def test_readiness(db, daemon, wait_until):
    p.publish(db, "AD_1")
    p.serve(db, daemon, ["READY=1"], {"ready": True})
    p.in_state(db, "AD_1", "done", wait_until)


def test_stderr_goes_to_the_log(db, daemon, wait_until):
    d = p.serve(db, daemon)
    p.publish(db, "AD_1", "stderr", "something for people")
    p.in_state(db, "AD_1", "done", wait_until)
    d.wait_log("something for people")


def test_replaced_one_by_one(db, daemon, wait_until):
    """By SIGUSR2, by number, by age: nothing is lost, nothing runs twice."""
    d = p.serve(db, daemon, process={"max_requests": 50, "max_lifetime": "2s"}, processes=2, batch=10)
    for n in range(40):
        service.publish_many(db, "ad_strands", f"AD_{n}_", 20, [p.PLAN], kind="good")
        if n in (10, 30):
            d.process.send_signal(signal.SIGUSR2)
    p.all_done(db, 800, wait_until, 60)
    assert all(seen == [1] for seen in p.calls(db).values())
    assert len(os.listdir(p.calls_dir(db))) >= 16
    assert set(p.replies(db).values()) == {1}


def test_a_bad_deploy_leaves_the_old_processes_at_work(db, daemon, wait_until, tmp_path):
    """The first one that is replaced does not start: the route goes on with the other."""
    bad = tmp_path / "bad"
    command = ["/bin/sh", "-c", f"test ! -e {bad} || exit 1; exec \"$@\"", "sh", *p.HANDLER]
    d = p.serve(db, daemon, ["READY=0"], {"ready": True}, processes=2, command=command)
    service.publish_many(db, "ad_strands", "AD_before_", 20, [p.PLAN], kind="good")
    p.all_done(db, 20, wait_until)
    bad.touch()
    d.signal(signal.SIGUSR2)
    wait_until(lambda: d.log().count("exited with status 1") >= 4, 20)
    for n in range(20):
        p.publish(db, f"AD_{n}")
        time.sleep(0.1)
    p.all_done(db, 40, wait_until, 5)
    assert "route suspended" not in d.log()
    bad.unlink()
    d.signal(signal.SIGUSR2)
    wait_until(lambda: d.log().count("has left, and is replaced") >= 2, 20)
    p.publish(db, "AD_after")
    p.in_state(db, "AD_after", "done", wait_until)


def test_what_a_process_left_goes_to_the_others(db, daemon, wait_until, tmp_path):
    """At once, however long its worker waits for the next one."""
    slow = tmp_path / "slow"
    command = ["/bin/sh", "-c", f"test ! -e {slow} || sleep 60; exec \"$@\"", "sh", *p.HANDLER]
    d = p.serve(db, daemon, ["READY=0"], {"ready": True, "start_timeout": "2min"}, processes=2, attempts=2, command=command)
    wait_until(lambda: d.log().count("is started") == 2)
    time.sleep(1)
    slow.touch()
    db.execute("INSERT INTO ad_strands (id, tags, kind, timeframe, created_at) SELECT 'AD_' || i, jsonb_build_array(%s::text),"
               " CASE i WHEN 1 THEN 'crash_once' ELSE 'good' END, %s, now() FROM generate_series(1, 10) i",
               (p.PLAN, str(tmp_path / "crashed")))
    p.all_done(db, 10, wait_until, 10)


def test_expired_ones_are_not_handed_out(db, daemon, wait_until):
    service.publish(db, "ad_strands", "AD_1", [p.PLAN, "timeout:0.001"], kind="good")
    p.serve(db, daemon)
    p.in_state(db, "AD_1", "expired", wait_until)
    assert not p.calls(db)
    p.marked(db, "AD_1", "error:timeout", wait_until)


def test_none_is_sent_after_its_timeout(db, daemon, wait_until):
    """However long those before it in the batch have taken."""
    p.serve(db, daemon, process={"in_flight": 1})
    p.publish(db, "AD_before", "sleep", "1")
    wait_until(lambda: p.calls(db))
    p.publish(db, "AD_slow", "sleep", "2")
    service.publish_many(db, "ad_strands", "AD_", 3, [p.PLAN, "timeout:2"], kind="good")
    service.publish(db, "ad_strands", "AD_patient", [p.PLAN, "timeout:600"], kind="good")
    for n in range(1, 4):
        p.in_state(db, f"AD_{n}", "expired", wait_until)
        p.marked(db, f"AD_{n}", "error:timeout", wait_until)
    p.all_done(db, 3, wait_until)
    assert set(p.calls(db)) == {"AD_before", "AD_slow", "AD_patient"}
    assert db.value("SELECT max(attempt) FROM dm_receipts") == 1


@pytest.mark.sanitize
def test_drain(db, daemon, wait_until):
    """What is out is waited for, what is not is given back uncharged."""
    d = p.serve(db, daemon, process={"in_flight": 1})
    for n in range(5):
        p.publish(db, f"AD_{n}", "sleep", "1")
    wait_until(lambda: p.calls(db))
    d.stop()
    states = service.states(db, "dm", p.PLAN)
    assert "running" not in states.values() and "done" in states.values()
    d.start()
    p.all_done(db, 5, wait_until)
    assert db.value("SELECT max(attempt) FROM dm_receipts") == 1
    assert all(seen == [1] for seen in p.calls(db).values())


def test_told_to_leave_at_once(db, daemon, wait_until):
    """The second SIGTERM ends the processes too, and what they had is found later."""
    d = p.serve(db, daemon, attempts=2)
    p.publish(db, "AD_1", "sleep", "600")
    wait_until(lambda: p.calls(db).get("AD_1"))
    d.signal(signal.SIGTERM)
    d.wait_log("stopping")      # two at once are one
    d.signal(signal.SIGTERM)
    wait_until(lambda: d.process.poll() is not None)
    db.execute("UPDATE ad_strands SET kind = 'good'")
    d.start()
    p.in_state(db, "AD_1", "done", wait_until, 30)
