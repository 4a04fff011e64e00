"""Training progress in the terminal: bars, and the metrics shown beside them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


def start_bars() -> Progress | None:
    """Start a display of progress bars; None if the output is not a terminal.

    Each task has the additional field `figures`, a text beside the bar.
    """
    if not sys.stdout.isatty():
        return None
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bars = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    bars.start()
    return bars


def sparsity_summary(values: Mapping[str, float]) -> str:
    """Format L0, explained variance and dead latents of a log interval."""
    return (
        f"L0 {values['metrics/l0']:.1f}  EV {values['metrics/explained_variance']:.3f}  "
        f"dead {values['sparsity/dead_features']:.0f}"
    )
