"""Plots into files: PNG and SVG through matplotlib, or a page."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saecore.compare.html import SCRIPT, STYLE
from saecore.compare.svg import curves, scatter, tick_text
from saecore.errors import SaecoreError
from saecore.files import write_bytes
from saecore.pages import page
from saecore.plots.figures import Plot

if TYPE_CHECKING:
    from saecore.compare.svg import Axis

FORMATS = (".png", ".svg", ".html")
COLOURS = ("#2563c9", "#c2410c", "#15803d", "#9333c0", "#0e7490", "#b3246b", "#806000", "#4b5563")
"""Those of pages/base.css on white."""
DASHES, MARKERS = ("-", "--", ":", "-."), "os^D"
COLUMNS, WIDTH, HEIGHT = 3, 4.4, 3.3
"""Plots in a row, and the size of one in inches."""


def write_plots(file: Path, plots: Sequence[Plot], title: str) -> None:
    """Write plots into one file, as its ending says.

    Args:
        file: ends in .png, .svg or .html; what is there is replaced.
        plots: what to draw.
        title: heading of a page.

    Raises:
        SaecoreError: another ending, nothing to draw, or the file cannot be written.
    """
    kind = file.suffix.lower()
    if kind not in FORMATS:
        raise SaecoreError(f"--out {file}: expected a file that ends in {', '.join(FORMATS)}")
    if not plots:
        raise SaecoreError("nothing to plot: the runs have logged no figures")
    data = _page(plots, title) if kind == ".html" else _drawn(plots, kind[1:])
    write_bytes(file, data, setting="--out")


def _names(plots: Sequence[Plot]) -> dict[str, tuple[int, int]]:
    """Colour and dash of every series, by name."""
    return {one.name: (one.colour, one.dash) for plot in plots for one in plot.series}


def _page(plots: Sequence[Plot], title: str) -> bytes:
    buttons = "".join(
        f'<li><button class="c{colour}" data-series="{colour}">{escape(name)}</button></li>'
        for name, (colour, _) in _names(plots).items()
    )
    figures = "".join(
        f"<figure><figcaption>{escape(one.title)}</figcaption>"
        f"{(scatter if one.points else curves)(one.series, one.x, one.y)}</figure>"
        for one in plots
    )
    body = f'<h1>{escape(title)}</h1><ul class="legend">{buttons}</ul>'
    return page(title, f'<main>{body}<div class="plots">{figures}</div></main>', STYLE, SCRIPT)


def _drawn(plots: Sequence[Plot], kind: str) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(plots))
    lines = math.ceil(len(plots) / columns)
    names = _names(plots)
    above = 0.25 * math.ceil(len(names) / columns) + 0.1
    style = {
        "font.size": 9,
        "axes.grid": True,
        "grid.color": "#dfe3e8",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "saecore",
    }
    with rc_context(style):
        figure = Figure((columns * WIDTH, lines * HEIGHT + above), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).flatten()
        for one, place in zip(plots, axes, strict=False):
            _draw(one, place)
        for place in axes[len(plots) :]:
            place.remove()
        by_name: dict[str, Any] = {}
        for place in axes[len(plots) - 1 :: -1]:  # the lines of the first plots, where they differ
            handles, labels = place.get_legend_handles_labels()
            by_name.update(zip(labels, handles, strict=True))
        figure.legend(
            [by_name[name] for name in names],
            [_plain(name) for name in names],
            loc="outside upper left",
            ncols=columns,
            frameon=False,
        )
        written = io.BytesIO()
        # No date: the same runs give the same file.
        figure.savefig(
            written, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None
        )
    return written.getvalue()


def _draw(plot: Plot, axes: Any) -> None:
    for one in plot.series:
        how = {
            "color": COLOURS[one.colour],
            "linestyle": "" if plot.points else DASHES[one.dash % len(DASHES)],
            "marker": MARKERS[one.dash % len(MARKERS)] if plot.points else "",
        }
        xs, ys = [mark.x for mark in one.marks], [mark.y for mark in one.marks]
        axes.plot(xs, ys, label=one.name, linewidth=1.5, **how)
    axes.set_title(_plain(plot.title), fontsize=10, fontweight="bold", loc="left")
    for axis, name in ((plot.x, "x"), (plot.y, "y")):
        _scale(axes, axis, name)


def _scale(axes: Any, axis: Axis, name: str) -> None:
    getattr(axes, f"set_{name}label")(_plain(axis.label))
    getattr(axes, f"set_{name}lim")(axis.low, axis.high)
    if axis.log:
        getattr(axes, f"set_{name}scale")("log")
    ticks = axis.ticks()
    getattr(axes, f"set_{name}ticks")(ticks, [tick_text(one) for one in ticks])
    getattr(axes, f"set_{name}ticks")([], minor=True)


def _plain(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")
