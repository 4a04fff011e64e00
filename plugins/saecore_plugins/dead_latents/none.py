"""Count dead latents without reviving them."""

from __future__ import annotations

from collections.abc import Iterator

from saecore.core.dead_latents import DeadLatentsConfig
from saecore.plugins import Component, hookimpl


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="dead_latents",
        name="none",
        config=DeadLatentsConfig,
        build="saecore.core.dead_latents:DeadLatentsStrategy",
        summary="dead latents are counted, not revived",
    )
