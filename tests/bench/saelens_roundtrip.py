"""Do SAELens and saecore read each other's files? Features and reconstructions must agree.

python -m tests.bench.saelens_roundtrip --peers .venv-peers --sae runs/topk/ID/sae

There: SAELens loads what saecore saved. Back: saecore loads what SAELens then saves, once as the
inference SAE (save_model) and once by way of its training SAE (save_inference_model).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from saecore import SAE
from tests.bench.peers import run_peer

LIMIT = 1e-5
"""Largest error allowed, as a share of the largest value."""


def main() -> None:
    """Compare, print, and exit with 1 if an error is over the limit."""
    parser = argparse.ArgumentParser(description="SAELens round trip of a saved SAE")
    parser.add_argument("--peers", type=Path, required=True, help="where peers.sh put them")
    parser.add_argument("--sae", type=Path, required=True, help="directory of a saved SAE")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sys.exit(0 if compare(options, Path(name)) else 1)


def compare(options: argparse.Namespace, directory: Path) -> bool:
    """There and back; whether everything is within the limit."""
    ours = SAE.load_from_disk(options.sae)
    generator = torch.Generator().manual_seed(options.seed)
    x = torch.randn(options.rows, ours.cfg.d_in, generator=generator, dtype=ours.W_dec.dtype)
    save_file({"x": x}, directory / "input.safetensors")
    job = {
        "sae": str(options.sae.absolute()),
        "input": str(directory / "input.safetensors"),
        "output": str(directory / "output.safetensors"),
        "save_model": str(directory / "save_model"),
        "save_inference_model": str(directory / "save_inference_model"),
    }
    answer = run_peer(options.peers, "roundtrip", job, directory)
    print(f"SAELens {answer['sae_lens']} (torch {answer['torch']}) loads {answer['class']}")
    for line in answer["warnings"]:
        print(f"  warning: {line}")
    hooks = (answer["hook_name"], ours.cfg.metadata.get("hook_name"))
    good = hooks[0] == hooks[1]
    if not good:
        print(f"  hook_name: SAELens reads {hooks[0]!r}, saecore wrote {hooks[1]!r}")

    theirs = load_file(directory / "output.safetensors")
    good &= agree("there: saecore saves, SAELens loads", ours, x, theirs)
    good &= same_files("back: save_model", options.sae, directory / "save_model")
    for way in ("save_model", "save_inference_model"):
        title = f"back: SAELens' {way}, saecore loads"
        if way == "save_inference_model" and answer["training_problem"]:
            print(f"{title}: left out, SAELens says {answer['training_problem']}")
            continue
        good &= agree(title, SAE.load_from_disk(directory / way), x, theirs)
    print("agree" if good else "DO NOT AGREE")
    return good


def agree(title: str, sae: SAE, x: Tensor, theirs: dict[str, Tensor]) -> bool:
    """Print the largest errors against SAELens' features and reconstructions."""
    with torch.no_grad():
        features = sae.encode(x)
        found = {"features": features, "decoded": sae.decode(features), "forward": sae(x)}
    print(title)
    good = True
    for name, value in found.items():
        if value.shape != theirs[name].shape:
            print(f"  {name:<10} shape {list(value.shape)} != {list(theirs[name].shape)}")
            good = False
            continue
        scale = float(theirs[name].abs().max())
        error = float((value - theirs[name]).abs().max()) / (scale or 1.0)
        good &= error <= LIMIT
        print(f"  {name:<10} max |error| / max |value| {error:.2e}  (max |value| {scale:.3f})")
    other = ((features != 0) != (theirs["features"] != 0)).any(-1)
    print(f"  rows in which other latents are active: {int(other.sum())} of {len(x)}")
    return good


def same_files(title: str, before: Path, after: Path) -> bool:
    """Whether a loaded and saved SAE has the same bits; differences in cfg.json are printed."""
    first, second = (load_file(one / "sae_weights.safetensors") for one in (before, after))
    same = first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )
    print(f"{title}: weights {'bit for bit the same' if same else 'DIFFER'}")
    one, two = (json.loads((path / "cfg.json").read_text()) for path in (before, after))
    for key in sorted({*one, *two}):
        if one.get(key, "(none)") != two.get(key, "(none)"):
            print(f"  cfg.json {key}: {one.get(key, '(none)')} -> {two.get(key, '(none)')}")
    return same


if __name__ == "__main__":
    main()
