"""tests/model/wake.pml, the argument that no wakeup is lost, checked by spin: see the
top of the model."""

import pathlib
import re
import shutil
import subprocess

import pytest

MODEL = pathlib.Path(__file__).resolve().parents[1] / "model" / "wake.pml"
NEEDED_KB = 4 << 20

pytestmark = pytest.mark.long


def available_kb():
    with open("/proc/meminfo", encoding="utf-8") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable:"))


def check(place, *options):
    """What pan says of the model made with these options: (errors, states)."""
    for tool in ("spin", "gcc"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed: nothing to check the model with")

    def run(*argv):
        done = subprocess.run(argv, cwd=place, stdin=subprocess.DEVNULL, text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"{argv}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    run("spin", "-a", *options, str(MODEL))
    run("gcc", "-O2", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c")
    said = run("./pan", "-m400000")
    assert "max search depth too small" not in said and "out of memory" not in said, said
    return int(re.search(r"errors: (\d+)", said)[1]), int(float(re.search(r"([\d.e+]+) states, stored", said)[1]))


def test_no_wakeup_is_lost(tmp_path, capsys):
    if available_kb() < NEEDED_KB:
        pytest.skip(f"it takes some 3 GB of memory, and {available_kb() >> 10} MiB are available")
    errors, states = check(tmp_path, "-DG=1")
    with capsys.disabled():
        print(f"\nwake.pml: {errors} errors in {states} states")
    assert errors == 0 and states > 1000000


@pytest.mark.parametrize("mistake", ["WAKEANY", "ONLYHIGH", "NOOPENWAKE"])
def test_a_mistake_is_found(tmp_path, mistake):
    """So the model can tell."""
    errors, _ = check(tmp_path, "-DG=1", f"-D{mistake}")
    assert errors == 1
