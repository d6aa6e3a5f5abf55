#!/usr/bin/python3
"""High strands beside a backlog of normal ones: INSERT committed to reply committed.

Each round takes a fresh copy of a database whose route has a backlog of normal
strands, starts strandd on it, and inserts strands with priority:high one by one at
a steady rate while the backlog is worked off.  Only those count that were done
before the last strand of the backlog.  When all of it is settled the same daemon,
idle now, is measured in the same way.  The limit: beside the backlog the 99th
percentile is at most three times the idle one, or 20 ms, whichever is more.

    make bench && bench/priority.py --build BUILD_DIRECTORY
    bench/priority.py --reserved 0,1

The server is a private one with its packaged settings plus shared_buffers=1GB and
max_wal_size=8GB, fsync on.  Producer and listener are one program (produce.c).
"""

import argparse
import signal
import statistics
import subprocess
import time

import built
import throughput
from throughput import private, say, table

FIRST = 500000000       # number of the first high strand
LEAST_MS = 20

# The replies of high strands are high too, so that they are heard on a channel of
# their own, and the listener's time is not that of the backlog's replies.
HANDLER = """
CREATE OR REPLACE FUNCTION bench.evaluate_plan(strand ad_strands) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT jsonb_build_object('id', 'DM_' || substr(strand.id, 4), 'kind', 'decision',
        'symbol', strand.symbol, 'timeframe', strand.timeframe,
        'dm_decision', jsonb_build_object('approved', true, 'units', strand.trading_plan -> 'units'),
        'tags', strand.tags - 'dm:evaluate_plan' || '["alpha:decision_feedback"]');
END $$;
"""


def percentiles(seconds):
    ms = sorted(s * 1e3 for s in seconds)
    return tuple(ms[int(len(ms) * q)] for q in (0.5, 0.99)) + (ms[-1],)


class Bench(throughput.Bench):
    handler = throughput.HANDLER + HANDLER

    def daemon(self, db, workers, reserved):
        return private.Daemon(db, routes=[throughput.ROUTE], conf={
            "workers": {"threads": workers, "batch": self.options.batch, "reserved_for_high": reserved},
            "scan": {"interval": "5s"}, "log": {"level": "info"}})

    def insert_high(self, db, first, seconds):
        """Latencies in seconds, in the order of the strands' numbers."""
        done = subprocess.run(
            [str(private.build_dir() / "bench" / "produce"), "--dbname", db.dsn(private.PRODUCER), "--high",
             "--channel", "alpha_decision_feedback:high", "--first", str(first), "--rate", str(self.options.rate),
             "--strands", str(self.options.rate * seconds), "--plan",
             db.value("SELECT bench.plan(%s, 1)::text", (self.options.plan_bytes,))],
            stdout=subprocess.PIPE, text=True, check=False)
        times = [tuple(int(n) / 1e9 for n in line.split()) for line in done.stdout.splitlines()]
        missing = sum(1 for t in times if not t[2])
        if done.returncode or missing:
            raise SystemExit(f"{missing} of {len(times)} high strands without an answer")
        return [answered - committed for _, committed, answered in times]

    def beside_backlog(self, db):
        """How many high strands were done before the last one of the backlog; seconds of the backlog."""
        return db.execute("""
            WITH normal AS (SELECT min(started_at) AS first, max(finished_at) AS last FROM dm_receipts
                             WHERE strand_id < %s COLLATE "C")
            SELECT count(*), extract(epoch FROM max(n.last) - max(n.first))::float8
              FROM dm_receipts r, normal n WHERE r.strand_id >= %s COLLATE "C" AND r.finished_at < n.last""",
                          (f"AD_{FIRST:012}",) * 2)[0]

    def run(self, template, workers, reserved):
        """Percentiles in ms beside the backlog and idle; how many strands, and seconds, the
        backlog took; what others took
        of the processors meanwhile."""
        options = self.options
        db = self.copy(template)
        with self.daemon(db, workers, reserved) as daemon:
            self.wait_settled(daemon, options.batch)
            used = throughput.Processors(self.server)
            busy = self.insert_high(db, FIRST, options.seconds)
            others = used.since(1)[2]
            self.wait_settled(daemon, options.strands + len(busy))
            self.server.admin("CHECKPOINT")
            time.sleep(2)
            idle = self.insert_high(db, FIRST + len(busy), options.seconds)
            self.wait_settled(daemon, options.strands + len(busy) + len(idle))
        self.check(db, options.strands + len(busy) + len(idle))
        n, seconds = self.beside_backlog(db)
        db.drop()
        if n < options.rate:
            raise SystemExit(f"only {n} high strands beside the backlog: it was over too soon")
        return percentiles(busy[:n]), percentiles(idle), n, seconds, others

    def priority(self):
        options = self.options
        template = self.backlog(options.strands)
        rows, medians, missed = [], [], False
        for workers in options.workers:
            for reserved in options.reserved:
                rounds = []
                for number in range(1, options.rounds + 1):
                    busy, idle, n, seconds, others = self.run(template, workers, reserved)
                    rounds.append((*busy, *idle, busy[1] / idle[1]))
                    rows.append((workers, reserved, number, f"{seconds:.1f}", n, *(f"{v:.2f}" for v in rounds[-1]),
                                 f"{others:.0%}"))
                    say(f"{workers} workers, {reserved} reserved, round {number}: p99 {busy[1]:.2f} ms beside the"
                        f" backlog ({n} strands, {seconds:.1f} s), {idle[1]:.2f} ms idle")
                of = [statistics.median(column) for column in zip(*rounds)]
                limit = max(3 * of[4], LEAST_MS)
                if reserved and of[1] > limit:
                    missed = True
                medians.append((workers, reserved, *(f"{of[i]:.2f}" for i in (0, 1, 3, 4)), f"{limit:.1f}",
                                "held" if of[1] <= limit else "missed"))
        print(f"\n{options.rate} high strands/s while {options.strands:,} normal ones are worked off,"
              f" batch {options.batch}; in ms\n")
        table(("workers", "reserved", "round", "backlog s", "n", "p50", "p99", "longest", "idle p50", "idle p99",
               "idle longest", "p99 ratio", "others"), rows)
        print("\nMedians of the rounds\n")
        table(("workers", "reserved", "p50", "p99", "idle p50", "idle p99", "limit of p99", ""), medians)
        return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built.add_option(parser)
    parser.add_argument("--strands", type=int, default=200000, help="strands in the backlog (200000)")
    parser.add_argument("--workers", type=throughput.numbers, default=[4], help="worker threads, a list (4)")
    parser.add_argument("--reserved", type=throughput.numbers, default=[1], help="of them for high ones, a list (1)")
    parser.add_argument("--batch", type=int, default=100, help="strands a transaction (100)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (5)")
    parser.add_argument("--rate", type=int, default=100, help="high strands a second (100)")
    parser.add_argument("--seconds", type=int, default=4, help="so long, beside the backlog and idle (4)")
    parser.add_argument("--plan-bytes", type=int, default=500, help="size of a trading plan (500)")
    options = parser.parse_args()
    options.growth = False
    built.check(parser, options, "strandd", "bench/produce")
    with private.Cluster(settings={"shared_buffers": "1GB", "max_wal_size": "8GB"}, fsync=True) as server:
        return Bench(server, options).priority()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(main())
