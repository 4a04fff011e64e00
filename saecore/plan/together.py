"""The plan of several runs on one stream of activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from saecore.plan.record import Part, Plan
from saecore.plan.sizes import FLOAT, fill_rows

if TYPE_CHECKING:
    from saecore.config.experiment import Experiment

OWN = ("SAE", "gradients", "optimizer")
"""Parts that every run has for itself; the others are there once."""


def together(plans: Sequence[Plan], first: Experiment, size: int) -> Plan:
    """Plan runs that are trained side by side, a step at a time.

    Args:
        plans: of each run by itself; one takes a step, is evaluated or saved at a time.
        first: one of the experiments; they have one buffer and one dataset.
        size: of the activations of all hooks that are read, of one token.
    """
    memory: dict[str, Part] = {}
    for name in dict.fromkeys(name for one in plans for name in one.memory):
        parts = [one.memory[name] for one in plans if name in one.memory]
        count = sum if name in OWN else max
        memory[name] = Part(count(one.bytes for one in parts))
    # Two fills, what is served of them, and the serve after where a reader has reached it.
    memory["window"] = Part(4 * fill_rows(first) * (FLOAT * size + 16))
    return attrs.evolve(
        plans[0],
        tokens=max(one.tokens for one in plans),
        fills=max(one.fills for one in plans),
        memory=memory,
        moments={moment: _largest(plans, moment) for moment in plans[0].moments},
    )


def _largest(plans: Sequence[Plan], moment: str) -> Mapping[str, Part]:
    found = [one.moments[moment] for one in plans]
    return max(found, key=lambda parts: sum(one.bytes for one in parts.values()))
