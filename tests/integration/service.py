"""What the test_service_* files share: write strands, read receipts, start a
daemon that must refuse."""

import json
import os
import subprocess
import tempfile

import cluster as private


def plain(value):
    """A parameter as psycopg2 takes it: objects and arrays as JSON text."""
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def publish(db, table, strand_id, tags, **columns):
    """Inserts one strand; returns its id."""
    columns = {"id": strand_id, "tags": tags, **columns}
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", [plain(v) for v in columns.values()])
    return strand_id


def publish_many(db, table, prefix, count, tags, **columns):
    """Inserts `count` strands prefix1.. in one statement."""
    names = "".join(f", {name}" for name in columns)
    marks = "".join(", %s" for _ in columns)
    db.execute(f"INSERT INTO {table} (id, tags{names}) SELECT %s || i, %s{marks} FROM generate_series(1, %s) i",
               [prefix, json.dumps(tags), *[plain(v) for v in columns.values()], count])


def receipt(db, prefix, strand_id, tag):
    """The receipt as a dict, or None."""
    rows = db.execute(f"SELECT to_jsonb(r) FROM {prefix}_receipts r JOIN {prefix}_routes o USING (route)"
                      " WHERE r.strand_id = %s AND o.tag = %s", (strand_id, tag))
    return rows[0][0] if rows else None


def final(db, prefix, strand_id, tag, timeout=15.0):
    """Waits for the receipt that stays, and returns it."""
    def settled():
        found = receipt(db, prefix, strand_id, tag)
        return found if found and found["state"] not in ("running", "retry") else None
    return private.wait_until(settled, timeout, what=f"a final receipt of {strand_id} for {tag}")


def states(db, prefix, tag):
    """{strand id: state} of a route's receipts."""
    return dict(db.execute(f"SELECT r.strand_id, r.state FROM {prefix}_receipts r JOIN {prefix}_routes o"
                           " USING (route) WHERE o.tag = %s", (tag,)))


def count_receipts(db, prefix, tag):
    return db.value(f"SELECT count(*) FROM {prefix}_receipts r JOIN {prefix}_routes o USING (route)"
                    " WHERE o.tag = %s", (tag,))


def function(db, text, name="test.h", argument="strand jsonb", returns="SETOF jsonb", language="plpgsql",
             grant=True):
    """Makes (or replaces) a handler that the service may call; returns its name."""
    db.execute(f"CREATE OR REPLACE FUNCTION {name}({argument}) RETURNS {returns} LANGUAGE {language} AS $h$ {text} $h$")
    kind = argument.split(" ", 1)[1]
    if grant:
        db.execute(f"GRANT EXECUTE ON FUNCTION {name}({kind}) TO {private.SERVICE}")
    else:
        db.execute(f"REVOKE ALL ON FUNCTION {name}({kind}) FROM PUBLIC")
    return name


def run_with_text(text, *args, env=None, timeout=20):
    """strandd with a configuration file of this text; (exit code, log, path)."""
    with tempfile.TemporaryDirectory(prefix="strandd-conf-") as place:
        path = os.path.join(place, "strandd.conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, 0o600)
        done = run("--config", path, *args, env=env, timeout=timeout)
        assert not private.Daemon.SANITIZER.search(done.stderr), done.stderr
        return done.returncode, done.stdout + done.stderr, path


def run(*args, env=None, timeout=20):
    return subprocess.run([*private.program("strandd"), *args], env=dict(os.environ, **(env or {})),
                          stdin=subprocess.DEVNULL, text=True, capture_output=True, check=False, timeout=timeout)


def refused(db, code=2, **options):
    """Starts a daemon that must end by itself with `code`; returns its log."""
    d = private.Daemon(db, **options)
    try:
        d.start(ready=False)
        ended = d.wait(20)
        d.process = None
        log = d.log()
        assert not d.SANITIZER.search(log), log
        assert ended == code, f"exit {ended}, not {code}:\n{log}"
        return log
    finally:
        d.remove()


def sessions(db):
    """pg_stat_activity's rows of the daemon's sessions.  An ordinary role does
    not see what another waits for."""
    rows = db.cluster.admin("SELECT to_jsonb(a) FROM pg_stat_activity a WHERE usename = '%s' AND datname = '%s'"
                            % (private.SERVICE, db.name))
    return [row[0] for row in rows]


def sleeping(db):
    """How many sessions of the daemon's are inside pg_sleep."""
    return sum(row["wait_event"] == "PgSleep" for row in sessions(db))


class Held:
    """Handlers that run until they are told to end, and all at once then: test.held
    holds the strands of kind "held", and records all; policy_support's handler holds
    them too.  What they wait for is a lock that this object has."""

    KEY = 77001
    BODY = f"PERFORM set_config('lock_timeout', '0', true); PERFORM pg_advisory_xact_lock_shared({KEY});"

    def __init__(self, db):
        self.db = db
        function(db, f"""BEGIN
            IF strand->>'kind' = 'held' THEN {self.BODY} END IF;
            INSERT INTO test.calls (handler, id) VALUES ('held', strand->>'id');
        END""", name="test.held")
        self.hold()

    def hold(self):
        """From the beginning, and again after release()."""
        self.conn = self.db.connect()
        self.db.execute("SELECT pg_advisory_lock(%s)", (self.KEY,), self.conn)

    def release(self):
        self.conn.close()

    def pids(self):
        """The server processes in which one is held now."""
        return [row["pid"] for row in sessions(self.db) if row["wait_event"] == "advisory"]

    def count(self):
        return len(self.pids())


def calls(db):
    """{strand id: how often a recording handler was called and committed}."""
    return dict(db.execute("SELECT id, count(*) FROM test.calls GROUP BY id"))
