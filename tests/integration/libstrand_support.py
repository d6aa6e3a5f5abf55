"""What the test_libstrand_* files share: the programs that drive the library."""

import json
import signal
import subprocess
import threading

import cluster as private

PLAN = "dm:evaluate_plan"


def argv(build, program):
    return [str(build / "tests" / "integration" / program)]


class Answer:
    """What one call of the library's client answered."""

    def __init__(self, lines):
        self.code, self.sqlstate, self.error = lines[0].split("\t", 2)
        self.lines = lines[1:]

    @property
    def rows(self):
        return [json.loads(line) for line in self.lines]

    def __repr__(self):
        return f"{self.code} {self.sqlstate} {self.error} {self.lines}"


class Client:
    """drive_client with one client; .opened is what strand_client_open answered."""

    def __init__(self, build, dsn, module="alpha", table=None, prefix=()):
        command = [*prefix, *argv(build, "drive_client"), dsn, module, *([table] if table else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.opened = self._answer()

    def _answer(self):
        lines = []
        for line in self.process.stdout:
            text = line.decode().rstrip("\n")
            if text == ".":
                return Answer(lines)
            lines.append(text)
        raise AssertionError(f"drive_client ended: {lines} {self.process.stderr.read()}")

    def call(self, *fields):
        line = b"\t".join(b"-" if f is None else f if isinstance(f, bytes) else str(f).encode() for f in fields)
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()
        return self._answer()

    def write(self, data, *tags, table=None):
        return self.call("write", table, data if isinstance(data, (str, bytes)) else json.dumps(data), *tags)

    def many(self, rows, *tags, table=None):
        return self.call("many", table, len(rows), *(r if isinstance(r, str) else json.dumps(r) for r in rows), *tags)

    def read(self, strand, table=None):
        return self.call("read", table, strand)

    def recent(self, *tags, limit=10, table=None):
        return self.call("recent", table, limit, *tags)

    def close(self):
        """It must end well, and have said nothing."""
        self.process.stdin.close()
        said = self.process.stderr.read().decode()
        assert self.process.wait(60) == 0 and not said, said
        self.process.stdout.close()
        self.process.stderr.close()


class Listener:
    """drive_listener; what it printed is in .events and .seen."""

    def __init__(self, build, dsn, module="-", interval=600_000, pause=0, tags=(), prefix=()):
        pairs = [word for pair in tags for word in pair]
        self.process = subprocess.Popen([*prefix, *argv(build, "drive_listener"), dsn, module, str(interval),
                                         str(pause), *pairs],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.events = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.events.append(line.decode().rstrip("\n"))

    @property
    def seen(self):
        """[(tag, id)] in the order in which they came."""
        return [tuple(e.split("\t")[:2]) for e in list(self.events) if e.count("\t") == 2]

    @property
    def ids(self):
        return [strand for _, strand in self.seen]

    @property
    def rows(self):
        return [json.loads(e.split("\t", 2)[2]) for e in list(self.events) if e.count("\t") == 2]

    def started(self, wait_until):
        wait_until(lambda: "started" in self.events, what=lambda: f"started: {self.events}")
        return self

    def stop(self):
        """SIGTERM: it must end well."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.reader.join()
        self.process.stdout.close()
        assert code == 0 and self.events[-1] == "stopped", (code, self.events[-5:])

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join()


def backends(db, program="libstrand"):
    return [pid for pid, in db.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name"
                                       " LIKE %s", (db.name, program + "%"))]


def terminate(db, program="libstrand"):
    """Ends the library's connections; how many."""
    pids = backends(db, program)
    for pid in pids:
        db.cluster.admin(f"SELECT pg_terminate_backend({pid})")
    return len(pids)


wait_until = private.wait_until
