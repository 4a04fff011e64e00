"""Normalize every activation to mean 0 and standard deviation 1; undone on the reconstruction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from saecore.plugins import Component, NoSettings, hookimpl

if TYPE_CHECKING:
    from saecore.core.normalizer import RuntimeNormalizer


def build(config: NoSettings) -> RuntimeNormalizer:
    """Build the normalizer."""
    from saecore.core.normalizer import RuntimeNormalizer

    return RuntimeNormalizer(config, "layer_norm")


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="normalizer",
        name="layer_norm",
        build=build,
        summary="every activation at mean 0 and deviation 1, as part of the SAE",
    )
