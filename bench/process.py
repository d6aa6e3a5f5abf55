#!/usr/bin/python3
"""What handlers that are processes can do to the service, and to the other routes.

    make bench && bench/process.py --build BUILD_DIRECTORY --hung --memory --crashes --flood

Each part runs on fresh databases of a private server:

--hung     throughput of an SQL route while the processes of another route hang, each
           ended at its deadline and started anew, beside the same with nothing for
           them to do; in turn, medians.
--memory   resident memory of strandd and of one process, over many strands through a
           route of processes.
--crashes  every other strand kills its process.  Processes that are not collected,
           descriptors and threads before and after, and starts a second.
--flood    a process writes without end to standard output, one to standard error in
           one line, and one in many: the peak of strandd's memory, what the strand's
           receipt says, and the lines of the log.
"""

import argparse
import collections
import os
import statistics
import time

import built
import cluster as private
import service
import throughput

PLAN = "dm:evaluate_plan"
TRADE = "trader:execute_plan"


def status(pid, field):
    """A number of /proc/PID/status; memory in KiB."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(field + ":"))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid):
    """{pid: state} of its processes."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8") as f:
                words = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(words[1]) == pid:
            found[int(name)] = words[0]
    return found


def handler(options):
    return [str(private.build_dir() / "bench" / "handler")] if not options.command else options.command.split()


# --- a route that hangs -------------------------------------------------------------

class Beside(throughput.Bench):
    """An SQL route beside one whose processes answer nothing."""

    def route(self, workers):
        return {**throughput.ROUTE, "handler": "bench.evaluate_plan"}

    def daemon(self, db, workers):
        hangs = {"tag": TRADE, "source": "DM_strands", "command": ["/bin/sleep", "1000000"], "processes": 4,
                 "attempts": 1000, "suspend_after": 0, "backoff": {"initial": "1ms", "cap": "1ms"},
                 "process": {"deadline": "1s", "grace": "100ms"}}
        return private.Daemon(db, routes=[self.route(workers), hangs], conf={
            "workers": {"threads": workers, "batch": self.options.batch}, "log": {"level": "info"}})

    def check(self, db, strands):
        done = db.value("SELECT count(*) FROM dm_receipts WHERE state = 'done'")
        if done != strands:
            raise SystemExit(f"{strands} strands, {done} receipts")

    def settled(self, daemon):
        return sum(v for k, v in daemon.metrics().items() if k.startswith("strandd_settled_total") and PLAN in k)

    def copy(self, template):
        db = super().copy(template)
        if self.hanging:
            service.publish_many(db, "dm_strands", "DM_hangs_", 100, [TRADE])
        return db

    def compare(self):
        template = self.backlog(self.options.strands)
        rates = {False: [], True: []}
        for number in range(self.options.rounds):
            for self.hanging in (False, True) if number % 2 else (True, False):
                seconds, _, used = self.run_strandd(template, self.options.strands, 2)
                rates[self.hanging].append(self.options.strands / seconds)
                throughput.say(f"round {number + 1}, {'hung' if self.hanging else 'idle'}:"
                               f" {rates[self.hanging][-1]:,.0f} strands/s, others {used[2]:.0%}")
        idle, hung = (statistics.median(rates[k]) for k in (False, True))
        pairs = sorted(h / i for i, h in zip(rates[False], rates[True]))
        print(f"\n{self.options.strands:,} strands of an SQL route, 2 workers, medians of {self.options.rounds}:"
              f" {idle:,.0f}/s beside an idle route of processes, {hung:,.0f}/s beside a hung one: {hung / idle:.2f}"
              f" (pairs {pairs[0]:.2f} to {pairs[-1]:.2f})")


# --- memory -------------------------------------------------------------------------

def memory(server, options):
    bench = throughput.Bench(server, options)
    db = bench.copy(bench.backlog(options.strands))
    rows = []
    with bench.daemon(db, 4) as daemon:
        pid, step = daemon.process.pid, options.strands // 10
        while len(rows) < 10:
            settled = bench.settled(daemon)
            if settled >= step * (len(rows) + 1):
                rows.append((f"{settled:,.0f}", status(pid, "VmRSS"), status(pid, "VmHWM"),
                             max((status(c, "VmRSS") for c in children(pid)), default=0), descriptors(pid)))
            time.sleep(0.1)
    print(f"\n{options.strands:,} strands through 4 processes; memory in KiB\n")
    throughput.table(("settled", "strandd", "its peak", "largest process", "descriptors"), rows)
    db.drop()


# --- crashes ------------------------------------------------------------------------

CRASHES = """
import os, re, signal, sys
for line in sys.stdin.buffer:
    name = re.search(rb'"id": ?"([^"]*)"', line).group(1).decode()
    if int(name[3:]) % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(1, ('{"id":"%s","replies":[]}\\n' % name).encode())
"""


