"""The page about activations on disk: its commands run in order, and both runs give one SAE."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from saecore.cli import cli

PAGE = (Path(__file__).parents[2] / "docs/how-to/activations-on-disk.md").read_text("utf-8")
SMALL = ["training.tokens=4096", "training.batch_size=256", "sae.d_sae=64", "sae.k=4",
         "buffer.tokens=2048", "evaluation.tokens=512", "logger=[]"]  # fmt: skip


@pytest.mark.slow
def test_page(tmp_path, monkeypatch):
    """Commands as they stand there, on a smaller experiment of the same name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    settings = [word for one in SMALL for word in ("--set", one)]

    def do(line, *more):
        done = CliRunner().invoke(cli, [*shlex.split(line)[1:], *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    do("saecore init .")
    Path("experiments/topk.toml").rename("topk.toml")
    cache, run = re.findall(r"^\$ (saecore .*)$", PAGE, re.MULTILINE)
    assert "to write" in do(cache, "--estimate", *settings)
    assert not Path("activations").exists()
    do(cache, *settings)
    again = [one for one in SMALL if not one.startswith("buffer")]
    do(run, *(word for one in again for word in ("--set", one)), "--set", "name=cached")
    do("saecore run topk.toml", *settings, "--set", "name=live")
    weights = [one.read_bytes() for one in Path("runs").glob("*/*/sae/sae_weights.safetensors")]
    assert len(weights) == 2
    assert weights[0] == weights[1]
    lines = do("saecore verify activations").splitlines()
    assert len(lines) == 2
    assert all(one.startswith("ok") for one in lines)
    (command,) = re.findall(r"`(saecore tokenize .*?)`", PAGE)
    assert "tokens and" in do(command, *settings)
