"""The .rpm in a system of its own; names of packages differ there, hence --nodeps."""

import subprocess

import pytest

import installed
from installed import CONF


@pytest.fixture
def run(root):
    """rpm in that system, which has the rule of distributions with rpm: a service
    stays disabled until its operator enables it."""
    with open(root.path("/usr/lib/systemd/system-preset/99-default-disable.preset"), "w", encoding="ascii") as f:
        f.write("disable *\n")

    def rpm(*args):
        done = subprocess.run(["rpm", "--root", root.dir, *args], text=True, capture_output=True, check=False)
        assert done.returncode == 0 and "scriptlet failed" not in done.stderr, done.stdout + done.stderr
        return done.stdout
    return rpm


def test_installed(root, run, rpm, version):
    run("-i", "--nodeps", rpm)
    installed.check_files(root)
    installed.check_user(root)
    installed.check_programs(root, version)
    installed.check_unit(root)
    assert "util-linux" in run("-q", "--requires", "strandd").split()
    assert run("-q", "strandd").startswith(f"strandd-{version}-")
    # what was installed is what was packed, owners and modes with it
    assert run("-V", "--nodeps", "strandd") == ""


def test_installed_again_and_removed(root, run, rpm):
    run("-i", "--nodeps", rpm)
    run("-U", "--nodeps", "--force", rpm)
    installed.check_files(root)
    run("-e", "strandd")
    assert not any("strandd" in path for path in root.entries())


def test_what_is_asked_of_systemd(root, run, rpm):
    asked = installed.watch_manager(root, "systemctl")
    run("-i", "--nodeps", rpm)
    assert asked() == ["--no-reload preset strandd.service"]
    run("-U", "--nodeps", "--force", rpm)
    assert asked() == ["try-restart strandd.service"]
    run("-e", "strandd")
    assert asked() == ["--no-reload disable --now strandd.service"]


def test_removing_keeps_what_is_the_operators(root, run, rpm):
    run("-i", "--nodeps", rpm)
    installed.edit(root, "# mine\n")
    run("-e", "strandd")
    assert {path for path in root.entries() if "strandd" in path} == {"/etc/strandd", CONF + ".rpmsave"}
    assert open(root.path(CONF + ".rpmsave"), encoding="utf-8").read() == "# mine\n"
    assert root.entries()[CONF + ".rpmsave"] == "0640 root strandd"
