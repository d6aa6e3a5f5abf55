"""The packages, and a small system to install them in; scripts/check.sh package
builds them and says in STRANDD_PACKAGES where they are."""

import glob
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from scratch_root import ScratchRoot

REPO = pathlib.Path(__file__).resolve().parents[2]


def _package(pattern):
    folder = os.environ.get("STRANDD_PACKAGES")
    if not folder:
        pytest.fail("STRANDD_PACKAGES is not set: run scripts/check.sh package")
    found = glob.glob(os.path.join(folder, pattern))
    assert len(found) == 1, f"{pattern} in {folder}: {found}"
    return found[0]


@pytest.fixture(scope="session")
def deb():
    return _package("strandd_*.deb")


@pytest.fixture(scope="session")
def rpm():
    return _package("strandd-[0-9]*.rpm")


@pytest.fixture(scope="session")
def library_debs():
    """The library's, and what programs are built with."""
    return [_package("libstrand0_*.deb"), _package("libstrand-dev_*.deb")]


@pytest.fixture(scope="session")
def library_rpms():
    return [_package("libstrand-[0-9]*.rpm"), _package("libstrand-devel-[0-9]*.rpm")]


@pytest.fixture(scope="session")
def version():
    """That of configure.ac."""
    return re.search(r"^AC_INIT\(\[strandd\], \[(.*)\]\)", (REPO / "configure.ac").read_text(), re.M).group(1)


@pytest.fixture
def root(deb):
    """A system with what strandd depends on, and not strandd."""
    if os.geteuid() != 0:
        pytest.skip("installs packages in a chroot: needs root")
    depends = subprocess.run(["dpkg-deb", "-f", deb, "Depends"], text=True, capture_output=True, check=True).stdout
    directory = tempfile.mkdtemp(prefix="strandd-root-")
    try:
        os.chmod(directory, 0o755)
        yield ScratchRoot(directory, depends.strip().split(", "))
    finally:
        shutil.rmtree(directory)
