"""An SAE on disk, in the form that SAELens 6 writes and reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saecore.config.explain import to_tables
from saecore.files import write_json, write_tensors
from saecore.releases import reading
from saecore.releases.build import build_sae, weights
from saecore.releases.load import load_directory
from saecore.sae import SAE

FORMAT = "6.54.12"
"""Version of SAELens whose file format this is; its loader wants to be told."""

READABLE = (
    "standard", "gated", "topk", "abstopk", "jumprelu", "matching_pursuit", "temporal",
    "transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder",
)  # fmt: skip
"""Architectures of the format that SAELens 6 has a class for; it refuses others by name."""

IMPLIED = ("jumprelu_transcoder", "jumprelu_skip_transcoder")
"""Architectures of the format whose name says the activation; nothing else is stored of it."""


def write_sae(sae: SAE, path: Path, sparsity: Tensor | None = None) -> None:
    """Write the directory of an SAE; see `SAE.save_model`."""
    write_tensors(path / "sae_weights.safetensors", weights(sae))
    if sparsity is not None:
        write_tensors(path / "sparsity.safetensors", {"sparsity": sparsity.float()})
    write_json(path / "cfg.json", cfg_dict(sae), indent=None)


def cfg_dict(sae: SAE) -> dict[str, Any]:
    """The cfg.json of an SAE."""
    from saecore import __version__

    cfg = sae.cfg
    fields = to_tables(cfg.method)
    centred = fields.pop("apply_b_dec_to_input", False)
    if sae.saved_fields is not None:
        fields = {key: one for key, one in fields.items() if key in sae.saved_fields}
    if sae.file_architecture in IMPLIED or fields.get("activation") == {"type": "relu"}:
        fields.pop("activation", None)  # the name says it
    if not cfg.inference:
        fields.update(cfg.metadata.get("training_architecture_details", {}))
    versions = {"sae_lens_version": FORMAT, "sae_lens_training_version": FORMAT,
                "saecore_version": __version__}  # fmt: skip
    return {
        "d_in": cfg.d_in,
        "d_sae": cfg.d_sae,
        "dtype": cfg.dtype,
        "device": cfg.device,
        "apply_b_dec_to_input": centred,
        "normalize_activations": cfg.normalize_activations,
        "reshape_activations": cfg.reshape_activations,
        "metadata": {**versions, **cfg.metadata},
        **fields,
        **({"d_out": cfg.d_out} if sae.separate_target else {}),
        **({"hooks": cfg.hooks} if sae.several_hooks else {}),
        "architecture": sae.file_architecture,
    }


def read_sae(path: Path, device: torch.device, dtype: str | None = None) -> SAE:
    """Read an SAE from disk: what `write_sae` or SAELens 6 wrote needs no plugin, all else one."""
    config, file = path / "cfg.json", path / "sae_weights.safetensors"
    if config.exists() and file.exists():
        cfg = reading.json_table(config, f"{config}")
        if "metadata" in cfg:
            tensors = reading.safetensors(file, f"{file}")
            return build_sae(cfg, tensors, f"{config}", f"{file}", device, dtype)
    return load_directory(path, device=device, dtype=dtype).sae
