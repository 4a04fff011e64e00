"""A constant with linear warm-up and decay."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.plugins import Component, at_least, hookimpl
from saecore_plugins.schedules.frame import framed


@attrs.frozen
class ConstantConfig:
    """Settings of a constant schedule."""

    warm_up_steps: int = attrs.field(default=0, validator=at_least(0))
    """Steps of linear growth at the start."""
    decay_steps: int = attrs.field(default=0, validator=at_least(0))
    """Steps of linear decay to zero at the end."""


class Constant:
    """1, except during warm-up and decay."""

    def __init__(self, config: ConstantConfig) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """The multiplier of a step (from 0)."""
        return framed(step, total, self.config.warm_up_steps, self.config.decay_steps)


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="schedule",
        name="constant",
        config=ConstantConfig,
        build=Constant,
        summary="constant, with linear warm-up and decay",
    )
