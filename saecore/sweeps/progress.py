"""Progress of a sweep in the terminal: a bar per point, or plain lines outside a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saecore.core.logger import RunInfo
from saecore.core.terminal import sparsity_summary, start_bars

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EVERY_SECONDS = 5.0
"""Seconds between two plain lines."""


class SweepProgress:
    """Shows the progress of several runs; use it as a context manager around their training.

    Args:
        runs: number of runs.
        tokens: tokens that all runs together train on.
    """

    def __init__(self, runs: int, tokens: int) -> None:
        self._runs, self._tokens = runs, tokens
        self._done: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._begin = self._last = time.monotonic()
        self.bars: Progress | None = None

    def __enter__(self) -> SweepProgress:
        self.bars = start_bars()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bars is not None:
            self.bars.stop()

    def logger(self, name: str) -> PointProgress:
        """Return the logger that shows a point's progress."""
        return PointProgress(self, name)

    def began(self, name: str, tokens: int) -> None:
        """Count a run that has already trained on some tokens."""
        self._before[name] = self._done[name] = tokens

    def moved(self, name: str, tokens: int) -> None:
        """Update the tokens that a run has trained on; print a line from time to time."""
        self._done[name] = tokens
        now, done = time.monotonic(), sum(self._done.values())
        if self.bars is not None or now - self._last < EVERY_SECONDS:
            return
        self._last = now
        rate = (done - sum(self._before.values())) / max(1e-9, now - self._begin)
        left = (self._tokens - done) / max(rate, 1e-9)
        click.echo(
            f"  {done / self._tokens:4.0%} of {self._runs} runs  {rate:,.0f} tokens/s "
            f"in total  {left:.0f} s left"
        )


class PointProgress:
    """The logger that shows one point's progress."""

    def __init__(self, progress: SweepProgress, name: str) -> None:
        self._progress, self._name = progress, name
        self._task: TaskID | None = None
        self._batch_size = 0

    def start(self, run: RunInfo) -> None:
        """Add the point's bar."""
        self._batch_size = run.batch_size
        self._progress.began(self._name, run.resumed_at * run.batch_size)
        if self._progress.bars is not None:
            self._task = self._progress.bars.add_task(
                self._name, total=run.steps, completed=run.resumed_at, figures=""
            )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Show the metrics of a log interval."""
        if "metrics/l0" not in values:
            return
        self._progress.moved(self._name, step * self._batch_size)
        if self._progress.bars is not None and self._task is not None:
            self._progress.bars.update(self._task, completed=step, figures=sparsity_summary(values))

    def artifact(self, path: Path) -> None:
        """Do nothing: the summary names artifacts."""

    def close(self) -> None:
        """Do nothing: the bar stays until the display ends."""
