"""Thresholds that do not move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, at_least, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.monitor import View


@attrs.frozen
class ThresholdsConfig:
    """When thresholds count as unmoved."""

    steps: int = attrs.field(default=1000, validator=at_least(1))
    """Number of steps in which at least one threshold has to move."""
    change: float = attrs.field(default=0.01, validator=at_least(0))
    """Smallest movement, as a share of the previous mean threshold."""


class Thresholds:
    """Warns when no threshold of a JumpReLU SAE has moved for many steps."""

    def __init__(self, config: ThresholdsConfig) -> None:
        self.config = config
        self._before: tuple[int, Tensor] | None = None

    def __call__(self, view: View) -> str | None:
        """Compare with the thresholds some steps ago."""
        threshold = dict(view.sae.named_parameters()).get("activation.threshold")
        if threshold is None:
            return None
        if self._before is None:
            self._before = view.step, threshold.detach().clone()
            return None
        begun, before = self._before
        if view.step - begun < self.config.steps:
            return None
        moved = float((threshold.detach() - before).abs().max())
        mean = float(before.mean())
        self._before = view.step, threshold.detach().clone()
        if moved > self.config.change * mean:
            return None
        return (
            f"in {view.step - begun} steps no threshold has moved by more than {moved:.2g} (their "
            f"mean is {mean:.2g}); few pre-activations come within sae.jumprelu_bandwidth of them: "
            "raise it, raise training.lr, or bring activations to a common scale (sae.normalizer)"
        )


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="monitor",
        name="thresholds",
        config=ThresholdsConfig,
        build=Thresholds,
        summary="thresholds of a JumpReLU SAE that do not move",
    )
