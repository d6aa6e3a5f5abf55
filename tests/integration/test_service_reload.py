"""SIGHUP: the configuration changes while strands flow, and none is lost, doubled or
kept waiting."""

import os
import re
import resource
import signal
import time

import pytest

import cluster as private
import reloading
import service
from daemon import merged
from test_service_stats import Scraper
from test_service_stop import threads, wait_for_sleep

PLAN = ("dm:evaluate_plan", "AD_strands")
FEEDBACK = ("alpha:decision_feedback", "DM_strands")
TAG = PLAN[0]
RECORD = [(*PLAN, "test.record")]
SLOW = [(*PLAN, "test.slow")]
BOTH = [(*PLAN, "test.slow"), (*FEEDBACK, "test.record")]
GOOD_AFTERWARDS = "AD_after"


def workers(d):
    return sum(name.startswith("worker-") for name in threads(d.pid))


def still_serves(db, d, strand_id):
    service.publish(db, "ad_strands", strand_id, [TAG])
    assert service.final(db, "dm", strand_id, TAG)["state"] == "done", d.log()
    assert service.calls(db)[strand_id] == 1


# --- what changes


@pytest.mark.sanitize
def test_number_of_workers_and_batch(db, daemon):
    d = daemon(RECORD, conf={"workers": {"threads": 2, "batch": 100}})
    for n, (count, batch) in enumerate([(6, 1), (1, 7), (3, 100)]):
        said = reloading.hang_up(d, workers={"threads": count, "batch": batch})
        assert f"serving 1 route with {count} worker{'s' * (count > 1)} " in said
        private.wait_until(lambda: workers(d) == count, what=lambda: f"{count} workers, not {threads(d.pid)}")  # pylint: disable=cell-var-from-loop
        service.publish_many(db, "ad_strands", f"AD_{n}_", 40, [TAG])
        private.wait_until(lambda: service.count_receipts(db, "dm", TAG) == 40 * (n + 1))  # pylint: disable=cell-var-from-loop
        labels = '{tag="dm:evaluate_plan",source="AD_strands"}'
        private.wait_until(lambda: d.metrics()["strandd_settled_total" + labels] == 40 * (n + 1))  # pylint: disable=cell-var-from-loop
        # by transactions, and not by the metric: a strand that is offered twice is a batch more
        sizes = [size for size, in db.execute("SELECT count(*) FROM dm_receipts WHERE strand_id LIKE %s GROUP BY xmin::text", (f"AD_{n}_%",))]
        assert sum(sizes) == 40 and max(sizes) <= batch, sizes
    assert set(service.calls(db).values()) == {1}
    assert d.metrics()["strandd_reloads_total"] == 3
    assert reloading.generations(d) == 1


def test_log_level(db, daemon):
    d = daemon(RECORD, conf={"log": {"level": "info"}})
    assert "debug " not in d.log()
    reloading.hang_up(d, log={"level": "debug"})
    d.wait_log("generation 1 has finished")
    reloading.hang_up(d, expect=None, log={"level": "error"})
    private.wait_until(lambda: d.metrics()["strandd_reloads_total"] == 2)
    before = d.log()
    reloading.hang_up(d, expect=None, log={"level": "error"})
    private.wait_until(lambda: d.metrics()["strandd_reloads_total"] == 3)
    assert d.log() == before
    still_serves(db, d, "AD_1")


@pytest.mark.sanitize
def test_routes_come_and_go(db, daemon):
    d = daemon(RECORD)
    service.publish(db, "dm_strands", "DM_1", [FEEDBACK[0]])
    still_serves(db, d, "AD_1")
    assert service.receipt(db, "ad", "DM_1", FEEDBACK[0]) is None
    said = reloading.hang_up(d, routes=reloading.routes((*FEEDBACK, "test.record")))
    assert "serving 1 route" in said
    # what was there before the route is found by the first pass
    assert service.final(db, "ad", "DM_1", FEEDBACK[0])["state"] == "done"
    private.wait_until(lambda: reloading.generations(d) == 1)
    service.publish(db, "ad_strands", "AD_2", [TAG])
    time.sleep(0.5)
    assert service.receipt(db, "dm", "AD_2", TAG) is None
    seen = d.metrics()
    assert seen['strandd_settled_total{tag="dm:evaluate_plan",source="AD_strands"}'] == 1
    assert seen['strandd_in_flight{tag="dm:evaluate_plan",source="AD_strands"}'] == 0
    assert seen['strandd_settled_total{tag="alpha:decision_feedback",source="DM_strands"}'] == 1
    said = reloading.hang_up(d, routes=reloading.routes(*BOTH))
    assert "serving 2 routes" in said
    assert service.final(db, "dm", "AD_2", TAG)["state"] == "done"
    private.wait_until(lambda: d.metrics()['strandd_settled_total{tag="dm:evaluate_plan",source="AD_strands"}'] == 2)
    assert service.calls(db) == {"AD_1": 1, "DM_1": 1, "AD_2": 1}


