"""A handler on examples/python/strand_handler.py that does what a strand's "kind" says;
"arg" is its argument."""

import os
import subprocess
import sys
import time
from decimal import Decimal

import strand_handler


class Odd:
    """Nothing that JSON has."""


class Broken(Exception):
    def __str__(self):
        raise ValueError("says nothing")


def raises(error):
    raise error


def some_and_then_fails():
    yield {"n": 1}
    raise ValueError("after the first")


def loop():
    ring = {}
    ring["ring"] = ring
    return ring


def wait(seconds):
    with open(os.environ["STARTED"], "w", encoding="ascii"):
        pass
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        time.sleep(0.01)
    return {"waited": True}


KINDS = {
    "echo": lambda arg: {"got": arg},
    "none": lambda arg: None,
    "list": lambda arg: [{"n": n} for n in range(arg)],
    "generator": lambda arg: ({"n": n} for n in range(arg)),
    "raw": lambda arg: arg,
    "type": lambda arg: {"type": type(arg).__name__},
    "print": lambda arg: print(arg),
    "write": lambda arg: os.write(1, arg.encode()) and None,
    "child": lambda arg: {"read": subprocess.run(["cat"], stdout=subprocess.PIPE, check=True).stdout.decode()},
    "decimal": lambda arg: {"d": Decimal(arg)},
    "float": lambda arg: {"f": float(arg)},
    "values": lambda arg: {"v": (True, False, None, 1, -0.5, 1e300, [], {}, 'Ä"\\\n')},
    "surrogate": lambda arg: {"s": "\ud800"},
    "surrogate error": lambda arg: raises(ValueError("\udcff")),
    "odd": lambda arg: {"o": Odd()},
    "odd key": lambda arg: {1: 2},
    "raise": lambda arg: raises(LookupError(arg)),
    "broken": lambda arg: raises(Broken()),
    "refuse": lambda arg: raises(strand_handler.Refused(arg)),
    "half": lambda arg: some_and_then_fails(),
    "loop": lambda arg: loop(),
    "exit": lambda arg: sys.exit(arg),
    "sleep": wait,
}


def handle(strand, request):
    if strand["kind"] == "request":
        return {"tag": request["tag"], "attempt": request["attempt"]}
    return KINDS[strand["kind"]](strand["arg"])


if __name__ == "__main__":
    print("before run")
    strand_handler.run(handle)
    print("after run")
