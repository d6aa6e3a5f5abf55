"""make install, and what the linker made of the hardening flags."""

import os
import re
import subprocess

import pytest

import cluster as private


def make(build, target, root):
    done = subprocess.run(["make", "-C", str(build), target, f"DESTDIR={root}"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout


def files(root):
    return {os.path.relpath(os.path.join(folder, name), root)
            for folder, _, names in os.walk(root) for name in names}


@pytest.fixture
def prefix(build):
    """Where the build installs to, without the leading slash."""
    text = (build / "Makefile").read_text()
    return re.search(r"^prefix = /(.*)$", text, re.M).group(1)


def test_install_and_uninstall(build, prefix, tmp_path):
    make(build, "install", tmp_path)
    found = files(tmp_path)
    sql = {f"{prefix}/share/strandd/sql/{name}" for name in os.listdir(private.REPO / "sql")}
    assert {f"{prefix}/bin/strandd", f"{prefix}/bin/strandctl", f"{prefix}/etc/strandd/strandd.conf",
            f"{prefix}/share/strandd/python/strand_handler.py", f"{prefix}/share/doc/strandd/README.md"} | sql <= found
    assert not any(name.endswith((".a", ".o")) or "test_" in name for name in found)

    directory = tmp_path / prefix / "etc" / "strandd"
    sample = directory / "strandd.conf"
    assert (directory / "conf.d").is_dir()
    assert sample.read_bytes() == (private.REPO / "conf" / "strandd.conf").read_bytes()
    sample.write_text("# mine\n")
    make(build, "install", tmp_path)
    assert sample.read_text() == "# mine\n"
    make(build, "uninstall", tmp_path)
    assert files(tmp_path) == {f"{prefix}/etc/strandd/strandd.conf"}

    sample.unlink()
    make(build, "install", tmp_path)
    make(build, "uninstall", tmp_path)
    assert files(tmp_path) == set() and not directory.exists()


def test_the_tarball_has_all_of_bench():
    makefile = (private.REPO / "Makefile.am").read_text()
    for path in (private.REPO / "bench").iterdir():
        if path.suffix in (".c", ".h", ".py"):
            assert f"bench/{path.name}" in makefile


def readelf(*args):
    return subprocess.run(["readelf", "-W", *args], text=True, capture_output=True, check=True).stdout


@pytest.mark.parametrize("name", ["strandd", "strandctl"])
def test_hardening(build, name):
    if re.search(r"^SANITIZE_FLAGS = \S", (build / "Makefile").read_text(), re.M):
        pytest.skip("built with a sanitizer, which brings its own checks")
    program = str(build / name)
    assert "DYN (Position-Independent Executable file)" in readelf("-h", program)
    segments = readelf("-l", program)
    assert "GNU_RELRO" in segments
    stack = next(line for line in segments.splitlines() if "GNU_STACK" in line)
    assert " RW " in stack
    assert re.search(r"FLAGS_1.*\bNOW\b.*\bPIE\b", readelf("-d", program))
    symbols = readelf("--dyn-syms", program)
    assert "__stack_chk_fail" in symbols
    assert "_chk@" in symbols.replace("__stack_chk_fail", "")


def test_only_libraries_of_the_list(build):
    """--as-needed: strandd links with what it calls, the test library never."""
    needed = set(re.findall(r"NEEDED.*\[(.*?)\.so", readelf("-d", str(build / "strandd"))))
    assert "libpq" in needed
    assert not needed & {"libcheck", "libsubunit"}
