"""Plots as SVG: points with intervals, and curves. Colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import attrs

WIDTH, HEIGHT = 520, 360
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 46
SERIES = 8
"""Colours that the page's style has: c0 to c7; then they begin again."""
MARKS = 4
"""Shapes of points."""


@attrs.frozen
class Mark:
    """A point of a plot."""

    x: float
    y: float
    title: str
    """Shown when it is pointed at."""
    half_x: float = 0.0
    half_y: float = 0.0
    """Half the width of an interval."""
    shape: int = 0


@attrs.frozen
class Series:
    """Points or a curve of one colour."""

    name: str
    colour: int
    marks: Sequence[Mark]
    dash: int = 0
    """How a curve is drawn, 0 to 3."""


@attrs.frozen
class Axis:
    """One direction of a plot."""

    label: str
    low: float
    high: float
    log: bool = False

    @classmethod
    def over(cls, label: str, numbers: Sequence[float], log: bool = False) -> Axis:
        """An axis that holds all numbers, with some room; logarithmic only over positive ones."""
        low, high = min(numbers), max(numbers)
        if log and low > 0 and high / low > 3:
            return cls(label, low / 1.2, high * 1.2, True)
        room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
        return cls(label, low - room if low < 0 or low > room else 0.0, high + room)

    def at(self, value: float) -> float:
        """Place of a value, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """About five round numbers."""
        if self.log:
            exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            found = [m * 10.0**e for e in exponents for m in (1, 2, 5)]
            found = [one for one in found if self.low <= one <= self.high]
            return found if len(found) < 8 else found[::3]
        rough = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough)
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step) + 1)]


def scatter(series: Sequence[Series], x: Axis, y: Axis, lines: bool = True) -> str:
    """Points with intervals; those of a series joined from left to right."""

    def draw(one: Series, px: Callable[[float], float], py: Callable[[float], float]) -> str:
        parts = []
        ordered = sorted(one.marks, key=lambda mark: mark.x)
        if lines and len(ordered) > 1:
            places = " ".join(f"{px(m.x):.1f},{py(m.y):.1f}" for m in ordered)
            parts.append(f'<polyline class="thin" points="{places}"/>')
        for mark in ordered:
            for dx, dy in ((mark.half_x, 0.0), (0.0, mark.half_y)):
                if dx or dy:
                    x1, x2 = (px(_inside(x, mark.x + sign * dx)) for sign in (-1, 1))
                    y1, y2 = (py(_inside(y, mark.y + sign * dy)) for sign in (-1, 1))
                    line = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
                    parts.append(f'<line class="thin" {line}/>')
            shape = _shape(mark.shape, px(mark.x), py(mark.y))
            parts.append(f"<g>{shape}<title>{escape(mark.title)}</title></g>")
        return "".join(parts)

    return _plot(series, x, y, draw)


def curves(series: Sequence[Series], x: Axis, y: Axis) -> str:
    """A line through the points of each series."""

    def draw(one: Series, px: Callable[[float], float], py: Callable[[float], float]) -> str:
        places = " ".join(
            f"{px(m.x):.1f},{py(_inside(y, m.y)):.1f}" for m in one.marks if math.isfinite(m.y)
        )
        title = f"<title>{escape(one.name)}</title>"
        return f'<polyline class="d{one.dash % MARKS}" points="{places}">{title}</polyline>'

    return _plot(series, x, y, draw)


def _plot(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    draw: Callable[[Series, Callable[[float], float], Callable[[float], float]], str],
) -> str:
    def px(value: float) -> float:
        return LEFT + x.at(value) * (WIDTH - LEFT - RIGHT)

    def py(value: float) -> float:
        return HEIGHT - BOTTOM - y.at(value) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(y.label)} against {escape(x.label)}">'
    ]
    for tick in x.ticks():
        at = px(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" '
                     f'y2="{HEIGHT - BOTTOM}"/>')  # fmt: skip
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" '
                     f'text-anchor="middle">{tick_text(tick)}</text>')  # fmt: skip
    for tick in y.ticks():
        at = py(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" '
                     f'y2="{at:.1f}"/>')  # fmt: skip
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" '
                     f'text-anchor="end">{tick_text(tick)}</text>')  # fmt: skip
    middle = (HEIGHT - BOTTOM + TOP) / 2
    parts.append(f'<text class="label" x="{(WIDTH + LEFT - RIGHT) / 2}" y="{HEIGHT - 8}" '
                 f'text-anchor="middle">{escape(x.label)}</text>')  # fmt: skip
    parts.append(f'<text class="label" transform="translate(14 {middle}) rotate(-90)" '
                 f'text-anchor="middle">{escape(y.label)}</text>')  # fmt: skip
    parts += [f'<g class="series c{one.colour % SERIES}">{draw(one, px, py)}</g>' for one in series]
    return "".join([*parts, "</svg>"])


def _shape(kind: int, x: float, y: float) -> str:
    """A circle, square, triangle or diamond."""
    kind %= MARKS
    if kind == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    corners = {
        1: ((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)),
        2: ((0, -6), (5.5, 4.5), (-5.5, 4.5)),
        3: ((0, -6.5), (6.5, 0), (0, 6.5), (-6.5, 0)),
    }[kind]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}"/>'


def _inside(axis: Axis, value: float) -> float:
    return min(max(value, axis.low), axis.high)


def tick_text(value: float) -> str:
    """A number beside an axis."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (abs(value) >= size and value % (size / 10) == 0):
            return f"{value / size:g}{unit}"
    return f"{value:.4g}"
