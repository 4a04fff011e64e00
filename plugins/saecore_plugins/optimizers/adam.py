"""Adam (Kingma and Ba 2015, arXiv 1412.6980), torch's fused form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from saecore.plugins import Component, above, at_least, between, hookimpl

if TYPE_CHECKING:
    from saecore_plugins.optimizers.fused_adam import FusedAdam


@attrs.frozen
class AdamConfig:
    """Settings of Adam; `lr = "auto"` is 2e-4 / sqrt(d_sae / 2^14)."""

    auto_lr: ClassVar[float] = 2e-4
    betas: tuple[float, float] = attrs.field(default=(0.9, 0.999), validator=between(0, 1))
    """Decay rates of the averages of the gradient and its square."""
    eps: float = attrs.field(default=1e-8, validator=above(0))
    """Added to the square root of the second average."""
    weight_decay: float = attrs.field(default=0.0, validator=at_least(0))
    """Weight of an L2 penalty on the parameters."""


def build(config: AdamConfig, parameters: Iterable[Any], lr: float) -> FusedAdam:
    """Build the optimizer."""
    from saecore_plugins.optimizers.fused_adam import FusedAdam

    return FusedAdam(parameters, lr, config.betas, config.eps, config.weight_decay)


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="optimizer", name="adam", config=AdamConfig, build=build, summary="Adam, fused"
    )
