"""AbsTopK: the k pre-activations largest in absolute value stay, with their signs."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.architecture import RescaledConfig
from saecore.hookspecs import hookimpl
from saecore_plugins.activations.abstopk import AbsTopKConfig as ActivationAbsTopKConfig


@attrs.frozen
class AbsTopKConfig(ActivationAbsTopKConfig, RescaledConfig):
    """Settings of an AbsTopK SAE."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the architecture."""
    yield Component(
        kind="architecture",
        name="abstopk",
        config=AbsTopKConfig,
        build="saecore_plugins.architectures.abstopk.sae:AbsTopK",
        summary="the k pre-activations largest in absolute value, signs kept",
    )
