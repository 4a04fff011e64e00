"""A sparsity coefficient at saturation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import above, at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.monitors import View


LOSSES = ("losses/l1_loss", "losses/l0_loss")


@attrs.frozen
class CoefficientConfig:
    """What counts as saturation."""

    share: float = attrs.field(default=0.9, validator=above(0))
    """Share of the sparsity loss in the whole loss from which on it dominates."""
    growth: float = attrs.field(default=1.5, validator=above(1))
    """Growth of the coefficient after which L0 should have changed."""
    change: float = attrs.field(default=0.01, validator=at_least(0))
    """Relative change of L0 below which it has not."""


class Coefficient:
    """Warns when sparsity is all there is to the loss, or a growing coefficient moves nothing."""

    def __init__(self, config: CoefficientConfig) -> None:
        self.config = config
        self._before: tuple[float, float] | None = None

    def __call__(self, view: View) -> str | None:
        """Look at the share of the loss, then at coefficient and L0 since the last growth."""
        activation, metrics = view.sae.activation, view.metrics
        name = view.sae.coefficient or (activation.coefficient if activation is not None else None)
        now, l0 = metrics.get(f"details/{name}"), metrics.get("metrics/l0")
        if now is None or l0 is None or now <= 0:
            return None
        whole = max(metrics.get("losses/overall_loss", 0.0), 1e-30)
        share = sum(metrics.get(one, 0.0) for one in LOSSES) / whole
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
    """Offer the monitor."""
    yield Component(
        kind="monitor",
        name="coefficient",
        config=CoefficientConfig,
        build=Coefficient,
        summary="a sparsity coefficient that dominates the loss or moves nothing",
    )
