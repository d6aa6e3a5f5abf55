"""What the test_process_* files share: a route whose handler is process_handler.py."""

import collections
import os
import pathlib

import policy_support as p
import service

PLAN = p.PLAN
LABELS = p.LABELS
HANDLER = ["/usr/bin/python3", str(pathlib.Path(__file__).resolve().parent / "process_handler.py")]
QUICK = {"initial": "1ms", "cap": "1ms"}
publish, receipt, in_state, marked, tags = p.publish, p.receipt, p.in_state, p.marked, p.tags


def calls_dir(db):
    """Where the handlers of this database note what they were handed; any user's."""
    place = os.path.join(db.cluster.dir, f"calls-{db.name}")
    os.makedirs(place, exist_ok=True)
    os.chmod(place, 0o777)
    return place


def notes(db):
    """(time, strand id, attempt) of each call."""
    place = calls_dir(db)
    for name in os.listdir(place):
        with open(os.path.join(place, name), encoding="utf-8") as f:
            for line in f:
                strand, attempt, at = line.split()
                yield float(at), strand, int(attempt)


def calls(db):
    """{strand id: [attempts that a process has seen]}"""
    seen = collections.defaultdict(list)
    for _, strand, attempt in notes(db):
        seen[strand].append(attempt)
    return {strand: sorted(attempts) for strand, attempts in seen.items()}


def route(db, environment=(), process=None, **options):
    return {"tag": PLAN, "source": "AD_strands", "command": HANDLER, "backoff": QUICK,
            "process": {"environment": [f"CALLS={calls_dir(db)}", *environment], "grace": "500ms", **(process or {})},
            "suspend_after": 0, **options}


def serve(db, daemon, environment=(), process=None, conf=None, **options):
    return daemon([route(db, environment, process, **options)], conf or {})


def all_done(db, n, wait_until, timeout=30):
    wait_until(lambda: list(service.states(db, "dm", PLAN).values()).count("done") == n, timeout,
               what=lambda: f"{n} done, not {collections.Counter(service.states(db, 'dm', PLAN).values())}: "
               f"{db.execute('SELECT strand_id, attempt, error FROM dm_receipts WHERE error IS NOT NULL LIMIT 5')}")


def replies(db):
    """How many replies each strand has."""
    return dict(db.execute("SELECT substr(t, 17), count(*) FROM dm_strands, jsonb_array_elements_text(tags) t"
                           " WHERE t LIKE 'original_strand:%' GROUP BY 1"))
