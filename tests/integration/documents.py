"""Runs the commands of a document in their order, as its reader would on a fresh
Debian: a server that lets a user in as the role of the user's name only (peer), a
user without rights, and strandd as a service.

As root three users of the machine play the reader, postgres and strandd; else
all of them are the one who runs the tests.  The reader's `sudo` and `systemctl`
are functions of the shell.
"""

import os
import pwd
import re
import shlex
import shutil
import subprocess

import cluster as private

PRELUDE = """
set -e -o pipefail
as() { local user=$1; shift; %(switch)s "$@"; }
# when the shell ends, so does what it started
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT

psql() { as %(reader)s psql -X "$@"; }
strandctl() { as %(reader)s %(strandctl)s --config %(dir)s/strandd.conf "$@"; }
# only ever in the background
strandd() { exec setpriv --pdeathsig KILL %(to_reader)s %(strandd)s "$@"; }
serve() { export PGUSER=strandd; exec setpriv --pdeathsig KILL %(to_service)s %(strandd)s "$@"; }
sudo() { case $1 in -u) as "%(server)s" env PGUSER="$2" "${@:3}";; *) "$@";; esac }
systemctl() {
	[ "$1" != reload ] || { kill -HUP "$service"; return; }
	[ -z "$service" ] || { kill "$service"; wait "$service"; }
	%(exec_start)s &
	service=$!
}
service=
export USER=%(reader)s HOME=%(dir)s
cd %(dir)s
"""


def blocks(text, first, last):
    """[(language, text)] of the fenced blocks from one heading to another."""
    text = "\n" + text
    text = text[text.index(f"\n{first}\n"):text.index(f"\n{last}\n")]
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)


def users(cluster):
    """Names of who plays the server's user, the reader and strandd."""
    if not cluster.user:
        return (pwd.getpwuid(os.getuid()).pw_name,) * 3
    return pwd.getpwuid(cluster.user[0]).pw_name, "daemon", "nobody"


class Reader:
    """A cluster with Debian's rules, and who uses it from directory `dir`."""

    def __init__(self):
        self.cluster = private.Cluster()
        self.server, self.reader, self.service = users(self.cluster)
        self.dir = os.path.join(self.cluster.dir, "reader")
        os.mkdir(self.dir, 0o777)
        os.chmod(self.dir, 0o777)
        for name in ("strandd", "strandctl"):
            # a copy, because the build may be where only root can go
            shutil.copy(private.build_dir() / name, self.dir)
        shutil.copy(private.REPO / "conf" / "strandd.conf", self.dir)
        self._let_in_peers_only()

    def _let_in_peers_only(self):
        data = self.cluster.data
        with open(os.path.join(data, "pg_hba.conf"), "w", encoding="ascii") as f:
            f.write("local all all peer map=us\n")
        with open(os.path.join(data, "pg_ident.conf"), "w", encoding="ascii") as f:
            for user, role in ((self.server, "postgres"), (self.reader, self.reader), (self.service, "strandd")):
                f.write(f"us {user} {role}\n")
        self.cluster.restart()

    def _switch(self, user):
        """What runs a command as that user."""
        if not self.cluster.user:
            return ""
        return f"setpriv --reuid={user} --regid=$(id -g {user}) --clear-groups"

    def _prelude(self):
        unit = (private.REPO / "packaging" / "strandd.service").read_text(encoding="utf-8")
        exec_start = re.search(r"^ExecStart=/usr/bin/strandd (.*)$", unit, re.M).group(1)
        wrapper = os.environ.get("STRANDD_WRAPPER", "")
        return PRELUDE % {
            "switch": self._switch("$user") or "env", "reader": self.reader, "server": self.server,
            "to_reader": self._switch(self.reader).removeprefix("setpriv"),
            "to_service": self._switch(self.service).removeprefix("setpriv"),
            "strandd": f"{wrapper} {self.dir}/strandd", "strandctl": f"{wrapper} {self.dir}/strandctl",
            "dir": shlex.quote(self.dir), "exec_start": f"serve {exec_start}"}

    def here(self, text):
        """The text with the machine's places replaced by ours."""
        return text.replace("/etc/strandd/strandd.conf", f"{self.dir}/strandd.conf").replace("/run/strandd/", f"{self.dir}/")

    def run(self, commands, timeout=300):
        """Runs shell commands; returns what they said on standard output."""
        env = {**{k: v for k, v in os.environ.items() if not k.startswith("PG")},
               "PGHOST": self.cluster.dir, "PATH": f"{self.cluster.bin}:{os.environ['PATH']}"}
        done = subprocess.run(["/bin/bash", "-c", self.here(self._prelude() + "set -x\n" + commands)], env=env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout,
                              preexec_fn=private.die_with_parent)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.cluster.remove()
