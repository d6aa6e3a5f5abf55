"""README.md leads from a fresh database to a system that works: its own blocks
from "Start" to "Look around", one after the other."""

import re

import pytest

import cluster as private
import documents


def settings(text):
    """{name: text} of a configuration's settings."""
    return {name: whole for whole, name in re.findall(r"^((\w+) ?[:=].*?;)$(?=\n\w|\s*\Z)", text, re.M | re.S)}


def commands_of(blocks):
    """One shell script of all: SQL goes to psql, settings to the file, where they
    take the place of those with the same name; a block that begins with a file of
    conf.d goes there, beside it."""
    conf, script = {}, []
    for language, text in blocks:
        if language == "sql":
            script.append(f"psql -q -v ON_ERROR_STOP=1 trading <<'END'\n{text}END\n")
        elif language == "conf" and text.startswith("# conf.d/"):
            name = text.split("\n")[0].removeprefix("# ")
            script.append(f"mkdir -p conf.d; cat >{name} <<'END'\n{text}END\n")
        elif language == "conf":
            conf.update(settings(text))
            script.append("cat >/etc/strandd/strandd.conf <<'END'\n" + "\n".join(conf.values()) + "\nEND\n")
        else:
            assert language == "sh", f"what is this block?\n{text}"
            script.append(text)
    return "".join(script)


@pytest.fixture
def reader(build):
    with documents.Reader() as r:
        yield r


def test_the_commands_in_order(reader):
    text = (private.REPO / "README.md").read_text(encoding="utf-8")
    found = documents.blocks(text, "## Start", "## Look around")
    assert [language for language, _ in found].count("conf") == 2
    said = reader.run(commands_of(found) + "strandctl status\ncurl -s --unix-socket /run/strandd/stats.sock"
                      " http://localhost/metrics | grep settled_total\n")
    for tag in ("dm:evaluate_plan", "risk:assess"):
        assert re.search(rf"{tag} +\w+_strands +done", said), said


def test_poolers_mode_is_told():
    """It cannot be detected, so each place that an operator reads says it."""
    for name in ("README.md", "man/strandd.8", "ARCHITECTURE.md"):
        text = " ".join((private.REPO / name).read_text(encoding="utf-8").split())
        assert re.search(r"pooler in session mode|session mode only", text) and "transaction mode" in text, name
