"""Draw plots as inline SVG; the page's style sheet supplies the colors."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from saecore.reports.axes import COLORS, SHAPES, Mark, Plot, Series, tick_text

WIDTH, HEIGHT = 520, 360
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 46

Scale = Callable[[float], float]
"""From a value to a pixel."""


def draw(plot: Plot) -> str:
    """The plot as an `<svg>` element; its title is left to the page."""

    def px(value: float) -> float:
        return LEFT + plot.x.at(value) * (WIDTH - LEFT - RIGHT)

    def py(value: float) -> float:
        return HEIGHT - BOTTOM - plot.y.at(value) * (HEIGHT - TOP - BOTTOM)

    draw_series = _points if plot.points else _curve
    groups = [
        f'<g class="series c{series.color % COLORS}">{draw_series(plot, series, px, py)}</g>'
        for series in plot.series
    ]
    return "".join([*_frame(plot, px, py), *groups, "</svg>"])


def _frame(plot: Plot, px: Scale, py: Scale) -> list[str]:
    """The opening tag, grid lines, tick labels and axis labels."""
    x, y = plot.x, plot.y
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
    return parts


def _points(plot: Plot, series: Series, px: Scale, py: Scale) -> str:
    """Points with error bars."""
    parts = []
    marks = sorted(series.marks, key=lambda mark: mark.x)
    if plot.joined and len(marks) > 1:
        corners = " ".join(f"{px(mark.x):.1f},{py(mark.y):.1f}" for mark in marks)
        parts.append(f'<polyline class="thin" points="{corners}"/>')
    for mark in marks:
        for dx, dy in ((mark.half_x, 0.0), (0.0, mark.half_y)):
            if dx or dy:
                x1, x2 = (px(plot.x.clip(mark.x + sign * dx)) for sign in (-1, 1))
                y1, y2 = (py(plot.y.clip(mark.y + sign * dy)) for sign in (-1, 1))
                line = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
                parts.append(f'<line class="thin" {line}/>')
        parts.append(f"<g>{_shape(mark, px, py)}<title>{escape(mark.title)}</title></g>")
    return "".join(parts)


def _curve(plot: Plot, series: Series, px: Scale, py: Scale) -> str:
    corners = " ".join(
        f"{px(mark.x):.1f},{py(plot.y.clip(mark.y)):.1f}"
        for mark in series.marks
        if math.isfinite(mark.y)
    )
    title = f"<title>{escape(series.name)}</title>"
    return f'<polyline class="d{series.dash % SHAPES}" points="{corners}">{title}</polyline>'


def _shape(mark: Mark, px: Scale, py: Scale) -> str:
    """A circle, square, triangle or diamond."""
    x, y, shape = px(mark.x), py(mark.y), mark.shape % SHAPES
    if shape == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    corners = {
        1: ((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)),
        2: ((0, -6), (5.5, 4.5), (-5.5, 4.5)),
        3: ((0, -6.5), (6.5, 0), (0, 6.5), (-6.5, 0)),
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}"/>'
