"""A small SAE, saved as SAELens 6 saves it."""

from saecore.config.structure import structure_choice
from saecore.plugins import current_host
from saecore.randomness import generator
from saecore.sae_config import Metadata, Shape


def saved(directory, architecture="standard", metadata=None, **cfg):
    """Write an SAE with random weights; the SAE."""
    import attrs
    import torch

    table = {"architecture": architecture, **({"k": 3} if architecture == "topk" else {})}
    sae = structure_choice("architecture", table, current_host()).build(Shape(6, 6, 20))
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