def test_handler_changes(db, daemon):
    service.function(db, "BEGIN INSERT INTO test.calls (handler, id) VALUES ('other', strand->>'id'); END", "test.other")
    d = daemon(RECORD)
    still_serves(db, d, "AD_1")
    reloading.hang_up(d, routes=reloading.routes((*PLAN, "test.other")))
    d.wait_log("generation 1 has finished")
    still_serves(db, d, "AD_2")
    assert db.execute("SELECT handler, id FROM test.calls ORDER BY n") == [("record", "AD_1"), ("other", "AD_2")]


def test_another_database(db, cluster, daemon):
    """The connection's own settings change too."""
    other = cluster.database()
    try:
        d = daemon(RECORD)
        still_serves(db, d, "AD_1")
        reloading.hang_up(d, module_communication={"database": {"database": other.name}})
        still_serves(other, d, "AD_1")
    finally:
        other.drop()


def test_what_needs_a_restart_is_named(db, daemon):
    d = daemon(RECORD)
    said = reloading.hang_up(d, stats={"socket": d.stats_socket + ".other"})
    assert f"stats.socket needs a restart to change: it stays {d.stats_socket}" in said
    assert os.path.exists(d.stats_socket) and not os.path.exists(d.stats_socket + ".other")
    said = reloading.hang_up(d, stats={"socket": d.stats_socket}, log={"format": "json"})
    assert "stats.socket needs" not in said and "log.format needs a restart" in said
    still_serves(db, d, "AD_1")


# --- what is refused


@pytest.mark.sanitize
@pytest.mark.parametrize("changes, words", [
    ({"text": "workers = { threads = 2 \n"}, ["strandd.conf:"]),
    ({"text": "workerz: { threads = 2; };\n"}, ["workerz"]),
    ({"workers": {"threads": 65}}, ["workers.threads", "65"]),
    ({"routes": []}, ["nothing to serve"]),
    ({"routes": reloading.routes((*PLAN, "test.no_such_handler"))}, ["test.no_such_handler", "does not exist"]),
    ({"routes": reloading.routes(("dm:nothing", "AD_strands", "test.record"))}, ["dm:nothing", "not attached"]),
    ({"module_communication": {"database": {"database": "no_such_database"}}}, ["no_such_database"]),
], ids=["syntax", "key", "bounds", "no routes", "handler", "tag", "database"])
def test_bad_file_changes_nothing_and_says_why(db, daemon, changes, words):
    d = daemon(RECORD, conf={"workers": {"threads": 3}})
    settings = dict(d.settings)
    said = reloading.hang_up(d, expect=reloading.REFUSED, **changes)
    for word in words:
        assert word in said, said
    assert "reloaded" not in said
    assert workers(d) == 3
    assert d.metrics()["strandd_reloads_refused_total"] == 1 and d.metrics()["strandd_reloads_total"] == 0
    still_serves(db, d, "AD_1")
    d.settings = settings
    reloading.hang_up(d)
    still_serves(db, d, "AD_2")


def test_each_refusal_is_told_in_full(db, daemon):
    """However often the same file is sent again: an operator waits for the answer."""
    d = daemon(RECORD)
    for _ in range(15):
        said = reloading.hang_up(d, expect=reloading.REFUSED, text="nonsense\n")
        assert "SIGHUP: reading" in said and "1 error; see the lines above" in said, said
        assert "strandd.conf:2: syntax error" in said, said
    still_serves(db, d, "AD_1")


def test_missing_file_changes_nothing(db, daemon):
    d = daemon(RECORD)
    os.unlink(d.config)
    d.signal(signal.SIGHUP)
    d.wait_log(reloading.REFUSED)
    still_serves(db, d, "AD_1")


def test_reload_without_a_server_is_refused(db, daemon):
    with private.Cluster() as own:
        there = own.database()
        d = daemon(RECORD, db=there)
        there.close()
        own.stop()
        said = reloading.hang_up(d, expect=reloading.REFUSED, workers={"threads": 5})
        assert own.dir in said
        own.start()
        still_serves(there, d, "AD_1")
        reloading.hang_up(d)
        still_serves(there, d, "AD_2")
        d.stop()


