"""Nothing is lost and nothing doubled, whatever dies: strandd is killed again and
again while strands are written in every way."""

import random
import time

import pytest

import cluster as private
import producers as p

KILLS = 10


def crew(db, rnd, pause):
    """50,000 strands, by all ways of writing one."""
    plan = [
        ("ad", "AD_s", p.single, 2500), ("ex", "AD_s", p.single, 1000),
        ("ad", "AD_b", p.bulk, 16000), ("ex", "AD_b", p.bulk, 8000),
        ("ad", "AD_c", p.copy, 11000), ("ad", "AD_u", p.by_update, 8000),
        ("ad", "AD_p", p.in_savepoints, 3412),
        ("ad", "odd", p.odd, len(p.ODD_IDS)), ("ex", "odd", p.odd, len(p.ODD_IDS)),
    ]
    assert sum(row[3] for row in plan) == 50000
    return [p.Producer(db, source, prefix, write, count, rnd.random(), pause * scale(write))
            for source, prefix, write, count in plan]


def scale(write):
    """Spreads each producer's strands over about the same time."""
    return {p.single: 1, p.odd: 50, p.in_savepoints: 15}.get(write, 60)


def test_killed_ten_times(build, db, wait_until):
    rnd = random.Random(p.seed())
    p.prepare(db)
    strandd = private.Daemon(db, p.ROUTES, {"workers": {"threads": 3}, "log": {"level": "info"}})
    begun = time.monotonic()
    crew_ = crew(db, rnd, 0.006)
    try:
        for producer in crew_:
            producer.start()
        for _ in range(KILLS):
            strandd.start(ready=False)
            time.sleep(rnd.uniform(0.05, 1.2))
            strandd.kill()
        written = time.monotonic()
        assert any(producer.is_alive() for producer in crew_), "the kills came too late to matter"
        assert db.value("SELECT count(*) FROM dm_receipts") > 0, "the kills came too early to matter"
        strandd.start()
        sent = sum(producer.finish() for producer in crew_)
        p.assert_exact(db, wait_until, sent)
        strandd.stop()
    finally:
        for producer in crew_:
            producer.stopped.set()
        strandd.remove()
    print(f"{sent} strands, killed over {written - begun:.1f} s, settled after {time.monotonic() - begun:.1f} s")
    assert sent >= 50000


# Where a kill hurts most: each of these lines of the way of a batch.
@pytest.mark.sanitize
@pytest.mark.parametrize("point", ["claim.after", "settle.before", "settle.sent"])
def test_killed_between(build, db, wait_until, point):
    p.prepare(db)
    for n in (1, 2, 5):
        db.execute("INSERT INTO AD_strands (id, symbol, sig_sigma, tags) SELECT %s || i, 'AD', 2, %s"
                   " FROM generate_series(1, 300) i", (f"AD_{n}_", '["dm:evaluate_plan"]'))
        strandd = private.Daemon(db, p.ROUTES, {"workers": {"batch": 20}}, failpoints=f"{point}=kill@{n}")
        strandd.start(ready=False)
        assert strandd.wait(20) == -9
        strandd.remove()
    with private.Daemon(db, p.ROUTES):
        p.assert_exact(db, wait_until, 900)
