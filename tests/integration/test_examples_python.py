"""Handlers in Python under strandd: examples/python/evaluate_plan.py, and the helper
where a handler misbehaves."""

import pytest

import cluster as private
import process_support as p
import service

EXAMPLES = private.REPO / "examples" / "python"
TESTS = private.REPO / "tests" / "integration"
LONG = "123456789012345678901234567890.123456789"


def serve(db, daemon, program, **options):
    return daemon([{"tag": p.PLAN, "source": "AD_strands", "command": ["/usr/bin/python3", str(program)],
                    "process": {"environment": [f"PYTHONPATH={EXAMPLES}", "PYTHONUNBUFFERED="]}, "backoff": p.QUICK,
                    **options}])


def decisions(db):
    return dict(db.execute("SELECT dm_decision->>'plan', dm_decision::text FROM dm_strands"))


def publish(db, number, plan):
    service.publish(db, "ad_strands", f"AD_{number}", [p.PLAN], symbol="SPX", timeframe="1d", trading_plan=plan)


@pytest.mark.sanitize
def test_the_example(db, daemon, wait_until):
    publish(db, 1, '{"stop_distance": 12.30}')
    publish(db, 2, '{"stop_distance": 2000}')
    publish(db, 3, '{"stop_distance": %s}' % ("0." + "0" * 20 + "3"))
    publish(db, 4, '{"stop_distance": 0}')
    publish(db, 5, None)
    serve(db, daemon, EXAMPLES / "evaluate_plan.py", attempts=3, delivery="at-least-once")
    for number in (1, 2, 3):
        p.in_state(db, f"AD_{number}", "done", wait_until)
    for number in (4, 5):
        failed = p.in_state(db, f"AD_{number}", "failed", wait_until)
        assert (failed["sqlstate"], failed["attempt"]) == ("SRFIN", 1)
        assert failed["error"] == f"plan AD_{number} lacks a stop distance above zero"
    found = decisions(db)
    assert found["AD_1"] == '{"plan": "AD_1", "risk": 996.30, "units": 81, "approved": true}'
    assert '"approved": false' in found["AD_2"]
    assert db.value("SELECT (dm_decision->'units')::numeric FROM dm_strands WHERE dm_decision->>'plan' = 'AD_3'") \
        == 333333333333333333333333
    assert db.execute("SELECT DISTINCT symbol, timeframe FROM dm_strands") == [("SPX", "1d")]


def test_a_backlog_is_settled_once(db, daemon, wait_until):
    service.publish_many(db, "ad_strands", "AD_", 2000, [p.PLAN], trading_plan='{"stop_distance": 1}')
    serve(db, daemon, EXAMPLES / "evaluate_plan.py", processes=2)
    p.all_done(db, 2000, wait_until)
    assert p.replies(db) == {f"AD_{n}": 1 for n in range(1, 2001)}


HANDLER = """
import os
import strand_handler

def handle(strand, request):
    what = strand["kind"]
    if what == "print":
        print("a stray print")
        os.write(1, b"a stray write\\n")
    elif what == "raise":
        return strand["symbol"] + 1
    elif what == "nan":
        return {"dm_decision": {"x": float("nan")}}
    elif what == "surrogate":
        return {"symbol": "\\ud800"}
    elif what == "attempts" and request["attempt"] < 3:
        raise OSError("not yet")
    return {"kind": "reply", "dm_decision": strand["trading_plan"]}

print("loaded")
strand_handler.run(handle)
"""


def test_what_goes_wrong_costs_its_own_strand(db, daemon, wait_until):
    program = f"{db.cluster.dir}/{db.name}.py"
    with open(program, "w", encoding="utf-8") as file:
        file.write(HANDLER)
    for number, kind in enumerate(("print", "raise", "nan", "surrogate", "attempts", "exact")):
        service.publish(db, "ad_strands", f"AD_{kind}", [p.PLAN], kind=kind, symbol="SPX",
                        trading_plan='{"n": %d, "i": 9223372036854775807, "d": %s}' % (number, LONG))
    d = serve(db, daemon, program, attempts=3)
    errors = {"raise": "TypeError: can only concatenate str", "nan": "ValueError: nan is no number in JSON",
              "surrogate": "surrogates not allowed"}
    for kind, text in errors.items():
        failed = p.in_state(db, f"AD_{kind}", "failed", wait_until)
        assert failed["sqlstate"] == "SRERR" and failed["attempt"] == 3 and text in failed["error"], failed
    for kind, attempt in (("print", 1), ("attempts", 3), ("exact", 1)):
        assert p.in_state(db, f"AD_{kind}", "done", wait_until)["attempt"] == attempt
    assert {(i, n) for i, n in db.execute("SELECT dm_decision->>'i', dm_decision->>'d' FROM dm_strands")} \
        == {("9223372036854775807", LONG)}
    for text in ("loaded", "a stray print", "a stray write", "Traceback", "in handle"):
        d.wait_log(text)
