"""What all programs of this folder share: the way to the tests' modules, and the
option that says where the build is."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "integration"))
import daemon  # noqa: E402


def add_option(parser):
    parser.add_argument("--build", default=os.environ.get("STRANDD_BUILD"), metavar="DIRECTORY",
                        help="build directory (default: STRANDD_BUILD)")


def check(parser, options, *programs):
    """Says what is missing at once, and not when a database has been filled."""
    if not options.build:
        parser.error("say --build, or set STRANDD_BUILD")
    os.environ["STRANDD_BUILD"] = options.build
    for program in programs:
        if not (daemon.build_dir() / program).exists():
            parser.error(f"{daemon.build_dir() / program} is not there: make all bench")
