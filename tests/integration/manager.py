"""A service manager of a test's own: the other end of NOTIFY_SOCKET."""

import os
import shlex
import socket
import threading
import time

import cluster as private


class Manager(threading.Thread):
    """Collects what a daemon says: [(seconds, {variable: value})], by the monotonic
    clock.  `env` is for the daemon."""

    def __init__(self, place, watchdog_ms=None):
        super().__init__(daemon=True)
        self.path = os.path.join(str(place), "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.said = []
        self.env = {"NOTIFY_SOCKET": self.path}
        self.watchdog = watchdog_ms / 1000 if watchdog_ms else None
        if watchdog_ms:
            self.env["WATCHDOG_USEC"] = str(watchdog_ms * 1000)
        self.start()

    def run(self):
        while True:
            text = self.socket.recv(8192).decode()
            if text == "END":
                return
            self.said.append((time.monotonic(), dict(line.split("=", 1) for line in text.splitlines())))

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"END", self.path)
        self.join()
        self.socket.close()

    def values(self, name, since=0.0):
        return [(at, said[name]) for at, said in list(self.said) if name in said and at >= since]

    def status(self):
        seen = self.values("STATUS")
        return seen[-1][1] if seen else ""

    def wait(self, name, value=None, since=0.0, timeout=20.0):
        """Until it was said (`value`: so, or a text that begins so); when."""
        def found():
            return [at for at, said in self.values(name, since) if value is None or said.startswith(value)]
        return private.wait_until(found, timeout, what=lambda: f"{name}={value}; said: {self.said}")[0]

    def longest_silence(self, since, until):
        """Of WATCHDOG=1, in seconds, within this time."""
        times = [since, *(at for at, _ in self.values("WATCHDOG", since) if at < until), until]
        return max(b - a for a, b in zip(times, times[1:]))


def watched(monkeypatch):
    """Lets daemons bear WATCHDOG_PID: their own, as a service manager sets it."""
    before = os.environ.get("STRANDD_WRAPPER", "")
    shell = "export WATCHDOG_PID=$$; exec \"$@\""
    monkeypatch.setenv("STRANDD_WRAPPER", f"{before} sh -c {shlex.quote(shell)} sh".strip())
