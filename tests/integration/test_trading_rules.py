"""The trading example's rules one by one, on candles made for the purpose.  The
expected prices are worked out by hand from the rules in its README."""
import json
import os
import subprocess
import sys
from decimal import Decimal

import pytest

import cluster as private

EXAMPLE = private.REPO / 'examples' / 'trading'
ENTRY = (100, 101, 99, 100)


@pytest.fixture
def market(db):
    for file in sorted((EXAMPLE / 'sql').glob('*.sql')):
        db.psql('-f', str(file))
    return db


def load(db, candles):
    """Candles as (open, high, low, close) on the days after 2020-01-01."""
    for day, prices in enumerate(candles, start=2):
        db.execute('INSERT INTO trading.candle (day, open, high, low, close)'
                   " VALUES (date '2020-01-01' + %s, %s, %s, %s, %s)", (day - 1, *prices))


def order_of(side, units, hold_days):
    """An order of 2020-01-01, stop and target 10 away."""
    return {'plan': 'AD_1', 'account': 'paper', 'signal': 'test', 'day': '2020-01-01', 'side': side, 'units': units,
            'stop_distance': 10, 'target_distance': 10, 'hold_days': hold_days}


def execute_in_sql(db, candles, order):
    load(db, candles)
    return db.execute("""
        SELECT r->'tr_outcome'->>'status', (r->'tr_execution'->>'entry_price')::numeric,
            (r->'tr_outcome'->>'exit_price')::numeric, r->'tr_outcome'->>'reason',
            r->'tr_outcome'->>'exit_day', (r->'tr_outcome'->>'profit')::numeric
        FROM trading.execute_plan(jsonb_populate_record(NULL::dm_strands,
            jsonb_build_object('id', 'DM_1', 'symbol', 'SPX', 'dm_decision', %s::jsonb))) r""", (json.dumps(order),))


def execute_at_the_broker(tmp_path, candles, order):
    """By the Trader's own code, in a process, as it is a program that runs for ever."""
    with open(tmp_path / 'candles.csv', 'w', encoding='ascii') as file:
        file.write('date,open,high,low,close\n')
        for day, prices in enumerate(candles, start=2):
            file.write(f'2020-01-{day:02},{",".join(map(str, prices))}\n')
    request = {'tag': 'trader:execute_plan', 'attempt': 1,
               'strand': {'id': 'DM_1', 'symbol': 'SPX', 'timeframe': '1d', 'dm_decision': order}}
    done = subprocess.run([sys.executable, EXAMPLE / 'trader.py', tmp_path / 'candles.csv', tmp_path / 'orders.sqlite'],
                          env={**os.environ, 'PYTHONPATH': str(EXAMPLE.parent / 'python')}, text=True,
                          input=json.dumps(request) + '\n', capture_output=True, check=True)
    reply, = json.loads(done.stdout.splitlines()[1], parse_float=Decimal)['replies']
    outcome = reply['tr_outcome']
    return [(outcome['status'], reply['tr_execution']['entry_price'], outcome.get('exit_price'), outcome.get('reason'),
             outcome.get('exit_day'), outcome.get('profit'))]


@pytest.fixture(params=['sql', 'broker'])
def execute(request, tmp_path):
    """The Trader's report on an order, by each of the two that execute."""
    def run(candles, side=1, units=7, hold_days=3):
        order = order_of(side, units, hold_days)
        if request.param == 'sql':
            return execute_in_sql(request.getfixturevalue('market'), candles, order)
        return execute_at_the_broker(tmp_path, candles, order)
    return run


def closed(entry, price, reason, day, profit):
    return [('closed', Decimal(entry), Decimal(price), reason, f'2020-01-{day:02}', Decimal(profit))]


# Long: filled at 100.00 + 0.05, so the stop is 90.05 and the target 110.05.
@pytest.mark.parametrize('days, expected', [
    # stopped at 90.05 - 0.05, within the day
    ([(95, 96, 90, 91)], closed('100.05', '90.00', 'stop', 3, '-70.35')),
    # the day's low is above the slipped price: not worse than the low
    ([(95, 96, '90.03', 91)], closed('100.05', '90.03', 'stop', 3, '-70.14')),
    # opens below the stop: at the open, 85 - 0.04
    ([(85, 88, 84, 86)], closed('100.05', '84.96', 'stop', 3, '-105.63')),
    # the target is a limit: its price, no slippage
    ([(105, 111, 104, 106)], closed('100.05', '110.05', 'target', 3, '70.00')),
    # opens above the target: the better price
    ([(112, 113, 111, 112)], closed('100.05', '112.00', 'target', 3, '83.65')),
    # touches both: stopped
    ([(100, 120, 80, 100)], closed('100.05', '90.00', 'stop', 3, '-70.35')),
    # nothing for three days: the close of the third, 101 - 0.05
    ([(100, 102, 98, 100)] * 2 + [(100, 102, 98, 101)], closed('100.05', '100.95', 'time', 5, '6.30')),
    # the stop on the third day comes before its close
    ([(100, 102, 98, 100)] * 2 + [(100, 102, 90, 101)], closed('100.05', '90.00', 'stop', 5, '-70.35')),
], ids=['stop', 'clipped to the low', 'gap through the stop', 'target', 'gap over the target',
        'both touched', 'time', 'stop on the last day'])
