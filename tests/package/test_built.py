"""What the packages hold, and how they are made."""

import os
import pwd
import re
import shutil
import subprocess
import tempfile

import pytest

import installed
from conftest import REPO


def said(*argv):
    done = subprocess.run(argv, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of_deb(deb):
    return {line.split()[5].removeprefix(".").rstrip("/"): line.split()[0]
            for line in said("dpkg-deb", "-c", deb).splitlines()}


def files_of_rpm(rpm):
    return dict(line.split("\t") for line in said("rpm", "-qp", "--qf", r"[%{FILENAMES}\t%{FILEMODES:perms}\n]", rpm)
                .splitlines())


def test_the_deb_holds(deb, version):
    found = files_of_deb(deb)
    assert {"/usr/bin/strandd", "/usr/bin/strandctl", installed.UNIT, "/usr/lib/sysusers.d/strandd.conf",
            "/usr/share/man/man8/strandd.8.gz", "/usr/share/man/man1/strandctl.1.gz",
            "/usr/share/bash-completion/completions/strandctl",
            "/usr/share/doc/strandd/README.md.gz", "/usr/share/doc/strandd/README.Debian"} | set(installed.SQL) < set(found)
    # never readable by others, not even between unpacking and configuring
    assert found[installed.CONF] == "-rw-r-----"
    assert said("dpkg-deb", "-f", deb, "Version").strip() == f"{version}-1"
    assert said("dpkg-deb", "-I", deb, "conffiles").split() == [installed.CONF]


def test_the_rpm_holds(rpm, version):
    found = files_of_rpm(rpm)
    assert {path for path in installed.MODES if found[path][1:] != mode_text(installed.MODES[path])} == set()
    assert any(re.fullmatch(r"/usr/share/man/man8/strandd\.8(\.gz)?", path) for path in found)
    assert said("rpm", "-qp", "--qf", "%{VERSION}", rpm) == version
    assert said("rpm", "-qpc", rpm).split() == [installed.CONF]
    # an example is no reason to need Python
    assert "python" not in said("rpm", "-qpR", rpm)


def mode_text(mode):
    """rwxr-xr-x of "0755 root root"."""
    bits = int(mode.split()[0], 8)
    text = "".join(letter if bits >> 8 - i & 1 else "-" for i, letter in enumerate("rwxrwxrwx"))
    return text[:5] + "s" + text[6:] if bits & 0o2000 else text


@pytest.mark.parametrize("package", ["deb", "rpm"])
def test_what_is_not_known_to_be_free_is_left_out(package, request):
    path = request.getfixturevalue(package)
    found = files_of_deb(path) if package == "deb" else files_of_rpm(path)
    assert any(name.endswith("/examples/trading/trading.conf") for name in found)
    assert not any(name.endswith(".csv") for name in found)


def test_lintian_has_nothing_to_say(deb, library_debs):
    for package in (deb, *library_debs):
        assert said("lintian", "--allow-root", "--fail-on", "error,warning,info,pedantic", "-IE", "--pedantic",
                    package) == ""


@pytest.fixture
def checkout():
    """A copy of the sources that only root can write to, and an empty directory."""
    top = tempfile.mkdtemp(prefix="strandd-checkout-")
    os.chmod(top, 0o755)
    copy = os.path.join(top, "other-name")
    shutil.copytree(REPO, copy, symlinks=True,
                    ignore=lambda folder, names: {"build", ".git", "__pycache__"} & set(names))
    os.mkdir(os.path.join(top, "out"))
    yield copy, os.path.join(top, "out")
    shutil.rmtree(top)


def build_elsewhere(script, checkout):
    """Builds as an ordinary user; returns what subprocess.run does."""
    copy, out = checkout
    drop = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(out, user.pw_uid, user.pw_gid)
        drop = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    return subprocess.run(["sh", "-c", 'umask 077; exec "$@"', "sh", *drop, f"{copy}/packaging/{script}", "--no-check", out],
                          cwd="/", env=env, stdin=subprocess.DEVNULL, text=True, capture_output=True, check=False)


def tree(folder):
    return sorted(os.path.join(where, name) for where, folders, files in os.walk(folder) for name in folders + files)


@pytest.mark.parametrize("package", ["deb", "rpm"])
def test_made_by_anyone_anywhere_the_bytes_are_the_same(package, request, checkout):
    copy, out = checkout
    path = request.getfixturevalue(package)
    before = tree(copy)
    done = build_elsewhere(f"build-{package}.sh", checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    made = os.path.join(out, os.path.basename(path))
    assert made in done.stdout.split()
    with open(path, "rb") as one, open(made, "rb") as other:
        assert one.read() == other.read()
    # nothing else was left, in or out
    assert tree(copy) == before
    assert sorted(os.listdir(out)) == sorted([os.path.basename(p) for p in done.stdout.split()] + [f"{package}.log"])


def test_versions_that_disagree(checkout):
    copy, out = checkout
    with open(os.path.join(copy, "configure.ac"), encoding="utf-8") as f:
        text = f.read()
    with open(os.path.join(copy, "configure.ac"), "w", encoding="utf-8") as f:
        f.write(re.sub(r"^AC_INIT.*", "AC_INIT([strandd], [9.8.7])", text, flags=re.M))
    done = build_elsewhere("build-deb.sh", checkout)
    assert done.returncode == 1
    assert "packaging/debian/changelog" in done.stderr and "begin an entry for 9.8.7-1" in done.stderr
    assert os.listdir(out) == []


@pytest.mark.parametrize("script", ["build-deb.sh", "build-rpm.sh"])
@pytest.mark.parametrize("arguments", [["--nonsense"], ["one", "two"], ["a b"]])
def test_bad_arguments(script, arguments, tmp_path):
    done = subprocess.run([REPO / "packaging" / script, *arguments], cwd=tmp_path, text=True, capture_output=True,
                          check=False)
    assert done.returncode == 2
    assert "usage: packaging/" in done.stderr or "set DIRECTORY to" in done.stderr
