"""ReLU: max(0, pre-activation)."""

from __future__ import annotations

from collections.abc import Iterator

from saecore.plugins import Component, hookimpl


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="activation",
        name="relu",
        build="saecore_plugins.activations.relu.activation:ReLU",
        summary="max(0, pre-activation)",
    )
