"""Runs that look finished, with an SAE but without any training."""

import json

import torch

from saecore.core.sae_config import Shape
from saecore.plugins.structure import structure_choice

SAE = {
    "architecture": "topk",
    "d_sae": 8,
    "k": 2,
    "dead_latents": {"type": "none", "after_tokens": 600},
}


def fabricate(output, name, seed=0, l0=4.0, directions=None, finished=True, **sae):
    """Write a run's directory `<output>/<name>/<id>`; returns it."""
    run = output / name / f"20260101-00000{seed}-abcd"
    run.mkdir(parents=True)
    table = {**SAE, **sae}
    experiment = {
        "name": name,
        "seed": seed,
        "output": str(output),
        "sae": table,
        "training": {"tokens": 1000, "lr": 1e-3},
    }
    (run / "experiment.json").write_text(json.dumps({"experiment": experiment}))
    lines = [
        {"step": 1, "tokens": 500, "metrics/l0": l0 * 2, "sparsity/dead_features": 1},
        {"step": 2, "tokens": 1000, "metrics/l0": l0, "metrics/explained_variance": 0.5,
         "sparsity/dead_features": 3, "losses/mse_loss": None},
    ]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    if finished:
        figures = {"l0": l0, "explained_variance": 0.5 + l0 / 100, "ce_loss_score": 0.9}
        result = {
            "training": {
                "tokens": 1000,
                "seconds": 2.0,
                "stream": {"runs": 2, "seconds": 1.0},
                "tokens_per_second": 400.0,
                "peak_memory": 2**30,
            },
            "figures": {"one": {key: {"value": v, "tokens": 64} for key, v in figures.items()}},
        }
        (run / "evaluation.json").write_text(json.dumps(result))
    cpu = torch.device("cpu")
    made = structure_choice("architecture", {"architecture": "topk", "k": table["k"]})
    built = made.build(Shape(8, 8, table["d_sae"], dtype=torch.float32, device=cpu))
    if directions is not None:
        built.W_dec.data.copy_(directions)
    built.save_model(run / "sae")
    return run
