"""A database of a cluster, with what the tests put into it: see cluster.py."""

import os
import pathlib
import shlex
import subprocess

import psycopg2

REPO = pathlib.Path(__file__).resolve().parents[2]
SQL = pathlib.Path(os.environ.get("STRANDD_SQL", REPO / "sql"))
INSTALL_FILES = tuple(sorted(p.name for p in SQL.glob("[1-8]*.sql")))

OWNER = "trading_owner"
SERVICE = "strandd_service"
PRODUCER = "producer"

ROUTES = (
    ("dm:evaluate_plan", "AD_strands", "DM_strands"),
    ("alpha:decision_feedback", "DM_strands", "AD_strands"),
    ("trader:execute_plan", "DM_strands", "TR_strands"),
    ("alpha:execution_feedback", "TR_strands", "AD_strands"),
    ("dm:execution_feedback", "TR_strands", "DM_strands"),
)

# Handlers for tests: what a route calls where the test is not about handlers.
HANDLERS = """
CREATE SCHEMA test;
GRANT USAGE ON SCHEMA test TO strandd_service, producer;

CREATE TABLE test.calls (n bigint GENERATED ALWAYS AS IDENTITY, handler text, id text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(), backend integer NOT NULL DEFAULT pg_backend_pid());
GRANT SELECT, INSERT ON test.calls TO strandd_service;

-- answers nothing
CREATE FUNCTION test.nothing(strand jsonb) RETURNS SETOF jsonb LANGUAGE sql AS
$$ SELECT NULL::jsonb WHERE false $$;

-- answers nothing, and leaves a row for each strand that it was called with
CREATE FUNCTION test.record(strand jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO test.calls (handler, id) VALUES ('record', strand->>'id'); END $$;

-- one reply without a tag, saying which strand it answers
CREATE FUNCTION test.reply(strand jsonb) RETURNS SETOF jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('kind', 'reply', 'symbol', strand->>'symbol') $$;

-- the specification's flow: plan, decision, execution
CREATE FUNCTION test.evaluate_plan(strand ad_strands) RETURNS SETOF jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('kind', 'decision', 'symbol', strand.symbol,
    'dm_decision', jsonb_build_object('approve', true, 'plan', strand.trading_plan),
    'tags', jsonb_build_array('alpha:decision_feedback')) $$;
CREATE FUNCTION test.execute_plan(strand dm_strands) RETURNS SETOF jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('kind', 'execution', 'symbol', strand.symbol,
    'tr_execution', jsonb_build_object('filled', true),
    'tags', jsonb_build_array('alpha:execution_feedback', 'dm:execution_feedback')) $$;

-- raises for strands of kind "fail", otherwise one reply
CREATE FUNCTION test.fail_some(strand jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS
$$ BEGIN
    IF strand->>'kind' = 'fail' THEN RAISE EXCEPTION 'asked to fail'; END IF;
    RETURN NEXT jsonb_build_object('kind', 'reply', 'symbol', strand->>'symbol');
END $$;

-- sleeps for the seconds in "timeframe", otherwise as record
CREATE FUNCTION test.slow(strand jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS
$$ BEGIN
    PERFORM pg_sleep(coalesce(strand->>'timeframe', '0')::float8);
    INSERT INTO test.calls (handler, id) VALUES ('slow', strand->>'id');
END $$;

-- the replies that the strand itself holds, as an array in its column "regime"
CREATE FUNCTION test.scripted(strand jsonb) RETURNS SETOF jsonb LANGUAGE sql AS
$$ SELECT e FROM jsonb_array_elements((strand->>'regime')::jsonb) e $$;

GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA test TO strandd_service;
"""


class Database:
    """One database of a cluster, owned by the ordinary role trading_owner."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name
        self._open = []
        self._own = None

    def dsn(self, user=OWNER, **more):
        return self.cluster.dsn(self.name, user, **more)

    def connect(self, user=OWNER, autocommit=True, **more):
        """A connection; closed with the database at the latest."""
        conn = psycopg2.connect(self.dsn(user, **more))
        conn.autocommit = autocommit
        self._open.append(conn)
        return conn

    @property
    def conn(self):
        """The owner's connection that the short forms below use, autocommit."""
        if self._own is None or self._own.closed:
            self._own = self.connect()
        return self._own

    def execute(self, sql, params=None, conn=None):
        """Runs it and returns the rows, or None where there are none."""
        with (conn or self.conn).cursor() as cur:
            cur.execute(sql, params)
            return cur.fetchall() if cur.description else None

    def value(self, sql, params=None, conn=None):
        rows = self.execute(sql, params, conn)
        return rows[0][0] if rows else None

    def psql(self, *args, user=OWNER, check=True, options=None, stdin=None):
        """psql with its own configuration files left out; CompletedProcess."""
        env = dict(os.environ, PGOPTIONS=options or "-c client_min_messages=warning")
        done = subprocess.run([os.path.join(self.cluster.bin, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1",
                               "-d", self.dsn(user), *args], env=env, input=stdin, text=True,
                              capture_output=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"psql {shlex.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def install(self, files=INSTALL_FILES, user=OWNER, **more):
        """Runs the SQL files, and returns what psql said."""
        said = ""
        for name in files:
            done = self.psql("-f", str(SQL / name), user=user, **more)
            said += done.stdout + done.stderr
        return said

    def uninstall(self):
        return self.install(("90_uninstall.sql",))

    def grant(self):
        self.execute("SELECT strandd.grant_service(%s)", (SERVICE,))
        for table in ("AD_strands", "DM_strands", "TR_strands"):
            self.execute("SELECT strandd.grant_producer(%s, %s::regclass)", (PRODUCER, table))

    def attach(self, tag, source, receiver, deliver_existing=False, history=True):
        """What `strandctl attach` does; returns the route's number."""
        self.execute("SELECT strandd.prepare_source(%s::regclass)", (source,))
        for statement, in self.execute("SELECT strandd.index_statements(%s::regclass)", (source,)):
            self.execute(statement)
        route = self.value("SELECT strandd.attach(%s, %s::regclass, %s::regclass, %s)",
                           (tag, source, receiver, deliver_existing))
        if history:
            self.finish_history(receiver, route)
        return route

    def finish_history(self, receiver, route, batch=1000):
        """Skips a route's history to its end; returns how many rows were skipped."""
        total = 0
        while True:
            _, skipped, finished = self.execute("SELECT * FROM strandd.skip_history(%s::regclass, %s, %s)",
                                                (receiver, route, batch))[0]
            total += skipped
            if finished:
                return total

    def adopt(self):
        """Says that this copy may go on where the original was."""
        for receiver, in self.execute("SELECT receiver::text FROM strandd.receivers"):
            while not self.execute("SELECT finished FROM strandd.adopt(%s, 'continue')", (receiver,))[0][0]:
                pass

    def receipts(self, prefix):
        """[(route's tag, strand id, state)], sorted."""
        return self.execute(f"SELECT o.tag, r.strand_id, r.state FROM {prefix}_receipts r"
                            f" JOIN {prefix}_routes o USING (route) ORDER BY 1, 2")

    def close(self):
        for conn in self._open:
            if not conn.closed:
                conn.close()
        self._open = []
        self._own = None

    def drop(self):
        self.close()
        self.cluster.admin(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')
