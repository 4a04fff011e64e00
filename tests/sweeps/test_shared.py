"""SAEs on one stream end with the bits that each of them has alone."""

import contextlib
import json
import math

import pytest

from saecore.models.huggingface import HuggingFaceBackend
from saecore.runs.signals import Interrupted
from saecore.storage import checkpoint
from saecore.sweeps.run import run_sweep
from saecore.training.trainer import Trainer
from tests.faults.small import BATCH, Killed, differences, write_text
from tests.sweeps.small import HOOKS, POINTS, alone, sweep_of


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Small text files."""
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Token files in a directory of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAECORE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="module")
def reference(text, tmp_path_factory):
    """The directory of every point, trained alone."""
    place = tmp_path_factory.mktemp("alone")
    return {one.name: alone(one, place) for one in sweep_of(text, place, POINTS).points}


def test_every_sae_is_that_of_a_run_alone(text, tmp_path, reference):
    """Other widths, architectures, hooks, targets, batch sizes, rates, seeds, optimizers, budgets
    and times of evaluation: weights, counters and every logged figure are the same bits.
    """
    result = run_sweep(sweep_of(text, tmp_path, POINTS))
    assert result.failed == {}
    assert set(result.finished) == set(reference)
    for name, directory in result.finished.items():
        assert differences(directory, reference[name]) == [], name
        cost = json.loads((directory / "evaluation.json").read_text())["training"]
        assert cost["stream"]["runs"] == len(POINTS)


def test_crosscoders_take_part(text, tmp_path):
    """Several hooks read, several reconstructed, on the stream of a plain SAE of another hook."""
    points = [
        {"name": "plain", "model.hook": HOOKS[0]},
        {
            "name": "crosscoder",
            "model.hooks": [HOOKS],
            "sae.architecture": "crosscoder",
            "sae.d_sae": 48,
            "sae.activation": {"type": "topk", "k": 4},
            "training.tokens": 256,
        },
    ]
    sweep = sweep_of(text, tmp_path, points, {"model": {"hook": None}})
    result = run_sweep(sweep)
    assert result.failed == {}
    for point in sweep.points:
        assert differences(result.finished[point.name], alone(point, tmp_path / "alone")) == []


def test_the_model_runs_once(text, tmp_path, monkeypatch):
    """Every batch of contexts goes through the model once, however many SAEs there are, what they
    estimate before they start included.
    """
    calls = []
    real = HuggingFaceBackend.activations

    def counted(self, tokens, hooks):
        calls.append(tokens.shape)
        return real(self, tokens, hooks)

    monkeypatch.setattr(HuggingFaceBackend, "activations", counted)
    sweep = sweep_of(text, tmp_path, POINTS, {"evaluator": []})
    assert run_sweep(sweep).failed == {}
    tokens = max(one.experiment.training.steps * one.experiment.training.batch_size
                 for one in sweep.points)  # fmt: skip
    fills = math.ceil(tokens / 256 + 0.5)  # the last half of a fill waits for the next
    contexts = [one for one in calls if one == (8, 32)]  # others: the size of a hook
    assert len(contexts) == fills  # a fill of 256 tokens is one batch of 8 contexts of 32


@pytest.mark.parametrize("step", [0, 5])
def test_killed_and_given_again(text, tmp_path, reference, step):
    """Killed when one of the runs has done some steps, the same sweep goes on: each run from its
    own checkpoint, to the bits of an uninterrupted one; what had ended is not trained again.
    """
    sweep = sweep_of(text, tmp_path, POINTS)
    real = Trainer.step

    def dying(self):
        if self.completed == step and self.settings.batch_size == BATCH:
            raise Killed
        real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", dying)
        with pytest.raises(Killed):
            run_sweep(sweep)
    result = run_sweep(sweep)
    for name, directory in result.finished.items():
        assert differences(directory, reference[name]) == [], name
        assert len(list(directory.parent.iterdir())) == 1, "a run of its own was begun"
    before = {name: (one / "metrics.jsonl").stat() for name, one in result.finished.items()}
    assert run_sweep(sweep).finished == result.finished
    after = {name: (one / "metrics.jsonl").stat() for name, one in result.finished.items()}
    assert before == after


def test_a_signal_saves_all(text, tmp_path, reference, monkeypatch):
    """After SIGINT every run has a checkpoint of the step it was at, and the sweep goes on."""
    import os
    import signal

    sweep = sweep_of(text, tmp_path, POINTS)
    real, seen = Trainer.step, []

    def interrupting(self):
        seen.append(1)
        if len(seen) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupting)
        with pytest.raises(Interrupted):
            run_sweep(sweep)
    record = json.loads((sweep.directory / "sweep.json").read_text())
    states = {one["name"]: one for one in record["points"]}
    assert {one["state"] for one in states.values()} == {"interrupted"}
    for one in states.values():
        assert checkpoint.checkpoints(sweep.directory / one["run"] / "checkpoints")
    result = run_sweep(sweep)
    for name, directory in result.finished.items():
        assert differences(directory, reference[name]) == [], name


def test_a_point_that_fails_does_not_stop_the_others(text, tmp_path, reference, monkeypatch):
    """An SAE that breaks in mid-run is reported; the others end as if it had not been there."""
    points = [*POINTS[:3], {"name": "no-hook", "model.hook": "blocks.0.hook_nonesuch"}]
    sweep = sweep_of(text, tmp_path, points)
    real = Trainer.step

    def breaking(self):
        if self.settings.batch_size == 100 and self.completed == 2:
            raise RuntimeError("a bug in a plugin")
        real(self)

    with monkeypatch.context() as patch, contextlib.redirect_stderr(None):
        patch.setattr(Trainer, "step", breaking)
        result = run_sweep(sweep)
    assert result.failed["wide"] == "RuntimeError: a bug in a plugin"
    assert "hook_nonesuch" in result.failed["no-hook"]
    assert set(result.finished) == {"base", "greedy"}
    for name, directory in result.finished.items():
        assert differences(directory, reference[name]) == [], name
    again = run_sweep(sweep_of(text, tmp_path, points))
    assert differences(again.finished["wide"], reference["wide"]) == []
    assert set(again.failed) == {"no-hook"}
