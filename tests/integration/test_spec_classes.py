"""The specification's own Python classes against our tables.

They are read out of the specification at run time and run as written.  What
cannot run there is completed here, and nothing else: names that it uses
without importing them, a database object whose execute() returns the cursor,
the methods that it calls and does not define, listeners for dm and trader, and
a connection whose poll() waits and tells whether something arrived (psycopg2's
returns 0 when all is well, so that the loop as written would never look).
"""
import json
import re
import select
import textwrap
import threading
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import pytest

SPECIFICATION = (Path(__file__).resolve().parents[3]
                 / 'shared' / 'spec' / 'module-communication-specification.md')

pytestmark = pytest.mark.skipif(
    not SPECIFICATION.exists(),
    reason='the specification is not beside this repository '
           '(../shared/spec/module-communication-specification.md)')


class Database:
    """What the specification calls db_connection."""

    def __init__(self, dsn):
        self.dsn = dsn
        self.connection = psycopg2.connect(dsn, cursor_factory=psycopg2.extras.RealDictCursor)
        self.connection.autocommit = True

    def execute(self, query, values=None):
        cursor = self.connection.cursor()
        cursor.execute(query, values)
        return cursor

    def get_dsn(self):
        return self.dsn


class Stopped(Exception):
    """Ends the specification's endless loop."""


class PatientConnection(psycopg2.extensions.connection):
    """poll() waits a little and is true when notifications are there."""

    stop = None

    def poll(self):
        if self.stop.is_set():
            raise Stopped
        select.select([self], [], [], 0.05)
        super().poll()
        return bool(self.notifies)


@pytest.fixture(scope='module')
def written():
    """The specification's classes and functions by name."""
    names = {'json': json, 'uuid': uuid, 'datetime': datetime, 'timezone': timezone}
    text = SPECIFICATION.read_text(encoding='utf-8')
    for block in re.findall(r'^```python\n(.*?)^```', text, re.DOTALL | re.MULTILINE):
        exec(compile(textwrap.dedent(block), SPECIFICATION.name, 'exec'), names)
    return names


@pytest.fixture
def listener_of(written, db, monkeypatch):
    """Starts a ModuleListener for a module; they are stopped at the end."""
    stop = threading.Event()
    monkeypatch.setattr(PatientConnection, 'stop', stop)
    connect = psycopg2.connect
    threads, failures = [], []

    class Completed(written['ModuleListener']):
        def __init__(self, database, module_type):
            super().__init__(database, module_type)
            self.listeners.update(dm=['dm:evaluate_plan', 'dm:execution_feedback'],
                                  trader=['trader:execute_plan'])
            self.seen = []

        def process_notification(self, notification):
            self.seen.append((notification.channel, notification.payload))
            super().process_notification(notification)

        # called by the specification, defined nowhere in it
        def evaluate_trading_plan(self, plan):
            return {'approved': True, 'units': 3, 'of': plan['id']}

        def update_learning_from_feedback(self, strand):
            self.seen.append(('decision', strand['id'], strand['dm_decision']))

        def update_learning_from_execution(self, strand):
            self.seen.append(('execution', strand['id'], strand['tr_execution']))

        def handle_execution_plan(self, strand_id):
            strand = self.communicator.read_by_id('DM_strands', strand_id)
            written['send_execution_feedback'](self, {'filled': strand['dm_decision']['units']},
                                               strand_id)

        def listen(self):
            try:
                self.start_listening()
            except Stopped:
                pass
            except Exception as failure:    # shown by the fixture's end
                failures.append(failure)

    def start(module_type):
        listener = Completed(Database(db.dsn()), module_type)
        monkeypatch.setattr(psycopg2, 'connect', lambda dsn: connect(
            dsn, connection_factory=PatientConnection))
        thread = threading.Thread(target=listener.listen)
        thread.start()
        threads.append(thread)
        wait_for(lambda: listening(db.dsn(), connect) >= len(threads) or failures)
        monkeypatch.setattr(psycopg2, 'connect', connect)
        return listener

    yield start
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures


def listening(dsn, connect):
    """How many sessions of this database have done their last LISTEN."""
    connection = connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                           " AND state = 'idle' AND query ~ '^LISTEN (dm_execution_feedback"
                           "|alpha_execution_feedback|trader_execute_plan)$'")
            return cursor.fetchone()[0]
    finally:
        connection.close()


