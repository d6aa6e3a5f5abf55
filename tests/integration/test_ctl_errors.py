"""strandctl's arguments, configuration, connection and interrupts."""

import os
import re
import signal
import subprocess
import time

import pytest

import cluster as private
import service
from ctl_support import backends, interrupt, ok, on_terminal, refused, start, write_config

pytestmark = pytest.mark.usefixtures("build")

COMMANDS = ("init", "attach", "detach", "uninstall", "adopt", "publish", "read", "recent", "trace", "explain", "status", "doctor", "report",
            "withdraw", "failed", "resume", "reload", "cleanup")


def run(*args, env=None):
    return subprocess.run([*private.program("strandctl"), *args], capture_output=True, text=True, check=False,
                          env=dict(os.environ, **(env or {})), timeout=60)


# --- arguments


def test_help_and_version():
    said = ok(run("--help")).stdout
    listed = re.findall(r"^  ([a-z]+) +[A-Z]", said.split("Commands:\n")[1], re.M)
    assert sorted(listed) == sorted(COMMANDS)
    for command in COMMANDS:
        assert "Usage: strandctl " + command in ok(run(command, "--help")).stdout
    assert ok(run("--version")).stdout.startswith("strandctl ")


def test_unknown_command_and_options():
    refused(run("stats"), 2, '"stats"', 'did you mean "status"?')
    refused(run("frobnicate"), 2, "--help")
    refused(run(), 2, "give a command")
    refused(run("--jsn", "status"), 2, "--jsn")
    refused(run("status", "--lock-wait", "x"), 2, "--lock-wait x")


# --- configuration


def test_config_is_used(db, tmp_path):
    ok(run("--config", write_config(tmp_path / "c", db), "status"))
    ok(run("status", "--config", write_config(tmp_path / "c", db)))


def test_dbname_replaces_the_configured_one(db, plain_db, tmp_path):
    path = write_config(tmp_path / "c", db)
    refused(run("--config", path, "--dbname", plain_db.name, "status"), 3, plain_db.name)
    # a whole connection string replaces everything, the password above all
    path = write_config(tmp_path / "c", db, host="/nowhere", password="hunter2")
    ok(run("--config", path, "--dbname", db.dsn(), "status"))


def test_missing_and_broken_files(db, tmp_path):
    refused(run("--config", "/nowhere/strandd.conf", "status"), 2, "/nowhere/strandd.conf")
    broken = tmp_path / "broken"
    broken.write_text("module_communication: {\n  databse: { };\n};\n")
    refused(run("--config", str(broken), "status"), 2, f"{broken}:2: ", "database")
    # a broken file is not passed over because --dbname would do
    refused(run("--config", str(broken), "--dbname", db.dsn(), "status"), 2, f"{broken}:2: ")


# --- connection


def test_unreachable_server(tmp_path, db):
    path = write_config(tmp_path / "c", db, host="/nowhere", user="somebody", password="hunter2")
    said = refused(run("--config", path, "status"), 4, "/nowhere", db.name, "somebody")
    assert "hunter2" not in said
    said = refused(run("--dbname", "host=127.0.0.1 port=1 dbname=d user=u password=hunter2", "status"), 4, "127.0.0.1", '"d"', '"u"')
    assert "hunter2" not in said


@pytest.mark.parametrize("dbname", [
    "host=/nowhere password=top secret word",
    "host=/nowhere password=top secret=word",
    "host=/nowhere password='top secret word",
    "postgresql://somebody:top@secret.word@127.0.0.1/d",
    "postgresql://somebody:top/secret@word/d",
    "postgresql://somebody:top%secretword@127.0.0.1/d",
    "postgresql://somebody:top?secret@word@127.0.0.1/d",
])
def test_no_part_of_a_password_is_told(dbname):
    """What follows a badly quoted password is the password's rest, not a name to quote."""
    said = refused(run("--dbname", dbname, "status"), 2, "--dbname", "may hold a password")
    for part in ("top", "secret", "word\"", "nowhere"):
        assert part not in said


def test_an_at_sign_elsewhere_in_a_uri_is_no_password(db):
    ok(run("--dbname", f"postgresql:///{db.name}?host={db.cluster.dir}&user={private.OWNER}&application_name=a@b"
           f"&port={db.cluster.settings.get('port', 5432)}", "status"))


def test_an_unknown_connection_option_is_a_bad_argument():
    refused(run("--dbname", "foo=bar", "status"), 2, "--dbname")


def test_the_configured_database_is_a_name(tmp_path, db):
    for name in ("dbname=x password=hunter2", "postgresql://u:hunter2@h/x"):
        path = write_config(tmp_path / "c", db, database=name)
        assert "hunter2" not in refused(run("--config", path, "status"), 2, f"{path}:", "database.database", "password")


