"""The programs: strandd as a process of a test's own, strandctl, and waiting for
what they do."""

import ctypes
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

from database import OWNER, ROUTES, SERVICE


def wait_until(fn, timeout=10.0, interval=0.02, what=None):
    """Calls fn until it returns something true, and returns that; `what` names it
    in the error, a function of it at that moment."""
    end = time.monotonic() + timeout
    while True:
        value = fn()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what() if callable(what) else what or fn}; last value {value!r}")
        time.sleep(interval)


def die_with_parent():
    """In a child, before exec: SIGKILL when the thread that started it ends.  So
    start a Daemon in the main thread, or in one that lives as long as it."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def build_dir():
    """The build tree that the tests use, or None."""
    named = os.environ.get("STRANDD_BUILD")
    return pathlib.Path(named).resolve() if named else None


def program(name):
    """argv of a program of ours.  STRANDD_WRAPPER goes before it (setarch -R,
    which ThreadSanitizer may want, or a debugger)."""
    return [*shlex.split(os.environ.get("STRANDD_WRAPPER", "")), str(build_dir() / name)]


def libconfig(value, depth=0):
    """A Python value in libconfig's syntax."""
    pad = "\t" * depth
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}L" if abs(value) > 2**31 - 1 else str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        lines = "".join(f"{pad}\t{k} = {libconfig(v, depth + 1)};\n" for k, v in value.items())
        return "{\n" + lines + pad + "}"
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, str) for v in value):
        return "[" + ", ".join(libconfig(v) for v in value) + "]"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(libconfig(v, depth + 1) for v in value) + ")"
    return '"%s"' % str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def merged(base, over):
    """base with over's settings; groups are merged, everything else replaced."""
    result = dict(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


class Daemon:
    """A strandd process.  As a context manager it is started, and at the end told
    to stop by SIGTERM, which must make it exit 0.

    routes: [(tag, source, handler)] or dicts of a route's options.
    conf: settings over the tests' own, as nested dicts.
    """

    SANITIZER = re.compile(r"(WARNING: ThreadSanitizer|ERROR: AddressSanitizer|ERROR: LeakSanitizer|runtime error:)")

    def __init__(self, db, routes=None, conf=None, user=SERVICE, failpoints=None, env=None, expect_exit=0,
                 start_timeout=20.0, stop_timeout=30.0):
        self.db = db
        self.expect_exit = expect_exit
        self.start_timeout = start_timeout
        self.stop_timeout = stop_timeout
        self.process = None
        # in the cluster's directory, so that the janitor removes it too
        self.dir = tempfile.mkdtemp(prefix="daemon-", dir=db.cluster.dir)
        self.config = os.path.join(self.dir, "strandd.conf")
        self.log_file = os.path.join(self.dir, "log")
        self.stats_socket = os.path.join(self.dir, "stats.sock")
        self.env = dict(os.environ, **(env or {}))
        if failpoints:
            self.env["STRANDD_FAILPOINTS"] = failpoints
        self.settings = merged({
            "module_communication": {"database": {
                "host": db.cluster.dir, "port": int(db.cluster.settings.get("port", 5432)),
                "database": db.name, "user": user}},
            "workers": {"threads": 2},
            "scan": {"interval": "500ms"},
            # a strand fails at once, and no route is suspended, but where a test is about that
            "routes": [{"attempts": 1, "suspend_after": 0, **(dict(zip(("tag", "source", "handler"), r)) if isinstance(r, tuple) else r)}
                       for r in (routes if routes is not None else default_routes())],
            "stats": {"socket": self.stats_socket},
            "log": {"level": "debug"},
        }, conf or {})

    def write_config(self):
        with open(self.config, "w", encoding="utf-8") as f:
            for key, value in self.settings.items():
                f.write(f"{key} = {libconfig(value)};\n")
        os.chmod(self.config, 0o600)  # it may hold a password

    def start(self, ready=True):
        """Starts it, and waits until it says that it serves."""
        self.write_config()
        before = len(self.log())
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen([*program("strandd"), "--config", self.config], env=self.env,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=die_with_parent)
        if ready:
            self.wait_ready(before)
        return self

    def wait_ready(self, since=0):
        def serving():
            if self.process.poll() is not None:
                raise AssertionError(f"strandd ended with {self.process.returncode} at its start:\n{self.log()}")
            return "serving" in self.log()[since:]
        wait_until(serving, self.start_timeout, what="strandd serving; its log:\n" + self.log())

    def wait_log(self, text, timeout=10.0):
        try:
            wait_until(lambda: text in self.log(), timeout)
        except AssertionError:
            raise AssertionError(f"{text!r} not in the log within {timeout} s:\n{self.log()}") from None

    def log(self):
        try:
            with open(self.log_file, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=None):
        return self.process.wait(timeout or self.stop_timeout)

    def stop(self, expect=None):
        """SIGTERM; returns the exit code after asserting it."""
        expect = self.expect_exit if expect is None else expect
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            code = self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"strandd did not stop within {self.stop_timeout} s:\n{self.log()}") from None
        self.process = None
        log = self.log()
        assert not self.SANITIZER.search(log), log
        assert expect == "any" or code == expect, f"strandd exited {code}, not {expect}:\n{log}"
        return code

    def kill(self):
        """SIGKILL, as a crash would."""
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()
        self.process = None

    def restart(self):
        self.stop()
        return self.start()

    def metrics(self):
        """/metrics as {'name{labels}': number}, read over the stats socket."""
        import http.client
        import socket

        conn = http.client.HTTPConnection("localhost", timeout=10)
        conn.sock = socket.socket(socket.AF_UNIX)
        conn.sock.settimeout(10)
        conn.sock.connect(self.stats_socket)
        conn.request("GET", "/metrics")
        answer = conn.getresponse()
        text = answer.read().decode()
        conn.close()
        assert answer.status == 200, text
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines() if line and not line.startswith("#")}

    def remove(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start() if self.process is None else self
        except BaseException:
            self.remove()
            raise

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self.stop()
            else:
                self.kill()
        finally:
            self.remove()


def default_routes():
    """The specification's five routes, with handlers of schema test."""
    handlers = {"dm:evaluate_plan": "test.evaluate_plan", "trader:execute_plan": "test.execute_plan"}
    return [(tag, source, handlers.get(tag, "test.nothing")) for tag, source, _ in ROUTES]


def strandctl(db, *args, user=OWNER, stdin=None, env=None, timeout=120):
    """Runs strandctl on a database; CompletedProcess with text."""
    return subprocess.run([*program("strandctl"), "--dbname", db.dsn(user), *args], input=stdin, text=True,
                          capture_output=True, check=False, timeout=timeout,
                          env=dict(os.environ, **(env or {})))
