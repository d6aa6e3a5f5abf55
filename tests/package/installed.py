"""What both packages put into a system, and how to see whether it is so."""

import os
import shutil
import subprocess

from conftest import REPO

CONF = "/etc/strandd/strandd.conf"
UNIT = "/lib/systemd/system/strandd.service"
SQL = {f"/usr/share/strandd/sql/{path.name}": "0644 root root" for path in (REPO / "sql").iterdir()}
MODES = {
    "/usr/bin/strandd": "0755 root root",
    "/usr/bin/strandctl": "0755 root root",
    "/usr/share/bash-completion/completions/strandctl": "0644 root root",
    "/etc/strandd": "2750 root strandd",
    "/etc/strandd/conf.d": "2750 root strandd",
    CONF: "0640 root strandd",
    "/usr/lib" + UNIT.removeprefix("/lib"): "0644 root root",
    "/usr/lib/sysusers.d/strandd.conf": "0644 root root",
    "/usr/share/strandd/python/strand_handler.py": "0644 root root",
    "/var/lib/strandd": "0700 strandd strandd",
    **SQL,
}


def check_files(root):
    found = root.entries()
    assert {path: found.get(path) for path in MODES} == MODES
    assert (REPO / "conf" / "strandd.conf").read_text() == open(root.path(CONF), encoding="utf-8").read()


def check_programs(root, version):
    """They run in this system, with its libraries, as its user."""
    assert root.run("strandd", "--version").stdout == f"strandd {version}\n"
    assert root.run("strandctl", "--version").stdout == f"strandctl {version}\n"
    done = root.run("strandd", user="strandd", check=False)
    assert done.returncode == 2 and f"{CONF}: no routes" in done.stderr, done.stderr
    done = root.run("strandctl", "status", user="daemon", check=False)
    assert done.returncode == 2 and f"{CONF}: Permission denied" in done.stderr and "--dbname" in done.stderr
    # no failpoint can be armed in a build for use
    assert b"STRANDD_FAILPOINTS" not in open(root.path("/usr/bin/strandd"), "rb").read()


def check_user(root):
    passwd = open(root.path("/etc/passwd"), encoding="utf-8").read().splitlines()
    name, _, number, _, _, home, shell = next(line for line in passwd if line.startswith("strandd:")).split(":")
    assert 0 < int(number) < 1000 and home == "/var/lib/strandd" and shell.endswith("nologin"), name


def check_unit(root):
    """It is right, in the system that it is in, and waits for its operator."""
    if shutil.which("systemd-analyze"):
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", f"--root={root.dir}", "strandd.service"],
                              text=True, capture_output=True, check=False)
        said = [line for line in done.stderr.splitlines() if "strandd" in line]
        assert (done.returncode, said) == (0, []), done.stderr
    assert not any(path.startswith("/etc/systemd/") and "strandd" in path for path in root.entries())


def watch_manager(root, *programs):
    """Makes the system look as if systemd ran it.  Returns a function: what was asked
    of it about the service since the last call."""
    log = root.path("/tmp/asked")
    os.makedirs(root.path("/run/systemd/system"))
    for program in programs:
        with open(root.path(f"/usr/bin/{program}"), "w", encoding="ascii") as f:
            f.write('#!/bin/sh\necho "$*" >>/tmp/asked\n')

    def asked():
        if not os.path.exists(log):
            return []
        with open(log, encoding="ascii") as f:
            lines = [line.strip() for line in f if "strandd" in line]
        os.unlink(log)
        return lines
    return asked


def edit(root, text):
    """What an operator writes into the configuration."""
    with open(root.path(CONF), "w", encoding="utf-8") as f:
        f.write(text)
