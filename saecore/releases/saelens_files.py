"""Write and read SAEs in the format of SAELens 6."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saecore.config.messages import to_tables
from saecore.core.sae import SAE
from saecore.errors import labeled_errors
from saecore.models.device import check_device
from saecore.releases.build import sae_from_files, weights
from saecore.releases.resolve import SAE_FILES, SAELocation
from saecore.storage import safe_load
from saecore.storage.files import write_json, write_tensors
from saecore.storage.repository import Directory

FORMAT = "6.54.12"
"""The SAELens version of this file format; SAELens' loader requires it."""

READABLE = (
    "standard", "gated", "topk", "abstopk", "jumprelu", "matching_pursuit", "temporal",
    "transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder",
)  # fmt: skip
"""Architectures that SAELens 6 can load; it refuses others by name."""

IMPLIED = ("jumprelu_transcoder", "jumprelu_skip_transcoder")
"""Architectures whose name implies the activation, which is then not stored."""


def write_sae(sae: SAE, path: Path, sparsity: Tensor | None = None) -> None:
    """Write an SAE to a directory; see `SAE.save_model`."""
    write_tensors(path / "sae_weights.safetensors", weights(sae))
    if sparsity is not None:
        write_tensors(path / "sparsity.safetensors", {"sparsity": sparsity.float()})
    write_json(path / "cfg.json", cfg_dict(sae), indent=None)


def cfg_dict(sae: SAE) -> dict[str, Any]:
    """The cfg.json of an SAE."""
    from saecore._version import __version__

    cfg = sae.cfg
    form, architecture = sae.file_form, sae.file_form.architecture_name(sae)
    fields = to_tables(cfg.architecture_config)
    centered = fields.pop("apply_b_dec_to_input", False)
    if form.saved_fields is not None:
        fields = {key: value for key, value in fields.items() if key in form.saved_fields}
    if architecture in IMPLIED or fields.get("activation") == {"type": "relu"}:
        fields.pop("activation", None)  # implied by the name
    if not cfg.inference:
        fields.update(cfg.metadata.get("training_architecture_details", {}))
    versions = {"sae_lens_version": FORMAT, "sae_lens_training_version": FORMAT,
                "saecore_version": __version__}  # fmt: skip
    return {
        "d_in": cfg.d_in,
        "d_sae": cfg.d_sae,
        "dtype": cfg.dtype,
        "device": cfg.device,
        "apply_b_dec_to_input": centered,
        "normalize_activations": cfg.normalize_activations,
        "reshape_activations": cfg.reshape_activations,
        "metadata": {**versions, **cfg.metadata},
        **fields,
        **({"d_out": cfg.d_out} if sae.separate_target else {}),
        **({"hooks": cfg.hooks} if sae.several_hooks else {}),
        "architecture": architecture,
    }


def read_sae(location: SAELocation, device: str | torch.device, dtype: str | None = None) -> SAE:
    """Read an SAE; what `write_sae` or SAELens 6 wrote to disk needs no plugin.

    Args:
        location: where it is.
        device: device of the weights.
        dtype: precision; default: the file's.

    Raises:
        ReleaseError: the files are missing, damaged, or of no known format.
        ConfigError: this machine has no such device.
    """
    with labeled_errors(f"{location.files.name}"):
        device = check_device(device, "device")
    if isinstance(location.files, Directory):
        directory = location.files.root / location.path
        config, file = (directory / name for name in SAE_FILES)
        if config.exists() and file.exists():
            cfg = safe_load.json_table(config, str(config))
            if "metadata" in cfg:
                tensors = safe_load.safetensors(file, str(file))
                return sae_from_files(
                    cfg, tensors, str(config), str(file), device=device, dtype=dtype
                )
    return location.load(device=device, dtype=dtype).sae
