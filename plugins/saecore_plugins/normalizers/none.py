"""Activations as they are."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl


@attrs.frozen
class NoneConfig:
    """Leaving activations alone has no settings."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the normalizer."""
    yield Component(
        kind="normalizer",
        name="none",
        config=NoneConfig,
        build="saecore.normalizer:NormalizerStrategy",
        summary="activations as they are",
    )
