"""A geometric path from one multiplier to another, then constant."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.validators import above, at_least
from saecore.hookspecs import hookimpl


@attrs.frozen
class ExponentialConfig:
    """Settings of the path; with `start` above `end` it falls."""

    start: float = attrs.field(validator=above(0))
    """Multiplier in the first step."""
    end: float = attrs.field(default=1.0, validator=above(0))
    """Multiplier from the end of the path on."""
    steps: int | None = attrs.field(default=None, validator=at_least(1))
    """Length of the path; default: the whole run."""


class Exponential:
    """`start · (end / start)^progress`, with progress from 0 to 1 over the steps."""

    def __init__(self, config: ExponentialConfig) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """The multiplier of a step (from 0)."""
        c = self.config
        progress = min(1.0, max(0, step) / (c.steps or max(1, total)))
        return float(c.start * (c.end / c.start) ** progress)


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the schedule."""
    yield Component(
        kind="schedule",
        name="exponential",
        config=ExponentialConfig,
        build=Exponential,
        summary="a geometric path between two multipliers",
    )
