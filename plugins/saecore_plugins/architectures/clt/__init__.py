"""Cross-layer transcoder: features of one layer write to it and all after it (Anthropic, 2025)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import PenalizedConfig
from saecore.plugins import Component, hookimpl

ACTIVATIONS = ("relu", "jumprelu", "batchtopk")
"""Activations that select the same way from one dictionary or several."""


@attrs.frozen(kw_only=True)
class CLTConfig(PenalizedConfig):
    """Settings of a cross-layer transcoder."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report an activation that does not work over several encoders."""
        if self.activation.name not in ACTIVATIONS:
            yield (
                "activation",
                f"a cross-layer transcoder works with {', '.join(ACTIVATIONS)}, "
                f"got {self.activation.name}",
            )


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="clt",
        config=CLTConfig,
        build="saecore_plugins.architectures.clt.sae:CLT",
        summary="cross-layer transcoder: each layer's features write to it and all after it",
    )
