"""AbsTopK: the k pre-activations largest in absolute value stay, with their signs."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import RescaledConfig
from saecore.plugins import Component, hookimpl
from saecore_plugins.activations.topk import TopKConfig


@attrs.frozen
class AbsTopKConfig(TopKConfig, RescaledConfig):
    """Settings of an AbsTopK SAE."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="abstopk",
        config=AbsTopKConfig,
        build="saecore_plugins.architectures.abstopk.sae:AbsTopK",
        summary="the k pre-activations largest in absolute value, signs kept",
    )
