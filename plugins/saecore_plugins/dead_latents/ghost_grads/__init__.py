"""Ghost gradients: pull dead latents toward the residual (Anthropic, January 2024)."""

from __future__ import annotations

from collections.abc import Iterator

from saecore.core.dead_latents import DeadLatentsConfig
from saecore.plugins import Component, hookimpl


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="dead_latents",
        name="ghost_grads",
        config=DeadLatentsConfig,
        build="saecore_plugins.dead_latents.ghost_grads.strategy:GhostGrads",
        summary="dead latents, through an exponential, reconstruct the residual",
    )
