"""What libstrand shows: symbols, headers, manual, strand.pc; and that others can build on it."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

import cluster as private
import libstrand_support as lib
import service
from test_install import make

HEADERS = sorted((private.REPO / "include" / "strand").glob("*.h"))


def said(*argv, **options):
    done = subprocess.run(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)
    assert done.returncode == 0, f"{argv}\n{done.stdout}"
    return done.stdout


def declared():
    """The functions that the headers offer."""
    names = set()
    for header in HEADERS:
        text = re.sub(r"/\*.*?\*/", "", header.read_text(encoding="utf-8"), flags=re.S)
        names |= set(re.findall(r"\b(strand_\w+)\s*\(", text))
    return {name for name in names if not name.endswith("_fn")}


def test_the_symbols_are_those_of_the_headers(build):
    lines = said("nm", "-D", "--defined-only", str(build / ".libs" / "libstrand.so")).splitlines()
    symbols = [line.split()[-1] for line in lines if line.split()[1] not in "Aa"]
    assert {name.split("@")[0] for name in symbols} == declared()
    assert all("@@LIBSTRAND_" in name for name in symbols), symbols


def test_each_function_has_a_page():
    pages = {path.name: re.search(r"^\.SH NAME\n(.*?)^\.SH SYNOPSIS", path.read_text(encoding="utf-8"), re.M | re.S)[1]
             for path in (private.REPO / "man").glob("*.3")}
    named = [name for text in pages.values() for name in re.findall(r"strand_\w+", text.split("\\-")[0])]
    pages_own = {name.removesuffix(".3") for name in pages}
    assert sorted(set(named) - pages_own) == sorted(declared() - pages_own)
    assert len(set(named)) == len(named)


@pytest.fixture(name="installed", scope="module")
def fixture_installed(build, tmp_path_factory):
    """Where a make install put it, and the environment in which pkg-config finds it."""
    root = tmp_path_factory.mktemp("installed")
    make(build, "install", root)
    libdir = re.search(r"^libdir = (.*)$", (build / "Makefile").read_text(), re.M)[1].replace("${exec_prefix}", "")
    prefix = re.search(r"^prefix = (.*)$", (build / "Makefile").read_text(), re.M)[1]
    library = f"{root}{prefix}{libdir}"
    assert os.path.exists(f"{library}/libstrand.so.0")
    return root, prefix, {**os.environ, "PKG_CONFIG_PATH": f"{library}/pkgconfig",
                          "PKG_CONFIG_SYSROOT_DIR": str(root), "LD_LIBRARY_PATH": library}


def flags(installed):
    _, _, env = installed
    return said("pkg-config", "--cflags", "--libs", "strand", env=env).split()


PROGRAM = """
#include <strand/{header}>
#include <strand/strand.h>
int main(void)
{{
	struct strand_row *row = strand_row_new();
	int bad = !row || strand_row_set_text(row, "symbol", "SPX") || !strand_row_json(row);

	strand_row_free(row);
	return bad;
}}
"""


@pytest.mark.parametrize("compiler", [
    ["cc", "-std=c17", "-pedantic-errors"], ["cc", "-std=c99", "-pedantic-errors"], ["clang", "-std=c17", "-Weverything",
     "-Wno-padded", "-Wno-declaration-after-statement"], ["c++", "-std=c++17", "-pedantic-errors", "-x", "c++"]])
@pytest.mark.parametrize("header", [h.name for h in HEADERS])
def test_programs_are_built_with_its_flags(installed, tmp_path, compiler, header):
    """Each header stands alone, in C and in C++, without a warning, and the program runs."""
    if not shutil.which(compiler[0]):
        pytest.skip(f"no {compiler[0]}")
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(PROGRAM.format(header=header), encoding="ascii")
    sanitizer = [f for f in ("-fsanitize=address,undefined", "-fsanitize=thread")
                 if f in said("grep", "^SANITIZE_FLAGS", f"{os.environ['STRANDD_BUILD']}/Makefile")]
    # of two compilers' sanitizers one program can have but one
    only_compile = ["-fsyntax-only"] if sanitizer and compiler[0] == "clang" else []
    said(*compiler, "-Wall", "-Wextra", "-Werror", *sanitizer, *only_compile, "-o", str(program), str(source),
         *([] if only_compile else flags(installed)), *said("pkg-config", "--cflags", "strand", env=installed[2]).split())
    if not only_compile:
        said(str(program), env=installed[2])


def test_what_is_installed(installed):
    root, prefix, _ = installed
    assert {p.name for p in pathlib.Path(f"{root}{prefix}/include/strand").iterdir()} == {h.name for h in HEADERS}
    pages = pathlib.Path(f"{root}{prefix}/share/man/man3")
    assert {p.name for p in pages.iterdir()} >= {f"{name}.3" for name in declared()}
    assert all(p.exists() for p in pages.iterdir())
    names = {p.name for p in pathlib.Path(f"{root}{prefix}/lib").iterdir()}
    assert not any(name.endswith(".a") for name in names) and "libstrandparts.la" not in names
    assert not any("drive_" in p.name or p.name in ("decide", "publish") for p in root.rglob("*"))


def test_no_libpq_in_the_headers():
    for header in HEADERS:
        assert "libpq-fe" not in header.read_text(encoding="utf-8")


def test_the_examples(build, db, daemon):
    """decide.c under strandd, asked by publish.c; a plan that is none fails for good."""
    daemon([{"tag": lib.PLAN, "source": "AD_strands", "command": [str(build / "examples" / "c" / "decide")]}])
    publish = str(build / "examples" / "c" / "publish")
    for confidence, approved in (("0.8", "true"), ("0.25", "false")):
        text = said(publish, db.dsn(), "SPX", confidence)
        assert re.fullmatch(r'AD_[0-9a-f]{12}: \{"approved": %s\}\n' % approved, text), text
    service.publish(db, "ad_strands", "AD_none", [lib.PLAN])
    lib.wait_until(lambda: (service.receipt(db, "dm", "AD_none", lib.PLAN) or {}).get("state") == "failed")
    assert "AD_none has no trading plan" in service.receipt(db, "dm", "AD_none", lib.PLAN)["error"]
    refused = subprocess.run([publish, db.dsn(), "SPX", "high"], text=True, capture_output=True, check=False)
    assert refused.returncode == 1 and "sig_confidence" in refused.stderr, refused
