"""examples/python/producer.py as a module and as a program."""
import importlib.util
import json
import subprocess
import sys

import psycopg2
import pytest

import cluster as private

PRODUCER = private.REPO / 'examples' / 'python' / 'producer.py'


@pytest.fixture(scope='module')
def producer():
    spec = importlib.util.spec_from_file_location('producer', PRODUCER)
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    spec.loader.exec_module(module)
    sys.dont_write_bytecode = writes
    return module


def program(db, *args, stdin):
    return subprocess.run([sys.executable, PRODUCER, '--dbname', db.dsn(private.PRODUCER), *args],
                          input=stdin, text=True, capture_output=True, timeout=60, check=False)


def test_one_strand_with_tags(db, producer):
    conn = db.connect(private.PRODUCER, autocommit=False)
    strand_id = producer.write(conn, 'AD_strands', {'symbol': 'Ä"q\'', 'trading_plan': {'a': [1, None]}},
                               ['dm:evaluate_plan'], high=True, timeout=300)
    assert db.value('SELECT count(*) FROM ad_strands') == 0     # the caller commits
    conn.commit()
    assert db.execute('SELECT id, symbol, trading_plan, tags FROM ad_strands') == [
        (strand_id, 'Ä"q\'', {'a': [1, None]}, ['dm:evaluate_plan', 'priority:high', 'timeout:300'])]
    assert strand_id.startswith('AD_') and len(strand_id) == 15


def test_many_strands_are_announced_in_order(db, producer):
    ears = db.connect()
    db.execute('LISTEN dm_evaluate_plan', conn=ears)
    conn = db.connect(private.PRODUCER, autocommit=False)
    with conn:
        ids = producer.write_many(conn, 'AD_strands', ({'symbol': str(n)} for n in range(2500)),
                                  ['dm:evaluate_plan'])
        assert producer.write_many(conn, 'AD_strands', [], ['dm:evaluate_plan']) == []
    db.execute('SELECT 1', conn=ears)
    assert [n.payload for n in ears.notifies] == ids and len(set(ids)) == 2500
    assert db.value('SELECT count(*) FROM ad_strands WHERE tags = \'["dm:evaluate_plan"]\'') == 2500


def test_unlike_columns_are_refused(db, producer):
    conn = db.connect(private.PRODUCER, autocommit=False)
    with pytest.raises(ValueError, match='AD_2 has other columns'):
        producer.write_many(conn, 'AD_strands', [{'id': 'AD_1', 'kind': 'a'}, {'id': 'AD_2', 'symbol': 'b'}], ['x:y'])


def test_program(db):
    lines = [json.dumps({'id': f'AD_{n}', 'symbol': 'SPX'}) for n in range(5)]
    done = program(db, '--table', 'AD_strands', '--tag', 'dm:evaluate_plan', '--batch', '2',
                   stdin='\n'.join(lines) + '\n\n')
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.split() == [f'AD_{n}' for n in range(5)]
    assert db.value('SELECT count(DISTINCT xact_id) FROM ad_strands') == 3


@pytest.mark.parametrize('stdin, words', [
    ('{"symbol": "a"}\n{"symbol":', 'line 2 is not JSON'),
    ('[1]', 'line 1 is not a JSON object'),
    ('{"symbl": "a"}', 'column "symbl"'),
])
def test_program_refuses_bad_input(db, stdin, words):
    done = program(db, '--table', 'AD_strands', '--tag', 'dm:evaluate_plan', stdin=stdin)
    assert done.returncode == 1 and words in done.stderr and 'Traceback' not in done.stderr
    assert db.value('SELECT count(*) FROM ad_strands') == 0


def test_program_without_a_server():
    done = subprocess.run([sys.executable, PRODUCER, '--dbname', 'host=/nowhere', '--table', 'AD_strands',
                           '--tag', 'a:b'], input='', text=True, capture_output=True, check=False)
    assert done.returncode == 1 and '/nowhere' in done.stderr and 'Traceback' not in done.stderr


def test_rolled_back_strands_are_not_announced(db, producer):
    ears = db.connect()
    db.execute('LISTEN dm_evaluate_plan', conn=ears)
    conn = db.connect(private.PRODUCER, autocommit=False)
    producer.write(conn, 'AD_strands', {'id': 'AD_1'}, ['dm:evaluate_plan'])
    conn.rollback()
    with pytest.raises(psycopg2.errors.UniqueViolation), conn:
        producer.write_many(conn, 'AD_strands', [{'id': 'AD_2'}, {'id': 'AD_2'}], ['dm:evaluate_plan'])
    db.execute('SELECT 1', conn=ears)
    assert ears.notifies == []
