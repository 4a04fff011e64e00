"""ReLU: max(0, pre-activation)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl


@attrs.frozen
class ReLUConfig:
    """ReLU has no settings."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the activation."""
    yield Component(
        kind="activation",
        name="relu",
        config=ReLUConfig,
        build="saecore_plugins.activations.relu.activation:ReLU",
        summary="max(0, pre-activation)",
    )
