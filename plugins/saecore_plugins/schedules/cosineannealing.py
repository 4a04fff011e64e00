"""Half a cosine from 1 to `end` (Loshchilov and Hutter 2017, arXiv 1608.03983)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.plugins import Component, at_least, hookimpl
from saecore_plugins.schedules.constant import ConstantConfig
from saecore_plugins.schedules.frame import cosine, framed


@attrs.frozen
class CosineConfig(ConstantConfig):
    """Settings of a cosine schedule."""

    end: float = attrs.field(default=0.1, validator=at_least(0))
    """Multiplier at the end of the cosine, where the decay starts."""


class CosineAnnealing:
    """One half-cosine between warm-up and decay."""

    def __init__(self, config: CosineConfig) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """The multiplier of a step (from 0)."""
        c = self.config
        main = lambda step, length: cosine(step / length, c.end)  # noqa: E731
        return framed(step, total, c.warm_up_steps, c.decay_steps, main, c.end)


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="schedule",
        name="cosineannealing",
        config=CosineConfig,
        build=CosineAnnealing,
        summary="half a cosine, with linear warm-up and decay",
    )
