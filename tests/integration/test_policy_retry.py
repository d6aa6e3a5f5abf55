"""Retry: attempts, backoff, due by the database's clock, across restarts."""

import time

import pytest

import policy_support as p
import service

QUICK = {"initial": "1ms", "cap": "1ms"}
# The jitter is full: with a bound of seconds one of twenty would be due at once.
LONG = {"initial": "24h", "cap": "24h"}


def test_attempts_are_counted_and_told(db, daemon, wait_until):
    d = p.serve(db, daemon, attempts=4, backoff=QUICK)
    p.publish(db, "AD_1", "until", "3")
    done = p.in_state(db, "AD_1", "done", wait_until)
    assert done["attempt"] == 3 and done["error"] is None and done["sqlstate"] is None and done["due_at"] is None
    assert db.value("SELECT symbol FROM dm_strands") == "3"     # strand.attempt, as the handler read it
    assert p.tags(db, "AD_1") == [p.PLAN]
    metrics = d.metrics()
    assert metrics[f"strandd_retried_total{p.LABELS}"] == 2 and metrics[f"strandd_settled_total{p.LABELS}"] == 1


@pytest.mark.sanitize
def test_the_last_attempt_fails_for_good(db, daemon, wait_until):
    d = p.serve(db, daemon, attempts=3, backoff=QUICK)
    p.publish(db, "AD_1", "raise", "22012")
    p.publish(db, "AD_2")
    failed = p.in_state(db, "AD_1", "failed", wait_until)
    assert failed["attempt"] == 3 and failed["error"] == "asked to fail" and failed["sqlstate"] == "22012"
    assert failed["finished_at"] and failed["due_at"] is None
    p.in_state(db, "AD_2", "done", wait_until)
    p.marked(db, "AD_1", "error:processing_failed", wait_until)
    assert d.log().count("strand failed for good") == 1


def test_a_handler_can_say_that_it_is_final(db, daemon, wait_until):
    p.serve(db, daemon, attempts=9)
    p.publish(db, "AD_1", "raise", "SRFIN")
    failed = p.in_state(db, "AD_1", "failed", wait_until)
    assert failed["attempt"] == 1 and failed["sqlstate"] == "SRFIN"


def test_a_retry_starts_when_it_is_due(db, daemon, wait_until):
    """Not on the scanner's tick, which is 20 seconds here: in the median within 50 ms, or
    what this machine makes a strand wait that needs no retry."""
    service.function(db, """BEGIN
        IF strand->>'kind' = 'late' AND current_setting('strand.attempt') = '1' THEN RAISE EXCEPTION 'later'; END IF;
        INSERT INTO test.calls (handler, id) SELECT extract(epoch FROM clock_timestamp() -
            coalesce((SELECT due_at FROM dm_receipts WHERE strand_id = strand->>'id'), (strand->>'tagged_at')::timestamptz)), strand->>'id';
    END""", name="test.late")
    daemon([p.route("test.late", attempts=2, backoff={"initial": "500ms", "cap": "500ms"})], {"scan": {"interval": "20s"}})
    for n in range(9):
        for kind in ("late", "usual"):
            p.publish(db, f"{kind}_{n}", kind)
            p.in_state(db, f"{kind}_{n}", "done", wait_until)
    late, usual = (sorted(x for x, in db.execute("SELECT handler::float8 FROM test.calls WHERE id LIKE %s", (f"{kind}_%",)))
                   for kind in ("late", "usual"))
    assert len(late) == 9 == len(usual) and late[0] >= 0, (late, usual)
    assert late[4] < 0.05 + 4 * usual[4] and late[8] < 8, (late, usual)


def test_backoff_is_between_nothing_and_its_bound(db, daemon, wait_until):
    """Full jitter; each bound is the last one times the factor, and the cap ends that."""
    p.record_waits(db)
    p.serve(db, daemon, attempts=4, backoff={"initial": "200ms", "factor": 3.0, "cap": "1s"})
    service.publish_many(db, "ad_strands", "AD_", 40, [p.PLAN], kind="raise")
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()) == ["failed"] * 40, 30)
    for attempt, bound in ((1, 0.2), (2, 0.6), (3, 1.0)):
        least, most = zip(*p.waits(db, attempt))
        assert len(least) == 40 and min(most) >= 0 and max(least) <= bound, (attempt, least, most)
        # of forty draws: not so once in a hundred million runs
        assert min(least) < 0.4 * bound and max(most) > 0.6 * bound, (attempt, least, most)
        assert sum(w > 0.9 * bound for w in least) < 20, (attempt, least)
    assert not p.waits(db, 4)