def test_long(execute, days, expected):
    assert execute([ENTRY, *days]) == expected


# Short: filled at 100.00 - 0.05, so the stop is 109.95 and the target 89.95.
@pytest.mark.parametrize('days, expected', [
    ([(105, 111, 104, 106)], closed('99.95', '110.00', 'stop', 3, '-70.35')),
    ([(112, 113, 111, 112)], closed('99.95', '112.06', 'stop', 3, '-84.77')),
    ([(95, 96, 89, 91)], closed('99.95', '89.95', 'target', 3, '70.00')),
    ([(85, 88, 84, 86)], closed('99.95', '85.00', 'target', 3, '104.65')),
    ([(100, 102, 98, 100)] * 2 + [(100, 102, 98, 99)], closed('99.95', '99.05', 'time', 5, '6.30')),
], ids=['stop', 'gap through the stop', 'target', 'gap over the target', 'time'])
def test_short(execute, days, expected):
    assert execute([ENTRY, *days], side=-1) == expected


def test_entry_within_the_day(execute):
    """The open is the high: nobody pays more than was ever traded."""
    (_, entry, *_), = execute([(100, 100, 99, 100)])
    assert entry == Decimal('100.00')


def test_the_entry_day_does_not_end_the_position(execute):
    assert execute([(100, 120, 80, 100)]) == [('open', Decimal('100.05'), None, None, None, None)]


def test_no_next_candle(execute):
    assert execute([]) == [('waiting', None, None, None, None, None)]


def test_an_outcome_is_known_from_its_exit_day_on(market):
    market.execute("INSERT INTO trading.alpha_outcome VALUES ('AD_1', 'paper', 's', '2020-03-10', 5.00),"
                   " ('AD_2', 'paper', 's', '2020-03-11', -5.00), ('AD_3', 'paper', 's', 'infinity', NULL)")
    known = [market.execute("SELECT * FROM trading.known('paper', 's', %s)", (day,))[0]
             for day in ('2020-03-09', '2020-03-10', '2020-03-11', '2030-01-01')]
    assert known == [(0, 0), (1, 1), (2, 1), (2, 1)]


def test_the_rule_needs_its_days(market):
    """No signal before 20 days are past, and none without a move to measure by."""
    load(market, [(100, 100, 100, 100)] * 22 + [(100, 110, 100, 110)] + [(110, 111, 109, 110)])
    days = market.execute("SELECT c.day::text, b.signal, b.level, b.sigma FROM trading.candle c,"
                          " trading.detect('SPX', c.day) b ORDER BY 1")
    # one move of 10 in 20: sqrt((20 * 100 - 100) / (20 * 19)) = sqrt(5)
    assert days == [('2020-01-24', 'breakout_20', Decimal('100.00'), Decimal('2.24'))]


def test_sizes_to_the_cent(market):
    """Stake, then what is left of the budget, then nothing; released by date."""
    def decide(number, day, distance, hits=0, outcomes=0):
        plan = f'''{{"account": "paper", "day": "{day}", "signal": "s", "side": 1, "hits": {hits},
            "outcomes": {outcomes}, "stop_distance": {distance}, "target_distance": 1, "hold_days": 5}}'''
        rows = market.execute("""
            SELECT (r->'dm_decision'->'units')::bigint, (r->'dm_decision'->'risk')::numeric
            FROM trading.evaluate_plan(jsonb_populate_record(NULL::ad_strands,
                jsonb_build_object('id', %s::text, 'symbol', 'SPX', 'trading_plan', %s::jsonb))) r
            WHERE NOT r ? 'update'""", (f'AD_{number}', plan))
        return rows[0]

    assert decide(1, '2020-01-02', '33.33') == (120, Decimal('3999.60'))
    assert decide(2, '2020-01-02', '33.33', hits=1, outcomes=3) == (60, Decimal('1999.80'))
    assert decide(3, '2020-01-02', '0.07') == (57142, Decimal('3999.94'))
    assert decide(4, '2020-01-02', '0.07') == (9, Decimal('0.63'))
    assert decide(5, '2020-01-02', '0.07') == (0, 0)
    assert market.value("SELECT trading.open_risk('paper', '2020-01-02')") == Decimal('9999.97')
    # the first one ended on the 10th: free on that day's close, and not before
    market.execute("UPDATE trading.book SET open_until = '2020-01-10' WHERE plan_id = 'AD_1'")
    assert decide(6, '2020-01-09', '33.33') == (0, 0)
    assert decide(7, '2020-01-10', '33.33') == (120, Decimal('3999.60'))
    # an earlier day: the 7th counts too, although its plan is younger
    assert decide(8, '2020-01-08', '33.33') == (0, 0)
