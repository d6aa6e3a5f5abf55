#!/usr/bin/python3
"""A handler of dm:evaluate_plan: approves as many units as a stake of 1,000.00 can lose.

    { tag = "dm:evaluate_plan"; source = "AD_strands";
      command = [ "/usr/bin/python3", "/opt/dm/evaluate_plan.py" ];
      process: { environment = [ "PYTHONPATH=/usr/share/strandd/python" ]; }; }
"""
from decimal import Decimal

import strand_handler


def evaluate(strand, request):
    plan = strand["trading_plan"]
    if not plan or Decimal(plan.get("stop_distance", 0)) <= 0:
        raise strand_handler.Refused(f"plan {strand['id']} lacks a stop distance above zero")
    units = Decimal(1000) // plan["stop_distance"]
    yield {"kind": "decision", "symbol": strand["symbol"], "timeframe": strand["timeframe"],
           "dm_decision": {"plan": strand["id"], "approved": units > 0, "units": units, "risk": units * plan["stop_distance"]},
           "tags": ["alpha:decision_feedback"]}


strand_handler.run(evaluate)
