"""A constant, with linear warm-up and decay: the frame of the other schedules too."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl
from saecore_plugins.schedules.frame import framed


@attrs.frozen
class ConstantConfig:
    """Settings of a constant schedule."""

    warm_up_steps: int = attrs.field(default=0, validator=at_least(0))
    """Steps of linear growth at the start."""
    decay_steps: int = attrs.field(default=0, validator=at_least(0))
    """Steps of linear decay to zero at the end."""


class Constant:
    """1, but for warm-up and decay."""

    def __init__(self, config: ConstantConfig) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """The multiplier of a step (from 0)."""
        return framed(step, total, self.config.warm_up_steps, self.config.decay_steps)


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the schedule."""
    yield Component(
        kind="schedule",
        name="constant",
        config=ConstantConfig,
        build=Constant,
        summary="constant, with linear warm-up and decay",
    )
