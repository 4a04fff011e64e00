"""A trained SAE in the form that is saved: weights folded, metadata under SAELens' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch

from saecore.backend import ModelBackend
from saecore.calibration import calibrated
from saecore.config.experiment import Experiment
from saecore.config.explain import to_tables
from saecore.data.tokens import TokenRows
from saecore.evaluation import activations
from saecore.sae import SAE
from saecore.sae_config import Metadata
from saecore.trainer import Trainer


def published(
    experiment: Experiment,
    trainer: Trainer,
    values: Mapping[str, float],
    rows: TokenRows,
    backend: ModelBackend,
) -> SAE:
    """The SAE as it would be saved now, with metadata under the names that SAELens uses."""
    sae = trainer.export()
    model, data, table = experiment.model, experiment.dataset, experiment.sae
    norm = None if table.init.type == "search" else table.init.decoder_norm
    details = reference_details(trainer.sae, norm, trainer.dead_latents)
    metadata = {
        "dataset_path": data.plugin.name,
        "hook_name": model.read_hooks[0],
        "model_name": backend.name,
        "model_class_name": type(getattr(backend, "model", backend)).__name__,
        "hook_head_index": model.head,
        "context_size": data.context_size,
        "seqpos_slice": list(data.positions) if data.positions else [None],
        "prepend_bos": data.prepend_bos,
        "exclude_special_tokens": to_tables(data)["exclude_special_tokens"],
        "sequence_separator_token": data.separator,
        "disable_concat_sequences": not data.concat,
        "training_architecture": sae.architecture,
        "training_architecture_details": details,
        "l0": experiment.evaluation.calibrate_l0 or values.get("metrics/l0"),
        "num_dead_features": values.get("sparsity/dead_features"),
        "activation_convention": "raw",
        "corpus": rows.corpus,
        "training_tokens": trainer.tokens,
        **table.metadata,
    }
    heads = len(backend.d(model.read_hooks[0])) > 1 and model.head is None
    sae.cfg = attrs.evolve(
        sae.cfg,
        reshape_activations="hook_z" if heads else "none",
        metadata=Metadata(metadata),
    )
    if experiment.evaluation.calibrate_l0 is None:
        return sae
    contexts = max(1, experiment.evaluation.tokens // data.context_size)
    held_out = torch.from_numpy(rows.held_out[:contexts].astype("int64"))
    read = activations(sae, backend, held_out, experiment.buffer.model_batch_size)
    return calibrated(sae, read, experiment.evaluation.calibrate_l0)


def reference_details(sae: SAE, decoder_norm: float | None, dead_latents: Any) -> dict[str, Any]:
    """Settings that only training used, under SAELens' names.

    Args:
        sae: the SAE in its training form.
        decoder_norm: norm of the decoder rows at the start; None where it was searched for.
        dead_latents: the strategy; the weight of its loss is recorded where SAELens has one.
    """
    details = {"decoder_init_norm": decoder_norm, **sae.training_details()}
    if "aux_loss_coefficient" in sae.training_fields:
        config = getattr(dead_latents, "config", None)
        details["aux_loss_coefficient"] = getattr(config, "coefficient", 0.0)
        details["use_sparse_activations"] = False
    if "use_matryoshka_aux_loss" in sae.training_fields:
        config = getattr(dead_latents, "config", None)
        details["use_matryoshka_aux_loss"] = getattr(config, "per_level", False)
    return details
