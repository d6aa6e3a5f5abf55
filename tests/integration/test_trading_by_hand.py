"""examples/trading/README.md: its commands by hand lead to the account to the cent."""

import os
import shutil

import cluster as private
import documents

EXAMPLE = private.REPO / "examples" / "trading"


def test_the_commands_in_order(build):
    language, commands = documents.blocks((EXAMPLE / "README.md").read_text(encoding="utf-8"), "# The trading example",
                                          "## The rules")[1]
    assert language == "sh"
    with documents.Reader() as reader:
        shutil.copytree(EXAMPLE.parent, os.path.join(reader.dir, "examples"),
                        ignore=shutil.ignore_patterns("__pycache__"))
        said = reader.run(commands)
    assert "345731.35" in said and "breakout_55" in said
