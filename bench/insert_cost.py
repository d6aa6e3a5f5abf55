#!/usr/bin/python3
"""What strandd's columns, triggers and indexes add to an INSERT, and what the GIN
index on tags does to the latency of a batch.

Variants are measured in turn, round after round, each in a database of its own
on one private cluster with fsync on, and the medians over the rounds are told:

    specification    the plain tables of the specification
    fastupdate=off   the same, with the GIN index as strandd sets it
    columns, triggers  installed, without strandd's two further indexes
    installed        all of it
    64kB pending     installed, GIN with fastupdate and gin_pending_list_limit=64kB
    4MB pending      installed, GIN as PostgreSQL makes it

bulk: processor time of the server process, in microseconds a row of one INSERT ...
SELECT; single: the same, an INSERT in its own transaction, synchronous_commit off
(processor time because it can be compared on a machine that others use too);
batch: milliseconds by the clock a transaction of --batch rows as strandd's replies
are, each with a tag of its own (original_strand).
"""

import argparse
import statistics
import sys
import time

import built  # noqa: F401
import cluster as private
from sql_support import plain_specification  # noqa: E402

BULK = ("INSERT INTO dm_strands (id, symbol, dm_decision, tags) SELECT 'B{0}_' || i, 'BTC', jsonb_build_object('note', repeat(md5(i::text), 12)),"
        " '[\"alpha:decision_feedback\"]' FROM generate_series(1, {1}) i")
PREPARE = ("PREPARE one(text) AS INSERT INTO dm_strands (id, symbol, dm_decision, tags) VALUES ($1, 'BTC',"
           " jsonb_build_object('note', repeat(md5($1), 12)), '[\"alpha:decision_feedback\"]')")
PREPARE_BATCH = ("PREPARE batch(integer) AS INSERT INTO dm_strands (id, symbol, dm_decision, tags)"
                 " SELECT 'DM_' || substr(translate(gen_random_uuid()::text, '-', ''), 1, 12), 'BTC', jsonb_build_object('note', repeat(md5(i::text), 12)),"
                 " jsonb_build_array('alpha:decision_feedback', 'original_strand:AD_' || substr(translate(gen_random_uuid()::text, '-', ''), 1, 12))"
                 " FROM generate_series(1, $1) i")


def fastupdate(db, on, limit=None):
    db.execute(f"ALTER INDEX idx_dm_strands_tags SET (fastupdate = {on})")
    if limit:
        db.execute(f"ALTER INDEX idx_dm_strands_tags SET (gin_pending_list_limit = {limit})")


def drop_indexes(db):
    db.execute("DROP INDEX idx_dm_strands_xact_id, idx_dm_strands_xact_id_high")


def variants(server):
    """{name: database}"""
    made = {}
    for name, installed, change in (
            ("specification", False, lambda db: None),
            ("fastupdate=off", False, lambda db: fastupdate(db, "off")),
            ("columns, triggers", True, drop_indexes),
            ("installed", True, lambda db: None),
            ("64kB pending", True, lambda db: fastupdate(db, "on", 64)),
            ("4MB pending", True, lambda db: fastupdate(db, "on"))):
        db = server.database(installed=installed)
        if not installed:
            for statement in plain_specification():
                db.execute(statement)
        change(db)
        db.execute(PREPARE)
        db.execute(PREPARE_BATCH)
        db.execute("SET synchronous_commit = off")
        made[name] = db
    return made


def spent(db):
    """Nanoseconds of processor time that the session's server process has had."""
    with open(f"/proc/{db.conn.info.backend_pid}/schedstat", encoding="ascii") as f:
        return int(f.read().split()[0])


def bulk(db, number, rows):
    begun = spent(db)
    db.execute(BULK.format(number, rows))
    return (spent(db) - begun) / 1e3 / rows


def single(db, number, rows):
    begun = spent(db)
    with db.conn.cursor() as cur:
        for i in range(rows):
            cur.execute(f"EXECUTE one('S{number}_{i}')")
    return (spent(db) - begun) / 1e3 / rows


def batches(db, count, size):
    taken = []
    with db.conn.cursor() as cur:
        for _ in range(count):
            begun = time.perf_counter()
            cur.execute(f"EXECUTE batch({size})")
            taken.append((time.perf_counter() - begun) * 1e3)
    return taken


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bulk", type=int, default=10_000, help="rows of a bulk INSERT")
    parser.add_argument("--single", type=int, default=2_000, help="single INSERTs a round")
    parser.add_argument("--batches", type=int, default=200, help="batches a round")
    parser.add_argument("--batch", type=int, default=100, help="rows a batch")
    options = parser.parse_args()
    with private.Cluster(settings={"shared_buffers": "1GB", "max_wal_size": "8GB"}, fsync=True) as server:
        dbs = variants(server)
        seen = {name: ([], [], []) for name in dbs}
        for number in range(options.rounds):
            names = list(dbs)
            for name in names[number % len(names):] + names[:number % len(names)]:
                seen[name][0].append(bulk(dbs[name], number, options.bulk))
                seen[name][1].append(single(dbs[name], number, options.single))
                seen[name][2].extend(batches(dbs[name], options.batches, options.batch))
            print(f"\rround {number + 1} of {options.rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    print(f"{'variant':20}{'bulk us':>9}{'single us':>11}{'batch p50':>11}{'p99':>8}{'p99.9':>8}{'max ms':>9}{'rows/s':>9}")
    for name, (b, s, t) in seen.items():
        t.sort()
        print(f"{name:20}{statistics.median(b):9.1f}{statistics.median(s):11.1f}{t[len(t) // 2]:11.2f}{t[int(len(t) * 0.99)]:8.2f}"
              f"{t[int(len(t) * 0.999)]:8.2f}{t[-1]:9.1f}{options.batch * len(t) / sum(t) * 1e3:9.0f}")


if __name__ == "__main__":
    main()
