#!/usr/bin/python3
"""A broker on paper: it executes an order on daily candles, and each key once.

What a real one is asked over a network is a file here: orders.sqlite.  As a program it
shows an operator what was ordered under a key, or everything:

    broker.py orders.sqlite ["DM_0123456789ab trader:execute_plan"]
"""

import bisect
import csv
import os
import sqlite3
import sys
from decimal import ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")
COLUMNS = ("units", "entry_day", "entry_wanted", "entry_price", "exit_day", "exit_wanted", "exit_price", "reason")
PRICES = ("entry_wanted", "entry_price", "exit_wanted", "exit_price")


class Duplicate(Exception):
    """There is an order with this key: nothing was ordered."""


def cents(value):
    return Decimal(value).quantize(CENT, ROUND_HALF_UP)


class Market:
    """The candles of one symbol in the order of their days."""

    def __init__(self, path):
        with open(path, newline="", encoding="ascii") as file:
            self.candles = [{"day": row["date"], **{name: cents(row[name]) for name in ("open", "high", "low", "close")}}
                            for row in csv.DictReader(file)]
        self.days = [candle["day"] for candle in self.candles]

    def after(self, day, count):
        start = bisect.bisect_right(self.days, day)
        return self.candles[start:start + count]


def slip(wanted, direction, candle):
    """0.05 percent against us, and never outside what was traded that day."""
    return min(max(wanted + direction * cents(wanted * Decimal("0.0005")), candle["low"]), candle["high"])


def find_exit(candles, side, stop, target, hold_days):
    """(candle, wanted price, price, reason), or None while the position is open."""
    better, worse = (max, min) if side == 1 else (min, max)
    for held, candle in enumerate(candles, 1):
        against, towards = (candle["low"], candle["high"]) if side == 1 else (candle["high"], candle["low"])
        if worse(against, stop) == against:
            wanted = worse(stop, candle["open"])
            return candle, wanted, slip(wanted, -side, candle), "stop"
        if better(towards, target) == towards:
            wanted = better(target, candle["open"])
            return candle, wanted, wanted, "target"
        if held == hold_days:
            return candle, candle["close"], slip(candle["close"], -side, candle), "time"
    return None


def execute(market, order):
    """An order's whole life; what has not happened yet is None."""
    done = dict.fromkeys(COLUMNS)
    side = order["side"]
    done["units"] = side * order["units"]
    candles = market.after(order["day"], order["hold_days"] + 1)
    if not candles:
        return done
    entry, price = candles[0], slip(candles[0]["open"], side, candles[0])
    done.update(entry_day=entry["day"], entry_wanted=entry["open"], entry_price=price)
    found = find_exit(candles[1:], side, price - side * cents(order["stop_distance"]),
                      price + side * cents(order["target_distance"]), order["hold_days"])
    if found:
        candle, wanted, price, reason = found
        done.update(exit_day=candle["day"], exit_wanted=wanted, exit_price=price, reason=reason)
    return done


class Broker:
    """Orders in a file, which several processes may share."""

    def __init__(self, path, market):
        self.market = market
        self.orders = sqlite3.connect(path, timeout=30, isolation_level=None)
        self.orders.execute("CREATE TABLE IF NOT EXISTS orders (key PRIMARY KEY, %s)" % ", ".join(COLUMNS))

    def place(self, key, order):
        """Executes the order and returns what came of it.  From here on the key is used,
        whatever becomes of the caller; Duplicate if it was used before."""
        done = execute(self.market, order)
        texts = [str(done[name]) if name in PRICES and done[name] is not None else done[name] for name in COLUMNS]
        try:
            self.orders.execute("INSERT INTO orders VALUES (?%s)" % (", ?" * len(texts)), [key, *texts])
        except sqlite3.IntegrityError:
            raise Duplicate(key) from None
        return done

    def find(self, key):
        """What came of the order with this key, or None."""
        row = self.orders.execute("SELECT %s FROM orders WHERE key = ?" % ", ".join(COLUMNS), (key,)).fetchone()
        return row and {name: Decimal(value) if name in PRICES and value is not None else value
                        for name, value in zip(COLUMNS, row)}


def show(path, key=None):
    if not os.path.exists(path):
        sys.exit("%s is not there" % path)
    with sqlite3.connect(path) as orders:
        for row in orders.execute("SELECT * FROM orders WHERE ?1 IS NULL OR key = ?1 ORDER BY rowid", (key,)):
            print("%s: %s" % (row[0], ", ".join("%s %s" % pair for pair in zip(COLUMNS, row[1:]) if pair[1] is not None)))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    show(*sys.argv[1:])
