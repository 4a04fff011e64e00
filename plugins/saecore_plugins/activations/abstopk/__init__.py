"""AbsTopK: the k pre-activations of each token that are largest in absolute value, signs kept."""

from __future__ import annotations

from collections.abc import Iterator

from saecore.plugins import Component, hookimpl
from saecore_plugins.activations.topk import TopKConfig


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="activation",
        name="abstopk",
        config=TopKConfig,
        build="saecore_plugins.activations.abstopk.activation:AbsTopK",
        summary="the k pre-activations largest in absolute value, signs kept",
    )