def test_missing_database_and_role(db):
    refused(run("--dbname", db.cluster.dsn("no_such_db", private.OWNER), "status"), 4, "no_such_db", "does not exist")
    refused(run("--dbname", db.cluster.dsn(db.name, "nobody_here"), "status"), 4, "nobody_here")


def test_a_silent_server_is_not_waited_for_for_ever(tmp_path, db):
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        path = write_config(tmp_path / "c", db, host="127.0.0.1", port=silent.getsockname()[1], connect_timeout="1s")
        began = time.monotonic()
        refused(run("--config", path, "status"), 4, "127.0.0.1")
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("command", [["status"], ["recent"], ["read", "x"], ["trace", "x"], ["explain", "x"], ["adopt", "--skip"],
                                     ["withdraw", "x"], ["failed", "list"], ["resume", "--all"],
                                     ["publish", "--table", "x"], ["detach", "--tag", "a:b", "--source", "x"]])
def test_not_installed(plain_db, command):
    refused(private.strandctl(plain_db, *command), 3, plain_db.name, "strandctl init")


def test_server_goes_away(db):
    lock = db.connect(autocommit=False)
    db.execute("LOCK TABLE AD_strands IN ACCESS EXCLUSIVE MODE", conn=lock)
    process = start(db, "read", "x")
    pid = private.wait_until(lambda: [b[0] for b in backends(db)], 10)[0]
    private.wait_until(lambda: db.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), 10)
    db.cluster.admin(f"SELECT pg_terminate_backend({pid})")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 4 and "terminat" in err, err


@pytest.mark.parametrize("command", [["explain", "x"], ["trace", "x"], ["doctor"], ["report"]])
def test_no_server_for_those_who_look(tmp_path, db, command):
    path = write_config(tmp_path / "c", db, host="/nowhere", password="hunter2")
    assert "hunter2" not in refused(run("--config", path, *command), 4, "/nowhere", db.name)


# --- interrupts and output


@pytest.mark.parametrize("command", [["read", "x"], ["recent"], ["trace", "x"], ["explain", "x"], ["status"], ["doctor"], ["withdraw", "x"],
                                     ["failed", "show", "x"]])
def test_sigint_cancels_the_statement(db, command):
    lock = db.connect(autocommit=False)
    db.execute("LOCK TABLE AD_strands IN ACCESS EXCLUSIVE MODE", conn=lock)
    process = start(db, *command)
    private.wait_until(lambda: db.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), 10)
    began = time.monotonic()
    code, _, err = interrupt(process)
    assert code == 5 and "interrupted" in err
    assert time.monotonic() - began < 3
    private.wait_until(lambda: not db.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), 5)


def test_a_full_disk_is_an_error(db):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([*private.program("strandctl"), "--dbname", db.dsn(), "status"], stdout=full,
                              stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and "standard output" in done.stderr and "Success" not in done.stderr


LOOKING = [["status"], ["explain", "AD_0123456789ab"], ["trace", "AD_0123456789ab"], ["doctor"], ["report"]]


@pytest.mark.parametrize("command", LOOKING)
def test_a_closed_pipe(db, command):
    """Of `| head` the program just ends; where SIGPIPE is ignored it says why, once."""
    service.publish(db, "AD_strands", "AD_0123456789ab", ["dm:evaluate_plan"])
    for ignored in (False, True):
        ours, theirs = os.pipe()
        os.close(ours)
        done = subprocess.run([*private.program("strandctl"), "--dbname", db.dsn(), *command], stdout=theirs, stderr=subprocess.PIPE,
                              text=True, check=False, timeout=60, restore_signals=not ignored)
        os.close(theirs)
        if ignored:
            assert done.returncode == 1 and done.stderr.count("standard output cannot be written") == 1, done.stderr
        else:
            assert done.returncode == -signal.SIGPIPE and done.stderr == "", done.stderr


@pytest.mark.parametrize("columns", [80, 60, 40, 20])
@pytest.mark.parametrize("command", LOOKING)
def test_narrow_terminals(db, command, columns):
    """At 20 the titles of tables with many columns alone are wider: they are printed all the same."""
    service.publish(db, "AD_strands", "AD_0123456789ab", ["dm:evaluate_plan"])
    code, _, shown = on_terminal(db, *command, columns=columns, stdout=None)
    # the configuration in a report is a file's text
    lines = [line for line in shown.splitlines() if command != ["report"] or not re.search(r"^Report of|#|[={}();]", line)]
    assert code == (1 if command == ["doctor"] else 0) and len(lines) > 1
    if columns > 20 or command[0] == "explain":
        assert max(map(len, lines)) <= columns, max(lines, key=len)


def test_a_full_disk_hides_no_id(db):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([*private.program("strandctl"), "--dbname", db.dsn(), "publish", "--table", "AD_strands"],
                              stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and "standard output" in done.stderr and "Success" not in done.stderr
    assert db.value("SELECT id FROM AD_strands") in done.stderr
