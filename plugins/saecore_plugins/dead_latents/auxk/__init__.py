"""AuxK: dead latents learn to reconstruct the residual (arXiv 2406.04093)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.dead_latents import DeadLatentsConfig
from saecore.plugins import Component, at_least, hookimpl


@attrs.frozen(kw_only=True)
class AuxKConfig(DeadLatentsConfig):
    """Settings of AuxK."""

    coefficient: float = attrs.field(default=1.0, validator=at_least(0))
    """Weight of the loss; OpenAI's is 1/32."""
    k_aux: int | None = attrs.field(default=None, validator=at_least(1))
    """Maximum number of active dead latents per token; default: d_in // 2."""
    rectify: bool = False
    """Ignore negative pre-activations of dead latents, as OpenAI does."""
    normalize: bool = False
    """Divide the loss by the variance of the residual, as OpenAI does."""
    per_level: bool = False
    """With nested dictionaries: one loss for the new latents of each level, against that level's
    residual (`use_matryoshka_aux_loss` in SAELens)."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="dead_latents",
        name="auxk",
        config=AuxKConfig,
        build="saecore_plugins.dead_latents.auxk.strategy:AuxK",
        summary="dead latents reconstruct the residual (auxiliary loss)",
    )
