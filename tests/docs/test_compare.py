"""docs/how-to/compare.md is carried out at the size that it shows."""

import contextlib
import io
import shlex
from pathlib import Path

import pytest

from saecore.cli import cli
from tests.docs.blocks import blocks, commands, same
from tests.faults.small import write_text

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "compare.md"


def test_the_page_is_true(tmp_path, monkeypatch):
    """Someone who types what the page says sees what the page says, but for numbers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    write_text(tmp_path / "text")
    ran = 0
    for block in blocks(PAGE):
        if block.file:
            Path(block.file).write_text(block.text)
        for command, written in commands(block) if block.language == "console" else ():
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as done:
                cli.main(args=shlex.split(command)[1:], prog_name="saecore")
            assert done.value.code == 0
            assert same(printed.getvalue().splitlines(), written), printed.getvalue()
            ran += 1
    assert ran == 3
    assert Path("report.html").stat().st_size > 10_000
