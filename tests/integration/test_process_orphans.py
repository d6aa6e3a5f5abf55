"""Leases of processes: crashes of the daemon, of the server, and who takes what over."""

import signal
import time

import pytest

import process_support as p
import service


def kill(d):
    """SIGKILL, and its processes with it."""
    d.kill()


def test_an_orphan_is_taken_over_in_time(db, daemon, wait_until):
    first = p.serve(db, daemon, attempts=3)
    p.publish(db, "AD_1", "sleep", "3")
    wait_until(lambda: p.calls(db).get("AD_1"))
    p.serve(db, daemon, attempts=3)
    time.sleep(1)
    kill(first)
    died = time.monotonic()
    wait_until(lambda: p.calls(db)["AD_1"] == [1, 2], 15)
    assert time.monotonic() - died < 11
    done = p.in_state(db, "AD_1", "done", wait_until)
    assert done["attempt"] == 2 and p.replies(db) == {"AD_1": 1}


def test_the_living_keep_theirs(db, daemon, wait_until):
    p.serve(db, daemon)
    p.publish(db, "AD_1", "sleep", "14")
    wait_until(lambda: p.calls(db).get("AD_1"))
    p.serve(db, daemon)
    done = p.in_state(db, "AD_1", "done", wait_until, 30)
    assert done["attempt"] == 1 and p.calls(db)["AD_1"] == [1]


def test_a_restart_takes_up_its_own_orphans(db, daemon, wait_until):
    d = p.serve(db, daemon, attempts=2)
    for n in range(10):
        p.publish(db, f"AD_{n}", "sleep", "0.5")
    wait_until(lambda: p.calls(db))
    kill(d)
    d.start()
    p.all_done(db, 10, wait_until, 40)
    assert set(p.replies(db).values()) == {1}


def test_at_most_once_is_not_run_again(db, daemon, strandctl, wait_until):
    d = p.serve(db, daemon, delivery="at-most-once", attempts=5)
    p.publish(db, "AD_1", "sleep", "600")
    wait_until(lambda: p.calls(db).get("AD_1"))
    kill(d)
    d.start()
    failed = p.in_state(db, "AD_1", "failed", wait_until, 30)
    assert failed["sqlstate"] == "SROUT" and "nobody knows" in failed["error"], failed
    p.marked(db, "AD_1", "error:outcome_unknown", wait_until)
    assert p.calls(db)["AD_1"] == [1]
    refused = strandctl("failed", "retry", "AD_1")
    assert refused.returncode != 0 and "--force" in refused.stderr and "twice" in refused.stderr
    db.execute("UPDATE ad_strands SET kind = 'good'")
    assert strandctl("failed", "retry", "AD_1", "--force").returncode == 0
    p.in_state(db, "AD_1", "done", wait_until)
    assert "error:outcome_unknown" not in p.tags(db, "AD_1")


def test_at_most_once_a_crash_costs_what_was_sent_alone(db, daemon, wait_until):
    """Those that waited behind it were not leased yet."""
    d = p.serve(db, daemon, delivery="at-most-once")
    p.publish(db, "AD_1", "sleep", "1")
    wait_until(lambda: p.calls(db))
    service.publish_many(db, "ad_strands", "AD_more_", 20, [p.PLAN], kind="sleep", timeframe="0.3")
    wait_until(lambda: len(p.calls(db)) == 3)
    kill(d)
    d.start()
    wait_until(lambda: not {"running", "retry"} & set(service.states(db, "dm", p.PLAN).values())
               and len(service.states(db, "dm", p.PLAN)) == 21, 40)
    assert list(service.states(db, "dm", p.PLAN).values()).count("failed") <= 1
    assert all(seen == [1] for seen in p.calls(db).values())


@pytest.mark.sanitize
def test_at_most_once_and_a_crash_of_the_process(db, daemon, wait_until):
    """What it had not seen yet is handled by the next one; what it had is at an end."""
    p.publish(db, "AD_1", "kill", str(int(signal.SIGKILL)))
    service.publish_many(db, "ad_strands", "AD_ok_", 20, [p.PLAN], kind="good")
    p.serve(db, daemon, delivery="at-most-once", attempts=5)
    failed = p.in_state(db, "AD_1", "failed", wait_until)
    assert failed["sqlstate"] == "SROUT" and "SIGKILL" in failed["error"] and failed["attempt"] == 1
    p.all_done(db, 20, wait_until)
    assert all(seen == [1] for seen in p.calls(db).values())


