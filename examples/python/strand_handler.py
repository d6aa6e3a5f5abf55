"""Handlers of strandd's routes in Python: the lines of JSON are this module's business.

    import strand_handler

    def evaluate(strand, request):
        yield {"kind": "decision", "symbol": strand["symbol"], "tags": ["alpha:decision_feedback"]}

    strand_handler.run(evaluate)

The standard library only, Python 3.9 or later.  One process handles one strand at a
time; a route's `processes` says how many there are.

What a handler can rely on, from run() on:
- print(), and C code that writes to descriptor 1, go to standard error, which is
  strandd's log.  (What was flushed before is too early.)  Descriptor 0 is empty, so a
  program that is started reads no request.
- Numbers are exact both ways: integers of any size are int (those that Python's own limit
  on digits stops are Decimal), all others are decimal.Decimal (float(x) makes a float).
- SIGTERM lets the strand that is being handled finish, and then ends the process.
"""

import json
import math
import os
import signal
import sys
import time
import traceback
from decimal import Decimal

__all__ = ["Refused", "run"]

PIECE = 1 << 16         # bytes that are read at a time
HOLD = 0.005            # seconds of work whose answers may wait for one another
ERROR_LENGTH = 10000    # characters

_string = json.JSONEncoder(ensure_ascii=False).encode
_decode = json.JSONDecoder(parse_float=Decimal).decode


class Refused(Exception):
    """Raised by a handler: this strand fails for good, and is not tried again."""


def run(handle):
    """Handles strands until strandd has no more, then returns.  Call it once, at the end,
    in the main thread.

    handle(strand, request) gets the strand's row as a dict, and the request that it came
    in: "tag", "source" (the table), "attempt" (1 at first), "deadline_ms" (strandd ends a
    process that gives no answer for so long).  It returns its replies: an iterable of
    dicts (so it may be a generator), one dict, or None.  A reply's keys are columns of
    the receiving module's table, and "tags"; strandd(8) has the rest.

    What it raises fails the strand: Refused for good; any other Exception is tried again
    as the route says, and its traceback goes to the log.  So does a reply that is no JSON:
    NaN, infinity, half a surrogate pair, an object of a type that JSON lacks.

    Answers are written when no further request is at hand, or 5 ms of work wait.  Where
    delivery is "at-most-once" leave process.in_flight at 1, as it is by default: then
    each is written at once.
    """
    requests, answers = _take_over()
    channel = _Channel(requests, answers)
    signal.signal(signal.SIGTERM, channel.on_sigterm)
    channel.answer(b'{"ready":true}\n')
    try:
        for line in channel.lines():
            channel.answer(_answer(handle, line))
    except _Leave:
        pass
    finally:
        channel.flush()


# --- one strand --------------------------------------------------------------------


def _answer(handle, line):
    request = _parse(line)
    strand = request["strand"]
    head = '{"id":%s,"attempt":%d' % (_string(strand["id"]), request["attempt"])
    try:
        text = '%s,"replies":[%s]}\n' % (head, ",".join(map(_reply, _listed(handle(strand, request)))))
        return text.encode()
    except Refused as error:
        return _error(head, str(error) or "refused", ',"retry":false')
    except Exception as error:  # whatever it is, it is this strand's alone
        traceback.print_exc()
        return _error(head, "".join(traceback.format_exception_only(type(error), error)).strip(), "")


def _parse(line):
    text = line.decode()
    try:
        return _decode(text)
    except ValueError:  # an integer of more digits than int() takes, or no JSON
        return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def _listed(result):
    if result is None:
        return ()
    if isinstance(result, dict):
        return (result,)
    if isinstance(result, (str, bytes)):
        raise TypeError("the handler returned %s, not replies" % type(result).__name__)
    return result


def _reply(reply):
    if not isinstance(reply, dict):
        raise TypeError("a reply is a dict, not %s" % type(reply).__name__)
    return _json(reply)


def _error(head, text, more):
    # what an exception says may hold anything, and its own answer must not fail
    text = text[:ERROR_LENGTH].encode("utf-8", "replace").decode()
    return ('%s,"error":%s%s}\n' % (head, _string(text), more)).encode()


def _json(value):
    """As json.dumps, but a Decimal is the number that it says."""
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, dict):
        return "{%s}" % ",".join([_key(k) + ":" + _json(v) for k, v in value.items()])
    if isinstance(value, (list, tuple)):
        return "[%s]" % ",".join([_json(v) for v in value])
    if isinstance(value, Decimal) and not value.is_finite() or isinstance(value, float) and not math.isfinite(value):
        raise ValueError("%s is no number in JSON" % value)
    if isinstance(value, Decimal) or type(value) is int:
        return str(value)
    return json.dumps(value)


def _key(key):
    if not isinstance(key, str):
        raise TypeError("a key of an object is a str, not %s" % type(key).__name__)
    return _string(key)


# --- the pipes ---------------------------------------------------------------------


def _take_over():
    """Descriptors for requests and answers that nobody else knows; 0 and 1 are harmless."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.stdout:  # and what was printed before, which this flushes
        sys.stdout.reconfigure(line_buffering=True)
    return requests, answers


class _Leave(BaseException):
    """SIGTERM came while there was nothing to do."""


class _Channel:
    """Lines in, lines out, both buffered."""

    def __init__(self, requests, answers):
        self.requests, self.answers = requests, answers
        self.out = bytearray()
        self.since = 0.0    # when the work began whose answers are held
        self.idle = self.leaving = False

    def on_sigterm(self, *_):
        self.leaving = True
        if self.idle:
            raise _Leave

    def lines(self):
        """Every whole line, until the input ends or SIGTERM comes."""
        parts = []
        while True:
            piece = self.read()
            if not piece:   # what strandd did not finish is no request
                return
            *lines, rest = piece.split(b"\n")
            if lines:
                lines[0] = b"".join(parts) + lines[0]
                parts.clear()
            parts.append(rest)
            for line in lines:
                yield line
                if self.leaving:
                    return

    def read(self):
        self.flush()
        self.idle = True    # from here on SIGTERM interrupts
        piece = b"" if self.leaving else os.read(self.requests, PIECE)
        self.idle = False
        self.since = time.monotonic()
        return piece

    def answer(self, line):
        self.out += line
        if time.monotonic() - self.since > HOLD:
            self.flush()

    def flush(self):
        while self.out:
            del self.out[:os.write(self.answers, self.out)]
        self.since = time.monotonic()
