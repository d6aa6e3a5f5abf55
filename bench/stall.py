"""What attach_stall.py and cleanup_stall.py share: producers that insert one strand
after the other, each in a transaction of its own, and note how long it took."""

import multiprocessing
import os
import time

import psycopg2

import built  # noqa: F401
import cluster as private  # noqa: F401
from sql_support import plain_specification  # noqa: F401


def produce(dsn, rate, stop, pipe):
    """Inserts at a steady rate, without a pause where it is None; sends
    [(start, seconds)] at the end."""
    conn = psycopg2.connect(dsn)
    conn.autocommit = True
    seen = []
    with conn.cursor() as cur:
        cur.execute("PREPARE one(text) AS INSERT INTO ad_strands (id, symbol, trading_plan, tags) VALUES ($1, 'BTC',"
                    " jsonb_build_object('note', repeat(md5($1), 12)), '[\"dm:evaluate_plan\"]')")
        n, due = 0, time.monotonic()
        while not stop.is_set():
            n += 1
            if rate:
                due = max(due + 1 / rate, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
            begun = time.monotonic()
            cur.execute("EXECUTE one(%s)", (f"P{os.getpid()}_{n}",))
            seen.append((begun, time.monotonic() - begun))
    conn.close()
    pipe.send(seen)


class Producers:
    """So many processes that produce, from start to finish."""

    def __init__(self, dsn, n, rate=None):
        self.stop = multiprocessing.Event()
        self.pipes, self.processes = [], []
        for _ in range(n):
            ours, theirs = multiprocessing.Pipe()
            self.processes.append(multiprocessing.Process(target=produce, args=(dsn, rate, self.stop, theirs), daemon=True))
            self.pipes.append(ours)

    def start(self):
        for p in self.processes:
            p.start()

    def finish(self):
        """Ends them; what all of them have seen."""
        self.stop.set()
        seen = [s for pipe in self.pipes for s in pipe.recv()]
        for p in self.processes:
            p.join()
        return seen
