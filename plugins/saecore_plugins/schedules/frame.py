"""The frame of the schedules: linear warm-up, a main part, linear decay to zero."""

from __future__ import annotations

import math
from collections.abc import Callable


def framed(
    step: int,
    total: int,
    warm_up: int,
    decay: int,
    main: Callable[[int, int], float] = lambda step, length: 1.0,
    end: float = 1.0,
) -> float:
    """The multiplier of a step.

    Warm-up is (step + 1) / warm_up, so that the first step already has an effect; decay falls from
    `end` toward zero, which it would reach one step after the last. As in SAELens 6.

    Args:
        step: from 0; −1 is before the first step.
        total: number of steps.
        warm_up: steps of growth.
        decay: steps of decay.
        main: multiplier of the main part, a function of (steps after warm-up, its length).
        end: multiplier at the end of the main part, where the decay starts.
    """
    if step + 1 < warm_up:
        return (step + 1) / warm_up
    if step >= total - decay:
        return end * max(0, total - step) / decay if decay else end
    return main(max(0, step - warm_up), max(1, total - warm_up - decay))


def cosine(progress: float, end: float) -> float:
    """Half a cosine from 1 (progress 0) to `end` (progress 1)."""
    return end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2
