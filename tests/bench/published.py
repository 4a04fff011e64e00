"""Does SAELens load everything that saecore publishes, with the same features?

python -m tests.bench.published --peers .venv-peers

An SAE of every kind is published to a hub on this machine by `upload_saes_to_huggingface`. There
SAELens' own loaders read each from a directory (load_from_disk) and from the hub
(from_pretrained). Kinds that SAELens lacks must be refused, not read as something else.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

LIMIT = 1e-5
"""Largest error allowed, as a share of the largest value."""

REPO = "username/published"


def main() -> None:
    """Publish, let SAELens load, compare, and exit with 1 if anything differs."""
    parser = argparse.ArgumentParser(description="SAELens loads what saecore publishes")
    parser.add_argument("--peers", type=Path, required=True, help="SAELens' virtual environment")
    options = parser.parse_args()
    from tests.hub import LocalHub

    hub = LocalHub()
    os.environ |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1",
                   "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        os.environ["HF_HOME"] = f"{name}/huggingface"  # read when the client is imported
        good = compare(options.peers, hub, Path(name))
    hub.close()
    sys.exit(0 if good else 1)


def compare(peers: Path, hub: object, directory: Path) -> bool:
    """Whether SAELens gives the same, and refuses what it has no class for."""
    from saecore import upload_saes_to_huggingface
    from saecore.releases.load import Loaded
    from tests.bench.peers import run_peer
    from tests.releases.saes import KINDS, kind

    saes = {name.replace(", ", "_").replace(" ", "_"): kind(name) for name in KINDS}
    known = {name.replace(", ", "_").replace(" ", "_"): "saelens" in formats
             for name, (_, formats) in KINDS.items()}  # fmt: skip
    given = {
        name: Loaded(sae, {}, torch.full((sae.cfg.d_sae,), -2.0)) for name, sae in saes.items()
    }
    done = upload_saes_to_huggingface(given, REPO, "hf_local", license="mit")
    print(f"published {len(saes)} SAEs, {len(done.files)} files in one commit")
    stored = hub.repositories[REPO]
    for file, data in stored.commits[done.commit].items():
        place = directory / "repository" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    generator = torch.Generator().manual_seed(1)
    inputs = {name: torch.randn(3, 8, sae.cfg.d_in, generator=generator)
              for name, sae in saes.items()}  # fmt: skip
    save_file(inputs, directory / "input.safetensors")
    job = {
        "repository": REPO,
        "directory": str(directory / "repository"),
        "saes": list(saes),
        "input": str(directory / "input.safetensors"),
        "output": str(directory / "output"),
    }
    answer = run_peer(peers, "published", job, directory)
    print(f"SAELens {answer['sae_lens']} (torch {answer['torch']})")
    good, worst, counts = True, 0.0, {"same": 0, "refused": 0}
    for label, one in answer["saes"].items():
        way, _, name = label.partition("/")
        if "error" in one:
            good &= not known[name]
            counts["refused"] += 1
            said = "refused" if not known[name] else "FAILS"
            print(f"{said:<8} {way:<10} {name:<32} {one['error'][:90]}")
            continue
        published = saes[name].to_inference().eval()
        with torch.no_grad():
            expected = {"features": published.encode(inputs[name]),
                        "forward": published(inputs[name])}  # fmt: skip
        found = load_file(one["file"])
        errors = []
        for key, value in expected.items():
            scale = float(value.abs().max()) or 1.0
            errors.append(float((found[key].reshape(value.shape) - value).abs().max()) / scale)
        same = max(errors) <= LIMIT and one["hook_name"] == saes[name].cfg.hook_name
        same &= way == "directory" or one["sparsity"]
        good &= same and known[name]
        counts["same"] += same
        worst = max(worst, *errors)
        said = "same" if same and known[name] else "DIFFERS"
        print(f"{said:<8} {way:<10} {name:<32} {one['class']:<26} "
              f"features {errors[0]:.1e}  reconstructions {errors[1]:.1e}")  # fmt: skip
    print(
        f"{counts['same']} the same (largest error {worst:.1e} of the largest value), "
        f"{counts['refused']} refused: {'all as it should be' if good else 'NOT GOOD'}"
    )
    return good


if __name__ == "__main__":
    main()
