"""Values that change over training: a base value times a schedule."""

from __future__ import annotations

from collections.abc import Callable

import attrs

Schedule = Callable[[int, int], float]
"""(step, total steps) -> multiplier."""


@attrs.frozen
class Scheduled:
    """A value that changes during training: `base * schedule(step, total)`."""

    base: float
    schedule: Schedule

    def at(self, step: int, total: int) -> float:
        """The value in a step, counted from 0.

        The schedule runs one step behind that of the learning rate: the first step of a warm-up
        uses 0, as in SAELens.
        """
        return self.base * self.schedule(step - 1, total)
