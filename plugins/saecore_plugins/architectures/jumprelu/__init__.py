"""JumpReLU: pre-activations above a learned threshold (Rajamanoharan et al. 2024, 2407.14435)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.architecture import ArchitectureConfig
from saecore.hookspecs import hookimpl
from saecore_plugins.activations.jumprelu import JumpReLUConfig as ActivationJumpReLUConfig


@attrs.frozen
class JumpReLUConfig(ActivationJumpReLUConfig, ArchitectureConfig):
    """Settings of a JumpReLU SAE."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the architecture."""
    yield Component(
        kind="architecture",
        name="jumprelu",
        config=JumpReLUConfig,
        build="saecore_plugins.architectures.jumprelu.sae:JumpReLU",
        summary="pre-activations above a learned threshold of each latent",
    )
