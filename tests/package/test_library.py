"""libstrand's packages: what they hold, what they need, and that programs are built and run
on them."""

import glob
import os
import re
import subprocess

import pytest

from conftest import REPO
from test_built import files_of_deb, files_of_rpm, said

HEADERS = {f"/usr/include/strand/{path.name}" for path in (REPO / "include" / "strand").iterdir()}


def parts(found):
    """What stands in no folder of documents, but for pages of section 3."""
    return {re.sub(r"/(x86_64-linux-gnu|lib64)/", "/LIB/", name.replace("/usr/lib64/", "/usr/lib/LIB/"))
            for name, mode in found.items() if not mode.startswith("d")
            and not name.startswith(("/usr/share/doc", "/usr/share/man/man3/strand", "/usr/share/licenses", "/usr/share/lintian",
                                     "/usr/lib/.build-id"))}


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_they_hold(kind, request):
    library, dev = request.getfixturevalue(f"library_{kind}s")
    files = files_of_deb if kind == "deb" else files_of_rpm
    assert parts(files(library)) == {"/usr/lib/LIB/libstrand.so.0", "/usr/lib/LIB/libstrand.so.0.0.0"}
    assert parts(files(dev)) == {"/usr/lib/LIB/libstrand.so", "/usr/lib/LIB/pkgconfig/strand.pc", *HEADERS}
    pages = [name for name in files(dev) if "/man3/" in name and "strand" in name]
    assert any(re.search(r"/strand_client_write\.3(\.gz)?$", name) for name in pages) and len(pages) > 40
    assert not any(name.endswith((".o", ".la", ".a")) for name in (*files(library), *files(dev)))


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_the_service_holds_nothing_of_it(kind, request):
    package = request.getfixturevalue(kind)
    found = files_of_deb(package) if kind == "deb" else files_of_rpm(package)
    assert not any("libstrand" in name or "/include/" in name or "/man3/" in name for name in found)
    # nothing that was built is among the examples
    built = ("/decide", "/publish", "/alpha/alpha", ".o", "/.deps", ".dirstamp")
    assert not [name for name in found if "/examples/" in name and name.endswith(built)]


def test_what_they_need(library_debs, library_rpms, version):
    library, dev = library_debs
    depends = said("dpkg-deb", "-f", library, "Depends")
    assert "libpq5" in depends and "libjson-c5" in depends and "urcu" not in depends and "systemd" not in depends
    assert said("dpkg-deb", "-f", dev, "Depends").strip() == f"libstrand0 (= {version}-1)"
    assert f"libstrand = {version}-1" in said("rpm", "-qpR", library_rpms[1])
    assert "libstrand.so.0(LIBSTRAND_0.1)" in said("rpm", "-qp", "--provides", library_rpms[0])


def test_a_program_is_built_on_them(library_debs, tmp_path):
    """With the example's own line, and it finds the library."""
    for package in library_debs:
        subprocess.run(["dpkg-deb", "-x", package, tmp_path], check=True)
    pc = glob.glob(f"{tmp_path}/usr/lib/*/pkgconfig")[0]
    env = {**os.environ, "PKG_CONFIG_PATH": pc, "PKG_CONFIG_SYSROOT_DIR": str(tmp_path),
           "LD_LIBRARY_PATH": os.path.dirname(pc)}
    program = str(tmp_path / "decide")
    done = subprocess.run(f"cc -Wall -Werror -o {program} {tmp_path}/usr/share/doc/libstrand-dev/examples/c/decide.c"
                          " $(pkg-config --cflags --libs strand)", shell=True, env=env, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([program], input='{"v":1,"tag":"dm:evaluate_plan","attempt":1,"strand":{"id":"AD_1"}}\n',
                          env=env, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        0, '{"id":"AD_1","attempt":1,"error":"AD_1 has no trading plan","retry":false}\n', "")


def test_installed_and_removed(root, library_debs):
    """Beside the service, in a system of their own."""
    before = root.entries()
    for n, package in enumerate(library_debs):
        with open(package, "rb") as source, open(root.path(f"/tmp/{n}.deb"), "wb") as copy:
            copy.write(source.read())
    root.run("dpkg", "-i", "/tmp/0.deb", "/tmp/1.deb")
    assert "ldconfig" in said("dpkg-deb", "-I", library_debs[0], "triggers")
    assert HEADERS <= set(root.entries())
    root.run("dpkg", "-P", "libstrand-dev", "libstrand0")
    assert not {path for path in root.entries() if path not in before and "strand" in path}
