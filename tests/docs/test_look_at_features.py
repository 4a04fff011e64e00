"""docs/how-to/look-at-features.md is carried out, on a small run."""

import contextlib
import io
import shlex
from pathlib import Path

import pytest

from saecore.cli import cli
from saecore.config import structure_experiment
from saecore.runs.run import run
from tests.docs.blocks import blocks, commands, same
from tests.faults.small import tables, write_text

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "look-at-features.md"
RUN = "topk/20261123-170027-0958"


def test_the_page_is_true(tmp_path, monkeypatch):
    """Someone who types what the page says sees what the page says, but for numbers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    text = write_text(tmp_path / "text")
    experiment = structure_experiment(
        tables(text, Path("runs"), name="topk", evaluation={"tokens": 0})
    )
    done = run(experiment).directory
    small = f"topk/{done.name}"
    names, ran = {}, 0
    for block in blocks(PAGE):
        if block.language == "python":
            exec(compile(block.text.replace(RUN, small), PAGE.name, "exec"), names)
        for command, written in commands(block) if block.language == "console" else ():
            printed = io.StringIO()
            words = shlex.split(command.replace(RUN, small))[1:]
            with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
                cli.main(args=words, prog_name="saecore")
            assert ended.value.code == 0
            assert same(printed.getvalue().splitlines(), written), printed.getvalue()
            ran += 1
    assert ran == 2
    assert Path("features.html").stat().st_size > 50_000
    assert names["again"].latents.tolist() == [names["latent"]]
    assert names["again"].contexts == len(names["tokens"])
    assert (PAGE.parent / "dashboard.png").stat().st_size < 300_000
