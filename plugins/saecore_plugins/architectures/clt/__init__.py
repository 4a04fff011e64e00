"""Cross-layer transcoder: features of one layer write to it and all after it (Anthropic, 2025)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.architecture import OpenConfig
from saecore.hookspecs import hookimpl

ACTIVATIONS = ("relu", "jumprelu", "batchtopk")
"""Those that choose the same way whether latents stand in one dictionary or in several."""


@attrs.frozen
class CLTConfig(OpenConfig):
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
    """Offer the architecture."""
    yield Component(
        kind="architecture",
        name="clt",
        config=CLTConfig,
        build="saecore_plugins.architectures.clt.sae:CLT",
        summary="cross-layer transcoder: each layer's features write to it and all after it",
    )
