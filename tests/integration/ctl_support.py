"""What the strandctl tests share: runs with JSON, runs in the background, and a
pseudo-terminal for progress bars."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios

import cluster as private


def ok(done):
    """The CompletedProcess, which must have succeeded."""
    assert done.returncode == 0, f"{done.args}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def refused(done, code, *words):
    """stderr of a run that must have failed with this exit code, holding the words."""
    assert done.returncode == code, f"{done.args}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    for word in words:
        assert word in done.stderr, done.stderr
    return done.stderr


def rows(done):
    """The rows of a listing's JSON: the one array of its one key."""
    listing = json.loads(ok(done).stdout)
    assert len(listing) == 1, listing
    return next(iter(listing.values()))


def write_config(path, db, **database):
    """A configuration file that says where the database is; its path."""
    settings = {"host": db.cluster.dir, "port": int(db.cluster.settings.get("port", 5432)), "database": db.name,
                "user": private.OWNER, **database}
    path.write_text(f"module_communication = {private.libconfig({'database': settings})};\n")
    path.chmod(0o600)  # it may hold a password
    return str(path)


def start(db, *args, user=private.OWNER, stdin=subprocess.DEVNULL):
    """strandctl in the background: a Popen with text pipes."""
    return subprocess.Popen([*private.program("strandctl"), "--dbname", db.dsn(user), *args],
                            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=private.die_with_parent)


def interrupt(process, timeout=20):
    """SIGINT; (exit code, stdout, stderr)."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def on_terminal(db, *args, stdin=None, timeout=60, columns=0, stdout=subprocess.PIPE):
    """Runs strandctl with standard error on a terminal, and with stdout=None standard
    output too; (exit code, stdout, what the terminal got)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen([*private.program("strandctl"), "--dbname", db.dsn(), *args], stdin=stdin,
                               stdout=stdout or theirs, stderr=theirs, text=True,
                               env=dict(os.environ, LC_ALL="C.UTF-8"), preexec_fn=private.die_with_parent)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    out, _ = process.communicate(timeout=timeout)
    os.close(ours)
    return process.returncode, out, shown.decode()


def on_screen(db, *args, columns):
    """The lines that a terminal of so many columns gets; the command must succeed."""
    code, _, shown = on_terminal(db, *args, columns=columns, stdout=None)
    assert code == 0, shown
    return shown.replace("\r\n", "\n").splitlines()


def backends(db):
    """Statements that strandctl still runs in the database."""
    return db.execute("SELECT pid, query FROM pg_stat_activity WHERE datname = current_database()"
                      " AND application_name = 'strandctl' AND pid <> pg_backend_pid()")
