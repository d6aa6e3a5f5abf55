#!/usr/bin/python3
"""strandd beside its floor: throughput of a backlog, growth, latency.

The floor (floor.c) is the leanest C program that issues the same claim, handler
and reply statements from as many threads, receipts kept.  Both run in the same
session of measuring, in turn, each on a fresh copy of the same database, on a
private server with its packaged settings plus shared_buffers=1GB and
max_wal_size=8GB, fsync on.

    make bench && bench/throughput.py --build BUILD_DIRECTORY
    bench/throughput.py --command bench/handler --workers 4
    bench/throughput.py --growth --strands 1000000
    bench/throughput.py --latency

A receipt's finished_at tells when a strand was done; the clock starts with the
first receipt's started_at.  What a program needs before its first strand
(connecting, resolving names, the first scan) shows in the column "start".
Processor time is told for the server and the program, in microseconds a strand,
and "others" is what everything else on the machine took meanwhile, as a share of
all processors: a run with more than a few percent there tells little.
"""

import argparse
import os
import resource
import signal
import statistics
import subprocess
import sys
import time

import built
import cluster as private

ROUTE = {"tag": "dm:evaluate_plan", "source": "AD_strands"}

# One reply with one routed tag; its id tells the listener of --latency which
# strand it answers.
HANDLER = """
CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO strandd_service;
CREATE FUNCTION bench.evaluate_plan(strand ad_strands) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT jsonb_build_object('id', 'DM_' || substr(strand.id, 4), 'kind', 'decision',
        'symbol', strand.symbol, 'timeframe', strand.timeframe,
        'dm_decision', jsonb_build_object('approved', true, 'units', strand.trading_plan -> 'units'),
        'tags', jsonb_build_array('alpha:decision_feedback'));
END $$;
CREATE FUNCTION bench.plan(bytes integer, n bigint) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('units', n % 1000, 'entry', 1000 + n % 977, 'stop', 900 + n % 977,
        'why', left(repeat(md5(n::text), bytes / 32 + 1), greatest(bytes - 60, 0)))
$$;
CREATE PROCEDURE bench.fill(first bigint, strands bigint, bytes integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR chunk IN 0 .. (strands - 1) / 1000 LOOP
        INSERT INTO AD_strands (id, kind, symbol, timeframe, trading_plan, tags)
        SELECT 'AD_' || lpad(n::text, 12, '0'), 'signal', 'SPX', '1d', bench.plan(bytes, n), '["dm:evaluate_plan"]'
          FROM generate_series(first + chunk * 1000, first + least(strands, (chunk + 1) * 1000) - 1) n;
        COMMIT;
    END LOOP;
END $$;
"""


