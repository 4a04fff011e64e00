"""A small SAE, saved as SAELens 6 saves it."""

import pytest

from saecore.core.sae_config import Metadata, Shape
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator


def saved(directory, architecture="standard", metadata=None, **cfg):
    """Write an SAE with random weights; the SAE."""
    import attrs
    import torch

    table = {"architecture": architecture, **({"k": 3} if architecture == "topk" else {})}
    sae = structure_choice("architecture", table).build(Shape(6, 6, 20))
    sae.initialize(generator(0, "init"), 0.7)
    with torch.no_grad():
        sae.b_enc.normal_(generator=generator(0, "b_enc"))
        sae.b_dec.normal_(generator=generator(0, "b_dec"))
    sae = sae.to_inference()
    known = {"hook_name": "blocks.8.hook_resid_pre", "model_name": "gpt2-small"}
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({**known, **(metadata or {})}), **cfg)
    sae.save_model(directory, sparsity=torch.full((20,), -2.0))
    return sae


def finished_run(directory):
    """Write the directory of a run that ended, with paths and a password of somebody's machine."""
    import json

    local = {"l0": 3.0, "dataset_path": "/home/somebody/texts", "training_tokens": 1_000_000}
    saved(directory / "sae", "topk", local)
    figures = {
        "loss_recovered": {"ce_loss_score": {"value": 0.9871, "tokens": 512}},
        "reconstruction": {
            "l0": {"value": 2.75, "tokens": 512},
            "explained_variance": {"value": 0.8125, "tokens": 512},
        },
    }
    (directory / "evaluation.json").write_text(json.dumps({"training": {}, "figures": figures}))
    tables = {
        "name": "x",
        "output": "/home/somebody/runs",
        "sae": {"k": 3},
        "logger": [{"type": "mlflow", "tracking_uri": "https://me:pass@server"}],
        "dataset": {"type": "text_files", "paths": ["/home/somebody/texts"]},
    }
    (directory / "experiment.json").write_text(json.dumps({"experiment": tables}))
    return directory


HOOK = "blocks.1.hook_resid_post"
"""The hook that `tiny_lm_sae` reads."""


def tiny_lm_sae(**metadata):
    """An SAE of the embedded model with random weights, 5 latents a token."""
    import attrs

    table = {"architecture": "topk", "k": 5, "rescale_acts_by_decoder_norm": False}
    sae = structure_choice("architecture", table).build(Shape(256, 256, 32))
    sae.initialize(generator(0, "init"), 0.3)
    known = {"model_name": "tiny_lm", "hook_name": HOOK, "context_size": 64}
    sae = sae.to_inference()
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({**known, **metadata}))
    return sae


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A small text, and token files in a directory of the test's own."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    lines = [f"def f{j}(x): return x + {j * 7 % 23}  # {j % 11} of them" for j in range(600)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    return str(tmp_path / "text.txt")