@pytest.mark.sanitize
def test_mended_while_it_waits_for_its_server(db, daemon):
    """A wrong name of the server needs no restart, and a bad file harms nothing."""
    good = db.cluster.dir
    d = daemon(RECORD, ready=False, conf={"module_communication": {"database": {"host": "/no/such/directory"}}})
    d.wait_log("waiting for it")
    reloading.hang_up(d, expect=reloading.REFUSED, text="nonsense\n")
    reloading.hang_up(d, expect="/no/such/place", module_communication={"database": {"host": "/no/such/place"}})
    reloading.hang_up(d, expect=reloading.REFUSED, text="nonsense\n")
    reloading.hang_up(d, expect="serving", module_communication={"database": {"host": good}})
    still_serves(db, d, "AD_1")


@pytest.mark.long
def test_a_generation_without_a_connection_is_taken_back(db, daemon):
    """No free connection for it: the old one serves on, and the log says why."""
    d = daemon(RECORD, conf={"workers": {"threads": 1}})
    still_serves(db, d, "AD_1")
    # what is open now, and one for looking the routes up
    limit = len(service.sessions(db)) + 1
    db.cluster.admin(f"ALTER ROLE {private.SERVICE} CONNECTION LIMIT {limit}")
    try:
        said = reloading.hang_up(d, expect=reloading.REFUSED, timeout=45, workers={"threads": 2})
    finally:
        db.cluster.admin(f"ALTER ROLE {private.SERVICE} CONNECTION LIMIT -1")
    assert "had no connection" in said and "too many connections" in said
    private.wait_until(lambda: reloading.generations(d) == 1)
    still_serves(db, d, "AD_2")


@pytest.mark.sanitize
def test_a_generation_without_descriptors_is_refused(db, daemon):
    """One is free, for the loader, and none for what the new generation needs: the
    old one serves on."""
    d = daemon(RECORD, conf={"workers": {"threads": 1}})
    still_serves(db, d, "AD_1")
    taken = {int(name) for name in os.listdir(f"/proc/{d.pid}/fd")}
    lowest = next(n for n in range(len(taken) + 1) if n not in taken)
    was = resource.prlimit(d.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (lowest + 1, was[1]))
    try:
        said = reloading.hang_up(d, expect=reloading.REFUSED, workers={"threads": 2})
    finally:
        resource.prlimit(d.pid, resource.RLIMIT_NOFILE, was)
    assert "no event descriptors" in said
    still_serves(db, d, "AD_2")
    reloading.hang_up(d)
    still_serves(db, d, "AD_3")


# --- nothing lost, nothing late


def flow(db, d, seconds, changes):
    """Strands at 300 a second for so long, with these reloads spread over it."""
    producer = reloading.Producer(db, "ad_strands", "AD_", TAG, 300)
    producer.start()
    for change in changes:
        time.sleep(seconds / (len(changes) + 1))
        reloading.hang_up(d, **change)
    time.sleep(seconds / (len(changes) + 1))
    n = producer.finish()
    private.wait_until(lambda: service.count_receipts(db, "dm", TAG) == n, timeout=30)
    assert set(service.states(db, "dm", TAG).values()) == {"done"}
    calls = service.calls(db)
    assert len(calls) == n and set(calls.values()) == {1}
    return n, *reloading.latencies(db, "ad_strands", "dm", TAG, "AD_%")


CHANGES = [{"workers": {"threads": 4}}, {"workers": {"batch": 10}}, {"workers": {"threads": 1}},
           {"routes": reloading.routes(*RECORD, max_workers=1, batch=20, attempts=3, backoff={"initial": "1h", "cap": "1h"})},
           {"module_communication": {"cleanup": {"enabled": True, "retention_days": 1, "pause": "0ms"}}},
           {"routes": reloading.routes(*RECORD, max_workers=0, attempts=1, timeout="1h", suspend_after=1)},
           {"queue": {"limit": 100}}, {"workers": {"threads": 2, "batch": 100}}]


@pytest.mark.sanitize
def test_strands_flow_through_reloads(db, daemon, capsys):
    db.execute("SELECT strandd.grant_cleanup(%s)", (private.SERVICE,))
    d = daemon(RECORD)
    scraper = Scraper(d)
    scraper.start()
    n, longest, p99 = flow(db, d, 6, CHANGES)
    scraper.finish()
    assert scraper.scrapes > 10
    with capsys.disabled():
        print(f"\n{n} strands through {len(CHANGES)} reloads: longest {longest:.0f} ms, p99 {p99:.1f} ms")
    assert longest < 2000
    private.wait_until(lambda: reloading.generations(d) == 1)
    # the last batch is counted after its receipts are there
    settled = 'strandd_settled_total{tag="dm:evaluate_plan",source="AD_strands"}'
    private.wait_until(lambda: d.metrics()[settled] == n, what=lambda: f"{n} settled, not {d.metrics()[settled]}")
    d.wait_log("cleanup completed")


