#!/usr/bin/python3
"""How long is a producer held up while a route is attached to a table in use?

Starts a private cluster with fsync on, fills a plain table of the specification
with --rows strands, lets a producer insert one strand after the other, each in a
transaction of its own, and meanwhile does what `strandctl attach` does.  Prints
for each step how long it took and what the producer saw.

With --reader SECONDS a session that has read the table stays idle in its
transaction for so long: the ALTER then cannot have its lock, and what bounds the
stall is lock_timeout (--lock-timeout ms) and the pause before it is tried again.
"""

import argparse
import sys
import threading
import time

import psycopg2

from stall import Producers, plain_specification, private

FILL = """
INSERT INTO ad_strands (id, symbol, trading_plan, tags)
SELECT 'AD_' || substr(md5(i::text), 1, 12) || i, 'BTC',
       jsonb_build_object('entry', i, 'note', repeat(md5(i::text), 12)),
       CASE WHEN i %% 10 = 0 THEN '["dm:evaluate_plan"]'::jsonb ELSE jsonb_build_array('kept:no', 'original_strand:' || i) END
  FROM generate_series(%s, %s) i
"""


def retried(db, sql, params=None):
    """Runs it until its lock was free, as strandctl does; returns the rows."""
    while True:
        try:
            return db.execute(sql, params)
        except psycopg2.errors.LockNotAvailable:
            time.sleep(0.2)


def build(db, statement, lock_timeout):
    """A concurrent build holds no producer up, and waits as long as it must."""
    db.execute("SET lock_timeout = 0")
    db.execute(statement)
    db.execute(f"SET lock_timeout = {lock_timeout}")


def history(db, route, batch):
    while not retried(db, "SELECT finished FROM strandd.skip_history('dm_strands', %s, %s)", (route, batch))[0][0]:
        pass


def read_and_stay(db, seconds):
    conn = db.connect(autocommit=False)
    db.execute("SELECT count(*) FROM (SELECT FROM ad_strands LIMIT 10) t", conn=conn)
    time.sleep(seconds)
    conn.rollback()


def steps(db, options):
    """Yields each step's name and what it does."""
    yield "nothing (for comparison)", lambda: time.sleep(options.quiet)
    yield "install functions", lambda: db.install(private.INSTALL_FILES[:-2])
    reader = threading.Thread(target=read_and_stay, args=(db, options.reader))
    if options.reader:
        yield "an idle reader arrives", lambda: (reader.start(), time.sleep(0.5))
    yield "prepare_source (columns, triggers)", lambda: retried(db, "SELECT strandd.prepare_source('ad_strands')")
    for statement, in db.execute("SELECT strandd.index_statements('ad_strands')"):
        words = statement.split()
        name = " ".join(w for w in words[:9] if w not in ("IF", "NOT", "EXISTS", "ON"))
        yield name[:60], lambda s=statement: build(db, s, options.lock_timeout)
    yield "prepare_receiver", lambda: retried(db, "SELECT strandd.prepare_receiver('dm_strands')")
    numbers = []
    yield "attach", lambda: numbers.append(retried(db, "SELECT strandd.attach('dm:evaluate_plan', 'ad_strands', 'dm_strands')")[0][0])
    yield f"skip_history, batches of {options.batch}", lambda: history(db, numbers[0], options.batch)
    if options.reader:
        reader.join()


def row(name, took, times):
    times = sorted(times) or [0]
    return (f"{name:62}{took:9.2f}{len(times):9d}{times[len(times) // 2] * 1e3:9.2f}"
            f"{times[int(len(times) * 0.99)] * 1e3:9.2f}{times[-1] * 1e3:9.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--producers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1000, help="rows of one skip_history")
    parser.add_argument("--quiet", type=float, default=10, metavar="SECONDS", help="length of the comparison")
    parser.add_argument("--reader", type=float, default=0, metavar="SECONDS", help="an idle reader for so long")
    parser.add_argument("--lock-timeout", type=int, default=500, metavar="MS")
    parser.add_argument("--no-fsync", action="store_true")
    options = parser.parse_args()
    settings = {"shared_buffers": "1GB", "max_wal_size": "8GB"}
    with private.Cluster(settings=settings, fsync=not options.no_fsync) as server:
        db = server.database(installed=False)
        for statement in plain_specification():
            db.execute(statement)
        for first in range(1, options.rows + 1, 100_000):
            db.execute(FILL, (first, min(first + 99_999, options.rows)))
            print(f"\rfilling: {min(first + 99_999, options.rows)} rows", end="", file=sys.stderr)
        db.execute("VACUUM ANALYZE ad_strands")
        server.admin("CHECKPOINT")
        print(f"\n{db.value('SELECT pg_size_pretty(pg_total_relation_size(%s))', ('ad_strands',))} with indexes", file=sys.stderr)
        db.execute(f"SET lock_timeout = {options.lock_timeout}")
        producers = Producers(db.dsn(), options.producers)
        producers.start()
        time.sleep(1)
        done = []
        try:
            for name, act in steps(db, options):
                begun = time.monotonic()
                act()
                done.append((name, begun, time.monotonic()))
        finally:
            seen = producers.finish()
    print(f"\n{'step':62}{'seconds':>9}{'inserts':>9}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for name, begun, ended in done:
        print(row(name, ended - begun, [t for at, t in seen if at < ended and at + t > begun]))
    whole = [t for at, t in seen if at + t > done[1][1]]
    print(row("all but the comparison", done[-1][2] - done[1][1], whole))


if __name__ == "__main__":
    main()
