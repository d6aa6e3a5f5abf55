"""packaging/: the unit, and the user that it names."""

import configparser
import shlex
import shutil
import subprocess

import pytest

import cluster as private

PACKAGING = private.REPO / "packaging"


@pytest.fixture
def unit():
    found = configparser.ConfigParser(interpolation=None, comment_prefixes="#", strict=False)
    found.optionxform = str
    found.read(PACKAGING / "strandd.service")
    return found["Service"]


def test_handlers_finish_while_it_drains(unit):
    """Else systemd's SIGTERM would reach their processes too."""
    assert unit["KillMode"] == "mixed"


def test_the_home_of_the_user_outlives_the_service(unit):
    """~/.pgpass lies there, and systemd removes the runtime directory at each stop."""
    kind, user, _, _, home = shlex.split((PACKAGING / "strandd.sysusers").read_text(), comments=True)
    assert (kind, user, home) == ("u", unit["User"], "/var/lib/" + unit["StateDirectory"])


def test_the_unit_is_right():
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", PACKAGING / "strandd.service"], capture_output=True, text=True,
                          check=False)
    said = [line for line in done.stderr.splitlines() if "strandd" in line and "is not executable" not in line]
    assert not said, done.stderr
