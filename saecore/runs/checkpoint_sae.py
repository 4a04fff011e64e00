"""The SAE in a checkpoint, in the form in which the run would save it at that step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from saecore.activations.provenance import hook_metadata, text_settings
from saecore.config.experiment import Experiment
from saecore.core.sae import SAE
from saecore.core.sae_config import DTYPES, Shape
from saecore.errors import CheckpointError
from saecore.releases.saelens_files import cfg_dict
from saecore.runs.build import build_trainer
from saecore.runs.export import described
from saecore.runs.no_activations import NoActivations
from saecore.runs.resume import recorded
from saecore.storage import checkpoint
from saecore.storage.run_directory import RunDirectory

CPU = torch.device("cpu")
HEADS = ("hook_z", "hook_q", "hook_k", "hook_v")
"""Hooks whose activations have an axis of heads."""


def read_checkpoint_sae(path: Path) -> tuple[SAE, torch.Tensor, dict[str, Any]]:
    """Read the SAE of RUN/checkpoints/step-NNNNNNNN.

    Args:
        path: the checkpoint's directory.

    Returns:
        The SAE in inference form on the CPU; log10 of each latent's firing frequency `[d_sae]`;
        and its cfg.json.

    Raises:
        CheckpointError: the checkpoint is damaged, or not of its run's experiment.
        ConfigError: this version, or the installed plugins, cannot run the experiment.
    """
    run = RunDirectory(path.absolute().parent.parent)
    record = run.read_record()
    experiment, state = recorded(record, run), checkpoint.load(path)
    shape = _shape(experiment, state["sae"], path)
    trainer = build_trainer(experiment, experiment.sae.architecture.build(shape), NoActivations())
    try:
        trainer.load_state_dict(state)
        metrics: Mapping[str, float] = state["run"]["figures"]
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        message = f"{path}: not a checkpoint of its run's experiment: {error}"
        raise CheckpointError(message) from error
    sae = described(
        trainer.export(), experiment, trainer, metrics, _metadata(experiment, record),
        reshape="hook_z" if _has_heads(experiment) else "none",
    )  # fmt: skip
    return sae, trainer.latents.sparsity(), cfg_dict(sae)


def _shape(experiment: Experiment, weights: Mapping[str, torch.Tensor], path: Path) -> Shape:
    """Find the sizes with which the architecture has weights of the checkpoint's shapes."""
    table, model = experiment.sae, experiment.model
    expected = {name: tensor.shape for name, tensor in weights.items()}
    d_sae, d_out = weights["W_dec"].shape[0], weights["b_dec"].numel()
    inputs = {weights["encoder"].shape[-1]} if "encoder" in weights else set()
    for d_in in (*inputs, d_out):
        shape = Shape(
            d_in, d_out, table.width(d_in), dtype=DTYPES[table.dtype], device=CPU,
            hooks=len(model.read_hooks) if model is not None else 1,
        )  # fmt: skip
        built = table.architecture.build(shape)
        if {name: tensor.shape for name, tensor in built.state_dict().items()} == expected:
            return shape
    raise CheckpointError(
        f"{path}: has weights for {d_sae} latents of size {d_out}, which are not those of "
        f"architecture {table.architecture.name} with the settings of its run"
    )


def _has_heads(experiment: Experiment) -> bool:
    model = experiment.model
    return model is not None and model.head is None and model.read_hooks[0].endswith(HEADS)


def _metadata(experiment: Experiment, record: Mapping[str, Any]) -> dict[str, Any]:
    """Model and text, under SAELens' names, as far as the run's record has them."""
    text, name = record.get("dataset") or {}, experiment.dataset.loader.name
    metadata = {"dataset_path": text.get("name", name), "corpus": record.get("corpus")}
    if experiment.model is None:
        return metadata
    model = record.get("model") or {}
    return {
        **metadata,
        "model_name": model.get("name"),
        "activation_convention": model.get("convention", "raw"),
        **text_settings(experiment.dataset),
        **hook_metadata(experiment.model),
    }
