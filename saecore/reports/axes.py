"""A plot before it is drawn: series of points on two axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

COLORS = 8
"""Colors of series, numbered from 0; the palette repeats after the last."""
SHAPES = 4
"""Shapes of points, and dash patterns of curves."""
LOG_SPAN = 8
"""Factor between the largest and the smallest number from which a logarithmic scale is used."""
MOST_TICKS = 10
"""Ticks that have room on a logarithmic axis."""


@attrs.frozen(kw_only=True)
class Mark:
    """One point."""

    x: float
    y: float
    title: str
    """Tooltip."""
    half_x: float = 0.0
    half_y: float = 0.0
    """Half-widths of the error bars."""
    shape: int = 0


@attrs.frozen(kw_only=True)
class Series:
    """Points or a curve in one color."""

    name: str
    color: int
    marks: Sequence[Mark]
    dash: int = 0
    """Dash pattern of a curve, 0 to 3."""


@attrs.frozen(kw_only=True)
class Axis:
    """One axis: label, limits and scale."""

    label: str
    low: float
    high: float
    log: bool = False
    base: int = 10
    """Base of the ticks of a logarithmic scale: 10 or 2."""

    @classmethod
    def over(cls, label: str, numbers: Sequence[float], log: bool = False, base: int = 10) -> Axis:
        """Fit an axis around some numbers, with a margin.

        Args:
            label: the axis label; that of a logarithmic axis also says so.
            numbers: what must lie on it.
            log: use a logarithmic scale if all numbers are positive and span a factor of 8.
            base: base of its ticks.
        """
        low, high = min(numbers), max(numbers)
        if log and low > 0 and high / low >= LOG_SPAN:
            label = f"{label}, log scale"
            return cls(label=label, low=low / 1.2, high=high * 1.2, log=True, base=base)
        margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
        bottom = low - margin if low < 0 or low > margin else 0.0
        return cls(label=label, low=bottom, high=high + margin)

    def at(self, value: float) -> float:
        """Position of a value along the axis, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def clip(self, value: float) -> float:
        """The value, moved to the nearest limit if it lies outside."""
        return min(max(value, self.low), self.high)

    def ticks(self) -> list[float]:
        """Three to ten round numbers."""
        if self.log:
            return self._log_ticks()
        rough = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough)
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step) + 1)]

    def _log_ticks(self) -> list[float]:
        """Powers of the base; of 10 also 2 and 5 times them, or every second, third … power."""
        first, last = (math.log(limit, self.base) for limit in (self.low, self.high))
        exponents = range(math.floor(first), math.ceil(last) + 1)
        powers = [float(self.base) ** exponent for exponent in exponents]
        if self.base == 10:
            ticks = self._inside([m * power for power in powers for m in (1, 2, 5)])
            if len(ticks) <= MOST_TICKS:
                return ticks
        ticks = self._inside(powers)
        return ticks[:: math.ceil(len(ticks) / MOST_TICKS)]

    def _inside(self, ticks: Sequence[float]) -> list[float]:
        return [tick for tick in ticks if self.low <= tick <= self.high]


@attrs.frozen(eq=False, kw_only=True)
class Plot:
    """Series on two axes; `svg` and `matplotlib` draw it."""

    title: str
    series: Sequence[Series]
    x: Axis
    y: Axis
    points: bool = False
    """Draw marks as points with error bars instead of joining them into a curve."""
    joined: bool = True
    """Connect the points of a series from left to right."""


def tick_text(value: float) -> str:
    """Format a tick label: `2k`, `1.5M`, `0.25`, `16384`."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size and value % (size / 10) == 0:
            return f"{value / size:g}{unit}"
    return f"{value:.6g}"
