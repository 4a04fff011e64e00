"""No normalization."""

from __future__ import annotations

from collections.abc import Iterator

from saecore.plugins import Component, hookimpl


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="normalizer",
        name="none",
        build="saecore.core.normalizer:NormalizerStrategy",
        summary="activations as they are",
    )