def say(text):
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def table(head, rows):
    cells = [[str(c) for c in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for n, row in enumerate(cells):
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip())
        if n == 0:
            print("  ".join("-" * w for w in widths))


TICK = os.sysconf("SC_CLK_TCK")


class Processors:
    """Processor seconds since it was made: of the server, of our ended children,
    and the rest of the machine's as a share of all there were."""

    def __init__(self, server):
        with open(os.path.join(server.data, "postmaster.pid"), encoding="utf-8") as f:
            self.postmaster = int(f.readline())
        self.begin = self.now()

    def process(self, pid):
        """(parent, seconds, seconds of its children that ended)"""
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            words = f.read().rsplit(")", 1)[1].split()
        user, system, child_user, child_system = (int(w) / TICK for w in words[11:15])
        return int(words[1]), user + system, child_user + child_system

    def now(self):
        _, own, ended = self.process(self.postmaster)
        server = own + ended
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                parent, seconds, _ = self.process(pid)
            except OSError:
                continue
            if parent == self.postmaster:
                server += seconds
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        with open("/proc/stat", encoding="utf-8") as f:
            user, nice, system, _, _, irq, softirq, stolen = (int(w) / TICK for w in f.readline().split()[1:9])
        busy = user + nice + system + irq + softirq + stolen
        return time.monotonic(), server, used.ru_utime + used.ru_stime, busy

    def since(self, strands):
        """(server's and program's microseconds a strand, others' share)"""
        time.sleep(0.3)     # until the postmaster has collected its ended children
        wall, server, program, busy = (b - a for a, b in zip(self.begin, self.now()))
        others = max(busy - server - program, 0) / (wall * os.cpu_count())
        return server / strands * 1e6, program / strands * 1e6, others


def used_cells(used):
    server, program, others = used
    return f"{server:.1f}", f"{program:.1f}", f"{others:.0%}"


class Bench:
    handler = HANDLER

    def __init__(self, server, options):
        self.server = server
        self.options = options
        self.copies = 0

    def backlog(self, strands):
        """A template database that holds the strands; its name."""
        name = f"backlog_{strands}"
        say(f"writing {strands:,} strands")
        db = self.server.database(name=name)
        db.execute(self.handler)
        db.execute("CALL bench.fill(1, %s, %s)", (strands, self.options.plan_bytes))
        if strands and not self.options.growth:
            db.execute("VACUUM ANALYZE ad_strands")
        if self.options.growth:
            for name_of_table, in db.execute("SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r'"
                                             " AND c.relnamespace = 'public'::regnamespace"):
                db.execute(f"ALTER TABLE {name_of_table} SET (autovacuum_enabled = off)")
        db.close()
        return name

    def copy(self, template):
        self.copies += 1
        name = f"run_{self.copies}"
        db = self.server.copy(template, name, "STRATEGY file_copy")
        db.adopt()
        self.server.admin("CHECKPOINT")
        return db

    def route(self, workers):
        if not self.options.command:
            return {**ROUTE, "handler": "bench.evaluate_plan"}
        return {**ROUTE, "command": self.options.command.split(), "processes": workers}

    def daemon(self, db, workers):
        return private.Daemon(db, routes=[self.route(workers)], conf={
            "workers": {"threads": workers, "batch": self.options.batch},
            "scan": {"interval": "5s"}, "log": {"level": "info"}})

    def floor(self, daemon, *more):
        daemon.write_config()
        return [str(private.build_dir() / "bench" / "floor"), "--config", daemon.config, *more]

    # --- what the receipts tell

    def check(self, db, strands):
        done, replies = db.execute("SELECT (SELECT count(*) FROM dm_receipts WHERE state = 'done'),"
                                   " (SELECT count(*) FROM dm_strands)")[0]
        if (done, replies) != (strands, strands):
            raise SystemExit(f"{strands} strands, {done} receipts, {replies} replies")

    def span(self, db, since):
        """Seconds from the first start to the last end, and from `since` to the first start."""
        first, last = db.execute("SELECT extract(epoch FROM min(started_at))::float8,"
                                 " extract(epoch FROM max(finished_at))::float8 FROM dm_receipts")[0]
        return last - first, first - since

    def tenths(self, db, skip):
        """Strands a second of each tenth, by finished_at; the first `skip` were for warming up."""
        rows = db.execute("SELECT tenth, count(*), extract(epoch FROM max(finished_at))::float8 FROM"
                          " (SELECT finished_at, ntile(10) OVER (ORDER BY finished_at) AS tenth FROM dm_receipts"
                          "  ORDER BY finished_at OFFSET %s) r GROUP BY tenth ORDER BY tenth", (skip,))
        begin = db.value("SELECT extract(epoch FROM min(started_at))::float8 FROM"
                         " (SELECT started_at FROM dm_receipts ORDER BY finished_at OFFSET %s) r", (skip,))
        rates = []
        for _, n, end in rows:
            rates.append(n / (end - begin))
            begin = end
        return rates

    # --- throughput

    def settled(self, daemon):
        return sum(v for k, v in daemon.metrics().items() if k.startswith("strandd_settled_total"))

    def wait_settled(self, daemon, strands):
        while self.settled(daemon) < strands:
            if daemon.process.poll() is not None:
                raise SystemExit(daemon.log())
            time.sleep(0.2)

    def run_strandd(self, template, strands, workers):
        db = self.copy(template)
        daemon = self.daemon(db, workers)
        since = time.time()
        used = Processors(self.server)
        with daemon:
            self.wait_settled(daemon, strands)
        used = used.since(strands)
        self.check(db, strands)
        result = *self.span(db, since), used
        db.drop()
        return result

    def run_floor(self, template, strands, workers):
        db = self.copy(template)
        daemon = self.daemon(db, workers)
        since = time.time()
        used = Processors(self.server)
        subprocess.run(self.floor(daemon, "--workers", str(workers), "--batch", str(self.options.batch)),
                       check=True, stdout=subprocess.DEVNULL)
        used = used.since(strands)
        self.check(db, strands)
        result = *self.span(db, since), used
        daemon.remove()
        db.drop()
        return result

    def throughput(self):
        strands = self.options.strands
        template = self.backlog(strands)
        runs, medians = [], []
        for workers in self.options.workers:
            rates, costs = {"strandd": [], "floor": []}, {"strandd": [], "floor": []}
            for number in range(1, self.options.rounds + 1):
                pair = [("strandd", self.run_strandd), ("floor", self.run_floor)]
                for name, run in pair if number % 2 else reversed(pair):
                    seconds, start, used = run(template, strands, workers)
                    rates[name].append(strands / seconds)
                    runs.append((name, workers, number, f"{seconds:.2f}", f"{start:.2f}", f"{strands / seconds:,.0f}",
                                 *used_cells(used)))
                    costs[name].append(used[0] + used[1])
                    say("{} with {} workers, round {}: {} strands/s".format(*runs[-1][:3], runs[-1][5]))
            for name, of in (("median", statistics.median), ("best", max)):
                ours, floor = (of(rates[k]) for k in ("strandd", "floor"))
                medians.append((workers, f"strands/s, {name}", f"{ours:,.0f}", f"{floor:,.0f}", f"{ours / floor:.2f}"))
            ours, floor = (statistics.median(costs[k]) for k in ("strandd", "floor"))
            medians.append((workers, "processor us a strand, median", f"{ours:.1f}", f"{floor:.1f}",
                            f"{floor / ours:.2f}"))
        print(f"\nBacklog of {strands:,} strands, plans of {self.options.plan_bytes} bytes,"
              f" batch {self.options.batch}\n")
        table(("program", "workers", "round", "seconds", "start", "strands/s", "server us", "program us", "others"), runs)
        print()
        table(("workers", "", "strandd", "floor", "ratio"), medians)

    # --- growth

    def grow_strandd(self, strands, workers):
        """The daemon prepares its plans on empty tables, stands still while the
        backlog is written, and goes on."""
        warm = workers * self.options.batch * 4
        db = self.copy(self.empty)
        with self.daemon(db, workers) as daemon:
            db.execute("CALL bench.fill(1, %s, %s)", (warm, self.options.plan_bytes))
            self.wait_settled(daemon, warm)
            daemon.signal(signal.SIGSTOP)
            say(f"writing {strands:,} strands")
            db.execute("CALL bench.fill(%s, %s, %s)", (warm + 1, strands, self.options.plan_bytes))
            self.server.admin("CHECKPOINT")
            say("strandd goes on")
            used = Processors(self.server)
            daemon.signal(signal.SIGCONT)
            self.wait_settled(daemon, warm + strands)
        used = used.since(strands)
        self.check(db, warm + strands)
        analyzed = db.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                            " AND relkind = 'r' AND reltuples >= 0")
        if analyzed:
            raise SystemExit(f"{analyzed} tables have been analysed")
        rates = self.tenths(db, warm)
        db.drop()
        return rates, used

    def grow_floor(self, strands, workers):
        db = self.copy(self.empty)
        say(f"writing {strands:,} strands")
        db.execute("CALL bench.fill(1, %s, %s)", (strands, self.options.plan_bytes))
        self.server.admin("CHECKPOINT")
        daemon = self.daemon(db, workers)
        used = Processors(self.server)
        subprocess.run(self.floor(daemon, "--workers", str(workers), "--batch", str(self.options.batch)),
                       check=True, stdout=subprocess.DEVNULL)
        used = used.since(strands)
        self.check(db, strands)
        rates = self.tenths(db, 0)
        daemon.remove()
        db.drop()
        return rates, used

    def growth(self):
        strands = self.options.strands
        self.empty = self.backlog(0)
        rows = []
        for workers in self.options.workers:
            for name, run in (("strandd", self.grow_strandd), ("floor", self.grow_floor)):
                rates, used = run(strands, workers)
                rows.append((name, workers, *(f"{r:,.0f}" for r in rates), f"{rates[-1] / rates[0]:.2f}",
                             *used_cells(used)))
                say(f"{name} with {workers} workers: last tenth {rates[-1] / rates[0]:.2f} of the first")
        print(f"\n{strands:,} strands, begun on empty tables, never analysed: strands/s by tenth\n")
        table(("program", "workers", *range(1, 11), "last/first", "server us", "program us", "others"),
              rows)

    # --- latency

    def produce(self, db):
        """[(due, committed, answered)] in seconds from the start."""
        plan = db.value("SELECT bench.plan(%s, 1)::text", (self.options.plan_bytes,))
        done = subprocess.run(
            [str(private.build_dir() / "bench" / "produce"), "--dbname", db.dsn(private.PRODUCER),
             "--rate", str(self.options.rate), "--strands", str(self.options.rate * self.options.seconds),
             "--plan", plan], stdout=subprocess.PIPE, text=True, check=False)
        times = [tuple(int(n) / 1e9 for n in line.split()) for line in done.stdout.splitlines()]
        missing = sum(1 for t in times if not t[2])
        if done.returncode or missing:
            raise SystemExit(f"{missing} of {len(times)} strands without an answer")
        return times

    def latency_strandd(self, workers):
        db = self.copy(self.empty)
        with self.daemon(db, workers) as daemon:
            time.sleep(1)
            times = self.produce(db)
            scans = {k: v for k, v in daemon.metrics().items() if "scan_found" in k or "duplicates" in k}
            say(f"hints from scans: {scans}")
        db.drop()
        return times

    def latency_floor(self, _):
        db = self.copy(self.empty)
        daemon = self.daemon(db, 1)
        floor = subprocess.Popen(self.floor(daemon, "--listen", "--batch", str(self.options.batch)), stdout=subprocess.PIPE, text=True,
                                 preexec_fn=private.die_with_parent)
        try:
            floor.stdout.readline()
            times = self.produce(db)
        finally:
            floor.terminate()
            floor.wait()
            floor.stdout.close()
            daemon.remove()
        db.drop()
        return times

    def latency(self):
        self.empty = self.backlog(0)
        rows, worst, medians = [], [], []
        for workers in self.options.workers:
            p50s = {"strandd": [], "floor": []}
            for number in range(1, self.options.rounds + 1):
                pair = [("strandd", self.latency_strandd), ("floor", self.latency_floor)]
                for name, run in pair if number % 2 else reversed(pair):
                    times = run(workers)
                    all_ms = sorted((answered - committed) * 1e3 for _, committed, answered in times)
                    p50, p99 = (all_ms[int(len(all_ms) * q)] for q in (0.5, 0.99))
                    insert = statistics.median((committed - due) * 1e3 for due, committed, _ in times)
                    p50s[name].append(p50)
                    rows.append((name, workers if name == "strandd" else "-", number, f"{insert:.2f}", f"{p50:.2f}",
                                 f"{p99:.2f}", f"{all_ms[-1]:.1f}"))
                    buckets = {}
                    for _, committed, answered in times:
                        second = int(committed)
                        buckets[second] = max(buckets.get(second, 0), (answered - committed) * 1e3)
                    worst.append((name, number, " ".join(f"{buckets[s]:.0f}" for s in sorted(buckets))))
                    say(f"{name} with {workers} workers, round {number}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
            ours, floor = (statistics.median(p50s[k]) for k in ("strandd", "floor"))
            medians.append((workers, f"{ours:.2f}", f"{floor:.2f}", f"{ours / floor:.2f}"))
        print(f"\n{self.options.rate} strands/s from one producer for {self.options.seconds} s;"
              " INSERT committed to reply committed, in ms\n")
        table(("program", "workers", "round", "insert", "p50", "p99", "longest"), rows)
        print("\nLongest in each second, in ms\n")
        for name, number, line in worst:
            print(f"{name} {number}: {line}")
        print()
        table(("workers", "strandd p50", "floor p50", "ratio"), medians)


def numbers(text):
    return [int(n) for n in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built.add_option(parser)
    parser.add_argument("--strands", type=int, help="strands in the backlog (200000; with --growth 1000000)")
    parser.add_argument("--workers", type=numbers, default=[2, 4], help="worker threads, a list (2,4)")
    parser.add_argument("--batch", type=int, default=100, help="strands a transaction (100)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each program (3)")
    parser.add_argument("--plan-bytes", type=int, default=500, help="size of a trading plan (500)")
    parser.add_argument("--command", help="a handler that is a process, with its arguments; as many as workers"
                        " (default: an SQL function)")
    parser.add_argument("--growth", action="store_true", help="first tenth against last tenth, one round")
    parser.add_argument("--latency", action="store_true", help="single inserts at a steady rate")
    parser.add_argument("--rate", type=int, default=500, help="of --latency, strands a second (500)")
    parser.add_argument("--seconds", type=int, default=20, help="of --latency (20)")
    options = parser.parse_args()
    options.strands = options.strands or (1000000 if options.growth else 200000)
    built.check(parser, options, "strandd", "bench/floor", "bench/produce")
    with private.Cluster(settings={"shared_buffers": "1GB", "max_wal_size": "8GB"}, fsync=True) as server:
        bench = Bench(server, options)
        if options.growth:
            bench.growth()
        elif options.latency:
            bench.latency()
        else:
            bench.throughput()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
