"""The tutorial does what it says: its commands and its Python are run, in order."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANY = "…"
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,._]*(e-?\d+)?")


def normalized(text):
    """Lines in which ids, numbers, units and spaces no longer differ; empty lines left out."""
    text = re.sub(r"\d{8}-\d{6}-[0-9a-f]{4}", "ID", text)
    text = NUMBER.sub("N", text)
    text = re.sub(r"\bN (s|min|h)\b", "N s", text).replace("GiB", "MiB")
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def assert_shows(got, wanted):
    """`wanted` is `got`, but for numbers and for what `…` stands for."""
    pattern = "".join(
        "(.*\n)*?" if line == ANY else re.escape(line).replace(ANY, ".*") + "\n"
        for line in normalized(wanted)
    )
    shown = "".join(f"{line}\n" for line in normalized(got))
    assert re.fullmatch(pattern, shown), f"the tutorial shows\n{wanted}\nbut this came:\n{got}"


def commands(block):
    """Each command of a console block and the output below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def run(command):
    """What a command prints; an error that saecore reports is output, too."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    expected = 2 if done.stderr.startswith("error: ") else 0
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout + (done.stderr if expected else "")


def test_the_comparison_is_not_blind():
    """Other numbers pass; another word, a missing or an added line does not."""
    assert_shows("a 1.5 s\nb\nc\n", "a 20 min\n…\nc\n")
    for got in ("a 1.5 s\nd\n", "a 1.5 s\n", "x\na 1.5 s\nc\n", "a 1.5 s\nc\nc d\n"):
        with pytest.raises(AssertionError):
            assert_shows(got, "a 20 min\n…\nc\n")


@pytest.mark.slow
def test_the_tutorial(tmp_path, monkeypatch):
    """Files are written, commands and Python run as they stand, and show what is printed there.

    Blocks of `sh` are not run: they install, or start a server.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    names = {}
    printed = ""
    kinds = []
    for kind, block in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")):
        kinds.append(kind)
        if kind == "toml":
            Path(block.partition("\n")[0].removeprefix("# ")).write_text(block)
        elif kind == "console":
            for command, shown in commands(block):
                assert_shows(run(command), shown)
        elif kind == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block, str(TUTORIAL), "exec"), names)
            printed = out.getvalue()
        elif kind == "text":
            assert_shows(printed, block)
    assert set(kinds) == {"sh", "toml", "console", "python", "text"}
