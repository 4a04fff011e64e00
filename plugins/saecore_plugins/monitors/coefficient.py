"""A sparsity coefficient that is saturated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, above, at_least, hookimpl

if TYPE_CHECKING:
    from saecore.core.monitor import View


LOSSES = ("losses/l1_loss", "losses/l0_loss")


@attrs.frozen
class CoefficientConfig:
    """What counts as saturation."""

    share: float = attrs.field(default=0.9, validator=above(0))
    """Share of the total loss from which the sparsity loss dominates."""
    growth: float = attrs.field(default=1.5, validator=above(1))
    """Growth of the coefficient after which L0 should have changed."""
    change: float = attrs.field(default=0.01, validator=at_least(0))
    """Relative change of L0 below which it has not changed."""


class Coefficient:
    """Warns when sparsity dominates the loss, or a growing coefficient does not change L0."""

    def __init__(self, config: CoefficientConfig) -> None:
        self.config = config
        self._before: tuple[float, float] | None = None

    def __call__(self, view: View) -> str | None:
        """Check the share of the loss, then coefficient and L0 since the last growth."""
        activation, metrics = view.sae.activation, view.metrics
        name = view.sae.coefficient or (activation.coefficient if activation is not None else None)
        now, l0 = metrics.get(f"details/{name}"), metrics.get("metrics/l0")
        if now is None or l0 is None or now <= 0:
            return None
        whole = max(metrics.get("losses/overall_loss", 0.0), 1e-30)
        share = sum(metrics.get(loss, 0.0) for loss in LOSSES) / whole
        if share > self.config.share:
            return (
                f"the sparsity loss is {share:.0%} of the loss (L0 = {l0:.3g}); lower sae.{name} "
                f"(now {now:.3g}) until reconstruction counts again"
            )
        if self._before is None:
            self._before = now, l0
        before, l0_before = self._before
        if now < self.config.growth * before:
            return None
        self._before = now, l0
        if abs(l0 - l0_before) > self.config.change * l0_before:
            return None
        return (
            f"sae.{name} grew from {before:.3g} to {now:.3g} and L0 stayed at {l0:.3g}; the "
            "penalty is past saturation: lower the coefficient, or check that it reaches "
            "the latents (with JumpReLU: sae.jumprelu_bandwidth)"
        )


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="monitor",
        name="coefficient",
        config=CoefficientConfig,
        build=Coefficient,
        summary="a sparsity coefficient that dominates the loss or moves nothing",
    )
