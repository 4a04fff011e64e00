"""Export a trained SAE in its saved form: folded weights, metadata under SAELens' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from saecore.config.experiment import Experiment
from saecore.core.sae import SAE
from saecore.core.sae_config import Metadata
from saecore.runs.inputs import RunInputs
from saecore.training.calibration import calibrated
from saecore.training.trainer import Trainer


def export_sae(
    experiment: Experiment, trainer: Trainer, metrics: Mapping[str, float], inputs: RunInputs
) -> SAE:
    """Export the SAE as it would be saved now.

    Args:
        experiment: the experiment.
        trainer: holds the SAE.
        metrics: the last training metrics.
        inputs: the run's inputs.
    """
    sae = described(trainer.export(), experiment, trainer, metrics, inputs.metadata, inputs.reshape)
    if experiment.evaluation.calibrate_l0 is None:
        return sae
    size = experiment.buffer.model_batch_size
    batches = (part.inputs for part in inputs.held_out.parts(sae, size))
    return calibrated(sae, batches, experiment.evaluation.calibrate_l0, in_place=True)


def described(
    sae: SAE,
    experiment: Experiment,
    trainer: Trainer,
    metrics: Mapping[str, float],
    metadata: Mapping[str, Any],
    reshape: str,
) -> SAE:
    """Add metadata to an exported SAE, in place.

    Args:
        sae: the SAE.
        experiment: the experiment.
        trainer: the trainer that exported it.
        metrics: the last training metrics.
        metadata: entries about model and data, under SAELens' names.
        reshape: `reshape_activations` of the saved SAE.
    """
    table = experiment.sae
    norm = None if table.init.type == "search" else table.init.decoder_norm
    details = reference_details(trainer.sae, norm, trainer.dead_latents)
    entries = {
        **metadata,
        "training_architecture": trainer.sae.architecture,
        "training_architecture_details": details,
        "l0": experiment.evaluation.calibrate_l0 or metrics.get("metrics/l0"),
        "num_dead_features": metrics.get("sparsity/dead_features"),
        "training_tokens": trainer.tokens,
        **table.metadata,
    }
    sae.cfg = attrs.evolve(sae.cfg, reshape_activations=reshape, metadata=Metadata(entries))
    return sae


def reference_details(sae: SAE, decoder_norm: float | None, dead_latents: Any) -> dict[str, Any]:
    """Return the settings that only training used, under SAELens' names.

    Args:
        sae: the SAE in its training form.
        decoder_norm: initial norm of the decoder rows; None if it was searched for.
        dead_latents: the strategy; the weight of its loss is recorded if SAELens has one.
    """
    form = sae.file_form
    details = {"decoder_init_norm": decoder_norm, **form.training_details(sae)}
    if "aux_loss_coefficient" in form.training_fields:
        config = getattr(dead_latents, "config", None)
        details["aux_loss_coefficient"] = getattr(config, "coefficient", 0.0)
        details["use_sparse_activations"] = False
    if "use_matryoshka_aux_loss" in form.training_fields:
        config = getattr(dead_latents, "config", None)
        details["use_matryoshka_aux_loss"] = getattr(config, "per_level", False)
    return details
