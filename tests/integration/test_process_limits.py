"""What a handler's process may cost the service: crashes, floods and hangs."""

import os
import time

import pytest

import process_support as p
import service


def proc(pid, name):
    with open(f"/proc/{pid}/{name}", encoding="utf-8") as f:
        return f.read()


def children(pid):
    """{pid: state}, zombies too."""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in proc(pid, f"task/{task}/children").split():
            found[int(child)] = proc(child, "stat").rsplit(")", 1)[1].split()[0]
    return found


def usage(d):
    return {"descriptors": len(os.listdir(f"/proc/{d.pid}/fd")), "threads": len(os.listdir(f"/proc/{d.pid}/task"))}


def peak_kib(d):
    return int(next(line for line in proc(d.pid, "status").splitlines() if line.startswith("VmHWM")).split()[1])


def crash_half(db, d, first, wait_until):
    """150 crashes, and as many innocents between them; all four processes are there again,
    and no zombie beside them."""
    db.execute("INSERT INTO ad_strands (id, tags, kind, timeframe, created_at)"
               " SELECT 'AD_' || i, jsonb_build_array(%s::text), (ARRAY['good', 'exit', 'good', 'kill'])[i %% 4 + 1],"
               " (ARRAY[NULL, '7', NULL, '9'])[i %% 4 + 1], now() FROM generate_series(%s, %s) i", (p.PLAN, first, first + 299))
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()).count("failed") == first // 2 + 150, 150, interval=0.5)
    p.all_done(db, first // 2 + 150, wait_until)
    wait_until(lambda: len(children(d.pid)) == 4 and "Z" not in children(d.pid).values(), 40)


@pytest.mark.long
def test_crashes_leave_nothing_behind(db, daemon, wait_until):
    """Of 300 each is told by its strand, and the innocents are charged nothing."""
    d = p.serve(db, daemon, process={"restart_rate": 6000}, processes=4, attempts=1)
    crash_half(db, d, 0, wait_until)
    before = usage(d)
    crash_half(db, d, 300, wait_until)
    assert db.execute("SELECT sqlstate, error, count(*), max(attempt) FROM dm_receipts WHERE state = 'failed' GROUP BY 1, 2 ORDER BY 2") == [
        ("SRDIE", "the process exited with status 7", 150, 1),
        ("SRDIE", "the process was killed by signal 9 (SIGKILL)", 150, 1)]
    assert db.value("SELECT max(attempt) FROM dm_receipts WHERE state = 'done'") == 1
    wait_until(lambda: usage(d) == before, what=lambda: f"{before}, not {usage(d)}")


def test_backoff_between_crashes(db, daemon, wait_until):
    """Of processes that were of no use: twice as long each time, of which at least half."""
    p.serve(db, daemon, process={"restart_rate": 6000}, attempts=1, batch=1)
    service.publish_many(db, "ad_strands", "AD_", 6, [p.PLAN], kind="exit", timeframe="1")
    wait_until(lambda: list(service.states(db, "dm", p.PLAN).values()) == ["failed"] * 6, 30)
    at = [note[0] for note in sorted(p.notes(db))]
    for i, least in enumerate([0.05, 0.1, 0.2, 0.4, 0.8]):
        assert at[i + 1] - at[i] >= least, at


def test_so_many_starts_a_minute(db, daemon, wait_until):
    """Also of processes that were of use."""
    d = p.serve(db, daemon, process={"restart_rate": 3}, attempts=1, batch=1)
    for n in range(4):
        p.publish(db, f"AD_{n}_good")
        p.publish(db, f"AD_{n}", "exit", "1")
    p.in_state(db, "AD_3", "failed", wait_until, 30)
    wait_until(lambda: d.log().count("the next is started in") == 4)
    waits = [float(line.rsplit(" in ", 1)[1].split()[0]) for line in d.log().splitlines() if "the next is started in" in line]
    assert max(waits[:3]) < 1 and waits[3] > 50, waits


@pytest.mark.parametrize("descriptor, state", [("1", "failed"), ("2", "done")])
def test_a_flood_is_not_kept(db, daemon, wait_until, descriptor, state):
    """200 MiB without a newline."""
    d = p.serve(db, daemon, attempts=1)
    p.publish(db, "AD_0")
    p.in_state(db, "AD_0", "done", wait_until)
    before = peak_kib(d)
    p.publish(db, "AD_1", "flood", descriptor)
    found = p.in_state(db, "AD_1", state, wait_until, 60)
    if state == "failed":
        assert found["sqlstate"] == "SRGAR" and 'line of more than 16777216 bytes: "xxxx' in found["error"], found
    else:
        d.wait_log("of its standard error were left out")
    assert peak_kib(d) - before < 80 << 10
    p.publish(db, "AD_2")
    p.in_state(db, "AD_2", "done", wait_until)


def test_a_hang_holds_up_its_own_route_alone(db, daemon, wait_until):
    """Another route of processes and one of SQL handlers go on, with all that they have."""
    service.function(db, "BEGIN RETURN NEXT '{}'::jsonb; END", name="test.quick")
    hung = p.route(db, ["IGNORE_TERM=1"], {"deadline": "15s"}, processes=2, batch=1, attempts=1)
    other = dict(p.route(db), tag="dm:execution_feedback", source="TR_strands")
    daemon([hung, other, {"tag": "trader:execute_plan", "source": "DM_strands", "handler": "test.quick"}])
    for n in range(4):
        p.publish(db, f"AD_{n}", "sleep", "600")
    wait_until(lambda: len(p.calls(db)) == 2)
    began = time.monotonic()
    for n in range(10):
        service.publish_many(db, "tr_strands", f"TR_{n}_", 100, ["dm:execution_feedback"], kind="good")
        service.publish_many(db, "dm_strands", f"DM_{n}_", 100, ["trader:execute_plan"])
    wait_until(lambda: service.count_receipts(db, "tr", "trader:execute_plan") == 1000 and
               list(service.states(db, "dm", "dm:execution_feedback").values()).count("done") == 1000, 12)
    assert time.monotonic() - began < 12
    assert set(service.states(db, "dm", p.PLAN).values()) == {"running"}
    db.execute("UPDATE ad_strands SET kind = 'good'")
    wait_until(lambda: set(service.states(db, "dm", p.PLAN).values()) <= {"failed", "done"}, 40)
