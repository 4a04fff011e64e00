"""The page about publishing: its commands and its Python run in order, against a local hub."""

import contextlib
import io
import json
import shlex
from pathlib import Path

import torch
from click.testing import CliRunner

from saecore.cli import cli
from saecore.cli.verify_release import verify
from tests.docs.blocks import blocks, commands, same
from tests.releases.test_measure import made, text  # noqa: F401 (a fixture)

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "publish.md"
RUN = Path("runs/topk/20261123-101500-9f3a")


def test_the_page(hub, text, tmp_path, monkeypatch):  # noqa: F811
    """Commands print what the page shows, but for numbers; Python runs as it stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_local")
    found = {one.name: {"value": one.measured, "tokens": 512}
             for one in verify(made(), dataset=text, tokens=512).comparisons}  # fmt: skip
    figures = {"l0": found["L0"], "explained_variance": found["explained variance"]}
    made().save_model(RUN / "sae", torch.full((32,), -2.0))
    done = {"training": {}, "figures": {"reconstruction": figures}}
    (RUN / "evaluation.json").write_text(json.dumps(done))
    (RUN / "experiment.json").write_text(json.dumps({"experiment": {"name": "topk"}}))
    names, printed = {}, io.StringIO()
    for block in blocks(PAGE):
        if block.language == "python":
            with contextlib.redirect_stdout(printed):
                exec(compile(block.text, PAGE.name, "exec"), names)
        for command, shown in commands(block) if block.language == "console" else ():
            words = shlex.split(command)[1:]
            result = CliRunner().invoke(cli, words, standalone_mode=False, catch_exceptions=False)
            got = result.output.splitlines()
            assert same(got, shown), f"{PAGE.name}:{block.line}: {result.output}"
    said = printed.getvalue()
    assert "layer_1/topk/cfg.json" in said
    assert "https://neuronpedia.org/quick-list/?name=two%20features&features=" in said
    stored = hub.repositories["username/my-saes"]
    card = stored.commits[stored.branches["main"]]["README.md"].decode()
    assert [line.split("`")[1] for line in card.splitlines() if line.startswith("| `")] == [
        "blocks.1.hook_resid_post", "layer_1/topk"
    ]  # fmt: skip
