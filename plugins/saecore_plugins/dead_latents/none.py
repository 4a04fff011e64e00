"""No remedy for dead latents; they are only counted."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.dead_latents import DeadLatentsConfig
from saecore.hookspecs import hookimpl


@attrs.frozen
class NoneConfig(DeadLatentsConfig):
    """Settings of doing nothing."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the strategy."""
    yield Component(
        kind="dead_latents",
        name="none",
        config=NoneConfig,
        build="saecore.dead_latents:DeadLatentsStrategy",
        summary="dead latents are counted, not revived",
    )