def crashes(server, options):
    db = server.database()
    n = options.deaths * 2
    db.execute("INSERT INTO ad_strands (id, tags) SELECT 'AD_' || i, jsonb_build_array(%s) FROM generate_series(1, %s) i",
               (PLAN, n))
    route = {"tag": PLAN, "source": "AD_strands", "command": ["/usr/bin/python3", "-S", "-E", "-c", CRASHES], "processes": 4,
             "attempts": 1, "suspend_after": 0, "process": {"in_flight": 1, "restart_rate": 6000}}
    with private.Daemon(db, [route], {"log": {"level": "info"}}) as daemon:
        pid, begin = daemon.process.pid, time.monotonic()
        seen, zombies = [], 0
        settled = "SELECT count(*) FROM dm_receipts WHERE finished_at IS NOT NULL"
        while (over := db.value(settled)) < n:
            zombies = max(zombies, list(children(pid).values()).count("Z"))
            if over >= n * len(seen) / 5:
                seen.append((f"{over:,}", descriptors(pid), status(pid, "Threads"), status(pid, "VmRSS"), len(children(pid))))
            time.sleep(0.2)
        took = time.monotonic() - begin
        time.sleep(1)
        seen.append((f"{n:,}", descriptors(pid), status(pid, "Threads"), status(pid, "VmRSS"), len(children(pid))))
        states = collections.Counter(s for s, in db.execute("SELECT state FROM dm_receipts"))
        charged = db.value("SELECT count(*) FROM dm_receipts WHERE state = 'failed' AND right(strand_id, 1)::int % 2 = 0")
        left = list(children(pid).values()).count("Z")
    print(f"\n{options.deaths:,} processes killed by their strands, 4 at a time: {took:.0f} s,"
          f" {options.deaths / took / 4:.1f} deaths a second each; receipts {dict(states)}, innocent ones that failed {charged};"
          f" most zombies seen at once {zombies}, left {left}\n")
    throughput.table(("over", "descriptors", "threads", "memory KiB", "processes"), seen)
    for error, times in db.execute("SELECT error, count(*) FROM dm_receipts WHERE state = 'failed' GROUP BY 1"):
        print(f"{times:,}: {error}")
    db.drop()


# --- floods -------------------------------------------------------------------------

def floods(server, options):
    zeros = f"read line; exec head -c {options.bytes} /dev/zero"
    cases = (("standard output, no newline", zeros),
             ("standard output, short lines", f"read line; yes | exec head -c {options.bytes}"),
             ("standard error, no newline", zeros + " >&2"),
             ("standard error, short lines", f"read line; yes 'a line of a handler' | head -c {options.bytes} >&2"))
    rows = []
    for name, command in cases:
        db = server.database()
        service.publish(db, "ad_strands", "AD_1", [PLAN])
        route = {"tag": PLAN, "source": "AD_strands", "command": ["/bin/sh", "-c", command], "attempts": 1,
                 "suspend_after": 0, "process": {"deadline": "10min"}}
        with private.Daemon(db, [route], {"log": {"level": "info"}}) as daemon:
            before = status(daemon.process.pid, "VmRSS")
            begin = time.monotonic()
            private.wait_until(lambda db=db: db.value("SELECT count(*) FROM dm_receipts WHERE state = 'failed'"), 600, 0.2)
            took = time.monotonic() - begin
            peak = status(daemon.process.pid, "VmHWM")
            lines = len(daemon.log().splitlines())
        rows.append((name, before, peak, f"{took:.1f}", lines, db.value("SELECT error FROM dm_receipts")[:90]))
        db.drop()
    print(f"\nUp to {options.bytes:,} bytes; memory in KiB\n")
    throughput.table(("to", "before", "peak", "seconds", "log lines", "receipt"), rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built.add_option(parser)
    for part in ("hung", "memory", "crashes", "flood"):
        parser.add_argument(f"--{part}", action="store_true")
    parser.add_argument("--strands", type=int, help="of --hung (200000) and --memory (1000000)")
    parser.add_argument("--rounds", type=int, default=5, help="of --hung (5)")
    parser.add_argument("--deaths", type=int, default=10000, help="of --crashes (10000)")
    parser.add_argument("--bytes", type=int, default=1000000000, help="of --flood (1000000000)")
    parser.add_argument("--command", help="the handler of --memory (default: bench/handler)")
    options = parser.parse_args()
    built.check(parser, options, "strandd")
    options.plan_bytes, options.batch, options.growth, options.workers = 500, 100, False, [4]
    strands = options.strands
    with private.Cluster(settings={"shared_buffers": "1GB", "max_wal_size": "8GB"}, fsync=True) as server:
        if options.hung:
            options.strands = strands or 200000
            Beside(server, options).compare()
        if options.memory:
            options.strands = strands or 1000000
            options.command = " ".join(handler(options))
            memory(server, options)
        if options.crashes:
            crashes(server, options)
        if options.flood:
            floods(server, options)


if __name__ == "__main__":
    main()
