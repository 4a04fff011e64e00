"""Numbers that are not finite are seen in the step in which they occur, wherever they occur."""

import json

import pytest
import torch

from saecore.config import structure_experiment
from saecore.errors import NumericsError
from saecore.runs.run import run
from saecore.storage import checkpoint
from saecore.training.trainer import Trainer
from tests.faults.numbers import PLACES, injected
from tests.faults.small import only_run, tables, write_text

STEP = 6


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


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("architecture", ["topk", "standard"])
def test_stop(text, tmp_path, place, bad, architecture):
    """One number: stopped in that step, with the last good checkpoint named and still good."""
    sae = {"topk": {}, "standard": {"architecture": "standard", "l1_coefficient": 1.0}}
    base = tables(text, tmp_path)
    if architecture != "topk":
        base["sae"] = {**sae[architecture], "d_sae": 96}
    with injected(place, bad, STEP), pytest.raises(NumericsError, match=f"step {STEP}: ") as error:
        run(structure_experiment(base))
    saved = only_run(base) / "checkpoints" / "step-00000004"
    assert str(error.value).endswith(f"the last good checkpoint is {saved}")
    assert checkpoint.checkpoints(saved.parent) == [saved]
    state = checkpoint.load(saved)
    assert all(bool(torch.isfinite(one).all()) for one in state["sae"].values())


@pytest.mark.parametrize("place", [one for one in PLACES if one != "weight"])
def test_skip(text, tmp_path, place):
    """With "skip" the step is left out, counted and logged; the run ends with finite weights."""
    base = tables(text, tmp_path, training={"bad_numbers": "skip"})
    with injected(place, float("nan"), STEP):
        directory = run(structure_experiment(base)).directory
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").open()]
    counted = [line["details/skipped_steps"] for line in lines if "metrics/l0" in line]
    assert counted == [0] * STEP + [1] * (12 - STEP)


def test_never_saved_over_a_good_checkpoint(text, tmp_path, monkeypatch):
    """Weights that an optimizer made infinite in the very step that is saved: not saved."""
    base = tables(text, tmp_path)
    real = Trainer.step

    def breaking(self):
        real(self)
        if self.completed == 8:
            self.sae.W_dec.data[3, 2] = float("inf")

    monkeypatch.setattr(Trainer, "step", breaking)
    with pytest.raises(NumericsError, match=r"W_dec .* last good checkpoint .*step-00000004"):
        run(structure_experiment(base))
