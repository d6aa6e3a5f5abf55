#!/usr/bin/python3
"""The Trader: a handler of trader:execute_plan that sends orders to a broker.

    trader.py CANDLES.csv ORDERS.sqlite

An order is an effect outside the database, which no transaction takes back.  So its
route delivers at most once, and every order bears a key that is the strand's own: who
tries again what may have been done orders nothing twice.
"""

import sys

import strand_handler
from broker import Broker, Duplicate, Market


class Trader:
    def __init__(self, broker):
        self.broker = broker

    def execute(self, strand, request):
        if strand["symbol"] != "SPX":
            raise strand_handler.Refused(f"no market for {strand['symbol']}")
        key = f"{strand['id']} {request['tag']}"
        try:
            done = self.broker.place(key, strand["dm_decision"])
        except Duplicate:   # an earlier attempt got as far as this, and nobody heard of it
            done = self.broker.find(key)
        return report(strand, done)


def report(strand, done):
    order = strand["dm_decision"]
    side = order["side"]
    return {"kind": "execution", "symbol": strand["symbol"], "timeframe": strand["timeframe"],
            "tr_execution": {**{name: order[name] for name in ("plan", "account", "signal", "side", "units")},
                             "entry_day": done["entry_day"], "entry_price": done["entry_price"]},
            "tr_fills": fills(done),
            "tr_slippage": {"entry": slippage(done, "entry", side), "exit": slippage(done, "exit", -side)},
            "tr_outcome": outcome(done),
            "tags": ["alpha:execution_feedback", "dm:execution_feedback"]}


def fills(done):
    return [{"day": done[f"{which}_day"], "price": done[f"{which}_price"], "units": units}
            for which, units in (("entry", done["units"]), ("exit", -done["units"])) if done[f"{which}_day"]]


def slippage(done, which, direction):
    if done[f"{which}_day"] is None:
        return None
    return direction * (done[f"{which}_price"] - done[f"{which}_wanted"])


def outcome(done):
    if not done["exit_day"]:
        return {"status": "open" if done["entry_day"] else "waiting"}
    return {"status": "closed", "reason": done["reason"], "exit_day": done["exit_day"],
            "exit_price": done["exit_price"], "profit": done["units"] * (done["exit_price"] - done["entry_price"])}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    strand_handler.run(Trader(Broker(sys.argv[2], Market(sys.argv[1]))).execute)
