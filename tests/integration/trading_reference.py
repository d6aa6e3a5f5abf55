"""The paper account of examples/trading, computed a second time.

Nothing is shared with the SQL handlers but the rules as README.md of the example
states them: whole numbers of cents throughout, no database, and each day sees
only the candles before it because they are passed in one by one.
"""
import csv
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from math import isqrt

CAPITAL, BUDGET, STAKE = 250_000_00, 10_000_00, 4_000_00
HOLD_DAYS = 20


@dataclass
class Candle:
    day: str
    open: int
    high: int
    low: int
    close: int


@dataclass
class Plan:
    index: int          # of its candle
    day: str
    signal: str
    side: int
    close: int
    level: int
    sigma: int
    hits: int
    outcomes: int

    @property
    def distance(self):
        return 4 * self.sigma


@dataclass
class Position:
    plan: Plan
    units: int
    risk: int
    open_before: int
    entry_day: str = None
    entry: int = None
    exit_day: str = None
    exit_index: int = None
    exit: int = None
    reason: str = None
    profit: int = None


def cents(text):
    return int((Decimal(text) * 100).quantize(Decimal(1), ROUND_HALF_UP))


def money(value):
    """Cents as the exact Decimal that the database answers."""
    return None if value is None else Decimal(value).scaleb(-2)


def read_candles(path):
    with open(path, newline='') as file:
        return [Candle(row['date'], *(cents(row[name]) for name in ('open', 'high', 'low', 'close')))
                for row in csv.DictReader(file)]


def sigma_of(closes):
    """Standard deviation (n - 1) of the moves between the closes, to the cent.

    floor(sqrt(v) + 1/2) with whole numbers only: isqrt of four times v.
    """
    moves = [b - a for a, b in zip(closes, closes[1:])]
    n = len(moves)
    above = n * sum(m * m for m in moves) - sum(moves) ** 2
    return (isqrt(4 * above // (n * (n - 1))) + 1) // 2


def detect(past):
    """The rule at the close of past[-1]: (signal, side, level, sigma) or None."""
    if len(past) < 21:
        return None
    today, before = past[-1], past[:-1]
    sigma = sigma_of([c.close for c in past[-21:]])
    if sigma == 0:
        return None
    for signal, side, lookback, upwards in (('breakout_55', 1, 55, True),
                                            ('breakout_20', 1, 20, True),
                                            ('breakdown_55', -1, 55, False),
                                            ('dip_20', 1, 20, False)):
        if len(before) < lookback:
            continue
        window = before[-lookback:]
        level = max(c.high for c in window) if upwards else min(c.low for c in window)
        excess = today.close - level if upwards else level - today.close
        if 4 * excess >= sigma:
            return signal, side, level, sigma
    return None


def slipped(wanted, direction, candle):
    slip = (wanted * 5 + 5000) // 10000         # 0.05 percent, half a cent upwards
    return min(max(wanted + direction * slip, candle.low), candle.high)


def execute(candles, position):
    """Entry at the next candle, exit at one of those after it; either may be missing."""
    plan = position.plan
    side, units = plan.side, position.units
    at = plan.index + 1
    if at >= len(candles):
        return
    position.entry_day = candles[at].day
    position.entry = slipped(candles[at].open, side, candles[at])
    stop = position.entry - side * plan.distance
    target = position.entry + side * plan.distance
    for held, candle in enumerate(candles[at + 1:at + 1 + HOLD_DAYS], start=1):
        worst, best = (candle.low, candle.high) if side > 0 else (candle.high, candle.low)
        if side * worst <= side * stop:
            price = slipped(min(side * stop, side * candle.open) * side, -side, candle)
            reason = 'stop'
        elif side * best >= side * target:
            price = max(side * target, side * candle.open) * side
            reason = 'target'
        elif held == HOLD_DAYS:
            price = slipped(candle.close, -side, candle)
            reason = 'time'
        else:
            continue
        position.exit_day, position.exit_index = candle.day, at + held
        position.exit, position.reason = price, reason
        position.profit = side * units * (price - position.entry)
        return


def replay(candles, budget=BUDGET, stake=STAKE):
    """All plans, and the positions of the approved ones by plan day."""
    plans, positions = [], {}
    for index in range(len(candles)):
        found = detect(candles[max(0, index - 55):index + 1])
        if found is None:
            continue
        signal, side, level, sigma = found
        known = [p for p in positions.values() if p.plan.signal == signal
                 and p.exit_index is not None and p.exit_index <= index]
        hits = sum(p.profit > 0 for p in known)
        plan = Plan(index, candles[index].day, signal, side, candles[index].close,
                    level, sigma, hits, len(known))
        plans.append(plan)

        at_risk = sum(p.risk for p in positions.values()
                      if p.exit_index is None or p.exit_index > index)
        wanted = stake if 2 * (hits + 1) >= len(known) + 2 else stake // 2
        units = min(wanted, budget - at_risk) // plan.distance
        if units > 0:
            position = Position(plan, units, units * plan.distance, at_risk)
            execute(candles, position)
            positions[plan.day] = position
    return plans, positions


def equity(candles, positions, index, capital=CAPITAL):
    """The account at the close of a candle: realised, and open ones at the close."""
    total, day = capital, candles[index].day
    for position in positions.values():
        if position.entry_day is None or position.entry_day > day:
            continue
        if position.exit_day is not None and position.exit_day <= day:
            total += position.profit
        else:
            total += position.plan.side * position.units * (candles[index].close - position.entry)
    return total
