"""Make tests/data/temporal: small temporal SAEs of SAELens, and what it computes with them.

python tests/bench/record_temporal.py DIRECTORY

It runs in SAELens' environment (tests/bench/peers.sh).
"""

from __future__ import annotations

import sys
from pathlib import Path

import sae_lens
import torch
from sae_lens.saes.temporal_sae import TemporalSAE, TemporalSAEConfig
from safetensors.torch import save_file

CASES = {
    "tied_topk": {"n_attn_layers": 2, "kval_topk": 3, "tied_weights": True},
    "untied_relu_scaled": {
        "sae_diff_type": "relu",
        "tied_weights": False,
        "normalize_activations": "constant_scalar_rescale",
        "activation_normalization_factor": 0.25,
    },
    "tied_uncentered": {"kval_topk": 4, "apply_b_dec_to_input": False},
}
"""Settings by case; all have d_in 6, d_sae 16, 2 heads, keys of size 8."""


def record(directory: Path, seed: int, settings: dict) -> None:
    """Save one SAE with random weights, inputs `[2, 5, 6]` and SAELens' answers."""
    torch.manual_seed(seed)
    config = TemporalSAEConfig(d_in=6, d_sae=16, n_heads=2, bottleneck_factor=2, **settings)
    sae = TemporalSAE(config)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.normal_()
        x = 4 * torch.randn(2, 5, 6)
        novel, predicted = sae.encode_with_predictions(x)
        answers = {
            "x": x,
            "novel": novel,
            "predicted": predicted,
            "encode": sae.encode(x),
            "decode": sae.decode(novel),
            "forward": sae(x),
        }
    directory.mkdir(parents=True, exist_ok=True)
    sae.save_model(directory)
    save_file(answers, directory / "answers.safetensors")


if __name__ == "__main__":
    print("SAELens", sae_lens.__version__)
    for seed, (name, settings) in enumerate(CASES.items()):
        record(Path(sys.argv[1]) / name, seed, settings)
