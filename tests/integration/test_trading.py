"""The trading example through strandd: the paper account to the cent, no look
into the future, and a risk budget that holds whatever comes at once.

trading_reference.py computes the same account a second time, independently.
"""
import sqlite3
import threading
import time
from decimal import Decimal

import psycopg2
import pytest

import cluster as private
import trading_reference as reference
from trading_support import CSV, market, orders_file, traders    # pylint: disable=unused-import

ROUTES = ('dm:evaluate_plan', 'alpha:decision_feedback', 'trader:execute_plan',
          'alpha:execution_feedback', 'dm:execution_feedback')


@pytest.fixture(scope='session')
def candles():
    return reference.read_candles(CSV)


def replay(db):
    db.execute('CALL trading.replay()', conn=db.connect(private.PRODUCER))


def plans_of(db):
    return db.execute("""
        SELECT trading_plan->>'day', trading_plan->>'signal', (trading_plan->'side')::integer,
            (trading_plan->'close')::numeric, (signal_pack->'level')::numeric,
            (trading_plan->'stop_distance')::numeric, (trading_plan->'hits')::bigint,
            (trading_plan->'outcomes')::bigint
        FROM ad_strands WHERE trading_plan->>'account' = 'paper' ORDER BY 1""")


def expected_plans(plans):
    return [(p.day, p.signal, p.side, reference.money(p.close), reference.money(p.level),
             reference.money(p.distance), p.hits, p.outcomes) for p in plans]


def book_of(db):
    return db.execute("""
        SELECT plan_day::text, signal, side, units, risk, open_before, entry_day::text, entry_price,
            exit_day::text, exit_price, exit_reason, profit
        FROM trading.book WHERE account = 'paper' ORDER BY 1""")


def expected_book(positions):
    money = reference.money
    return [(day, p.plan.signal, p.plan.side, p.units, money(p.risk), money(p.open_before),
             p.entry_day, money(p.entry), p.exit_day, money(p.exit), p.reason, money(p.profit))
            for day, p in sorted(positions.items())]


def check_receipts(db):
    """Each strand has one final receipt for each of its tags, and nothing failed."""
    wanted = dict(db.execute("""
        SELECT tag, count(*) FROM (SELECT tags FROM ad_strands UNION ALL SELECT tags FROM dm_strands
            UNION ALL SELECT tags FROM tr_strands) s, jsonb_array_elements_text(tags) AS tag
        WHERE tag = ANY (%s) GROUP BY tag""", (list(ROUTES),)))
    got = db.execute('SELECT tag, state, count(*), count(DISTINCT id) FROM trading.delivery GROUP BY 1, 2')
    assert sorted(got) == sorted((tag, 'done', n, n) for tag, n in wanted.items())


def check_account(db, candles, plans, positions):
    """Plans, sizes, fills, exits, profits and what was learned, all to the cent."""
    assert plans_of(db) == expected_plans(plans)
    assert book_of(db) == expected_book(positions)
    check_receipts(db)

    last = len(candles) - 1
    realised = sum(p.profit or 0 for p in positions.values())
    equity = reference.equity(candles, positions, last)
    waiting = sum(p.entry is None for p in positions.values())
    closed = sum(p.profit is not None for p in positions.values())
    assert db.execute("SELECT plans, approved, refused, closed, still_open, waiting, realised,"
                      " unrealised, equity FROM trading.result WHERE account = 'paper'") == [
        (len(plans), len(positions), len(plans) - len(positions), closed,
         len(positions) - closed - waiting, waiting, reference.money(realised),
         reference.money(equity - reference.CAPITAL - realised), reference.money(equity))]
    for index in range(0, len(candles), 97):
        assert db.value("SELECT trading.equity('paper', %s)", (candles[index].day,)) \
            == reference.money(reference.equity(candles, positions, index))

    learned = {}
    for position in positions.values():
        if position.profit is not None:
            outcomes, hits = learned.get(position.plan.signal, (0, 0))
            learned[position.plan.signal] = outcomes + 1, hits + (position.profit > 0)
    assert {signal: (outcomes, hits) for signal, outcomes, hits in db.execute(
        "SELECT signal, outcomes, hits FROM trading.learned WHERE outcomes > 0")} == learned


def peak_risk(db, account):
    """The most at risk on any plan's day, from the book as it is in the end."""
    book = db.execute('SELECT plan_day, open_until, risk FROM trading.book WHERE account = %s', (account,))
    return max((sum(risk for start, until, risk in book if start <= day < until)
                for day in {start for start, _, _ in book}), default=Decimal(0))


# --- the paper account

@pytest.mark.parametrize('daemons, changes', [(1, {}), (2, {'batch = 100': 'batch = 1'})],
                         ids=['one daemon', 'two daemons, batch 1'])
def test_paper_account_to_the_cent(db, market, traders, candles, daemons, changes):
    market()
    for _ in range(daemons):
        traders(changes)
    replay(db)
    plans, positions = reference.replay(candles)
    assert len(plans) > 600 and any(p.profit is None for p in positions.values())
    check_account(db, candles, plans, positions)
    assert peak_risk(db, 'paper') <= Decimal('10000.00')