@pytest.mark.sanitize
def test_signals_in_a_row_end_in_the_last_file(db, daemon):
    d = daemon(RECORD)
    producer = reloading.Producer(db, "ad_strands", "AD_", TAG, 100)
    producer.start()
    for i in range(20):
        d.settings = merged(d.settings, {"workers": {"threads": 1 + i % 5}})
        reloading.write_config(d)
        d.signal(signal.SIGHUP)
        time.sleep(0.02 * (i % 3))
    d.settings = merged(d.settings, {"workers": {"threads": 4}})
    reloading.write_config(d)
    d.signal(signal.SIGHUP)
    private.wait_until(lambda: workers(d) == 4 and reloading.generations(d) == 1, timeout=30,
                       what=lambda: f"4 workers:\n{d.log()}")
    n = producer.finish()
    private.wait_until(lambda: service.count_receipts(db, "dm", TAG) == n, timeout=30)
    assert set(service.calls(db).values()) == {1}


@pytest.mark.sanitize
def test_a_long_handler_delays_nobody(db, daemon, held):
    """The old generation drains; the new one serves meanwhile, and what the old one
    holds is settled by it, once."""
    d = daemon([(*PLAN, "test.held"), (*FEEDBACK, "test.record")], conf={"workers": {"threads": 2, "batch": 1}})
    service.publish(db, "ad_strands", "AD_slow", [TAG], kind="held")
    private.wait_until(lambda: held.count() == 1)
    reloading.hang_up(d, workers={"threads": 3})
    assert reloading.generations(d) == 2
    producer = reloading.Producer(db, "dm_strands", "DM_", FEEDBACK[0], 50)
    producer.start()
    # the same route, too, in the new generation
    service.publish(db, "ad_strands", "AD_quick", [TAG])
    assert service.final(db, "dm", "AD_quick", TAG)["state"] == "done"
    time.sleep(1)
    n = producer.finish()
    private.wait_until(lambda: service.count_receipts(db, "ad", FEEDBACK[0]) == n)
    assert held.count() == 1 and service.receipt(db, "dm", "AD_slow", TAG) is None
    held.release()
    assert service.final(db, "dm", "AD_slow", TAG)["state"] == "done"
    private.wait_until(lambda: reloading.generations(d) == 1)
    assert set(service.calls(db).values()) == {1} and len(service.calls(db)) == n + 2


@pytest.mark.sanitize
def test_several_old_generations_and_their_bound(db, daemon, held):
    """Each holds a handler; the one too many waits for the first to end."""
    d = daemon([(*PLAN, "test.held")], conf={"workers": {"threads": 1, "batch": 1}})
    for i in range(3):
        service.publish(db, "ad_strands", f"AD_{i}", [TAG], kind="held")
        private.wait_until(lambda: held.count() == i + 1, what=f"{i + 1} handlers that are held")  # pylint: disable=cell-var-from-loop
        reloading.hang_up(d, workers={"threads": 1 + i % 2})
    assert reloading.generations(d) == 4
    said = reloading.hang_up(d, expect="reload put off", workers={"threads": 3})
    assert "reloaded" not in said
    d.signal(signal.SIGHUP)
    time.sleep(0.5)
    assert d.metrics()["strandd_reloads_total"] == 3 and held.count() == 3
    held.release()
    private.wait_until(lambda: d.metrics()["strandd_reloads_total"] == 4, timeout=20)
    private.wait_until(lambda: reloading.generations(d) == 1, timeout=20)
    assert workers(d) == 3
    for i in range(3):
        assert service.final(db, "dm", f"AD_{i}", TAG)["state"] == "done"
    assert service.calls(db) == {"AD_0": 1, "AD_1": 1, "AD_2": 1}