def wait_for(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, 'did not happen in time'
        time.sleep(0.01)


class Plan:
    """The trading_plan and signal_pack that publish_trading_plan expects."""
    symbol, timeframe, direction = 'SPX', '1d', 'long'
    signal_strength, confidence = 1.5, 0.6

    def to_dict(self):
        return {'stop_distance': 12.5}


class Module:
    """A self for the specification's bare functions."""

    def __init__(self, written, database, module_type):
        self.db = database
        self.communicator = written['DirectTableCommunicator'](database, module_type)


def test_communicator_writes_and_reads(written, db):
    database = Database(db.dsn())
    communicator = written['DirectTableCommunicator'](database, 'alpha')
    assert set(communicator.table_mapping.values()) == {'AD_strands', 'DM_strands', 'TR_strands'}

    for number in range(3):
        strand_id = communicator.write_with_tags(
            'AD_strands', {'id': f'AD_{number}', 'symbol': 'SPX',
                           'created_at': datetime(2020, 1, 1 + number, tzinfo=timezone.utc)},
            ['dm:evaluate_plan', 'priority:high', 'timeout:300'])
        assert strand_id == f'AD_{number}'

    strand = communicator.read_by_id('AD_strands', 'AD_1')
    assert strand['tags'] == ['dm:evaluate_plan', 'priority:high', 'timeout:300']
    assert (strand['module'], strand['symbol']) == ('alpha', 'SPX')
    assert communicator.read_by_id('AD_strands', 'AD_9') is None

    recent = communicator.read_recent_by_tags('AD_strands', ['dm:evaluate_plan'], limit=2)
    assert [row['id'] for row in recent] == ['AD_2', 'AD_1']
    assert communicator.read_recent_by_tags('AD_strands', ['dm:other']) == []


def test_modules_talk_to_each_other(written, db, listener_of):
    """All five messages, each heard by the specification's own listener."""
    alpha, dm, trader = (listener_of(name) for name in ('alpha', 'dm', 'trader'))
    database = Database(db.dsn())

    written['publish_trading_plan'](Module(written, database, 'alpha'), Plan(), Plan())
    wait_for(lambda: len(alpha.seen) >= 2)
    plan = database.execute('SELECT * FROM AD_strands').fetchone()
    decision = database.execute('SELECT * FROM DM_strands').fetchone()
    assert dm.seen == [('dm_evaluate_plan', plan['id'])]
    assert decision['dm_decision'] == {'approved': True, 'units': 3, 'of': plan['id']}
    assert alpha.seen == [('alpha_decision_feedback', decision['id']),
                          ('decision', decision['id'], decision['dm_decision'])]

    # pattern 3 sends by UPDATE; the specification's own trigger would be silent
    alpha.seen.clear()
    written['send_execution_plan'](Module(written, database, 'dm'), {'units': 3}, decision['id'])
    wait_for(lambda: len(alpha.seen) >= 2)
    report = database.execute('SELECT * FROM TR_strands').fetchone()
    assert trader.seen == [('trader_execute_plan', decision['id'])]
    assert alpha.seen == [('alpha_execution_feedback', report['id']),
                          ('execution', report['id'], {'filled': 3})]

    # the tag that alpha was told by is still there beside the new one
    tags = database.execute('SELECT tags FROM DM_strands').fetchone()['tags']
    assert sorted(tags) == ['alpha:decision_feedback', 'trader:execute_plan']

    # the fifth one is in the specification's trigger and in none of its lists
    dm.seen.clear()
    Module(written, database, 'trader').communicator.write_with_tags(
        'TR_strands', {'id': 'TR_5'}, ['dm:execution_feedback'])
    wait_for(lambda: dm.seen)
    assert dm.seen == [('dm_execution_feedback', 'TR_5')]


def test_failure_mark_wakes_nobody(written, db, listener_of):
    """handle_message_error as written: the mark is added and nothing is sent."""
    dm = listener_of('dm')
    database = Database(db.dsn())
    module = Module(written, database, 'dm')
    module.log_error = lambda text: None
    module.communicator.write_with_tags('AD_strands', {'id': 'AD_1', 'symbol': 'SPX'}, ['other'])
    written['handle_message_error'](module, 'AD_1', 'no reason')
    module.communicator.write_with_tags('AD_strands', {'id': 'AD_2', 'symbol': 'SPX'},
                                        ['dm:evaluate_plan'])
    wait_for(lambda: dm.seen)
    assert dm.seen == [('dm_evaluate_plan', 'AD_2')]
    strand = module.communicator.read_by_id('AD_strands', 'AD_1')
    assert strand['tags'] == ['other', 'error:processing_failed']
