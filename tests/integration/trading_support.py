"""What the tests of the trading example share: its own configuration, its SQL, its
candles, for the SQL handlers in the database and for the Trader in a file."""
import pytest

import cluster as private

EXAMPLE = private.REPO / 'examples' / 'trading'
CSV = EXAMPLE / 'data' / 'sp500-2000.csv'


def candles_file(db):
    return f'{db.cluster.dir}/{db.name}.csv'


def orders_file(db):
    return f'{db.cluster.dir}/{db.name}.sqlite'


class TradingDaemon(private.Daemon):
    """strandd with the example's own configuration file, made to reach the
    test's server; `changes` are further texts of it and what to write instead."""

    def __init__(self, db, changes):
        super().__init__(db, env={'PGHOST': db.cluster.dir, 'PGUSER': private.SERVICE})
        self.changes = {'"paper"': f'"{db.name}"', '"stats.sock"': f'"{self.stats_socket}"',
                        'examples/trading/trader.py': str(EXAMPLE / 'trader.py'),
                        'PYTHONPATH=examples/python': f'PYTHONPATH={private.REPO}/examples/python',
                        'examples/trading/data/sp500-2000.csv': candles_file(db),
                        'orders.sqlite': orders_file(db), **changes}

    def write_config(self):
        text = (EXAMPLE / 'trading.conf').read_text(encoding='utf-8')
        for old, new in self.changes.items():
            assert text.count(old) == 1, f'trading.conf does not have one {old}'
            text = text.replace(old, new)
        with open(self.config, 'w', encoding='utf-8') as file:
            file.write(text)


@pytest.fixture
def traders(build, db):
    """traders({old: new, ...}) starts a daemon; all end by SIGTERM with exit 0."""
    started = []

    def start(changes=()):
        started.append(TradingDaemon(db, dict(changes)))
        return started[-1].start()

    yield start
    faults = []
    for daemon in started:
        try:
            daemon.stop()
        except AssertionError as fault:
            faults.append(str(fault))
        finally:
            daemon.remove()
    assert not faults, '\n'.join(faults)


@pytest.fixture
def market(db):
    """The example's SQL in the test's database; market(lines=n) loads n candles."""
    for file in sorted((EXAMPLE / 'sql').glob('*.sql')):
        db.psql('-f', str(file))
    db.execute('SELECT trading.grant_service(%s), trading.grant_producer(%s)',
               (private.SERVICE, private.PRODUCER))

    def load(candles=None):
        lines = CSV.read_text().splitlines()[:None if candles is None else candles + 1]
        with open(candles_file(db), 'w', encoding='ascii') as file:
            file.write('\n'.join(lines) + '\n')
        db.psql('-c', 'COPY trading.candle (day, open, high, low, close, adjclose, volume)'
                      ' FROM STDIN (FORMAT csv, HEADER)', stdin='\n'.join(lines) + '\n')

    return load
