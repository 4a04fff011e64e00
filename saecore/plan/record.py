"""The plan of a run: what it takes, whether that fits, and what to lower if not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from saecore.errors import ResourceError

if TYPE_CHECKING:
    from saecore.plan.measure import Measurement

CLOSE = 0.8
"""Share of the memory above which a plan is called close."""
ROOM = 0.95
"""Share of the memory that a value proposed in a refusal may lead to."""


@attrs.frozen
class Lever:
    """A setting that memory follows."""

    key: str
    value: float
    least: float = 1


@attrs.frozen
class Part:
    """Memory held for one purpose."""

    bytes: int
    lever: Lever | None = None
    """The setting that it is proportional to."""


@attrs.frozen
class Plan:
    """What a run will take, against what the machine has."""

    tokens: int
    """Tokens trained on."""
    steps: int
    """Optimizer steps."""
    batch_size: int
    """Tokens per step."""
    fills: int
    """Fills of the mixing window that the model computes."""
    memory: Mapping[str, Part]
    """What is held all the time, by name."""
    moments: Mapping[str, Mapping[str, Part]]
    """What is held besides in training, in evaluation and while files are written: the parts of
    each moment add up, and the moment that takes most counts."""
    limit: int
    """Bytes that the process may hold."""
    device: str
    """Where the memory is."""
    measurement: Measurement | None = None
    """What the model and the SAE were seen to take."""

    @property
    def needed(self) -> int:
        """Bytes held when most is held."""
        return sum(one.bytes for one in (*self.memory.values(), *self.working.values()))

    @property
    def working(self) -> Mapping[str, Part]:
        """The parts of the moment that takes most."""
        return max(self.moments.values(), key=lambda parts: sum(p.bytes for p in parts.values()))

    @property
    def seconds(self) -> float | None:
        """Estimated time of training, without reading text and evaluating; None: not measured."""
        seen = self.measurement
        if seen is None:
            return None
        return self.steps * (self.batch_size * seen.seconds_per_token + seen.seconds_per_step)

    def measured(self, measurement: Measurement) -> Plan:
        """The same plan with rules of thumb replaced by what was measured."""
        training = {
            name: attrs.evolve(one, bytes=measurement.memory.get(name, one.bytes))
            for name, one in self.moments["training"].items()
        }
        moments = {**self.moments, "training": training}
        return attrs.evolve(self, moments=moments, measurement=measurement)

    def lowered(self, lever: Lever, factor: float) -> Plan:
        """The plan with one setting multiplied by `factor`."""

        def scaled(parts: Mapping[str, Part]) -> dict[str, Part]:
            return {
                name: Part(round(one.bytes * factor), lever) if one.lever == lever else one
                for name, one in parts.items()
            }

        moments = {name: scaled(parts) for name, parts in self.moments.items()}
        return attrs.evolve(self, memory=scaled(self.memory), moments=moments)

    def remedy(self) -> str:
        """Which value to lower, and to what number, so that the plan fits."""
        parts = [*self.memory.values(), *self.working.values()]
        levers: dict[Lever, int] = {}
        for one in parts:
            if one.lever and one.bytes:
                levers[one.lever] = levers.get(one.lever, 0) + one.bytes
        heaviest = sorted(levers, key=lambda one: -levers[one])
        for lever in heaviest:
            low, high = 0.0, 1.0
            for _ in range(40):
                middle = (low + high) / 2
                if self.lowered(lever, middle).needed <= ROOM * self.limit:
                    low = middle
                else:
                    high = middle
            fits = _rounded_down(lever.value * low, isinstance(lever.value, int))
            if fits >= lever.least:
                return f"lower {lever.key} from {lever.value:_} to {fits:_}"
        if not heaviest:
            return "take a smaller model"
        several = " and ".join(one.key for one in heaviest[:2])
        return f"lowering one value is not enough: lower {several}, or take a smaller model"


def refuse_if_too_big(plan: Plan) -> None:
    """Let a plan pass that fits.

    Raises:
        ResourceError: it does not; the message names the value to lower and a number that fits.
    """
    if plan.needed > plan.limit:
        raise ResourceError(
            f"this run needs {size(plan.needed)} on {plan.device}, which has {size(plan.limit)} "
            f"for it; {plan.remedy()} (`saecore check` shows the parts)"
        )


def size(number: int) -> str:
    """Bytes for people."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def as_tables(plan: Plan) -> dict[str, Any]:
    """A plan as plain values, bytes and seconds."""
    seen = plan.measurement
    speeds = None if seen is None else {
        "seconds": plan.seconds,
        "model_seconds_per_token": seen.seconds_per_token,
        "seconds_per_step": seen.seconds_per_step,
    }  # fmt: skip
    return {
        **{name: getattr(plan, name) for name in ("tokens", "steps", "batch_size", "fills")},
        "device": plan.device,
        "memory": {name: one.bytes for name, one in plan.memory.items()},
        "moments": {
            moment: {name: one.bytes for name, one in parts.items()}
            for moment, parts in plan.moments.items()
        },
        "needed": plan.needed,
        "limit": plan.limit,
        "time": speeds,
    }


def _rounded_down(number: float, whole: bool) -> float:
    """Two significant digits, downwards."""
    if number <= 0:
        return 0
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    floor = math.floor(number / unit) * unit
    return math.floor(floor) if whole else round(floor, 6)