def test_fills_within_the_day(db, market, traders, candles):
    """What the Trader wrote, against the file: never outside a day's low and high."""
    market(1500)
    traders()
    replay(db)
    by_day = {candle.day: candle for candle in candles}
    fills = db.execute("SELECT f->>'day', (f->'price')::numeric, (f->'units')::bigint, tr_execution->>'plan'"
                       " FROM tr_strands, jsonb_array_elements(tr_fills) f ORDER BY 4, 1")
    assert len(fills) > 200
    for day, price, _, _ in fills:
        assert by_day[day].low <= price * 100 <= by_day[day].high
    # bought and sold in equal numbers, and the profit is what that leaves
    profits, units = {}, {}
    for _, price, number, plan in fills:
        profits[plan] = profits.get(plan, 0) - price * number
        units[plan] = units.get(plan, 0) + number
    reported = dict(db.execute("SELECT tr_execution->>'plan', (tr_outcome->'profit')::numeric FROM tr_strands"
                               " WHERE tr_outcome->>'status' = 'closed'"))
    assert {plan: profits[plan] for plan, number in units.items() if number == 0} == reported
    assert db.value('SELECT sum(profit) FROM trading.book') == sum(reported.values())


@pytest.mark.sanitize
def test_nobody_looks_ahead(db, market, traders, candles):
    """With the file cut off, everything up to there is as it is with all of it;
    the plan of the last day has no next candle, and stays open."""
    plans, positions = reference.replay(candles)
    last = next(p for p in plans if p.index > 700 and p.day in positions)
    market(last.index + 1)
    traders()
    replay(db)

    assert plans_of(db) == expected_plans([p for p in plans if p.index <= last.index])
    cut = reference.replay(candles[:last.index + 1])
    check_account(db, candles[:last.index + 1], *cut)
    sizes = [(day, p.units, p.open_before) for day, p in sorted(positions.items()) if day <= last.day]
    assert sizes == [(row[0], row[3], int(row[5] * 100)) for row in book_of(db)]

    report = db.execute("SELECT tr_fills, tr_outcome FROM tr_strands"
                        " WHERE tr_execution->>'plan' = (SELECT plan_id FROM trading.book WHERE plan_day = %s)",
                        (last.day,))
    assert report == [([], {'status': 'waiting'})]
    assert db.execute("SELECT open_until = 'infinity', entry_day, profit FROM trading.book WHERE plan_day = %s",
                      (last.day,)) == [(True, None, None)]


def retry_unknown_outcomes(strandctl):
    """What an operator does when a Trader has been killed, which is safe because the
    broker takes no key twice."""
    done = strandctl('failed', 'retry', '--tag', 'trader:execute_plan', '--sqlstate', 'SROUT', '--force', '--yes')
    assert done.returncode in (0, 1), done.stderr


def test_killed_in_between_the_account_is_the_same(db, market, traders, candles, strandctl):
    """SIGKILL again and again while the replay runs."""
    market(2500)
    daemon = traders()
    failures = []

    def run():
        try:
            replay(db)
        except psycopg2.Error as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    kills = 0
    while thread.is_alive() and kills < 8:
        time.sleep(0.1 + 0.03 * kills)
        daemon.kill()
        daemon.start()
        kills += 1
    while thread.is_alive():
        retry_unknown_outcomes(strandctl)
        thread.join(0.5)
    assert not failures
    assert kills >= 3, 'the replay ended too early to be disturbed'
    plans, positions = reference.replay(candles[:2500])
    check_account(db, candles[:2500], plans, positions)
    with sqlite3.connect(orders_file(db)) as orders:
        assert orders.execute('SELECT count(*) FROM orders').fetchone() == (len(positions),)


# --- the risk budget

def rush(db, account='rush', copies=8):
    return db.value('SELECT trading.rush(%s, copies := %s)', (account, copies),
                    conn=db.connect(private.PRODUCER))


def settled(db, plans):
    """Waits until every plan is decided and every approved one reported to both."""
    private.wait_until(lambda: db.value(
        'SELECT (SELECT count(*) FROM trading.alpha_decision) = %s'
        ' AND (SELECT count(*) FROM trading.alpha_outcome) = (SELECT count(*) FROM trading.book)'
        ' AND NOT EXISTS (SELECT FROM trading.book WHERE reported_at IS NULL)', (plans,)), timeout=120)
    assert db.value('SELECT count(*) FROM trading.alpha_decision WHERE approved') \
        == db.value('SELECT count(*) FROM trading.book')


@pytest.mark.parametrize('batch', [1, 100])
def test_budget_holds_in_a_rush(db, market, traders, batch):
    """Thousands of plans of all days at once, two daemons with four workers each."""
    market()
    for _ in range(2):
        traders({'batch = 100': f'batch = {batch}'})
    plans = rush(db)
    assert plans > 4000
    settled(db, plans)
    check_receipts(db)
    assert 0 < peak_risk(db, 'rush') <= Decimal('10000.00')
    # every decision, as it was taken: what was open and what was added
    assert db.value('SELECT bool_and(open_before + risk <= 10000.00) FROM trading.book')


