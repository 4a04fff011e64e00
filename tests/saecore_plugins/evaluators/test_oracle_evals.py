"""Evaluators reproduce SAELens' recorded figures on the recorded model and SAEs."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from saecore import SAE
from saecore.evaluation.batches import HeldOut
from saecore.evaluation.evaluate import run_evaluators
from saecore.models.huggingface import HuggingFaceBackend
from saecore.plugins.structure import structure_choice

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def record(oracle):
    """The recorded figures, and the model."""
    table = json.loads((oracle / "model" / "evals.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(oracle / "model" / "model")
    return table, HuggingFaceBackend(model, None, "recorded", {})


@pytest.mark.parametrize("name", ["resid", "mlp", "z"])
def test_recorded_figures(oracle, record, name):
    """Every figure is reproduced within 1e-3, in its group; NaN where SAELens has NaN."""
    table, backend = record
    sae = SAE.load_from_disk(oracle / "model" / f"sae_{name}")
    tokens = torch.tensor(table["eval_tokens"])
    size = {"batch_size": table["batch_size_prompts"]}
    settings = {
        "reconstruction": {**size, "bias_per_batch": True},
        "loss_recovered": size,
        "featurewise": size,
    }
    evaluators = {
        name: structure_choice("evaluator", {"type": name, **keys}).build()
        for name, keys in settings.items()
    }
    result = run_evaluators(sae, HeldOut(model=backend, contexts=tokens), evaluators)
    ours = {}
    for figures in result.figures.values():
        for key, figure in figures.items():
            ours.setdefault(figure.group, {})[key] = figure
    recorded = dict(table["figures"][name]["metrics"])
    counts = recorded.pop("token_stats")
    for group, figures in recorded.items():
        for key, value in figures.items():
            expected = pytest.approx(value, rel=1e-3, abs=1e-5, nan_ok=True)
            assert ours[group][key].value == expected, key
    total = ours["model_behavior_preservation"]["kl_div_score"].tokens
    assert total == counts["total_tokens_eval_reconstruction"]
    total = ours["sparsity"]["l0"].tokens
    assert total == counts["total_tokens_eval_sparsity_variance"]
    for key, values in table["figures"][name]["featurewise"].items():
        got = result.vectors["featurewise"][key].values
        recorded = torch.tensor(values)
        torch.testing.assert_close(got, recorded, rtol=1e-3, atol=1e-5, equal_nan=True)
