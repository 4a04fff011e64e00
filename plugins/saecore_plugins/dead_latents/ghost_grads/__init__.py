"""Ghost gradients: dead latents are pulled towards the residual (Anthropic, January 2024)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.dead_latents import DeadLatentsConfig
from saecore.hookspecs import hookimpl


@attrs.frozen
class GhostGradsConfig(DeadLatentsConfig):
    """Settings of ghost gradients; the loss has the size of the reconstruction loss."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the strategy."""
    yield Component(
        kind="dead_latents",
        name="ghost_grads",
        config=GhostGradsConfig,
        build="saecore_plugins.dead_latents.ghost_grads.strategy:GhostGrads",
        summary="dead latents, through an exponential, reconstruct the residual",
    )
