"""The completion of strandctl for bash, which the build makes from the program's help."""

import re
import subprocess

import pytest

import cluster as private

pytestmark = pytest.mark.usefixtures("build")


def complete(*words, cwd=None):
    """What bash would offer for the last word, words being parted as bash does."""
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
              '_strandctl strandctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"; '
              'for word in "${COMPREPLY[@]}"; do printf "%s\\n" "$word"; done')
    done = subprocess.run(["bash", "--norc", "-u", "-c", script, "bash", str(private.build_dir() / "completions" / "strandctl"), "strandctl", *words],
                          capture_output=True, text=True, check=False, cwd=cwd, timeout=20)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.splitlines()


def said(*args):
    return subprocess.run([*private.program("strandctl"), *args], capture_output=True, text=True, check=True, timeout=20).stdout


def commands():
    return re.findall(r"^  ([a-z][a-z-]*)", said("--help").split("Commands:\n")[1], re.M)


def test_it_is_bash_and_registers_itself():
    path = str(private.build_dir() / "completions" / "strandctl")
    done = subprocess.run(["bash", "--norc", "-c", 'source "$1" && complete -p strandctl', "bash", path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("complete -F _strandctl strandctl\n", "")


def test_commands():
    assert complete("") == commands() and len(commands()) > 15
    assert complete("re") == [c for c in commands() if c.startswith("re")]
    assert complete("--json", "sta") == ["status"] and complete("-d", "read", "sta") == ["status"]
    assert complete("--dbname", "=", "read", "sta") == ["status"]
    assert complete("nonsense") == []


@pytest.mark.parametrize("command", ["", "explain", "failed", "publish", "report"])
def test_options_are_those_of_the_help(command):
    text = said(*[command][:len(command)], "--help")
    options = {option for line in text.splitlines() if re.match(r" +-", line)
               for option in re.findall(r"--[a-z-]+=?", re.split(r"   +(?=[^ -])", line.strip())[0])}
    got = complete(*[command][:len(command)], "--")
    assert {o.rstrip("=") for o in got} == {o.rstrip("=") for o in options} and len(got) == len(set(got)) > 5
    assert {o for o in options if o.endswith("=")} <= set(got)


def test_options_of_a_command_come_after_it():
    assert complete("explain", "--so") == ["--source="] and complete("status", "--so") == []
    assert complete("explain", "AD_1", "--so") == ["--source="]


def test_words_of_a_command():
    assert complete("failed", "") == ["list", "show", "retry", "discard"]
    assert complete("failed", "--tag", "list", "di") == ["discard"]
    # ids, tags and tables are the database's to know
    assert complete("failed", "retry", "") == complete("read", "") == complete("read", "--table", "") == []


def test_files(tmp_path):
    for name in ("a.conf", "a b.conf", "c.txt"):
        (tmp_path / name).touch()
    for words in (("--config", "a"), ("-c", "a"), ("--config", "=", "a"), ("status", "--config", "a")):
        assert sorted(complete(*words, cwd=tmp_path)) == ["a b.conf", "a.conf"]
    assert len(complete("--config", "=", cwd=tmp_path)) == 3
    assert complete("--dbname", "", cwd=tmp_path) == []


def test_what_is_made_from_a_program_without_commands(tmp_path):
    broken = tmp_path / "strandctl"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    done = subprocess.run(["sh", str(private.REPO / "src/strandctl/completion.sh"), str(broken)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == "" and "names no commands" in done.stderr
