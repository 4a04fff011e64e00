"""AbsTopK: the k pre-activations of each token that are largest in absolute value, with sign."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl
from saecore_plugins.activations.topk import TopKConfig


@attrs.frozen
class AbsTopKConfig(TopKConfig):
    """Settings of AbsTopK."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the activation."""
    yield Component(
        kind="activation",
        name="abstopk",
        config=AbsTopKConfig,
        build="saecore_plugins.activations.abstopk.activation:AbsTopK",
        summary="the k pre-activations largest in absolute value, signs kept",
    )
