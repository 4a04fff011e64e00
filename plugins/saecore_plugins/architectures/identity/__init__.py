"""Identity: the features are the activations; the upper end of every comparison."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.architecture import ArchitectureConfig
from saecore.hookspecs import hookimpl


@attrs.frozen
class IdentityConfig(ArchitectureConfig):
    """The identity has no settings of its own; `expansion_factor = 1` gives it its width."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the architecture."""
    yield Component(
        kind="architecture",
        name="identity",
        config=IdentityConfig,
        build="saecore_plugins.architectures.identity.sae:Identity",
        summary="baseline: the features are the activations",
    )