def test_a_retry_survives_a_kill(db, daemon, wait_until):
    d = p.serve(db, daemon, attempts=2, backoff=LONG)
    for n in range(20):
        p.publish(db, f"AD_{n}", "until", "2")
    # one that is due by now, as may be once in a thousand runs, has had its retry
    wait_until(lambda: len(service.states(db, "dm", p.PLAN)) == 20)
    d.kill()
    db.execute("UPDATE dm_receipts SET due_at = clock_timestamp() + interval '1s' * random() * 3 WHERE state = 'retry'")
    d.start()
    wait_until(lambda: set(service.states(db, "dm", p.PLAN).values()) == {"done"}, 15)
    assert db.value("SELECT min(attempt) = 2 AND max(attempt) = 2 FROM dm_receipts")
    assert db.value("SELECT count(*) FROM dm_strands") == 20


def test_another_instance_takes_the_retry(db, daemon, wait_until):
    first = p.serve(db, daemon, attempts=2, backoff=LONG)
    p.publish(db, "AD_1", "until", "2")
    number = p.in_state(db, "AD_1", "retry", wait_until)["instance"]
    first.kill()
    db.execute("UPDATE dm_receipts SET due_at = clock_timestamp()")
    daemon([p.route(attempts=2)], {"scan": {"interval": "500ms"}})
    assert p.in_state(db, "AD_1", "done", wait_until)["instance"] != number


def test_a_long_id_is_retried_and_marked(db, daemon, wait_until):
    """Its receipt's key is a hash, from which nobody can tell the strand."""
    p.serve(db, daemon, attempts=2, backoff={"initial": "100ms", "cap": "100ms"})
    long = "AD_" + "x" * 1500
    p.publish(db, long, "raise")
    wait_until(lambda: db.value("SELECT state FROM dm_receipts") == "failed", 15)
    assert db.value("SELECT long_id FROM dm_receipts") == long
    p.marked(db, long, "error:processing_failed", wait_until)


def test_high_ones_are_retried_as_high(db, daemon, held, wait_until):
    """By the reserved worker, while the only other one has a strand in hand."""
    p.serve(db, daemon, {"workers": {"threads": 2, "reserved_for_high": 1}}, attempts=2, backoff=QUICK)
    p.publish(db, "AD_held", "held")
    wait_until(lambda: held.count() == 1)
    p.publish(db, "AD_1", "until", "2", tags=["priority:high"])
    p.publish(db, "AD_2", "until", "2")
    p.in_state(db, "AD_1", "done", wait_until)
    assert held.count() == 1 and p.receipt(db, "AD_2") is None
    held.release()
    p.in_state(db, "AD_2", "done", wait_until)


def test_serial_routes_retry_too(db, daemon, wait_until):
    p.serve(db, daemon, attempts=3, backoff=QUICK, serial=True)
    for n in range(10):
        p.publish(db, f"AD_{n}", "until", "2" if n % 2 else "1")
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()) == ["done"] * 10, 20)
    rows = db.execute("SELECT s.id, r.attempt, d.symbol FROM ad_strands s JOIN dm_receipts r ON r.strand_id = s.id"
                      " JOIN dm_strands d ON d.id = r.reply_ids[1] ORDER BY 1")
    assert rows == [(f"AD_{n}", 1 + n % 2, str(1 + n % 2)) for n in range(10)]


def test_nothing_is_doubled_while_everything_fails_at_times(db, daemon, wait_until):
    """Two daemons, each strand fails at random, one daemon is killed now and then."""
    service.function(db, """BEGIN
        IF random() < 0.3 THEN RAISE EXCEPTION 'bad luck'; END IF;
        RETURN NEXT jsonb_build_object('kind', 'reply', 'symbol', strand->>'id');
    END""", name="test.luck")
    routes = [p.route("test.luck", attempts=30, backoff={"initial": "50ms", "factor": 1.5, "cap": "300ms"})]
    conf = {"scan": {"interval": "300ms"}, "workers": {"batch": 20}}
    first, _ = daemon(routes, conf), daemon(routes, conf)
    service.publish_many(db, "ad_strands", "AD_", 1500, [p.PLAN])
    for _ in range(3):
        time.sleep(0.6)
        first.kill()
        first.start()
    wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done'") == 1500, 60, 0.1,
               what=lambda: db.execute("SELECT state, count(*) FROM dm_receipts GROUP BY 1"))
    assert db.value("SELECT count(*) FROM dm_strands") == db.value("SELECT count(DISTINCT symbol) FROM dm_strands") == 1500
