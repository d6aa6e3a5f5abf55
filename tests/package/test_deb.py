"""The .deb in a system of its own, from installing to purging."""

import os
import re
import shutil
import subprocess

import pytest

import installed
from installed import CONF

MINE = 'module_communication: { database: { password = "secret"; }; };\nroutes = ();\n'


class System:
    """A system, and dpkg in it."""

    def __init__(self, root, deb):
        self.root = root
        shutil.copy(deb, root.path("/tmp/strandd.deb"))
        self.before = root.entries()

    def dpkg(self, *args):
        return self.root.run("dpkg", "--force-confold", *args)

    def install(self, deb="/tmp/strandd.deb"):
        self.dpkg("-i", deb)

    def added(self):
        """{path: mode} of what was not there before."""
        return {path: mode for path, mode in self.root.entries().items() if path not in self.before}


def touch(root, name):
    with open(root.path(name), "w", encoding="ascii"):
        pass


@pytest.fixture
def system(root, deb):
    return System(root, deb)


def test_installed(system, root, version):
    assert not any("strandd" in path for path in system.before)
    system.install()
    installed.check_files(root)
    installed.check_user(root)
    installed.check_programs(root, version)
    installed.check_unit(root)


def make_newer(root):
    """/tmp/newer.deb: a next version, with another sample."""
    tree = root.path("/tmp/tree")
    subprocess.run(["dpkg-deb", "-R", root.path("/tmp/strandd.deb"), tree], check=True)
    control = os.path.join(tree, "DEBIAN", "control")
    with open(control, encoding="utf-8") as f:
        text = re.sub(r"^Version: .*$", r"\g<0>.1", f.read(), flags=re.M)
    with open(control, "w", encoding="utf-8") as f:
        f.write(text)
    with open(tree + CONF, "a", encoding="utf-8") as f:
        f.write("# a newer sample\n")
    subprocess.run(["dpkg-deb", "-b", "--root-owner-group", tree, root.path("/tmp/newer.deb")], check=True,
                   stdout=subprocess.DEVNULL)


def test_an_upgrade_keeps_what_the_operator_did(system, root):
    system.install()
    installed.edit(root, MINE)
    root.run("chgrp", "adm", CONF)
    root.run("chmod", "2700", "/etc/strandd/conf.d")
    touch(root, "/etc/strandd/conf.d/mine.conf")
    make_newer(root)
    system.install("/tmp/newer.deb")
    found = root.entries()
    assert open(root.path(CONF), encoding="utf-8").read() == MINE
    assert found[CONF] == "0640 root adm" and found["/etc/strandd/conf.d"] == "2700 root strandd"
    # the directory's group is the new file's
    assert found["/etc/strandd/conf.d/mine.conf"] == "0644 root strandd"
    assert found["/etc/strandd"] == "2750 root strandd"
    assert found[CONF + ".dpkg-dist"].startswith("0640 root ")


def test_what_is_asked_of_systemd(system, root):
    """It is started by its operator only, restarted if it runs, and stopped."""
    asked = installed.watch_manager(root, "deb-systemd-invoke", "systemctl")
    system.install()
    assert asked() == []
    make_newer(root)
    system.install("/tmp/newer.deb")
    assert asked() == ["try-restart strandd.service"]
    system.dpkg("-r", "strandd")
    assert asked() == ["stop strandd.service"]


def test_an_upgrade_of_what_nobody_touched(system, root):
    system.install()
    make_newer(root)
    system.install("/tmp/newer.deb")
    assert open(root.path(CONF), encoding="utf-8").read().endswith("# a newer sample\n")
    assert root.entries()[CONF] == "0640 root strandd"


def test_removing_keeps_what_is_the_operators(system, root):
    system.install()
    installed.edit(root, MINE)
    touch(root, "/etc/strandd/conf.d/mine.conf")
    system.dpkg("-r", "strandd")
    found = system.added()
    assert {path for path in found if "strandd" in path and not path.startswith("/var/lib/systemd/")} == \
        {"/etc/strandd", "/etc/strandd/conf.d", "/etc/strandd/conf.d/mine.conf", CONF, "/var/lib/strandd"}
    assert open(root.path(CONF), encoding="utf-8").read() == MINE
    assert found[CONF] == "0640 root strandd"

    system.install()
    assert open(root.path(CONF), encoding="utf-8").read() == MINE
    assert root.entries()[CONF] == "0640 root strandd"


def test_purging_leaves_nothing_but_the_user(system, root):
    system.install()
    installed.edit(root, MINE)
    touch(root, "/var/lib/strandd/.pgpass")
    system.dpkg("-P", "strandd")
    assert not {path for path in system.added() if "strandd" in path}
    assert "strandd:" in open(root.path("/etc/passwd"), encoding="utf-8").read()
    system.install()
    installed.check_files(root)
