"""HTML pages about runs: the comparison report, and plots alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from saecore.reports.axes import COLORS, SHAPES, Mark, Plot, Series
from saecore.reports.page import page
from saecore.reports.plots import CURVES, FRONTIERS, curve_plot, curve_points, frontier_plot
from saecore.reports.runs import FinishedRun, differing
from saecore.reports.seeds import Row, Value, repeats_note
from saecore.reports.svg import draw
from saecore.reports.table import cells, width
from saecore.storage.files import write_bytes

STYLE = Path(__file__).with_name("report.css")
SCRIPT = Path(__file__).with_name("report.js")

FIGURES_NOTE = (
    "L0, explained variance (EV) and CE loss score on held-out text; dead latents at the end of "
    "training."
)
SEEDS_NOTE = (
    "Means over seeds; ± is half the 95 % interval of the mean (Student's t). MCC is the "
    "mean correlation coefficient of decoder rows matched one to one between seeds (Hungarian "
    "method), averaged over pairs of seeds. "
)
COST_NOTE = (
    "Seconds count the SAE's own training steps. Runs that shared an activation stream each bear "
    "an equal part of its seconds (forward pass of the model, mixing), and tokens/s includes that "
    "part; peak memory is that of the process that trained the run."
)
SHAPE_SIGNS = "●■▲◆"
DASH_NAMES = ("", " (dashed)", " (dotted)", " (long dashes)")
"""Dash patterns of curves, by width."""


def write_report(file: Path, rows: Sequence[Row], title: str) -> None:
    """Write the report of a comparison.

    Args:
        file: the HTML file; replaced if it exists.
        rows: the runs to compare, grouped by configuration.
        title: its heading.

    Raises:
        SaecoreError: it cannot be written.
    """
    runs = [run for row in rows for run in row.runs]
    count = f"{len(runs)} runs" + (f", {len(rows)} configurations" if len(rows) < len(runs) else "")
    directories = [[run.label, str(run.directory)] for run in runs]
    body = "".join(
        [
            f"<h1>{escape(title)}</h1><p>{count}</p>",
            _report_legend(rows),
            '<div class="plots">',
            *_frontiers(rows),
            "</div>",
            _section("Figures", _table(*cells(rows)), _figures_note(rows)),
            '<h2>Training</h2><div class="plots">',
            *_curves(rows, runs),
            "</div>",
            _section("Cost", _cost(runs), COST_NOTE),
            _section("Differences", _differences(runs), "Every setting in which the runs differ."),
            _section("Directories", _table(["run", "directory"], directories), ""),
        ]
    )
    write_bytes(file, page(title, f"<main>{body}</main>", STYLE, SCRIPT))


def plots_page(plots: Sequence[Plot], title: str) -> bytes:
    """A page of plots, with a legend that highlights one series at a time."""
    colors = {series.name: series.color for plot in plots for series in plot.series}
    body = f'<h1>{escape(title)}</h1><ul class="legend">{_buttons(colors)}</ul>'
    figures = "".join(map(_figure, plots))
    return page(title, f'<main>{body}<div class="plots">{figures}</div></main>', STYLE, SCRIPT)


# -- colors and shapes ---------------------------------------------------------------------


def _groups(rows: Sequence[Row]) -> dict[str, str]:
    """Color group of each run: its architecture, or its row if there is only one architecture."""
    several = len({row.runs[0].architecture for row in rows}) > 1
    return {
        run.label: run.architecture if several else row.label for row in rows for run in row.runs
    }


def _colors(rows: Sequence[Row]) -> dict[str, int]:
    """Color number of each group."""
    groups = dict.fromkeys(_groups(rows).values())
    return {name: number for number, name in enumerate(groups)}


def _shapes(rows: Sequence[Row]) -> dict[str, int]:
    """Shape number of each width."""
    widths = dict.fromkeys(width(row.runs[0]) for row in rows)
    return {name: number for number, name in enumerate(widths)}


def _buttons(colors: Mapping[str, int]) -> str:
    return "".join(
        f'<li><button class="c{i % COLORS}" data-series="{i % COLORS}">{escape(name)}</button></li>'
        for name, i in colors.items()
    )


def _report_legend(rows: Sequence[Row]) -> str:
    shapes = "".join(
        f"<li>{SHAPE_SIGNS[i % SHAPES]} {escape(name)} latents{DASH_NAMES[i % SHAPES]}</li>"
        for name, i in _shapes(rows).items()
    )
    return f'<ul class="legend">{_buttons(_colors(rows))}{shapes}</ul>'


# -- plots ---------------------------------------------------------------------------------


def _frontiers(rows: Sequence[Row]) -> list[str]:
    """Figures against L0: a point per row, joined within a color group."""
    shapes, groups = _shapes(rows), _groups(rows)
    plots = []
    for figure in FRONTIERS:
        series = [
            Series(
                name=name,
                color=color,
                marks=[
                    _mark(row, figure, shapes[width(row.runs[0])])
                    for row in rows
                    if groups[row.runs[0].label] == name and _has_point(row, figure)
                ],
            )
            for name, color in _colors(rows).items()
        ]
        plots.append(frontier_plot(figure, series))
    return [_figure(plot) for plot in plots if plot is not None]


def _has_point(row: Row, figure: str) -> bool:
    """Whether L0 and a figure of a row exist and are finite."""
    values = (row.values.get("l0"), row.values.get(figure))
    return all(value is not None and math.isfinite(value.mean) for value in values)


def _mark(row: Row, figure: str, shape: int) -> Mark:
    x, y = row.values["l0"], row.values[figure]
    title = f"{row.label}: L0 {_with_interval(x)}, {FRONTIERS[figure]} {_with_interval(y)}"
    return Mark(
        x=x.mean, y=y.mean, title=title, half_x=x.half or 0.0, half_y=y.half or 0.0, shape=shape
    )


def _with_interval(value: Value) -> str:
    return f"{value.mean:.4g}" + (f" ± {value.half:.2g}" if value.half else "")


def _curves(rows: Sequence[Row], runs: Sequence[FinishedRun]) -> list[str]:
    """Metrics over training: a curve per run."""
    colors, shapes, groups = _colors(rows), _shapes(rows), _groups(rows)
    plots = []
    for metric, label in CURVES.items():
        series = [
            Series(
                name=run.label,
                color=colors[groups[run.label]],
                marks=[Mark(x=x, y=y, title="") for x, y in curve_points(run, metric)],
                dash=shapes[width(run)],
            )
            for run in runs
        ]
        plots.append(curve_plot(metric, label, series))
    return [_figure(plot) for plot in plots if plot is not None]


# -- tables --------------------------------------------------------------------------------


def _cost(runs: Sequence[FinishedRun]) -> str:
    head = [
        "run",
        "tokens",
        "seconds",
        "shared with",
        "stream's seconds",
        "tokens/s",
        "peak memory",
    ]
    lines = []
    for run in runs:
        stream = run.cost.get("stream")
        memory = run.cost.get("peak_memory")
        lines.append(
            [
                run.label,
                f"{run.cost['tokens']:,}",
                f"{run.cost['seconds']:.1f}",
                f"{stream['runs'] - 1} others" if stream else "-",
                f"{stream['seconds']:.1f}" if stream else "-",
                f"{run.cost['tokens_per_second']:,.0f}",
                f"{memory / 2**20:,.0f} MiB" if memory else "-",
            ]
        )
    return _table(head, lines)


def _differences(runs: Sequence[FinishedRun]) -> str:
    lines = [
        [key, *("" if value is None else _setting(value) for value in values)]
        for key, values in differing(runs).items()
    ]
    return _table(["setting", *(run.label for run in runs)], lines, numbers=False)


def _setting(value: Any) -> str:
    """A setting as in TOML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _figures_note(rows: Sequence[Row]) -> str:
    several = any(len(row.runs) > 1 for row in rows)
    repeats = [run for row in rows for run in row.repeats]
    note = SEEDS_NOTE + FIGURES_NOTE if several else FIGURES_NOTE
    if not repeats:
        return note
    repeated = repeats_note(repeats)
    return f"{note} {repeated[0].upper()}{repeated[1:]}."


# -- HTML ----------------------------------------------------------------------------------


def _figure(plot: Plot) -> str:
    return f"<figure><figcaption>{escape(plot.title)}</figcaption>{draw(plot)}</figure>"


def _section(title: str, content: str, note: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}<p>{escape(note)}</p>"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], numbers: bool = True) -> str:
    headings = "".join(f"<th>{escape(heading)}</th>" for heading in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines
    )
    kind = ' class="numbers"' if numbers else ""
    return (
        f'<div class="wide"><table{kind}><thead><tr>{headings}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
