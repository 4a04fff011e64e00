"""Activations made of known features: experiments with a ground truth and without a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from saecore.plugins import Component, hookimpl
from saecore_plugins.datasets.synthetic.config import SyntheticConfig

if TYPE_CHECKING:
    from saecore_plugins.datasets.synthetic.rows import SyntheticRows


def build(config: SyntheticConfig, seed: int) -> SyntheticRows:
    """Build the stream of activations.

    Raises:
        ConfigError: this machine has no such device.
    """
    from saecore.models.device import pick_device
    from saecore_plugins.datasets.synthetic.rows import SyntheticRows

    return SyntheticRows(config, seed, pick_device(config.device, key="dataset.device"))


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="dataset",
        name="synthetic",
        config=SyntheticConfig,
        build=build,
        summary="activations made of known features; needs no model",
        provides=frozenset({"activations", "truth"}),
    )