@pytest.mark.parametrize('batch', [1, 100])
def test_one_day_uses_the_budget_up(db, market, traders, batch):
    """All plans bear one day, so that nothing is released, and come from several
    sessions: the approved risks fill the budget until not one more unit fits."""
    market(800)
    for _ in range(2):
        traders({'batch = 100': f'batch = {batch}'})
    distance, number, sessions = Decimal('7.31'), 500, 6
    db.execute("UPDATE trading.account SET stake = 333.33 WHERE name = 'rush'")

    def publish(session):
        conn = db.connect(private.PRODUCER)
        for start in range(0, number, 50):
            db.execute("""
                INSERT INTO ad_strands (id, symbol, trading_plan, tags)
                SELECT format('AD_%%s_%%s', %s, n), 'SPX', jsonb_build_object('account', 'rush',
                    'day', '2002-01-04', 'signal', 'rush', 'side', 1, 'stop_distance', %s::numeric,
                    'target_distance', 5, 'hold_days', 5, 'hits', 0, 'outcomes', 0),
                    '["dm:evaluate_plan"]'
                FROM generate_series(%s::integer, %s) n""",
                       (session, distance, start, start + 49), conn=conn)

    threads = [threading.Thread(target=publish, args=(i,)) for i in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settled(db, number * sessions)
    check_receipts(db)

    # 45 units of 7.31 fit a stake of 333.33; 30 times that is 9868.50, and 17 more units fit
    risks = [risk for risk, in db.execute('SELECT risk FROM trading.book ORDER BY number')]
    assert risks == [45 * distance] * 30 + [17 * distance]
    assert sum(risks) == Decimal('9992.77') and Decimal(10000) - sum(risks) < distance


@pytest.mark.parametrize('serial', [True, False])
def test_it_is_serial_that_keeps_the_budget(db, market, traders, serial):
    """Two plans that fit one by one and not together, judged slowly.  Without
    `serial` both are approved: the tests above would see a broken budget."""
    market(800)
    db.execute("""
        CREATE FUNCTION test.evaluate_slowly(strand ad_strands) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
        BEGIN RETURN QUERY SELECT trading.evaluate_plan(strand); PERFORM pg_sleep(1.5); END $$;
        GRANT EXECUTE ON FUNCTION test.evaluate_slowly TO strandd_service;
        UPDATE trading.account SET stake = 6000 WHERE name = 'rush'""")
    traders({'batch = 100': 'batch = 1', 'serial = true': f'serial = {str(serial).lower()}',
             '"trading.evaluate_plan"': '"test.evaluate_slowly"'})
    db.execute("""
        INSERT INTO ad_strands (id, symbol, trading_plan, tags)
        SELECT 'AD_' || n, 'SPX', '{"account": "rush", "day": "2002-01-04", "signal": "rush", "side": 1,
            "stop_distance": 10, "target_distance": 5, "hold_days": 5, "hits": 0, "outcomes": 0}',
            '["dm:evaluate_plan"]' FROM generate_series(1, 2) n""")
    settled(db, 2)
    assert peak_risk(db, 'rush') == (Decimal('10000.00') if serial else Decimal('12000.00'))


# --- a plan that makes no sense

def test_a_bad_plan_is_refused_with_its_reason(db, market, traders):
    market(800)
    traders()
    plans = {'AD_1': '{"account": "paper", "day": "2002-01-04", "stop_distance": 10, "target_distance": 5,'
                     ' "side": 1, "signal": "mine", "hold_days": 5, "hits": 0, "outcomes": 0}',
             'AD_2': '{"account": "nobody", "day": "2002-01-04", "stop_distance": 10}',
             'AD_3': '{"account": "paper", "day": "2002-01-04", "stop_distance": 0}',
             'AD_4': None}
    for strand_id, plan in plans.items():
        db.execute("INSERT INTO ad_strands (id, symbol, trading_plan, tags)"
                   " VALUES (%s, 'SPX', %s, '[\"dm:evaluate_plan\"]')", (strand_id, plan))
    private.wait_until(lambda: db.value('SELECT count(*) FROM dm_receipts r JOIN dm_routes USING (route)'
                                        " WHERE tag = 'dm:evaluate_plan'") == 4)
    got = dict(db.execute("SELECT strand_id, state || coalesce(': ' || error, '') FROM dm_receipts"
                          " JOIN dm_routes USING (route) WHERE tag = 'dm:evaluate_plan'"))
    assert got['AD_1'] == 'done'
    for strand_id, words in {'AD_2': 'unknown account: nobody', 'AD_3': 'stop distance above zero',
                             'AD_4': 'unknown account: none named'}.items():
        assert got[strand_id].startswith('failed: ') and words in got[strand_id]
    settled(db, 1)
