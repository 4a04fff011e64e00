"""GroupMax: the largest pre-activation of each of k groups of latents (EleutherAI's sparsify)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import ArchitectureConfig
from saecore.plugins import Component, hookimpl
from saecore_plugins.activations.groupmax import GroupMaxConfig as ActivationGroupMaxConfig


@attrs.frozen
class GroupMaxConfig(ActivationGroupMaxConfig, ArchitectureConfig):
    """Settings of a GroupMax SAE."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="groupmax",
        config=GroupMaxConfig,
        build="saecore_plugins.architectures.groupmax.sae:GroupMax",
        summary="the largest pre-activation of each of k groups of latents",
    )
