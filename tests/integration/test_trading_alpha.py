"""The Alpha Detector in C, on libstrand: the same plans as those of the SQL one, and the
same account, also when it is killed in between."""

import os
import subprocess

import pytest

import cluster as private
import trading_reference as reference
from test_trading import CSV, check_account, expected_plans, plans_of, replay
from test_trading import candles, market, traders  # noqa: F401  pylint: disable=unused-import

PLAN_COLUMNS = ("kind", "module", "symbol", "timeframe", "sig_direction", "trading_plan", "signal_pack")


class Alpha:
    """The program, and the market's clock that feeds it."""

    def __init__(self, build, db):
        self.db = db
        self.process = subprocess.Popen([build / "examples" / "trading" / "alpha" / "alpha",
                                         db.dsn(private.PRODUCER)], text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def close_of(self, line):
        """One candle; returns the plan that it made, settled with everybody, or None."""
        self.process.stdin.write(line + "\n")
        said = self.process.stdout.readline().split()
        assert len(said) == 2 and said[0] == line.split(",")[0], (line, said, self.process.stderr.read())
        if said[1] == "-":
            return None
        private.wait_until(lambda: self.db.value("SELECT trading.settled(%s)", (said[1],)), 60, interval=0.001)
        return said[1]

    def end(self):
        out, err = self.process.communicate(timeout=30)
        assert (self.process.returncode, out, err) == (0, "", "")


def lines_of(count):
    return CSV.read_text().splitlines()[1:count + 1]


def play(build, db, count):
    alpha = Alpha(build, db)
    plans = [plan for plan in map(alpha.close_of, lines_of(count)) if plan]
    alpha.end()
    return plans


def rows_of(db):
    return db.execute(f"SELECT trading_plan->>'day', {', '.join(PLAN_COLUMNS)}, tags, sig_sigma, sig_confidence"
                      " FROM ad_strands ORDER BY 1")


def test_the_same_plans_as_in_sql(build, cluster, db, market, traders, candles):  # noqa: F811
    """Column by column, on the same candles; the last digit of two quotients apart."""
    market(1500)
    traders()
    plans = play(build, db, 1500)
    assert len(plans) == len(set(plans)) > 150
    check_account(db, candles[:1500], *reference.replay(candles[:1500]))
    in_c = rows_of(db)

    # the SQL detector starts anew, on the same database
    db.execute("TRUNCATE ad_strands, dm_strands, tr_strands, dm_receipts, ad_receipts, tr_receipts,"
               " trading.book, trading.alpha_decision, trading.alpha_outcome")
    replay(db)
    in_sql = rows_of(db)
    assert [row[:-2] for row in in_c] == [row[:-2] for row in in_sql]
    for ours, theirs in zip(in_c, in_sql):
        assert ours[-2:] == pytest.approx(theirs[-2:], rel=1e-14)


def test_killed_in_between(build, db, market, traders, candles):  # noqa: F811
    """It begins with the first candle again: nothing is published twice, or forgotten."""
    market(900)
    traders()
    for stop in (250, 500, 700):
        alpha = Alpha(build, db)
        for line in lines_of(stop):
            alpha.close_of(line)
        alpha.process.kill()
        alpha.process.communicate()
    play(build, db, 900)
    plans, positions = reference.replay(candles[:900])
    assert plans_of(db) == expected_plans(plans)
    check_account(db, candles[:900], plans, positions)


def test_without_strandd_it_says_so(build, db):
    """A server that is not there; arguments that are missing."""
    program = build / "examples" / "trading" / "alpha" / "alpha"
    done = subprocess.run([program], text=True, capture_output=True, check=False)
    assert done.returncode == 2 and "usage: alpha" in done.stderr
    env = {**os.environ, "PGCONNECT_TIMEOUT": "1"}
    db.execute("DROP TABLE tr_strands CASCADE")
    done = subprocess.run([program, db.dsn()], text=True, capture_output=True, check=False, env=env, input="")
    assert done.returncode == 1 and "TR_strands" in done.stderr, done