def test_serial_route_stays_serial(db, daemon):
    """Two generations at once, and yet never two strands of the route."""
    service.function(db, """
        DECLARE n int; BEGIN
            SELECT count(*) INTO n FROM test.calls;
            PERFORM pg_sleep(0.002);
            INSERT INTO test.calls (handler, id) VALUES ('serial ' || n, strand->>'id');
        END""", "test.in_turn")
    serial = reloading.routes((*PLAN, "test.in_turn"), serial=True)
    d = daemon(serial)
    producer = reloading.Producer(db, "ad_strands", "AD_", TAG, 100)
    producer.start()
    for i in range(4):
        time.sleep(0.5)
        reloading.hang_up(d, workers={"threads": 1 + i})
    n = producer.finish()
    private.wait_until(lambda: service.count_receipts(db, "dm", TAG) == n, timeout=30)
    seen = [handler for handler, in db.execute("SELECT handler FROM test.calls ORDER BY n")]
    assert sorted(seen) == sorted(f"serial {i}" for i in range(n))


@pytest.mark.sanitize
def test_state_of_old_and_new_at_once(db, daemon, held):
    """SIGUSR1 tells of both generations."""
    d = daemon([(*PLAN, "test.held")], conf={"workers": {"threads": 1}})
    service.publish(db, "ad_strands", "AD_1", [TAG], kind="held")
    private.wait_until(lambda: held.count() == 1)
    reloading.hang_up(d, workers={"threads": 2})
    d.signal(signal.SIGUSR1)
    d.wait_log("end of the state")
    assert d.log().count("lanes: ") == 2 and "an earlier configuration" in d.log()
    assert d.log().count("thread worker-0") == 2 and d.log().count("thread worker-1") == 1
    held.release()
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"


def test_state_tells_of_every_thread(db, daemon, tmp_path):
    """As many generations as there may be, with as many workers each, all held."""
    hold = tmp_path / "hold"
    hold.touch()
    d = daemon(RECORD, conf={"workers": {"threads": 64}}, failpoints=f"worker.take=hold:{hold}")
    for _ in range(3):
        reloading.hang_up(d)
    d.signal(signal.SIGUSR1)
    d.wait_log("end of the state")
    told, there = re.findall(r"thread worker-\d+ \((\d+)\): ", d.log()), workers(d)
    hold.unlink()
    assert len(set(told)) == there == 4 * 64
    private.wait_until(lambda: reloading.generations(d) == 1)
    still_serves(db, d, "AD_1")


# --- stopping in the middle


@pytest.mark.sanitize
@pytest.mark.parametrize("rude", [False, True])
def test_stop_while_an_old_generation_drains(db, daemon, rude):
    d = daemon(SLOW, conf={"workers": {"threads": 1, "batch": 1}})
    service.publish(db, "ad_strands", "AD_1", [TAG], timeframe="20" if rude else "2")
    wait_for_sleep(db)
    reloading.hang_up(d)
    since = time.monotonic()
    d.signal(signal.SIGTERM)
    if rude:
        d.wait_log("finishing what runs")
        d.signal(signal.SIGTERM)
    assert d.wait(10) == 0, d.log()
    assert time.monotonic() - since < 5
    done = {} if rude else {"AD_1": "done"}
    assert service.states(db, "dm", TAG) == done


@pytest.mark.sanitize
def test_stop_in_the_middle_of_a_reload(db, daemon, tmp_path):
    hold = tmp_path / "hold"
    d = daemon(RECORD, failpoints=f"loader.run=hold:{hold}")
    still_serves(db, d, "AD_1")
    hold.touch()
    d.signal(signal.SIGHUP)
    d.wait_log("SIGHUP")
    d.signal(signal.SIGTERM)
    d.wait_log("finishing what runs")
    hold.unlink()
    assert d.wait(10) == 0, d.log()
    assert "reloaded" not in d.log()


# --- what stays


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.long
def test_memory_and_descriptors_over_many_reloads(db, daemon, capsys):
    d = daemon(BOTH, conf={"log": {"level": "info"}})
    producer = reloading.Producer(db, "ad_strands", "AD_", TAG, 50)
    producer.start()

    def reload(times):
        for i in range(times):
            reloading.hang_up(d, workers={"threads": 2 + i % 4})
        reloading.hang_up(d, workers={"threads": 3})
        private.wait_until(lambda: reloading.generations(d) == 1)
        time.sleep(0.5)
        return resident_kb(d.pid), descriptors(d.pid)

    at_first = reload(100)
    half = reload(50)
    at_last = reload(50)
    n = producer.finish()
    private.wait_until(lambda: service.count_receipts(db, "dm", TAG) == n, timeout=30)
    with capsys.disabled():
        print(f"\nresident kB, descriptors after 100, 150 and 200 reloads: {at_first}, {half}, {at_last}")
    # arenas still settle by some hundred kB; a generation that leaked has more a piece
    assert at_last[0] < at_first[0] + 2048
    assert at_last[1] <= at_first[1] + 1
