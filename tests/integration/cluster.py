"""A private PostgreSQL cluster; and, by the same import, its databases (database.py)
and the programs (daemon.py).

A Cluster lives in a scratch directory and listens on a Unix socket there, only.
Whatever ends this process, SIGKILL included, a janitor process then stops the
server and removes the directory.  As root everything of PostgreSQL's runs as
another user, because initdb and postgres refuse root.

Every test gets a Database of its own, made from a template database in which
the SQL of this source tree was installed once by psql, as an ordinary role.
"""

import glob
import os
import pwd
import shlex
import shutil
import subprocess
import tempfile

import psycopg2
import psycopg2.extensions

# also what tests and benchmarks reach through this module
from daemon import Daemon, build_dir, default_routes, die_with_parent, libconfig, program, strandctl, wait_until
from database import HANDLERS, INSTALL_FILES, OWNER, PRODUCER, REPO, ROUTES, SERVICE, SQL, Database


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
