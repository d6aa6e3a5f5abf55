"""What the tests of SIGHUP share: change a daemon's configuration, and load on it."""

import os
import signal
import threading
import time

import cluster as private
from daemon import merged

RELOADED = "reloaded: serving"
REFUSED = "nothing is changed"


def write_config(d):
    """In one step: a daemon that reads it meanwhile sees the old file or the new one."""
    place = d.config
    d.config = place + ".new"
    d.write_config()
    os.replace(d.config, place)
    d.config = place


def hang_up(d, expect=RELOADED, timeout=30.0, text=None, **changes):
    """Writes the settings with these changes (`text`: that text instead), sends SIGHUP
    and waits for the words in the log.  Returns what was logged since."""
    before = len(d.log())
    d.settings = merged(d.settings, changes)
    if text is None:
        write_config(d)
    else:
        with open(d.config, "w", encoding="utf-8") as f:
            f.write(text)
    d.signal(signal.SIGHUP)
    if expect:
        private.wait_until(lambda: expect in d.log()[before:], timeout, what=lambda: f"{expect!r} in\n{d.log()[before:]}")
    return d.log()[before:]


def routes(*rows, **options):
    """Rows (tag, source, handler) as a configuration has them."""
    return [{"tag": tag, "source": source, "handler": handler, **options} for tag, source, handler in rows]


def generations(d):
    return d.metrics()["strandd_generations"]


class Producer(threading.Thread):
    """Inserts a strand each 1/rate seconds, each in a transaction of its own."""

    def __init__(self, db, table, prefix, tag, rate):
        super().__init__(daemon=True)
        self.conn = db.connect()
        self.statement = f"INSERT INTO {table} (id, tags) VALUES (%s, %s)"
        self.prefix, self.tags, self.rate = prefix, f'["{tag}"]', rate
        self.count = 0
        self.fault = None
        self.done = threading.Event()

    def run(self):
        try:
            start = time.monotonic()
            with self.conn.cursor() as cur:
                while not self.done.is_set():
                    self.count += 1
                    cur.execute(self.statement, (f"{self.prefix}{self.count}", self.tags))
                    ahead = start + self.count / self.rate - time.monotonic()
                    if ahead > 0:
                        time.sleep(ahead)
        except BaseException as fault:  # pylint: disable=broad-except
            self.fault = fault

    def finish(self):
        self.done.set()
        self.join()
        if self.fault:
            raise self.fault
        return self.count


def latencies(db, source, prefix, tag, like):
    """(longest, 99th percentile) in milliseconds from a strand's tagging to its
    receipt, by the database's clock; of strands whose id is like that."""
    return db.execute(
        "SELECT max(ms)::float8, percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::float8 FROM"
        f" (SELECT extract(epoch FROM r.finished_at - s.tagged_at) * 1000 AS ms FROM {source} s JOIN {prefix}_receipts r"
        f"  ON r.strand_id = s.id JOIN {prefix}_routes o USING (route) WHERE o.tag = %s AND s.id LIKE %s) x",
        (tag, like))[0]
