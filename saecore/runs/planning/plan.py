"""The plan of a run: its memory, whether that fits, and which setting to lower if not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from saecore.errors import ResourceError

if TYPE_CHECKING:
    from saecore.runs.planning.profile import Measurement

CLOSE = 0.8
"""Share of the memory above which `saecore check` warns."""
ROOM = 0.95
"""Share of the memory that a value proposed in a refusal may need."""


@attrs.frozen
class MemoryKnob:
    """A setting that memory is proportional to."""

    key: str
    """The TOML key."""
    value: float
    """Its present value."""
    least: float = 1
    """The smallest value that makes sense."""


@attrs.frozen
class MemoryItem:
    """Memory held for one purpose."""

    bytes: int
    knob: MemoryKnob | None = None
    """The setting that it is proportional to."""


@attrs.frozen(kw_only=True)
class Plan:
    """What a run needs, and the memory that the machine has."""

    tokens: int
    """Tokens trained on."""
    steps: int
    """Optimizer steps."""
    batch_size: int
    """Tokens per step."""
    fills: int
    """Fills of the mixing window that the model computes."""
    memory: Mapping[str, MemoryItem]
    """Memory held all the time, by purpose."""
    moments: Mapping[str, Mapping[str, MemoryItem]]
    """Additional memory in training, in evaluation and while files are written; the items of a
    moment add up, and the moment that needs the most counts."""
    limit: int
    """Bytes that the process may hold."""
    device: str
    """The device whose memory is counted."""
    measurement: Measurement | None = None
    """The time and memory that were measured."""

    @property
    def needed(self) -> int:
        """The most bytes held at any time."""
        return sum(item.bytes for item in (*self.memory.values(), *self.working.values()))

    @property
    def working(self) -> Mapping[str, MemoryItem]:
        """The items of the moment that needs the most."""
        return max(self.moments.values(), key=lambda items: sum(i.bytes for i in items.values()))

    @property
    def seconds(self) -> float | None:
        """Estimated time of training, without reading text and evaluating; None if not measured."""
        m = self.measurement
        if m is None:
            return None
        return self.steps * (self.batch_size * m.seconds_per_token + m.seconds_per_step)

    def measured(self, measurement: Measurement) -> Plan:
        """Return the plan with rules of thumb replaced by a measurement."""
        training = {
            name: attrs.evolve(item, bytes=measurement.memory.get(name, item.bytes))
            for name, item in self.moments["training"].items()
        }
        moments = {**self.moments, "training": training}
        return attrs.evolve(self, moments=moments, measurement=measurement)

    def lowered(self, knob: MemoryKnob, factor: float) -> Plan:
        """Return the plan with one setting multiplied by `factor`."""

        def scaled(items: Mapping[str, MemoryItem]) -> dict[str, MemoryItem]:
            return {
                name: MemoryItem(round(item.bytes * factor), knob) if item.knob == knob else item
                for name, item in items.items()
            }

        moments = {name: scaled(items) for name, items in self.moments.items()}
        return attrs.evolve(self, memory=scaled(self.memory), moments=moments)

    def remedy(self) -> str:
        """Name the value to lower, and a number with which the plan fits."""
        knobs: dict[MemoryKnob, int] = {}
        for item in (*self.memory.values(), *self.working.values()):
            if item.knob and item.bytes:
                knobs[item.knob] = knobs.get(item.knob, 0) + item.bytes
        heaviest = sorted(knobs, key=lambda knob: -knobs[knob])
        for knob in heaviest:
            low, high = 0.0, 1.0
            for _ in range(40):
                middle = (low + high) / 2
                if self.lowered(knob, middle).needed <= ROOM * self.limit:
                    low = middle
                else:
                    high = middle
            fitting = _rounded_down(knob.value * low, isinstance(knob.value, int))
            if fitting >= knob.least:
                return f"lower {knob.key} from {knob.value:_} to {fitting:_}"
        if not heaviest:
            return "take a smaller model"
        keys = " and ".join(knob.key for knob in heaviest[:2])
        return f"lowering one value is not enough: lower {keys}, or take a smaller model"


def refuse_if_too_big(plan: Plan) -> None:
    """Refuse a plan that does not fit into memory.

    Raises:
        ResourceError: names the value to lower and a number that fits.
    """
    if plan.needed > plan.limit:
        raise ResourceError(
            f"this run needs {size(plan.needed)} on {plan.device}, where {size(plan.limit)} are "
            f"available; {plan.remedy()} (`saecore check` shows the parts)"
        )


def size(number: int) -> str:
    """Format bytes for people."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def as_tables(plan: Plan) -> dict[str, Any]:
    """Convert a plan to plain values, in bytes and seconds."""
    m = plan.measurement
    speeds = None if m is None else {
        "seconds": plan.seconds,
        "model_seconds_per_token": m.seconds_per_token,
        "seconds_per_step": m.seconds_per_step,
    }  # fmt: skip
    return {
        **{name: getattr(plan, name) for name in ("tokens", "steps", "batch_size", "fills")},
        "device": plan.device,
        "memory": {name: item.bytes for name, item in plan.memory.items()},
        "moments": {
            moment: {name: item.bytes for name, item in items.items()}
            for moment, items in plan.moments.items()
        },
        "needed": plan.needed,
        "limit": plan.limit,
        "time": speeds,
    }


def _rounded_down(number: float, whole: bool) -> float:
    """Round down to two significant digits."""
    if number <= 0:
        return 0
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    floor = math.floor(number / unit) * unit
    return math.floor(floor) if whole else round(floor, 6)
