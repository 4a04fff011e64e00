"""Identity: the features are the activations; the upper bound in comparisons."""

from __future__ import annotations

from collections.abc import Iterator

from saecore.core.architecture_config import ArchitectureConfig
from saecore.plugins import Component, hookimpl


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="identity",
        config=ArchitectureConfig,
        build="saecore_plugins.architectures.identity.sae:Identity",
        summary="baseline: the features are the activations",
    )
