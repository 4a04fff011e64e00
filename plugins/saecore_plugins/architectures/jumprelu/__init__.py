"""JumpReLU: pre-activations above a learned threshold (Rajamanoharan et al. 2024, 2407.14435)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import ArchitectureConfig
from saecore.plugins import Component, hookimpl
from saecore_plugins.activations.jumprelu import JumpReLUConfig as ActivationJumpReLUConfig


@attrs.frozen
class JumpReLUConfig(ActivationJumpReLUConfig, ArchitectureConfig):
    """Settings of a JumpReLU SAE."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="jumprelu",
        config=JumpReLUConfig,
        build="saecore_plugins.architectures.jumprelu.sae:JumpReLU",
        summary="pre-activations above a learned threshold of each latent",
    )
