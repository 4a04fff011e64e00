"""What is plotted of runs, whatever draws it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from saecore.compare.svg import SERIES, Axis, Mark, Series
from saecore.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from saecore.compare.runs import Compared

CURVES = {
    "metrics/explained_variance": "explained variance",
    "metrics/l0": "L0",
    "sparsity/dead_features": "dead latents",
}
"""Curves besides the losses, and their labels."""
FRONTIERS = {"explained_variance": "explained variance", "ce_loss_score": "CE loss score"}
"""Held-out figures that are plotted against L0, and their labels."""
L0 = "L0 (active latents per token)"
DENSITIES = np.linspace(-10, 0, 81)
"""Edges of the histogram of log10 densities."""


@attrs.frozen(eq=False)
class Plot:
    """One plot; a series a run."""

    title: str
    series: Sequence[Series]
    x: Axis
    y: Axis
    points: bool = False
    """Whether marks are points, and not the corners of a line."""


def plots(runs: Sequence[Compared]) -> list[Plot]:
    """The plots of some runs: those for which there are figures.

    Raises:
        DataError: the latents' densities cannot be read.
    """
    losses = {
        key for run in runs for line in run.curve for key in line if key.startswith("losses/")
    }
    named = {key: _spoken(key.removeprefix("losses/")) for key in sorted(losses)}
    found = [*_curves(runs, {**named, **CURVES}), *_densities(runs)]
    return [*found, *_frontiers(runs)] if len(runs) > 1 else found


def _spoken(name: str) -> str:
    """A loss's name: `mse_loss` is "MSE loss"."""
    upper = ("mse", "ce", "kl", "l0", "l1")
    return " ".join(one.upper() if one in upper else one for one in name.split("_"))


def _curves(runs: Sequence[Compared], names: dict[str, str]) -> Iterator[Plot]:
    for key, label in names.items():
        series = [
            _series(
                runs, number, [(line["tokens"], line[key]) for line in run.curve if key in line]
            )
            for number, run in enumerate(runs)
        ]
        yield from _plot(f"{label} in training", "tokens", label, series, key)


def _densities(runs: Sequence[Compared]) -> Iterator[Plot]:
    """How many latents fire on which share of tokens, from what training has counted."""
    series = []
    for number, run in enumerate(runs):
        file = run.directory / "sae" / "sparsity.safetensors"
        if not file.exists():
            continue
        counts, edges = np.histogram(np.clip(_sparsity(file), -10, 0), DENSITIES)
        corners = [(at, count) for count, *ends in zip(counts, edges, edges[1:], strict=False)
                   for at in ends]  # fmt: skip
        filled = [i for i, (_, count) in enumerate(corners) if count]
        shown = corners[max(0, filled[0] - 1) : filled[-1] + 2] if filled else []
        series.append(_series(runs, number, [(float(x), float(y)) for x, y in shown]))
    yield from _plot("Density of latents", "log10 of the share of tokens", "latents", series)


def _sparsity(file: Path) -> NDArray[np.float32]:
    """log10 of each latent's density `[d_sae]`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return np.asarray(load_file(file)["sparsity"])
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error


def _frontiers(runs: Sequence[Compared]) -> Iterator[Plot]:
    for key, label in FRONTIERS.items():
        series = []
        for number, run in enumerate(runs):
            x, y = run.value("l0"), run.value(key)
            if x is not None and y is not None:
                series.append(_series(runs, number, [(x, y)]))
        for one in _plot(f"{label} against L0", L0, label, series):
            yield attrs.evolve(one, points=True)


def _series(runs: Sequence[Compared], number: int, points: list[tuple[float, float]]) -> Series:
    """A run's marks; after eight runs colours begin again, with another dash or shape."""
    label, turn = runs[number].label, number // SERIES
    marks = [
        Mark(x, y, f"{label}: {x:.4g}, {y:.4g}", shape=turn) for x, y in points if math.isfinite(y)
    ]
    return Series(label, number % SERIES, marks, turn)


def _plot(
    title: str, across: str, up: str, series: Sequence[Series], key: str = ""
) -> Iterator[Plot]:
    series = [one for one in series if one.marks]
    if not series:
        return
    xs = [mark.x for one in series for mark in one.marks]
    ys = sorted(mark.y for one in series for mark in one.marks)
    if key == "metrics/explained_variance":
        ys = ys[len(ys) // 20 :]  # the first steps may be far off: the axis holds 95 of 100 points
    log = key == "metrics/l0" or key.startswith("losses/")
    x, y = Axis.over(across, xs, log=across == L0), Axis.over(up, ys, log=log)
    yield Plot(title[0].upper() + title[1:], series, x, y)
