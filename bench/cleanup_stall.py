#!/usr/bin/python3
"""How long is a producer held up while the cleanup deletes millions of strands?

Starts a private cluster with fsync on, fills AD_strands with --rows strands of
which nine in ten are older than the retention, one in a hundred of those without
a receipt, and lets producers insert at a steady rate, each strand in a transaction
of its own, before, during and after one run of `strandctl cleanup`.

A latency is that of the insert with its commit.  A producer that falls behind its
rate starts anew from then on, and the inserts that it left out are counted: they
tell that the machine cannot do the rate, and a rate below it wants to be named.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import built
from stall import Producers, plain_specification, private

# Inserted before any index is there, in the order of their age.
FILL = """
INSERT INTO ad_strands (id, symbol, trading_plan, tags, created_at)
SELECT 'AD_' || substr(md5(i::text), 1, 12) || i, 'BTC',
       jsonb_build_object('entry', i, 'note', repeat(md5(i::text), 12)),
       '["dm:evaluate_plan"]', now() - interval '37 days' + i * (interval '37 days' / %s::float8)
  FROM generate_series(%s, %s) i
"""
RECEIPTS = """
INSERT INTO dm_receipts (route, strand_id, state, instance, started_at, finished_at)
SELECT %s, strandd.receipt_key(id), 'done', 1, created_at, created_at
  FROM ad_strands WHERE hashtextextended(id, 1) %% 100 <> 0 AND created_at < now() - interval '1 minute'
"""


def fill(db, server, rows):
    for statement in plain_specification():
        if "INDEX" not in statement:
            db.execute(statement)
    for first in range(1, rows + 1, 100_000):
        db.execute(FILL, (rows, first, min(first + 99_999, rows)))
        print(f"\rfilling: {min(first + 99_999, rows)} rows", end="", file=sys.stderr)
    print("\nindexes and receipts", file=sys.stderr)
    db.install(private.INSTALL_FILES[:-1])
    route = db.attach("dm:evaluate_plan", "ad_strands", "dm_strands", deliver_existing=True)
    db.execute(RECEIPTS, (route,))
    db.execute("VACUUM ANALYZE ad_strands")
    db.execute("VACUUM ANALYZE dm_receipts")
    server.admin("CHECKPOINT")


def clean(db, options):
    """The run: what strandctl says of it, and the seconds that it took."""
    config = os.path.join(db.cluster.dir, "cleanup.conf")
    with open(config, "w", encoding="utf-8") as f:
        f.write("module_communication: { database: { host = \"%s\"; database = \"%s\"; user = \"%s\"; };"
                " cleanup: { batch = %d; pause = \"%dms\"; }; };\n"
                % (db.cluster.dir, db.name, private.OWNER, options.batch, options.pause))
    begun = time.monotonic()
    done = subprocess.run([*private.program("strandctl"), "--config", config, "--json", "cleanup"],
                          stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)["cleanup"][0], begun, time.monotonic()


def percentiles(times):
    times = sorted(times) or [0]
    return times[len(times) // 2], times[int(len(times) * 0.99)], times[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--rate", type=float, default=50, help="inserts a second of each producer")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--pause", type=int, default=100, metavar="MS")
    parser.add_argument("--quiet", type=float, default=60, metavar="SECONDS", help="length of the comparisons")
    parser.add_argument("--no-fsync", action="store_true")
    built.add_option(parser)
    options = parser.parse_args()
    built.check(parser, options, "strandctl")
    settings = {"shared_buffers": "1GB", "max_wal_size": "8GB"}
    with private.Cluster(settings=settings, fsync=not options.no_fsync) as server:
        db = server.database(installed=False)
        fill(db, server, options.rows)
        size = db.value("SELECT pg_size_pretty(pg_total_relation_size('ad_strands'))")
        print(f"{options.rows} strands, {size} with indexes", file=sys.stderr)
        producers = Producers(db.dsn(), options.producers, options.rate)
        producers.start()
        started = time.monotonic() + 2
        time.sleep(options.quiet + 2)
        try:
            said, begun, ended = clean(db, options)
            time.sleep(options.quiet)
        finally:
            seen = producers.finish()
    took = ended - begun
    print(f"{said['deleted']} strands deleted, {said['kept']} kept, in {took:.0f} s: {said['deleted'] / took:.0f} a second"
          f" (batches of {options.batch}, {options.pause} ms between them)")
    print(f"{'wanted: ' + format(options.producers * options.rate, '.0f') + ' a second':24}{'inserts':>9}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'left out':>9}")
    phases = {"before": (started, begun), "during": (begun, ended), "after": (ended, ended + options.quiet)}
    found = {}
    for name, (first, last) in phases.items():
        times = [t for at, t in seen if first <= at < last]
        found[name] = percentiles(times)
        missing = max(0, round((last - first) * options.producers * options.rate) - len(times))
        print(f"{name:24}{len(times):9d}" + "".join(f"{t * 1e3:9.2f}" for t in found[name]) + f"{missing:9d}")
    print(f"{'during / before':33}" + "".join(f"{a / max(b, 1e-9):9.2f}" for a, b in zip(found["during"], found["before"])))


if __name__ == "__main__":
    main()
