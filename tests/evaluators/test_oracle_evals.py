"""Evaluators give the recorded figures on the recorded model and SAEs."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from saecore import SAE
from saecore.config.structure import structure_choice
from saecore.evaluation import evaluate
from saecore.huggingface import HuggingFaceBackend
from saecore.plugins import current_host
from tests.helpers import assert_close

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("name", ["resid", "mlp", "z"])
@pytest.mark.parametrize("evaluator", ["reconstruction", "loss_recovered"])
def test_recorded_figures(oracle, name, evaluator):
    """Every figure that the reference gives under the same name is equal to it."""
    record = json.loads((oracle / "model" / "evals.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(oracle / "model" / "model")
    backend = HuggingFaceBackend(model, None, "recorded", {})
    sae = SAE.load_from_disk(oracle / "model" / f"sae_{name}")
    tokens = torch.tensor(record["eval_tokens"])
    run = structure_choice("evaluator", evaluator, current_host()).build()
    figures = evaluate(sae, backend, tokens, {evaluator: run})[evaluator]
    recorded = {}
    for group in record["figures"][name]["metrics"].values():
        recorded.update(group)
    compared = sorted(set(figures) & set(recorded))
    assert len(compared) >= 7
    # The reference takes this ratio per batch and averages; ours does not depend on batches.
    ratio = "relative_reconstruction_bias"
    for key in compared:
        ours = figures[key]["value"]
        if key == ratio:
            parts = tokens.split(record["batch_size_prompts"])
            each = [run(sae, backend, part)[ratio].value for part in parts]
            assert ours == pytest.approx(sum(each) / len(each), rel=1e-2)
            ours = sum(each) / len(each)
        assert_close(ours, recorded[key], key)
