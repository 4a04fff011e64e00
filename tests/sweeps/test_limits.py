"""Limits that need the sizes of the activations are found before anything is trained."""

import json

import pytest
from click.testing import CliRunner

from saecore.cli import cli
from saecore.config.load import load
from saecore.sweeps.run import run_sweep
from saecore.training.trainer import Trainer
from tests.faults.small import write_text
from tests.sweeps.small import sweep_file

LIMITS = {
    "k": ({"sae.k": 2000, "sae.d_sae": 96}, "sae.k: expected at most d_sae = 96, got 2000"),
    "width": ({"sae.d_in": 7}, "sae.d_in: blocks.0.hook_resid_post of tiny_lm has size 256"),
    "control": ({"sae.l0_control": {"target": 4.0}}, "sae.l0_control: architecture topk has no"),
    "factors": ({"training.lr_factors": {"encodr": 0.5}}, "lr_factors.encodr"),
    "averages": ({"training.ema": 0.9, "training.optimizer": "signum"}, "training.ema: optimizer"),
    "start": ({"sae.init_from": "nonesuch"}, "sae.init_from: nonesuch"),
    "loss": ({"sae.k": 2000, "training.loss": "ce", "sae.normalizer": "none",
              "training.batch_size": 128}, "sae.k: expected at most d_sae = 96"),
}  # fmt: skip
SETTINGS = {"evaluator": [], "training": {"tokens": 512}}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Token files in a directory of the tests' own."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def file_of(tmp_path, name, buffer=512):
    """A sweep of a good point and, on a stream of its own, a point over one limit."""
    settings, message = LIMITS[name]
    points = [{"name": "good"}, {"name": "bad", "buffer.tokens": buffer, **settings}]
    return sweep_file(write_text(tmp_path / "text"), tmp_path, points, SETTINGS), message


@pytest.mark.parametrize("name", LIMITS)
def test_before_the_first_point_starts(tmp_path, name, monkeypatch):
    """The point is reported before any step, and its error is the run's own; the other ends."""
    file, message = file_of(tmp_path, name)
    sweep, states = load(file), []
    real = Trainer.step

    def watched(self):
        record = json.loads((sweep.directory / "sweep.json").read_text())
        states.append({point["name"]: point["state"] for point in record["points"]})
        real(self)

    monkeypatch.setattr(Trainer, "step", watched)
    result = run_sweep(sweep)
    assert message in result.failed["bad"]
    assert states[0]["bad"] == "failed"
    assert set(result.finished) == {"good"}


@pytest.mark.parametrize("name", LIMITS)
def test_check(tmp_path, name):
    """`saecore check` finds it in a sweep, and in the file of the point alone."""
    file, message = file_of(tmp_path, name, buffer=256)
    done = CliRunner().invoke(cli, ["check", str(file)])
    assert done.exit_code == 1
    assert message in done.output
    alone = tmp_path / "alone.toml"
    alone.write_text(CliRunner().invoke(cli, ["show", str(file), "bad"]).output)
    done = CliRunner().invoke(cli, ["check", str(alone)], standalone_mode=False)
    assert message in str(done.exception)


def test_without_a_model(tmp_path):
    """Synthetic activations tell their size, too."""
    file = tmp_path / "synthetic.toml"
    file.write_text(
        '[dataset]\ntype = "synthetic"\nfeatures = 32\nd_in = 16\n'
        '[sae]\narchitecture = "topk"\nexpansion_factor = 2\nk = 33\n[training]\ntokens = 10_000\n'
    )
    done = CliRunner().invoke(cli, ["check", str(file)], standalone_mode=False)
    assert "sae.k: expected at most d_sae = 32, got 33" in str(done.exception)
    done = CliRunner().invoke(cli, ["check", str(file), "--set", "sae.k=8"], standalone_mode=False)
    assert done.exception is None
