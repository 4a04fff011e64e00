"""A trained SAE in the form that is saved: weights folded, metadata under SAELens' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from saecore.config.experiment import Experiment
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
    details: dict[str, Any] = {"decoder_init_norm": table.init.decoder_norm}
    details.update(trainer.sae.training_details())
    metadata = {
        "dataset_path": experiment.dataset.plugin.name,
        **feed.metadata,
        "training_architecture": sae.architecture,
        "training_architecture_details": details,
        "l0": values.get("metrics/l0"),
        "num_dead_features": values.get("sparsity/dead_features"),
        "training_tokens": trainer.tokens,
        **table.metadata,
    }
    sae.cfg = attrs.evolve(sae.cfg, reshape_activations=feed.reshape, metadata=Metadata(metadata))
    return sae
