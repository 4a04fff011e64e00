"""`saecore push`: what it prints, what it asks."""

import pytest
import torch
from click.testing import CliRunner

from saecore import SAE
from saecore.cli import cli
from saecore.errors import ConflictError
from tests.releases.saes import kind
from tests.releases.sample import finished_run
from tests.releases.test_publish import HOOK, REPO, TOKEN, files


@pytest.fixture
def a_run(tmp_path):
    """The directory of a run that ended."""
    return finished_run(tmp_path / "run")


@pytest.fixture(autouse=True)
def _login(hub, monkeypatch):
    """Somebody is logged in."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def push(*arguments, **options):
    """The command."""
    words = ["push", *map(str, arguments), "--repo", REPO]
    return CliRunner().invoke(cli, words, standalone_mode=False, **options)


def test_push(hub, a_run, monkeypatch):
    """The command publishes a run and prints how others load it; a second time there is nothing to
    do.
    """
    done = push(a_run, "--id", "layer_8", "--license", "mit")
    assert f"{REPO}: 6 files in commit" in done.output
    assert f"SAE.from_pretrained('{REPO}', 'layer_8')" in done.output
    assert TOKEN not in done.output
    assert "already up to date" in push(a_run, "--id", "layer_8").output


def test_push_asks(hub, a_run, monkeypatch):
    """Without a terminal other content is an error; at one the command asks, and no is no."""
    hub.put(REPO, {f"{HOOK}/cfg.json": b"{}"})
    assert isinstance(push(a_run).exception, ConflictError)
    monkeypatch.setattr("saecore.cli.push.interactive", lambda: True)
    push(a_run, input="n\n")
    assert files(hub)[f"{HOOK}/cfg.json"] == b"{}"
    assert "Replace it?" in push(a_run, input="y\n").output
    assert b"topk" in files(hub)[f"{HOOK}/cfg.json"]


def test_push_of_another_format(hub, tmp_path, monkeypatch):
    """What can be read can be pushed: an SAE in the form of sparsify."""
    from saecore.releases.convert import convert
    from saecore.releases.load import Loaded

    sae = kind("topk")
    convert(Loaded(sae, {}, None), "sparsify", tmp_path / "theirs")
    assert push(tmp_path / "theirs", "--id", "x").exception is None
    x = torch.randn(5, 6)
    torch.testing.assert_close(SAE.from_pretrained(REPO, "x").sae(x), sae.to_inference()(x))
