"""A handler process of the tests, which does what a strand's column "kind" says; the
column "timeframe" is its argument.  It speaks the protocol by itself, so that it can
break it too."""

import json
import os
import signal
import sys
import time


def say(text):
    sys.stdout.buffer.write(text.encode() + b"\n")
    sys.stdout.buffer.flush()


def answer(request, **members):
    say(json.dumps({"id": request["strand"]["id"], "attempt": request["attempt"], **members}))


def log_call(request):
    """What was handed out, for tests that count; in the directory that the route names."""
    with open(os.path.join(os.environ["CALLS"], str(os.getpid())), "a", encoding="utf-8") as f:
        f.write(f"{request['strand']['id']} {request['attempt']} {time.time()}\n")


def handle(request):
    strand = request["strand"]
    kind, argument = strand["kind"], strand["timeframe"]
    log_call(request)
    if kind == "raise":
        answer(request, error=argument or "asked to fail")
    elif kind == "final":
        answer(request, error="asked to fail for good", retry=False)
    elif kind == "until" and request["attempt"] < int(argument):
        answer(request, error=f"not before attempt {argument}")
    elif kind == "raw":
        say(argument.replace("ID", strand["id"]))
    elif kind == "exit":
        sys.stdout.flush()
        os._exit(int(argument))
    elif kind == "crash_once" and not os.path.exists(argument):
        with open(argument, "w", encoding="utf-8"):
            os._exit(1)
    elif kind == "kill":
        os.kill(os.getpid(), int(argument))
    elif kind == "stderr":
        sys.stderr.write(argument + "\n")
        sys.stderr.flush()
        answer(request, replies=[])
    elif kind == "flood":
        for _ in range(200):
            os.write(int(argument), b"x" * (1 << 20))
        answer(request, replies=[])
    elif kind == "replies":
        say('{"id":%s,"replies":%s}' % (json.dumps(strand["id"]), argument))
    else:
        if kind == "sleep":
            time.sleep(float(argument))
        answer(request, replies=[{"kind": "reply", "symbol": str(request["attempt"])}])


def main():
    if os.environ.get("IGNORE_TERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.environ.get("READY"):
        time.sleep(float(os.environ["READY"]))
        say('{"ready":true}')
    for line in sys.stdin.buffer:
        handle(json.loads(line))


if __name__ == "__main__":
    main()