def test_at_most_once_may_be_told_to_retry(db, daemon, wait_until):
    """A handler that says that it has failed knows that it did nothing."""
    p.serve(db, daemon, delivery="at-most-once", attempts=3)
    p.publish(db, "AD_1", "until", "2")
    assert p.in_state(db, "AD_1", "done", wait_until)["attempt"] == 2


@pytest.mark.parametrize("kind, argument, text", [
    ("replies", '[{"nonsense": 1}]', "nonsense"), ("replies", "7", "no array"), ("raw", "a stray print", "stray print"),
])
def test_answers_that_cannot_be_taken_are_final_at_most_once(db, daemon, strandctl, wait_until, kind, argument, text):
    """The handler has done something, and nobody knows what: so says the strand, and it is
    not to be run again by mistake."""
    p.serve(db, daemon, delivery="at-most-once", attempts=3)
    p.publish(db, "AD_1", kind, argument)
    failed = p.in_state(db, "AD_1", "failed", wait_until)
    assert failed["attempt"] == 1 and text in failed["error"] and failed["sqlstate"] == "SROUT", failed
    p.marked(db, "AD_1", "error:outcome_unknown", wait_until)
    assert "--force" in strandctl("failed", "retry", "AD_1").stderr
    assert p.calls(db)["AD_1"] == [1]


def test_a_final_error_is_known_at_most_once(db, daemon, wait_until):
    p.serve(db, daemon, delivery="at-most-once")
    p.publish(db, "AD_1", "final")
    assert p.in_state(db, "AD_1", "failed", wait_until)["sqlstate"] == "SRFIN"
    p.marked(db, "AD_1", "error:processing_failed", wait_until)


def test_unknown_commits(db, daemon, wait_until):
    """Of the handing out and of the settling: each strand is handled once, settled once."""
    d = daemon([p.route(db, delivery="at-most-once", batch=10)],
               failpoints="handout.sent=error@3;handout.committed=error@6;answers.sent=error@4")
    service.publish_many(db, "ad_strands", "AD_", 300, [p.PLAN], kind="good")
    p.all_done(db, 300, wait_until, 90)
    assert all(seen == [1] for seen in p.calls(db).values()), [s for s in p.calls(db).items() if s[1] != [1]]
    assert set(p.replies(db).values()) == {1} and len(p.replies(db)) == 300
    assert d.log()


def test_the_server_is_started_anew(db, daemon, cluster, wait_until):
    """All locks are gone for a moment: the living have time to take theirs again, what
    was answered meanwhile is settled, and nothing runs twice."""
    first, second = (p.serve(db, daemon, delivery="at-most-once") for _ in range(2))
    for n in range(12):
        p.publish(db, f"AD_{n}", "sleep", "2")
    wait_until(lambda: len(p.calls(db)) >= 2)
    db.close()
    cluster.restart("immediate")
    p.all_done(db, 12, wait_until, 60)
    assert all(seen == [1] for seen in p.calls(db).values()), p.calls(db)
    assert set(p.replies(db).values()) == {1}
    assert first.process.poll() is None and second.process.poll() is None


def test_a_lease_survives_a_crash_of_the_server(db, daemon, cluster, wait_until):
    """Also where the role's default says not to wait for the disk."""
    db.execute(f'ALTER DATABASE "{db.name}" SET synchronous_commit = off')
    d = p.serve(db, daemon, delivery="at-most-once")
    p.publish(db, "AD_1", "sleep", "600")
    wait_until(lambda: p.calls(db).get("AD_1"))
    db.close()
    cluster.restart("immediate")
    d.kill()
    assert p.receipt(db, "AD_1")["state"] == "running"
    d.start()
    assert p.in_state(db, "AD_1", "failed", wait_until, 30)["sqlstate"] == "SROUT"
    assert p.calls(db)["AD_1"] == [1]


def test_reloads_under_flow(db, daemon, wait_until):
    """Each reload has processes of its own; those of before finish what they have."""
    d = p.serve(db, daemon, delivery="at-most-once", processes=2, batch=10)
    for n in range(30):
        service.publish_many(db, "ad_strands", f"AD_{n}_", 20, [p.PLAN], kind="good")
        if n % 10 == 5:
            d.process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
    p.all_done(db, 600, wait_until, 60)
    assert all(seen == [1] for seen in p.calls(db).values())
    assert set(p.replies(db).values()) == {1}
