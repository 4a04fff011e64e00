"""Every activation at mean 0 and standard deviation 1; undone on the reconstruction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.normalizer import RuntimeNormalizer


@attrs.frozen
class LayerNormConfig:
    """The normalization has no settings."""


def build(config: LayerNormConfig) -> RuntimeNormalizer:
    """Make the normalizer."""
    from saecore.normalizer import RuntimeNormalizer

    return RuntimeNormalizer(config, "layer_norm")


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the normalizer."""
    yield Component(
        kind="normalizer",
        name="layer_norm",
        config=LayerNormConfig,
        build=build,
        summary="every activation at mean 0 and deviation 1, as part of the SAE",
    )
