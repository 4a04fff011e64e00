"""Every activation at norm √d_in; undone on the reconstruction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.normalizer import RuntimeNormalizer


@attrs.frozen
class ConstantNormRescaleConfig:
    """The normalization has no settings."""


def build(config: ConstantNormRescaleConfig) -> RuntimeNormalizer:
    """Make the normalizer."""
    from saecore.normalizer import RuntimeNormalizer

    return RuntimeNormalizer(config, "constant_norm_rescale")


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the normalizer."""
    yield Component(
        kind="normalizer",
        name="constant_norm_rescale",
        config=ConstantNormRescaleConfig,
        build=build,
        summary="every activation at norm √d, as part of the SAE",
    )
