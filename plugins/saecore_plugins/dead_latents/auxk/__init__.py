"""AuxK: dead latents learn to reconstruct what the living leave over (arXiv 2406.04093)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.dead_latents import DeadLatentsConfig
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl


@attrs.frozen
class AuxKConfig(DeadLatentsConfig):
    """Settings of AuxK."""

    coefficient: float = attrs.field(default=1.0, validator=at_least(0))
    """Weight of the loss; OpenAI's is 1/32."""
    k_aux: int | None = attrs.field(default=None, validator=at_least(1))
    """Dead latents that may be active per token; default: d_in // 2."""
    rectify: bool = False
    """Leave negative pre-activations of dead latents out of the reconstruction, as OpenAI does."""
    normalize: bool = False
    """Divide the loss by the variance of the residual, as OpenAI does."""
    per_level: bool = False
    """With nested dictionaries: one loss for the new latents of every level, against the residual
    of that level (the reference's `use_matryoshka_aux_loss`)."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the strategy."""
    yield Component(
        kind="dead_latents",
        name="auxk",
        config=AuxKConfig,
        build="saecore_plugins.dead_latents.auxk.strategy:AuxK",
        summary="dead latents reconstruct the residual (auxiliary loss)",
    )
