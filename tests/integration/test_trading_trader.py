"""The trading example's Trader, a process that orders from a broker: each order once,
whatever dies, and by the same rules as the SQL function."""
import os
import sqlite3
import subprocess
import sys

import pytest

import cluster as private
import service
from trading_support import EXAMPLE, market, orders_file, traders     # pylint: disable=unused-import

TAG = 'trader:execute_plan'
HERE = os.path.dirname(os.path.abspath(__file__))


def orders(db):
    with sqlite3.connect(orders_file(db)) as file:
        return file.execute('SELECT * FROM orders ORDER BY key').fetchall()


@pytest.fixture
def dying(db, traders):     # pylint: disable=redefined-outer-name
    """A daemon whose Trader dies "before" or "after" an order, as dying(when) says, and
    lives after dying(None)."""
    flag = f'{db.cluster.dir}/{db.name}.die'
    trader = str(EXAMPLE / 'trader.py')
    path = f'PYTHONPATH={private.REPO}/examples/python'
    traders({trader: f'{HERE}/dying_trader.py', f'"{path}"': f'"{path}:{EXAMPLE}", "DIE={flag}"'})

    def die(when):
        if when is None:
            os.unlink(flag)
        else:
            with open(flag, 'w', encoding='ascii') as file:
                file.write(when)
    return die


def approve(db):
    """An approved plan; returns the decision's id, whose order the Trader gets."""
    db.execute("""
        INSERT INTO ad_strands (id, symbol, trading_plan, tags)
        VALUES ('AD_1', 'SPX', '{"account": "rush", "day": "2002-01-04", "signal": "rush", "side": 1,
            "stop_distance": 10, "target_distance": 5, "hold_days": 5, "hits": 0, "outcomes": 0}',
            '["dm:evaluate_plan"]')""")
    return db.value("SELECT trading.id_for('DM', 'AD_1')")


@pytest.mark.parametrize('when, ordered', [('before', 0), ('after', 1)])
def test_killed_around_the_order(db, market, dying, strandctl, wait_until, when, ordered):
    """Nobody knows whether there is an order; nothing is done until an operator says so,
    and then there is one."""
    market(800)
    dying(when)
    strand_id = approve(db)
    failed = service.final(db, 'tr', strand_id, TAG)
    assert (failed['state'], failed['sqlstate'], failed['attempt']) == ('failed', 'SROUT', 1)
    assert 'SIGKILL' in failed['error']
    wait_until(lambda: 'error:outcome_unknown' in db.value('SELECT tags FROM dm_strands WHERE id = %s', (strand_id,)))
    placed = orders(db)
    assert len(placed) == ordered and db.value('SELECT count(*) FROM tr_strands') == 0

    dying(None)
    refused = strandctl('failed', 'retry', strand_id)
    assert refused.returncode != 0 and '--force' in refused.stderr
    assert strandctl('failed', 'retry', strand_id, '--force').returncode == 0
    wait_until(lambda: db.value('SELECT count(*) FROM trading.book WHERE reported_at IS NOT NULL') == 1)
    assert len(orders(db)) == 1 and placed in ([], orders(db))
    assert db.value('SELECT count(*) FROM tr_strands') == 1
    assert differences(db) == []


def test_the_broker_shows_an_operator_what_was_ordered(db, market, dying):
    market(800)
    dying('after')
    strand_id = approve(db)
    service.final(db, 'tr', strand_id, TAG)

    def show(*args):
        done = subprocess.run([sys.executable, EXAMPLE / 'broker.py', *args], capture_output=True, text=True, check=False)
        return done.stdout, done.stderr

    said, _ = show(orders_file(db), f'{strand_id} {TAG}')
    assert said.startswith(f'{strand_id} {TAG}: units ') and 'entry_day 2002-01-07' in said and said.count('\n') == 1
    assert show(orders_file(db), 'DM_other trader:execute_plan') == ('', '')
    assert 'is not there' in show('/nowhere')[1] and 'show' in show()[1]


def differences(db):
    """What the Trader reported otherwise than the SQL function of the same rules."""
    return db.execute("""
        SELECT d.id, t.tr_execution, t.tr_fills, t.tr_slippage, t.tr_outcome, r
        FROM tr_strands t JOIN dm_strands d ON d.dm_decision->>'plan' = t.tr_execution->>'plan',
            trading.execute_plan(d) r
        WHERE t.kind <> r->>'kind' OR t.symbol <> r->>'symbol' OR NOT t.tags @> (r->'tags')
            OR t.tr_execution <> r->'tr_execution' OR t.tr_fills <> r->'tr_fills'
            OR t.tr_slippage <> r->'tr_slippage' OR t.tr_outcome <> r->'tr_outcome'""")


def test_both_traders_say_the_same(db, market, traders):
    """Of a position still open and one that waits, too."""
    market(1500)
    traders()
    db.execute('CALL trading.replay()', conn=db.connect(private.PRODUCER))
    outcomes = dict(db.execute("SELECT tr_outcome->>'status', count(*) FROM tr_strands GROUP BY 1"))
    assert outcomes['closed'] > 100 and outcomes['open'] > 0
    assert differences(db) == []
    assert len(orders(db)) == sum(outcomes.values())


def test_what_the_trader_cannot_trade(db, market, traders):
    """It has ordered nothing, and says so: that is no unknown outcome."""
    market(800)
    traders()
    service.publish(db, 'dm_strands', 'DM_1', [TAG], symbol='GOLD', dm_decision={})
    service.publish(db, 'dm_strands', 'DM_2', [TAG], symbol='SPX', dm_decision=None)
    failed = service.final(db, 'tr', 'DM_1', TAG)
    assert (failed['sqlstate'], failed['error']) == ('SRFIN', 'no market for GOLD')
    private.wait_until(lambda: 'TypeError' in str(service.receipt(db, 'tr', 'DM_2', TAG)))
    assert orders(db) == []
