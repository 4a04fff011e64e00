"""Write plots to files: PNG and SVG through matplotlib, or an HTML page."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saecore.errors import SaecoreError
from saecore.reports.axes import Axis, Plot, tick_text
from saecore.reports.html import plots_page
from saecore.storage.files import write_bytes

FORMATS = (".png", ".svg", ".html")
COLORS = ("#2563c9", "#c2410c", "#15803d", "#9333c0", "#0e7490", "#b3246b", "#806000", "#4b5563")
"""The colors of base.css on white."""
DASHES, MARKERS = ("-", "--", ":", "-."), "os^D"
COLUMNS, WIDTH, HEIGHT = 3, 4.4, 3.3
"""Plots per row, and the size of a plot in inches."""
STYLE = {
    "font.size": 9,
    "axes.grid": True,
    "grid.color": "#dfe3e8",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "saecore",
}


def write_plots(file: Path, plots: Sequence[Plot], title: str) -> None:
    """Write plots to one file in the format of its extension.

    Args:
        file: ends in .png, .svg or .html; replaced if it exists.
        plots: what to draw.
        title: heading of an HTML page; images have none.

    Raises:
        SaecoreError: the extension is unknown, there is nothing to draw, or the file cannot be
            written.
    """
    extension = file.suffix.lower()
    if extension not in FORMATS:
        raise SaecoreError(f"--out {file}: expected a file that ends in {', '.join(FORMATS)}")
    if not plots:
        raise SaecoreError("nothing to plot: the runs have logged no metrics")
    data = plots_page(plots, title) if extension == ".html" else _image(plots, extension[1:])
    write_bytes(file, data, setting="--out")


def _image(plots: Sequence[Plot], kind: str) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(plots))
    rows = math.ceil(len(plots) / columns)
    names = list(dict.fromkeys(series.name for plot in plots for series in plot.series))
    legend_height = 0.25 * math.ceil(len(names) / columns) + 0.1
    with rc_context(STYLE):
        figure = Figure((columns * WIDTH, rows * HEIGHT + legend_height), layout="constrained")
        all_axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for plot, axes in zip(plots, all_axes, strict=False):
            _draw(plot, axes)
        for axes in all_axes[len(plots) :]:
            axes.remove()
        by_name: dict[str, Any] = {}
        # Backward: where a series looks different in later plots, the first plot wins.
        for axes in all_axes[len(plots) - 1 :: -1]:
            handles, labels = axes.get_legend_handles_labels()
            by_name.update(zip(labels, handles, strict=True))
        figure.legend(
            [by_name[name] for name in names],
            [_no_math(name) for name in names],
            loc="outside upper left",
            ncols=columns,
            frameon=False,
        )
        image = io.BytesIO()
        # No date: the same runs give the same bytes.
        figure.savefig(
            image, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None
        )
    return image.getvalue()


def _draw(plot: Plot, axes: Any) -> None:
    for series in plot.series:
        style = {
            "color": COLORS[series.color],
            "linestyle": "" if plot.points else DASHES[series.dash % len(DASHES)],
            "marker": MARKERS[series.dash % len(MARKERS)] if plot.points else "",
        }
        xs, ys = [mark.x for mark in series.marks], [mark.y for mark in series.marks]
        axes.plot(xs, ys, label=series.name, linewidth=1.5, **style)
    axes.set_title(_no_math(plot.title), fontsize=10, fontweight="bold", loc="left")
    for axis, name in ((plot.x, "x"), (plot.y, "y")):
        _scale(axes, axis, name)


def _scale(axes: Any, axis: Axis, name: str) -> None:
    getattr(axes, f"set_{name}label")(_no_math(axis.label))
    getattr(axes, f"set_{name}lim")(axis.low, axis.high)
    if axis.log:
        getattr(axes, f"set_{name}scale")("log")
    ticks = axis.ticks()
    getattr(axes, f"set_{name}ticks")(ticks, [tick_text(tick) for tick in ticks])
    getattr(axes, f"set_{name}ticks")([], minor=True)


def _no_math(text: str) -> str:
    """Escape `$`, which would start a formula in matplotlib."""
    return text.replace("$", r"\$")
