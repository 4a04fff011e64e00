"""The plots of finished runs: which curves and frontiers there are, on which axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from saecore.errors import DataError
from saecore.reports.axes import COLORS, Axis, Mark, Plot, Series

if TYPE_CHECKING:
    from pathlib import Path

    from saecore.reports.runs import FinishedRun

CURVES = {
    "metrics/explained_variance": "explained variance",
    "metrics/l0": "L0",
    "sparsity/dead_features": "dead latents",
}
"""Metrics plotted over training, with their labels."""
FRONTIERS = {
    "explained_variance": "explained variance",
    "ce_loss_score": "CE loss score",
    "dead": "dead latents",
}
"""Figures plotted against L0, with their labels."""
NOT_HELD_OUT = ("dead",)
"""Frontiers of figures that are counted in training: only in the report, and not joined."""
L0_LABEL = "L0 (active latents per token)"
DENSITIES = np.linspace(-10, 0, 81)
"""Bin edges of the histogram of log10 densities."""

Points = list[tuple[float, float]]


def plots(runs: Sequence[FinishedRun]) -> list[Plot]:
    """Every plot for which the runs have data, one series per run.

    Losses and `CURVES` over training, densities of latents and, with several runs, the held-out
    `FRONTIERS`.

    Raises:
        DataError: the densities of the latents cannot be read.
    """
    keys = {key for run in runs for line in run.curve for key in line if key.startswith("losses/")}
    losses = {key: _loss_label(key.removeprefix("losses/")) for key in sorted(keys)}
    drawn = [
        curve_plot(key, label, _by_run(runs, [curve_points(run, key) for run in runs]))
        for key, label in {**losses, **CURVES}.items()
    ]
    drawn.append(_densities(runs))
    if len(runs) > 1:
        drawn += [
            frontier_plot(figure, _by_run(runs, [_frontier_point(run, figure) for run in runs]))
            for figure in FRONTIERS
            if figure not in NOT_HELD_OUT
        ]
    return [
        attrs.evolve(plot, title=plot.title[0].upper() + plot.title[1:])
        for plot in drawn
        if plot is not None
    ]


def curve_points(run: FinishedRun, metric: str) -> Points:
    """The logged values of a metric as (tokens, value), without those that are not finite."""
    return [
        (line["tokens"], line[metric])
        for line in run.curve
        if metric in line and math.isfinite(line[metric])
    ]


def curve_plot(metric: str, label: str, series: Sequence[Series]) -> Plot | None:
    """A metric over training.

    Args:
        metric: its name in metrics.jsonl; decides the scale.
        label: its label.
        series: one per run; empty ones are left out.

    Returns:
        None if all series are empty.
    """
    series = [curve for curve in series if curve.marks]
    if not series:
        return None
    values = sorted(mark.y for curve in series for mark in curve.marks)
    if metric == "metrics/explained_variance":
        # The first steps may be far off: fit the axis to the upper 95 % of the points.
        values = values[len(values) // 20 :]
    sparsity = metric == "metrics/l0"
    log = sparsity or metric.startswith("losses/")
    return Plot(
        title=f"{label} in training",
        series=series,
        x=Axis.over("tokens", [mark.x for curve in series for mark in curve.marks]),
        y=Axis.over(label, values, log=log, base=2 if sparsity else 10),
    )


def frontier_plot(figure: str, series: Sequence[Series]) -> Plot | None:
    """A figure of `FRONTIERS` against L0.

    Args:
        figure: its name.
        series: points with their error bars; empty series are left out.

    Returns:
        None if all series are empty.
    """
    series = [points for points in series if points.marks]
    if not series:
        return None
    marks = [mark for points in series for mark in points.marks]
    label, signs = FRONTIERS[figure], (-1, 0, 1)
    return Plot(
        title=f"{label} against L0",
        series=series,
        x=Axis.over(
            L0_LABEL,
            [mark.x + sign * mark.half_x for mark in marks for sign in signs],
            log=True,
            base=2,
        ),
        y=Axis.over(label, [m.y + sign * m.half_y for m in marks for sign in signs]),
        points=True,
        joined=figure not in NOT_HELD_OUT,
    )


def _by_run(runs: Sequence[FinishedRun], points: Sequence[Points]) -> list[Series]:
    """One series per run; after eight runs colors repeat with another dash or shape."""
    series = []
    for number, (run, run_points) in enumerate(zip(runs, points, strict=True)):
        turn = number // COLORS
        marks = [
            Mark(x=x, y=y, title=f"{run.label}: {x:.4g}, {y:.4g}", shape=turn)
            for x, y in run_points
        ]
        series.append(Series(name=run.label, color=number % COLORS, marks=marks, dash=turn))
    return series


def _frontier_point(run: FinishedRun, figure: str) -> Points:
    x, y = run.value("l0"), run.value(figure)
    if x is None or y is None or not math.isfinite(x) or not math.isfinite(y):
        return []
    return [(x, y)]


def _loss_label(name: str) -> str:
    """Label of a loss: `mse_loss` is "MSE loss"."""
    acronyms = ("mse", "ce", "kl", "l0", "l1")
    return " ".join(word.upper() if word in acronyms else word for word in name.split("_"))


def _densities(runs: Sequence[FinishedRun]) -> Plot | None:
    """Histogram of the latents' densities, counted at the end of training."""
    series = [curve for curve in _by_run(runs, [*map(_density_corners, runs)]) if curve.marks]
    if not series:
        return None
    marks = [mark for curve in series for mark in curve.marks]
    return Plot(
        title="density of latents",
        series=series,
        x=Axis.over("log10 of the share of tokens", [mark.x for mark in marks]),
        y=Axis.over("latents", [mark.y for mark in marks]),
    )


def _density_corners(run: FinishedRun) -> Points:
    """Corners of a run's histogram from its first to its last filled bin."""
    file = run.directory / "sae" / "sparsity.safetensors"
    if not file.exists():
        return []
    counts, edges = np.histogram(np.clip(_sparsity(file), -10, 0), DENSITIES)
    corners = [(float(edge), float(count))
               for count, *ends in zip(counts, edges, edges[1:], strict=False)
               for edge in ends]  # fmt: skip
    filled = [i for i, (_, count) in enumerate(corners) if count]
    return corners[max(0, filled[0] - 1) : filled[-1] + 2] if filled else []


def _sparsity(file: Path) -> NDArray[np.float32]:
    """log10 of each latent's density `[d_sae]`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return np.asarray(load_file(file)["sparsity"])
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
