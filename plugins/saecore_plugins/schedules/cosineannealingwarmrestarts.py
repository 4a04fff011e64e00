"""Half-cosines with restarts (Loshchilov and Hutter 2017, arXiv 1608.03983)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.plugins import Component, at_least, hookimpl
from saecore_plugins.schedules.cosineannealing import CosineConfig
from saecore_plugins.schedules.frame import cosine, framed


@attrs.frozen(kw_only=True)
class RestartsConfig(CosineConfig):
    """Settings of a cosine schedule with restarts."""

    cycles: int = attrs.field(default=1, validator=at_least(1))
    """Number of half-cosines between warm-up and decay."""


class CosineAnnealingWarmRestarts:
    """Several half-cosines, each from 1 to `end`."""

    def __init__(self, config: RestartsConfig) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """The multiplier of a step (from 0)."""
        c = self.config

        def main(step: int, length: int) -> float:
            cycle = max(1, length // c.cycles)
            return cosine(step % cycle / cycle, c.end)

        return framed(step, total, c.warm_up_steps, c.decay_steps, main, c.end)


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="schedule",
        name="cosineannealingwarmrestarts",
        config=RestartsConfig,
        build=CosineAnnealingWarmRestarts,
        summary="half-cosines with restarts, with linear warm-up and decay",
    )
