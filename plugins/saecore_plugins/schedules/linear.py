"""Linear change from one multiplier to another, then constant."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.plugins import Component, at_least, hookimpl


@attrs.frozen
class LinearConfig:
    """Settings of the schedule; it falls if `start` is above `end`."""

    start: float = attrs.field(validator=at_least(0))
    """Multiplier in the first step."""
    end: float = attrs.field(default=1.0, validator=at_least(0))
    """Multiplier after the last step of the change."""
    steps: int | None = attrs.field(default=None, validator=at_least(1))
    """Number of steps of the change; default: the whole run."""


class Linear:
    """`start + (end − start) · progress`, with progress from 0 to 1 over the steps."""

    def __init__(self, config: LinearConfig) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """The multiplier of a step (from 0)."""
        c = self.config
        progress = min(1.0, max(0, step) / (c.steps or max(1, total)))
        return c.start + (c.end - c.start) * progress


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="schedule",
        name="linear",
        config=LinearConfig,
        build=Linear,
        summary="a straight line between two multipliers",
    )
