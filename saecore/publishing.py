"""A trained SAE in the form that is saved: weights folded, metadata under SAELens' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from saecore.calibration import calibrated
from saecore.config.experiment import Experiment
from saecore.evaluation import activations
from saecore.feed import Feed
from saecore.sae import SAE
from saecore.sae_config import Metadata
from saecore.trainer import Trainer


def published(
    experiment: Experiment, trainer: Trainer, values: Mapping[str, float], feed: Feed
) -> SAE:
    """The SAE as it would be saved now, with metadata under the names that SAELens uses."""
    sae = trainer.export()
    table = experiment.sae
    norm = None if table.init.type == "search" else table.init.decoder_norm
    details = reference_details(trainer.sae, norm, trainer.dead_latents)
    metadata = {
        **feed.metadata,
        "training_architecture": trainer.sae.architecture,
        "training_architecture_details": details,
        "l0": experiment.evaluation.calibrate_l0 or values.get("metrics/l0"),
        "num_dead_features": values.get("sparsity/dead_features"),
        "training_tokens": trainer.tokens,
        **table.metadata,
    }
    sae.cfg = attrs.evolve(sae.cfg, reshape_activations=feed.reshape, metadata=Metadata(metadata))
    if experiment.evaluation.calibrate_l0 is None:
        return sae
    size = experiment.buffer.model_batch_size
    read = (inputs for inputs, _ in activations(sae, feed.origin, feed.held_out, size))
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
