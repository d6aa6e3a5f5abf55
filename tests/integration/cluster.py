"""A private PostgreSQL cluster, databases with strandd's SQL, and the daemon.

A Cluster lives in a scratch directory and listens on a Unix socket there, only.
Whatever ends this process, SIGKILL included, a janitor process then stops the
server and removes the directory.  As root everything of PostgreSQL's runs as
another user, because initdb and postgres refuse root.

Every test gets a Database of its own, made from a template database in which
the SQL of this source tree was installed once by psql, as an ordinary role.
"""

import ctypes
import glob
import os
import pathlib
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

import psycopg2
import psycopg2.extensions

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


def bindir():
    """Where the server's programs are."""
    named = os.environ.get("PG_BINDIR")
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"),
                   key=lambda p: int(p.split("/")[4]))
    for candidate in (named, os.path.dirname(found[-1]) if found else None,
                      os.path.dirname(shutil.which("initdb") or "")):
        if candidate and os.path.exists(os.path.join(candidate, "initdb")):
            return candidate
    raise RuntimeError("no initdb found: install postgresql, or set PG_BINDIR")


def unprivileged():
    """(uid, gid) to run the server as, or None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
        except KeyError:
            continue
    raise RuntimeError("running as root, and there is neither a user postgres nor nobody")


def die_with_parent():
    """In a child, before exec: SIGKILL when the thread that started it ends.  So
    start a Daemon in the main thread, or in one that lives as long as it."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Cluster:
    """One server.  settings: postgresql.conf values over the ordinary ones."""

    def __init__(self, settings=None, fsync=False):
        self.bin = bindir()
        self.user = unprivileged()
        self.janitor = None
        self.running = False
        self.dir = tempfile.mkdtemp(prefix="strandd-test-")
        self.data = os.path.join(self.dir, "data")
        self.settings = {"listen_addresses": "", "unix_socket_directories": self.dir,
                         "unix_socket_permissions": "0777", "max_connections": "100",
                         "log_line_prefix": "%m [%p] %u@%d %a ", "log_statement_stats": "off"}
        if not fsync:
            self.settings.update(fsync="off", full_page_writes="off")
        self.settings.update({k: str(v) for k, v in (settings or {}).items()})
        self._templates = {}
        self._databases = 0
        try:
            self._start_janitor()
            self._init()
            self.start()
        except BaseException:
            self.remove()
            raise

    # --- the server

    def _run(self, *argv, check=True):
        options = {}
        if self.user:
            options = {"user": self.user[0], "group": self.user[1], "extra_groups": []}
        done = subprocess.run(argv, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False, **options)
        if check and done.returncode:
            raise RuntimeError(f"{shlex.join(argv)}: exit {done.returncode}\n{done.stdout}")
        return done

    def _start_janitor(self):
        """A process that outlives us by what it takes to clean up: its stdin
        ends when we do."""
        script = ('cat >/dev/null; test -d "$1" || exit 0; '
                  'test -f "$1/data/postmaster.pid" && kill -QUIT "$(head -n 1 "$1/data/postmaster.pid")"; '
                  'sleep 0.5; rm -rf "$1"')
        self.janitor = subprocess.Popen(["/bin/sh", "-c", script, "janitor", self.dir],
                                        cwd="/", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)

    def _init(self):
        if self.user:
            os.chown(self.dir, *self.user)
        os.chmod(self.dir, 0o755)
        self._run(os.path.join(self.bin, "initdb"), "-D", self.data, "-A", "trust", "-U", "postgres",
                  "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as f:
            for name, value in self.settings.items():
                f.write("%s = '%s'\n" % (name, value.replace("'", "''")))

    def _ctl(self, *args, check=True):
        return self._run(os.path.join(self.bin, "pg_ctl"), "-D", self.data, "-w", "-t", "60", *args, check=check)

    def start(self):
        try:
            # the server's own output goes to a file: it outlives pg_ctl
            self._ctl("-l", os.path.join(self.dir, "log"), "start")
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.log()}") from None
        self.running = True

    def stop(self, mode="fast"):
        """mode: smart, fast, or immediate (as a crash would)."""
        if self.running:
            self.running = False
            self._ctl("-m", mode, "stop", check=False)

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def log(self):
        try:
            with open(os.path.join(self.dir, "log"), encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def remove(self):
        self.stop("immediate")
        shutil.rmtree(self.dir, ignore_errors=True)
        if self.janitor:
            self.janitor.stdin.close()
            self.janitor.wait()
            self.janitor = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.remove()

    # --- databases

    def dsn(self, name, user, **more):
        words = {"host": self.dir, "port": self.settings.get("port", "5432"), "dbname": name, "user": user, **more}
        return psycopg2.extensions.make_dsn(**words)

    def admin(self, *statements, name="postgres"):
        """Runs statements as the superuser, each outside a transaction."""
        conn = psycopg2.connect(self.dsn(name, "postgres"))
        try:
            conn.autocommit = True
            with conn.cursor() as cur:
                for statement in statements:
                    cur.execute(statement)
                return cur.fetchall() if cur.description else None
        finally:
            conn.close()

    def _roles(self):
        for role in (OWNER, SERVICE, PRODUCER):
            self.admin(f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")

    def template(self, installed=True):
        """The template database, made at the first call."""
        if installed not in self._templates:
            name = "template_installed" if installed else "template_plain"
            self._roles()
            self.admin(f"CREATE DATABASE {name} OWNER {OWNER}")
            if installed:
                db = Database(self, name)
                db.install()
                db.grant()
                db.execute(HANDLERS)
                db.close()
            self._templates[installed] = name
        return self._templates[installed]

    def database(self, installed=True, name=None):
        template = self.template(installed)
        self._databases += 1
        name = name or f"test_{self._databases}"
        db = self.copy(template, name)
        if installed:
            db.adopt()
        return db

    def copy(self, template, name, options=""):
        """A database like `template`; its routes, if it has any, are not adopted."""
        self.admin(f'CREATE DATABASE "{name}" TEMPLATE {template} OWNER {OWNER} {options}')
        return Database(self, name)


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


# --- the programs

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
            "scan": {"interval_ms": 500},
            "routes": [dict(zip(("tag", "source", "handler"), r)) if isinstance(r, tuple) else r
                       for r in (routes if routes is not None else default_routes())],
            "stats": {"socket": self.stats_socket},
            "log": {"level": "debug"},
        }, conf or {})

    def write_config(self):
        with open(self.config, "w", encoding="utf-8") as f:
            for key, value in self.settings.items():
                f.write(f"{key} = {libconfig(value)};\n")

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
